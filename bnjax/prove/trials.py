"""What is tried: two functions traced at one size, and numbers drawn for their arguments."""

import itertools
import math
import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Literal

from bnjax.jaxprs import equations
from bnjax.prove.limits import ENDS
from bnjax.prove.reals import Constant
from bnjax.prove.sizes import Sizes
from bnjax.prove.tracing import Argument, pullback, split, trace

ELEMENTS = 4096  # of the largest argument: exact arithmetic is slow

Number = Callable[[random.Random], Fraction]


class Label(Constant):
    """An integer of an integer argument."""


class View(NamedTuple):
    """Two programs of the same arguments, which are to agree, and the functions that they are traces of.

    Where nothing is differentiated, numbers that are compared may be equal: a value has no kinks.
    """

    names: tuple[str, ...]
    arguments: tuple[Argument, ...]
    programs: tuple[ClosedJaxpr, ClosedJaxpr]
    runs: tuple[Callable[..., list[jax.Array]], Callable[..., list[jax.Array]]]
    differentiated: bool


def at(arguments: Sequence[Argument], sizes: Sizes) -> tuple[Argument, ...]:
    """The arguments with numbers for their sizes."""
    return tuple(a.at(sizes) for a in arguments)


def views(
    op: Callable, primal: Callable, arguments: tuple[Argument, ...], most: int = ELEMENTS
) -> list[View]:
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
        View(
            (*outputs, *cotangents, *others),
            (*programs.cotangents, *arguments),
            (programs.op_vjp, programs.primal_vjp),
            (differentiated(op), differentiated(primal)),
            differentiated=True,
        ),
        View(
            tuple(f"{name} where nothing is differentiated" for name in (*outputs, *others)),
            arguments,
            (programs.op, programs.primal),
            (plain(op), plain(primal)),
            differentiated=False,
        ),
    ]


def numeric(value: np.ndarray) -> np.ndarray:
    """The same as an array of float64, of integers or of truth values."""
    first = value.ravel()[0] if value.size else 0.0
    kind = np.bool_ if isinstance(first, bool) else np.int32 if isinstance(first, Label) else np.float64
    return value.astype(kind)


def simple(source: random.Random) -> Fraction:
    """Easy to read."""
    return Fraction(source.randint(-6, 6), source.choice((1, 1, 2)))


def fine(source: random.Random) -> Fraction:
    """With a denominator."""
    return Fraction(source.randint(-200, 200), source.choice((7, 97, 1013)))


def wide(source: random.Random) -> Fraction:
    """Of two or three digits."""
    return Fraction(source.randint(-500, 500), source.choice((1, 2, 3)))


def often_equal(source: random.Random) -> Fraction:
    """Of few numbers."""
    return Fraction(source.randint(-1, 2))


def anywhere(source: random.Random) -> Fraction:
    """Seldom equal."""
    return Fraction(source.randint(-600, 600), 97)


def far_and_wide(source: random.Random) -> Fraction:
    """Equal in no large array."""
    return Fraction(source.randint(-(10**9), 10**9), 166_666_667)


def beside(programs: Sequence[ClosedJaxpr]) -> Number | None:
    """Between and beside the numbers that programs compare with, and 0 half of the time; None without any."""
    literals = {
        Fraction(float(atom.val))
        for program in programs
        for eqn in equations(program)
        for atom in eqn.invars
        if isinstance(atom, Literal) and _is_number(atom.val)
    }
    marks = sorted({sign * literal for literal in literals for sign in (1, -1)})
    if len(marks) < 2:
        return None
    numbers = [(a + b) / 2 for a, b in itertools.pairwise(marks)]
    numbers += [mark * (1 + Fraction(1, 128)) for mark in marks if mark]

    def number(source: random.Random) -> Fraction:
        return source.choice(numbers) if source.random() < 0.5 else Fraction(0)

    return number


def _is_number(value: Any) -> bool:
    """Whether a literal is a finite one; a truth value, and the cotangent of what is no float, are none."""
    array = np.asarray(value)
    return array.ndim == 0 and array.dtype.kind in "iuf" and bool(np.isfinite(array))


def draw(argument: Argument, source: random.Random, number: Number = simple) -> np.ndarray:
    """An array of rationals, of labels or of truth values."""
    result = np.empty(argument.shape(), object)
    for index in np.ndindex(result.shape):
        if argument.boolean:
            result[index] = source.random() < 0.75
        elif argument.below:
            result[index] = Label(source.randrange(int(argument.below)))
        elif argument.positive:
            result[index] = Fraction(source.choice(("3", "5/4", "8", "1", "1/4", "3/4", "15", "1/100")))
        else:
            result[index] = number(source)
    return result
