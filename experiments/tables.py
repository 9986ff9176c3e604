"""The numbers of results/ as tables to read: `python experiments/tables.py` writes results/README.md.

Every figure in it is read from a file beside it; a test holds the page against the files.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results"
GRIDS = ("lift-cifar10", "lift-cifar10-momentum", "sweep-cifar10")
_RECIPE = ("norm", "learning_rate", "momentum", "init", "seed", "epochs")
_HEAD = """# Results, in full

Made from the files beside this page by `python experiments/tables.py`; nothing here is typed by hand. What
stands in the way of more speed, and what was tried, is in [bench_tried.md](bench_tried.md).
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
    said = "Training is forward and backward; the floor: the passes over x that must be made, by a copy."
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
    return f"## Checkers\n\n{said}; seed {results['seed']}.\n\n{table(head, lines)}"


def _refused(rows: list[dict[str, Any]], checker: str) -> str:
    return f"{sum(not row[checker]['accepted'] for row in rows)} of {len(rows)}"


def runs() -> Iterator[str]:
    """The runs of the lift and of the sweep."""
    for folder in GRIDS:
        rows = [
            [
                *(r[key] for key in _RECIPE),
                f"{r['train_loss']:.3f}",
                f"{100 * r['test_accuracy']:.2f} %",
                r["outcome"],
            ]
            for r in read(f"{folder}/summary.json")["runs"]
        ]
        head = [*(key.replace("_", " ") for key in _RECIPE), "training loss", "test accuracy", "outcome"]
        yield f"## [{folder}]({folder})\n\n{table(head, rows)}"


def page() -> str:
    """results/README.md."""
    return "\n\n".join([_HEAD.strip(), checkers(), steps(), layers(), memory(), precision(), *runs()]) + "\n"


if __name__ == "__main__":
    (RESULTS / "README.md").write_text(page())
    print(RESULTS / "README.md")
