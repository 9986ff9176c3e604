"""gather and scatter by numpy, in StableHLO's terms: a window of the operand at each index vector."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.lax import GatherScatterMode


def gather(params: Any, operand: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """The windows of `operand` that start at `indices`; outside of it, what the mode says."""
    numbers, sizes = params["dimension_numbers"], params["slice_sizes"]
    batching = numbers.operand_batching_dims, numbers.start_indices_batching_dims
    places, inside = _windows(operand.shape, indices, numbers.start_index_map, batching, sizes)
    found = operand[places]
    gone = [indices.ndim - 1 + d for d in (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)]
    if params["mode"] == GatherScatterMode.FILL_OR_DROP and not inside.all():
        fill = params["fill_value"]
        known = inside.reshape(*inside.shape, *[1] * operand.ndim)
        found = np.where(known, found, _missing(found.dtype) if fill is None else fill).astype(found.dtype)
    found = np.squeeze(found, tuple(gone))
    return np.moveaxis(found, range(indices.ndim - 1, found.ndim), numbers.offset_dims)


def _missing(dtype: np.dtype) -> Any:
    """What JAX fills with: NaN, the least integer, the largest unsigned one, True."""
    if dtype.kind in "fc":
        return np.nan
    return True if dtype.kind == "b" else np.iinfo(dtype).max if dtype.kind == "u" else np.iinfo(dtype).min


def scatter(combine: Any) -> Callable[..., np.ndarray]:
    """A scatter that combines by a ufunc, or overwrites (None); in order, where two windows meet."""

    def scattered(params: Any, operand: Any, indices: Any, updates: Any) -> np.ndarray:
        numbers = params["dimension_numbers"]
        batching = numbers.operand_batching_dims, numbers.scatter_indices_batching_dims
        lost = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
        first, window = indices.ndim - 1, numbers.update_window_dims
        moved = np.moveaxis(updates, window, range(first, updates.ndim))
        moved = np.expand_dims(moved, tuple(first + d for d in lost))
        sizes = moved.shape[first:]
        to = numbers.scatter_dims_to_operand_dims
        places, inside = _windows(operand.shape, indices, to, batching, sizes)
        out = np.array(operand)
        places = tuple(np.broadcast_to(p, moved.shape) for p in places)
        if params["mode"] == GatherScatterMode.FILL_OR_DROP and not inside.all():
            known = np.broadcast_to(inside.reshape(*inside.shape, *[1] * operand.ndim), moved.shape)
            places, moved = tuple(p[known] for p in places), moved[known]
        if combine is None:
            out[places] = moved
        else:
            combine.at(out, places, moved)
        return out

    return scattered


def _windows(
    shape: tuple[int, ...],
    indices: np.ndarray,
    start_map: Sequence[int],
    batching: tuple[Sequence[int], Sequence[int]],
    sizes: Sequence[int],
) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """For each operand dimension the places of all windows, clamped; and which windows lie inside."""
    batch, ndim = indices.shape[:-1], len(shape)
    starts: list[Any] = [np.zeros(batch, np.int64) for _ in shape]
    for k, d in enumerate(start_map):
        starts[d] = indices[..., k].astype(np.int64)
    for d, along in zip(*batching, strict=True):
        line = np.arange(batch[along]).reshape([-1 if i == along else 1 for i in range(len(batch))])
        starts[d] = np.broadcast_to(line, batch)
    inside = np.ones(batch, bool)
    places = []
    for d, (start, size) in enumerate(zip(starts, sizes, strict=True)):
        inside &= (start >= 0) & (start <= shape[d] - size)
        reach = np.arange(size).reshape([-1 if i == d else 1 for i in range(ndim)])
        clamped = np.clip(start, 0, max(shape[d] - size, 0))
        places.append(clamped.reshape(*batch, *[1] * ndim) + reach)
    return tuple(places), inside
