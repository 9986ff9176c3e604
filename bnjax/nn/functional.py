"""What the NNX and the Linen layer share: which rule applies, and how running statistics move."""

import functools
from collections.abc import Callable, Sequence
from typing import Protocol

import jax
import jax.numpy as jnp

from bnjax.ops import batch_norm_relu_with_statistics, cpu
from bnjax.theorems import BatchNormOutput, batch_norm_inference, sync_batch_norm
from bnjax.theorems.arguments import canonical_axes
from bnjax.theorems.sync import Groups


class Layer(Protocol):
    """What a rule reads of a layer, Flax's attributes of either API."""

    axis: int
    epsilon: float
    cpu_kernels: bool
    axis_index_groups: Groups | None


def feature_axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """Flax's `axis`, the axes that hold the features, sorted and non-negative."""
    named = axis if isinstance(axis, Sequence) else (axis,)
    return tuple(sorted({canonical_axes(a, ndim)[0] for a in named}))


def reduction_axes(axis: int | Sequence[int], ndim: int) -> tuple[int, ...]:
    """The axes the statistics run over: all but the features'."""
    return tuple(a for a in range(ndim) if a not in feature_axes(axis, ndim))


def train(
    layer: Layer,
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    *,
    mask: jax.Array | None,
    axis_name: str | None,
    relu: bool = False,
) -> BatchNormOutput:
    """Batch norm by the batch's own statistics, which are returned too (the three-term VJP).

    With `relu`, y is the ReLU of it, in one rule.  Of a layer with `cpu_kernels`, these run where they apply.
    """
    if mask is not None and jnp.asarray(mask).dtype != jnp.bool_:
        raise TypeError(f"mask must be boolean, got dtype {jnp.asarray(mask).dtype}: weights are not counted")
    axes = reduction_axes(layer.axis, x.ndim)
    rule: Callable[..., BatchNormOutput] = batch_norm_relu_with_statistics if relu else sync_batch_norm
    if layer.cpu_kernels:
        rule = functools.partial(cpu.batch_norm_with_statistics, relu=relu)
    return rule(
        x,
        *_scale_and_bias(x, axes, scale, bias),
        layer.epsilon,
        axis=axes,
        where=mask,
        axis_name=axis_name,
        axis_index_groups=layer.axis_index_groups,
    )


def evaluate(
    layer: Layer,
    x: jax.Array,
    scale: jax.Array | None,
    bias: jax.Array | None,
    mean: jax.Array,
    var: jax.Array,
) -> jax.Array:
    """Batch norm by running statistics (the one-term VJP).

    It has no kernel: XLA makes one pass of it, and nothing is left to gain.
    """
    axes = reduction_axes(layer.axis, x.ndim)
    gamma, beta = _scale_and_bias(x, axes, scale, bias)
    return batch_norm_inference(x, gamma, beta, mean, var, layer.epsilon, axis=axes)


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
