"""Whole runs: 30 epochs of CIFAR-10 by the chapter's recipe, by the best one and by plain SGD, with seeds.

    python experiments/whole_runs.py --data-dir DIR results/whole/runs       # runs what is not done yet
    python experiments/whole_runs.py --write results/whole results/whole/runs  # what is done: summary, figure

One seed of every plan first, then the next; started again it goes on after the last whole epoch, and several
processes may share the folder.  published.json holds what the chapter's code base printed of its own runs.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
from matplotlib.figure import Figure

from bnjax.figures import INK, STYLE
from bnjax.train import queue
from bnjax.train.config import Config, Norm, Recipe, folder
from bnjax.train.files import make_folder, replace_text
from bnjax.train.plots import COLORS, LABELS, save

PUBLISHED = Path(__file__).with_name("published.json")


class Plan(NamedTuple):
    """A recipe, the learning rate of each network, and how many seeds are wanted."""

    recipe: Recipe
    rates: Mapping[Norm, float]
    seeds: int


PLANS = [
    Plan("chapter", {"batch": 0.1, "none": 0.1}, 3),
    Plan("chapter", {"batch": 0.002, "none": 0.002}, 3),
    Plan("best", {"batch": 0.2, "none": 0.05}, 3),  # the best of results/best-rate/one-cycle
    Plan("plain", {"batch": 0.1, "none": 0.1}, 1),
    Plan("plain", {"batch": 0.02, "none": 0.02}, 1),
]


def configs() -> dict[str, Config]:
    """The runs by name, in their order: one seed of every plan, then the next."""
    found = {}
    for seed in range(max(plan.seeds for plan in PLANS)):
        for plan in (p for p in PLANS if seed < p.seeds):
            for norm, rate in plan.rates.items():
                config = Config.of(
                    recipe=plan.recipe, dataset="cifar10", norm=norm, learning_rate=rate, seed=seed
                )
                found[f"{plan.recipe}-{folder(config)}"] = config
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
    """Losses above, accuracies below, a column a plan and a line a seed; crosses, the chapter's."""
    columns = [plan for plan in PLANS if _of(rows, plan)]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(1.5 + 3.2 * len(columns), 5.6), layout="constrained")
        panels = figure.subplots(2, len(columns), sharex=True, sharey="row", squeeze=False)
        for (above, below), plan in zip(panels.T, columns, strict=True):
            rates = " and ".join(f"{rate:g}" for rate in dict.fromkeys(plan.rates.values()))
            above.set_title(f"{plan.recipe}, learning rate {rates}")
            above.axhline(math.log(10), color=INK, linestyle=":", linewidth=1)
            below.axhline(10, color=INK, linestyle=":", linewidth=1)
            for row in _of(rows, plan):
                epochs = range(1, len(row["losses"]) + 1)
                style = {"color": COLORS[row["norm"]], "label": LABELS[row["norm"]], "marker": ""}
                losses = [math.nan if loss is None else loss for loss in row["losses"]]
                above.plot(epochs, losses, **style)
                below.plot(epochs, [100 * (accuracy or math.nan) for accuracy in row["accuracies"]], **style)
            for row in _of(published["runs"], plan):
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


def _of(rows: list[dict[str, Any]], plan: Plan) -> list[dict[str, Any]]:
    return [r for r in rows if r["recipe"] == plan.recipe and r["learning_rate"] == plan.rates[r["norm"]]]


if __name__ == "__main__":
    queue.command(__doc__, configs(), write)
