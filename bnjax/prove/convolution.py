"""Convolution at given spatial sizes, the batch and the channels symbols or numbers.

Along one axis, a window of K elements, `stride` apart and `dilation` wide, over I elements that are `base`
apart after `low` zeros, is the bilinear form with the tensor of zeros and ones

    T[s, k, i] = 1 where s·stride + k·dilation = low + i·base

which has all of it, padding too, in its support.  A convolution is the sum over c, i and k of lhs[n, c, i] ·
rhs[o, c, k] · T[s, k, i], with a tensor for each spatial axis.  Its transposes are convolutions with the
same tensors, their axes in another order: that they are is seen entry by entry (`bnjax.prove.entrywise`).
With groups, one tensor more says which of lhs's channels belong to the group of an output.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.jaxprs import shaped
from bnjax.prove.algebra import Outside, Poly
from bnjax.prove.arrays import Array, finite, in_one_axis
from bnjax.prove.moves import given_size
from bnjax.prove.signs import NONNEGATIVE
from bnjax.prove.space import Space


def window(sizes: tuple[int, int, int], stride: int, dilation: int, low: int, base: int) -> np.ndarray:
    """T (S, K, I), of zeros and ones, for these sizes."""
    s, k, i = np.ogrid[tuple(map(slice, sizes))]
    return (s * stride + k * dilation == low + i * base).astype(int)


def grouped(outputs: int, each: int, total: int) -> np.ndarray:
    """[o, e, t]: 1 where t is the e-th of the group that output o belongs to, each group as many in a row."""
    o, e, t = np.ogrid[:outputs, :each, :total]
    return (t == o * (total // each) // outputs * each + e).astype(int)


class _Indices:
    """Free indices beyond those of an array, to be summed over."""

    def __init__(self, result: Array):
        self.sizes: dict[int, str] = {}
        self._next = len(result.axes)

    def new(self, dim: tuple[str, ...]) -> tuple[int, ...]:
        """An index for each base axis of a dimension."""
        made = tuple(range(self._next, self._next + len(dim)))
        self._next += len(dim)
        self.sizes |= dict(zip(made, dim, strict=True))
        return made


def _convolution(space: Space, eqn: JaxprEqn, lhs: Array, rhs: Array) -> Array:
    params, shape = eqn.params, shaped(eqn.outvars[0]).shape
    numbers = params["dimension_numbers"]
    for axis in range(len(shape)):
        lhs, rhs = in_one_axis(space, lhs, axis), in_one_axis(space, rhs, axis)
    batch, channels, *places = numbers.lhs_spec
    outputs, inputs, *windows = numbers.rhs_spec
    out_batch, out_channels, *out_places = numbers.out_spec

    by_features, by_batch = params["feature_group_count"] > 1, params["batch_group_count"] > 1
    dims: list[tuple[str, ...]] = [space.dim(size) for size in shape]
    dims[out_channels] = rhs.dims[outputs]
    if not by_batch:
        dims[out_batch] = lhs.dims[batch]
    result = Array(tuple(dims), None)
    after, summed = result.positions(), _Indices(result)

    right = {outputs: after[out_channels], inputs: summed.new(rhs.dims[inputs])}
    left = {batch: after[out_batch], channels: right[inputs]}
    tensors = space.field.constant(1)
    if by_features or by_batch:
        axis, index, array = (
            (channels, right[inputs], rhs) if by_features else (batch, after[out_batch], result)
        )
        each = given_size(array, inputs if by_features else out_batch)
        left[axis] = summed.new(lhs.dims[axis])
        tensor = grouped(given_size(rhs, outputs), each, given_size(lhs, axis))
        tensors *= _entry(space, tensor, (after[out_channels], index, left[axis]))
    if not by_features and lhs.dims[channels] != rhs.dims[inputs]:
        raise Outside("layout: the channels that are summed over differ")
    for number, (place, over, out) in enumerate(zip(places, windows, out_places, strict=True)):
        tensor = window(
            (given_size(result, out), given_size(rhs, over), given_size(lhs, place)),
            params["window_strides"][number],
            params["rhs_dilation"][number],
            params["padding"][number][0],
            params["lhs_dilation"][number],
        )
        left[place], right[over] = summed.new(lhs.dims[place]), summed.new(rhs.dims[over])
        tensors *= _entry(space, tensor, (after[out], right[over], left[place]))

    poly = _renamed(space, lhs, left) * _renamed(space, rhs, right) * tensors
    for new, size in summed.sizes.items():
        poly = space.field.total(poly, new, size)
    return Array(result.dims, space.field.reduce(poly), min(lhs.sign, rhs.sign, NONNEGATIVE))


def _entry(space: Space, tensor: np.ndarray, indices: Sequence[tuple[int, ...]]) -> Poly:
    """The entry of a tensor at these indices, none for an axis of size 1."""
    sizes = [size for size, index in zip(tensor.shape, indices, strict=True) if index]
    return space.field.table(tensor.reshape(sizes), [i for index in indices for i in index])


def _renamed(space: Space, array: Array, indices: dict[int, tuple[int, ...]]) -> Poly:
    """The array's polynomial with these indices for its dimensions."""
    names: dict[int, int] = {}
    for dim, old in enumerate(array.positions()):
        names |= dict(zip(old, indices[dim], strict=True))
    return space.field.rename(finite(array), names)


CONVOLUTIONS: dict[Primitive, Callable[..., Array]] = {jaxs.conv_general_dilated_p: _convolution}
