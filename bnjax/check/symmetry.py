"""Symmetric matrices: what a function of them is off them is a convention, and no rule's to keep."""

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.extend.core import primitives as jaxs

from bnjax.check import enclosure, probes, traits
from bnjax.check.problem import Problem
from bnjax.jaxprs import equations, replaced

_OF_SYMMETRIC = (jaxs.cholesky_p, jaxs.eigh_p)
_OFF = 2.0**-10  # how far a matrix is moved off the symmetric ones, of its largest element
_SAME = 1e-9  # of a result's largest element


def symmetric_by_nature(problem: Problem, forward: ClosedJaxpr) -> frozenset[int]:
    """The arrays that came symmetric and of which the primal reads the symmetric part, or a triangle, alone.

    `forward` is the primal's `forward_program`.  Cholesky's factors and eigenvectors are those of a matrix of
    which half has been seen: a rule need be right of symmetric ones, in the symmetric part of its cotangent.
    """
    if not any(eqn.primitive in _OF_SYMMETRIC for eqn in equations(forward)):
        return frozenset()
    return frozenset(i for i in problem.symmetrizable - problem.symmetric if _reads_less(problem, forward, i))


def _reads_less(problem: Problem, forward: ClosedJaxpr, i: int) -> bool:
    given = problem.given[i]
    noise = probes.generator(i, 23).normal(size=given.shape)
    moved = given + _OFF * np.max(abs(given)) * (noise - np.swapaxes(noise, -1, -2))

    def results(matrix: np.ndarray) -> list[Any]:
        values = enclosure.evaluate(forward, replaced(problem.given, [i], [matrix]))
        return [np.asarray(v) for v in values if jnp.issubdtype(v.dtype, jnp.floating)]

    there = results(moved)
    if not all(np.isfinite(r).all() for r in there):
        return False
    return any(all(map(_same, there, results(matrix))) for matrix in _symmetric_ones(moved))


def _symmetric_ones(matrix: np.ndarray) -> Iterator[np.ndarray]:
    """The symmetric matrices that agree with one in its symmetric part, or in a triangle."""
    yield traits.symmetric(matrix)
    for turned in (matrix, np.swapaxes(matrix, -1, -2)):
        yield np.tril(turned) + np.swapaxes(np.tril(turned, -1), -1, -2)


def _same(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.all(abs(a - b) <= _SAME * np.max(abs(a), initial=0)))
