"""Monomials: products of powers of entries, and of sums of such products, each under one name.

A sum over bound indices does not depend on how they are called; `factor_of` gives all its spellings one
name, so that equal monomials are equal tuples.
"""

import functools
import itertools
import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

_PERMUTATIONS = 5040  # of bound indices that look alike, tried for a sum's name


class Entry(NamedTuple):
    """An entry of an atom: its name, and the free (≥ 0) or bound (< 0) indices."""

    name: str
    indices: tuple[int, ...] = ()


class Sum(NamedTuple):
    """Σ over the bound indices -1, -2, ..., of these sizes, of a product of powers of entries."""

    sizes: tuple[str, ...]
    entries: tuple[tuple[Entry, int], ...]


Factor = Entry | Sum
Powers = list[tuple[Entry, int]]
Monomial = tuple[tuple[Factor, int], ...]  # entries first, then sums, each in order


def entries_of(monomial: Monomial) -> Iterable[tuple[Entry, int]]:
    """Every entry that occurs, those under sums too."""
    for factor, power in monomial:
        if isinstance(factor, Sum):
            yield from factor.entries
        else:
            yield factor, power


def flatten(monomial: Monomial) -> tuple[dict[int, str], Powers]:
    """A monomial as one sum: its bound indices, renamed apart, and all its entries."""
    bound: dict[int, str] = {}
    entries: Powers = []
    for factor, power in monomial:
        if not isinstance(factor, Sum):
            entries.append((factor, power))
            continue
        assert power > 0, "sums are inverted by definition, never by a negative power"
        for _ in range(power):
            shift = len(bound)
            bound |= {-1 - shift - k: size for k, size in enumerate(factor.sizes)}
            entries += _shifted(factor.entries, shift)
    return bound, entries


def _shifted(entries: Iterable[tuple[Entry, int]], shift: int) -> Powers:
    """The bound indices -1, -2, ... renamed to -1 - shift, -2 - shift, ..."""
    if not shift:
        return list(entries)
    return [(Entry(n, tuple(i - shift if i < 0 else i for i in ii)), p) for (n, ii), p in entries]


def ordered(powers: Iterable[tuple[Factor, int]]) -> Monomial:
    """The monomial of these powers: factors whose power is 0 leave, entries come first, sums last."""
    entries: list = []
    sums: list = []
    for factor, power in powers:
        if power:
            (sums if isinstance(factor, Sum) else entries).append((factor, power))
    return (*sorted(entries), *sorted(sums))


def components(powers: dict[Entry, int]) -> list[tuple[set[int], Powers]]:
    """The entries, in parts that share no bound index."""
    parts: list[tuple[set[int], Powers]] = []
    for entry, power in powers.items():
        bound = {i for i in entry.indices if i < 0}
        joined = [(entry, power)]
        rest = []
        for part_bound, part in parts:
            if part_bound & bound:
                bound |= part_bound
                joined += part
            else:
                rest.append((part_bound, part))
        parts = [*rest, (bound, joined)]
    return parts


def factor_of(bound: dict[int, str], part: Powers) -> Factor:
    """The one name of Σ over `bound` of a product of entries that hang together; of an entry, itself."""
    if not bound:
        return part[0][0]
    order = sorted(bound)
    numbers = {b: -1 - k for k, b in enumerate(order)}
    return _canonical(tuple(bound[b] for b in order), tuple(sorted(reindexed(part, numbers))))


def reindexed(entries: Iterable[tuple[Entry, int]], names: Mapping[int, int]) -> Powers:
    """The entries with other indices in the place of those in `names`."""
    return [(Entry(n, tuple(names.get(i, i) for i in ii)), p) for (n, ii), p in entries]


def free_indices(factor: Factor) -> set[int]:
    """The free indices that occur in a factor."""
    entries = factor.entries if isinstance(factor, Sum) else ((factor, 1),)
    return {i for entry, _ in entries for i in entry.indices if i >= 0}


def renamed(factor: Factor, names: Mapping[int, int]) -> Factor:
    """The factor with other free indices in the place of those in `names`."""
    if isinstance(factor, Sum):
        return _canonical(factor.sizes, tuple(sorted(reindexed(factor.entries, names))))
    return Entry(factor.name, tuple(names.get(i, i) for i in factor.indices))


@functools.lru_cache(maxsize=100_000)
def _canonical(sizes: tuple[str, ...], entries: tuple[tuple[Entry, int], ...]) -> Sum:
    """One name for all sums that differ in the names of their bound indices (or, past a limit, a name)."""
    colors = _colors(sizes, entries)
    classes = [[b for b in colors if colors[b] == color] for color in sorted(set(colors.values()))]
    if math.prod(math.factorial(len(c)) for c in classes) > _PERMUTATIONS:
        return Sum(sizes, entries)
    best = None
    for choice in itertools.product(*(itertools.permutations(c) for c in classes)):
        order = [b for group in choice for b in group]
        names = {b: -1 - k for k, b in enumerate(order)}
        candidate = tuple(sorted(reindexed(entries, names)))
        if best is None or candidate < best[1]:
            best = (tuple(sizes[-1 - b] for b in order), candidate)
    assert best is not None
    return Sum(*best)


def _colors(sizes: tuple[str, ...], entries: tuple[tuple[Entry, int], ...]) -> dict[int, tuple]:
    """A mark for each bound index that no renaming changes: its size, and where it occurs."""
    marks: dict[int, tuple] = {}
    for b in range(-len(sizes), 0):
        places = [
            (name, power, tuple(0 if i == b else i + 1 if i >= 0 else -1 for i in indices))
            for (name, indices), power in entries
            if b in indices
        ]
        marks[b] = (sizes[-1 - b], tuple(sorted(places)))
    return marks
