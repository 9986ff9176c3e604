"""Figures of what `bnjax.train.landscape.watch` measured: the two explanations, and what freezes."""

import json
import math
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from bnjax.figures import INK, STYLE
from bnjax.train.outcome import CHANCE_LOSS
from bnjax.train.plots import COLORS, LABELS, MARKERS, save

Run = dict[str, Any]
Point = dict[str, Any]
Measure = Callable[[Point], float]
HIGHEST = 1000  # what a run on its way to infinity would flatten the others for


def read_runs(out: Path) -> list[Run]:
    """The runs that `experiments/landscape.py` left, by learning rate, network and seed."""
    runs = [json.loads(path.read_text()) for path in out.glob("*.json")]
    return sorted(runs, key=lambda run: [run["config"][key] for key in ("learning_rate", "norm", "seed")])


def recipe(run: Run) -> tuple[float, str]:
    """What the runs of one line of seeds have in common: learning rate and norm."""
    return run["config"]["learning_rate"], run["config"]["norm"]


def losses(point: Point) -> list[float]:
    """The loss here and along the gradient, those that are finite; it is here."""
    return [loss for loss in (point["loss"], *point["losses"]) if loss is not None]


def turn(point: Point) -> float:
    """How far the gradient is another one a step further on: ‖g' − g‖/‖g‖, along g by one learning rate."""
    change = point["changes"][1]
    return math.nan if change is None else change / point["gradient"]


def shift(point: Point) -> float:
    """The shift of a layer's inputs by one step, the median over the layers but the first; NaN of none."""
    shifts = [moved for moved in point["shifts"] if moved is not None]
    return statistics.median(shifts) if shifts else math.nan


def dead(point: Point) -> float:
    """The share in % of units that are 0 on every image, in the hidden layer with most of them."""
    return 100 * max(point["dead"])


def draw_landscape(out: Path) -> None:
    """Draw loss, gradient and shift along training as `landscape.png` and `.svg`: a row a learning rate.

    A line is a seed; of the loss, the band is what lies along the step.  What diverges leaves at the top.

    Args:
      out: the folder of the runs' files.
    """
    runs = read_runs(out)
    rates = list(dict.fromkeys(run["config"]["learning_rate"] for run in runs))
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(11, 0.6 + 3 * len(rates)), layout="constrained")
        panels = figure.subplots(len(rates), 3, sharex=True, squeeze=False)
        for (left, middle, right), rate in zip(panels, rates, strict=True):
            for norm in LABELS:
                here = [run for run in runs if recipe(run) == (rate, norm)]
                if here:
                    _draw_loss(left, norm, here)
                    _draw_seeds(middle, norm, here, turn)
                    _draw_seeds(right, norm, here, shift)
            left.axhline(CHANCE_LOSS, color=INK, linestyle="--", linewidth=1, label="log 10 (chance)")
            left.set(ylabel=f"learning rate {rate:g}\nloss", yscale="log")
            for axes in (middle, right):
                axes.set_yscale("log")
            for axes in (left, middle, right):
                axes.set_ylim(top=min(axes.get_ylim()[1], HIGHEST))
                _plain_numbers(axes)
        _title_columns(panels)
        _legend(figure, panels[0, 0])
        save(figure, out / "landscape")


def _plain_numbers(axes: Axes) -> None:
    """On a logarithmic axis of few powers of ten, 0.2 instead of 2 × 10⁻¹."""
    low, high = axes.get_ylim()
    if high < 300 * low:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter(NullFormatter())


def _title_columns(panels: Any) -> None:
    titles = (
        "loss, and its range\n½ to 4 steps along the gradient",
        "change of the gradient one step\nfurther on, ‖g′ − g‖/‖g‖",
        "shift of a layer's inputs by a step\n‖Δμ‖/‖σ‖, median over the layers",
    )
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title)
    for axes in panels[-1]:
        axes.set_xlabel("step")
    for axes in panels.flat:
        axes.grid(axis="y")


def _draw_loss(axes: Axes, norm: str, runs: list[Run]) -> None:
    """The loss before each step, and between what it lies along the gradient."""
    _draw_seeds(axes, norm, runs, lambda point: point["loss"])
    for run in runs:
        steps = [point["step"] for point in run["points"]]
        low, high = ([end(losses(point)) for point in run["points"]] for end in (min, max))
        axes.fill_between(steps, low, high, color=COLORS[norm], alpha=0.15, linewidth=0)


def _draw_seeds(axes: Axes, norm: str, runs: list[Run], measure: Measure) -> None:
    """A measure along each run; a run that diverged ends in a cross."""
    for run in runs:
        found = [(point["step"], value) for point in run["points"] if not math.isnan(value := measure(point))]
        _draw_line(axes, norm, *zip(*found, strict=True) if found else ((), ()))
        if found and run["losses"][-1] is None:
            axes.plot(*found[-1], marker="x", markersize=9, color=COLORS[norm])


def _draw_line(axes: Axes, norm: str, x: Sequence[Any], y: Sequence[float]) -> None:
    style: dict[str, Any] = {
        "color": COLORS[norm],
        "marker": MARKERS[norm],
        "markersize": 3.5,
        "linewidth": 1.2,
    }
    axes.plot(x, y, label=LABELS[norm], **style)


def _legend(figure: Figure, axes: Axes) -> None:
    """Each label once, though many lines have it."""
    handles = {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))


def draw_freeze(out: Path) -> None:
    """Draw what freezes, at the largest learning rate, as `freeze.png` and `freeze.svg`.

    By layer, the gradient at initialization and the share of dead units when last looked at; along training,
    the spread of the logits over the images and how sure the network is.  A line is a seed.

    Args:
      out: the folder of the runs' files.
    """
    runs = read_runs(out)
    largest = max(run["config"]["learning_rate"] for run in runs)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9.6, 6.2), layout="constrained")
        (begins, units), (logits, sure) = figure.subplots(2, 2)
        for norm in LABELS:
            here = [run for run in runs if recipe(run) == (largest, norm)]
            if not here:
                continue
            _draw_layers(begins, norm, here, lambda run: run["kernel_gradients"])
            ended = [run for run in here if run["points"]]
            _draw_layers(units, norm, ended, lambda run: [100 * share for share in run["points"][-1]["dead"]])
            _draw_seeds(logits, norm, here, lambda point: point["spread"] or math.nan)
            _draw_seeds(sure, norm, here, lambda point: point["confidence"])
        begins.set(title="gradient in a layer's kernel,\nat initialization", yscale="log", ylabel="norm")
        units.set(title="units that are 0 on every image,\nwhen last looked at", ylabel="%", ylim=(-3, 103))
        logits.set(title="a logit's standard deviation\nover the images", yscale="log", xlabel="step")
        sure.set(title="mean probability of the class it says", ylim=(0, 1.03), xlabel="step")
        sure.axhline(0.1, color=INK, linestyle="--", linewidth=1)
        for axes in (begins, units, logits, sure):
            axes.grid(axis="y")
        _plain_numbers(begins)
        figure.suptitle(f"Learning rate {largest:g}")
        _legend(figure, begins)
        save(figure, out / "freeze")


def _draw_layers(axes: Axes, norm: str, runs: list[Run], measure: Callable[[Run], list[float]]) -> None:
    """A measure of each layer, from the image on, a line a seed."""
    for run in runs:
        values = measure(run)
        _draw_line(axes, norm, run["layers"][: len(values)], values)
    axes.tick_params(axis="x", rotation=30)
