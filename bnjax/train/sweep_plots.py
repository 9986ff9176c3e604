"""Figures of a sweep, from its `summary.json`: the map of what trains, and the headroom of batch norm."""

import itertools
import json
import math
import statistics
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from bnjax.figures import INK, MISSING, STYLE
from bnjax.train.plots import COLORS, INITS, LABELS, MARKERS, save
from bnjax.train.seeds import Cell, Recipe, Row, headroom, recipes

DARK, LIGHT = "#20242a", "#ffffff"  # of words on a coloured ground


def read_summary(out: Path) -> list[Row]:
    """The runs of a `summary.json`."""
    return json.loads((out / "summary.json").read_text())["runs"]


def draw_sweep(out: Path) -> None:
    """Draw which recipes of a sweep train, as `sweep.png` and `sweep.svg`: a panel a norm, a cell a recipe.

    A cell is a strip a seed, coloured by test accuracy, hatched where the run diverged; in it the
    mean and the standard deviation of the seeds that trained, and how many ended otherwise.

    Args:
      out: a folder that `bnjax sweep` made; its `summary.json` is read.
    """
    rows = read_summary(out)
    norms = [norm for norm in LABELS if any(row["norm"] == norm for row in rows)]
    found = list(recipes(rows))
    rates = sorted({row["learning_rate"] for row in rows})
    best = max((row["test_accuracy"] or 0.1 for row in rows), default=0.1)
    colors = ScalarMappable(Normalize(10, max(10 * math.ceil(10 * best), 20)), "viridis")
    with matplotlib.rc_context(STYLE):
        size = (max(2.4 + 0.92 * len(rates), 6.5), 1.4 + len(norms) * (0.4 + 0.62 * len(found)))
        figure = Figure(figsize=size, layout="constrained")
        panels = figure.subplots(len(norms), 1, sharex=True, squeeze=False)[:, 0]
        for norm, axes in zip(norms, panels, strict=True):
            for (y, recipe), (x, rate) in itertools.product(enumerate(found), enumerate(rates)):
                _cell(axes, x, y, _runs(rows, norm, recipe, rate), colors)
            axes.set(title=LABELS[norm], xlim=(-0.5, len(rates) - 0.5), ylim=(len(found) - 0.5, -0.5))
            axes.spines[:].set_visible(False)
            axes.tick_params(length=0)
            axes.set_yticks(range(len(found)), [_label(recipe) for recipe in found])
        panels[-1].set_xticks(range(len(rates)), [f"{rate:g}" for rate in rates])
        panels[-1].set_xlabel("learning rate")
        figure.colorbar(colors, ax=list(panels), label="test accuracy (%)", aspect=40)
        save(figure, out / "sweep")


def _runs(rows: list[Row], norm: str, recipe: Recipe, rate: float) -> list[Row]:
    """Those of one cell, by seed."""
    wanted = (norm, *recipe, rate)
    here = [r for r in rows if (r["norm"], r["init"], r["momentum"], r["learning_rate"]) == wanted]
    return sorted(here, key=lambda row: row["seed"])


def _cell(axes: Axes, x: int, y: int, runs: list[Row], colors: ScalarMappable) -> None:
    if not runs:
        return
    width = 0.96 / len(runs)
    for number, run in enumerate(runs):
        where = (x - 0.48 + number * width, y - 0.46)
        if run["test_accuracy"] is None:
            how: dict[str, Any] = {"facecolor": MISSING, "edgecolor": INK, "hatch": "////", "linewidth": 0}
        else:
            how = {"facecolor": colors.to_rgba(100 * run["test_accuracy"])}
        axes.add_patch(Rectangle(where, width, 0.92, **how))
    outcomes = {run["outcome"] for run in runs}
    if outcomes == {"trained"}:
        scores = np.array([100 * run["test_accuracy"] for run in runs])
        green = colors.to_rgba(scores)[:, 1].mean()  # which is most of how bright it is
        words: dict[str, Any] = {"color": DARK if green > 0.65 else LIGHT}
    else:  # strips of several colours, or hatched ones
        words = {"color": LIGHT, "bbox": {"facecolor": DARK, "alpha": 0.6, "linewidth": 0, "pad": 1.5}}
    axes.text(x, y, _told(Cell.of(runs)), ha="center", va="center", fontsize=8.5, linespacing=1.1, **words)


def _told(cell: Cell) -> str:
    """A cell's words, a line each; how many seeds only where there are several."""
    if sum(cell.outcomes.values()) == 1 and "trained" not in cell.outcomes:
        return next(iter(cell.outcomes))
    return str(cell).replace("; ", "\n").replace(", ", "\n")


def _label(recipe: Recipe) -> str:
    return f"{INITS[recipe.init]}, momentum {recipe.momentum:g}"


def draw_headroom(out: Path) -> None:
    """Draw test accuracy over the learning rate as `headroom.png` and `headroom.svg`: a panel a recipe.

    A marker a run, a cross below chance where it diverged; of those with an accuracy the mean as a line, the
    range as a band. The arrow leads from the largest rate that trains without batch norm to the largest with
    it, the medians over the seeds.

    Args:
      out: a folder that `bnjax sweep` made; its `summary.json` is read.
    """
    rows = read_summary(out)
    found = recipes(rows)
    columns = min(2, len(found))
    with matplotlib.rc_context(STYLE):
        lines = math.ceil(len(found) / columns)
        figure = Figure(figsize=(max(4.8 * columns, 6.5), 0.5 + 3.4 * lines), layout="constrained")
        panels = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False)
        for axes in panels.flat[len(found) :]:
            axes.set_visible(False)
        for axes, (recipe, here) in zip(panels.flat, found.items(), strict=False):
            axes.axhline(10, color=INK, linestyle="--", linewidth=1, label="chance")
            for norm in LABELS:
                _draw_network(axes, norm, [row for row in here if row["norm"] == norm])
            axes.set(xscale="log", ylim=(0, None), title=_title(recipe, here))
            axes.grid(axis="y")
            _draw_arrow(axes, here)
        for axes in panels[:, 0]:
            axes.set_ylabel("test accuracy (%)")
        rates = sorted({row["learning_rate"] for row in rows})
        for axes in panels[-1]:
            axes.set_xlabel("learning rate")
            axes.set_xticks(rates[::2], [f"{rate:g}" for rate in rates[::2]])
            axes.minorticks_off()
        labels = {
            label: handle
            for axes in panels.flat
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(
            labels.values(), labels.keys(), loc="outside lower center", ncols=3 if columns == 1 else 5
        )
        save(figure, out / "headroom")


def _draw_network(axes: Axes, norm: str, rows: list[Row]) -> None:
    """One network's runs."""
    style: dict[str, Any] = {"color": COLORS[norm]}
    scores: dict[float, list[float]] = {}
    lost = [row["learning_rate"] for row in rows if row["test_accuracy"] is None]
    for row in sorted(rows, key=lambda row: row["learning_rate"]):
        if row["test_accuracy"] is not None:
            scores.setdefault(row["learning_rate"], []).append(100 * row["test_accuracy"])
    if scores:
        rates, values = list(scores), list(scores.values())
        axes.fill_between(
            rates, list(map(min, values)), list(map(max, values)), alpha=0.2, linewidth=0, **style
        )
        axes.plot(rates, [statistics.fmean(v) for v in values], **style)
        dots = [(rate, score) for rate in rates for score in scores[rate]]
        axes.plot(*zip(*dots, strict=True), linestyle="", marker=MARKERS[norm], label=LABELS[norm], **style)
    if lost:  # neither network's crosses upon the other's
        heights = [{"batch": 6.0, "none": 3.0}[norm]] * len(lost)
        axes.plot(lost, heights, linestyle="", marker="x", label=f"{LABELS[norm]}, diverged", **style)


def _title(recipe: Recipe, rows: list[Row]) -> str:
    room = headroom(rows)
    return _label(recipe) + (f"\nheadroom {room}" if room else "")


def _draw_arrow(axes: Axes, rows: list[Row]) -> None:
    room = headroom(rows)
    if room is None:
        return
    begin, end = statistics.median_low(room.none), statistics.median_low(room.batch)
    top = axes.get_xaxis_transform()
    if 0 < begin < end:
        ends: dict[str, Any] = {"xycoords": top, "textcoords": top}
        arrow = {"arrowstyle": "->", "color": INK, "linewidth": 1.5}
        axes.annotate("", (end, 0.96), (begin, 0.96), arrowprops=arrow, **ends)
