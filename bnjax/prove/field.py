r"""Quotients and square roots: new atoms, each with its definition and its obligation.

A quotient 1/p and a root √p leave the polynomials.  Each makes an atom t with the *definition* t = p (then
1/p = t⁻¹) or t² = p with t > 0, and an *obligation*: p ≠ 0, or p > 0.  An obligation is discharged by
`sign`, or stays open and is reported; it is never dropped.

Why it is sound.  Modulo τ² the formulas √(p + τq) = √p + τq/(2√p) and 1/(p + τq) = 1/p − τq/p² are the
definition of the derivative of root and quotient.
"""

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bnjax.prove.algebra import INFINITESIMAL, Atom, Outside, Poly
from bnjax.prove.definitions import Definitions
from bnjax.prove.literals import Literal, reading, with_readings
from bnjax.prove.monomials import Sum
from bnjax.prove.positive_sums import has_a_positive_term
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, UNKNOWN, sign
from bnjax.prove.squares import square_part
from bnjax.prove.words import contains_name


@dataclass(frozen=True)
class Obligation:
    """A side condition: what must hold, whether that was shown, and the line that needs it."""

    claim: str
    discharged: bool
    where: str = ""

    def __str__(self) -> str:
        state = "shown" if self.discharged else "OPEN"
        return f"[{state}] {self.claim}" + (f"  ({self.where})" if self.where else "")


class Field(Definitions):
    """A ring with quotients, square roots and functions, their definitions and obligations."""

    def __init__(self, seconds: float = math.inf, reads_quotients: bool = False):
        super().__init__(seconds)
        self.reads_quotients = reads_quotients
        self.obligations: dict[str, Obligation] = {}
        self.decided: list[Fraction | None] = []  # the truth of each comparison, None where it has both
        self.thin: dict[str, bool] = {}  # of comparisons (`bnjax.prove.thin`)
        self.where = ""
        self.too_long = False  # whether something was left alone that has too many terms when written out

    def inside(self, names: set[str]) -> set[str]:
        """These names, and those in their definitions and arguments, and in theirs."""
        made_of = [
            *((d.name, d.value) for d in self.definitions),
            *((f.name, f.argument) for f in self.functions),
        ]
        found, waiting = set(names), set(names)
        while waiting:
            reached = (poly.names() for name, poly in made_of if name in waiting)
            waiting = set().union(*reached) - found
            found |= waiting
        return found

    def require(self, claim: str, discharged: bool) -> None:
        """Record an obligation, once."""
        claim = self.in_full(claim)
        self.obligations.setdefault(claim, Obligation(claim, discharged, self.where))

    def literal(self, number: np.floating) -> Poly:
        """A float of the program: exactly, or, where this field reads quotients, what it is a rounding of."""
        read = reading(number) if self.reads_quotients else None
        if read is None:
            return self.constant(Fraction(float(number)))
        self.require(f"{number!s} is read as {read}", False)
        exact, sign_of = abs(Fraction(float(number))), 1 if read.rational > 0 else -1
        name = f"literal.{exact}"
        literal = Literal(exact, read._replace(rational=abs(read.rational)))
        self.atoms.setdefault(name, Atom(name, positive=True, literal=literal))
        return self.entry(name) * self.constant(sign_of)

    def in_full(self, claim: str) -> str:
        """A claim with the definitions of its names, and of theirs, and with the case that it is made for."""
        known = {d.name: f"{d.name}{'²' * (d.power - 1)} = {d.value}" for d in self.definitions}
        known |= {f.name: str(f) for f in self.functions}
        words = [claim]
        for text in words:  # which grows
            words += [known.pop(name) for name in list(known) if contains_name(text, name)]
        words += [f"{poly} > 0" for poly in self.assumed]  # else it would pass for one of every case
        return f"{claim}, where {', '.join(words[1:])}" if words[1:] else claim

    def sign(self, poly: Poly) -> int:
        """The same, also of sums of which one term is known to be > 0."""
        return super().sign(poly) or (POSITIVE if has_a_positive_term(self, poly) else UNKNOWN)

    def require_positive(self, poly: Poly, known: int = UNKNOWN) -> None:
        """The obligation poly > 0, which `known`, or the case that is looked at, may show."""
        self.require(f"{poly} > 0", known == POSITIVE or self.is_assumed(poly))

    def is_assumed(self, poly: Poly) -> bool:
        """Whether `poly` is at least a positive multiple of something > 0 in this case."""
        for positive in self.assumed:
            monomial, coefficient = next(iter(positive.terms.items()))
            ratio = poly.terms.get(monomial, Fraction(0)) / coefficient
            if ratio > 0 and self.sign(poly - self.constant(ratio) * positive) >= NONNEGATIVE:
                return True
        return False

    def inverse(self, poly: Poly, known: int = UNKNOWN) -> Poly:
        """1/poly; `known` is what the caller knows of poly's sign."""
        base, tangent = map(with_readings, self.split(poly))
        quotient = self._inverse(base, max(known, self.sign(base)))
        return quotient - self.entry(INFINITESIMAL) * tangent * quotient * quotient

    def root(self, poly: Poly, known: int = UNKNOWN) -> Poly:
        """√poly, with the obligation poly > 0 (its derivative exists nowhere else)."""
        base, tangent = map(with_readings, self.split(poly))
        root = self._root(base, max(known, self.sign(base)))
        if not tangent.terms:
            return root
        half = self.constant(Fraction(1, 2)) * self._inverse(root, POSITIVE)
        return root + self.entry(INFINITESIMAL) * tangent * half

    def _inverse(self, poly: Poly, known: int) -> Poly:
        if not poly.terms:
            raise Outside("division by zero")
        reciprocal = self.reciprocal(poly)
        if reciprocal is not None:
            return reciprocal
        if len(poly.terms) > 1:
            self._require_nonzero(poly, known)
            return self.define(1, poly, known)
        ((monomial, coefficient),) = poly.terms.items()
        result = self.constant(1 / coefficient)
        for factor, power in monomial:
            part = Poly(self, {((factor, 1),): Fraction(1)})
            alone = len(monomial) == 1 and power % 2 and coefficient > 0  # then it has the sign of the whole
            known_part = max(known if alone else UNKNOWN, sign(part))
            self._require_nonzero(part, max(known if known == POSITIVE else UNKNOWN, known_part))
            if isinstance(factor, Sum) or self.atoms[factor.name].boolean:
                inverted = self.define(1, part, known_part)
            else:
                self.inverted.add(factor.name)
                inverted = self.entry(*factor, -1)
            result *= self.raised(inverted, power)
        return result

    def _require_nonzero(self, poly: Poly, known: int) -> None:
        if known != POSITIVE and self.in_full(f"{poly} > 0") not in self.obligations:
            shown = poly.constant() is not None or self.is_assumed(poly) or self.is_assumed(-poly)
            self.require(f"{poly} ≠ 0", shown)

    def _root(self, poly: Poly, known: int) -> Poly:
        if not poly.terms:
            raise Outside("the square root of zero has no derivative")
        outside, inside = square_part(poly)
        if inside.constant() == 1:
            return outside
        self.require_positive(poly, known)
        whole = self.positive_root([inside])
        if whole is not None:
            return outside * whole
        return outside * self.raised(self.define(2, inside, POSITIVE), -1)

    def vanishes(self, poly: Poly) -> bool:
        """True only if `poly` is zero wherever the obligations hold."""
        return not self.cleared(poly).terms
