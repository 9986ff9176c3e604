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
from bnjax.prove.comparisons import ABOVE, ZERO, Case, at_values, at_zero, cases_of
from bnjax.prove.diagonals import Pairs, merged, zero_where_equal
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
      distinct: pairs of free indices, the smaller first, that are not equal.
    """

    linear: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    positive: tuple[Poly, ...] = ()
    null: tuple[Poly, ...] = ()
    distinct: Pairs = ()


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
    opened = _opened(field, poly, question) if depth else None
    if opened is not None and all(vanishes(field, part, asked, depth - 1) for part, asked in opened):
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
            number = _with_numbers(field, definition.value, numbers).constant()
            numbers |= {definition.name: number} if number else {}
    return _with_numbers(field, poly, numbers)


def _with_numbers(field: Field, poly: Poly, numbers: Mapping[str, Fraction]) -> Poly:
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


def names_inside(field: Field, polys: Iterable[Poly]) -> set[str]:
    """The names of the atoms that occur, and of those in the definitions of these."""
    return field.inside(set().union(*map(names_in, polys)))


def _comparison(field: Field, poly: Poly) -> Entry | None:
    factors = (factor for monomial in poly.terms for factor, _ in monomial)
    return next((f for f in factors if isinstance(f, Entry) and _is_comparison(field, f)), None)


def _is_comparison(field: Field, entry: Entry) -> bool:
    function = function_of(field, entry)
    return function is not None and function.kind in (ABOVE, ZERO)


def _is_left_out(case: Case, question: Question) -> bool:
    """Whether it is that of a point that is left out."""
    return any(truth and entry.name in question.excluded for entry, truth in case.values.items())


def _cases(
    field: Field, poly: Poly, entry: Entry, question: Question
) -> Iterable[tuple[tuple[Poly, ...], Question]]:
    """The polynomial, in one or two forms, in each case of a comparison that can be; what holds there.

    Where the points p = 0 are left out, those indices are not at which p is 0 whatever the data are, nor is
    anything where p is 0 by what is known.
    """
    only = True  # of the cases, that of p = 0 comes last
    for case in cases_of(field, entry):
        value = at_values(poly, case.values)
        if case.positive is None and case.null is None:
            yield (value,), question
        if case.positive is not None:
            asked = replace(question, positive=(*question.positive, case.positive))
            if _can_be(field, asked):
                only = False
                yield (value,), asked
        if case.null is None:
            continue
        if _is_left_out(case, question) and not (only and question.null):
            for i, j in set(zero_where_equal(field, case.null)) - set(question.distinct):
                asked = where_equal(field, question, {j: i})
                if _can_be(field, asked):
                    yield (merged(field, poly, {j: i}),), asked
            continue
        asked = replace(question, null=(*question.null, case.null))
        if _can_be(field, asked):
            yield (value, at_zero(field, value, case.null)), asked


def _can_be(field: Field, question: Question) -> bool:
    return not exclude_each_other(field, question.positive, question.null)


def where_equal(field: Field, question: Question, names: Mapping[int, int]) -> Question:
    """The question at equal indices; of those that are distinct from one of them nothing is kept."""
    positive, null = (
        tuple(merged(field, poly, names) for poly in polys) for polys in (question.positive, question.null)
    )
    distinct = tuple(pair for pair in question.distinct if names.keys().isdisjoint(pair))
    return replace(question, positive=positive, null=null, distinct=distinct)


def _opened(field: Field, poly: Poly, question: Question) -> list[tuple[Poly, Question]] | None:
    """Polynomials that are all zero only if `poly` is; None if there is nothing to look under.

    Where points are left out at which numbers of two indices are equal, equal indices are apart from others:
    Σ_ij a_ij + Σ_i b_i is zero if a_ij is where i ≠ j, and a_ii + b_i.
    """
    linear, first = question.linear, _unused_index(poly, question)
    step = _linear_part if any(e.name in linear for m in poly.terms for e, _ in entries_of(m)) else _first_sum
    parts: dict[tuple, Poly] = {}
    for monomial, coefficient in poly.terms.items():
        key, part = step(field, monomial, linear, first)
        parts[key] = parts.get(key, field.constant(0)) + field.constant(coefficient) * part
    if _NOTHING in parts and parts[_NOTHING].terms:
        return None
    opened = []
    while parts:
        key = max(parts, key=lambda key: _new_indices(key, first))
        part, asked = parts.pop(key), question
        pairs = _left_out_pairs(field, part, question, first)
        if len(pairs) == 1:
            ((i, j),) = pairs
            other, names = _where_they_meet(key, i, j, first)
            parts[other] = parts.get(other, field.constant(0)) + merged(field, part, names)
            asked = replace(question, distinct=(*question.distinct, (i, j)))
        opened.append((part, asked))
    return opened


def _unused_index(poly: Poly, question: Question) -> int:
    """From which on no index is that of the polynomial, nor of what is known."""
    known = (index for each in (poly, *question.positive, *question.null) for index in each.free())
    return 1 + max((*known, *(index for pair in question.distinct for index in pair)), default=-1)


def _left_out_pairs(field: Field, poly: Poly, question: Question, first: int) -> set[tuple[int, int]]:
    """Of the indices from `first` on, the pairs at which what is left out is 0 whatever the data are."""
    compared = {f for m in poly.terms for f, _ in m if isinstance(f, Entry) and _is_comparison(field, f)}
    cases = [case for entry in compared for case in cases_of(field, entry) if _is_left_out(case, question)]
    pairs = {pair for case in cases if case.null is not None for pair in zero_where_equal(field, case.null)}
    return {(i, j) for i, j in pairs if i >= first}


def _new_indices(key: tuple, first: int) -> int:
    """How many indices a part has that its key has made free."""
    if key[:1] == ("linear",):
        return len({i for entry, _ in key[1:] for i in entry.indices if i >= first})
    return len(key[0]) if key else 0


def _where_they_meet(key: tuple, i: int, j: int, first: int) -> tuple[tuple, dict[int, int]]:
    """The key of the terms of a part at i = j, and the indices' names there."""
    if key[0] == "linear":
        entries = reindexed(key[1:], {j: i})
        order = dict.fromkeys(k for entry, _ in entries for k in entry.indices if k >= first)
        names = {old: first + k for k, old in enumerate(order)}
        return ("linear", *reindexed(entries, names)), names | {j: names[i]}
    sizes, outside = key
    left = (*sizes[: j - first], *sizes[j - first + 1 :])
    return (left, outside), {j: i} | {k: k - 1 for k in range(j + 1, first + len(sizes))}


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
