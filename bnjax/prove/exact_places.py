"""Elements at places, exactly: gathers, scatters, slices, positions and windows of object arrays.

JAX itself says which element goes where, of the elements' numbers; windows are gone through one by one.
What is out of range, or written to twice, is not evaluated, whatever JAX's modes make of it.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.jaxprs import shaped
from bnjax.prove.reals import NotEvaluated, Unsupported


def _numbered(array: np.ndarray) -> np.ndarray:
    return np.arange(array.size, dtype=np.int32).reshape(array.shape)


def _as_indices(eqn: JaxprEqn, place: int, array: np.ndarray) -> jnp.ndarray:
    return jnp.asarray(array.astype(np.int64), shaped(eqn.invars[place]).dtype)


def _picked(array: np.ndarray, places: Any) -> np.ndarray:
    """Elements by their numbers; a negative one is a place out of range."""
    flat, places = array.ravel(), np.asarray(places)
    result = np.empty(places.shape, object)
    for index in np.ndindex(places.shape):
        if places[index] < 0:
            raise Unsupported("an index out of range")
        result[index] = flat[places[index]]
    return result


def _gathered(eqn: JaxprEqn, arithmetic: Any, a: np.ndarray, indices: np.ndarray) -> np.ndarray:
    """JAX gathers the numbers of the elements; what is out of range is not evaluated, whatever the mode."""
    numbers = lax.gather(
        jnp.asarray(_numbered(a)),
        _as_indices(eqn, 1, indices),
        eqn.params["dimension_numbers"],
        eqn.params["slice_sizes"],
        mode=lax.GatherScatterMode.FILL_OR_DROP,
        fill_value=-1,
    )
    return _picked(a, numbers)


def _scattered(
    eqn: JaxprEqn, arithmetic: Any, a: np.ndarray, indices: np.ndarray, updates: np.ndarray
) -> np.ndarray:
    """Each update goes where the gather with the same numbers would take it from."""
    d = eqn.params["dimension_numbers"]
    whole, windows = {*d.inserted_window_dims, *d.operand_batching_dims}, iter(d.update_window_dims)
    sizes = tuple(1 if k in whole else updates.shape[next(windows)] for k in range(a.ndim))
    numbers = lax.GatherDimensionNumbers(
        d.update_window_dims, d.inserted_window_dims, d.scatter_dims_to_operand_dims,
        d.operand_batching_dims, d.scatter_indices_batching_dims,
    )  # fmt: skip
    mode = lax.GatherScatterMode.FILL_OR_DROP
    starts = _as_indices(eqn, 1, indices)
    places = lax.gather(jnp.asarray(_numbered(a)), starts, numbers, sizes, mode=mode, fill_value=-1)
    result, taken = a.copy().reshape(-1), set()
    for place, update in zip(np.asarray(places).ravel().tolist(), updates.ravel(), strict=True):
        if place < 0 and eqn.params["mode"] != mode:
            raise Unsupported("an index out of range")
        if place in taken and (eqn.primitive is jaxs.scatter_p or eqn.params["unique_indices"]):
            raise NotEvaluated("a scatter to equal indices, of which the machine chooses one")
        if place >= 0:
            result[place] = result[place] + update if eqn.primitive is jaxs.scatter_add_p else update
            taken.add(place)
    return result.reshape(a.shape)


def _clamped(starts: Sequence[np.ndarray], shape: Sequence[int], sizes: Sequence[int]) -> list[int]:
    """Where a slice starts that is moved back until it fits: one below 0 is not counted from the end."""
    bounds = zip(starts, shape, sizes, strict=False)
    return [min(max(int(start), 0), full - int(size)) for start, full, size in bounds]


def _sliced(eqn: JaxprEqn, arithmetic: Any, a: np.ndarray, *starts: np.ndarray) -> np.ndarray:
    numbers = lax.dynamic_slice(
        jnp.asarray(_numbered(a)),
        _clamped(starts, a.shape, eqn.params["slice_sizes"]),
        eqn.params["slice_sizes"],
    )
    return _picked(a, numbers)


def _written_over(
    eqn: JaxprEqn, arithmetic: Any, a: np.ndarray, update: np.ndarray, *starts: np.ndarray
) -> np.ndarray:
    numbers = lax.dynamic_update_slice(
        jnp.asarray(_numbered(a)),
        jnp.asarray(_numbered(update) + a.size),
        _clamped(starts, a.shape, update.shape),
    )
    return _picked(np.concatenate([a.ravel(), update.ravel()]), numbers)


def _iota(eqn: JaxprEqn, arithmetic: Any, *_: np.ndarray) -> np.ndarray:
    shape, axis = shaped(eqn.outvars[0]).shape, eqn.params["dimension"]
    line = np.array([arithmetic.literal(k) for k in range(shape[axis])] + [None], object)[:-1]
    return np.broadcast_to(line.reshape([-1 if k == axis else 1 for k in range(len(shape))]), shape)


def _windows(eqn: JaxprEqn, a: np.ndarray, count: Sequence[int]) -> np.ndarray:
    """For each window the indices of its elements, in order; padding leaves none."""
    p, ones = eqn.params, (1,) * a.ndim
    base, dilation = p.get("base_dilation", ones), p.get("window_dilation", ones)
    result = np.empty(tuple(count), object)
    for window in np.ndindex(result.shape):
        places_in: list[tuple[int, ...]] = []
        for offset in np.ndindex(tuple(map(int, p["window_dimensions"]))):
            places = [
                int(w * s + o * d - low)
                for w, s, o, d, (low, _) in zip(
                    window, p["window_strides"], offset, dilation, p["padding"], strict=True
                )
            ]
            inside = all(
                k % b == 0 and 0 <= k // b < n for k, b, n in zip(places, base, a.shape, strict=True)
            )
            if inside:
                places_in.append(tuple(k // b for k, b in zip(places, base, strict=True)))
        result[window] = places_in
    return result


def _window_sums(eqn: JaxprEqn, arithmetic: Any, a: np.ndarray) -> np.ndarray:
    windows = _windows(eqn, a, shaped(eqn.outvars[0]).shape)
    zero = arithmetic.literal(0)
    return np.frompyfunc(lambda window: sum((a[k] for k in window), zero), 1, 1)(windows)


def _window_maxima(eqn: JaxprEqn, arithmetic: Any, a: np.ndarray) -> np.ndarray:
    windows = _windows(eqn, a, shaped(eqn.outvars[0]).shape)
    return np.frompyfunc(lambda window: a[_place_of_largest(arithmetic, a, window)], 1, 1)(windows)


def _place_of_largest(arithmetic: Any, a: np.ndarray, window: Any) -> tuple[int, ...]:
    if not window:
        raise Unsupported("a window of padding")
    best = window[0]
    for place in window[1:]:
        best = best if arithmetic.exceeds(a[best], a[place]) else place
    return best


def _scattered_to_largest(eqn: JaxprEqn, arithmetic: Any, source: np.ndarray, a: np.ndarray) -> np.ndarray:
    if eqn.params["select_prim"] is not jaxs.ge_p:
        raise NotEvaluated("another choice than the largest")
    result = np.full(a.shape, arithmetic.literal(0), object)
    windows = _windows(eqn, a, source.shape)
    for index in np.ndindex(source.shape):
        place = _place_of_largest(arithmetic, a, windows[index])
        result[place] = result[place] + source[index]
    return result


PLACES: dict[Primitive, Callable[..., np.ndarray]] = {
    lax.reduce_window_max_p: _window_maxima,
    lax.reduce_window_sum_p: _window_sums,
    lax.select_and_scatter_add_p: _scattered_to_largest,
    jaxs.dynamic_slice_p: _sliced,
    jaxs.dynamic_update_slice_p: _written_over,
    jaxs.gather_p: _gathered,
    jaxs.iota_p: _iota,
    jaxs.scatter_add_p: _scattered,
    jaxs.scatter_p: _scattered,
}
