"""A literal that is a rounded number which no float is: 1/5, 0.044715, √(2/π).

Literals are read exactly, and then dy·0.2 is not dy/5.  Where an equation fails by that alone, it is tried
again with each such literal as an unknown positive number; quotients, roots, exponentials and the last
comparison know what it is read as.  Comparisons must come out as they do of the literal itself.  What is
shown then holds under the condition that the literal is read so, which is named.

A literal is read as a quotient of small integers, as the root of one, with a power of √π or without, as a
multiple of log 2 or log 10, or of their reciprocals, or as the decimals that are written for it.  π is
transcendental: √π is an unknown of its own.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from bnjax.prove.algebra import Atom, Poly
from bnjax.prove.monomials import flatten
from bnjax.prove.signs import POSITIVE

Field = Any  # a ring with roots, `bnjax.prove.field`, which reads its literals with this
_LARGEST = 2**16  # of numerator times denominator
_LARGEST_SQUARE = 2**8  # the same, of what a root is taken of
_LARGEST_MULTIPLE = 2**5  # the same, of what a logarithm is multiplied by
_SPARE = 7  # bits of the mantissa that a quotient must leave: most floats are near no quotient
_DIGITS = 6  # of decimals: 24 bits have 7
_PI = "√π."
_PRIMES = 1000


class Reading(NamedTuple):
    """The number rational·√root·√π**pi·log(base)**log, the root of no square."""

    rational: Fraction
    root: Fraction = Fraction(1)
    pi: int = 0
    base: int = 2
    log: int = 0

    def __str__(self) -> str:
        if self.log:
            p, q = self.rational.as_integer_ratio()
            known = f"log({self.base})"
            if self.log > 0:
                return f"{p}·{known}/{q}".removeprefix("1·").removesuffix("/1")
            return f"{p}/({q}·{known})" if q > 1 else f"{p}/{known}"
        if self.root == 1 and not self.pi:
            return str(self.rational)
        square = self.rational**2 * self.root
        over, under = ([str(n)] if n > 1 else [] for n in square.as_integer_ratio())
        (over if self.pi > 0 else under).extend(["", "π", "π²"][abs(self.pi)].split())
        below = f"/({'·'.join(under)})" if len(under) > 1 else f"/{under[0]}" if under else ""
        return f"{'-' if self.rational < 0 else ''}√({'·'.join(over) or '1'}{below})"


class Literal(NamedTuple):
    """A literal > 0 of the program, and what it is read as."""

    exact: Fraction
    read: Reading


def reading(literal: np.floating) -> Reading | None:
    """What a float is a rounding of; None where it is the number itself, or near none of these."""
    if _is_short(literal):
        return None
    known = _irrational(literal) or _logarithmic(literal)  # π is no 355/113
    rational = None if known else quotient(literal) or _decimal(literal)
    return known or (Reading(rational) if rational else None)


def _is_short(literal: np.floating) -> bool:
    """Whether a float is a number of few bits, which is meant as it is."""
    value = Fraction(float(literal))
    return value.numerator.bit_length() <= jnp.finfo(literal.dtype).nmant - _SPARE


def _decimal(literal: np.floating) -> Fraction | None:
    """The number of few digits that is written for this float; None without one, and for one it is."""
    if literal.dtype != np.float32:
        return None
    digits = np.format_float_scientific(literal, trim="-")
    value = Fraction(digits)
    short = sum(map(str.isdigit, digits.partition("e")[0])) <= _DIGITS
    return value if short and value != Fraction(float(literal)) else None


def _irrational(literal: np.floating) -> Reading | None:
    """The root of a quotient of small integers, times a power of √π."""
    kind, size = literal.dtype.type, abs(float(literal))
    if kind != np.float32 or not size:
        return None
    for pi in (0, 1, -1, 2, -2):
        square = Fraction(size * size / math.pi**pi).limit_denominator(_LARGEST_SQUARE)
        if not 0 < square.numerator * square.denominator <= _LARGEST_SQUARE:
            continue
        if kind(math.sqrt(square * Fraction(math.pi) ** pi)) == abs(literal):
            outside, inside = _without_squares(square)
            return Reading(outside * (1 if literal > 0 else -1), inside, pi)
    return None


def _logarithmic(literal: np.floating) -> Reading | None:
    """A quotient of small integers times log 2, log 10 or the reciprocal of one."""
    kind, size = literal.dtype.type, abs(float(literal))
    if kind != np.float32:
        return None
    for base, log in itertools.product((2, 10), (1, -1)):
        unit = math.log(base) ** log
        found = Fraction(size / unit).limit_denominator(_LARGEST_MULTIPLE)
        small = 0 < found.numerator * found.denominator <= _LARGEST_MULTIPLE
        if small and kind(float(found) * unit) == size:
            return Reading(found * (1 if literal > 0 else -1), base=base, log=log)
    return None


def _without_squares(value: Fraction) -> tuple[Fraction, Fraction]:
    """a and b with a²·b = value, b without square factors and whole."""
    whole = value.numerator * value.denominator  # √(p/q) = √(p·q)/q
    largest = next(k for k in itertools.count(math.isqrt(whole), -1) if whole % (k * k) == 0)
    return Fraction(largest, value.denominator), Fraction(whole // largest**2)


def quotient(literal: np.floating) -> Fraction | None:
    """The one quotient of small integers that rounds to this float; None without one, and for one it is."""
    value = Fraction(float(literal))
    limit = min(_LARGEST, 2 ** max(jnp.finfo(literal.dtype).nmant - _SPARE, 0))
    for found in _convergents(abs(value)):
        if found.numerator * found.denominator > limit:
            return None
        if literal.dtype.type(float(found)) == abs(literal):
            return None if found == abs(value) else found * (1 if value > 0 else -1)
    return None


def with_readings(poly: Poly) -> Poly:
    """The same with the numbers that literals are read as."""
    return _with(poly, lambda field, literal, power: _number(field, literal.read, power))


def with_literals(poly: Poly) -> Poly:
    """The same with the literals themselves."""
    return _with(poly, lambda field, literal, power: field.constant(literal.exact**power))


def _with(poly: Poly, number: Callable[[Field, Literal, int], Poly]) -> Poly:
    field: Field = poly.ring
    found = {name: literal for name in poly.names() if (literal := field.atoms[name].literal)}
    if not found:
        return poly
    result = field.constant(0)
    for monomial, coefficient in poly.terms.items():
        bound, entries = flatten(monomial)
        rest = [(entry, power) for entry, power in entries if entry.name not in found]
        numbers = (number(field, found[e.name], power) for e, power in entries if e.name in found)
        result += math.prod(numbers, start=field.assemble(bound, rest) * field.constant(coefficient))
    return field.reduce(result)


def _number(field: Field, read: Reading, power: int) -> Poly:
    """The power of what a literal is read as."""
    result = field.constant(read.rational**power)
    if read.root != 1:
        result *= field.raised(field.root(field.constant(read.root)), power)
    if read.pi:
        field.atoms.setdefault(_PI, Atom(_PI, positive=True))
        result *= field.entry(_PI, power=power * read.pi)
    if read.log:
        unit = log_of_number(field, Fraction(read.base))
        whole = read.log * power
        result *= (unit if whole > 0 else field.inverse(unit, POSITIVE)) ** abs(whole)
    return result


def log_of_number(field: Field, number: Fraction) -> Poly:
    """log of a positive rational: of its small prime factors, and of what they leave."""
    value = field.constant(0)
    for whole, times in ((number.numerator, 1), (number.denominator, -1)):
        for prime in range(2, _PRIMES):
            while whole % prime == 0:
                whole //= prime
                value += field.constant(times) * field.apply("log", field.constant(prime), positive=True)
        if whole > 1:
            value += field.constant(times) * field.apply("log", field.constant(whole), positive=True)
    return value


def _convergents(value: Fraction) -> Iterator[Fraction]:
    """Of the continued fraction: whatever is nearer than 1/(2·denominator²) to the value is among them."""
    before, last = (0, 1), (1, 0)
    while True:
        whole = value.numerator // value.denominator
        before, last = last, (whole * last[0] + before[0], whole * last[1] + before[1])
        yield Fraction(*last)
        if value == whole:
            return
        value = 1 / (value - whole)
