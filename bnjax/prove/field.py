r"""Quotients and square roots: new atoms, each with its definition, and the rules they give.

A quotient 1/p and a root √p leave the polynomials.  Each makes an atom t that carries the free indices of
p, with the *definition* t = p (then 1/p = t⁻¹) or t² = p with t > 0, and an *obligation*: p ≠ 0, or
p > 0.  An obligation is discharged by `sign`, or stays open and is reported; it is never dropped.

One solved term.  From t² = σ² + ε follows ε = t² − σ²; or, where one ε serves many channels,
Σ_i x_ic² = n·(t_c² − ε) + (Σ_i x_ic)²/n.  Reading this from left to right as a rewriting rule removes ε
(or the sum of squares) from every polynomial, and what is left are free variables: t needs no relation any
more, its powers may be negative, and equal values have equal normal forms, under sums over c as well.
`_solved` picks the term; where none can be had, `vanishes` clears the powers of t instead.

Relations of roots.  Of √p, √q and √(p·q) each is the product of two others over a polynomial.  Whenever an
atom is defined, those without a solved term are looked at again: p·q may have become t²·u², and then
√(p·q) = t·u; or p·q·r… of some radicands is a square s², and then √p = s/(√q·√r·…), which rewrites odd
powers of √p.

Sums of zeros.  Σ_i dy_i·a_i is zero where every a_i is, and in a_i the index is free, so that the powers of
t_i can be cleared.

Why it is sound.  A rule is an equation between reals that holds for all values of its indices, wherever
the obligations hold; rewriting by it changes no value.  `vanishes` multiplies by powers of t, which is not
zero there, and replaces t² by p.  A square root of what is positive is the one polynomial with this square
that is not negative, and that is shown of s before it is taken.  Modulo τ² the formulas
√(p + τq) = √p + τq/(2√p) and 1/(p + τq) = 1/p − τq/p² are the definition of the derivative of root and
quotient.
"""

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from typing import TypeGuard

import numpy as np

from bnjax.prove.algebra import INFINITESIMAL, Atom, Outside, Poly, Ring
from bnjax.prove.literals import quotient, with_quotients
from bnjax.prove.monomials import Entry, Factor, Monomial, Sum, entries_of, flatten
from bnjax.prove.rewriting import Hit, Rule, find_hit, rule_for
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, UNKNOWN, sign
from bnjax.prove.squares import square_part, square_root


@dataclass(frozen=True)
class Obligation:
    """A side condition: what must hold, whether that was shown, and the line that needs it."""

    claim: str
    discharged: bool
    where: str = ""

    def __str__(self) -> str:
        state = "shown" if self.discharged else "OPEN"
        return f"[{state}] {self.claim}" + (f"  ({self.where})" if self.where else "")


@dataclass(frozen=True)
class Definition:
    """The atom `name` with slots 0, 1, ...: its `power`-th power is `value`."""

    name: str
    power: int
    value: Poly
    rule: Rule | None


class Field(Ring):
    """A ring with quotients and square roots, their definitions and obligations."""

    def __init__(self, seconds: float = math.inf, reads_quotients: bool = False):
        super().__init__(seconds)
        self.reads_quotients = reads_quotients
        self.definitions: list[Definition] = []
        self.obligations: dict[str, Obligation] = {}
        self.where = ""
        self._relations: dict[str, Rule] = {}  # of atoms that are defined, and have no solved term
        self._inverted: set[str] = set()  # atoms that stand with negative powers: no rule may remove them
        self._reduced: dict[Monomial, Poly] = {}

    def require(self, claim: str, discharged: bool) -> None:
        """Record an obligation, once."""
        used = [d for d in self.definitions if d.name in claim]
        if used:
            claim += ", where " + ", ".join(f"{d.name}{'²' * (d.power - 1)} = {d.value}" for d in used)
        self.obligations.setdefault(claim, Obligation(claim, discharged, self.where))

    def literal(self, number: np.floating) -> Poly:
        """A float of the program: exactly, or, where this field reads quotients, what it is a rounding of."""
        read = quotient(number) if self.reads_quotients else None
        if read is None:
            return self.constant(Fraction(float(number)))
        self.require(f"{number!s} is read as {read}", False)
        name = f"literal.{abs(read)}"
        self.atoms.setdefault(name, Atom(name, positive=True, quotient=abs(read)))
        return self.entry(name) * self.constant(1 if read > 0 else -1)

    def inverse(self, poly: Poly, known: int = UNKNOWN) -> Poly:
        """1/poly; `known` is what the caller knows of poly's sign."""
        base, tangent = self._split(poly)
        quotient = self._inverse(base, max(known, self.sign(base)))
        return quotient - self.entry(INFINITESIMAL) * tangent * quotient * quotient

    def root(self, poly: Poly, known: int = UNKNOWN) -> Poly:
        """√poly, with the obligation poly > 0 (its derivative exists nowhere else)."""
        base, tangent = self._split(poly)
        root = self._root(base, max(known, self.sign(base)))
        if not tangent.terms:
            return root
        half = self.constant(Fraction(1, 2)) * self._inverse(root, POSITIVE)
        return root + self.entry(INFINITESIMAL) * tangent * half

    def _split(self, poly: Poly) -> tuple[Poly, Poly]:
        poly = with_quotients(self.reduce(poly))
        return self.part(poly, INFINITESIMAL, 0), self.part(poly, INFINITESIMAL, 1)

    def _inverse(self, poly: Poly, known: int) -> Poly:
        if not poly.terms:
            raise Outside("division by zero")
        if len(poly.terms) > 1:
            self._require_nonzero(poly, known)
            return self._define(1, poly, known)
        ((monomial, coefficient),) = poly.terms.items()
        result = self.constant(1 / coefficient)
        for factor, power in monomial:
            part = Poly(self, {((factor, 1),): Fraction(1)})
            alone = len(monomial) == 1 and power % 2 and coefficient > 0  # then it has the sign of the whole
            known_part = max(known if alone else UNKNOWN, sign(part))
            self._require_nonzero(part, max(known if known == POSITIVE else UNKNOWN, known_part))
            if isinstance(factor, Sum) or self.atoms[factor.name].boolean:
                inverted = self._define(1, part, known_part)
            else:
                self._inverted.add(factor.name)
                inverted = self.entry(*factor, -1)
            result *= self._raised(inverted, power)
        return result

    def _raised(self, unit: Poly, power: int) -> Poly:
        """The power of a monomial without sums; it may be negative."""
        ((monomial, coefficient),) = unit.terms.items()
        return Poly(self, {tuple((f, p * power) for f, p in monomial): coefficient**power})

    def _require_nonzero(self, poly: Poly, known: int) -> None:
        if known != POSITIVE:
            self.require(f"{poly} ≠ 0", poly.constant() is not None)

    def _root(self, poly: Poly, known: int) -> Poly:
        if not poly.terms:
            raise Outside("the square root of zero has no derivative")
        outside, inside = square_part(poly)
        if inside.constant() == 1:
            return outside
        self.require(f"{poly} > 0", known == POSITIVE)
        whole = self._positive_root([inside])
        if whole is not None:
            return outside * whole
        return outside * self._raised(self._define(2, inside, POSITIVE), -1)

    def _define(self, power: int, poly: Poly, known: int) -> Poly:
        """t⁻¹ where t**power = poly: an atom that may be there already."""
        free = sorted(poly.free())
        slots = self.rename(poly, {index: slot for slot, index in enumerate(free)})
        for definition in self.definitions:
            if definition.power == power:
                for order in itertools.permutations(range(len(free))):
                    if self.rename(definition.value, dict(enumerate(order))) == slots:
                        return self.entry(definition.name, tuple(free[k] for k in order), -1)
        name = f"t.{len(self.definitions)}"  # no Python parameter is called so
        positive = known >= NONNEGATIVE  # and not zero, by its obligation
        self.atom(Atom(name, self._slot_sizes(slots), positive=positive))
        rule = self._solved(name, power, slots)
        self.definitions.append(Definition(name, power, slots, rule))
        self._reduced.clear()
        self._look_again()
        return self.entry(name, tuple(free), -1)

    def _slot_sizes(self, poly: Poly) -> tuple[str, ...]:
        sizes = {
            index: size
            for monomial in poly.terms
            for (name, indices), _ in entries_of(monomial)
            for index, size in zip(indices, self.atoms[name].sizes, strict=True)
            if index >= 0
        }
        return tuple(sizes[slot] for slot in range(len(sizes)))

    def _solved(self, name: str, power: int, poly: Poly) -> Rule | None:
        """t**power = poly, solved for the term that is easiest to do without; None if there is none."""
        slots = set(range(len(self.atoms[name].sizes)))
        best: tuple[int, Rule] | None = None
        for monomial, coefficient in poly.terms.items():
            for factor, exponent in monomial:
                rank = self._rank(factor, exponent, slots, len(poly.terms) == 1)
                unit = tuple(f for f in monomial if f[0] != factor)
                if rank is None or not all(self._is_unit(f) for f, _ in unit):
                    continue
                rest = poly - Poly(self, {monomial: coefficient})
                scale = self._raised(Poly(self, {unit: coefficient}), -1)
                definition = self.entry(name, tuple(sorted(slots)), power)
                rule = rule_for(factor, exponent, (definition - rest) * scale)
                if self._is_free_of(rule, rest, unit) and (best is None or rank < best[0]):
                    best = rank, rule
        return best[1] if best else None

    def _rank(self, factor: Factor, exponent: int, slots: set[int], alone: bool) -> int | None:
        if isinstance(factor, Sum):
            free = {i for entry, _ in factor.entries for i in entry.indices if i >= 0}
            return 2 if exponent == 1 and free == slots else None
        name, indices = factor
        atom = self.atoms[name]
        known = name == INFINITESIMAL or atom.boolean or atom.size or atom.quotient
        if known or exponent < 1 or set(indices) != slots or len(indices) != len(slots):
            return None
        if not alone and (self._is_defined(name) or name in self._inverted):
            return None
        return 3 if exponent > 1 else 0 if atom.positive else 1

    def _is_unit(self, factor: Factor) -> bool:
        """Not zero, by its kind or by an obligation."""
        return isinstance(factor, Entry) and (
            self.atoms[factor.name].positive or self._is_defined(factor.name)
        )

    def _is_defined(self, name: str) -> bool:
        return any(definition.name == name for definition in self.definitions)

    def _is_free_of(self, rule: Rule, rest: Poly, unit: Monomial) -> bool:
        if rule.bound:
            return all(find_hit(rule, monomial) is None for monomial in rest.terms)
        (name,) = rule.names()
        elsewhere = {n for m in (*rest.terms, unit) for (n, _), _ in entries_of(m)}
        used = {n for d in self.definitions if d.rule for n in d.rule.names()}
        return name not in elsewhere | used

    def _look_again(self) -> None:
        """Relations of the atoms without a solved term, which a new definition may have brought."""
        for definition in self.definitions:
            relation = None if definition.rule else self._relation(definition)
            if relation is not None:
                self._relations[definition.name] = relation
                self._reduced.clear()

    def _relation(self, definition: Definition) -> Rule | None:
        """t as a product of units, or an odd power of t by other roots."""
        name, value = definition.name, self.reduce(definition.value)
        if name in value.names():
            return None
        slots = tuple(range(len(self.atoms[name].sizes)))
        entry = ((Entry(name, slots), 1),)
        product = self._product_of_units(value, definition.power)
        if product is not None:
            return Rule((), entry, 1, product)
        if definition.power == 1 or name in self._relations:
            return None
        quotient = self._by_other_roots(name, value)
        return None if quotient is None else Rule((), entry, 1, quotient, odd=True)

    def _product_of_units(self, value: Poly, power: int) -> Poly | None:
        """t where t**power = value is one term, a product of powers of what is not zero."""
        if len(value.terms) != 1:
            return None
        root, rest = square_part(value) if power == 2 else (value, self.constant(1))
        unit = all(self._is_unit(factor) for monomial in root.terms for factor, _ in monomial)
        return root if unit and rest.constant() == 1 else None

    def _by_other_roots(self, name: str, value: Poly) -> Poly | None:
        """√value = s/(t·u) for other roots t and u, where s² = value·t²·u²."""
        sizes = self.atoms[name].sizes
        others = [
            (self.entry(other.name, slots, -1), self.rename(self.reduce(other.value), dict(enumerate(slots))))
            for other in self.definitions
            if other.power == 2 and other.rule is None and other.name not in (name, *self._relations)
            for slots in itertools.permutations(range(len(sizes)), len(self.atoms[other.name].sizes))
            if self.atoms[other.name].sizes == tuple(sizes[slot] for slot in slots)
        ]
        for count in range(3):
            for chosen in itertools.combinations(others, count):
                root = self._positive_root([value, *(squared for _, squared in chosen)])
                if root is not None and name not in root.names():
                    return math.prod((inverted for inverted, _ in chosen), start=root)
        return None

    def _positive_root(self, factors: list[Poly]) -> Poly | None:
        """The square root of a product of what is positive, if it is a polynomial and shown to be ≥ 0."""
        root = square_root(factors)
        if root is None:
            return None
        return next((s for s in (root, -root) if self.sign(s) >= NONNEGATIVE), None)

    def reduce(self, poly: Poly) -> Poly:
        """The same value, with every rule applied until none applies."""
        rules = [d.rule for d in self.definitions if d.rule] + list(self._relations.values())
        if not rules:
            return poly
        result = self.constant(0)
        for monomial, coefficient in poly.terms.items():
            self.check_time()
            if monomial not in self._reduced:
                self._reduced[monomial] = self._reduce(monomial, rules)
            result += self.constant(coefficient) * self._reduced[monomial]
        return result

    def _reduce(self, monomial: Monomial, rules: list[Rule]) -> Poly:
        for rule in rules:
            hit = find_hit(rule, monomial)
            if hit is not None:
                return self.reduce(self._rewritten(rule, hit))
        return Poly(self, {monomial: Fraction(1)})

    def _rewritten(self, rule: Rule, hit: Hit) -> Poly:
        value = self._raised(rule.value, hit.times) if hit.times < 0 else rule.value**hit.times
        result = self.constant(0)
        for monomial, coefficient in value.terms.items():
            bound, entries = flatten(monomial)
            entries = [
                (Entry(n, tuple(hit.slots[i] if i >= 0 else i - hit.shift for i in ii)), p)
                for (n, ii), p in entries
            ]
            bound = {b - hit.shift: size for b, size in bound.items()}
            whole = self.assemble({**hit.bound, **bound}, [*hit.entries, *entries])
            result += self.constant(coefficient) * whole
        return result

    def sign(self, poly: Poly) -> int:
        """`signs.sign`, also by what the definitions say: t² − ε is σ² again, and that is ≥ 0."""
        known = sign(poly)
        for definition in reversed(self.definitions):
            if known == UNKNOWN:
                poly = self._unfolded(poly, definition)
                known = sign(poly)
        return known

    def _unfolded(self, poly: Poly, definition: Definition) -> Poly:
        """`poly` with t**power replaced by its value wherever t stands outside of sums."""
        result = self.constant(0)
        for monomial, coefficient in poly.terms.items():
            term = Poly(self, {monomial: coefficient})
            for factor, exponent in monomial:
                if exponent < definition.power or not _is_entry_of(factor, definition):
                    continue
                if _distinct(factor.indices):
                    whole, left = divmod(exponent, definition.power)
                    rest = tuple(f for f in monomial if f[0] != factor)
                    value = self.rename(definition.value, dict(enumerate(factor.indices)))
                    power = self.entry(*factor, left) if left else self.constant(1)
                    term = Poly(self, {rest: coefficient}) * value**whole * power
                    break
            result += term
        return result

    def vanishes(self, poly: Poly) -> bool:
        """True only if `poly` is zero wherever the obligations hold."""
        poly = with_quotients(self.reduce(poly))
        for definition in reversed(self.definitions):
            if poly.terms and definition.rule is None:
                poly = with_quotients(self.reduce(self._cleared(poly, definition)))
        if not poly.terms:
            return True
        parts = self._parts(poly)
        return bool(parts) and all(map(self.vanishes, parts))

    def _parts(self, poly: Poly) -> list[Poly]:
        """The coefficients of an atom in which `poly` is linear, such as a cotangent; none without one."""
        used = set().union(*(d.value.names() for d in self.definitions))
        for name in sorted(poly.names() - used):
            parts = self.coefficients(poly, name)
            if parts:
                return parts
        return []

    def _cleared(self, poly: Poly, definition: Definition) -> Poly:
        """`poly` times a power of t high enough, and t**power replaced by its value."""
        factors = [f for f, _ in itertools.chain(*poly.terms) if _is_entry_of(f, definition)]
        for factor in dict.fromkeys(factors):
            low = min(dict(m).get(factor, 0) for m in poly.terms)
            lift = -(low // definition.power) if low < 0 else 0
            result = self.constant(0)
            if not _distinct(factor.indices):
                return poly
            value = self.rename(definition.value, dict(enumerate(factor.indices)))
            for monomial, coefficient in poly.terms.items():
                whole, left = divmod(dict(monomial).get(factor, 0), definition.power)
                rest = tuple(f for f in monomial if f[0] != factor)
                term = Poly(self, {rest: coefficient}) * value ** (whole + lift)
                result += term * self.entry(*factor, left) if left else term
            poly = result
        return poly


def _is_entry_of(factor: Factor, definition: Definition) -> TypeGuard[Entry]:
    return isinstance(factor, Entry) and factor.name == definition.name


def _distinct(indices: tuple[int, ...]) -> bool:
    return len(set(indices)) == len(indices)
