"""Real numbers as rationals, or between two of them where they are irrational: √, exp, log and erf.

Every enclosure is rounded outward to 256 bits, and every series cut off with a bound on its rest: a number
lies in its enclosure, whatever was computed.
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

_BITS = 256


class Unsupported(Exception):
    """A primitive, or a comparison of equal numbers, that exact evaluation does not decide."""


class NotEvaluated(Unsupported):
    """A primitive that is not evaluated, whatever its operands."""


@dataclass(frozen=True)
class Enclosure:
    """A real number between two rationals."""

    low: Fraction
    high: Fraction

    def __add__(self, other):
        other = enclosure(other)
        return _outward(self.low + other.low, self.high + other.high)

    def __neg__(self):
        return Enclosure(-self.high, -self.low)

    def __sub__(self, other):
        return self + -enclosure(other)

    def __rsub__(self, other):
        return enclosure(other) + -self

    def __mul__(self, other):
        other = enclosure(other)
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return _outward(min(corners), max(corners))

    def __truediv__(self, other):
        return self * _reciprocal(enclosure(other))

    def __rtruediv__(self, other):
        return enclosure(other) * _reciprocal(self)

    def __gt__(self, other):
        return _decide(self - other)

    def __lt__(self, other):
        return _decide(other - self)

    __radd__ = __add__
    __rmul__ = __mul__


def enclosure(value) -> Enclosure:
    """A number as an enclosure; a rational encloses itself."""
    return value if isinstance(value, Enclosure) else Enclosure(Fraction(value), Fraction(value))


def disjoint(a, b) -> bool:
    """True only if the two numbers differ."""
    a, b = enclosure(a), enclosure(b)
    return a.high < b.low or b.high < a.low


def exact_root(value):
    """√value: rational where it can be, else an enclosure."""
    if isinstance(value, Enclosure):
        return Enclosure(enclosure(exact_root(value.low)).low, enclosure(exact_root(value.high)).high)
    if value <= 0:
        raise Unsupported("a square root where it has no derivative")
    value = Fraction(value)
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    if root * root == value:
        return root
    scale = 2 ** max(_BITS - value.numerator.bit_length() + value.denominator.bit_length(), 0)
    floor = math.isqrt(value.numerator * scale * scale // value.denominator)
    return Enclosure(Fraction(floor, scale), Fraction(floor + 1, scale))


def _reciprocal(value: Enclosure) -> Enclosure:
    if value.low <= 0 <= value.high:
        raise Unsupported("a division by a number that may be zero")
    return Enclosure(1 / value.high, 1 / value.low)


def _outward(low: Fraction, high: Fraction) -> Enclosure:
    return Enclosure(_rounded(low, math.floor), _rounded(high, math.ceil))


def _rounded(value: Fraction, rounding: Callable[[Fraction], int]) -> Fraction:
    if value.denominator.bit_length() <= _BITS or not value:
        return value
    scale = Fraction(2) ** (_BITS - value.numerator.bit_length() + value.denominator.bit_length())
    return rounding(value * scale) / scale


def _decide(difference) -> bool:
    difference = enclosure(difference)
    if difference.low > 0:
        return True
    if difference.high < 0:
        return False
    raise Unsupported("a comparison of equal numbers")


class Constant(Fraction):
    """A rational that the program itself holds: equal ones are equal nearby as well."""


def rising(function: Callable[[Fraction], Enclosure], value):
    """An increasing function at a rational, or over an enclosure."""
    given = enclosure(value)
    return Enclosure(function(given.low).low, function(given.high).high)


def exp(value):
    """exp(value)."""
    return rising(_exp, value)


def log(value):
    """log(value), for value > 0."""
    if not value > 0:
        raise Unsupported("a logarithm where there is none")
    return rising(_log, value)


def erf(value):
    """erf(value)."""
    return rising(_erf, value)


_LARGE = 2**16
_SMALL = Fraction(1, 2**_BITS)


def _exp(x: Fraction) -> Enclosure:
    """The series at x/2^k, which is small, squared k times."""
    if x > _LARGE:
        raise Unsupported("an exponential this large")
    if x < -_LARGE:
        return Enclosure(Fraction(0), _exp(Fraction(-_LARGE)).high)
    halvings = max(0, math.ceil(abs(x)).bit_length() + 8)
    r = _outward(x / 2**halvings, x / 2**halvings)
    total = term = enclosure(1)
    for n in itertools.count(1):
        term = term * r * Fraction(1, n)
        total = total + term
        rest = 2 * max(abs(term.low), abs(term.high))  # |r| < 1/2: the terms after it are a geometric series
        if rest < _SMALL * _SMALL:
            break
    total = total + Enclosure(-rest, rest)
    for _ in range(halvings):
        total = total * total
    return total


def _log(x: Fraction) -> Enclosure:
    """k·log 2 + log m, with x = m·2^k and m near 1."""
    k = x.numerator.bit_length() - x.denominator.bit_length()
    m = x / Fraction(2) ** k
    if m > Fraction(4, 3):
        k, m = k + 1, m / 2
    return _twice_atanh((m - 1) / (m + 1)) + k * _log_two() if k else _twice_atanh((m - 1) / (m + 1))


@functools.cache
def _log_two() -> Enclosure:
    return _twice_atanh(Fraction(1, 3))


def _twice_atanh(z: Fraction) -> Enclosure:
    """2·Σ z^(2j+1)/(2j+1), for |z| ≤ 1/3."""
    square = _outward(z * z, z * z)
    power, total = _outward(2 * z, 2 * z), enclosure(0)
    for j in itertools.count():
        total = total + power * Fraction(1, 2 * j + 1)
        power = power * square
        rest = 2 * max(abs(power.low), abs(power.high))
        if rest < _SMALL * _SMALL:
            return total + Enclosure(-rest, rest)
    raise AssertionError


def _erf(x: Fraction) -> Enclosure:
    """2/√π·Σ (−1)^n x^(2n+1)/(n!·(2n+1)); beyond 12, 1 − erf is less than 2⁻²⁰⁰."""
    if abs(x) > 12:
        near = Enclosure(1 - Fraction(1, 2**200), Fraction(1))
        return near if x > 0 else -near
    square = _outward(-x * x, -x * x)
    term, total = _outward(x, x), enclosure(0)
    for n in itertools.count(1):
        total = total + term * Fraction(1, 2 * n - 1)
        term = term * square * Fraction(1, n)
        rest = 2 * max(abs(term.low), abs(term.high))
        if n > 2 * x * x and rest < _SMALL * _SMALL:  # from here on each term is less than half of the last
            break
    return (total + Enclosure(-rest, rest)) * 2 / enclosure(exact_root(_pi()))


@functools.cache
def _pi() -> Enclosure:
    """16·atan(1/5) − 4·atan(1/239)."""
    return 16 * _atan(Fraction(1, 5)) - 4 * _atan(Fraction(1, 239))


def _atan(z: Fraction) -> Enclosure:
    total, power = Fraction(0), z
    for j in itertools.count():
        total += power / (2 * j + 1)
        power *= -z * z
        if abs(power) < _SMALL * _SMALL:
            return _outward(total - abs(power), total + abs(power))
    raise AssertionError
