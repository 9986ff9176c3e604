"""Theorem 31's two bounds on ∇istd, as data; and whether a gradient keeps them and reaches them, in float64.

A bound is kept by its square, a product of powers of n − 1, n and ε, so that the certificates of `smoothness`
can take it exactly and this file can take its root.  Points prove nothing for all x; they show that the
numbers which the programs return are those that the certificates are about.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np

from bnjax.theorems import gradient_norm_bound, inverse_stddev, partial_derivative_bound
from bnjax.theorems.inverse_stddev import inverse_stddev_primal

# float64's unit roundoff is 1.1e-16; a gradient of n ≤ 33 takes some tens of roundings, and is flat in σ²
# where a bound is reached
SLACK = 1e-13


class Bound(NamedTuple):
    """A bound whose square is constant · (n − 1)^others · n^size · ε^eps."""

    constant: Fraction
    others: int = 0
    size: int = 0
    eps: int = 0

    def at(self, n: int, eps: float) -> float:
        """The bound itself."""
        return (
            math.sqrt(self.constant * (n - 1) ** self.others) * n ** (self.size / 2) * eps ** (self.eps / 2)
        )


NORM_BOUND = Bound(Fraction(4, 27), size=-1, eps=-2)  # 2/(3√3·ε·√n)
ENTRY_BOUND = Bound(Fraction(4, 27), others=1, size=-2, eps=-2)  # √(n−1)/n · 2/(3√3·ε)


@dataclass(frozen=True)
class GradientBounds:
    """The claim that the gradient of istd which `op`'s VJP returns has these least bounds."""

    name: str
    op: Callable[..., Any] = inverse_stddev
    primal: Callable[..., Any] = inverse_stddev_primal
    norm: Bound = NORM_BOUND
    entry: Bound = ENTRY_BOUND


STATED = GradientBounds("theorem 31")


class Point(NamedTuple):
    """A batch, an ε, and which of the bounds is reached there."""

    x: np.ndarray
    eps: float
    reaches_norm: bool = False
    reaches_entry: bool = False


def bounds_are_computed() -> bool:
    """Whether `gradient_norm_bound` and `partial_derivative_bound` return the theorem's two bounds."""
    with jax.enable_x64(True):
        return all(
            math.isclose(computed(n, eps), bound.at(n, eps), rel_tol=SLACK)
            for computed, bound in (
                (gradient_norm_bound, NORM_BOUND),
                (partial_derivative_bound, ENTRY_BOUND),
            )
            for n in (1, 2, 3, 8, 131_072)
            for eps in (1e-5, 0.3, 4.0)
        )


def bounds_are_reached(claim: GradientBounds) -> bool:
    """Whether ‖g‖ and max |g_i| keep the bounds on drawn points, and reach them where they can be."""
    with jax.enable_x64(True):
        return all(_holds_at(claim, point) for point in _points())


def _holds_at(claim: GradientBounds, point: Point) -> bool:
    _, vjp = jax.vjp(claim.op, point.x, np.float64(point.eps))
    gradient, _ = vjp(np.float64(1))
    n = point.x.size
    pairs = (
        (np.linalg.norm(gradient), claim.norm.at(n, point.eps), point.reaches_norm),
        (np.max(np.abs(gradient)), claim.entry.at(n, point.eps), point.reaches_entry),
    )
    return all(
        value <= bound * (1 + SLACK) and (not reached or value >= bound * (1 - SLACK))
        for value, bound, reached in pairs
    )


def _points() -> Iterator[Point]:
    """For each n and ε: a constant batch, drawn ones, and those where a bound is reached."""
    rng = np.random.default_rng(31)
    for n in (1, 2, 3, 8, 33):
        for eps in (1e-5, 0.3, 4.0):
            yield Point(np.full(n, 0.75), eps, reaches_entry=n == 1)
            for scale in (0.1, 0.5, 0.7, 1.0, 3.0):
                yield Point(rng.normal(size=n) * scale * math.sqrt(eps), eps)
            if n > 1:
                yield Point(
                    _of_variance(rng.normal(size=n), eps / 2), eps, reaches_norm=True, reaches_entry=n == 2
                )
                outlier = np.where(np.arange(n) == rng.integers(n), n - 1.0, -1.0)
                for sign in (1, -1):
                    yield Point(
                        _of_variance(sign * outlier, eps / 2), eps, reaches_norm=True, reaches_entry=True
                    )


def _of_variance(x: np.ndarray, variance: float) -> np.ndarray:
    x = x - np.mean(x)
    return x * math.sqrt(variance / np.mean(np.square(x)))
