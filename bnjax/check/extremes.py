"""Data past the ordinary, on which the value alone is looked at: large and small numbers, ties, zeros.

Half of the numbers stay as they are: where all are large, or 0, nothing may be left to see.  Which are 0 is
drawn, so that one argument's zeros meet another's ordinary numbers.  Small ones are a whole row and a column,
or a whole vector: so is their norm.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from bnjax.check import probes

SCALES = (10.0, 100.0, 1e4, 1e8)
SMALL_SCALES = ((0.3, 1e-2), (1e-2, 1e-4), (1e-4, 1e-6), (1e-6, 1e-8), (1e-8, 1e-10))  # from, to
TIMES = (0.05, 20.0)  # a positive parameter of its own
OVERFLOW = 150.0  # exp overflows at 709 and its fourth power here: a right rule may, too


class Draw(NamedTuple):
    """What numbers may be made of.

    Attributes:
      pool: those that ties are between.
      signed: whether they may be of either sign.
      rng: of the argument.
    """

    pool: np.ndarray
    signed: bool
    rng: np.random.Generator


class Extreme(NamedTuple):
    """A kind of data.

    Attributes:
      name: what a report calls it.
      fill: of an argument's ordinary numbers.
      only: the one float argument that it is of; None for all.
      parameters: whether it is of positive parameters, which others leave as they are.
      zeros: whether there are zeros among them.
      equal: whether numbers are made equal that were not.
    """

    name: str
    fill: Callable[[np.ndarray, Draw], np.ndarray]
    only: int | None = None
    parameters: bool = False
    zeros: bool = False
    equal: bool = False


def extremes(count: int) -> list[Extreme]:
    """These kinds for `count` float arguments: each up to 10 by itself, then all, further and further.

    Then small ones, which is where a series takes over, ties and zeros: scattered, and a whole row and column
    of them, which is where a norm is 0; one argument all 0, or without any variance; a parameter by itself.
    """
    arguments = range(count)
    first, *further = SCALES
    return [
        *(Extreme(f"argument {j} up to ±{first:g}", partial(_large, scale=first), j) for j in arguments),
        *(Extreme(f"up to ±{s:g}", partial(_large, scale=s)) for s in (further if count == 1 else SCALES)),
        *(Extreme(f"down to ±{low:g}", partial(_small, high=high, low=low)) for high, low in SMALL_SCALES),
        Extreme("ties", _ties, equal=True),
        Extreme("zeros", _zeros, zeros=True, equal=True),
        Extreme("a row and a column of zeros", _cross_of_zeros, zeros=True, equal=True),
        *(kind for j in arguments for kind in _alone(j)),
        *(
            Extreme(f"argument {j} times {t:g}", partial(_times, factor=t), j, parameters=True)
            for j in arguments
            for t in TIMES
        ),
    ]


def _alone(j: int) -> list[Extreme]:
    return [
        Extreme(f"argument {j} all 0", lambda values, _: np.zeros(values.shape), j, zeros=True, equal=True),
        Extreme(f"argument {j} all equal", lambda values, _: np.full(values.shape, 0.125), j, equal=True),
        Extreme(f"argument {j} equal along the last axis", _equal_along_the_last_axis, j, equal=True),
    ]


def _large(values: np.ndarray, draw: Draw, *, scale: float) -> np.ndarray:
    """Every other number."""
    some = np.zeros(values.shape, bool)
    some.reshape(-1)[::2] = True
    return _spread(values, some, draw, (scale, 0.1))


def _small(values: np.ndarray, draw: Draw, *, high: float, low: float) -> np.ndarray:
    return _spread(values, _cross(values.shape), draw, (high, low / high))


def _spread(values: np.ndarray, some: np.ndarray, draw: Draw, to: tuple[float, float]) -> np.ndarray:
    """`some` of them from the scale down to this share of it, no two the same, and no two scalars."""
    scale, least = to
    count = np.count_nonzero(some)
    one = 0.95 - draw.rng.uniform(0.01, 0.1)
    steps = np.geomspace(0.95, least, count) if count > 1 else np.array([one])
    sign = -1.0 if scale == SCALES[1] else 1.0
    signs = np.where(np.arange(count) % 2, -sign, sign) if draw.signed else np.ones(count)
    moved = values.copy()
    moved[some] = scale * steps * signs
    return moved


def _ties(values: np.ndarray, draw: Draw) -> np.ndarray:
    return probes.generator(values.size).choice(draw.pool[:2], size=values.size).reshape(values.shape)


def _zeros(values: np.ndarray, draw: Draw) -> np.ndarray:
    moved = values.copy()
    moved.reshape(-1)[draw.rng.permutation(values.size)[::2]] = 0.0
    return moved


def _cross_of_zeros(values: np.ndarray, draw: Draw) -> np.ndarray:
    return np.where(_cross(values.shape), 0.0, values)


def _equal_along_the_last_axis(values: np.ndarray, draw: Draw) -> np.ndarray:
    """In eighths: their sums, and so their means, are exact."""
    rows = values.shape[:-1]
    eighths = 1 + draw.rng.permutation(max(1, math.prod(rows)))
    return np.broadcast_to(eighths.reshape((*rows, *[1] * (values.ndim > 0))) / 8, values.shape).copy()


def _times(values: np.ndarray, draw: Draw, *, factor: float) -> np.ndarray:
    return values * factor


def _cross(shape: tuple[int, ...]) -> np.ndarray:
    """The first row and the first column, or all of a vector."""
    some = np.ones(shape, bool)
    if len(shape) > 1:
        some[1:, ..., 1:] = False
    return some
