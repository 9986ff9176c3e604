"""Slices whose start is computed, and what is written over one: dynamic_slice, dynamic_update_slice.

Of a known start each is a move along the axis; JAX moves a start back until the slice fits.  One element may
be at an integer that is data: y = Σ_c [l = c]·x_c, and written over, x_c + [l = c]·(y − x_c).
"""

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.prove.algebra import Outside
from bnjax.prove.arrays import Array, elementwise, finite, summed
from bnjax.prove.integers import is_everywhere, one_hot, scalar
from bnjax.prove.moves import given_size, moved, picking
from bnjax.prove.signs import NONNEGATIVE, UNKNOWN
from bnjax.prove.space import Space


def _dynamic_slice(space: Space, eqn: JaxprEqn, a: Array, *starts: Array) -> Array:
    for axis, (size, start) in enumerate(zip(eqn.params["slice_sizes"], starts, strict=False)):
        if space.dimension(size) == space.size_of(a.dims[axis]):
            continue
        if _is_known(space, start) and all(part.isdigit() for part in a.dims[axis]):
            places = _places(space, start, int(size), given_size(a, axis))
            a = moved(space, a, axis, picking(int(size), places, given_size(a, axis)))
        else:
            there = elementwise(space, (a, _at(space, a, axis, start, size)), operator.mul, a.sign)
            a = summed(space, there, {axis})
            a = replace(a, dims=(*a.dims[:axis], (), *a.dims[axis:]))
    return a


def _dynamic_update_slice(space: Space, eqn: JaxprEqn, a: Array, update: Array, *starts: Array) -> Array:
    """a, less what stands in the slice, and the update there."""
    over, known = a, min(a.sign, update.sign)
    for axis, start in enumerate(starts[: len(a.dims)]):
        size = space.size_of(update.dims[axis])
        if size == space.size_of(a.dims[axis]):
            continue
        if _is_known(space, start) and all(part.isdigit() for part in a.dims[axis]):
            small, full = given_size(update, axis), given_size(a, axis)
            places = _places(space, start, small, full)
            back = np.arange(full) - places[0]
            update = moved(space, update, axis, picking(full, np.where(back < small, back, -1), small))
            inside = picking(small, places, full)
            over = moved(space, over, axis, inside.T @ inside)
        else:
            there = _at(space, a, axis, start, size.constant() or 0)
            over, update = (elementwise(space, (x, there), operator.mul, UNKNOWN) for x in (over, update))
    return elementwise(space, (a, over, update), lambda x, old, new: x - old + new, known)


def _is_known(space: Space, start: Array) -> bool:
    return space.field.reduce(finite(start)).constant() is not None


def _places(space: Space, start: Array, size: int, full: int) -> np.ndarray:
    first = min(max(scalar(space.field, finite(start)), 0), full - size)
    return np.arange(first, first + size)


def _at(space: Space, a: Array, axis: int, start: Array, size: Any) -> Array:
    """Along an axis of `a`, [start = c]: where the one element is that a slice of this size has."""
    if str(size) != "1" or len(a.dims[axis]) != 1:
        raise Outside(f"a slice of {size} along {'·'.join(a.dims[axis])}")
    weights = one_hot(space.field, finite(start), a.dims[axis][0], 0)
    if not is_everywhere(space.field, space.field.total(weights, 0, a.dims[axis][0]), (1,)):
        raise Outside("an index that may be out of range")
    dims = tuple(dim if k == axis else () for k, dim in enumerate(a.dims))
    return Array(dims, weights, NONNEGATIVE)


DYNAMIC: dict[Primitive, Callable[..., Array]] = {
    jaxs.dynamic_slice_p: _dynamic_slice,
    jaxs.dynamic_update_slice_p: _dynamic_update_slice,
}
