"""Rewriting rules: one entry, or one sum of a product of entries, and the polynomial that it equals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bnjax.prove.algebra import Poly
from bnjax.prove.monomials import Entry, Factor, Monomial, Powers, Sum, entries_of, flatten


@dataclass(frozen=True)
class Rule:
    """(Σ over the bound indices of a product of entries)**power is `value`, for all values of the slots.

    An `odd` rule of one entry takes one factor out of an odd power, and leaves the even ones: t⁻¹ is t⁻²·t.
    Where the value is a number, it applies to negative powers too: t⁻¹ is t/2 where t² = 2.
    """

    bound: tuple[str, ...]
    entries: tuple[tuple[Entry, int], ...]
    power: int
    value: Poly
    odd: bool = False

    def names(self) -> set[str]:
        """The atoms on the left-hand side."""
        return {entry.name for entry, _ in self.entries}

    def has_unit(self) -> bool:
        """Whether the value is a monomial without sums, of which there are negative powers too."""
        return len(self.value.terms) == 1 and not _has_sum(self.value)


@dataclass(frozen=True)
class Hit:
    """Where a rule applies in a flat monomial: what is left, and what the slots stand for."""

    bound: dict[int, str]
    entries: Powers
    slots: dict[int, int]
    times: int
    shift: int


def rule_for(factor: Factor, power: int, value: Poly) -> Rule:
    """factor**power → value; a sum has the power 1."""
    if isinstance(factor, Sum):
        return Rule(*factor, 1, value)
    return Rule((), ((factor, 1),), power, value)


def find_hit(rule: Rule, monomial: Monomial) -> Hit | None:
    """The first place in a monomial where the rule applies."""
    if not rule.names() <= {entry.name for entry, _ in entries_of(monomial)}:
        return None
    bound, entries = flatten(monomial)
    return _sum_hit(rule, bound, entries) if rule.bound else _entry_hit(rule, bound, entries)


def _entry_hit(rule: Rule, bound: dict[int, str], entries: Powers) -> Hit | None:
    ((pattern, _),) = rule.entries
    unit = rule.power == 1 and rule.has_unit()
    number = rule.value.constant() is not None
    for k, (entry, power) in enumerate(entries):
        times = power // rule.power if power > 0 or number else power if unit else 0
        if rule.odd:
            times = power % 2
        if entry.name == pattern.name and times:
            left = power - times * rule.power
            rest = [(entry, left)] if left else []
            kept = entries[:k] + rest + entries[k + 1 :]
            slots = dict(zip(pattern.indices, entry.indices, strict=True))
            return Hit(bound, kept, slots, times, len(bound))
    return None


def _sum_hit(rule: Rule, bound: dict[int, str], entries: Powers) -> Hit | None:
    """A part of a flat monomial that is the rule's sum: its bound indices occur nowhere else in it."""
    for names, used in _matches(rule.entries, entries, {}, frozenset()):
        summed = {names[b] for b in names if b < 0}
        slots = {s: names[s] for s in names if s >= 0}
        outside = [entries[k] for k in range(len(entries)) if k not in used]
        touched = any(i in summed for entry, _ in outside for i in entry.indices)
        if touched or summed & set(slots.values()):
            continue
        kept = {b: size for b, size in bound.items() if b not in summed}
        return Hit(kept, outside, slots, 1, len(bound))
    return None


def _matches(
    pattern: Sequence[tuple[Entry, int]], entries: Powers, names: dict[int, int], used: frozenset[int]
) -> Iterable[tuple[dict[int, int], frozenset[int]]]:
    """Every way to find the pattern's entries among `entries`, bound indices going to bound ones apart."""
    if not pattern:
        yield names, used
        return
    ((name, indices), power), *later = pattern
    for k, ((other, targets), other_power) in enumerate(entries):
        if k in used or other != name or other_power != power:
            continue
        extended = dict(names)
        if all(_bind(extended, i, t) for i, t in zip(indices, targets, strict=True)):
            yield from _matches(later, entries, extended, used | {k})


def _bind(names: dict[int, int], index: int, target: int) -> bool:
    if index in names:
        return names[index] == target
    if index < 0 and (target >= 0 or any(names[b] == target for b in names if b < 0)):
        return False
    names[index] = target
    return True


def _has_sum(poly: Poly) -> bool:
    return any(isinstance(factor, Sum) for monomial in poly.terms for factor, _ in monomial)
