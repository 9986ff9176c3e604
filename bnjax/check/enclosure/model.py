r"""How far a right rule may stray: every bound of the checker, and where it comes from.

**The question.**  A rule is run in a finite precision; the reference is known in float64.  How large may
the difference be, element by element, if the rule is right and only rounds?

**The model.**  Every elementary operation returns its exact result times (1 + δ), |δ| ≤ w·r, give or
take the smallest normal number; w is 1 for arithmetic and `_LIBRARY` for exp, log and their kind.  A sum
of m terms in any order is off by at most (m − 1)·u·Σ|a| to first order (Higham 2002, §4.2), u the roundoff
of the accumulator, which XLA keeps at float32 or wider.  Moving, selecting, comparing, negating: exact.

**The bound.**  `enclose` runs the reference's own program (autodiff of the primal, as a jaxpr) in float64
and carries beside each number v a radius e that contains the rounded v: the running error analysis of
Higham §3.3, in ball arithmetic so that it stays true where a divisor or a root comes near zero::

    a ± b      e_a + e_b + r·|v|                     Σ a        Σ e_a + s(m)·Σ|a| + r·|v|
    a · b      |a|·e_b + |b|·e_a + e_a·e_b + r·|v|   a · B      likewise, each sum with s(m)
    a / b      (e_a + |v|·e_b)/(|b| − e_b) + r·|v|   f(a)       max |f(a ± e_a) − v| + w·r·|v|
    a > b      undecided where |a − b| ≤ e_a + e_b; a selection by it takes in both branches
    max, sort, and all that is monotone                     from the lower ends of all balls to the upper
    an index   undecided: anything in the array that it points into

A factorization or a triangular solve returns the exact result of a problem near the one it was given:
its ball is the spread of the results at such problems (`nearby`).

So the bound is the reference's conditioning times a roundoff, with nothing in it to tune.  It counts every
operation at the *working* precision, the narrowest of the arguments and results, whatever the
program's casts say: a rule may as well compute in bfloat16 where the primal went to float32.

**The constants.**

| stage | r, an operation | s(m), a sum of m | why |
|---|---|---|---|
| float64 | 2⁻³³ | 2⁻³³ | 2²⁰ roundoffs; no array size enters |
| narrower | 4·u | (m − 1)·2⁻²⁴ | u the dtype's unit roundoff |

In float64 there is room: a sequential sum of 2²⁰ terms, or E[x²] − E[x]² at mean/std = 1000, is inside
2²⁰ roundoffs, and an error in the mathematics is not.  Below it the sum's bound is the theorem's, and 4
allows for a right rule's taking a few steps more than autodiff does.

**The floor.**  Block algorithms (a matrix product, a total minus its parts) are accurate relative to the
largest element of what they return: an element is also allowed r/4 (float64: r) of its leaf's largest.

**What the bound is not.**  It is a worst case: at bfloat16 a term smaller than a few per cent of what it
is added to can hide in it, and a float32 sum of 10⁶ terms is hardly bounded.  That is what float64, the
small shapes and the structured cotangents are for.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Primitive

from bnjax.check.enclosure import float64

LIBRARY = 4  # exp, log, tanh: a few units in the last place on every backend


class Rounding(NamedTuple):
    """The numbers of the model: a pytree, so that one compiled program serves every precision."""

    unit: float  # r
    floor: float  # relative to the leaf's largest element
    sum_fixed: float  # s(m) = sum_fixed + sum_per_term·m
    sum_per_term: float
    tiny: float
    largest: float


class Ball(NamedTuple):
    """An array and the radius of each element, where None is exact.

    Numbers are float64, complex128 or integers, and their radii float64.  A truth value's radius is a truth
    value: whether it could be the other.
    """

    value: Any
    radius: Any


def rounding(dtype: Any) -> Rounding:
    """The model's numbers for rules that work in `dtype` (a floating dtype)."""
    info = jnp.finfo(dtype)
    u = float(info.eps) / 2
    if u <= 2.0**-53:
        return Rounding(2.0**-33, 2.0**-33, 2.0**-33, 0.0, float(info.tiny), float(info.max))
    return Rounding(4 * u, u, 0.0, 2.0**-24, float(info.tiny), float(info.max))


def allowance(ball: Ball, rounding: Rounding, xp: Any = np) -> Any:
    """The bound on |got − value| per element of [probe, *leaf]: the radius, and the leaf's floor."""
    value = ball.value
    if value.size == 0:
        return xp.zeros(value.shape)
    known = xp.where(xp.isfinite(value), abs(value), 0)
    largest = xp.max(known, axis=tuple(range(1, value.ndim)), keepdims=True)
    radius = xp.zeros(value.shape) if ball.radius is None else ball.radius
    return radius + (rounding.floor * largest + rounding.tiny)


def exact(ball: Ball) -> bool:
    """Whether the ball is known to be a point."""
    return ball.radius is None


def rounds(value: Any) -> bool:
    """Whether an array holds numbers that are rounded: floats, complex ones."""
    return jnp.issubdtype(value.dtype, jnp.inexact)


def is_number(value: Any) -> bool:
    """Whether an array holds numbers at all; truth values and random keys are none."""
    return jnp.issubdtype(value.dtype, jnp.number)


def total(a: Any, b: Any) -> Any:
    """The sum of two radii, either of which may be None."""
    return b if a is None else a if b is None else a + b


class Machine(NamedTuple):
    """What computes, numpy or JAX, and the numbers of the model."""

    xp: Any
    rounding: Rounding

    def apply(self, eqn: JaxprEqn, *values: Any) -> Any:
        """What the equation's primitive computes, in float64."""
        return float64.bind(eqn.primitive, eqn.params, values, self.xp)

    def bind(self, primitive: Primitive, params: dict[str, Any], *values: Any) -> Any:
        """What another primitive computes, in float64."""
        return float64.bind(primitive, params, values, self.xp)

    def rounded(self, value: Any, radius: Any, weight: float = 1) -> Ball:
        """A computed number: one more rounding; beyond the largest number nothing is promised.

        An infinity comes from an infinite argument, and is not rounded; nor is what is 0 of numbers that are
        exact: x − x, and 0·y.
        """
        if not rounds(value):
            return Ball(value, radius)
        xp, r, size = self.xp, self.rounding, abs(value)
        finite = xp.isfinite(size)
        radius = (0 if radius is None else radius) + xp.where(finite, weight * r.unit * size, 0)
        radius = radius + xp.where((size == 0) & (radius == 0), 0, r.tiny)
        lost = xp.isnan(radius) | (finite & (size + radius > r.largest))
        return Ball(value, xp.where(lost, np.inf, radius))

    def sum_unit(self, terms: int) -> float:
        """s(m), for a sum of m `terms`."""
        return self.rounding.sum_fixed + self.rounding.sum_per_term * max(terms - 1, 0)

    def radius(self, ball: Ball) -> Any:
        """The radius as an array."""
        if ball.radius is not None:
            return ball.radius
        return self.xp.zeros(ball.value.shape, np.float64 if is_number(ball.value) else np.bool_)

    def doubt(self, ball: Ball) -> Any:
        """Where the value could be another."""
        radius = self.radius(ball)
        return radius if radius.dtype == np.bool_ else radius > 0

    def ends(self, ball: Ball) -> tuple[Any, Any]:
        """The least and the largest number of each ball."""
        if ball.radius is None:
            return ball.value, ball.value
        if not is_number(ball.value):
            return ball.value & ~ball.radius, ball.value | ball.radius
        return ball.value - ball.radius, ball.value + ball.radius

    def apart(self, a: Any, b: Any) -> Any:
        """|a − b|, and 0 where they are the same infinity."""
        return self.xp.where(a == b, 0.0, abs(a - b))
