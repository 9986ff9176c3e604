r"""Is a polynomial zero: beyond its normal form, by cases of the truth values, and under the sums.

Each step is sufficient, none is necessary.  A polynomial is zero if it is zero for each value that a truth
value in it may have, under what that value implies (cases that contradict each other are left out: x > 1
and x < 0).  A sum of multiples of Σ_i a_i, Σ_i b_i, … is zero if the same sum of a_i, b_i, … is, where i is
free.  What is linear in dy, or in v, is zero if its coefficients are.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction

from bnjax.prove.algebra import Poly
from bnjax.prove.comparisons import ABOVE, ZERO, at_values, at_zero, cases_of
from bnjax.prove.entrywise import is_zero_by_entries
from bnjax.prove.field import Field
from bnjax.prove.functions import function_of
from bnjax.prove.inequalities import exclude_each_other
from bnjax.prove.monomials import Entry, Monomial, Sum, entries_of, flatten, reindexed
from bnjax.prove.positions import by_position

_DEPTH = 4  # sums opened, one under the other
_NOTHING: tuple = ()  # the key of what has no sum


@dataclass(frozen=True)
class Question:
    """Where a polynomial is to be zero.

    Attributes:
      linear: names of atoms in which it is linear.
      excluded: atoms [p = 0] and ties that are taken to be 0: points that are left out.
      positive: polynomials that are > 0 in this case.
      null: polynomials that are 0 in this case.
    """

    linear: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    positive: tuple[Poly, ...] = ()
    null: tuple[Poly, ...] = ()


def vanishes(field: Field, poly: Poly, question: Question, depth: int = _DEPTH) -> bool:
    """True only if `poly` is zero wherever the obligations hold and the question asks."""
    poly = field.reduce(without(field, poly, question.excluded))
    if not poly.terms:
        return True
    entry = _comparison(field, poly)
    if entry is not None:
        return all(
            any(vanishes(field, value, asked, depth) for value in values)
            for values, asked in _cases(field, poly, entry, question)
        )
    poly = field.cleared(poly)
    if not poly.terms or is_zero_by_entries(field, poly):
        return True
    parts = _opened(field, poly, question.linear) if depth else None
    if parts is not None and all(vanishes(field, part, question, depth - 1) for part in parts):
        return True
    parts = by_position(field, poly)
    return parts is not None and not any(part.terms for part in parts)


def without(field: Field, poly: Poly, names: frozenset[str]) -> Poly:
    """`poly` with these truth values 0, at all indices, and with what is a number then as that number."""
    if not names:
        return poly
    numbers = dict.fromkeys(names, Fraction(0))
    for definition in field.definitions:
        if definition.power == 1 and numbers.keys() & names_in(definition.value):
            number = with_numbers(field, definition.value, numbers).constant()
            numbers |= {definition.name: number} if number else {}
    return with_numbers(field, poly, numbers)


def with_numbers(field: Field, poly: Poly, numbers: Mapping[str, Fraction]) -> Poly:
    """`poly` where these atoms are these numbers at all of their indices."""
    result = field.constant(0)
    for monomial, coefficient in poly.terms.items():
        bound, entries = flatten(monomial)
        factor = math.prod((numbers[e.name] ** p for e, p in entries if e.name in numbers), start=coefficient)
        rest = [(e, p) for e, p in entries if e.name not in numbers]
        result += field.constant(factor) * field.assemble(bound, rest)
    return result


def names_in(poly: Poly) -> set[str]:
    """The names of the atoms that occur."""
    return {name for monomial in poly.terms for (name, _), _ in entries_of(monomial)}


def _comparison(field: Field, poly: Poly) -> Entry | None:
    for monomial in poly.terms:
        for factor, _ in monomial:
            function = function_of(field, factor)
            if isinstance(factor, Entry) and function is not None and function.kind in (ABOVE, ZERO):
                return factor
    return None


def _cases(
    field: Field, poly: Poly, entry: Entry, question: Question
) -> Iterable[tuple[tuple[Poly, ...], Question]]:
    """The polynomial, in one or two forms, in each case of a comparison that can be; what holds there."""
    for case in cases_of(field, entry):
        value = at_values(poly, case.values)
        if case.positive is not None:
            positive = (*question.positive, case.positive)
            if not exclude_each_other(field, positive, question.null):
                yield (value,), replace(question, positive=positive)
        left_out = any(truth and e.name in question.excluded for e, truth in case.values.items())
        if case.null is not None and not left_out:
            null = (*question.null, case.null)
            if not exclude_each_other(field, question.positive, null):
                yield (value, at_zero(field, value, case.null)), replace(question, null=null)


def _opened(field: Field, poly: Poly, linear: frozenset[str]) -> list[Poly] | None:
    """Polynomials that are all zero only if `poly` is; None if there is nothing to look under."""
    first = 1 + max(poly.free(), default=-1)
    step = _linear_part if any(e.name in linear for m in poly.terms for e, _ in entries_of(m)) else _first_sum
    parts: dict[tuple, Poly] = {}
    for monomial, coefficient in poly.terms.items():
        key, part = step(field, monomial, linear, first)
        parts[key] = parts.get(key, field.constant(0)) + field.constant(coefficient) * part
    return None if _NOTHING in parts and parts[_NOTHING].terms else list(parts.values())


def _linear_part(field: Field, monomial: Monomial, linear: frozenset[str], first: int) -> tuple[tuple, Poly]:
    """The entries of linear atoms, their bound indices made free; and what they are multiplied by."""
    bound, entries = flatten(monomial)
    chosen = sorted(((e, p) for e, p in entries if e.name in linear), key=lambda item: item[0].name)
    inside = dict.fromkeys(i for entry, _ in chosen for i in entry.indices if i < 0)
    names = {index: first + k for k, index in enumerate(inside)}
    rest = [(e, p) for e, p in entries if e.name not in linear]
    kept = {index: size for index, size in bound.items() if index not in names}
    return ("linear", *reindexed(chosen, names)), field.assemble(kept, reindexed(rest, names))


def _first_sum(field: Field, monomial: Monomial, linear: frozenset[str], first: int) -> tuple[tuple, Poly]:
    """What a monomial's first sum is multiplied by; and the sum's terms, their indices free."""
    for factor, power in monomial:
        if isinstance(factor, Sum) and power == 1:
            names = {-1 - k: first + k for k in range(len(factor.sizes))}
            outside = tuple(f for f in monomial if f[0] != factor)
            return (factor.sizes, outside), field.assemble({}, reindexed(factor.entries, names))
    return _NOTHING, Poly(field, {monomial: Fraction(1)})
