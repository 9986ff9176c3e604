"""The enclosures of exp, log, erf, sin and others contain the numbers, and are narrow."""

import math
import random
from fractions import Fraction

import pytest

from bnjax.prove import reals

FUNCTIONS = {
    name: (getattr(reals, name), getattr(math, name))
    for name in ("exp", "log", "erf", "sin", "cos", "atan", "asinh")
}
POINTS = [Fraction(p, q) for p in (-701, -97, -8, -1, 0, 1, 3, 41, 699) for q in (1, 7, 100)]


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("x", POINTS, ids=str)
def test_an_enclosure_is_narrow_and_near_the_float(name, x):
    function, in_floats = FUNCTIONS[name]
    if name == "log" and x <= 0:
        with pytest.raises(reals.Unsupported):
            function(x)
        return
    found = function(x)
    assert found.low <= found.high
    assert found.high - found.low <= Fraction(1, 10**50) * max(1, abs(found.high))
    assert float(found.low) == pytest.approx(in_floats(x), rel=1e-14, abs=1e-15)


def test_the_enclosures_contain_what_an_independent_library_encloses():
    flint = pytest.importorskip("flint")
    source = random.Random(0)
    with flint.ctx.workprec(300):
        for _ in range(60):
            x = Fraction(source.randint(-9000, 9000), source.randint(1, 900))
            for name, (function, _) in FUNCTIONS.items():
                if name == "log" and x <= 0:
                    continue
                ball = getattr(flint.arb(x.numerator) / x.denominator, name)()
                ends = (flint.arb(end.numerator) / end.denominator for end in _ends(function(x)))
                low, high = ends
                assert not low > ball, (name, x)
                assert not high < ball, (name, x)


def _ends(found):
    return found.low, found.high


def test_the_equations_hold_within_the_enclosures():
    for x in (Fraction(1, 3), Fraction(-7, 2), Fraction(40)):
        back = reals.log(reals.exp(x))
        assert back.low <= x <= back.high
        product = reals.exp(x) * reals.exp(-x)
        assert product.low <= 1 <= product.high
        assert not reals.disjoint(reals.erf(x), -reals.erf(-x))
        sine, cosine = reals.sin(x), reals.cos(x)
        one = sine * sine + cosine * cosine
        assert one.low <= 1 <= one.high
    assert reals.disjoint(reals.exp(Fraction(1)), Fraction(2718281828, 10**9))


def test_an_exponential_that_underflows_is_positive_and_one_too_large_is_not_evaluated():
    small = reals.exp(Fraction(-(10**38)))
    assert small.low >= 0
    assert small.high > 0
    with pytest.raises(reals.Unsupported):
        reals.exp(Fraction(10**6))


def test_equal_constants_are_equal_nearby_and_equal_data_are_not():
    from bnjax.prove.exact_choices import larger

    zero = reals.Constant(0)
    assert larger(zero, reals.Constant(0)) == 0
    with pytest.raises(reals.Unsupported):
        larger(Fraction(0), zero)
