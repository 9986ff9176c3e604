"""Figures of training runs and of the benchmark, drawn from the files they left."""

import json
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bnjax.figures import BLUE, INK, STYLE, VERMILION
from bnjax.train.files import replace
from bnjax.train.outcome import CHANCE_LOSS

LABELS = {"batch": "batch norm", "none": "no norm"}
DATASETS = {"cifar10": "CIFAR-10", "synthetic": "Synthetic images"}
INITS = {"he": "He", "glorot": "Glorot"}
BEYOND = {  # plain SGD: what a title says of it
    "schedule": "{schedule} schedule",
    "weight_decay": "weight decay {weight_decay:g}",
    "augment": "{augment} augmentation",
    "label_smoothing": "label smoothing {label_smoothing:g}",
}
COLORS = {"batch": BLUE, "none": VERMILION}
MARKERS = {"batch": "o", "none": "s"}


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run directory's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def draw_lift(out: Path) -> None:
    """Draw training loss per epoch and test accuracy of both networks, as `lift.png` and `lift.svg`.

    Args:
      out: a folder that `bnjax lift` made; its run directories `batch/` and `none/` are read.
    """
    config = json.loads((out / "batch" / "config.json").read_text())["config"]
    title = (
        f"{DATASETS[config['dataset']]}: SGD, learning rate {config['learning_rate']:g}, "
        f"momentum {config['momentum']:g}, {INITS[config['init']]} initialization"
    )
    beyond = [
        told for name, told in BEYOND.items() if config.get(name, "none") not in ("constant", "none", 0)
    ]
    if beyond:
        title += "\n" + ", ".join(told.format(**config) for told in beyond)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        figure.suptitle(title)
        left, right = figure.subplots(1, 2)
        left.axhline(CHANCE_LOSS, color=INK, linestyle="--", linewidth=1, label="log 10 (chance)")
        right.axhline(10, color=INK, linestyle="--", linewidth=1, label="chance")
        for norm in ("batch", "none"):
            draw_run(left, right, norm, read_metrics(out / norm))
        left.set(xlabel="epoch", ylabel="training loss")
        if left.dataLim.ymax > 4 * CHANCE_LOSS:  # one far off would leave the rest a line at zero
            left.set_yscale("log")
        else:
            left.set_ylim(0, None)
        right.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(0, 100))
        for axes in (left, right):
            axes.set_xlim(0.5, config["epochs"] + 0.5)
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.grid(axis="y")
            axes.legend()
        save(figure, out / "lift")


def draw_run(left: Any, right: Any, norm: str, metrics: list[dict[str, Any]]) -> None:
    """Draw a run's losses on the left and its accuracies on the right, and a cross where it diverged."""
    label = LABELS[norm]
    finite = [row for row in metrics if row["outcome"] != "diverged"]
    epochs = [row["epoch"] for row in finite]
    losses = [row["train_loss"] for row in finite]
    accuracies = [100 * row["test_accuracy"] for row in finite]
    style = {"color": COLORS[norm], "marker": MARKERS[norm]}
    if epochs:
        left.plot(epochs, losses, label=f"{label}: {losses[-1]:.3f}", **style)
        right.plot(epochs, accuracies, label=f"{label}: {accuracies[-1]:.2f} %", **style)
    if len(finite) < len(metrics):
        epoch = metrics[-1]["epoch"]
        told = {"label": f"{label}: diverged in epoch {epoch}", "clip_on": False}
        for axes in (left, right):  # it has no loss and no accuracy: a cross on the upper edge, at its epoch
            cross = {"color": COLORS[norm], "marker": "x", "markersize": 8, "linestyle": ""}
            axes.plot([epoch], [1], transform=axes.get_xaxis_transform(), **cross, **told)


def draw_precision(results: Path) -> None:
    """Draw the gradient's error over mean/std, as a `.png` and an `.svg` beside `results`.

    Args:
      results: the file that `bnjax bench precision` writes.
    """
    rows = json.loads(results.read_text())["rows"]
    ratios = [row["mean/std"] for row in rows]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(6.5, 4), layout="constrained")
        axes = figure.subplots()
        for name in rows[0]["errors"]:
            axes.loglog(ratios, [row["errors"][name] for row in rows], label=name)
        axes.set(
            title="Gradient of batch norm in float32",
            xlabel="mean / standard deviation of the batch",
            ylabel="largest error / largest entry of dx",
        )
        axes.axhline(1, color=INK, linestyle="--", linewidth=1, label="nothing right")
        axes.grid(axis="y")
        axes.legend()
        save(figure, results.with_suffix(""))


def draw_steps(results: Path) -> None:
    """Draw how long a training step takes by whom, as a `.png` and an `.svg` beside `results`.

    Args:
      results: the file that `bnjax bench steps` writes.
    """
    rows = json.loads(results.read_text())["rows"]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 3.2), layout="constrained")
        figure.suptitle("One training step of the CIFAR networks: median time")
        panels = figure.subplots(1, len(rows), sharex=True, sharey=True, squeeze=False)[0]
        for row, axes in zip(rows, panels, strict=True):
            medians = {name: times["median_ms"] for name, times in row["times"].items()}
            colors = [BLUE if name.startswith("bnjax") else VERMILION for name in medians]
            bars = axes.barh(list(medians), medians.values(), color=colors)
            axes.bar_label(bars, [f"{ms:.0f} ms" for ms in medians.values()], padding=4, color=INK)
            axes.set(title=LABELS[row["norm"]], xlabel="milliseconds")
            axes.margins(x=0.2)
            axes.spines["bottom"].set_visible(False)
            axes.tick_params(axis="y", length=0)
        panels[0].invert_yaxis()
        save(figure, results.with_suffix(""))


def save(figure: Figure, stem: Path) -> None:
    """Write the figure as `stem`.png and `stem`.svg, the same bytes each time."""
    replace(stem.with_suffix(".png"), lambda path: figure.savefig(path, dpi=160))
    replace(stem.with_suffix(".svg"), lambda path: figure.savefig(path, metadata={"Date": None}))
