"""Exact square roots of polynomials.

Factors are independent variables, with integer powers.  In the lexicographic order of these powers the
leading term of a product is the product of the leading terms, and so is the last one of the last ones.
Therefore s² = p settles the terms of s one after the other, the largest first.  Whatever is returned was
squared and compared with p.
"""

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from bnjax.prove.algebra import Poly
from bnjax.prove.monomials import Entry, Factor, Monomial, Sum, ordered

Term = tuple[Monomial, Fraction]


def rational_root(value: Fraction) -> Fraction | None:
    """The positive rational whose square is `value`, if there is one."""
    if value <= 0:
        return None
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    return root if root * root == value else None


def square_part(poly: Poly) -> tuple[Poly, Poly]:
    """poly as a square of something positive, times the rest: √poly = the first · √the second."""
    ring = poly.ring
    if len(poly.terms) > 1:
        return ring.constant(1), poly
    ((monomial, coefficient),) = poly.terms.items()
    root = rational_root(coefficient)
    outside, inside = ring.constant(root or 1), ring.constant(1 if root else coefficient)
    for factor, power in monomial:
        positive = isinstance(factor, Entry) and ring.atoms[factor.name].positive
        half = power // 2 if positive else 0
        outside *= Poly(ring, {((factor, half),) if half else (): Fraction(1)})
        rest = power - 2 * half
        inside *= Poly(ring, {((factor, rest),) if rest else (): Fraction(1)})
    return outside, inside


def square_root(factors: Sequence[Poly]) -> Poly | None:
    """s with s² = the product of `factors`, none of which is 0; None where there is no such s.

    The sign of s is open: −s is one as well.
    """
    order = _order(factors)
    ends = [_root_of_term([pick(p.terms.items(), key=order) for p in factors]) for pick in (max, min)]
    if ends[0] is None or ends[1] is None:  # for most products this decides, and nothing is multiplied
        return None
    ring = factors[0].ring
    product = math.prod(factors, start=ring.constant(1))
    (lead, coefficient), last = ends[0], order(ends[1])
    inverted = {f for p in factors for m in p.terms for f, power in m if power < 0}
    root = Poly(ring, {lead: coefficient})
    rest = product - root * root
    for _ in product.terms:
        if not rest.terms:
            return root
        monomial, numerator = max(rest.terms.items(), key=order)
        term = _quotient(monomial, lead), numerator / (2 * coefficient)
        if order(term) < last or any(power < 0 and f not in inverted for f, power in term[0]):
            return None
        step = Poly(ring, dict([term]))
        rest = rest - step * (root + root + step)
        root = root + step
    return None


def _order(factors: Sequence[Poly]) -> Callable[[Term], tuple[int, ...]]:
    """The powers of a term, compared from the first variable on."""
    variables = sorted(
        {f for p in factors for m in p.terms for f, _ in m}, key=lambda f: (isinstance(f, Sum), f)
    )

    def powers(term: Term) -> tuple[int, ...]:
        powers_of = dict(term[0])
        return tuple(powers_of.get(variable, 0) for variable in variables)

    return powers


def _root_of_term(terms: Sequence[Term]) -> Term | None:
    """The square root of a product of terms."""
    powers: dict[Factor, int] = {}
    for monomial, _ in terms:
        for factor, power in monomial:
            powers[factor] = powers.get(factor, 0) + power
    coefficient = rational_root(math.prod((c for _, c in terms), start=Fraction(1)))
    if coefficient is None or any(power % 2 for power in powers.values()):
        return None
    return ordered((factor, power // 2) for factor, power in powers.items()), coefficient


def _quotient(monomial: Monomial, divisor: Monomial) -> Monomial:
    powers = dict(monomial)
    for factor, power in divisor:
        powers[factor] = powers.get(factor, 0) - power
    return ordered(powers.items())
