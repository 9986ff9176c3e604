"""Moves along an axis of given size: slice, pad, rev, concatenate, split, cumulative sum.

Each is a product with a matrix of zeros and ones, y_i = Σ_j M_ij·x_j, and so is its transpose, with the same
M: a table, whose products with others are known (`bnjax.prove.tables`).  Along an axis whose size is a
symbol there is no such matrix, but a move of whole blocks has one: an axis of 2·K is 2 blocks of K.  Any
other is refused.
"""

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.jaxprs import shaped
from bnjax.prove.algebra import Outside, Poly
from bnjax.prove.arrays import Array, elementwise, finite, in_one_axis, mapped
from bnjax.prove.integers import exceeds, positions
from bnjax.prove.monomials import entries_of
from bnjax.prove.signs import NONNEGATIVE
from bnjax.prove.space import Size, Space
from bnjax.prove.strides import is_among, is_cut

Rule = Callable[..., Array | list[Array]]


def given_size(array: Array, axis: int) -> int:
    """The size of an axis that is a number; Outside for a symbol."""
    dim = array.dims[axis]
    if not all(size.isdigit() for size in dim):
        raise Outside(f"elements by position along {'·'.join(dim)}: only along an axis of given size")
    return math.prod(map(int, dim))


def moved(space: Space, array: Array, axis: int, matrix: np.ndarray) -> Array:
    """Σ_j matrix[i, j]·array[…, j, …], a matrix of integers ≥ 0."""
    target, source = matrix.shape
    if source != given_size(array, axis):
        raise Outside(f"layout: a move of {source} elements along {array.dims[axis]}")
    if target == source and np.array_equal(matrix, np.eye(source)):
        return array
    if not target:
        raise Outside(f"a move of {source} elements to {target}")
    array = in_one_axis(space, array, axis)
    values = matrix.reshape([size for size in matrix.shape if size > 1])
    one_each = bool(np.all(matrix.sum(1) >= 1))  # each entry of the result has an entry
    known = array.sign if one_each else min(array.sign, NONNEGATIVE)
    dims = ((str(target),) if target > 1 else (),)
    return mapped(space, array, slice(axis, axis + 1), dims, values, known)


def picking(target: int, places: np.ndarray, source: int) -> np.ndarray:
    """The matrix that takes element places[i] to i, and zero where that is no place."""
    matrix = np.zeros((target, source), int)
    inside = (places >= 0) & (places < source)
    matrix[np.flatnonzero(inside), places[inside]] = 1
    return matrix


def _blocks(dim: tuple[str, ...]) -> tuple[int, tuple[str, ...]]:
    """How many blocks a dimension is made of, and the base axes of one: 2 of K; or itself, once."""
    return (int(dim[0]), dim[1:]) if len(dim) > 1 and dim[0].isdigit() else (1, dim)


def _in_blocks(space: Space, a: Array, axis: int, *sizes: Size) -> list[int] | None:
    """Sizes along a dimension, in blocks of it; None where one is no whole number of them."""
    dim = a.dims[axis]
    if not dim or (len(dim) == 1 and dim[0].isdigit()):
        return None
    ((monomial, unit),) = space.size_of(_blocks(dim)[1]).terms.items()
    polys = [space.dimension(size) for size in sizes]
    counts = [poly.terms.get(monomial, Fraction(0)) / unit for poly in polys]
    whole = all(
        count.denominator == 1 and poly == Poly(space.field, {monomial: unit}) * space.field.constant(count)
        for poly, count in zip(polys, counts, strict=True)
    )
    return list(map(int, counts)) if whole else None


def _part_moved(
    space: Space,
    a: Array,
    axis: int,
    parts: tuple[tuple[str, ...], tuple[str, ...]],
    part: int,
    matrix: np.ndarray,
) -> Array:
    """A dimension as two, of which one is moved."""
    apart = replace(a, dims=(*a.dims[:axis], *parts, *a.dims[axis + 1 :]))
    there = moved(space, apart, axis + part, matrix)
    whole = (*there.dims[axis], *there.dims[axis + 1])
    return replace(there, dims=(*there.dims[:axis], whole, *there.dims[axis + 2 :]))


def _blocks_moved(space: Space, a: Array, axis: int, target: int, first: int) -> Array:
    """The block k + first of a dimension as block k of `target`; none where that is no block."""
    count, block = _blocks(a.dims[axis])
    own = (str(count),) if count > 1 else ()
    return _part_moved(space, a, axis, (own, block), 0, picking(target, np.arange(target) + first, count))


def _slice(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    strides = eqn.params["strides"] or (1,) * len(a.dims)
    bounds = zip(eqn.params["start_indices"], eqn.params["limit_indices"], strides, strict=True)
    for axis, (start, limit, stride) in enumerate(bounds):
        if start == 0 and stride == 1 and space.dimension(limit) == space.size_of(a.dims[axis]):
            continue  # all of it, also where that is a symbol
        ends = _in_blocks(space, a, axis, start, limit) if stride == 1 else None
        if ends:
            a = _blocks_moved(space, a, axis, ends[1] - ends[0], ends[0])
            continue
        size = given_size(a, axis)
        places = np.arange(int(start), int(limit), int(stride))
        if is_cut(space, a, axis, int(start), int(stride), len(places)):
            a = every(space, a, axis, int(start), int(stride))
            continue
        a = moved(space, a, axis, picking(len(places), places, size))
    return a


def every(space: Space, a: Array, axis: int, place: int, stride: int) -> Array:
    """a[place::stride] along a dimension whose last base axis has `stride` elements: one of these."""
    *rest, last = a.dims[axis]
    return _part_moved(space, a, axis, (tuple(rest), (last,)), 1, picking(1, np.array([place]), stride))


def among(space: Space, a: Array, axis: int, place: int, stride: int) -> Array:
    """The transpose of `every`: zeros elsewhere."""
    return _part_moved(space, a, axis, (a.dims[axis], ()), 1, picking(stride, np.arange(stride) - place, 1))


def _pad(space: Space, eqn: JaxprEqn, a: Array, value: Array) -> Array:
    if finite(value).terms:
        raise Outside("padding that is not zero")
    for axis, (low, high, inner) in enumerate(eqn.params["padding_config"]):
        if (low, high, inner) == (0, 0, 0):
            continue
        around = _in_blocks(space, a, axis, low, high) if inner == 0 else None
        if around:
            a = _blocks_moved(space, a, axis, _blocks(a.dims[axis])[0] + sum(around), -around[0])
            continue
        size = given_size(a, axis)
        target = size + (size - 1) * inner + low + high
        if low + high == inner and is_among(space, a, axis, int(low), int(inner) + 1, target):
            a = among(space, a, axis, int(low), int(inner) + 1)
            continue
        places, rest = np.divmod(np.arange(target) - low, inner + 1)
        a = moved(space, a, axis, picking(target, np.where(rest == 0, places, -1), size))
    return a


def _before(a: Array) -> tuple[Array, frozenset[int]] | None:
    """The array of the same dimensions of which it is one turned round, and along what."""
    known = a.turned is not None and a.poly is None and a.turned[0].dims == a.dims
    return a.turned if known else None


def _rev(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    """Along an axis whose size is a symbol it is known as what it was before it was turned round."""
    axes = frozenset(map(int, eqn.params["dimensions"]))
    turned = _before(a)
    if turned is not None and turned[1] == axes:
        return turned[0]
    before = a
    for axis in axes:
        if all(size.isdigit() for size in a.dims[axis]):
            a = moved(space, a, axis, np.eye(given_size(a, axis), dtype=int)[::-1])
        elif (counted := _counted_down(space, a, axis)) is not None:
            a = counted
        else:
            why = f"an array that is turned round along {'·'.join(a.dims[axis])}"
            return Array(before.dims, None, why=why, turned=(before, axes))
    return a


def _counted_down(space: Space, a: Array, axis: int) -> Array | None:
    """What is made of the positions along an axis, from its other end: k becomes size − 1 − k; else None."""
    if a.poly is None or len(a.dims[axis]) != 1:
        return None
    field, (size,), (index,) = space.field, a.dims[axis], a.positions()[axis]
    counter = positions(field, size, index)
    ((position, _),) = next(iter(counter.terms))
    result = field.constant(0)
    for monomial, coefficient in a.poly.terms.items():
        rest = tuple(factor for factor in monomial if factor[0] != position)
        power = sum(p for factor, p in monomial if factor == position)
        if power < 0 or any(index in entry.indices for entry, _ in entries_of(rest)):
            return None
        turned = field.size(size) - field.constant(1) - counter
        result += Poly(field, {rest: coefficient}) * turned**power
    return Array(a.dims, field.reduce(result), a.sign)


def _concatenate(space: Space, eqn: JaxprEqn, *arrays: Array) -> Array:
    axis = int(eqn.params["dimension"])
    (block, *others) = dict.fromkeys(_blocks(a.dims[axis])[1] for a in arrays)
    whole = space.dim(shaped(eqn.outvars[0]).shape[axis])
    if not others and (whole[1:] == block or not all(size.isdigit() for size in block)):
        return _blocks_joined(space, axis, arrays)
    sizes = [given_size(a, axis) for a in arrays]
    total, start, placed = sum(sizes), 0, []
    for a, size in zip(arrays, sizes, strict=True):
        placed.append(moved(space, a, axis, picking(total, np.arange(total) - start, size)))
        start += size
    return _together(space, placed, arrays)


def _blocks_joined(space: Space, axis: int, arrays: Sequence[Array]) -> Array:
    counts = [_blocks(a.dims[axis])[0] for a in arrays]
    starts = itertools.accumulate(counts[:-1], initial=0)
    both = zip(arrays, starts, strict=True)
    return _together(space, [_blocks_moved(space, a, axis, sum(counts), -k) for a, k in both], arrays)


def _together(space: Space, placed: Sequence[Array], arrays: Sequence[Array]) -> Array:
    """The sum of what stands where the others are zero, of the sign of what it was made of."""
    known = min(a.sign for a in arrays)
    return elementwise(space, placed, lambda *polys: sum(polys, space.field.constant(0)), known)


def _split(space: Space, eqn: JaxprEqn, a: Array) -> list[Array]:
    axis, start, parts = int(eqn.params["axis"]), 0, []
    counts = _in_blocks(space, a, axis, *eqn.params["sizes"])
    if counts:
        starts = itertools.accumulate(counts, initial=0)
        return [
            _blocks_moved(space, a, axis, count, first) for count, first in zip(counts, starts, strict=False)
        ]
    size = given_size(a, axis)
    for count in map(int, eqn.params["sizes"]):
        parts.append(moved(space, a, axis, picking(count, np.arange(start, start + count), size)))
        start += count
    return parts


def _cumsum(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    axis, reverse = int(eqn.params["axis"]), bool(eqn.params["reverse"])
    turned = _before(a)
    if turned is not None:  # the sum from the other end, turned round
        before, axes = turned
        return replace(a, turned=(_cumulated(space, before, axis, reverse != (axis in axes)), axes))
    return _cumulated(space, a, axis, reverse)


def _cumulated(space: Space, a: Array, axis: int, reverse: bool) -> Array:
    if len(a.dims[axis]) == 1 and not a.dims[axis][0].isdigit():
        return _cumulated_over_symbol(space, a, axis, reverse)
    matrix = np.tri(given_size(a, axis), dtype=int)
    result = moved(space, a, axis, matrix.T if reverse else matrix)
    return Array(result.dims, result.poly, a.sign)  # a sum of at least one element


def _cumulated_over_symbol(space: Space, a: Array, axis: int, reverse: bool) -> Array:
    """Σ_s [s ≤ t]·a_s, with t the axis and s one after all others."""
    field, (size,), (here,) = space.field, a.dims[axis], a.positions()[axis]
    there = len(a.axes)
    step = positions(field, size, there) - positions(field, size, here)
    weights = field.constant(1) - exceeds(field, -step if reverse else step)
    poly = weights * field.rename(finite(a), {here: there})
    return Array(a.dims, field.reduce(field.total(poly, there, size)), a.sign)


def _stack(space: Space, eqn: JaxprEqn, *arrays: Array) -> Array:
    axis = int(eqn.params["axis"])
    placed = []
    for k, a in enumerate(arrays):
        wider = replace(a, dims=(*a.dims[:axis], (), *a.dims[axis:]))
        placed.append(moved(space, wider, axis, picking(len(arrays), np.arange(len(arrays)) - k, 1)))
    return _together(space, placed, arrays)


def _unstack(space: Space, eqn: JaxprEqn, a: Array) -> list[Array]:
    axis = int(eqn.params["axis"])
    size = given_size(a, axis)
    parts = [moved(space, a, axis, picking(1, np.array([k]), size)) for k in range(size)]
    return [replace(part, dims=(*part.dims[:axis], *part.dims[axis + 1 :])) for part in parts]


def _tile(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    for axis, count in enumerate(eqn.params["reps"]):
        if count == 1:
            continue
        size = given_size(a, axis)
        a = moved(space, a, axis, np.tile(np.eye(size, dtype=int), (int(count), 1)))
    return a


MOVES: dict[Primitive, Rule] = {
    jaxs.concatenate_p: _concatenate,
    jaxs.cumsum_p: _cumsum,
    jaxs.pad_p: _pad,
    jaxs.rev_p: _rev,
    jaxs.slice_p: _slice,
    lax.split_p: _split,
    lax.stack_p: _stack,
    lax.tile_p: _tile,
    lax.unstack_p: _unstack,
}
