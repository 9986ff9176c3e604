"""Arrays of the space: dimensions made of base axes, and the polynomial over them."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from bnjax.prove.algebra import Outside, Poly
from bnjax.prove.signs import NONNEGATIVE, UNKNOWN
from bnjax.prove.space import Dims, Size, Space
from bnjax.prove.tables import LARGEST

Range = tuple[int, int]


@dataclass(frozen=True)
class Array:
    """An array of reals, of truth values (0 and 1), or of integers between the ends of `range`.

    `poly` is None where NaN, infinity or an integer that may wrap is an entry (`why` says which): such an
    array must be selected away.  With `kept`, an array of truth values over the same axes, an entry is −∞
    where it is 0, whatever `poly` is there (`bnjax.prove.masks`).  `narrowed` says that data were cast to
    fewer bits on the way, which `poly` takes for the identity: no comparison may rest on that.  An array that
    is `turned` round along some dimensions of it, where elements have no numbers, is known as it was before.
    """

    dims: Dims
    poly: Poly | None
    sign: int = UNKNOWN
    range: Range | None = None
    why: str = "NaN or infinity"
    kept: Poly | None = None
    narrowed: bool = False
    turned: "tuple[Array, frozenset[int]] | None" = None

    @property
    def axes(self) -> tuple[str, ...]:
        """The sizes of the base axes, which are the free indices."""
        return tuple(size for dim in self.dims for size in dim)

    def positions(self) -> list[tuple[int, ...]]:
        """For each dimension, the free indices of its base axes."""
        result, start = [], 0
        for dim in self.dims:
            result.append(tuple(range(start, start + len(dim))))
            start += len(dim)
        return result


def finite(array: Array) -> Poly:
    """The polynomial; Outside where NaN, infinity or an integer that may wrap is a value."""
    if array.poly is None or array.kept is not None:
        raise Outside(f"{array.why} reaches a result")
    return array.poly


def aligned(space: Space, arrays: Sequence[Array]) -> tuple[Dims, list[Poly]]:
    """Elementwise operands over common dimensions; scalars and dimensions of size 1 broadcast."""
    rank = max(len(a.dims) for a in arrays)
    arrays = [a if a.dims else replace(a, dims=((),) * rank) for a in arrays]
    dims = []
    for k in range(rank):
        seen = {a.dims[k] for a in arrays if a.dims[k]}
        if len(seen) > 1:  # one and the same size, split otherwise: fine where no index depends on it
            seen = {a.dims[k] for a in arrays if finite(a).free() & set(a.positions()[k])} or seen
        if len(seen) > 1:
            arrays = [in_one_axis(space, a, k) for a in arrays]
            seen = {a.dims[k] for a in arrays if a.dims[k]}
        if len(seen) > 1:
            raise Outside(f"layout: dimension {k} is {' and '.join('·'.join(d) for d in sorted(seen))}")
        dims.append(seen.pop() if seen else ())
    return tuple(dims), [placed(space, a, dims, range(rank)) for a in arrays]


def placed(space: Space, array: Array, dims: Sequence[tuple[str, ...]], where: Sequence[int]) -> Poly:
    """The array's polynomial when its dimension k becomes dimension where[k] of `dims`."""
    targets = Array(tuple(dims), None).positions()
    names: dict[int, int] = {}
    for k, old in enumerate(array.positions()):
        if len(old) == len(targets[where[k]]):
            names.update(zip(old, targets[where[k]], strict=True))
    poly = finite(array)
    if not poly.free() <= set(names):
        raise Outside("layout: an index would be lost")
    return space.field.rename(poly, names)


def elementwise(space: Space, arrays: Sequence[Array], apply: Callable[..., Poly], sign: int) -> Array:
    """`apply` at every element of the aligned arrays."""
    dims, polys = aligned(space, arrays)
    return Array(dims, space.field.reduce(apply(*polys)), sign)


def summed(space: Space, a: Array, axes: set[int]) -> Array:
    """Σ over some dimensions, which leave."""
    poly, positions = finite(a), a.positions()
    for axis in axes:
        for index, size in zip(positions[axis], a.dims[axis], strict=True):
            poly = space.field.total(poly, index, size)
    kept = [k for k in range(len(a.dims)) if k not in axes]
    old = [i for k in kept for i in positions[k]]
    poly = space.field.rename(poly, {index: new for new, index in enumerate(old)})
    empty = any(size == "0" for axis in axes for size in a.dims[axis])  # and the sum is 0
    known = min(a.sign, NONNEGATIVE) if empty else a.sign
    return Array(tuple(a.dims[k] for k in kept), space.field.reduce(poly), known)


def mapped(
    space: Space, a: Array, where: slice, dims: Dims, values: np.ndarray, known: int = UNKNOWN
) -> Array:
    """Σ values[new…, old…]·a[…, old…, …]: a table takes the dimensions `where` to others of given size.

    `values` has an axis for each base axis of `dims`, then one for each of the dimensions that leave.
    """
    new_dims = (*a.dims[: where.start], *dims, *a.dims[where.stop :])
    before, after = a.positions(), Array(new_dims, None).positions()
    shift = len(dims) - (where.stop - where.start)
    names: dict[int, int] = {}
    for k, old in enumerate(before):
        if not where.start <= k < where.stop:
            names |= dict(zip(old, after[k if k < where.start else k + shift], strict=True))
    gone = [i for k in range(where.start, where.stop) for i in before[k]]
    summed_over = range(len(a.axes) + values.ndim, len(a.axes) + values.ndim + len(gone))
    names |= dict(zip(gone, summed_over, strict=True))
    new = [i for k in range(where.start, where.start + len(dims)) for i in after[k]]
    product = space.field.rename(finite(a), names) * space.field.table(values, (*new, *summed_over))
    for index, place in zip(summed_over, gone, strict=True):
        product = space.field.total(product, index, a.axes[place])
    return Array(new_dims, space.field.reduce(product), known)


def in_one_axis(space: Space, a: Array, axis: int) -> Array:
    """The dimension over one base axis, where it is merged of some of given size."""
    sizes = a.dims[axis]
    if len(sizes) < 2 or not all(size.isdigit() for size in sizes):
        return a
    return _recut(space, a, axis, list(map(int, sizes)), [math.prod(map(int, sizes))], len(sizes))


def over_the_same(space: Space, a: Array, b: Array) -> tuple[Array, Array]:
    """Both, over the same base axes where those of given size can be merged."""
    for k in range(min(len(a.dims), len(b.dims))):
        if a.dims[k] != b.dims[k]:
            a, b = in_one_axis(space, a, k), in_one_axis(space, b, k)
    return a, b


def _recut(space: Space, a: Array, axis: int, old: list[int], new: list[int], merged: int = 0) -> Array:
    """Axes of the sizes `old`, row by row, as axes of the sizes `new`; `merged` of them are one dimension."""
    count = math.prod(old)
    if count**2 > LARGEST:
        raise Outside(f"a reshape of {count} elements: write an axis that is merged or split as 'H*W'")
    kept = [size for size in new if size > 1]
    values = np.eye(count, dtype=int).reshape(*kept, *old)
    dims = tuple((str(size),) if size > 1 else () for size in new)
    stop = axis + (1 if merged else len(old))
    return mapped(space, a, slice(axis, stop), dims, values, a.sign)


def regrouped(space: Space, a: Array, shape: Sequence[Size]) -> Array:
    """The base axes in the same order, grouped into dimensions of the new sizes; else a refusal."""
    try:
        return _grouped(space, a, shape)
    except Outside:
        flat = replace(a, dims=tuple((size,) for size in a.axes))
        return _grouped(space, _cut(space, flat, shape), shape)


def _cut(space: Space, a: Array, shape: Sequence[Size]) -> Array:
    """Axes of given size merged and split, row by row, until they are those of the new shape."""
    wanted = [size for size in shape if str(size) != "1"]
    place = 0
    while wanted and place < len(a.dims):
        (size,) = a.dims[place]
        if size == str(wanted[0]) or not size.isdigit() or not str(wanted[0]).isdigit():
            place, wanted = place + 1, wanted[1:]
            continue
        old, new = [int(size)], [int(wanted.pop(0))]
        while math.prod(old) != math.prod(new):
            if math.prod(old) < math.prod(new):
                following = a.dims[place + len(old)][0] if place + len(old) < len(a.dims) else ""
                if not following.isdigit():
                    raise Outside(f"a reshape of {a.dims} to {tuple(shape)}: write a split axis as '2*K'")
                old.append(int(following))
            elif wanted and str(wanted[0]).isdigit():
                new.append(int(wanted.pop(0)))
            else:
                raise Outside(f"a reshape of {a.dims} to {tuple(shape)}: write a split axis as '2*K'")
        a = _recut(space, a, place, old, new)
        place += len(new)
    return a


def _grouped(space: Space, a: Array, shape: Sequence[Size]) -> Array:
    axes = list(a.axes)
    dims: list[tuple[str, ...]] = []
    for size in shape:
        wanted = space.dimension(size)
        dim: list[str] = []
        while space.size_of(tuple(dim)) != wanted and axes:
            dim.append(axes.pop(0))
        if space.size_of(tuple(dim)) != wanted:
            raise Outside(f"a reshape of {a.dims} to {tuple(shape)}: write a split axis as '2*K'")
        dims.append(tuple(dim))
    if axes:
        raise Outside(f"a reshape of {a.dims} to {tuple(shape)}")
    return replace(a, dims=tuple(dims))
