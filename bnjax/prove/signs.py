"""What the form of a polynomial says of its sign.

A sum of terms, each ≥ 0 by its form (a square, a positive atom, a sum of such), is ≥ 0; and by the
Cauchy-Schwarz inequality (Σ_i a_i)² ≤ n·Σ_i a_i², so that S₂/n − S₁²/n² is ≥ 0.  What neither shows is
unknown.
"""

import math
from fractions import Fraction

import numpy as np

from bnjax.prove.algebra import Poly, Ring
from bnjax.prove.monomials import Factor, Monomial, Sum

UNKNOWN, NONNEGATIVE, POSITIVE = 0, 1, 2


def sign(poly: Poly) -> int:
    """POSITIVE, NONNEGATIVE or UNKNOWN, by the form of the terms."""
    ring = poly.ring
    for monomial, coefficient in poly.terms.items():
        squared = [f for f, p in monomial if isinstance(f, Sum) and p == 2]
        if coefficient < 0 and len(squared) == 1:
            poly = poly - _cauchy_schwarz(ring, monomial, coefficient, squared[0])
    signs = [_term_sign(ring, m) if c > 0 else UNKNOWN for m, c in poly.terms.items()]
    if not signs or UNKNOWN in signs:
        return UNKNOWN if signs else NONNEGATIVE
    return max(signs)


def _cauchy_schwarz(ring: Ring, monomial: Monomial, coefficient: Fraction, factor: Sum) -> Poly:
    """−b·r·(Σ_i a_i)² minus its lower bound −b·r·n·Σ_i a_i², where r ≥ 0 by its form; else nothing."""
    rest = tuple(f for f in monomial if f[0] != factor)
    if _term_sign(ring, rest) == UNKNOWN:
        return ring.constant(0)
    bound = {-1 - k: size for k, size in enumerate(factor.sizes)}
    squares = ring.assemble(bound, [(e, 2 * p) for e, p in factor.entries])
    count = math.prod((ring.size(s) for s in factor.sizes), start=ring.constant(1))
    given = Poly(ring, {monomial: coefficient})
    return given - Poly(ring, {rest: coefficient}) * count * squares


def _term_sign(ring: Ring, monomial: Monomial) -> int:
    return min((_factor_sign(ring, f, p) for f, p in monomial), default=POSITIVE)


def _factor_sign(ring: Ring, factor: Factor, power: int) -> int:
    if isinstance(factor, Sum):
        inside = min(_factor_sign(ring, entry, p) for entry, p in factor.entries)
        if inside == NONNEGATIVE and _has_a_positive_term(ring, factor):
            return POSITIVE
        return max(inside, NONNEGATIVE if power % 2 == 0 else UNKNOWN)
    atom = ring.atoms[factor.name]
    if atom.positive:
        return POSITIVE
    return NONNEGATIVE if atom.boolean or power % 2 == 0 else UNKNOWN


def _has_a_positive_term(ring: Ring, factor: Sum) -> bool:
    """Whether a sum of terms ≥ 0 has one > 0: all but a table > 0, and in each of its rows a number > 0."""
    known = [entry for entry, _ in factor.entries if not ring.atoms[entry.name].positive]
    values = ring.values_of(known[0].name) if len(known) == 1 else None
    if values is None:
        return False
    summed = tuple(k for k, index in enumerate(known[0].indices) if index < 0)
    return bool(np.all(np.any(values > 0, axis=summed)))
