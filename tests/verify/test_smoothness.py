"""Theorem 31's certificates hold, and wrong ones do not; the bounds are attained where they say."""

from fractions import Fraction

import pytest

from bnjax.prove.algebra import Atom
from bnjax.prove.field import Field
from bnjax.prove.signs import UNKNOWN, sign
from bnjax.verify import smoothness

CERTIFICATES = smoothness.theorem31_certificates()


@pytest.mark.parametrize("certificate", CERTIFICATES, ids=lambda certificate: certificate.claim)
def test_a_certificate_holds(certificate):
    assert certificate.holds


def test_there_are_eight():
    assert len(CERTIFICATES) == 8


def test_a_wrong_constant_is_no_certificate():
    """26 for 27, and σ² + 3ε for σ² + 4ε."""
    field = Field()
    s, eps = field.atom(Atom("s")) ** 2, field.atom(Atom("eps", positive=True))
    two, four = field.constant(2), field.constant(4)
    right = (two * s - eps) ** 2 * (s + four * eps)
    for constant in (26, 28):
        left = four * (s + eps) ** 3 - field.constant(constant) * eps**2 * s
        assert not field.vanishes(left - right)
    assert sign(two * s - eps) == UNKNOWN


def test_a_wrong_program_has_no_certificates(monkeypatch):
    """The certificates are about the gradient that the program computes."""

    right = smoothness.inverse_stddev
    monkeypatch.setattr(smoothness, "inverse_stddev", lambda x, eps: 2 * right(x, eps))
    assert not any(c.holds for c in smoothness._gradient_certificates())


def test_the_check_value_attains_both_bounds():
    """n = 3, ε = 4, x = (2, −1, −1): σ² = ε/2, one outlier; all squares, so all rational."""
    n, eps, x = 3, Fraction(4), (Fraction(2), Fraction(-1), Fraction(-1))
    mean = sum(x) / n
    var = sum((v - mean) ** 2 for v in x) / n
    assert var == eps / 2
    istd6 = 1 / (var + eps) ** 3
    entries = [istd6 * (v - mean) ** 2 / n**2 for v in x]
    assert entries[0] == Fraction(n - 1, n**2) * Fraction(4, 27) / eps**2
    assert float(entries[0]) ** 0.5 == pytest.approx(0.0453609, abs=5e-8)
    assert sum(entries) == Fraction(4, 27) / (eps**2 * n)
