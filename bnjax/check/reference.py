"""What should come back: the primal's own VJP in float64, an enclosure beside each number."""

import functools
import itertools
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, Protocol

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from bnjax.check import enclosure, probes
from bnjax.check.enclosure import Ball, Rounding
from bnjax.check.problem import Problem
from bnjax.check.programs import Outcome
from bnjax.jaxprs import replaced

_ORDERED = 3  # arrays that are moved in every order
_JUMP = 2.0**-20  # of the largest element: what no smooth program changes by within a hair
_NEAR = 2.0**-6  # of a jump, at most: how its sides, where x is a hair from 0, are rounded, as (eˣ − 1)/x
_SIDE = 2.0**-16  # of a jump: what a steep side of it, as that of √(x² + ε), may change by within a hair
KINKS = frozenset({
    *("max", "min", "abs", "sign", "floor", "ceil", "round", "clamp", "gt", "lt", "ge", "le", "eq", "ne"),
    *("reduce_max", "reduce_min", "argmax", "argmin", "sort", "top_k", "cummax", "cummin"),
    *("reduce_window_max", "reduce_window_min", "select_and_scatter_add", "select_and_gather_add"),
    "convert_element_type",  # to an integer, as floor
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

    def widened(self) -> "Expected | None":
        """The same with kinks taken in; None where there are none."""


@dataclass(frozen=True)
class Reference:
    """Balls, [row, *leaf], about what should come back, and the precision that is allowed for.

    `wider` makes the balls that take in kinks, which takes as long again twice: only where they matter.
    """

    results: Sequence[Ball]
    others: Sequence[Ball]
    cotangents: Sequence[Ball]
    rounding: Rounding
    kinks: int = 0  # elements at which the primal has no derivative
    wider: Callable[[], "Reference"] | None = None

    def widened(self) -> "Reference | None":
        """The same with kinks taken in; None where there are none."""
        return None if self.wider is None else self.wider()

    def silent_at_kinks(self) -> "Reference":
        """With nothing said of each number at a kink, for a rule that takes all ties by one convention.

        Of several in one sum, as the nearest of equal points is for each other point, it takes the first
        everywhere; what moves the points brings that about for some and not for others.
        """

        def wider() -> Reference:
            wide = self.widened()
            assert wide is not None

            def room(ball: Ball, wide: Ball) -> Any:
                axes = tuple(range(1, ball.value.ndim))
                row = np.max(abs(ball.value), axis=axes, keepdims=True, initial=0)
                return np.where(radius(wide) - radius(ball) > _JUMP * row, np.inf, 0)

            return wide._roomier(list(map(room, self.cotangents, wide.cotangents)))

        return self if self.wider is None else replace(self, wider=wider)

    def _changed(self, change: Callable[["Reference"], "Reference"]) -> "Reference":
        wider = self.wider
        return replace(change(self), wider=None if wider is None else lambda: change(wider()))

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Of the floating results, rows included."""
        return [b.value.shape for b in self.results]

    def weigh(self, outcome: Outcome, xp: Any = np) -> list[Worst]:
        """The worst of every leaf: of the results, then of the cotangents."""
        leaves = [*outcome.results, *outcome.cotangents]
        balls = [*self.results, *self.cotangents]
        return [worst(got, ball, self.rounding, xp) for got, ball in zip(leaves, balls, strict=True)]

    def beside(self, ordinary: "Reference") -> "Reference":
        """With every row's floor raised to that of the same row at an ordinary point.

        Where s(1 − s) is all that is left of a derivative a right rule may round it to 0, while the
        reference knows it to the last digit.
        """

        def room(ball: Ball) -> Any:
            known = np.where(np.isfinite(ball.value), abs(ball.value), 0)
            axes = tuple(range(1, known.ndim))
            return self.rounding.floor * np.max(known, axis=axes, keepdims=True, initial=0)

        return self._roomier(list(map(room, ordinary.cotangents)))

    def slopes(self, cotangents: Sequence[np.ndarray]) -> list[float]:
        """Of each cotangent the largest number that it has for a dy of at most 1, among the rows."""
        sizes = _sizes(cotangents)

        def steepest(ball: Ball) -> float:
            known = np.where(np.isfinite(ball.value), abs(ball.value), 0).reshape(len(sizes), -1)
            largest = np.max(known, axis=1, initial=0)
            return float(np.max(np.where(sizes > 0, largest / np.maximum(sizes, 1e-300), 0), initial=0))

        return list(map(steepest, self.cotangents))

    def beside_slopes(
        self, slopes: Sequence[float], cotangents: Sequence[np.ndarray], share: float
    ) -> "Reference":
        """With room for a share of the slopes, for the same reason: where y is nearly 1, 1 − y is rounded."""
        sizes = _sizes(cotangents)
        rooms = [
            share * slope * sizes.reshape(-1, *[1] * (ball.value.ndim - 1))
            for slope, ball in zip(slopes, self.cotangents, strict=True)
        ]
        return self._roomier(rooms)

    def beside_solver(self, own: "Reference") -> "Reference":
        """With room for the rounding of the op's own program, wrong or right, as far as it is known.

        Autodiff of a determinant divides by no matrix; a rule may, and loses what its condition says.
        """
        radii = [radius(ball) for ball in own.cotangents]
        return self._roomier([np.where(np.isfinite(r), r, 0.0) for r in radii])

    def _roomier(self, rooms: Sequence[Any]) -> "Reference":
        def change(r: Reference) -> Reference:
            pairs = zip(r.cotangents, rooms, strict=True)
            return replace(r, cotangents=[Ball(ball.value, radius(ball) + room) for ball, room in pairs])

        return self._changed(change)

    def by_elements(self, hot: Sequence[int], cotangents: Sequence[np.ndarray]) -> "Reference":
        """With room for a rule that rounds the Jacobian's elements J before it sums: r·Σ|dy|·|J|.

        Where the primal's own program never does, its bound is less: dy·(1 + b) as Σ dy + Σ dy·b.  `hot` are
        the rows of the one-hot cotangents, which are J.
        """
        weights = abs(np.concatenate([c.reshape(len(c), -1) for c in cotangents], axis=1))

        def room(ball: Ball) -> Any:
            jacobian = np.nan_to_num(abs(ball.value[hot]), posinf=0.0)
            return self.rounding.unit * np.tensordot(weights, jacobian, 1)

        return self._roomier(list(map(room, self.cotangents)))

    def about(self, outcome: Outcome) -> "Reference":
        """The same bounds, doubled, about what the op itself returned, right or wrong."""

        def own(got: Sequence[Any], balls: Sequence[Ball]) -> list[Ball]:
            pairs = zip(got, balls, strict=True)
            return [
                Ball(np.asarray(g, np.float64), 2 * enclosure.allowance(b, self.rounding)) for g, b in pairs
            ]

        return self._changed(
            lambda r: replace(
                r,
                results=own(outcome.results, r.results),
                cotangents=own(outcome.cotangents, r.cotangents),
            )
        )

    def without(self, places: Container[int]) -> "Reference":
        """With nothing said of the cotangents at these places."""

        def silent(r: Reference) -> Reference:
            cotangents = [
                Ball(b.value, np.full(b.value.shape, np.inf)) if j in places else b
                for j, b in enumerate(r.cotangents)
            ]
            return replace(r, cotangents=cotangents)

        return self._changed(silent)

    def value(self) -> "Reference":
        """The results alone."""
        return self._changed(lambda r: replace(r, cotangents=[]))

    def rows(self, chosen: Sequence[int]) -> "Reference":
        """A few of the cotangents' rows."""

        def few(ball: Ball) -> Ball:
            return Ball(ball.value[chosen], radius(ball)[chosen])

        return self._changed(lambda r: replace(r, cotangents=list(map(few, r.cotangents))))


def _sizes(cotangents: Sequence[np.ndarray]) -> np.ndarray:
    """The largest number in each row of cotangents."""
    return np.max(abs(np.concatenate([c.reshape(len(c), -1) for c in cotangents], axis=1)), axis=1, initial=0)


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
    largest, widest = (xp.max(xp.where(known, a, 0)) for a in (abs(ball.value), bound))
    telling = known & ((widest <= largest) | (largest == 0))  # else all is rounding, as at singular matrices
    ratio = xp.where(xp.isfinite(got), ratio, xp.where(telling, np.inf, 0)).reshape(rows, -1)
    shown = xp.any((known & (abs(ball.value) > 2 * bound)).reshape(rows, -1), axis=1)
    place = xp.argmax(ratio, axis=1)
    at = (xp.arange(rows), place)
    numbers = (a.reshape(rows, -1)[at] for a in (got, ball.value, bound))
    return Worst(ratio[at], place, shown, *numbers)


def reference(
    problem: Problem, jaxpr: ClosedJaxpr, arguments: tuple[Any, Any], rounding: Rounding, *, kinks: bool
) -> Reference:
    """`jaxpr`, a `vjp_program` of the primal, at (arrays, cotangents)."""
    return of_program(problem, jaxpr, arguments, rounding, kinks=kinks, order=1)


def of_program(
    problem: Problem,
    jaxpr: ClosedJaxpr,
    arguments: tuple[Any, Any],
    rounding: Rounding,
    *,
    kinks: bool,
    order: int,
) -> Reference:
    """The same of a `second_order_program`, which returns cotangents alone, where `order` is 2."""

    def wider() -> Reference:
        balls, count = widened(problem, jaxpr, arguments, rounding)
        return replace(split(problem, balls, rounding, order), kinks=count)

    balls = enclosure.enclose(jaxpr, [*arguments[0], *arguments[1]], rounding)
    found = split(problem, balls, rounding, order)
    return replace(found, wider=wider) if kinks else found


def split(problem: Problem, balls: Sequence[Ball], rounding: Rounding, order: int = 1) -> Reference:
    """The balls of a program's leaves, told apart."""
    last = len(balls) - len(problem.floats) if order == 1 else 0
    count = sum(jnp.issubdtype(b.value.dtype, jnp.floating) for b in balls[:last])
    return Reference(balls[:count], balls[count:last], balls[last:], rounding)


def widened(
    problem: Problem, jaxpr: ClosedJaxpr, arguments: tuple[Any, Any], rounding: Rounding, xp: Any = np
) -> tuple[list[Ball], int]:
    """The enclosures of a program's results, wider at a kink, and how many elements lie at one.

    Where the values a hair to either side differ, any of them, and what is between, is right: a derivative's
    convention at a kink is not the checker's to choose.  The floats are moved all at once, then each argument
    alone: a bias moves every sum to the same side, what is summed moves some to the one, some to the other;
    then apart from each other, in every order: a number lies between two bounds that were equal to it.
    """
    arrays, rest = arguments
    moves = [{}, *_moves(problem.floats)]
    largest = functools.reduce(xp.maximum, (_largest(arrays[i], xp) for i in problem.floats))
    wide = xp.where(largest > 0, xp.minimum(largest, 1), 1)
    runs = [
        enclosure.enclose(jaxpr, [*_moved(arrays, move, wide, xp), *rest], rounding, xp) for move in moves
    ]
    found, count = [], 0
    for ball, *sides in zip(*runs, strict=True):
        if jnp.issubdtype(ball.value.dtype, jnp.floating):
            low = functools.reduce(xp.minimum, (s.value for s in sides), ball.value)
            high = functools.reduce(xp.maximum, (s.value for s in sides), ball.value)
            jump = xp.where(xp.isnan(high - low), 0, high - low)
            if xp is np:
                count += int(np.sum(jump > _JUMP * np.max(abs(ball.value), initial=0)))
            center = xp.where(jump > 0, (low + high) / 2, ball.value)
            rounded = functools.reduce(xp.maximum, (s.radius for s in sides if s.radius is not None), 0)
            half = jump / 2 * (1 + _SIDE) + xp.minimum(xp.where(xp.isnan(rounded), 0, rounded), _NEAR * jump)
            ball = Ball(center, half if ball.radius is None else ball.radius + half)
        found.append(ball)
    return found, count


def _moves(floats: Sequence[int]) -> Iterator[dict[int, float]]:
    """Where to the arrays are moved: as many hairs, up if they are positive."""
    for which in (floats, *((i,) for i in floats if len(floats) > 1)):
        yield from (dict.fromkeys(which, sign) for sign in (1.0, -1.0))
    if 1 < len(floats) <= _ORDERED:
        for order in itertools.permutations(np.linspace(-1, 1, len(floats))):
            yield dict(zip(floats, map(float, order), strict=True))


def _moved(arrays: Sequence[Any], move: Mapping[int, float], wide: Any, xp: Any) -> list[Any]:
    """Some of the arrays a hair to one side, zeros by as much as the largest of their array.

    The later in an array, the further: of equal numbers the last is then the largest, on the other side the
    first, which are the two that a rule may take to be it.  An array of zeros alone moves by `wide` hairs.
    """

    def moved(i: int) -> Any:
        count, largest = np.size(arrays[i]), _largest(arrays[i], xp)
        steps = np.arange(count) + probes.generator(i).uniform(0, 0.5, count)  # no two too near each other
        hair = (0.5 + 0.5 * steps.reshape(np.shape(arrays[i])) / max(count, 1)) * move[i] * 2.0**-40
        size = xp.maximum(_magnitude(arrays[i], xp), 2.0**-12 * largest)
        return arrays[i] + hair * xp.where(arrays[i] == 0, xp.where(largest > 0, largest, wide), size)

    return replaced(arrays, list(move), list(map(moved, move)))


def _largest(array: Any, xp: Any) -> Any:
    return xp.max(_magnitude(array, xp), initial=0)


def _magnitude(array: Any, xp: Any) -> Any:
    return abs(xp.where(xp.isfinite(array), array, 0))
