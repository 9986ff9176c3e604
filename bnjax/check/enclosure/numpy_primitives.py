"""numpy's own versions of JAX's primitives, in float64: small arrays need no compilation.

Each takes an equation's parameters and its operands.  What is not here JAX runs; a test holds each
against JAX.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np


def widened(key: str, value: Any) -> Any:
    """A primitive's parameter, where it is a floating dtype made float64."""
    if key in ("new_dtype", "dtype", "preferred_element_type") and value is not None:
        return np.dtype(np.float64) if jnp.issubdtype(value, jnp.floating) else value
    return value


def _numpy_broadcast(params: Any, a: Any, *_: Any) -> Any:
    shape = [1] * len(params["shape"])
    for size, axis in zip(np.shape(a), params["broadcast_dimensions"], strict=True):
        shape[axis] = size
    return np.broadcast_to(np.reshape(a, shape), params["shape"])


def _numpy_dot(params: Any, a: Any, b: Any) -> Any:
    (contract_a, contract_b), (batch_a, batch_b) = params["dimension_numbers"]
    left, right = list(range(a.ndim)), list(range(a.ndim, a.ndim + b.ndim))
    for i, j in zip((*contract_a, *batch_a), (*contract_b, *batch_b), strict=True):
        right[j] = left[i]
    free = [left[i] for i in range(a.ndim) if i not in (*contract_a, *batch_a)]
    free += [right[j] for j in range(b.ndim) if j not in (*contract_b, *batch_b)]
    return np.einsum(a, left, b, right, [left[i] for i in batch_a] + free, optimize=True)


def _over(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda params, a: np.asarray(function(a, axis=tuple(params["axes"])))


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda params, *arrays: np.asarray(function(*arrays))


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "add_any": np.add, "mul": np.multiply, "neg": np.negative,
    "abs": np.abs, "max": np.maximum, "min": np.minimum, "square": np.square, "sqrt": np.sqrt,
    "rsqrt": lambda a: 1 / np.sqrt(a), "exp": np.exp, "expm1": np.expm1, "log": np.log, "log1p": np.log1p,
    "tanh": np.tanh, "logistic": lambda a: 0.5 * (1 + np.tanh(0.5 * a)), "sin": np.sin, "cos": np.cos,
    "sign": np.sign, "pow": np.power, "gt": np.greater, "lt": np.less, "ge": np.greater_equal,
    "le": np.less_equal, "eq": np.equal, "ne": np.not_equal, "copy": np.asarray, "copy_p": np.asarray,
    "stop_gradient": np.asarray, "is_finite": np.isfinite, "and": np.bitwise_and,
    "or": np.bitwise_or, "not": np.invert,
}  # fmt: skip

NUMPY: dict[str, Callable[..., Any]] = {
    **{name: _plain(f) for name, f in _ELEMENTWISE.items()},
    "reduce_sum": _over(np.sum), "reduce_max": _over(np.max), "reduce_min": _over(np.min),
    "div": lambda p, a, b: np.asarray(a / b if a.dtype.kind == "f" else np.fix(a / b).astype(a.dtype)),
    "integer_pow": lambda p, a: np.asarray(a) ** float(p["y"]) if p["y"] < 0 else np.asarray(a) ** p["y"],
    "reshape": lambda p, a: np.reshape(
        a if p.get("dimensions") is None else np.transpose(a, p["dimensions"]), p["new_sizes"]),
    "transpose": lambda p, a: np.transpose(a, p["permutation"]),
    "squeeze": lambda p, a: np.squeeze(a, tuple(p["dimensions"])),
    "broadcast_in_dim": _numpy_broadcast,
    "concatenate": lambda p, *arrays: np.concatenate(arrays, p["dimension"]),
    "slice": lambda p, a: a[
        tuple(map(slice, p["start_indices"], p["limit_indices"], p["strides"] or (1,) * a.ndim))],
    "select_n": lambda p, which, *cases: np.choose(which.astype(int), cases) if len(cases) > 2
    else np.where(which, cases[-1], cases[0]),
    "dot_general": _numpy_dot,
    "iota": lambda p: np.broadcast_to(
        np.arange(p["shape"][p["dimension"]], dtype=widened("dtype", p["dtype"])).reshape(
            [-1 if i == p["dimension"] else 1 for i in range(len(p["shape"]))]), p["shape"]),
}  # fmt: skip
