"""Theorem 31's certificates hold, and wrong ones do not; the bounds are attained where they say."""

import dataclasses
from fractions import Fraction

import pytest

from bnjax.prove.algebra import Atom
from bnjax.prove.field import Field
from bnjax.prove.signs import UNKNOWN, sign
from bnjax.verify import gradient_bounds, smoothness
from bnjax.verify.gradient_bounds import STATED, bounds_are_computed, bounds_are_reached
from bnjax.verify.planted import GRADIENT
from bnjax.verify.planted.vector import VECTOR

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


@pytest.mark.family
@pytest.mark.parametrize("mutant", GRADIENT, ids=lambda mutant: mutant.name)
def test_a_wrong_bound_or_gradient_is_refused(mutant):
    """At points, and by the certificates that are about it; those that are not still hold."""
    assert not bounds_are_reached(mutant)
    ours = [certificate.holds for certificate in smoothness.theorem31_certificates(mutant)]
    about_the_gradient, about_the_norm, about_an_entry = ours[:2], ours[2], ours[3]
    assert all(ours[4:])
    if mutant.name.startswith("dx"):
        assert not any(about_the_gradient)
    else:
        assert all(about_the_gradient)
        assert (about_the_norm, about_an_entry) == (mutant.norm == STATED.norm, False)


def test_the_stated_bounds_are_computed_and_reached():
    assert bounds_are_computed()
    assert bounds_are_reached(STATED)


@pytest.mark.parametrize("name", ["gradient_norm_bound", "partial_derivative_bound"])
def test_a_function_that_returns_another_bound_is_noticed(monkeypatch, name):
    right = getattr(gradient_bounds, name)
    monkeypatch.setattr(gradient_bounds, name, lambda n, eps: right(n, eps) * (1 + 1e-9))
    assert not bounds_are_computed()


def test_a_gradient_of_the_wrong_sign_has_no_certificate():
    """Its norm is the right one: only the first certificate sees it."""
    (flipped,) = (m for m in VECTOR if m.name == "inverse_stddev/dx with its sign flipped")
    claim = dataclasses.replace(STATED, op=flipped.op, primal=flipped.primal)
    first, *others = smoothness.theorem31_certificates(claim)
    assert not first.holds
    assert all(certificate.holds for certificate in others)


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
