"""A point where two programs disagree: evaluated exactly, and then by the programs themselves in float64."""

import itertools
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.prove.exact import Arithmetic, Enclosure, disjoint, enclosure, evaluate
from bnjax.prove.tracing import Argument, Programs, pullback, trace

_ELEMENTS = 4096  # of the largest argument: exact arithmetic is slow
_POINTS = 24


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


def find_counterexample(
    op: Callable, primal: Callable, arguments: Sequence[Argument], deadline: float
) -> Counterexample | None:
    """A small point where values or cotangents of op and primal differ; rational values preferred.

    Symbolic sizes are tried at 2, 3, 1, 5 and mixed; sizes given as numbers are kept.  The points are drawn
    with a fixed seed.
    """
    symbols = sorted(set().union(*(a.symbols() for a in arguments)))
    fallback = None
    for sizes in _assignments(symbols):
        small = tuple(a.at(sizes) for a in arguments)
        try:
            programs = trace(op, primal, small)
        except Exception:  # a size the user's code does not take
            continue
        if max((_count(a) for a in (*small, *programs.cotangents)), default=1) > _ELEMENTS:
            return fallback
        for seed in range(_POINTS):
            if time.monotonic() > deadline:
                return fallback
            try:
                found = _disagreement(op, primal, programs, random.Random(seed))
            except Exception:  # a fault of the search is no verdict
                found = None
            if found is None:
                continue
            if found.float64 and isinstance(found.got, Fraction) and isinstance(found.expected, Fraction):
                return found
            if fallback is None or fallback.float64 is None:
                fallback = found
            if seed >= _POINTS // 2:
                return fallback
    return fallback


def _assignments(symbols: Sequence[str]) -> list[dict[str, int]]:
    if not symbols:
        return [{}]
    mixed = dict(zip(symbols, itertools.cycle((2, 3)), strict=False))
    return [dict.fromkeys(symbols, 2), mixed, *(dict.fromkeys(symbols, size) for size in (3, 1, 5))]


def _count(argument: Argument) -> int:
    return math.prod(argument.shape(None))


def _disagreement(
    op: Callable, primal: Callable, programs: Programs, source: random.Random
) -> Counterexample | None:
    point = {a.name: _draw(a, source) for a in (*programs.cotangents, *programs.arguments)}
    exact = Arithmetic()
    args = list(point.values())
    try:
        got = evaluate(programs.op_vjp, args, exact)
        expected = evaluate(programs.primal_vjp, args, exact)
    except Exception:  # a kink, a pole, or a primitive that is not evaluated: this point shows nothing
        return None
    unseen = None
    names = [f"output {k}" if k else "the output" for k in range(len(programs.cotangents))]
    names += [f"the cotangent of {a.name}" for a in programs.arguments if a.differentiated]
    for number, (what, mine, theirs) in enumerate(zip(names, got, expected, strict=True)):
        for index in np.ndindex(mine.shape):
            a, b = mine[index], theirs[index]
            if not (_is_real(a) and _is_real(b)) or not disjoint(a, b):
                continue
            seen = _in_float64(op, primal, programs, point, number, index)
            values = {name: value.tolist() for name, value in point.items()}
            found = Counterexample(what, index, values, _plain(a), _plain(b), seen)
            if seen is not None:
                return found
            unseen = unseen or found
    return unseen


def _in_float64(op, primal, programs: Programs, point: dict, number: int, index: tuple[int, ...]):
    """The two numbers as the programs themselves give them; None where float64 shows no difference."""
    split = len(programs.cotangents)
    with jax.enable_x64(True):
        arrays = [jnp.asarray(_numeric(value)) for value in point.values()]
        seen = []
        for function in (op, primal):
            run = pullback(function, programs.arguments)
            try:
                leaves = jax.tree.leaves(run(arrays[:split], *arrays[split:]))
            except Exception:  # the user's code, in float64
                return None
            seen.append(float(leaves[number][index]))
    a, b = seen
    far = abs(a - b) > 1e-9 * max(abs(a), abs(b), 1e-3)
    return (a, b) if far or math.isnan(a) != math.isnan(b) else None


def _numeric(value: np.ndarray) -> np.ndarray:
    boolean = value.size and isinstance(value.ravel()[0], bool)
    return value.astype(np.bool_ if boolean else np.float64)


def _draw(argument: Argument, source: random.Random) -> np.ndarray:
    result = np.empty(argument.shape(None), object)
    for index in np.ndindex(result.shape):
        if argument.boolean:
            result[index] = source.random() < 0.75
        elif argument.positive:
            result[index] = Fraction(source.choice(("3", "5/4", "8", "1", "1/4", "3/4", "15", "1/100")))
        else:
            result[index] = Fraction(source.randint(-6, 6), source.choice((1, 1, 2)))
    return result


def _is_real(value) -> bool:
    return isinstance(value, Fraction | Enclosure | int) and not isinstance(value, bool)


def _plain(value):
    interval = enclosure(value)
    return interval.low if interval.low == interval.high else (interval.low, interval.high)


def _number(value) -> str:
    return str(value) if isinstance(value, Fraction) else f"{float(value[0]):.12g}… (irrational)"


def _text(value) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    return str(value)
