"""Indices that are equal: what a polynomial is at i = j, and where that alone makes it zero, as x_i − x_j.

A comparison of x_i − x_j with 0 is one of the data where i ≠ j, and none where i = j.
"""

import itertools
import math
from collections.abc import Iterator, Mapping

from bnjax.prove.algebra import Poly
from bnjax.prove.field import Field
from bnjax.prove.positions import free_sizes

Pairs = tuple[tuple[int, int], ...]  # of free indices of one size

_MOST = 4  # free indices of one size whose arrangements are gone through


def merged(field: Field, poly: Poly, names: Mapping[int, int]) -> Poly:
    """`poly` where free indices are others, which may be there already."""
    return field.reduce(field.rename(poly, names))


def zero_where_equal(field: Field, poly: Poly) -> Pairs:
    """The pairs of free indices that make `poly` zero where they are equal."""
    sizes = free_sizes(field, poly)
    pairs = itertools.combinations(sorted(sizes), 2)
    return tuple((i, j) for i, j in pairs if sizes[i] == sizes[j] and not merged(field, poly, {j: i}).terms)


def apart(field: Field, poly: Poly) -> Poly:
    """1 where none of the pairs that make `poly` zero are equal, else 0."""
    sizes, one = free_sizes(field, poly), field.constant(1)
    deltas = (field.delta(sizes[i], i, j) for i, j in zero_where_equal(field, poly))
    return math.prod((one - delta for delta in deltas), start=one)


def arrangements(field: Field, poly: Poly) -> Iterator[dict[int, int]] | None:
    """Which free indices are equal: each one's first equal, in every way there is; None if there are many."""
    by_size: dict[str, list[int]] = {}
    for index, size in sorted(free_sizes(field, poly).items()):
        by_size.setdefault(size, []).append(index)
    if any(len(indices) > _MOST for indices in by_size.values()):
        return None
    ways = itertools.product(*(list(_partitions(indices)) for indices in by_size.values()))
    return ({i: first for way in each for i, first in way.items()} for each in ways)


def _partitions(indices: list[int]) -> Iterator[dict[int, int]]:
    if not indices:
        yield {}
        return
    *others, last = indices
    for way in _partitions(others):
        for first in dict.fromkeys((*way.values(), last)):
            yield {**way, last: first}
