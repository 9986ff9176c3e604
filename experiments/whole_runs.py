"""Whole runs: 30 epochs of CIFAR-10 by the chapter's recipe, by the best one and by plain SGD, with seeds.

    python experiments/whole_runs.py --data-dir DIR results/whole/runs       # runs what is not done yet
    python experiments/whole_runs.py --write results/whole results/whole/runs  # what is done: summary, figure

In the order in which they are wanted; started again it goes on after the last whole epoch, and several
processes may share the folder.  published.json holds what the chapter's code base printed of its own runs.
"""

import json
import math
from pathlib import Path
from typing import Any, get_args

import matplotlib
from matplotlib.figure import Figure

from bnjax.figures import INK, STYLE
from bnjax.train import queue
from bnjax.train.config import Config, Norm, Recipe, folder
from bnjax.train.files import make_folder, replace_text
from bnjax.train.plots import COLORS, LABELS, save

PUBLISHED = Path(__file__).with_name("published.json")
# recipe, learning rate, seeds
ORDER: list[tuple[Recipe, float, range]] = [
    ("chapter", 0.1, range(3)),
    ("chapter", 0.002, range(3)),
    ("best", 0.05, range(3)),
    ("plain", 0.1, range(1)),
    ("plain", 0.02, range(1)),
]


def configs() -> dict[str, Config]:
    """The runs by name, in their order."""
    found = {}
    for recipe, rate, seeds in ORDER:
        for seed in seeds:
            for norm in get_args(Norm):
                config = Config.of(recipe=recipe, dataset="cifar10", norm=norm, learning_rate=rate, seed=seed)
                found[f"{recipe}-{folder(config)}"] = config
    return found


def summary(runs: Path) -> list[dict[str, Any]]:
    """A row for each run that has begun: its losses and accuracies, an epoch each, None once it diverged."""
    found = []
    for name, config in configs().items():
        if rows := queue.epochs(runs / name, config):
            row: dict[str, Any] = {"recipe": name.split("-")[0], "learning_rate": config.learning_rate}
            row |= {"norm": config.norm, "seed": config.seed, "epochs": config.epochs}
            row["losses"] = [epoch["train_loss"] for epoch in rows]
            row["accuracies"] = [epoch["test_accuracy"] for epoch in rows]
            found.append(row | {"outcome": rows[-1]["outcome"]})
    return found


def write(runs: Path, out: Path) -> None:
    """Write what is done so far, of runs at their end and of others."""
    found, published = summary(runs), json.loads(PUBLISHED.read_text())
    if not found:
        raise SystemExit(f"{runs}: no run has an epoch behind it")
    make_folder(out)
    replace_text(out / "summary.json", json.dumps({"published": published, "runs": found}, indent=1) + "\n")
    draw(found, published, out / "whole")
    print(f"{len(found)} of {len(configs())} runs have begun: {out}")


def draw(rows: list[dict[str, Any]], published: dict[str, Any], stem: Path) -> None:
    """Losses above, accuracies below, a column a recipe and a line a seed; crosses, the chapter's."""
    columns = [(recipe, rate) for recipe, rate, _ in ORDER if _of(rows, recipe, rate)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.5 + 3.2 * len(columns), 5.6), layout="constrained")
        panels = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
        for (above, below), (recipe, rate) in zip(panels.T, columns, strict=True):
            above.set_title(f"{recipe}, learning rate {rate:g}")
            above.axhline(math.log(10), color=INK, linestyle=":", linewidth=1)
            below.axhline(10, color=INK, linestyle=":", linewidth=1)
            for row in _of(rows, recipe, rate):
                epochs = range(1, len(row["losses"]) + 1)
                style = {"color": COLORS[row["norm"]], "label": LABELS[row["norm"]], "marker": ""}
                losses = [math.nan if loss is None else loss for loss in row["losses"]]
                above.plot(epochs, losses, **style)
                below.plot(epochs, [100 * (accuracy or math.nan) for accuracy in row["accuracies"]], **style)
            for row in _of(published["runs"], recipe, rate):
                style = {"color": COLORS[row["norm"]], "linestyle": "", "marker": "x"}
                style["label"] = f"the chapter's, {LABELS[row['norm']]}"
                above.plot([int(epoch) for epoch in row["losses"]], list(row["losses"].values()), **style)
                below.plot([published["epochs"]], [100 * row["test_accuracy"]], **style)
            below.set(xlabel="epoch", ylim=(0, 100))
            above.set(ylim=(0, 2.6))
        panels[0, 0].set_ylabel("training loss")
        panels[1, 0].set_ylabel("test accuracy (%)")
        handles = {
            label: h
            for axes in panels.flat
            for h, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles))
        save(figure, stem)


def _of(rows: list[dict[str, Any]], recipe: str, rate: float) -> list[dict[str, Any]]:
    return [row for row in rows if (row["recipe"], row["learning_rate"]) == (recipe, rate)]


if __name__ == "__main__":
    queue.command(__doc__, configs(), write)
