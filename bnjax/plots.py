"""Figures of training runs, drawn from the files in their directories."""

import json
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from bnjax.runs import FROZEN_LOSS

LABELS = {"batch": "batch norm", "none": "no norm"}
COLORS = {"batch": "#0b6e99", "none": "#c4532b"}


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """The lines of a run directory's metrics.jsonl."""
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def draw_lift(runs: dict[str, Path], title: str, stem: Path) -> None:
    """Draw training loss per epoch and test accuracy of runs side by side, as `stem`.png and .svg.

    Args:
      runs: the run directory of each norm, "batch" and "none".
      title: over the figure.
      stem: where the two files go, without their ending.
    """
    # a fixed salt makes the SVG the same file each time it is drawn from the same numbers
    with matplotlib.rc_context({"svg.hashsalt": "bnjax", "svg.fonttype": "none", "font.size": 11}):
        figure = Figure(figsize=(9, 3.8), layout="constrained")
        figure.suptitle(title)
        left, right = figure.subplots(1, 2)
        left.axhline(FROZEN_LOSS, color="0.4", linestyle="--", linewidth=1, label="log 10 (chance)")
        right.axhline(10, color="0.4", linestyle="--", linewidth=1, label="chance")
        for norm, run in runs.items():
            _draw_run(left, right, norm, read_metrics(run))
        left.set(xlabel="epoch", ylabel="training loss", ylim=(0, None))
        right.set(xlabel="epoch", ylabel="test accuracy (%)", ylim=(0, 100))
        for axes in (left, right):
            axes.xaxis.get_major_locator().set_params(integer=True)
            axes.spines[["top", "right"]].set_visible(False)
            axes.grid(axis="y", color="0.9")
        left.legend(frameon=False)
        figure.savefig(stem.with_suffix(".png"), dpi=160)
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})


def _draw_run(left: Any, right: Any, norm: str, metrics: list[dict[str, Any]]) -> None:
    finite = [row for row in metrics if row["outcome"] != "diverged"]
    epochs = [row["epoch"] for row in finite]
    style = {"color": COLORS[norm], "marker": "o", "markersize": 4}
    left.plot(epochs, [row["train_loss"] for row in finite], label=LABELS[norm], **style)
    accuracy = [100 * row["test_accuracy"] for row in finite]
    right.plot(epochs, accuracy, **style)
    if accuracy:
        right.annotate(
            f"{accuracy[-1]:.2f} %",
            (epochs[-1], accuracy[-1]),
            xytext=(0, 6),
            textcoords="offset points",
            ha="right",
            color=COLORS[norm],
        )
    if len(finite) < len(metrics):
        epoch = metrics[-1]["epoch"]
        text = f"{LABELS[norm]}: diverged in epoch {epoch}"
        left.plot([epoch], [FROZEN_LOSS], color=COLORS[norm], marker="x", linestyle="", label=text)
