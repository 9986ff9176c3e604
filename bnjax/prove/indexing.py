"""Elements at positions that are integers: iota, gather, scatter, scatter-add.

A gather is y[b, o] = Σ_c [l_b + o = c]·x[c, …], with a truth value for each indexed axis, which
`bnjax.prove.integers` makes of the index l; a scatter-add is its transpose, so that duplicates add up.
What the modes of JAX say of an index out of range is not modelled: a gather is refused unless exactly one c
is met for every index, which is shown.  A scatter with FILL_OR_DROP leaves out what is out of range, as the
sum does.  What `indices_are_sorted` and `unique_indices` promise of a scatter is shown, or it is refused.
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.jaxprs import shaped
from bnjax.prove.algebra import Outside, Poly
from bnjax.prove.arrays import Array, elementwise, finite, in_one_axis, placed, summed
from bnjax.prove.integers import is_everywhere, known_integers, one_hot, positions
from bnjax.prove.moves import among, every, given_size, moved, picking
from bnjax.prove.signs import NONNEGATIVE, UNKNOWN
from bnjax.prove.space import Dims, Size, Space
from bnjax.prove.strides import is_among, is_cut

Rule = Callable[..., Array | list[Array]]


def _iota(space: Space, eqn: JaxprEqn, *_: Array) -> Array:
    axis, shape = int(eqn.params["dimension"]), eqn.params["shape"]
    dims = tuple(space.dim(size) for size in shape)
    poly = space.field.constant(0)
    for index, size in zip(Array(dims, None).positions()[axis], dims[axis], strict=True):
        poly = poly * space.field.size(size) + positions(space.field, size, index)
    return Array(dims, space.field.reduce(poly), NONNEGATIVE)


class _Numbers(NamedTuple):
    """The dimension numbers that a gather and a scatter share, in the words of a gather."""

    offset: tuple[int, ...]
    collapsed: tuple[int, ...]
    start: tuple[int, ...]
    batching: tuple[int, ...]
    indices_batching: tuple[int, ...]
    sizes: tuple[Size, ...]


@dataclass(frozen=True)
class _Selection:
    """Which element of an operand stands where in what is gathered from it.

    `dims` are those of the gathered array, then the operand's indexed ones; `operand` says which of them each
    dimension of the operand is; `weights` are 1 where an index says so.
    """

    dims: Dims
    rank: int
    operand: tuple[int, ...]
    weights: Poly


def _selection(space: Space, a: Array, indices: Array, n: _Numbers) -> _Selection:
    """The selection of a gather from `a`, whose dimensions are over one base axis where they are indexed."""
    batch = [k for k in range(len(indices.dims) - 1 + len(n.offset)) if k not in n.offset]
    rank = len(batch) + len(n.offset)
    dims: list[tuple[str, ...]] = [()] * rank
    for k, dim in zip(batch, indices.dims[:-1], strict=True):
        dims[k] = dim
    window = iter(sorted(n.offset))
    operand: list[int] = []
    indexed: list[tuple[int, int, int]] = []  # the operand's dimension, the window's, and its own
    for k, dim in enumerate(a.dims):
        if k in n.batching:
            place = batch[n.indices_batching[n.batching.index(k)]]
            if dims[place] != dim:
                raise Outside(f"layout: a batch of {dims[place]} for one of {dim}")
            operand.append(place)
            continue
        place = -1 if k in n.collapsed else next(window)
        whole = space.dimension(n.sizes[k]) == space.size_of(dim)
        if k not in n.start and not whole:
            raise Outside("a window that is not of the whole axis, without an index")
        if whole and place >= 0 and (k not in n.start or _is_zero(space, indices, n.start.index(k))):
            dims[place] = dim
            operand.append(place)
            continue
        if place >= 0:
            dims[place] = space.dim(n.sizes[k])
        indexed.append((k, place, rank + len(indexed)))
        operand.append(indexed[-1][2])
    dims += [a.dims[k] for k, _, _ in indexed]
    weights = space.field.constant(1)
    for k, place, target in indexed:
        start = placed(space, _component(space, indices, n.start.index(k)), dims, batch)
        weights *= _hits(space, dims, start, place, target)
    return _Selection(tuple(dims), rank, tuple(operand), space.field.reduce(weights))


def _is_zero(space: Space, indices: Array, place: int) -> bool:
    return not space.field.reduce(finite(_component(space, indices, place))).terms


def _component(space: Space, indices: Array, place: int) -> Array:
    """One of the numbers that an index is made of, which are the last dimension."""
    axis = len(indices.dims) - 1
    size = given_size(indices, axis)
    picked = moved(space, indices, axis, picking(1, np.array([place]), size))
    return replace(picked, dims=picked.dims[:-1])


def _hits(space: Space, dims: Sequence[tuple[str, ...]], start: Poly, place: int, target: int) -> Poly:
    """[start + o = c], with the window's o at the dimension `place` and the operand's c at `target`."""
    field, places = space.field, Array(tuple(dims), None).positions()
    if place >= 0 and places[place]:
        (offset,) = places[place]
        start = start + positions(field, dims[place][0], offset)
    if not places[target]:
        if field.reduce(start).terms:
            raise Outside("an index that may be out of range")
        return field.constant(1)
    if len(places[target]) > 1:
        raise Outside(f"an index into {'·'.join(dims[target])}: only into an axis that is not merged")
    return one_hot(field, start, dims[target][0], places[target][0])


def _indexed_in_one_axis(space: Space, a: Array, start: Sequence[int]) -> Array:
    for k in start:
        a = in_one_axis(space, a, k)
    return a


def _gather(space: Space, eqn: JaxprEqn, a: Array, indices: Array) -> Array:
    d = eqn.params["dimension_numbers"]
    n = _Numbers(
        d.offset_dims, d.collapsed_slice_dims, d.start_index_map, d.operand_batching_dims,
        d.start_indices_batching_dims, tuple(eqn.params["slice_sizes"]),
    )  # fmt: skip
    _check_sorted(space, eqn, indices)
    if _takes_all(space, a, indices, n):
        return a  # also where nothing is known of its elements
    places = _places(space, indices, n)
    sliced = _slices(space, a, places) if places else None
    if sliced is not None:
        return sliced
    a = _indexed_in_one_axis(space, a, n.start)
    chosen = _selection(space, a, indices, n)
    over = set(range(chosen.rank, len(chosen.dims)))
    met = summed(space, Array(chosen.dims, chosen.weights), over)
    if not is_everywhere(space.field, finite(met), (1,)):
        raise Outside("an index that may be out of range")
    product = placed(space, a, chosen.dims, chosen.operand) * chosen.weights
    return summed(space, Array(chosen.dims, product, a.sign), over)


def _is_one_by_one(space: Space, indices: Array) -> bool:
    """Whether they are 0, 1, … along an axis whose size is a symbol."""
    (along, *rest) = indices.dims
    return len(along) == 1 and not any(rest) and indices.poly == positions(space.field, along[0], 0)


def _takes_all(space: Space, a: Array, indices: Array, n: _Numbers) -> bool:
    """Whether a gather along an axis, which stays where it is, is its operand."""
    if not _is_one_by_one(space, indices) or n.batching or len(n.start) != 1 or n.start != n.collapsed:
        return False
    (axis,) = n.start
    others = [k for k in range(len(a.dims)) if k != axis]
    whole = all(space.dimension(n.sizes[k]) == space.size_of(a.dims[k]) for k in others)
    return whole and a.dims[axis] == indices.dims[0] and list(n.offset) == others


def _places(space: Space, indices: Array, n: _Numbers) -> dict[int, np.ndarray] | None:
    """The places along each axis, of a gather that takes them axis by axis and leaves the axes; else None."""
    values = known_integers(space, indices)
    axes = [k for k in range(len(n.sizes)) if k not in n.offset]
    if values is None or n.batching or sorted(n.start) != axes or sorted(n.collapsed) != axes:
        return None
    values = values.reshape([given_size(indices, k) for k in range(len(indices.dims))])
    if values.ndim != len(axes) + 1:
        return None
    found = {}
    for k, axis in enumerate(axes):
        along = np.moveaxis(values[..., n.start.index(axis)], k, 0).reshape(values.shape[k], -1)
        if np.any(along != along[:, :1]):
            return None
        found[axis] = along[:, 0].astype(int)
    return found


def _slices(space: Space, a: Array, places: Mapping[int, np.ndarray]) -> Array | None:
    """a[start::stride] along each axis, where that is what the places are; else None."""
    for axis, line in places.items():
        step = _step(line)
        if step is None or not is_cut(space, a, axis, *step, len(line)):
            return None
        a = every(space, a, axis, *step)
    return a


def _spread(space: Space, a: Array, updates: Array, places: Mapping[int, np.ndarray]) -> Array | None:
    """The transpose of `_slices`, over the dimensions of `a`, where these are cut; else None."""
    for axis, line in places.items():
        step, size = _step(line), given_size(a, axis)
        if step is None or len(line) * step[1] != size or not is_among(space, a, axis, *step, size):
            return None
        updates = among(space, updates, axis, *step)
    return updates


def _step(line: np.ndarray) -> tuple[int, int] | None:
    """The start and the stride of equally spaced places; else None."""
    steps = np.unique(np.diff(line))
    return (int(line[0]), int(steps[0])) if len(steps) == 1 else None


def _of_scatter(eqn: JaxprEqn) -> _Numbers:
    d = eqn.params["dimension_numbers"]
    windows = iter(d.update_window_dims)
    whole = {*d.inserted_window_dims, *d.operand_batching_dims}
    rank = len(shaped(eqn.invars[0]).shape)
    sizes = tuple(1 if k in whole else shaped(eqn.invars[2]).shape[next(windows)] for k in range(rank))
    return _Numbers(
        d.update_window_dims, d.inserted_window_dims, d.scatter_dims_to_operand_dims,
        d.operand_batching_dims, d.scatter_indices_batching_dims, sizes,
    )  # fmt: skip


def _scattered(space: Space, eqn: JaxprEqn, a: Array, indices: Array, updates: Array) -> tuple[Array, Array]:
    """Where each update is added up, over the operand's dimensions: the sums, and how many there are."""
    n = _of_scatter(eqn)
    _check_sorted(space, eqn, indices)
    chosen = _selection(space, a, indices, n)
    if eqn.params["mode"] != lax.GatherScatterMode.FILL_OR_DROP:
        over = set(range(chosen.rank, len(chosen.dims)))
        met = summed(space, Array(chosen.dims, chosen.weights), over)
        if not is_everywhere(space.field, finite(met), (1,)):
            raise Outside("an index that may be out of range")
    kept = sorted(chosen.operand)
    over = {k for k in range(len(chosen.dims)) if k not in kept}
    values = placed(space, updates, chosen.dims, range(chosen.rank)) * chosen.weights
    sums, counts = (
        _in_order(space, summed(space, Array(chosen.dims, poly), over), chosen.operand)
        for poly in (values, chosen.weights)
    )
    if eqn.params["unique_indices"] and not is_everywhere(space.field, finite(counts), (0, 1)):
        raise Outside("indices that are promised to be unique, which is not shown")
    return sums, counts


def _in_order(space: Space, a: Array, operand: Sequence[int]) -> Array:
    """The dimensions as the operand has them, not as the selection lists them."""
    where = [operand.index(k) for k in sorted(operand)]
    dims = tuple(a.dims[where.index(k)] for k in range(len(where)))
    return Array(dims, placed(space, a, dims, where), a.sign)


def _scatter_add(space: Space, eqn: JaxprEqn, a: Array, indices: Array, updates: Array) -> Array:
    places = _places(space, indices, _of_scatter(eqn))
    spread = _spread(space, a, updates, places) if places else None
    if spread is not None:
        return elementwise(space, (a, spread), operator.add, UNKNOWN)
    a = _indexed_in_one_axis(space, a, eqn.params["dimension_numbers"].scatter_dims_to_operand_dims)
    sums, _ = _scattered(space, eqn, a, indices, updates)
    return Array(a.dims, space.field.reduce(finite(a) + finite(sums)))


def _scatter(space: Space, eqn: JaxprEqn, a: Array, indices: Array, updates: Array) -> Array:
    """Elements replaced: each at most once, else JAX leaves open by which."""
    a = _indexed_in_one_axis(space, a, eqn.params["dimension_numbers"].scatter_dims_to_operand_dims)
    sums, counts = _scattered(space, eqn, a, indices, updates)
    if not is_everywhere(space.field, finite(counts), (0, 1)):
        raise Outside("a scatter to indices that may be equal")
    kept = space.field.constant(1) - finite(counts)
    return Array(a.dims, space.field.reduce(finite(a) * kept + finite(sums)))


def _check_sorted(space: Space, eqn: JaxprEqn, indices: Array) -> None:
    """Outside where indices are promised to be sorted, and are not shown to be."""
    if not eqn.params["indices_are_sorted"] or not any(indices.dims[:-1]):  # of one there is one order
        return
    values = known_integers(space, indices)
    shape = shaped(eqn.invars[1]).shape
    if values is not None:
        rows = values.reshape(-1, int(shape[-1])).tolist()
        if rows == sorted(rows):
            return
    if not _is_one_by_one(space, indices):
        raise Outside("indices that are promised to be sorted, which is not shown")


INDEXING: dict[Primitive, Rule] = {
    jaxs.gather_p: _gather,
    jaxs.iota_p: _iota,
    jaxs.scatter_add_p: _scatter_add,
    jaxs.scatter_p: _scatter,
}
