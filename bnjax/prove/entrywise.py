"""Polynomials in which tables stand, entry by entry: are they zero?

Within each term the tables are multiplied, summed over the indices that nothing else has, and added up over
the terms that agree in everything else.  A polynomial whose coefficients all come to 0 is zero.  Only what
is not 0 in a table is looked at: of the windows of a convolution, which meet few elements, all at once.

Why it is sound.  Each step is a finite sum taken entry by entry, in integers.  An index that a table shares
with something else, in any term, is first made two, with a table that is 1 where they are equal: Σ_i of a
product is that sum over both.  Then Σ_i of a product with a factor that has no i is this factor times the
sum, and terms with the same other factors add up.  What is too large is left as it is: nothing is concluded.
"""

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from bnjax.prove.algebra import Poly
from bnjax.prove.monomials import Entry, Powers, flatten, reindexed
from bnjax.prove.tables import Tables

_NONZERO = 2**22  # of a product of tables
_VALUES = 2**20  # of its entries: sums and products of them stay below 2⁶³
_PLACES = 2**62  # that are counted
_ORDERS = 24  # of entries of one name

Slot = tuple[str, int]  # an atom, and which of its indices
Key = tuple[tuple[tuple[str, tuple[int, ...]], int], ...]


@dataclass(frozen=True)
class _Support:
    """The entries of a table that are not 0: the indices, each one's size, the places, and the values."""

    indices: tuple[int, ...]
    sizes: tuple[int, ...]
    places: np.ndarray  # (entries, indices)
    values: np.ndarray  # integers

    def __post_init__(self) -> None:
        """Raise _TooLarge where what is computed next might not fit an integer."""
        high = np.abs(self.values).max(initial=0) > _VALUES or len(self.values) > _NONZERO
        if high or math.prod(self.sizes) > _PLACES:
            raise _TooLarge


class _TooLarge(Exception):
    """More entries than are looked at."""


def is_zero_by_entries(field: Tables, poly: Poly) -> bool:
    """True only if `poly` is zero by the entries of the tables in it."""
    terms = [(c, *_sorted_out(field, flatten(monomial)[1])) for monomial, c in poly.terms.items()]
    if not any(tables for _, tables, _ in terms):
        return False
    slots = set().union(*(_touched(tables, others) for _, tables, others in terms))
    touched = {(name, k): int(field.atoms[name].sizes[k]) for name, k in slots}
    groups: dict[Key, list[tuple[Fraction, _Support]]] = {}
    try:
        for coefficient, tables, others in terms:
            field.check_time()
            key, support = _taken_apart(field, tables, others, touched)
            groups.setdefault(key, []).append((coefficient, support))
        return all(_adds_up_to_zero(group) for group in groups.values())
    except _TooLarge:
        return False


def _sorted_out(field: Tables, entries: Powers) -> tuple[Powers, Powers]:
    """The tables of a term, deltas over a given size among them, and what else it has."""
    tables = [(e, p) for e, p in entries if p > 0 and field.has_values(e.name)]
    return tables, [item for item in entries if item not in tables]


def _touched(tables: Powers, others: Powers) -> set[Slot]:
    """The places of atoms whose index a table has as well."""
    indices = {index for e, _ in tables for index in e.indices}
    return {(e.name, k) for e, _ in others for k, index in enumerate(e.indices) if index in indices}


def _taken_apart(
    field: Tables, tables: Powers, others: Powers, touched: Mapping[Slot, int]
) -> tuple[Key, _Support]:
    """A term as what is no table, each touched place with an index of its own, and its tables' product."""
    supports = [_support(field, e, power) for e, power in tables]
    given = (-1, *(i for e, _ in (*tables, *others) for i in e.indices))
    new = itertools.count(min(given) - 1, -1)
    apart: Powers = []
    for factor, power in others:
        indices = list(factor.indices)
        for k, index in enumerate(factor.indices):
            if (factor.name, k) in touched:
                indices[k] = next(new)
                supports.append(_equal(index, indices[k], touched[factor.name, k]))
        apart.append((Entry(factor.name, tuple(indices)), power))
    free = {i for support in supports for i in support.indices if i >= 0}
    whole = _product(supports, free | {i for e, _ in apart for i in e.indices})
    names, key = _named(apart)
    renamed = [names.get(i, i) for i in whole.indices]
    order = sorted(range(len(renamed)), key=renamed.__getitem__)
    indices_in_order = tuple(renamed[k] for k in order)
    return key, _Support(
        indices_in_order, tuple(whole.sizes[k] for k in order), whole.places[:, order], whole.values
    )


def _equal(a: int, b: int, size: int) -> _Support:
    """1 where two indices are equal."""
    line = np.arange(size)
    return _Support((a, b), (size, size), np.stack([line, line], axis=1), np.ones(size, np.int64))


def _support(field: Tables, factor: Entry, power: int) -> _Support:
    table = field.values_of(factor.name)
    assert table is not None
    if power > 1 and np.abs(table).max() > 1:
        raise _TooLarge
    table = table**power
    places = np.argwhere(table)
    indices = factor.indices
    for k, index in enumerate(indices):  # on a diagonal
        first = indices.index(index)
        if first != k:
            places = places[places[:, first] == places[:, k]]
    own = list(dict.fromkeys(indices))
    columns = [indices.index(index) for index in own]
    sizes = tuple(table.shape[k] for k in columns)
    return _Support(tuple(own), sizes, places[:, columns], table[tuple(places.T)])


def _product(tables: Sequence[_Support], kept: Iterable[int]) -> _Support:
    """The product, summed over the indices that are not kept as soon as no other table has them."""
    whole = _Support((), (), np.zeros((1, 0), np.int64), np.ones(1, np.int64))
    rest = list(tables)
    while rest:
        # one that shares an index, if there is one: it cannot blow the product up
        rest.sort(key=lambda t: (not set(t.indices) & set(whole.indices), len(t.values)))
        whole = _times(whole, rest.pop(0))
        needed = set(kept).union(*(t.indices for t in rest))
        whole = _summed(whole, [k for k, index in enumerate(whole.indices) if index in needed])
    return whole


def _times(a: _Support, b: _Support) -> _Support:
    shared = [index for index in b.indices if index in a.indices]
    left = _numbers(a, shared)
    right = _numbers(b, shared)
    order = np.argsort(right, kind="stable")
    starts = np.searchsorted(right[order], left, "left")
    counts = np.searchsorted(right[order], left, "right") - starts
    if counts.sum() > _NONZERO:
        raise _TooLarge
    rows = np.repeat(np.arange(len(left)), counts)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    matches = order[np.repeat(starts, counts) + within]
    new = [k for k, index in enumerate(b.indices) if index not in a.indices]
    return _Support(
        (*a.indices, *(b.indices[k] for k in new)),
        (*a.sizes, *(b.sizes[k] for k in new)),
        np.concatenate([a.places[rows], b.places[matches][:, new]], axis=1),
        a.values[rows] * b.values[matches],
    )


def _numbers(a: _Support, indices: Sequence[int]) -> np.ndarray:
    """One number for each entry, that says where it is along these indices."""
    result = np.zeros(len(a.values), np.int64)
    for index in indices:
        k = a.indices.index(index)
        result = result * a.sizes[k] + a.places[:, k]
    return result


def _summed(a: _Support, columns: Sequence[int]) -> _Support:
    """Σ over the other columns."""
    if len(columns) == len(a.indices):
        return a
    indices = tuple(a.indices[k] for k in columns)
    _, first, inverse = np.unique(_numbers(a, indices), return_index=True, return_inverse=True)
    values = np.zeros(len(first), np.int64)
    np.add.at(values, inverse, a.values)
    sizes = tuple(a.sizes[k] for k in columns)
    return _Support(indices, sizes, a.places[first][:, list(columns)], values)


def _named(others: Powers) -> tuple[dict[int, int], Key]:
    """Names for the bound indices by where they come first, in the order that makes the smallest key."""
    groups = [list(g) for _, g in itertools.groupby(sorted(others), key=lambda item: (item[0].name, item[1]))]
    if math.prod(math.factorial(len(group)) for group in groups) > _ORDERS:
        raise _TooLarge
    best: tuple[Key, dict[int, int]] | None = None
    for choice in itertools.product(*(itertools.permutations(group) for group in groups)):
        names: dict[int, int] = {}
        for factor, _ in itertools.chain(*choice):
            for index in factor.indices:
                if index < 0:
                    names.setdefault(index, -1 - len(names))
        key = tuple(((e.name, e.indices), p) for e, p in reindexed(itertools.chain(*choice), names))
        if best is None or key < best[0]:
            best = key, names
    assert best is not None
    return best[1], best[0]


def _adds_up_to_zero(group: Sequence[tuple[Fraction, _Support]]) -> bool:
    """Whether multiples of tables add up to 0 everywhere."""
    sizes: dict[int, int] = {}
    for _, support in group:
        sizes |= dict(zip(support.indices, support.sizes, strict=True))
    wanted = sorted(sizes)
    scale = math.lcm(*(coefficient.denominator for coefficient, _ in group))
    if max(abs(c) * scale for c, _ in group) > _VALUES:
        raise _TooLarge
    places, values = [], []
    for coefficient, support in group:
        dense = [np.arange(sizes[index]) for index in wanted if index not in support.indices]
        whole = support
        for index, line in zip([i for i in wanted if i not in support.indices], dense, strict=True):
            whole = _times(
                whole, _Support((index,), (len(line),), line[:, None], np.ones(len(line), np.int64))
            )
        places.append(_numbers(whole, wanted))
        if sum(map(len, places)) > _NONZERO:
            raise _TooLarge
        values.append(whole.values * int(coefficient * scale))
    _, inverse = np.unique(np.concatenate(places), return_inverse=True)
    totals = np.zeros(inverse.max(initial=-1) + 1, np.int64)
    np.add.at(totals, inverse, np.concatenate(values))
    return not totals.any()
