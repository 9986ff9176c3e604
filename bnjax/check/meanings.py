"""What the arrays that came may mean together, and what a function of arrays that always do may be.

A covariance is symmetric, breakpoints increase, a lower bound lies below an upper one.  Of other arrays a
right rule may well be wrong.  Where a rule is, it is tried on arrays that have what those that came have:
right there alone, it is neither right nor wrong until one knows which were meant.
"""

import itertools
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr
from jax.extend.core import primitives as jaxs

from bnjax.check import domain, probes, traits
from bnjax.check.problem import Problem
from bnjax.jaxprs import equations, replaced

_OF_SYMMETRIC = (jaxs.cholesky_p, jaxs.eigh_p)
_OFF = 2.0**-10  # how far a matrix is moved off the symmetric ones, of its largest element
_APART = 0.25  # how much of the least distance that came stays one
_SAME = 1e-9  # of a result's largest element


class Meaning(NamedTuple):
    """What some of the arrays have: in words, how to give it to others, and that as a user would write it."""

    words: str
    places: tuple[int, ...]
    of: Callable[[Sequence[Any]], Sequence[Any]]
    written: str


def by_nature(problem: Problem, forward: ClosedJaxpr) -> list[Meaning]:
    """That arrays are symmetric of which the primal reads the symmetric part, or a triangle, alone; that they
    increase where it searches in one.

    `forward` is the primal's `forward_program`.  Cholesky's factors and eigenvectors are those of a matrix of
    which half has been seen: a rule need be right of symmetric ones, in the symmetric part of its cotangent.
    """
    found, eqns = [], list(equations(forward))
    if any(eqn.primitive in _OF_SYMMETRIC for eqn in eqns):
        found += [m for m in _symmetric(problem) if _reads_less(problem, forward, m.places[0])]
    if any(eqn.params.get("name") == jnp.searchsorted.__name__ for eqn in eqns):
        found += _increasing(problem)
    return _unknown(problem, found)


def in_doubt(problem: Problem) -> list[Meaning]:
    """What else the arrays that came may have had to have."""
    return _unknown(problem, (*_symmetric(problem), *_increasing(problem), *_ordered(problem)))


def _unknown(problem: Problem, found: Sequence[Meaning]) -> list[Meaning]:
    """Those of arrays of which nothing is known yet."""
    known = {place for meaning in problem.meanings for place in meaning.places}
    return [meaning for meaning in found if known.isdisjoint(meaning.places)]


def _symmetric(problem: Problem) -> Iterator[Meaning]:
    for i in _real(problem):
        if traits.is_symmetric(problem.given[i]):
            label = problem.arrays[i].label
            yield Meaning(
                f"{label} is symmetric", (i,), _each(traits.symmetric), f"({label} + {label}.T) / 2"
            )


def _increasing(problem: Problem) -> Iterator[Meaning]:
    for i in _real(problem):
        if traits.is_increasing(problem.given[i]):
            label, step = problem.arrays[i].label, _APART * float(np.min(np.diff(problem.given[i])))
            sort = partial(traits.increasing, step=step)
            yield Meaning(f"{label} increases", (i,), _each(sort), f"jnp.sort({label})")


def _ordered(problem: Problem) -> Iterator[Meaning]:
    """Of the arrays of one shape, those of which each is nowhere above the next."""
    by_shape: dict[tuple[int, ...], list[int]] = {}
    for i in _real(problem):
        by_shape.setdefault(problem.given[i].shape, []).append(i)
    for places in by_shape.values():
        rising = sorted(places, key=lambda i: float(np.mean(problem.given[i])))
        pairs = itertools.pairwise(rising)
        below = all(traits.is_below(problem.given[i], problem.given[j]) for i, j in pairs)
        if len(rising) > 1 and below:
            labels = [problem.arrays[i].label for i in rising]
            step = _APART * float(np.min(np.diff([np.mean(problem.given[i]) for i in rising])))
            sort = partial(traits.rising, step=step)
            yield Meaning(" ≤ ".join(labels), tuple(rising), sort, f"{', '.join(labels)} in their order")


def _real(problem: Problem) -> list[int]:
    """The floats that are no parts of complex numbers."""
    leaves = (problem.leaves[problem.arrays[i].place] for i in problem.floats)
    return [i for i, leaf in zip(problem.floats, leaves, strict=True) if not np.iscomplexobj(leaf)]


def _each(function: Callable[[Any], Any]) -> Callable[[Sequence[Any]], Sequence[Any]]:
    return lambda arrays: list(map(function, arrays))


def _reads_less(problem: Problem, forward: ClosedJaxpr, i: int) -> bool:
    given = problem.given[i]
    noise = probes.generator(i, 23).normal(size=given.shape)
    moved = given + _OFF * np.max(abs(given)) * (noise - np.swapaxes(noise, -1, -2))

    def results(matrix: np.ndarray) -> list[np.ndarray]:
        return domain.results(forward, replaced(problem.given, [i], [matrix]))

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
