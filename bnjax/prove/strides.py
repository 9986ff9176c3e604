r"""Every s-th element along an axis: the slices x[i::s], i < s, are arrays of their own.

An argument of which a program takes such slices is all of them put together, x_k = x^i_h where k = h·s + i:
the axis is two, h and i, and x = Σ_i e_i·x^i with e_i[j] = [i = j].  This is one-to-one, so that what holds
for all x^i holds for all x; a slice is then no sum over a table of the whole axis, but x^i itself.
"""

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from bnjax.prove.algebra import Atom, Poly
from bnjax.prove.arrays import Array, finite
from bnjax.prove.field import Field
from bnjax.prove.monomials import entries_of
from bnjax.prove.space import Axis, Dims, Space, Strides

_PARTS = 16  # of one argument


class Cut(Exception):
    """A program slices an axis by this stride: the arguments are to be cut along it."""

    def __init__(self, axis: Axis, stride: int):
        super().__init__(f"{axis} by {stride}")
        self.axis = axis
        self.stride = stride


def is_cut(space: Space, a: Array, axis: int, start: int, stride: int, count: int) -> bool:
    """Whether a[start::stride] is one of the slices that the axis is cut into; raises Cut if it should be."""
    dim, key = a.dims[axis], (len(a.dims), axis, "·".join(a.dims[axis]))
    given = all(size.isdigit() for size in dim)
    if stride < 2 or not 0 <= start < stride or not given or math.prod(map(int, dim)) != count * stride:
        return False
    if len(dim) == 1 and key not in space.strides and not _is_indexed(space.field, a, axis):
        raise Cut(key, stride)
    return dim[-1] == str(stride)


def is_among(space: Space, a: Array, axis: int, start: int, stride: int, size: int) -> bool:
    """Whether start::stride of an axis of this size is a place that arguments along it are cut into."""
    return 0 <= start < stride == space.strides.get((len(a.dims), axis, str(size)))


def _is_indexed(field: Field, a: Array, axis: int) -> bool:
    """Whether a table already says where the elements along an axis come from."""
    indices = set(a.positions()[axis])
    entries = (entry for monomial in finite(a).terms for entry, _ in entries_of(monomial))
    return any(field.has_values(e.name) and indices & set(e.indices) for e in entries)


def cut_axes(dims: Dims, strides: Strides) -> tuple[Dims, list[int]]:
    """Base axes in which the strided ones are cut, and for each dimension how many of them number slices."""
    result, cuts = [], []
    for axis, dim in enumerate(dims):
        tail: tuple[str, ...] = ()
        while len(dim) == 1 and (len(dims), axis, dim[0]) in strides:
            stride = strides[len(dims), axis, dim[0]]
            rest = int(dim[0]) // stride
            dim, tail = (str(rest),) if rest > 1 else (), (str(stride), *tail)
        result.append((*dim, *tail))
        cuts.append(len(tail))
    parts = math.prod(int(s) for dim, cut in zip(result, cuts, strict=True) for s in dim[len(dim) - cut :])
    return (tuple(result), cuts) if parts <= _PARTS else (dims, [0] * len(dims))


def in_parts(field: Field, atom: Atom, dims: Dims, cuts: Sequence[int]) -> Poly:
    """An unknown array over `dims`, as the sum of its slices, which are unknown arrays: x[0::2] of x."""
    index = itertools.count()
    kept: list[tuple[int, str]] = []
    tails: list[list[tuple[int, int]]] = []  # the indices that number the slices of a dimension
    for dim, cut in zip(dims, cuts, strict=True):
        indexed = [(next(index), size) for size in dim]
        kept += indexed[: len(dim) - cut]
        tails.append([(i, int(size)) for i, size in indexed[len(dim) - cut :]])
    total, numbered = field.constant(0), [pair for tail in tails for pair in tail]
    for chosen in itertools.product(*(range(size) for _, size in numbered)):
        at = dict(zip((i for i, _ in numbered), chosen, strict=True))
        name = f"{atom.name}[{','.join(_words(tail, at) for tail in tails)}]" if numbered else atom.name
        part = field.atom(replace(atom, name=name, sizes=tuple(size for _, size in kept)))
        poly = field.rename(part, {k: i for k, (i, _) in enumerate(kept)})
        for i, size in numbered:
            poly = poly * field.table(np.eye(size, dtype=int)[at[i]], (i,))
        total += poly
    return field.reduce(total)


def _words(tail: Sequence[tuple[int, int]], at: dict[int, int]) -> str:
    """A slice as Python writes it: 1::2."""
    start = 0
    for index, size in tail:
        start = start * size + at[index]
    return f"{start}::{math.prod(size for _, size in tail)}" if tail else ":"
