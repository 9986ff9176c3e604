"""Polynomials by position: along axes that tables index, each element for itself.

Where the sizes are given, a sum over a table's index is a finite sum of terms: Σ_j M_ij·x_j at i = 2 is
M_20·x_0 + M_21·x_1 + ….  Written out, the tables are numbers and the elements x_0, x_1, … atoms without that
index.  A polynomial is zero if each of its values is, at every position; of an atom nothing else is used
than that it has these elements.
"""

import itertools
import math
from collections.abc import Iterator, Mapping

from bnjax.prove.algebra import Atom, Poly
from bnjax.prove.field import Field
from bnjax.prove.monomials import Entry, Powers, entries_of, flatten

_TERMS = 100_000

Places = dict[int, int]


def by_position(field: Field, poly: Poly) -> list[Poly] | None:
    """The polynomial at each position of the axes that its tables index; None without one, or if too long."""
    sizes = _sizes_of_tables(field, poly)
    parts = at_each(field, poly, {size: int(size) for size in sizes}) if sizes else None
    return None if parts is None else list(parts.values())


def at_each(field: Field, poly: Poly, sizes: Mapping[str, int]) -> dict[tuple[int, ...], Poly] | None:
    """The polynomial at each position of its axes of these sizes, in numbers; those of its tables among them.

    By the values of its free indices of these sizes, in order; one that is not there is 0.  None if too long.
    """
    free = {i: sizes[size] for i, size in sorted(free_sizes(field, poly).items()) if size in sizes}
    flat = [(*flatten(monomial), coefficient) for monomial, coefficient in poly.terms.items()]
    if any(_at_least(field, bound, entries, free, sizes) > _TERMS for bound, entries, _ in flat):
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
                return None
            rest = [(_at(field, e, places), p) for e, p in entries if not field.has_values(e.name)]
            key = tuple(places[i] for i in free)
            term = field.assemble(left, rest) * field.constant(coefficient * weight)
            parts[key] = parts.get(key, field.constant(0)) + term
    return parts


def _at_least(
    field: Field, bound: Mapping[int, str], entries: Powers, free: Places, sizes: Mapping[str, int]
) -> int:
    """At how many positions a term is not zero, as far as is seen at a glance: of at most one table."""
    tables = [entry for entry, _ in entries if field.has_values(entry.name)]
    if len(tables) > 1 or (tables and len(set(tables[0].indices)) < len(tables[0].indices)):
        return 0
    seen = {i for table in tables for i in table.indices}
    others = {i: sizes[size] for i, size in bound.items() if size in sizes} | free
    count = field.nonzero(tables[0].name) if tables else 1
    return count * math.prod(size for i, size in others.items() if i not in seen)


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
    for (name, indices), power in entries:
        table = field.values_of(name)
        if table is None:
            continue
        rows = [(where, int(table[where]) ** power) for where in zip(*table.nonzero(), strict=True)]
        found = [
            ({**places, **dict(zip(indices, map(int, where), strict=True))}, weight * value)
            for places, weight in found
            for where, value in rows
            if all(places.get(i, k) == k for i, k in zip(indices, where, strict=True))
            and len({(i, k) for i, k in zip(indices, where, strict=True)}) == len(set(indices))
        ]
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
    return Entry(name, tuple(i for i, _ in kept))
