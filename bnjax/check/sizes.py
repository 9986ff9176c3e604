"""Small sizes for the dimensions of the arguments, at which whatever ties their shapes together holds."""

from collections.abc import Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

SMALL = 8  # the largest size of a shrunk dimension
MOST_ELEMENTS = 1024  # of a shrunk array

Sizes = dict[int, int]


class Role(Enum):
    """What small shapes are looked at for, besides the value in float64."""

    VALUE = "nothing"
    NARROW = "narrower dtypes"
    MAIN = "narrower dtypes, transformations, second derivatives, differences, NaN"


_ROLES = {1: Role.NARROW, 3: Role.MAIN}  # by the batch


class Shrunk(NamedTuple):
    """Sizes to try: a map from those that came; the seed of what is drawn there.

    `reshaped` says that other sizes than the batch's have changed, which a rule may not be made for;
    `second` has the sizes of those axes whose size an earlier axis of the same array has as well.
    """

    sizes: Sizes
    seed: int
    role: Role = Role.VALUE
    reshaped: bool = False
    second: Mapping[int, int] = MappingProxyType({})

    @property
    def alone(self) -> bool:
        """Whether it changes the only size that came: 3 may be what a vector of space has."""
        return len(self.sizes) == 1

    def of(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The small shape of an array of `shape`."""
        small = list(resized(shape, self.sizes))
        for k, size in enumerate(shape):
            before = shape[:k].count(size)
            if before and size in self.second:
                small[k] = self.second[size] + before - 1
        return tuple(small)


def shrunk_sizes(shapes: Sequence[tuple[int, ...]]) -> list[Shrunk]:
    """Small sizes for the arguments' dimensions.

    Equal sizes stay equal and 1 stays 1, so whatever relation ties the arguments' shapes together holds.
    The size of most elements, taken to be the batch, runs from 1 to 8 while the others are small and
    distinct; then each of the others takes its turn, from 1 to 5.
    """
    sizes = _sizes(shapes)
    if not sizes:
        return [Shrunk({}, 0, Role.NARROW)]
    small, leader = _small(sizes), _leader(shapes, sizes)
    tried = [(small | {leader: k}, _ROLES.get(k, Role.VALUE)) for k in range(1, SMALL + 1)]
    others = [size for size in sizes if size != leader]
    if len(others) > 1:  # sizes that coincide: a square matrix, and then every shape at once
        tried.append((dict.fromkeys(others, 3) | {leader: 4}, Role.VALUE))
    if others:
        tried.append((dict.fromkeys(sizes, 3), Role.VALUE))
    for size in sizes:
        if size != leader:
            turns = (small | {leader: 4 if k == 1 else 3, size: k} for k in (1, 5, 4, 2))
            tried += [(turn, Role.VALUE) for turn in turns if turn != small | {leader: 3}]
    return _seeded(shapes, tried, 0)


def split_sizes(shapes: Sequence[tuple[int, ...]]) -> list[Shrunk]:
    """Small sizes at which axes of one array differ that came equal: images need not be square."""
    again = {size for shape in shapes for k, size in enumerate(shape) if size != 1 and size in shape[:k]}
    if not again:
        return []
    small = _small(_sizes(shapes))
    second = {size: small[size] + 1 for size in again}
    return [Shrunk(small, 30, Role.VALUE, True, second), Shrunk(small | second, 31, Role.VALUE, True, small)]


def fewer_sizes(shapes: Sequence[tuple[int, ...]]) -> list[Shrunk]:
    """The batch alone made smaller, for functions that hold other sizes fixed, be they equal to the batch."""
    sizes = _sizes(shapes)
    if not sizes:
        return []
    leader = _leader(shapes, sizes)
    batches = [k for k in (1, 2, 3, 5, SMALL) if k != leader]
    found = _seeded(shapes, [({leader: k}, _ROLES.get(k, Role.VALUE)) for k in batches], 20)
    if any(shape.count(leader) > 1 for shape in shapes):
        found += [shrunk._replace(seed=shrunk.seed + 20, second={leader: leader}) for shrunk in found]
    return found


def grown_sizes(shapes: Sequence[tuple[int, ...]]) -> list[Shrunk]:
    """Sizes in which 1 is taken for a size like any other, for arguments that show nothing otherwise."""
    sizes = {size for shape in shapes for size in shape}
    if 1 not in sizes:
        return []
    small = _small(sorted(sizes - {1}, reverse=True))
    others = {size: size if size <= SMALL else k for size, k in small.items()}
    return [Shrunk(others | {1: k}, seed) for seed, k in enumerate((3, 5, 8))]


def _sizes(shapes: Sequence[tuple[int, ...]]) -> list[int]:
    return sorted({size for shape in shapes for size in shape if size != 1}, reverse=True)


def _small(sizes: Sequence[int]) -> Sizes:
    """Small and mostly distinct: 2, 3 and 4, the smallest first of sizes that fall."""
    return {size: 2 + i % 3 for i, size in enumerate(reversed(sizes))}


def _seeded(
    shapes: Sequence[tuple[int, ...]], tried: Sequence[tuple[Sizes, Role]], seed: int
) -> list[Shrunk]:
    """Those of few enough elements, each with its seed."""
    few = [(s, role) for s, role in tried if max(_elements(shape, s) for shape in shapes) <= MOST_ELEMENTS]
    leader = _leader(shapes, _sizes(shapes))
    return [
        Shrunk(sizes, number, role, any(s != k for s, k in sizes.items() if s != leader))
        for number, (sizes, role) in enumerate(few, seed)
    ]


def resized(shape: tuple[int, ...], sizes: Sizes) -> tuple[int, ...]:
    """`shape` with the sizes that `sizes` names changed."""
    return tuple(sizes.get(size, size) for size in shape)


def _leader(shapes: Sequence[tuple[int, ...]], sizes: Sequence[int]) -> int:
    """The first size of the first largest array: by custom, the batch."""
    largest = max(shapes, key=lambda shape: (len(shape), int(np.prod(shape))))
    return next((size for size in largest if size != 1), sizes[0])


def _elements(shape: tuple[int, ...], sizes: Sizes) -> int:
    return int(np.prod(resized(shape, sizes)))
