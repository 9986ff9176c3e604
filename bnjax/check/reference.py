"""What should come back: the primal's own VJP in float64, an enclosure beside each number."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from bnjax.check import enclosure, probes
from bnjax.check.enclosure import Ball, Rounding
from bnjax.check.problem import Problem
from bnjax.check.programs import Outcome

_JUMP = 2.0**-20  # of the largest element: what no smooth program changes by within a hair
KINKS = frozenset({
    *("max", "min", "abs", "sign", "floor", "ceil", "round", "clamp", "gt", "lt", "ge", "le", "eq", "ne"),
    *("reduce_max", "reduce_min", "argmax", "argmin", "sort", "top_k", "cummax", "cummin"),
    *("reduce_window_max", "reduce_window_min", "select_and_scatter_add", "select_and_gather_add"),
})  # fmt: skip


class Worst(NamedTuple):
    """Of one leaf, [row, *leaf], for each row: the element that is furthest from its bound."""

    ratio: Any  # |got − value| / bound; 0 where there is no finite reference
    place: Any  # in the flattened leaf
    shown: Any  # whether 0 in its stead would have failed: there is evidence
    got: Any
    value: Any
    bound: Any


class Expected(Protocol):
    """What an outcome is held to."""

    @property
    def shapes(self) -> Sequence[tuple[int, ...]]:
        """Of the floating results, rows included."""

    @property
    def others(self) -> Sequence[Ball] | None:
        """The other results; None where they are not compared."""

    def weigh(self, outcome: Outcome) -> list[Worst]:
        """The worst of every leaf: of the results, then of the cotangents."""


@dataclass(frozen=True)
class Reference:
    """Balls, [row, *leaf], about what should come back, and the precision that is allowed for."""

    results: Sequence[Ball]
    others: Sequence[Ball]
    cotangents: Sequence[Ball]
    rounding: Rounding
    kinks: int = 0  # elements of the cotangents at which the primal has no derivative

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the floating results, rows included."""
        return [b.value.shape for b in self.results]

    def weigh(self, outcome: Outcome, xp: Any = np) -> list[Worst]:
        """The worst of every leaf: of the results, then of the cotangents."""
        leaves = [*outcome.results, *outcome.cotangents]
        balls = [*self.results, *self.cotangents]
        return [worst(got, ball, self.rounding, xp) for got, ball in zip(leaves, balls, strict=True)]

    def coarse(self) -> "Reference":
        """With the floor of every cotangent's row raised to that of the whole leaf.

        Where s(1 − s) is all that is left of a derivative a right rule may round it to 0, while the
        reference knows it to the last digit.
        """

        def raised(ball: Ball) -> Ball:
            finite = abs(ball.value[np.isfinite(ball.value)])
            return Ball(ball.value, radius(ball) + self.rounding.floor * np.max(finite, initial=0))

        return replace(self, cotangents=list(map(raised, self.cotangents)))

    def about(self, outcome: Outcome) -> "Reference":
        """The same bounds, doubled, about what the op itself returned, right or wrong."""
        results = [self._about(*pair) for pair in zip(outcome.results, self.results, strict=True)]
        cotangents = [self._about(*pair) for pair in zip(outcome.cotangents, self.cotangents, strict=True)]
        return replace(self, results=results, cotangents=cotangents)

    def _about(self, got: Any, ball: Ball) -> Ball:
        return Ball(np.asarray(got, np.float64), 2 * enclosure.allowance(ball, self.rounding))

    def rows(self, chosen: Sequence[int]) -> "Reference":
        """A few of the cotangents' rows."""
        return replace(self, cotangents=[Ball(b.value[chosen], radius(b)[chosen]) for b in self.cotangents])


def radius(ball: Ball) -> Any:
    """A ball's radius as an array."""
    return np.zeros(ball.value.shape) if ball.radius is None else ball.radius


def worst(got: Any, ball: Ball, rounding: Rounding, xp: Any = np) -> Worst:
    """`Worst` of one leaf.  Elements without a finite reference are left out."""
    rows = len(ball.value)
    if ball.value.size == 0:
        return Worst(*(np.zeros(rows) for _ in range(6)))
    bound = enclosure.allowance(ball, rounding, xp)
    got = xp.asarray(got).astype(np.float64)
    known = xp.isfinite(ball.value) & xp.isfinite(bound)
    ratio = xp.where(known, abs(got - ball.value) / bound, 0)
    ratio = xp.where(known & ~xp.isfinite(got), np.inf, ratio).reshape(rows, -1)
    shown = xp.any((known & (abs(ball.value) > 2 * bound)).reshape(rows, -1), axis=1)
    place = xp.argmax(ratio, axis=1)
    at = (xp.arange(rows), place)
    numbers = (a.reshape(rows, -1)[at] for a in (got, ball.value, bound))
    return Worst(ratio[at], place, shown, *numbers)


def reference(
    problem: Problem, jaxpr: ClosedJaxpr, arguments: tuple[Any, Any], rounding: Rounding, *, kinks: bool
) -> Reference:
    """`jaxpr`, a `vjp_program` of the primal, at (arrays, cotangents)."""
    return split(problem, *enclosed(problem, jaxpr, arguments, rounding, kinks=kinks), rounding)


def split(problem: Problem, balls: Sequence[Ball], count_kinks: int, rounding: Rounding) -> Reference:
    """The balls of a `vjp_program`'s leaves, told apart."""
    last = len(balls) - len(problem.floats)
    count = sum(jnp.issubdtype(b.value.dtype, jnp.floating) for b in balls[:last])
    return Reference(balls[:count], balls[count:last], balls[last:], rounding, count_kinks)


def enclosed(
    problem: Problem,
    jaxpr: ClosedJaxpr,
    arguments: tuple[Any, Sequence[Any]],
    rounding: Rounding,
    *,
    kinks: bool,
    xp: Any = np,
) -> tuple[list[Ball], int]:
    """The enclosures of a program's results, wider at a kink, and how many elements lie at one.

    Where the values a hair to either side differ, either of the two, and what is between, is right: a
    derivative's convention at a kink is not the checker's to choose.
    """
    arrays, rest = arguments
    balls = enclosure.enclose(jaxpr, [*arrays, *rest], rounding, xp)
    if not kinks:
        return balls, 0
    sides = [
        enclosure.enclose(jaxpr, [*_moved(problem, arrays, sign, xp), *rest], rounding, xp)
        for sign in (1, -1)
    ]
    widened, count = [], 0
    for ball, one, other in zip(balls, *sides, strict=True):
        if jnp.issubdtype(ball.value.dtype, jnp.floating):
            jump = 2 * xp.maximum(abs(one.value - other.value), abs(one.value - ball.value))
            jump = xp.where(xp.isnan(jump), 0, jump)
            if xp is np:
                count += int(np.sum(jump > _JUMP * np.max(abs(ball.value), initial=0)))
            ball = Ball(ball.value, jump if ball.radius is None else ball.radius + jump)
        widened.append(ball)
    return widened, count


def _moved(problem: Problem, arrays: Sequence[Any], sign: int, xp: Any) -> list[Any]:
    """The floats a hair to one side, all of them at once."""

    def moved(i: int) -> Any:
        hair = probes.generator(i).uniform(0.5, 1, np.shape(arrays[i])) * sign * 2.0**-40
        size = abs(xp.where(xp.isfinite(arrays[i]), arrays[i], 0))
        return arrays[i] + hair * xp.maximum(size, 2.0**-12 * xp.max(size, initial=2.0**-88))

    return problem.put(arrays, list(map(moved, problem.floats)))
