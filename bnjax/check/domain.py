"""Where numbers drawn at random are outside of what the primal takes: arrays closer to those that came.

No random matrix beyond a few rows is definite, no random row sorted.  Where the primal has no value nothing
is compared, and a rule wrong at those sizes would pass.
"""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from bnjax.check import enclosure, probes, traits
from bnjax.check.problem import Problem
from bnjax.check.sizes import Shrunk
from bnjax.jaxprs import replaced

_NEAR = 2.0**-7  # how far parts of the arrays that came are moved, so that no two are the same


def results(forward: ClosedJaxpr, arrays: list[Any]) -> list[np.ndarray]:
    """The floating results of the primal's `forward_program`."""
    values = enclosure.evaluate(forward, arrays)
    return [np.asarray(v) for v in values if jnp.issubdtype(v.dtype, jnp.floating)]


def inside(problem: Problem, forward: ClosedJaxpr, shrunk: Shrunk, arrays: list[Any]) -> list[Any]:
    """`arrays`, or where the primal is not finite the first of the others at which it is, if any."""

    def finite(arrays: list[Any]) -> bool:
        return all(np.isfinite(r).all() for r in results(forward, arrays))

    if finite(arrays):
        return arrays
    return next(filter(finite, _closer(problem, shrunk, arrays)), arrays)


def _closer(problem: Problem, shrunk: Shrunk, arrays: list[Any]) -> Iterator[list[Any]]:
    """With square matrices made of blocks of those that came; with parts of all the arrays that came."""
    given, rng = problem.given, probes.generator(shrunk.seed, len(arrays))
    square = [i for i in problem.floats if _is_square(given[i]) and _is_square(arrays[i])]
    if square:
        yield replaced(arrays, square, [blocks(given[i], arrays[i].shape, rng) for i in square])
    yield problem.put(
        arrays,
        [_part(problem.arrays[i].distribution, given[i], arrays[i].shape, rng) for i in problem.floats],
    )


def _is_square(a: np.ndarray) -> bool:
    return a.ndim > 1 and a.shape[-1] == a.shape[-2] > 0


def blocks(given: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Square matrices of `shape`: principal parts of those that came, side by side if these are smaller.

    Row i and column i are scaled by the same positive number.  What is definite, triangular or regular by
    its diagonal stays so, which numbers drawn at random are not.
    """
    size, most = shape[-1], given.shape[-1]
    lead = np.ix_(*(np.arange(k) % of for k, of in zip(shape[:-2], given.shape, strict=False)))
    matrices, made = given[lead] if lead else given, np.zeros(shape)
    for start in range(0, size, most):
        count = min(most, size - start)
        at = np.sort(rng.choice(most, count, replace=False))
        made[..., start : start + count, start : start + count] = matrices[..., at[:, None], at]
    scale = np.exp(0.25 * rng.normal(size=size))
    return made * np.multiply.outer(scale, scale)


def _part(
    distribution: bool, given: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray:
    """The first elements of what came, over again if these are fewer: what is sorted stays so till then."""
    places = [np.arange(k) % of for k, of in zip(shape, given.shape, strict=True)]
    part = given[np.ix_(*places)] * (1 + _NEAR * rng.uniform(-1, 1, shape))
    return traits.distribution(part) if distribution else part
