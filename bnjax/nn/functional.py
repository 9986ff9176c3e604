"""What the NNX and the Linen layer share: which rule applies, and how running statistics move."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from bnjax.ops import batch_norm_relu_with_statistics
from bnjax.theorems import (
    BatchNormOutput,
    batch_norm_inference,
    batch_norm_with_statistics,
    sync_batch_norm,
)
from bnjax.theorems.sync import Groups


def feature_axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """Flax's `axis`, the axes that hold the features, sorted and non-negative."""
    return tuple(sorted({a % ndim for a in (axis if isinstance(axis, Sequence) else (axis,))}))


def reduction_axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """The axes the statistics run over: all but the features'."""
    return tuple(a for a in range(ndim) if a not in feature_axes(axis, ndim))


def train(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    *,
    axis: int | Sequence[int],
    epsilon: float,
    mask: jax.Array | None,
    axis_name: str | None,
    axis_index_groups: Groups | None,
    relu: bool = False,
) -> BatchNormOutput:
    """Batch norm by the batch's own statistics, which are returned too (the three-term VJP).

    With `relu`, y is the ReLU of it, in one rule where the batch is whole.
    """
    axes = reduction_axes(axis, x.ndim)
    gamma, beta = _scale_and_bias(x, axes, scale, bias)
    if mask is None and axis_name is None:
        whole = batch_norm_relu_with_statistics if relu else batch_norm_with_statistics
        return whole(x, gamma, beta, epsilon, axis=axes)
    output = sync_batch_norm(
        x,
        gamma,
        beta,
        epsilon,
        axis=axes,
        where=None if mask is None else jnp.asarray(mask, bool),
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
    )
    return output._replace(y=jax.nn.relu(output.y)) if relu else output


def evaluate(
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    mean: jax.Array,
    var: jax.Array,
    *,
    axis: int | Sequence[int],
    epsilon: float,
    relu: bool = False,
) -> jax.Array:
    """Batch norm by running statistics (the one-term VJP), or the ReLU of it."""
    axes = reduction_axes(axis, x.ndim)
    gamma, beta = _scale_and_bias(x, axes, scale, bias)
    y = batch_norm_inference(x, gamma, beta, mean, var, epsilon, axis=axes)
    return jax.nn.relu(y) if relu else y


def moving_average(
    running: jax.Array, batch: jax.Array, count: jax.Array | int, momentum: float
) -> jax.Array:
    """Flax's convention: momentum·running + (1 − momentum)·batch.

    Where no element was counted (an empty mask) there is nothing to learn, and `running` stays.
    """
    moved = momentum * running + (1 - momentum) * batch
    return jnp.where(jnp.asarray(count) > 0, moved, running).astype(running.dtype)


def _scale_and_bias(
    x: jax.Array, axes: tuple[int, ...], scale: jax.Array | None, bias: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    features = tuple(size for a, size in enumerate(x.shape) if a not in axes)
    dtype = jnp.promote_types(x.dtype, jnp.float32)
    return (
        jnp.ones(features, dtype) if scale is None else scale,
        jnp.zeros(features, dtype) if bias is None else bias,
    )
