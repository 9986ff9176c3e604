"""Running the benchmarks: a file of rows for each, and a line on the terminal as each row comes."""

import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from bnjax.bench import layers, memory, precision, steps, timing
from bnjax.train.directory import environment
from bnjax.train.plots import draw_precision, draw_steps

PARTS = ("layers", "steps", "memory", "precision")
DRAWN = {"steps": draw_steps, "precision": draw_precision}


def run(part: str, repeats: int, out: Path, *, memory_kept: bool = False) -> Path:
    """Measure `part`, printing each row as it comes, and write `out/bench_PART.json`.

    `memory_kept` is written beside the numbers: whether `bnjax.train.allocator.keep_freed_memory` was set.
    What is in `DRAWN` is also drawn, as `bench_PART.png` and `.svg`.
    """
    rows: list[dict[str, Any]] = []
    for row in _measure(part, repeats):
        rows.append(row)
        print(line(row), flush=True)
    path = out / f"bench_{part}.json"
    write(path, rows, repeats, memory_kept=memory_kept)
    if part in DRAWN:
        DRAWN[part](path)
    return path


def write(path: Path, rows: list[dict[str, Any]], repeats: int, *, memory_kept: bool) -> None:
    """Write rows, and what they depend on."""
    depends_on = _environment() | {"memory_kept": memory_kept}
    written = {"environment": depends_on, "repeats": repeats, "rows": rows}
    path.write_text(json.dumps(written, indent=1) + "\n")


def line(row: dict[str, Any]) -> str:
    """A row on one line: medians in milliseconds, and their ratios to the first of bnjax's."""
    told = [
        str(row[k]) for k in ("kind", "dtype", "shape", "norm", "layer", "network", "mean/std") if k in row
    ]
    if "times" in row:
        medians = {name: t["median_ms"] for name, t in row["times"].items()}
        mine = next(medians[name] for name in medians if name.startswith("bnjax"))
        told += [f"{name} {m:.2f} ms" + _ratio(name, mine / m) for name, m in medians.items()]
        if "passes" in row:
            told.append(f"floor {_floor(row):.2f} ms (×{mine / _floor(row):.2f})")
    if "activations" in row:
        told.append(f"keeps {row['activations']} activations")
    if "temporary_bytes" in row:
        told.append(f"needs {row['temporary_bytes'] / 1e6:.1f} MB for a while")
    told += [f"{name} {error:.1e}" for name, error in row.get("errors", {}).items()]
    return "  ".join(told)


def _ratio(name: str, ratio: float) -> str:
    return "" if name.startswith("bnjax") or name == "copy" else f" (×{ratio:.2f})"


def _floor(row: dict[str, Any]) -> float:
    """The passes that must be made, at the speed of the copy, which makes two."""
    return row["passes"] / 2 * row["times"]["copy"]["median_ms"]


def _measure(part: str, repeats: int) -> Iterator[dict[str, Any]]:
    if part == "layers":
        return layers.measure(repeats)
    if part == "steps":
        return steps.measure(repeats)
    return {"memory": memory, "precision": precision}[part].measure()


def _environment() -> dict[str, Any]:
    torch = timing.torch_if_installed()
    return environment() | {
        "processor": platform.processor() or platform.machine(),
        "torch": torch.__version__ if torch else None,
        "threads": os.cpu_count(),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", ""),
        "devices": len(jax.devices()),
    }
