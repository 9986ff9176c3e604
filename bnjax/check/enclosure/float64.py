"""What a primitive computes, in float64: by numpy where it is here, without compilation; else by JAX.

A numpy version takes an equation's parameters and its operands; a test holds each against JAX.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.extend.core import primitives as jaxs

from bnjax.check.enclosure import numpy_indexing


def bind(primitive: Primitive, params: dict[str, Any], values: Sequence[Any], xp: Any) -> Any:
    """A primitive's result, or the list of them, at `values`: numpy arrays, or JAX's with `xp=jnp`."""
    if xp is np and primitive in NUMPY:
        return NUMPY[primitive](params, *values)
    if primitive in _SCATTERS:
        return _scattered(primitive, params, values, xp)
    params = {k: widened(k, v) for k, v in params.items()}
    out = primitive.bind(*(jnp.asarray(v) if isinstance(v, np.ndarray) else v for v in values), **params)
    if xp is not np:
        return out
    return [_numpy(o) for o in out] if primitive.multiple_results else _numpy(out)


_SCATTERS: dict[Primitive, Callable[..., Any]] = {
    jaxs.scatter_p: jax.lax.scatter,
    jaxs.scatter_add_p: jax.lax.scatter_add,
    jaxs.scatter_mul_p: jax.lax.scatter_mul,
    jaxs.scatter_min_p: jax.lax.scatter_min,
    jaxs.scatter_max_p: jax.lax.scatter_max,
}


def _scattered(primitive: Primitive, params: dict[str, Any], values: Sequence[Any], xp: Any) -> Any:
    """A scatter by JAX's function: the equation holds how two numbers become one, in its own dtype."""
    options = {k: params[k] for k in ("dimension_numbers", "indices_are_sorted", "unique_indices", "mode")}
    out = _SCATTERS[primitive](*map(jnp.asarray, values), **options)
    return out if xp is not np else _numpy(out)


def widened(key: str, value: Any) -> Any:
    """A primitive's parameter; a dtype of rounded numbers is made the widest."""
    if key in ("new_dtype", "dtype", "preferred_element_type") and value is not None:
        return widest(value)
    return value


def widest(dtype: Any) -> Any:
    """float64 for a floating dtype, complex128 for a complex one; any other as it is."""
    if jnp.issubdtype(dtype, jnp.floating):
        return np.dtype(np.float64)
    return np.dtype(np.complex128) if jnp.issubdtype(dtype, jnp.complexfloating) else dtype


def _numpy(a: Any) -> Any:
    """`a` for numpy; a random key is no number and stays as it is."""
    return a if jnp.issubdtype(a.dtype, jax.dtypes.extended) else np.asarray(a)


def _broadcast(params: Any, a: Any, *_: Any) -> Any:
    shape = [1] * len(params["shape"])
    for size, axis in zip(np.shape(a), params["broadcast_dimensions"], strict=True):
        shape[axis] = size
    return np.broadcast_to(np.reshape(a, shape), params["shape"])


def _dot(params: Any, a: Any, b: Any) -> Any:
    """One matrix product a batch: (batch, free, contracted) · (batch, contracted, free)."""
    (contract_a, contract_b), (batch_a, batch_b) = params["dimension_numbers"]
    free_a = [i for i in range(a.ndim) if i not in (*contract_a, *batch_a)]
    free_b = [i for i in range(b.ndim) if i not in (*contract_b, *batch_b)]
    batch = [a.shape[i] for i in batch_a]
    rows, columns = [a.shape[i] for i in free_a], [b.shape[i] for i in free_b]
    terms = math.prod(a.shape[i] for i in contract_a)
    left = np.transpose(a, (*batch_a, *free_a, *contract_a)).reshape(*batch, math.prod(rows), terms)
    right = np.transpose(b, (*batch_b, *contract_b, *free_b)).reshape(*batch, terms, math.prod(columns))
    return (left @ right).reshape((*batch, *rows, *columns))


def _lu(params: Any, a: Any) -> list[Any]:
    """LAPACK's factors, pivots and permutation, a matrix at a time."""
    from scipy.linalg import get_lapack_funcs  # type: ignore[import-untyped]  # slow to import

    rows, columns = a.shape[-2:]
    (factorize,) = get_lapack_funcs(("getrf",), (a,))
    factors = np.empty(a.shape, a.dtype)
    pivots = np.empty((*a.shape[:-2], min(rows, columns)), np.int32)
    order = np.empty((*a.shape[:-2], rows), np.int32)
    for at in np.ndindex(*a.shape[:-2]):
        factors[at], pivots[at], _ = factorize(a[at])
        order[at] = np.arange(rows)
        for i, pivot in enumerate(pivots[at]):
            order[at][[i, pivot]] = order[at][[pivot, i]]
    return [factors, pivots, order]


def _triangular_solve(params: Any, a: Any, b: Any) -> Any:
    """Substitution, a row at a time for all matrices of a batch."""
    lower, turned = params["lower"], not params["left_side"]
    a = np.conj(a) if params["conjugate_a"] else a
    if params["transpose_a"] != turned:
        a, lower = np.swapaxes(a, -1, -2), not lower
    x = np.array(np.swapaxes(b, -1, -2) if turned else b, np.result_type(a, b))
    size = a.shape[-1]
    for i in range(size) if lower else reversed(range(size)):
        done = slice(0, i) if lower else slice(i + 1, size)
        x[..., i : i + 1, :] -= a[..., i : i + 1, done] @ x[..., done, :]
        if not params["unit_diagonal"]:
            x[..., i, :] /= a[..., i, i, None]
    return np.swapaxes(x, -1, -2) if turned else x


def _iota(params: Any) -> Any:
    shape, along = params["shape"], params["dimension"]
    line = np.arange(shape[along], dtype=widened("dtype", params["dtype"]))
    return np.broadcast_to(line.reshape([-1 if i == along else 1 for i in range(len(shape))]), shape)


def _divided(params: Any, a: Any, b: Any) -> Any:
    return np.asarray(a / b if a.dtype.kind in "fc" else np.fix(a / b).astype(a.dtype))


def _reshaped(params: Any, a: Any) -> Any:
    moved = a if params.get("dimensions") is None else np.transpose(a, params["dimensions"])
    return np.reshape(moved, params["new_sizes"])


def _sliced(params: Any, a: Any) -> Any:
    steps = params["strides"] or (1,) * a.ndim
    return a[tuple(map(slice, params["start_indices"], params["limit_indices"], steps))]


def _selected(params: Any, which: Any, *cases: Any) -> Any:
    if len(cases) > 2:
        return np.choose(which.astype(int), cases)
    return np.where(which, cases[-1], cases[0])


def _along(function: Any) -> Callable[..., Any]:
    """A ufunc accumulated along one axis."""

    def accumulated(params: Any, a: Any) -> Any:
        way = slice(None, None, -1) if params["reverse"] else slice(None)
        turn = tuple(way if i == params["axis"] else slice(None) for i in range(a.ndim))
        return function.accumulate(a[turn], axis=params["axis"])[turn]

    return accumulated


def _over(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda params, a: np.asarray(function(a, axis=tuple(params["axes"])))


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda params, *arrays: np.asarray(function(*arrays))


_ELEMENTWISE: dict[Primitive, Callable[..., Any]] = {
    jaxs.add_p: np.add, jaxs.sub_p: np.subtract, jaxs.add_jaxvals_p: np.add, jaxs.mul_p: np.multiply,
    jaxs.neg_p: np.negative, jaxs.abs_p: np.abs, jaxs.max_p: np.maximum, jaxs.min_p: np.minimum,
    jaxs.square_p: np.square, jaxs.sqrt_p: np.sqrt, jaxs.rsqrt_p: lambda a: 1 / np.sqrt(a),
    jaxs.exp_p: np.exp, jaxs.expm1_p: np.expm1, jaxs.log_p: np.log, jaxs.log1p_p: np.log1p,
    jaxs.tanh_p: np.tanh, jaxs.logistic_p: lambda a: 0.5 * (1 + np.tanh(0.5 * a)), jaxs.sin_p: np.sin,
    jaxs.cos_p: np.cos, jaxs.sign_p: np.sign, jaxs.pow_p: np.power, jaxs.gt_p: np.greater,
    jaxs.lt_p: np.less, jaxs.ge_p: np.greater_equal, jaxs.le_p: np.less_equal, jaxs.eq_p: np.equal,
    jaxs.ne_p: np.not_equal, jaxs.copy_p: np.asarray, jaxs.stop_gradient_p: np.asarray,
    jaxs.floor_p: np.floor, jaxs.ceil_p: np.ceil, jaxs.rem_p: np.fmod, jaxs.real_p: np.real,
    jaxs.imag_p: np.imag, jaxs.conj_p: np.conj, jaxs.complex_p: lambda a, b: a + 1j * b,
    jaxs.is_finite_p: np.isfinite, jaxs.and_p: np.bitwise_and, jaxs.or_p: np.bitwise_or,
    jaxs.not_p: np.invert,
}  # fmt: skip

NUMPY: dict[Primitive, Callable[..., Any]] = {
    **{primitive: _plain(f) for primitive, f in _ELEMENTWISE.items()},
    jaxs.reduce_sum_p: _over(np.sum),
    jaxs.reduce_max_p: _over(np.max),
    jaxs.reduce_min_p: _over(np.min),
    jaxs.reduce_prod_p: _over(np.prod),
    jaxs.reduce_and_p: _over(np.all),
    jaxs.reduce_or_p: _over(np.any),
    jaxs.cumsum_p: _along(np.add),
    jaxs.cumprod_p: _along(np.multiply),
    jaxs.cummax_p: _along(np.maximum),
    jaxs.cummin_p: _along(np.minimum),
    jaxs.rev_p: lambda p, a: np.flip(a, tuple(p["dimensions"])),
    jaxs.clamp_p: lambda p, low, a, high: np.clip(a, low, high),
    jaxs.div_p: _divided,
    jaxs.integer_pow_p: lambda p, a: np.asarray(a) ** (float(p["y"]) if p["y"] < 0 else p["y"]),
    jaxs.reshape_p: _reshaped,
    jaxs.transpose_p: lambda p, a: np.transpose(a, p["permutation"]),
    jaxs.squeeze_p: lambda p, a: np.squeeze(a, tuple(p["dimensions"])),
    jaxs.broadcast_in_dim_p: _broadcast,
    jaxs.concatenate_p: lambda p, *arrays: np.concatenate(arrays, p["dimension"]),
    jaxs.slice_p: _sliced,
    jaxs.select_n_p: _selected,
    jaxs.dot_general_p: _dot,
    jaxs.iota_p: _iota,
    jaxs.lu_p: _lu,
    jaxs.triangular_solve_p: _triangular_solve,
    jaxs.gather_p: numpy_indexing.gather,
    jaxs.scatter_p: numpy_indexing.scatter(None),
    jaxs.scatter_add_p: numpy_indexing.scatter(np.add),
    jaxs.scatter_mul_p: numpy_indexing.scatter(np.multiply),
    jaxs.scatter_max_p: numpy_indexing.scatter(np.maximum),
    jaxs.scatter_min_p: numpy_indexing.scatter(np.minimum),
}
