"""A point where two programs disagree: evaluated exactly, and then by the programs themselves in float64."""

import math
import random
import time
from collections.abc import Callable, Sequence
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.prove.apart import all_apart
from bnjax.prove.differences import find_difference
from bnjax.prove.exact import Arithmetic, evaluate
from bnjax.prove.limits import ENDS
from bnjax.prove.proof import Counterexample
from bnjax.prove.reals import Constant, Enclosure, NotEvaluated, disjoint, enclosure
from bnjax.prove.sizes import Sizes, is_inside, searched
from bnjax.prove.tracing import Argument
from bnjax.prove.trials import (
    Number,
    View,
    anywhere,
    at,
    beside,
    draw,
    far_and_wide,
    fine,
    numeric,
    often_equal,
    simple,
    views,
    wide,
)

_MOST = 2**17  # where no fewer are to be had, at sizes of 1
_POINTS, _FEWER = 24, 4  # points at the first sizes, and at each one after them
_FIRST = 2


def find_counterexample(
    op: Callable,
    primal: Callable,
    arguments: Sequence[Argument],
    deadline: float,
    sizes: Sequence[Sizes] = (),
) -> Counterexample | None:
    """A small point where values or cotangents of op and primal differ; rational values preferred.

    Symbolic sizes are tried at `sizes`, then at 2, 3, 1, 5, mixed and somewhat larger; sizes given as
    numbers are kept.  The points are drawn with a fixed seed.
    """
    symbols = sorted(set().union(*(a.symbols() for a in arguments)))
    fallback: Counterexample | None = None
    tried: list[Sizes] = []
    seen_any = False
    for assigned in (*sizes, *searched(symbols)):
        if assigned in tried or time.monotonic() > deadline:
            continue
        tried.append(assigned)
        points = _POINTS if len(tried) <= _FIRST + len(sizes) else _FEWER
        looked_at = views(op, primal, at(arguments, assigned))
        seen_any |= bool(looked_at)
        for view in looked_at:
            found = _search(view, points, deadline)
            if found is not None and found.float64 is not None:
                return found
            fallback = fallback or found
    if not seen_any:  # all of them are too large for many points
        for view in views(op, primal, at(arguments, dict.fromkeys(symbols, 1)), _MOST):
            found = _search(view, 1, deadline)
            if found is not None:
                return found
    return fallback


def is_decided_somewhere(
    op: Callable,
    primal: Callable,
    arguments: Sequence[Argument],
    deadline: float,
    cases: Sequence[Sizes] = (),
    region: Sequence[str] = (),
) -> bool:
    """Whether a point is found at which no two numbers that are compared are equal.

    Of sizes that are `cases`, where another program may be traced, it is not taken, unless all are; of those
    outside of the `region` never.
    """
    symbols = sorted(set().union(*(a.symbols() for a in arguments)))
    every = [sizes for sizes in (*searched(symbols), *cases) if is_inside(region, sizes)]
    tried = [assigned for assigned in every if assigned not in cases] or every
    small = [v for sizes in tried[:_FEWER] for v in views(op, primal, at(arguments, sizes))]
    least = sorted(every, key=lambda sizes: math.prod(sizes.values()))[:1]
    large = [] if small else [v for sizes in least for v in views(op, primal, at(arguments, sizes), _MOST)]
    for view in small or large[:1]:
        for seed in range(2 * _FEWER):
            if time.monotonic() > deadline:
                return False
            source = random.Random(seed)
            point = [draw(a, source, far_and_wide if large else anywhere) for a in view.arguments]
            if large and all_apart(view.programs, [numeric(value) for value in point]):
                return True
            try:
                for program in view.programs:
                    evaluate(program, point, Arithmetic())
                return True
            except Exception:  # a kink, a pole
                continue
    return False


def _search(view: View, points: int, deadline: float) -> Counterexample | None:
    """The first rational disagreement of a view, or one that is irrational, or one not seen in float64."""
    fallback: Counterexample | None = None
    for seed, number in enumerate(_numbers(view, points)):
        if time.monotonic() > deadline:
            return fallback
        try:
            found = _disagreement(view, random.Random(seed), number)
        except NotEvaluated:
            return None if points == _FEWER else find_difference(view, deadline)
        except Exception:  # a kink, a pole, a fault of the search: this point shows nothing
            continue
        if found is None:
            continue
        if found.float64 and isinstance(found.got, Fraction) and isinstance(found.expected, Fraction):
            return found
        if fallback is None or fallback.float64 is None:
            fallback = found
        if seed >= points // 2 and fallback.float64:
            return fallback
    return fallback


def _numbers(view: View, points: int) -> list[Number]:
    """What is drawn for each point; at the first sizes also what is beside the programs' own numbers."""
    first = [simple, simple if view.differentiated else often_equal]
    numbers = [(wide, fine, fine)[k % 3] if 2 * k >= points else first[k % 2] for k in range(points)]
    marked = beside(view.programs) if points > _FEWER else None
    return numbers + ([marked] * (points // 2) if marked else [])


def _disagreement(view: View, source: random.Random, number: Number) -> Counterexample | None:
    point = {a.name: draw(a, source, number) for a in view.arguments}
    exact = Arithmetic()
    given = list(point.values())
    if not view.differentiated:
        given = list(map(_as_constants, given))
    got, expected = (evaluate(program, given, exact) for program in view.programs)
    unseen = None
    for place, (what, mine, theirs) in enumerate(zip(view.names, got, expected, strict=True)):
        for index in np.ndindex(mine.shape):
            a, b = _real(mine[index]), _real(theirs[index])
            if a is None or b is None or not disjoint(a, b):
                continue
            seen = _in_float64(view, point, place, index)
            values = {name: value.tolist() for name, value in point.items()}
            found = Counterexample(what, index, values, _plain(a), _plain(b), seen)
            if seen is not None:
                return found
            unseen = unseen or found
    return unseen


def _in_float64(
    view: View, point: dict[str, np.ndarray], number: int, index: tuple[int, ...]
) -> tuple[float, float] | None:
    """The two numbers as the programs themselves give them; None where float64 shows no difference."""
    with jax.enable_x64(True):
        arrays = [jnp.asarray(numeric(value)) for value in point.values()]
        try:
            a, b = (float(run(*arrays)[number][index]) for run in view.runs)
        except ENDS:
            raise
        except BaseException:  # the user's code, in float64
            return None
    far = abs(a - b) > 1e-9 * max(abs(a), abs(b), 1e-3)
    return (a, b) if far or math.isnan(a) != math.isnan(b) else None


def _as_constants(value: np.ndarray) -> np.ndarray:
    result = value.copy()
    for index in np.ndindex(value.shape):
        if type(value[index]) is Fraction:
            result[index] = Constant(value[index])
    return result


def _real(value: object) -> Fraction | Enclosure | None:
    """An entry as a number; None for NaN and infinity."""
    if isinstance(value, bool | int):
        return Fraction(int(value))
    return value if isinstance(value, Fraction | Enclosure) else None


def _plain(value):
    interval = enclosure(value)
    return interval.low if interval.low == interval.high else (interval.low, interval.high)
