r"""Atoms that have a definition, t = p or t² = p, or are a function of p; and the rules that this gives.

An atom carries the free indices of p.  That p ≠ 0, or p > 0 and then t > 0, is for the caller to require.

One solved term.  From t² = σ² + ε follows ε = t² − σ²; or, where one ε serves many channels,
Σ_i x_ic² = n·(t_c² − ε) + (Σ_i x_ic)²/n.  Reading this from left to right as a rewriting rule removes ε
(or the sum of squares) from every polynomial, and what is left are free variables: t needs no relation any
more, its powers may be negative, and equal values have equal normal forms, under sums over c as well.
`_solved` picks the term; where none can be had, `cleared` clears the powers of t instead.

Relations of roots.  Of √p, √q and √(p·q) each is the product of two others over a polynomial.  Whenever an
atom is defined, those without a solved term are looked at again: p·q may have become t²·u², and then
√(p·q) = t·u; or p·q·r… of some radicands is a square s², and then √p = s/(√q·√r·…), which rewrites odd
powers of √p.

Why it is sound.  A rule is an equation between reals that holds for all values of its indices, wherever
the obligations hold; rewriting by it changes no value.  `cleared` multiplies by powers of t, which is not
zero there, and replaces t² by p.  A square root of what is positive is the one polynomial with this square
that is not negative, and that is shown of s before it is taken.  What holds in one case alone makes no rule.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import TypeGuard

from bnjax.prove.algebra import INFINITESIMAL, Atom, Outside, Poly
from bnjax.prove.literals import with_readings
from bnjax.prove.monomials import Entry, Factor, Monomial, Sum, entries_of, flatten
from bnjax.prove.rewriting import Hit, Rule, find_hit, rule_for
from bnjax.prove.signs import NONNEGATIVE, UNKNOWN, sign
from bnjax.prove.squares import square_part, square_root
from bnjax.prove.tables import Tables


@dataclass(frozen=True)
class Definition:
    """The atom `name` with slots 0, 1, ...: its `power`-th power is `value`."""

    name: str
    power: int
    value: Poly
    rule: Rule | None
    in_case: bool = False  # only under what is assumed is its obligation known to hold


_COMPARED = {"above": "> 0", "zero": "= 0"}  # the kinds that are truth values


@dataclass(frozen=True)
class Function:
    """The atom `name` with slots 0, 1, ...: the function `kind` ("exp", "log", ...) of `argument`.

    `rule` is an equation that holds of it, from left to right, where there is one.
    """

    name: str
    kind: str
    argument: Poly
    rule: Rule | None = None

    def __str__(self) -> str:
        if self.kind in _COMPARED:
            return f"{self.name} = [{self.argument} {_COMPARED[self.kind]}]"
        return f"{self.name} = {self.kind}({self.argument})"


class Definitions(Tables):
    """A ring in which atoms have definitions, and polynomials are reduced by the rules these give."""

    def __init__(self, seconds: float = math.inf):
        super().__init__(seconds)
        self.definitions: list[Definition] = []
        self.functions: list[Function] = []
        self.relations: dict[str, Rule] = {}  # of atoms that are defined, and have no solved term
        self.located: dict[str, tuple[str, tuple[int | None, ...]]] = {}  # atoms at positions: of what, where
        self.assumed: list[Poly] = []  # what is > 0 in the case that is looked at
        self.inverted: set[str] = set()  # atoms that stand with negative powers: no rule may remove them
        self._frozen: set[str] = set()  # functions, and what they are functions of: no rule removes them
        self._reduced: dict[Monomial, Poly] = {}

    def indices_of(self, value: Poly, slots: Poly, free: Sequence[int]) -> tuple[int, ...] | None:
        """The indices at which `value` is what `slots` is at the indices `free`; None if there are none."""
        for order in itertools.permutations(range(len(free))):
            if self.rename(value, dict(enumerate(order))) == slots:
                return tuple(free[k] for k in order)
        return None

    def raised(self, unit: Poly, power: int) -> Poly:
        """The power of a monomial without sums; it may be negative."""
        ((monomial, coefficient),) = unit.terms.items()
        return Poly(self, {tuple((f, p * power) for f, p in monomial): coefficient**power})

    def define(self, power: int, poly: Poly, known: int) -> Poly:
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
        self.definitions.append(Definition(name, power, slots, rule, bool(self.assumed)))
        self._reduced.clear()
        self._look_again()
        return self.entry(name, tuple(free), -1)

    def named(self, poly: Poly, known: int) -> Poly:
        """The entry t of an atom with t = poly; `known` is poly's sign."""
        return self.raised(self.define(1, poly, known), -1)

    def apply(self, kind: str, argument: Poly, positive: bool = False, boolean: bool = False) -> Poly:
        """The entry of the atom that is the function `kind` of `argument`, made if it is not there."""
        if boolean and any(self.atoms[name].literal for name in argument.names()):
            raise Outside("a comparison with a rounded literal")
        free = sorted(argument.free())
        slots = self.rename(argument, {index: slot for slot, index in enumerate(free)})
        for function in self.functions:
            indices = self.indices_of(function.argument, slots, free) if function.kind == kind else None
            if indices is not None:
                return self.entry(function.name, indices)
        name = f"{kind}.{len(self.functions)}"
        self.atom(Atom(name, self._slot_sizes(slots), positive, boolean))
        self.functions.append(Function(name, kind, slots))
        self._frozen |= {name, *(n for m in slots.terms for (n, _), _ in entries_of(m))}
        return self.entry(name, tuple(free))

    def rewrite(self, name: str, rule: Rule) -> None:
        """Give the function of this name a rule."""
        place = next(k for k, function in enumerate(self.functions) if function.name == name)
        self.functions[place] = replace(self.functions[place], rule=rule)
        self._reduced.clear()

    def pick(self, name: str, place: int) -> None:
        """Say of a truth value that it is 1 once along an index: where it is, makes cases (`comparisons`)."""
        self.single.add((name, place))
        self._choices.add(name)
        self._reduced.clear()

    def relate(self, name: str, rule: Rule) -> None:
        """Add a rule that holds of an atom which is not defined."""
        self.relations[name] = rule
        self._reduced.clear()

    def freeze(self, name: str) -> None:
        """Let no rule remove an atom."""
        self._frozen.add(name)

    def reduce(self, poly: Poly) -> Poly:
        """The same value, with every rule applied until none applies."""
        rules = [f.rule for f in self.functions if f.rule] + [d.rule for d in self.definitions if d.rule]
        rules += self.relations.values()
        if not rules and not self.single and not self.tables:
            return poly
        result = self.constant(0)
        for monomial, coefficient in poly.terms.items():
            self.check_time()
            if monomial not in self._reduced:
                self._reduced[monomial] = self._reduce(monomial, rules)
            result += self.constant(coefficient) * self._reduced[monomial]
        return result

    def _reduce(self, monomial: Monomial, rules: list[Rule]) -> Poly:
        simpler = self.simplified(monomial)
        if simpler is not None:
            return self.reduce(simpler)
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

    def unfolded(self, poly: Poly) -> Poly:
        """`poly` with what definitions say in the place of whole powers outside of sums."""
        for definition in reversed(self.definitions):
            poly = self._unfolded(poly, definition)
        return poly

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

    def split(self, poly: Poly) -> tuple[Poly, Poly]:
        """p and q, reduced, where `poly` is p + τ·q."""
        poly = self.reduce(poly)
        return self.part(poly, INFINITESIMAL, 0), self.part(poly, INFINITESIMAL, 1)

    def cleared(self, poly: Poly, more: Sequence[Definition] = ()) -> Poly:
        """`poly` times powers of what is not zero, so that no quotient or root without a rule is left.

        `more` are definitions of atoms of their own.
        """
        poly = with_readings(self.reduce(poly))
        for definition in reversed((*self.definitions, *more)):
            if poly.terms and definition.rule is None:
                poly = with_readings(self.reduce(self._cleared(poly, definition)))
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

    def positive_root(self, factors: list[Poly]) -> Poly | None:
        """The square root of a product of what is positive, if it is a polynomial and shown to be ≥ 0."""
        root = square_root(factors)
        if root is None:
            return None
        return next((s for s in (root, -root) if self.sign(s) >= NONNEGATIVE), None)

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
        if poly.constant():  # √2: its powers are 1 and √2, times numbers
            return rule_for(Entry(name), power, poly)
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
        known = name == INFINITESIMAL or atom.boolean or atom.size or atom.literal or name in self.tables
        if (
            known
            or name in self._frozen
            or exponent < 1
            or set(indices) != slots
            or len(indices) != len(slots)
        ):
            return None
        if not alone and (self._is_defined(name) or name in self.inverted):
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
            taken = not _may_relate(definition) or definition.in_case or definition.name in self._frozen
            relation = None if taken else self._relation(definition)
            if relation is not None:
                self.relations[definition.name] = relation
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
        if definition.power == 1 or name in self.relations:
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
            if other.power == 2 and _may_relate(other) and not other.in_case
            if other.name not in (name, *self.relations)
            for slots in itertools.permutations(range(len(sizes)), len(self.atoms[other.name].sizes))
            if self.atoms[other.name].sizes == tuple(sizes[slot] for slot in slots)
        ]
        for count in range(3):
            for chosen in itertools.combinations(others, count):
                root = self.positive_root([value, *(squared for _, squared in chosen)])
                if root is not None and name not in root.names():
                    return math.prod((inverted for inverted, _ in chosen), start=root)
        return None


def _is_entry_of(factor: Factor, definition: Definition) -> TypeGuard[Entry]:
    return isinstance(factor, Entry) and factor.name == definition.name


def _may_relate(definition: Definition) -> bool:
    """Whether it has no solved term, but for a number's root."""
    return definition.rule is None or definition.value.constant() is not None


def _distinct(indices: tuple[int, ...]) -> bool:
    return len(set(indices)) == len(indices)
