"""The numbers of results/ as tables to read: `python experiments/tables.py` writes results/README.md.

Every figure in it is read from a file beside it; a test holds the page against the files.
"""

import json
import math
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bnjax.train import landscape_plots
from bnjax.train.seeds import Cell, Row, headroom, recipes, wilson

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
GRIDS = ("best-rate/one-cycle", "best-rate/cosine", "lift-cifar10", "lift-cifar10-momentum")
MAP, LANDSCAPE, WHOLE = "map", "landscape", "whole"
_RECIPE = ("norm", "learning_rate", "momentum", "init", "seed", "epochs")
_EPOCHS = (*range(1, 8), 30)
_OF = ("accuracy", "seeds (% that train)")
_HEAD = """# Results, in full

Made from the files beside this page by `python experiments/tables.py`; nothing here is typed by hand. What
stands in the way of more speed, and what was tried, is in [bench_tried.md](bench_tried.md).

The files are made again, `DIR` being where CIFAR-10 lies, by

| command | what |
| --- | --- |
| `python experiments/checkers.py` | wrong and right rules through the checkers |
| `bnjax bench` | steps, layers, memory, precision |
| `python experiments/map.py --data-dir DIR RUNS`, then `--write results/map RUNS` | the map, the headroom |
| `python experiments/whole_runs.py --data-dir DIR RUNS`, then `--write results/whole RUNS` | whole runs |
| `python experiments/best_rate.py --data-dir DIR RUNS`, then `--write results/best-rate RUNS` | rates |
| `python experiments/landscape.py --data-dir DIR` | the two explanations, and what freezes |
| `bnjax lift --dataset cifar10 --data-dir DIR --epochs 3` | the lift, `--momentum 0.9` the other |
"""


def read(name: str) -> dict[str, Any]:
    """A results file."""
    return json.loads((RESULTS / name).read_text())


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Rows as Markdown; what is None stays empty."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join("" if c is None else str(c) for c in line) + " |" for line in lines)


def machine(results: dict[str, Any]) -> str:
    """What the numbers depend on, in a sentence."""
    e = results["environment"]
    return (
        f"{e['cpu_count']} cores, backend {e['backend']}, jax {e['jax']}, flax {e['flax']}, "
        f"PyTorch {e['torch']}; medians of {results['repeats']} runs in shuffled turns, in one process."
    )


def medians(row: dict[str, Any]) -> dict[str, float]:
    """Median milliseconds by contestant."""
    return {name: times["median_ms"] for name, times in row["times"].items()}


def steps() -> str:
    """The whole training step."""
    results = read("bench_steps.json")
    names = list(results["rows"][0]["times"])
    rows = []
    for row in results["rows"]:
        ms = medians(row)
        ratios = [f"{ms['bnjax'] / ms[name]:.2f}" for name in names if name != "bnjax"]
        rows.append([row["norm"], *(f"{ms[name]:.0f}" for name in names), *ratios])
    head = ["norm", *(f"{name}, ms" for name in names), *(f"/ {n}" for n in names if n != "bnjax")]
    return f"## The whole training step\n\nBatch 128. {machine(results)}\n\n{table(head, rows)}"


def layers() -> str:
    """The layers alone; the floor is the passes that must be made at the speed of a copy, which makes two."""
    results = read("bench_layers.json")
    others = ("flax nnx", "autodiff", "torch")
    rows = []
    for row in results["rows"]:
        ms, shape = medians(row), tuple(row["shape"])
        mine = ms["bnjax nnx"]
        ratios = [f"{mine / ms[o]:.2f}" if o in ms else None for o in others]
        floor = row["passes"] / 2 * ms["copy"]
        rows.append([row["kind"], row["dtype"], shape, f"{mine:.2f}", *ratios, f"{mine / floor:.2f}"])
    head = ["kind", "dtype", "shape", "bnjax nnx, ms", *(f"/ {o}" for o in others), "/ floor"]
    said = (
        "Training is forward and backward; the floor: the passes over x that must be made, by a copy "
        "through the caches, which the kernels' writing goes past."
    )
    return f"## The layers alone\n\n{said} {machine(results)}\n\n{table(head, rows)}"


def memory() -> str:
    """What is kept for the backward pass, and what a step needs for a while."""
    rows = read("bench_memory.json")["rows"]
    kept = [[r["kind"], r["layer"], r["activations"]] for r in rows if "activations" in r]
    needed = [[r["norm"], r["network"], f"{r['temporary_bytes'] / 1e6:.0f}"] for r in rows if "network" in r]
    return "\n\n".join(
        [
            "## Memory",
            table(["kind", "layer", "activations kept for the backward pass"], kept),
            table(["norm", "network", "temporary memory of a step, MB"], needed),
        ]
    )


def precision() -> str:
    """The error of the float32 gradient, over mean/std."""
    rows = read("bench_precision.json")["rows"]
    names = list(rows[0]["errors"])
    lines = [[f"{r['mean/std']:g}", *(f"{r['errors'][n]:.1e}" for n in names)] for r in rows]
    said = "The error of the float32 gradient dx over its largest entry, against float64."
    return f"## Precision\n\n{said}\n\n{table(['mean/std', *names], lines)}"


def checkers() -> str:
    """Wrong and right rules, through the checkers in use today."""
    results = read("checkers.json")
    said = ", ".join(f"{name} {version}" for name, version in results["versions"].items() if version)
    lines = []
    for library, n in sorted({(row["library"], row["n"]) for row in results["rows"]}):
        here = [row for row in results["rows"] if (row["library"], row["n"]) == (library, n)]
        for checker in (key for key, value in here[0].items() if isinstance(value, dict)):
            counts = [_refused([r for r in here if r["wrong"] == wrong], checker) for wrong in (True, False)]
            lines.append([library, f"{n:,}", checker, *counts])
    head = ["rules", "n", "checker", "wrong rules refused", "right rules refused"]
    said = f"{said}; seed {results['seed']}. Where a count is of fewer rules, the newest were not run there."
    return f"## Checkers\n\n{said}\n\n{table(head, lines)}"


def _refused(rows: list[dict[str, Any]], checker: str) -> str:
    tried = [row[checker] for row in rows if checker in row]
    return f"{sum(not outcome['accepted'] for outcome in tried)} of {len(tried)}"


def runs() -> Iterator[str]:
    """The runs of both lifts, and those that chose the best recipe's rates."""
    for folder in GRIDS:
        rows = [
            [
                *(r[key] for key in _RECIPE),
                r["train_loss"] and f"{r['train_loss']:.3f}",  # None where it diverged
                r["test_accuracy"] and f"{100 * r['test_accuracy']:.2f} %",
                r["outcome"],
            ]
            for r in read(f"{folder}/summary.json")["runs"]
        ]
        head = [*(key.replace("_", " ") for key in _RECIPE), "training loss", "test accuracy", "outcome"]
        yield f"## [{folder}]({folder})\n\n{table(head, rows)}"


def whole_map() -> str:
    """Which recipes train, over their seeds, and the headroom of batch norm."""
    summary = read(f"{MAP}/summary.json")
    config, e = summary["config"], summary["environment"]
    steps = config["epochs"] * config["train_examples"] // config["batch_size"]
    said = (
        f"A run is {steps} steps of batch {config['batch_size']} and one seed; backend {e['backend']}, jax"
        f" {e['jax']}, flax {e['flax']}. Headroom: the largest rate that trains with batch norm over the "
        "largest without, the median over the seeds; the interval holds the median over all seeds there "
        "might be with the probability given. Accuracy in %: mean ± standard deviation of the seeds that "
        "trained; beside it the number of seeds, and the 95 % interval of the share that trains (Wilson)."
    )
    return "\n\n".join([f"## [The map]({MAP})", said, _headrooms(summary["runs"]), _cells(summary["runs"])])


def _headrooms(rows: list[Row]) -> str:
    lines = []
    for recipe, here in recipes(rows).items():
        if found := headroom(here):
            rates = [", ".join(f"{rate:g}" for rate in largest) for largest in (found.batch, found.none)]
            lines.append([*recipe, len(found.seeds), *rates, found])
    head = ["init", "momentum", "seeds", "largest rate, batch", "largest rate, none", "headroom"]
    return table(head, lines)


def _cells(rows: list[Row]) -> str:
    """A line a recipe and rate, both networks side by side."""
    lines = []
    for recipe, here in recipes(rows).items():
        for rate in sorted({row["learning_rate"] for row in here}):
            line = [*recipe, f"{rate:g}"]
            for norm in ("batch", "none"):
                runs = [r for r in here if (r["norm"], r["learning_rate"]) == (norm, rate)]
                low, high = wilson(sum(r["outcome"] == "trained" for r in runs), len(runs))
                line += [str(Cell.of(runs)), f"{len(runs)} ({100 * low:.0f}–{100 * high:.0f})"]
            lines.append(line)
    head = [
        "init",
        "momentum",
        "learning rate",
        *(f"{norm}, {of}" for norm in ("batch", "none") for of in _OF),
    ]
    return table(head, lines)


def whole_runs() -> str:
    """30 epochs, over seeds, beside what the chapter's code base printed of its own."""
    found = read(f"{WHOLE}/summary.json")
    lines = []
    for (recipe, rate, norm), here in _by_network(found["runs"]).items():
        name = [recipe, f"{rate:g}", norm]
        for row in (r for r in found["published"]["runs"] if _network(r) == (recipe, rate, norm)):
            losses = [f"{row['losses'][e]:.3f}" if e in row["losses"] else None for e in map(str, _EPOCHS)]
            lines.append([*name, "the chapter's", *losses, f"{100 * row['test_accuracy']:.2f} %", None])
        losses = [
            _spread((run["losses"][e - 1] for run in here if len(run["losses"]) >= e), 3) for e in _EPOCHS
        ]
        ended = [run for run in here if run["outcome"] == "diverged" or len(run["losses"]) == run["epochs"]]
        ends = _spread((100 * run["accuracies"][-1] for run in ended if run["accuracies"][-1]), 2)
        told = [f"{count} {outcome}" for outcome, count in Counter(run["outcome"] for run in ended).items()]
        told += [f"seed {run['seed']} at epoch {len(run['losses'])}" for run in here if run not in ended]
        lines.append([*name, f"{len(here)} of ours", *losses, f"{ends} %" if ends else None, ", ".join(told)])
    said = (
        "30 epochs of 50,000 images; accuracy on all 10,000 of the test, the chapter's on 9,984. Mean ± "
        "standard deviation where there is more than one seed. The chapter's are single runs, as "
        f"[its code base printed them]({found['published']['source']})."
    )
    head = [
        "recipe",
        "learning rate",
        "norm",
        "whose",
        *(f"loss, epoch {e}" for e in _EPOCHS),
        "accuracy",
        "ended",
    ]
    return f"## [Whole runs]({WHOLE})\n\n{said}\n\n{table(head, lines)}"


def _network(row: dict[str, Any]) -> tuple[str, float, str]:
    return row["recipe"], row["learning_rate"], row["norm"]


def _by_network(rows: list[dict[str, Any]]) -> dict[tuple[str, float, str], list[dict[str, Any]]]:
    return {key: [row for row in rows if _network(row) == key] for key in dict.fromkeys(map(_network, rows))}


def _spread(values: Iterable[float | None], digits: int) -> str | None:
    """Mean ± standard deviation of what is a number; None of none."""
    numbers = [value for value in values if value is not None]
    if len(numbers) < 2:
        return f"{numbers[0]:.{digits}f}" if numbers else None
    return f"{statistics.fmean(numbers):.{digits}f} ± {statistics.stdev(numbers):.{digits}f}"


def landscape() -> str:
    """What lies around both networks as they train, and what freezes."""
    runs = landscape_plots.read_runs(RESULTS / LANDSCAPE)
    lines = []
    for rate, norm in sorted({landscape_plots.recipe(run) for run in runs}):
        here = [run for run in runs if landscape_plots.recipe(run) == (rate, norm)]
        points = [point for run in here for point in run["points"]]
        medians = [
            _median(map(of, points)) for of in (_loss_range, landscape_plots.turn, landscape_plots.shift)
        ]
        lasts = [run["points"][-1] for run in here]
        ends = [_median(landscape_plots.dead(p) for p in lasts), _median(p["confidence"] for p in lasts)]
        lines.append([f"{rate:g}", norm, len(here), *(f"{value:.3g}" for value in medians + ends)])
    head = [
        "learning rate",
        "norm",
        "seeds",
        "loss, largest / least along the step",
        "change of the gradient",
    ]
    head += ["shift of the inputs", "dead units at the end, %", "probability of the class it says"]
    said = (
        "Medians over the seeds and over the points of a run that were looked at: the largest loss over "
        "the least, ½ to 4 steps along the gradient; ‖g′ − g‖/‖g‖ one step further on; ‖Δμ‖/‖σ‖ of a "
        "layer's inputs by a step. At the last point: units that are 0 on every image, in the hidden layer "
        "with most of them, and how sure the network is of what it says."
    )
    return f"## [Landscape]({LANDSCAPE})\n\n{said}\n\n{table(head, lines)}"


def _loss_range(point: dict[str, Any]) -> float:
    losses = landscape_plots.losses(point)
    return max(losses) / min(losses)


def _median(values: Iterable[float]) -> float:
    """Of those that are numbers; NaN of none."""
    numbers = [value for value in values if not math.isnan(value)]
    return statistics.median(numbers) if numbers else math.nan


def page() -> str:
    """results/README.md."""
    measured = checkers(), steps(), layers(), memory(), precision()
    return "\n\n".join([_HEAD.strip(), *measured, whole_map(), whole_runs(), landscape(), *runs()]) + "\n"


if __name__ == "__main__":
    (RESULTS / "README.md").write_text(page())
    print(RESULTS / "README.md")
