"""Moves along an axis of given size: slice, pad, rev, concatenate, split, cumulative sum.

Each is a product with a matrix of zeros and ones, y_i = Σ_j M_ij·x_j, and so is its transpose, with the same
M.  The matrix is an atom whose entries are truth values: what is shown holds for every such matrix, and
therefore for this one; matrices that differ are different atoms, so that nothing passes for something else.
Along an axis whose size is a symbol, or of merged axes, there is no such matrix, and the move is refused.
"""

from collections.abc import Callable

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.prove.algebra import Atom, Outside, Poly
from bnjax.prove.arrays import Array, elementwise, finite
from bnjax.prove.signs import NONNEGATIVE
from bnjax.prove.space import Space

Rule = Callable[..., Array | list[Array]]
_ENTRIES = 2**16  # of a matrix


def given_size(array: Array, axis: int) -> int:
    """The size of an axis that is a number; Outside for a symbol and for merged axes."""
    dim = array.dims[axis]
    if not dim:
        return 1
    if len(dim) > 1 or not dim[0].isdigit():
        raise Outside(f"elements by position along {'·'.join(dim)}: only along an axis of given size")
    return int(dim[0])


def moved(space: Space, array: Array, axis: int, matrix: np.ndarray) -> Array:
    """Σ_j matrix[i, j]·array[…, j, …], a matrix of zeros and ones."""
    target, source = matrix.shape
    if source != given_size(array, axis):
        raise Outside(f"layout: a move of {source} elements along {array.dims[axis]}")
    if target == source and np.array_equal(matrix, np.eye(source)):
        return array
    if not target or matrix.size > _ENTRIES:
        raise Outside(f"a move of {source} elements to {target}")
    if target == source > 1 and np.array_equal(matrix, matrix.T):
        return _by_halves(space, array, axis, matrix)
    dims = (*array.dims[:axis], (str(target),) if target > 1 else (), *array.dims[axis + 1 :])
    before, after = array.positions(), Array(dims, None).positions()
    summed_over = len(array.axes) + len(dims)
    names = {i: j for k in range(len(dims)) if k != axis for i, j in zip(before[k], after[k], strict=True)}
    names |= dict.fromkeys(before[axis], summed_over)
    weights = _entry(space, matrix, after[axis], (summed_over,) * len(before[axis]))
    product = space.field.rename(finite(array), names) * weights
    if before[axis]:
        product = space.field.total(product, summed_over, str(source))
    one_each = bool(np.all(matrix.sum(1) == 1))  # each entry of the result is an entry
    known = array.sign if one_each else min(array.sign, NONNEGATIVE)
    return Array(dims, space.field.reduce(product), known)


def _by_halves(space: Space, array: Array, axis: int, matrix: np.ndarray) -> Array:
    """A symmetric matrix as L + Lᵀ + D: else its entries at (i, j) and at (j, i) would be two unknowns."""
    lower, diagonal = np.tril(matrix, -1), np.diagonal(matrix)
    parts = [moved(space, array, axis, half) for half in (lower, lower.T) if half.any()]
    if diagonal.any():
        (index,) = array.positions()[axis]
        kept = space.field.constant(1) if diagonal.all() else _entry(space, diagonal[:, None], (index,), ())
        parts.append(Array(array.dims, finite(array) * kept))
    poly = sum((finite(part) for part in parts), space.field.constant(0))
    return Array(array.dims, space.field.reduce(poly), min(array.sign, NONNEGATIVE))


def _entry(space: Space, matrix: np.ndarray, rows: tuple[int, ...], columns: tuple[int, ...]) -> Poly:
    """The entry of a matrix at indices, none for a size of 1: one atom for it and its transpose."""
    name, other = _name(matrix), _name(matrix.T)
    shape, indices = (matrix.shape, rows + columns) if name <= other else (matrix.T.shape, columns + rows)
    name = min(name, other)
    if name not in space.field.atoms:
        sizes = tuple(str(size) for size in shape if size > 1)
        space.field.atoms[name] = Atom(name, sizes, boolean=True)
    return space.field.entry(name, indices)


def _name(matrix: np.ndarray) -> str:
    return f"move.{'x'.join(map(str, matrix.shape))}.{np.packbits(matrix.astype(bool)).tobytes().hex()}"


def picking(target: int, places: np.ndarray, source: int) -> np.ndarray:
    """The matrix that takes element places[i] to i, and zero where that is no place."""
    matrix = np.zeros((target, source), int)
    inside = (places >= 0) & (places < source)
    matrix[np.flatnonzero(inside), places[inside]] = 1
    return matrix


def _slice(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    strides = eqn.params["strides"] or (1,) * len(a.dims)
    bounds = zip(eqn.params["start_indices"], eqn.params["limit_indices"], strides, strict=True)
    for axis, (start, limit, stride) in enumerate(bounds):
        if start == 0 and stride == 1 and space.dimension(limit) == space.size_of(a.dims[axis]):
            continue  # all of it, also where that is a symbol
        size = given_size(a, axis)
        places = np.arange(int(start), int(limit), int(stride))
        a = moved(space, a, axis, picking(len(places), places, size))
    return a


def _pad(space: Space, eqn: JaxprEqn, a: Array, value: Array) -> Array:
    if finite(value).terms:
        raise Outside("padding that is not zero")
    for axis, (low, high, inner) in enumerate(eqn.params["padding_config"]):
        if (low, high, inner) == (0, 0, 0):
            continue
        size = given_size(a, axis)
        target = size + (size - 1) * inner + low + high
        places, rest = np.divmod(np.arange(target) - low, inner + 1)
        a = moved(space, a, axis, picking(target, np.where(rest == 0, places, -1), size))
    return a


def _rev(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    for axis in eqn.params["dimensions"]:
        size = given_size(a, int(axis))
        a = moved(space, a, int(axis), np.eye(size, dtype=int)[::-1])
    return a


def _concatenate(space: Space, eqn: JaxprEqn, *arrays: Array) -> Array:
    axis = int(eqn.params["dimension"])
    sizes = [given_size(a, axis) for a in arrays]
    total, start, placed = sum(sizes), 0, []
    for a, size in zip(arrays, sizes, strict=True):
        placed.append(moved(space, a, axis, picking(total, np.arange(total) - start, size)))
        start += size
    known = min(a.sign for a in arrays)
    result = elementwise(space, placed, lambda *polys: sum(polys, space.field.constant(0)), known)
    return result


def _split(space: Space, eqn: JaxprEqn, a: Array) -> list[Array]:
    axis, start, parts = int(eqn.params["axis"]), 0, []
    size = given_size(a, axis)
    for count in map(int, eqn.params["sizes"]):
        parts.append(moved(space, a, axis, picking(count, np.arange(start, start + count), size)))
        start += count
    return parts


def _cumsum(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    axis = int(eqn.params["axis"])
    size = given_size(a, axis)
    matrix = np.tri(size, dtype=int)
    result = moved(space, a, axis, matrix.T if eqn.params["reverse"] else matrix)
    return Array(result.dims, result.poly, a.sign)  # a sum of at least one element


MOVES: dict[Primitive, Rule] = {
    jaxs.concatenate_p: _concatenate,
    jaxs.cumsum_p: _cumsum,
    jaxs.pad_p: _pad,
    jaxs.rev_p: _rev,
    jaxs.slice_p: _slice,
    lax.split_p: _split,
}
