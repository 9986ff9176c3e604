"""Arrays of the space: dimensions made of base axes, and the polynomial over them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from bnjax.prove.algebra import Outside, Poly
from bnjax.prove.signs import UNKNOWN
from bnjax.prove.space import Dims, Size, Space

Range = tuple[int, int]


@dataclass(frozen=True)
class Array:
    """An array of reals, of truth values (0 and 1), or of integers between the ends of `range`.

    `poly` is None where NaN or infinity is an entry: such an array must be selected away.
    """

    dims: Dims
    poly: Poly | None
    sign: int = UNKNOWN
    range: Range | None = None

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
    """The polynomial; Outside where NaN or infinity is a value."""
    if array.poly is None:
        raise Outside("NaN or infinity reaches a result")
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
    return Array(tuple(a.dims[k] for k in kept), space.field.reduce(poly), a.sign)


def regrouped(space: Space, a: Array, shape: Sequence[Size]) -> Array:
    """The base axes in the same order, grouped into dimensions of the new sizes; else a refusal."""
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
