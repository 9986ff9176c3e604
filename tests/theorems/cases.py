"""The one table of arguments that every theorem is tested on."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import THEOREMS, Theorem

# (shape of x, axis): n = 1 through images, the batch in front, behind, and around the channels
CASES = [
    ((1,), 0),
    ((7,), 0),
    ((5, 3), 0),
    ((5, 3), -1),
    ((4, 3, 2), (0, 1, 2)),
    ((2, 3, 2, 3), (0, 2, 3)),
    ((8, 7, 5, 3), (0, 1, 2)),
    ((8, 3, 7, 5), (0, 2, 3)),
]
EVERY_THEOREM = pytest.mark.parametrize("theorem", THEOREMS, ids=lambda t: f"theorem{t.number}")
EVERY_OP = pytest.mark.parametrize(
    "theorem", [t for t in THEOREMS if t.number not in (31, 33)], ids=lambda t: t.op.__name__
)
EVERY_CASE = pytest.mark.parametrize(("shape", "axis"), CASES)

EPS = 0.1  # of the order of the variance, so that a rule that forgets ε cannot pass

# what each theorem's op takes besides x
PARAMETERS = {28: "gb", 29: "", 30: "e", 31: "e", 32: "e", 33: "gb", 34: "gbe"}


def reduced(shape: tuple[int, ...], axis: int | tuple[int, ...]) -> tuple[int, ...]:
    axes = axis if isinstance(axis, tuple) else (axis,)
    return tuple(a % len(shape) for a in axes)


def kept_shape(shape: tuple[int, ...], axis: int | tuple[int, ...]) -> tuple[int, ...]:
    axes = reduced(shape, axis)
    return tuple(size for a, size in enumerate(shape) if a not in axes)


def arguments(
    theorem: Theorem,
    shape: tuple[int, ...],
    axis: int | tuple[int, ...],
    dtype: Any = np.float64,
    *,
    seed: int = 0,
    mean: float = 0.5,
    std: float = 1.0,
) -> tuple[jax.Array, ...]:
    """x, and γ, β (of both signs), ε where the theorem takes them."""
    rng = np.random.default_rng(seed)
    kept = kept_shape(shape, axis)
    drawn = {
        "x": mean + std * rng.normal(size=shape),
        "g": rng.choice([-1, 1], kept) * rng.uniform(0.5, 2, kept),
        "b": rng.normal(size=kept),
        "e": np.asarray(EPS),
    }
    return tuple(jnp.asarray(drawn[key], dtype) for key in "x" + PARAMETERS[theorem.number])


def probes(
    theorem: Theorem, args: tuple[jax.Array, ...], axis: int | tuple[int, ...]
) -> dict[str, jax.Array]:
    """Cotangents of the output: random, all ones, and one along x̂ in every channel.

    At large n a random cotangent is nearly orthogonal to 1 and x̂, and hides the terms that carry
    them; these two probes are where they are loud.
    """
    y = theorem.primal(*args, axis=axis)
    probe = {
        "random": np.random.default_rng(1).normal(size=y.shape),
        "ones": np.ones(y.shape),
    }
    if y.shape == args[0].shape:
        axes = reduced(y.shape, axis)
        x = np.asarray(args[0], np.float64)
        probe["x_hat"] = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + EPS)
    return {key: jnp.asarray(value, y.dtype) for key, value in probe.items()}


def batch_size(shape: tuple[int, ...], axis: int | tuple[int, ...]) -> int:
    return math.prod(shape[a] for a in reduced(shape, axis))
