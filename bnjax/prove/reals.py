"""Real numbers as rationals, or between two of them where they are irrational: √, exp, log, sin and others.

Every enclosure is rounded outward to 256 bits, and every series cut off with a bound on its rest: a number
lies in its enclosure, whatever was computed.
"""

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

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
    """A rational that the program itself holds, or computes of such: equal ones are equal nearby as well."""

    def __neg__(self) -> "Constant":
        return Constant(super().__neg__())

    def __add__(self, other):
        return _held(super().__add__(other), other)

    def __sub__(self, other):
        return _held(super().__sub__(other), other)

    def __mul__(self, other):
        return _held(super().__mul__(other), other)

    def __truediv__(self, other):
        return _held(super().__truediv__(other), other)


def _held(value, other):
    return Constant(value) if isinstance(other, Constant) else value


def each(function: Callable, *arrays: np.ndarray) -> np.ndarray:
    """function at every element, keeping Python's own numbers; ∞ − ∞ is NaN, and no warning."""
    with np.errstate(all="ignore"):
        return np.frompyfunc(function, len(arrays), 1)(*arrays)


def as_array(value: Any) -> np.ndarray:
    """A number as an array without axes; an array as it is."""
    if isinstance(value, np.ndarray):
        return value
    result = np.empty((), object)
    result[()] = value
    return result


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


def sin(value):
    """sin(value)."""
    return _near(lambda x: _circular(x)[0], value)


def cos(value):
    """cos(value)."""
    return _near(lambda x: _circular(x)[1], value)


def atan(value):
    """atan(value)."""
    return rising(_any_atan, value)


def asinh(value):
    """asinh(value) = ±log(|value| + √(value² + 1))."""

    def of(x: Fraction) -> Enclosure:
        return log(abs(x) + exact_root(x * x + 1)) * (1 if x > 0 else -1)

    return rising(of, value)


def _near(function: Callable[[Fraction], Enclosure], value) -> Enclosure:
    """A function over an enclosure whose derivative is at most 1."""
    given = enclosure(value)
    wide = given.high - given.low
    return function(given.low) + Enclosure(-wide, wide)


_PLACES = 400  # binary places of a series
_LARGE = 2**16


def _series(
    z: Fraction,
    ratio: Callable[[int], tuple[int, int]],
    weight: Callable[[int], int] = lambda n: 1,
    alternating: bool = False,
) -> Enclosure:
    """Σ_n t_n/weight(n) with t_0 = 1 and t_n = t_(n−1)·z·p/q for (p, q) = ratio(n), z ≥ 0.

    Every term is rounded down and up; where terms fall by half and more, the rest is at most the last one.
    With `alternating`, every other term is subtracted.
    """
    one = 1 << _PLACES
    low_z = math.floor(z * one)
    high_z = low_z + 1
    low = high = total_low = total_high = one
    for n in itertools.count(1):
        p, q = ratio(n)
        low = low * low_z * p // (q << _PLACES)
        high = -(-high * high_z * p // (q << _PLACES))
        least, most = low // weight(n), -(-high // weight(n))
        if alternating and n % 2:
            least, most = -most, -least
        total_low, total_high = total_low + least, total_high + most
        if high <= 2 and 2 * high_z * p <= q << _PLACES:
            break
    return Enclosure(Fraction(total_low - high * alternating, one), Fraction(total_high + high, one))


def _exp(x: Fraction) -> Enclosure:
    """The series at x/2^k, which is small, squared k times."""
    if x > _LARGE:
        raise Unsupported("an exponential this large")
    if x < -_LARGE:
        return Enclosure(Fraction(0), _exp(Fraction(-_LARGE)).high)
    if x < 0:
        return _reciprocal(_exp(-x))
    halvings = math.ceil(x).bit_length() + 8
    total = _series(x / 2**halvings, lambda n: (1, n))
    for _ in range(halvings):
        total = total * total
    return total


def _log(x: Fraction) -> Enclosure:
    """k·log 2 + log m, with x = m·2^k and m near 1."""
    k = x.numerator.bit_length() - x.denominator.bit_length()
    m = x / Fraction(2) ** k
    if m > Fraction(4, 3):
        k, m = k + 1, m / 2
    return _twice_atanh((m - 1) / (m + 1)) + k * _log_two()


@functools.cache
def _log_two() -> Enclosure:
    return _twice_atanh(Fraction(1, 3))


def _twice_atanh(z: Fraction) -> Enclosure:
    """2·z·Σ z^(2n)/(2n+1), for |z| ≤ 1/3."""
    return _series(z * z, lambda n: (1, 1), lambda n: 2 * n + 1) * (2 * z)


def _circular(x: Fraction) -> tuple[Enclosure, Enclosure]:
    """sin x and cos x: their series at x/2^k, which is small, doubled k times."""
    if abs(x) > _LARGE:
        raise Unsupported("the sine of a number this large")
    doublings = math.ceil(abs(x)).bit_length() + 4
    x /= 2**doublings
    sine = _series(x * x, lambda n: (1, 2 * n * (2 * n + 1)), alternating=True) * x
    cosine = _series(x * x, lambda n: (1, (2 * n - 1) * 2 * n), alternating=True)
    for _ in range(doublings):
        sine, cosine = 2 * sine * cosine, 2 * cosine * cosine - 1
    return sine, cosine


def _any_atan(x: Fraction) -> Enclosure:
    """By its series below 1/4; of another number by that of x/(1 + √(1 + x²)), which is half as large."""
    value, halvings = enclosure(x), 0
    while max(abs(value.low), abs(value.high)) > Fraction(1, 4):
        value, halvings = value / (1 + exact_root(1 + value * value)), halvings + 1
    return rising(_atan, value) * 2**halvings


def _erf(x: Fraction) -> Enclosure:
    """2/√π·exp(−x²)·x·Σ (2x²)^n/(1·3···(2n+1)); beyond 12, 1 − |erf| is less than 2⁻²⁰⁰."""
    if abs(x) > 12:
        near = Enclosure(1 - Fraction(1, 2**200), Fraction(1))
        return near if x > 0 else -near
    total = _series(x * x, lambda n: (2, 2 * n + 1))
    return total * _exp(-x * x) * (2 * x) / enclosure(exact_root(_pi()))


@functools.cache
def _pi() -> Enclosure:
    """16·atan(1/5) − 4·atan(1/239)."""
    return 16 * _atan(Fraction(1, 5)) - 4 * _atan(Fraction(1, 239))


def _atan(z: Fraction) -> Enclosure:
    """z·Σ (−1)^n z^(2n)/(2n+1), for |z| ≤ 1/2."""
    return _series(z * z, lambda n: (1, 1), lambda n: 2 * n + 1, alternating=True) * z
