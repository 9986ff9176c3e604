"""Polynomials by position: along axes that tables index, each element for itself.

Where the sizes are given, a sum over a table's index is a finite sum of terms: Σ_j M_ij·x_j at i = 2 is
M_20·x_0 + M_21·x_1 + ….  Written out, the tables are numbers and the elements x_0, x_1, … atoms without that
index.  A polynomial is zero if each of its values is, at every position; of an atom nothing else is used
than that it has these elements, and of one that is defined what its definition says there.
"""

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from bnjax.prove.algebra import Atom, Poly
from bnjax.prove.definitions import Definition
from bnjax.prove.field import Field
from bnjax.prove.monomials import Entry, Powers, entries_of, flatten

_TERMS = 100_000

Places = dict[int, int]


def by_position(field: Field, poly: Poly) -> list[Poly] | None:
    """The polynomial at each position of the axes that its tables index, without what is defined there.

    None without a table, or if too long.
    """
    sizes = {size: int(size) for size in _sizes_of_tables(field, poly)}
    parts = at_each(field, poly, sizes) if sizes else None
    return None if parts is None else [_cleared(field, part, sizes) for part in parts.values()]


def _cleared(field: Field, part: Poly, sizes: Mapping[str, int]) -> Poly:
    """`part` cleared of quotients and roots at positions: there they are those of what stands there."""
    order = [d.name for d in field.definitions]
    made: dict[str, tuple[int, Definition]] = {}
    waiting = part.names() & field.located.keys()
    while waiting:
        name = waiting.pop()
        origin, places = field.located[name]
        known = next((d for d in field.definitions if d.name == origin and d.rule is None), None)
        value = known and _value_at(field, known.value, places, sizes)
        if known and value:
            made[name] = order.index(origin), Definition(name, known.power, value, None)
            waiting |= (value.names() & field.located.keys()) - made.keys()
    found = [definition for _, definition in sorted(made.values(), key=lambda pair: pair[0])]
    return field.cleared(part, found) if found else part


def _value_at(
    field: Field, value: Poly, places: Sequence[int | None], sizes: Mapping[str, int]
) -> Poly | None:
    """What a definition says at these positions of its slots, the others numbered anew."""
    written_out = {slot for slot, size in free_sizes(field, value).items() if size in sizes}
    parts = at_each(field, value, sizes)
    if parts is None or written_out != {slot for slot, place in enumerate(places) if place is not None}:
        return None
    part = parts.get(tuple(place for place in places if place is not None), field.constant(0))
    left = [slot for slot, place in enumerate(places) if place is None]
    return field.rename(part, {slot: k for k, slot in enumerate(left)})


def at_each(field: Field, poly: Poly, sizes: Mapping[str, int]) -> dict[tuple[int, ...], Poly] | None:
    """The polynomial at each position of its axes of these sizes, in numbers; those of its tables among them.

    By the values of its free indices of these sizes, in order; one that is not there is 0.  None if too long.
    """
    free = {i: sizes[size] for i, size in sorted(free_sizes(field, poly).items()) if size in sizes}
    flat = [(*flatten(monomial), coefficient) for monomial, coefficient in poly.terms.items()]
    if any(_count(field, bound, entries, free, sizes) > _TERMS for bound, entries, _ in flat):
        field.too_long = True
        return None
    parts: dict[tuple[int, ...], Poly] = {}
    count = 0
    for bound, entries, coefficient in flat:
        fixed = {i: sizes[size] for i, size in bound.items() if size in sizes} | free
        left = {i: size for i, size in bound.items() if i not in fixed}
        for places, weight in _assignments(field, entries, fixed):
            field.check_time()
            count += 1
            if count > _TERMS:
                field.too_long = True
                return None
            rest = [(_at(field, e, places), p) for e, p in entries if not field.has_values(e.name)]
            key = tuple(places[i] for i in free)
            term = field.assemble(left, rest) * field.constant(coefficient * weight)
            parts[key] = parts.get(key, field.constant(0)) + term
    return parts


def _count(
    field: Field, bound: Mapping[int, str], entries: Powers, free: Places, sizes: Mapping[str, int]
) -> float:
    """At how many positions a term is not zero, or one of its tables is."""
    tables = [entry for entry, _ in entries if field.has_values(entry.name)]
    if any(field.nonzero(name) > _TERMS for name, _ in tables):
        return math.inf
    seen = sorted({i for table in tables for i in table.indices})
    others = {i: sizes[size] for i, size in bound.items() if size in sizes} | free
    count = math.prod(float(size) for i, size in others.items() if i not in seen)
    if not tables:
        return count
    operands: list[Any] = []
    for k, (name, indices) in enumerate(tables):  # what nothing else has is summed at once
        others_have = {i for j, table in enumerate(tables) if j != k for i in table.indices}
        letters = [seen.index(i) for i in indices]
        kept = [seen.index(i) for i in dict.fromkeys(indices) if i in others_have]
        mask: Any = np.asarray(field.values_of(name)) != 0
        operands += [np.einsum(mask.astype(float), letters, kept), kept]
    return count * float(np.einsum(*operands, [], optimize="greedy"))


def _sizes_of_tables(field: Field, poly: Poly) -> set[str]:
    names = {entry.name for monomial in poly.terms for entry, _ in entries_of(monomial)}
    return {size for name in names if field.has_values(name) for size in field.atoms[name].sizes}


def free_sizes(field: Field, poly: Poly) -> dict[int, str]:
    """The sizes of the free indices that occur."""
    return {
        index: size
        for monomial in poly.terms
        for (name, indices), _ in entries_of(monomial)
        for index, size in zip(indices, field.atoms[name].sizes, strict=True)
        if index >= 0
    }


def _assignments(field: Field, entries: Powers, fixed: dict[int, int]) -> Iterator[tuple[Places, int]]:
    """Positions for the fixed indices where the tables' product is not zero, and that product."""
    found: list[tuple[Places, int]] = [({}, 1)]
    known: set[int] = set()
    for (name, indices), power in entries:
        table = field.values_of(name)
        if table is None:
            continue
        shared = sorted(known & set(indices))
        rows: dict[tuple[int, ...], list[tuple[Places, int]]] = {}
        for where in zip(*(axis.tolist() for axis in table.nonzero()), strict=True):
            at = dict(zip(indices, where, strict=True))
            if tuple(at[i] for i in indices) == where:  # an index that it has twice is one number
                rows.setdefault(tuple(at[i] for i in shared), []).append((at, int(table[where]) ** power))
        found = [
            ({**places, **at}, weight * value)
            for places, weight in found
            for at, value in rows.get(tuple(places[i] for i in shared), ())
        ]
        known |= set(indices)
    for places, weight in found:
        missing = [i for i in fixed if i not in places]
        for chosen in itertools.product(*(range(fixed[i]) for i in missing)):
            yield {**places, **dict(zip(missing, chosen, strict=True))}, weight


def _at(field: Field, entry: Entry, places: Places) -> Entry:
    """The entry with some of its indices at positions: an atom of the others."""
    if not any(i in places for i in entry.indices):
        return entry
    atom = field.atoms[entry.name]
    words = ",".join(str(places.get(i, ":")) for i in entry.indices)
    name = f"{entry.name}.at({words})"
    kept = [(i, size) for i, size in zip(entry.indices, atom.sizes, strict=True) if i not in places]
    if name not in field.atoms:
        sizes = tuple(size for _, size in kept)
        field.atoms[name] = Atom(name, sizes, atom.positive, atom.boolean)
        field.located[name] = entry.name, tuple(places.get(i) for i in entry.indices)
    return Entry(name, tuple(i for i, _ in kept))
