r"""Quotients and square roots: new atoms, each with its definition, and the rules they give.

A quotient 1/p and a root √p leave the polynomials.  Each makes an atom t that carries the free indices of
p, with the *definition* t = p (then 1/p = t⁻¹) or t² = p with t > 0, and an *obligation*: p ≠ 0, or
p > 0.  An obligation is discharged by `sign`, or stays open and is reported; it is never dropped.

One solved term.  From t² = σ² + ε follows ε = t² − σ²; or, where one ε serves many channels,
Σ_i x_ic² = n·(t_c² − ε) + (Σ_i x_ic)²/n.  Reading this from left to right as a rewriting rule removes ε
(or the sum of squares) from every polynomial, and what is left are free variables: t needs no relation any
more, its powers may be negative, and equal values have equal normal forms, under sums over c as well.
`_solved` picks the term; where none can be had, `vanishes` clears the powers of t instead.

Why it is sound.  A rule is an equation between reals that holds for all values of its indices, wherever
the obligations hold; rewriting by it changes no value.  `vanishes` multiplies by powers of t, which is not
zero there, and replaces t² by p.  Modulo τ² the formulas √(p + τq) = √p + τq/(2√p) and
1/(p + τq) = 1/p − τq/p² are the definition of the derivative of root and quotient.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeGuard

from bnjax.prove.algebra import INFINITESIMAL, Atom, Outside, Poly, Ring
from bnjax.prove.definitions import Definition, Function
from bnjax.prove.monomials import Entry, Factor, Monomial, Sum, entries_of, flatten
from bnjax.prove.rewriting import Hit, Rule, find_hit, rule_for
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, UNKNOWN, sign


@dataclass(frozen=True)
class Obligation:
    """A side condition: what must hold, whether that was shown, and the line that needs it."""

    claim: str
    discharged: bool
    where: str = ""

    def __str__(self) -> str:
        state = "shown" if self.discharged else "OPEN"
        return f"[{state}] {self.claim}" + (f"  ({self.where})" if self.where else "")


class Field(Ring):
    """A ring with quotients, square roots and functions, their definitions and obligations."""

    def __init__(self, seconds: float = math.inf):
        super().__init__(seconds)
        self.definitions: list[Definition] = []
        self.obligations: dict[str, Obligation] = {}
        self.where = ""
        self.functions: list[Function] = []
        self.assumed: list[Poly] = []  # what is > 0 in the case that is looked at
        self._inverted: set[str] = set()  # atoms that stand with negative powers: no rule may remove them
        self._frozen: set[str] = set()  # functions, and what they are functions of: no rule removes them
        self._reduced: dict[Monomial, Poly] = {}

    def require(self, claim: str, discharged: bool) -> None:
        """Record an obligation, once."""
        claim = self.in_full(claim)
        self.obligations.setdefault(claim, Obligation(claim, discharged, self.where))

    def in_full(self, claim: str) -> str:
        """A claim with the definitions of its names, and with the case that it is made for."""
        used = [f"{d.name}{'²' * (d.power - 1)} = {d.value}" for d in self.definitions if d.name in claim]
        used += [str(f) for f in self.functions if f.name in claim]
        used += [f"{poly} > 0" for poly in self.assumed]  # else it would pass for one of every case
        return f"{claim}, where {', '.join(used)}" if used else claim

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
        base, tangent = self.split(poly)
        quotient = self._inverse(base, max(known, self.sign(base)))
        return quotient - self.entry(INFINITESIMAL) * tangent * quotient * quotient

    def root(self, poly: Poly, known: int = UNKNOWN) -> Poly:
        """√poly, with the obligation poly > 0 (its derivative exists nowhere else)."""
        base, tangent = self.split(poly)
        root = self._root(base, max(known, self.sign(base)))
        if not tangent.terms:
            return root
        half = self.constant(Fraction(1, 2)) * self._inverse(root, POSITIVE)
        return root + self.entry(INFINITESIMAL) * tangent * half

    def split(self, poly: Poly) -> tuple[Poly, Poly]:
        """p and q, reduced, where `poly` is p + τ·q."""
        poly = self.reduce(poly)
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
            result *= self.raised(inverted, power)
        return result

    def raised(self, unit: Poly, power: int) -> Poly:
        """The power of a monomial without sums; it may be negative."""
        ((monomial, coefficient),) = unit.terms.items()
        return Poly(self, {tuple((f, p * power) for f, p in monomial): coefficient**power})

    def _require_nonzero(self, poly: Poly, known: int) -> None:
        if known != POSITIVE and self.in_full(f"{poly} > 0") not in self.obligations:
            shown = poly.constant() is not None or self.is_assumed(poly) or self.is_assumed(-poly)
            self.require(f"{poly} ≠ 0", shown)

    def _root(self, poly: Poly, known: int) -> Poly:
        if not poly.terms:
            raise Outside("the square root of zero has no derivative")
        outside, inside = self._square_part(poly)
        if inside.constant() == 1:
            return outside
        self.require_positive(poly, known)
        return outside * self.raised(self._define(2, inside, POSITIVE), -1)

    def _square_part(self, poly: Poly) -> tuple[Poly, Poly]:
        """poly as a square of something positive, times the rest: √poly = the first · √the second."""
        if len(poly.terms) > 1:
            return self.constant(1), poly
        ((monomial, coefficient),) = poly.terms.items()
        root = _rational_root(coefficient)
        outside, inside = self.constant(root or 1), self.constant(1 if root else coefficient)
        for factor, power in monomial:
            positive = isinstance(factor, Entry) and self.atoms[factor.name].positive
            half = power // 2 if positive else 0
            outside *= Poly(self, {((factor, half),) if half else (): Fraction(1)})
            rest = power - 2 * half
            inside *= Poly(self, {((factor, rest),) if rest else (): Fraction(1)})
        return outside, inside

    def _define(self, power: int, poly: Poly, known: int) -> Poly:
        """t⁻¹ where t**power = poly: an atom that may be there already."""
        free = sorted(poly.free())
        slots = self.rename(poly, {index: slot for slot, index in enumerate(free)})
        for definition in self.definitions:
            indices = self.indices_of(definition.value, slots, free) if definition.power == power else None
            if indices is not None:
                return self.entry(definition.name, indices, -1)
        name = f"t.{len(self.definitions)}"  # no Python parameter is called so
        positive = known >= NONNEGATIVE  # and not zero, by its obligation
        self.atom(Atom(name, self._slot_sizes(slots), positive=positive))
        rule = None if self.assumed else self._solved(name, power, slots)  # it would hold in this case only
        self.definitions.append(Definition(name, power, slots, rule))
        self._reduced.clear()
        return self.entry(name, tuple(free), -1)

    def indices_of(self, value: Poly, slots: Poly, free: Sequence[int]) -> tuple[int, ...] | None:
        """The indices at which `value` is what `slots` is at the indices `free`; None if there are none."""
        for order in itertools.permutations(range(len(free))):
            if self.rename(value, dict(enumerate(order))) == slots:
                return tuple(free[k] for k in order)
        return None

    def named(self, poly: Poly, known: int) -> Poly:
        """The entry t of an atom with t = poly; `known` is poly's sign."""
        return self.raised(self._define(1, poly, known), -1)

    def apply(self, kind: str, argument: Poly, **kinds: bool) -> Poly:
        """The entry of the atom that is the function `kind` of `argument`, made if it is not there."""
        free = sorted(argument.free())
        slots = self.rename(argument, {index: slot for slot, index in enumerate(free)})
        for function in self.functions:
            indices = self.indices_of(function.argument, slots, free) if function.kind == kind else None
            if indices is not None:
                return self.entry(function.name, indices)
        name = f"{kind}.{len(self.functions)}"
        self.atom(Atom(name, self._slot_sizes(slots), **kinds))
        self.functions.append(Function(name, kind, slots))
        self._frozen |= {name, *(n for m in slots.terms for (n, _), _ in entries_of(m))}
        return self.entry(name, tuple(free))

    def rewrite(self, name: str, rule: Rule) -> None:
        """Give the function of this name a rule."""
        place = next(k for k, function in enumerate(self.functions) if function.name == name)
        self.functions[place] = replace(self.functions[place], rule=rule)
        self._reduced.clear()

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
                scale = self.raised(Poly(self, {unit: coefficient}), -1)
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
        known = name == INFINITESIMAL or atom.boolean or atom.size
        if (
            known
            or name in self._frozen
            or exponent < 1
            or set(indices) != slots
            or len(indices) != len(slots)
        ):
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

    def reduce(self, poly: Poly) -> Poly:
        """The same value, with every rule applied until none applies."""
        rules = [f.rule for f in self.functions if f.rule] + [d.rule for d in self.definitions if d.rule]
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
        value = self.raised(rule.value, hit.times) if rule.has_unit() else rule.value**hit.times
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
        return not self.cleared(poly).terms

    def cleared(self, poly: Poly) -> Poly:
        """`poly` times powers of what is not zero, so that no quotient or root without a rule is left."""
        poly = self.reduce(poly)
        for definition in reversed(self.definitions):
            if poly.terms and definition.rule is None:
                poly = self.reduce(self._cleared(poly, definition))
        return poly

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


def _rational_root(value: Fraction) -> Fraction | None:
    """The positive rational whose square is `value`, if there is one."""
    if value <= 0:
        return None
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    return root if root * root == value else None
