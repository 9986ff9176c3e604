"""The edge of every theorem: check what came, and give the rules the simplest shapes.

The rules see `x` as it came, `axes` as a sorted tuple of the axes the statistics run over, and every
parameter (γ, β, ε, running statistics) in the *statistics' shape*: x's shape with each reduced axis
set to 1, so that it broadcasts against x.  The reshape and the cast that bring a parameter there are
plain JAX, so autodiff turns their cotangents back into the caller's own shape and dtype: a shared ε is
summed over the channels, a bfloat16 γ gets a bfloat16 cotangent.
"""

import operator
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from bnjax.theorems.statistics import statistics_dtype

Axes = int | Sequence[int]


def float_array(name: str, value: ArrayLike) -> jax.Array:
    """`value` as a JAX array of a real floating dtype; anything else is a TypeError naming `name`."""
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} must be a real floating-point array, got dtype {array.dtype}: cast it first")
    return array


def reduction(x: ArrayLike, axis: Axes, *, allow_empty: bool = False) -> tuple[jax.Array, tuple[int, ...]]:
    """x as a floating array, and `axis` as the sorted tuple of non-negative axes to reduce over.

    `allow_empty` allows a batch of no elements, and () for no axis at all: each element its own channel.
    """
    x = float_array("x", x)
    axes = () if allow_empty and axis == () else canonical_axes(axis, x.ndim)
    empty = [a for a in axes if x.shape[a] == 0]
    if empty and not allow_empty:
        raise ValueError(
            f"axis {empty[0]} of x has size 0: the statistics of an empty batch do not exist "
            f"(x has shape {x.shape}, axis={axis!r})"
        )
    return x, axes


def reduction_and_eps(
    x: ArrayLike, eps: ArrayLike, axis: Axes
) -> tuple[jax.Array, jax.Array, tuple[int, ...]]:
    """What the rules of istd and x̂ take: x, ε in the statistics' shape, and the axes."""
    x, axes = reduction(x, axis)
    return x, parameter("eps", eps, x, axes, scalar=True), axes


def canonical_axes(axis: Axes, ndim: int) -> tuple[int, ...]:
    """`axis` (an int or a sequence of ints, negative ones from the end) sorted and non-negative."""
    try:
        given = [operator.index(a) for a in (axis if isinstance(axis, Sequence) else (axis,))]
    except TypeError:
        raise TypeError(f"axis must be an int or a sequence of ints, got {axis!r}") from None
    if not given:
        raise ValueError("axis must name at least one axis to reduce over, got none")
    for a in given:
        if not -ndim <= a < ndim:
            raise ValueError(
                f"axis {a} is out of range for x with {ndim} dimensions: allowed are {-ndim} to {ndim - 1}"
            )
    axes = tuple(sorted(a % ndim for a in given))
    if len(set(axes)) < len(axes):
        raise ValueError(f"axis {axis!r} names an axis of x (with {ndim} dimensions) twice")
    return axes


def parameter(
    name: str,
    value: ArrayLike,
    x: jax.Array,
    axes: tuple[int, ...],
    *,
    scalar: bool = False,
) -> jax.Array:
    """A per-channel parameter in the statistics' shape and dtype.

    `value` must have the shape of x's kept axes; `scalar=True` also allows one value for all channels.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    array = float_array(name, value)
    kept = tuple(size for a, size in enumerate(x.shape) if a not in axes)
    if array.shape != kept and not (scalar and array.shape == ()):
        also = " or ()" if scalar and kept else ""
        raise ValueError(
            f"{name} must have the shape of x's kept axes, {kept}{also}, got {array.shape} "
            f"(x has shape {x.shape}, the statistics run over axes {axes})"
        )
    array = same_varying_axes(array.astype(statistics_dtype(x)), x)
    if array.shape != kept:
        array = jnp.broadcast_to(array, kept)
    return jnp.expand_dims(array, axes)


def same_varying_axes(value: jax.Array, x: jax.Array) -> jax.Array:
    """`value` marked as varying over every mesh axis x varies over.

    Inside `shard_map` a replicated γ meets a sharded x, and γ's cotangent must be summed over the
    shards.  The transpose of this mark is that sum, so no rule has to know of the mesh; where nothing
    is tracked (outside `shard_map`, or with `check_vma=False`, where JAX sums by itself) it is nothing.
    """
    varying = jax.typeof(x).manual_axis_type.varying
    missing = varying - jax.typeof(value).manual_axis_type.varying
    return jax.lax.pcast(value, tuple(missing), to="varying") if missing else value


def check_positive(name: str, value: ArrayLike, *, or_zero: bool = False) -> None:
    """ValueError unless every element of `value` is > 0 and finite; a traced value is not looked at.

    With `or_zero`, 0 passes too.
    """
    if isinstance(value, jax.core.Tracer):
        return
    array = np.asarray(value)
    if np.issubdtype(array.dtype, np.bool_) or np.iscomplexobj(array):
        raise TypeError(f"{name} must be a positive real number, got {value!r}")
    if not (np.all(array >= 0 if or_zero else array > 0) and np.all(np.isfinite(array))):
        raise ValueError(f"{name} must be {'at least 0' if or_zero else 'positive'} and finite, got {value}")


def kronecker(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """The two index tensors of a dense Jacobian J[j, i] over x's shape: δ_ij, and [j and i share a channel].

    Both broadcast to `x.shape + x.shape`, the output index j first.
    """
    delta = jnp.eye(x.size, dtype=statistics_dtype(x)).reshape(x.shape + x.shape)
    return delta, jnp.sum(delta, axes, keepdims=True)


def output_index(a: jax.Array) -> jax.Array:
    """`a` indexed by the output j of a Jacobian J[j, i]; arrays indexed by i broadcast as they are."""
    return a.reshape(a.shape + (1,) * a.ndim)
