"""A point where two programs disagree: evaluated exactly, and then by the programs themselves in float64."""

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from bnjax.prove.apart import all_apart
from bnjax.prove.exact import Arithmetic, evaluate
from bnjax.prove.limits import ENDS
from bnjax.prove.reals import Constant, Enclosure, NotEvaluated, disjoint, enclosure
from bnjax.prove.sizes import Sizes, searched
from bnjax.prove.tracing import Argument, pullback, split, trace

_ELEMENTS = 4096  # of the largest argument: exact arithmetic is slow
_MOST = 2**17  # where no fewer are to be had, at sizes of 1
_POINTS, _FEWER = 24, 4  # points at the first sizes, and at each one after them
_FIRST = 2
_SHOWN = 256  # numbers of an array


@dataclass(frozen=True)
class Counterexample:
    """Inputs (nested lists of rationals) at which `what` differs.

    `got` is what op gives and `expected` what primal gives, exactly: a rational, or the two rationals that
    enclose an irrational number.  `float64` are the two numbers that the programs themselves return; None
    where they show no difference, and then this is no refutation.
    """

    what: str
    index: tuple[int, ...]
    point: dict[str, object]
    got: Fraction | tuple[Fraction, Fraction]
    expected: Fraction | tuple[Fraction, Fraction]
    float64: tuple[float, float] | None

    def __str__(self) -> str:
        inputs = ", ".join(f"{name} = {_text(value)}" for name, value in self.point.items())
        place = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        seen = "" if self.float64 is None else " (in float64: {:.12g} and {:.12g})".format(*self.float64)
        values = f"the op gives {_number(self.got)}, the primal {_number(self.expected)}"
        return f"counterexample: {inputs}\n  {self.what}{place}: {values}{seen}"


class _Label(Constant):
    """An integer of an integer argument."""


class _View(NamedTuple):
    """Two programs of the same arguments, which are to agree, and the functions that they are traces of.

    Where nothing is differentiated, numbers that are compared may be equal: a value has no kinks.
    """

    names: tuple[str, ...]
    arguments: tuple[Argument, ...]
    programs: tuple[ClosedJaxpr, ClosedJaxpr]
    runs: tuple[Callable[..., list[jax.Array]], Callable[..., list[jax.Array]]]
    differentiated: bool


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
        views = _views(op, primal, _at(arguments, assigned))
        seen_any |= bool(views)
        for view in views:
            found = _search(view, points, deadline)
            if found is not None and found.float64 is not None:
                return found
            fallback = fallback or found
    if not seen_any:  # all of them are too large for many points
        for view in _views(op, primal, _at(arguments, dict.fromkeys(symbols, 1)), _MOST):
            found = _search(view, 1, deadline)
            if found is not None:
                return found
    return fallback


def is_decided_somewhere(
    op: Callable, primal: Callable, arguments: Sequence[Argument], deadline: float
) -> bool:
    """Whether a point is found at which no two numbers that are compared are equal."""
    symbols = sorted(set().union(*(a.symbols() for a in arguments)))
    small = [
        v for assigned in searched(symbols)[:_FEWER] for v in _views(op, primal, _at(arguments, assigned))
    ]
    large = [] if small else _views(op, primal, _at(arguments, dict.fromkeys(symbols, 1)), _MOST)
    for view in small or large[:1]:
        for seed in range(2 * _FEWER):
            if time.monotonic() > deadline:
                return False
            source = random.Random(seed)
            point = [_draw(a, source, _far_and_wide if large else _anywhere) for a in view.arguments]
            if large and all_apart(view.programs, [_numeric(value) for value in point]):
                return True
            try:
                for program in view.programs:
                    evaluate(program, point, Arithmetic())
                return True
            except Exception:  # a kink, a pole
                continue
    return False


def _at(arguments: Sequence[Argument], sizes: Sizes) -> tuple[Argument, ...]:
    return tuple(a.at(sizes) for a in arguments)


def _views(
    op: Callable, primal: Callable, arguments: tuple[Argument, ...], most: int = _ELEMENTS
) -> list[_View]:
    """What is compared at one size: the functions under differentiation, and called as they are."""
    try:
        programs = trace(op, primal, arguments)
    except ENDS:
        raise
    except BaseException:  # a size the user's code does not take
        return []
    if max((math.prod(a.shape()) for a in (*arguments, *programs.cotangents)), default=1) > most:
        return []
    count = len(programs.cotangents)
    outputs = tuple(f"output {k}" if k else "the output" for k in range(count))
    others = tuple(f"undifferentiated output {k}" for k in range(len(programs.primal.out_avals) - count))
    cotangents = tuple(f"the cotangent of {a.name}" for a in arguments if a.differentiated)

    def plain(function: Callable) -> Callable[..., list[jax.Array]]:
        def run(*args):
            floats, rest, _ = split(function, args)
            return [*floats, *rest]

        return jax.jit(run)

    def differentiated(function: Callable) -> Callable[..., list[jax.Array]]:
        run = pullback(function, arguments)
        return jax.jit(lambda *args: run(args[:count], *args[count:]))

    return [
        _View(
            (*outputs, *cotangents, *others),
            (*programs.cotangents, *arguments),
            (programs.op_vjp, programs.primal_vjp),
            (differentiated(op), differentiated(primal)),
            differentiated=True,
        ),
        _View(
            tuple(f"{name} where nothing is differentiated" for name in (*outputs, *others)),
            arguments,
            (programs.op, programs.primal),
            (plain(op), plain(primal)),
            differentiated=False,
        ),
    ]


def _search(view: _View, points: int, deadline: float) -> Counterexample | None:
    """The first rational disagreement of a view, or one that is irrational, or one not seen in float64."""
    fallback: Counterexample | None = None
    simple = (_simple, _simple) if view.differentiated else (_simple, _often_equal)
    for seed in range(points):
        if time.monotonic() > deadline:
            return fallback
        try:
            number = _fine if 2 * seed >= points and seed % 3 else simple[seed % 2]
            found = _disagreement(view, random.Random(seed), number)
        except NotEvaluated:
            return fallback
        except Exception:  # a kink, a pole, a fault of the search: this point shows nothing
            continue
        if found is None:
            continue
        if found.float64 and isinstance(found.got, Fraction) and isinstance(found.expected, Fraction):
            return found
        if fallback is None or fallback.float64 is None:
            fallback = found
        if seed >= points // 2:
            return fallback
    return fallback


def _disagreement(
    view: _View, source: random.Random, number: Callable[[random.Random], Fraction]
) -> Counterexample | None:
    point = {a.name: _draw(a, source, number) for a in view.arguments}
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
    view: _View, point: dict[str, np.ndarray], number: int, index: tuple[int, ...]
) -> tuple[float, float] | None:
    """The two numbers as the programs themselves give them; None where float64 shows no difference."""
    with jax.enable_x64(True):
        arrays = [jnp.asarray(_numeric(value)) for value in point.values()]
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


def _numeric(value: np.ndarray) -> np.ndarray:
    first = value.ravel()[0] if value.size else 0.0
    kind = np.bool_ if isinstance(first, bool) else np.int32 if isinstance(first, _Label) else np.float64
    return value.astype(kind)


def _simple(source: random.Random) -> Fraction:
    return Fraction(source.randint(-6, 6), source.choice((1, 1, 2)))


def _fine(source: random.Random) -> Fraction:
    return Fraction(source.randint(-200, 200), source.choice((7, 97, 1013)))


def _often_equal(source: random.Random) -> Fraction:
    return Fraction(source.randint(-1, 2))


def _anywhere(source: random.Random) -> Fraction:
    return Fraction(source.randint(-600, 600), 97)


def _far_and_wide(source: random.Random) -> Fraction:
    return Fraction(source.randint(-(10**9), 10**9), 166_666_667)


def _draw(
    argument: Argument, source: random.Random, number: Callable[[random.Random], Fraction] = _simple
) -> np.ndarray:
    result = np.empty(argument.shape(), object)
    for index in np.ndindex(result.shape):
        if argument.boolean:
            result[index] = source.random() < 0.75
        elif argument.below:
            result[index] = _Label(source.randrange(int(argument.below)))
        elif argument.positive:
            result[index] = Fraction(source.choice(("3", "5/4", "8", "1", "1/4", "3/4", "15", "1/100")))
        else:
            result[index] = number(source)
    return result


def _real(value: object) -> Fraction | Enclosure | None:
    """An entry as a number; None for NaN and infinity."""
    if isinstance(value, bool | int):
        return Fraction(int(value))
    return value if isinstance(value, Fraction | Enclosure) else None


def _plain(value):
    interval = enclosure(value)
    return interval.low if interval.low == interval.high else (interval.low, interval.high)


def _number(value) -> str:
    return str(value) if isinstance(value, Fraction) else f"{float(value[0]):.12g}… (irrational)"


def _text(value) -> str:
    """Nested lists as Python writes them; an array of many numbers by its shape."""
    shape = np.shape(value)
    if math.prod(shape) > _SHOWN:
        return f"{' × '.join(map(str, shape))} numbers, in .point"
    return f"[{', '.join(map(_text, value))}]" if isinstance(value, list) else str(value)
