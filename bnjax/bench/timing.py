"""Timing contestants against one another: in shuffled rounds, so that a drifting machine is fair to all."""

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, TypeVar

import jax
import numpy as np
from rich.console import Console
from rich.progress import track

WARM_UP = 3
Name = TypeVar("Name", bound=Hashable)


def alternate(
    contestants: Mapping[Name, Callable[[], Any]], repeats: int, what: str = "rounds"
) -> dict[Name, dict[str, float]]:
    """Run every contestant `repeats` times in turn, after warming up; each returns when it is done.

    Each round is in another order, drawn from a fixed seed, and each turn is two runs, of which the second
    counts: PyTorch's threads spin for a while after their work, in the way of whoever comes next, and
    caches hold the last one's arrays.  `what` is said on stderr: live on a terminal, once elsewhere.

    Returns:
      For each, its minimum and median in milliseconds.
    """
    names = list(contestants)
    milliseconds: dict[Name, list[float]] = {name: [] for name in names}
    rng = np.random.default_rng(0)
    console = Console(stderr=True)
    rounds = range(WARM_UP + repeats)
    told = f"{what}: {len(names)} contestants, {len(rounds)} rounds"
    if not console.is_terminal:
        print(told, file=sys.stderr, flush=True)
    for _ in track(rounds, told, console=console, transient=True, disable=not console.is_terminal):
        for name in [names[i] for i in rng.permutation(len(names))]:
            contestants[name]()
            start = time.perf_counter()
            contestants[name]()
            milliseconds[name].append(1e3 * (time.perf_counter() - start))
    return {
        name: {"min_ms": round(min(t[WARM_UP:]), 4), "median_ms": round(float(np.median(t[WARM_UP:])), 4)}
        for name, t in milliseconds.items()
    }


def finished(function: Callable[..., Any], *args: Any) -> Callable[[], Any]:
    """A contestant: JAX's `function` on `args`, up to its result."""
    return lambda: jax.block_until_ready(function(*args))


def torch_if_installed() -> Any:
    """PyTorch, on as many threads as XLA has, or None."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    return torch
