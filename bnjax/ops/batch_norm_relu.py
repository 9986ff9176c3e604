r"""Batch normalization and ReLU as one rule, which keeps one activation-sized array instead of two."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bnjax.theorems.arguments import Axes
from bnjax.theorems.batch_norm import (
    BatchNormOutput,
    batch_norm_arguments,
    batch_norm_bwd,
    batch_norm_by,
    batch_norm_fwd,
)


def batch_norm_relu(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    axis: Axes = 0,
) -> jax.Array:
    r"""ReLU of batch normalization: y = max(z, 0), z = γ·x̂ + β.

    **VJP.** ReLU passes dy where z > 0 and stops it elsewhere, at z = 0 too (as `jax.nn.relu`); then
    theorem 34::

        dz = dy·[z > 0]
        dx = γ·istd/n · (n·dz − Σ dz − x̂·Σ(dz·x̂))        dγ = Σ dz·x̂        dβ = Σ dz

    The backward pass keeps x and four numbers a channel, and computes z again: neither y nor a mask of it
    is kept.

    Arguments, result and errors are those of `bnjax.batch_norm`.

    Source: theorem 34 of *Verified Deep Learning with Lean 4*, chapter 5; the convention at 0 is
    `jax.nn.relu`'s.
    """
    return batch_norm_relu_with_statistics(x, gamma, beta, eps, axis=axis).y


def batch_norm_relu_primal(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    axis: Axes = 0,
) -> jax.Array:
    """The forward of `batch_norm_relu` without the hand VJP: what autodiff differentiates."""
    return _forward(*batch_norm_arguments(x, gamma, beta, eps, axis))[0]


def batch_norm_relu_with_statistics(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    axis: Axes = 0,
) -> BatchNormOutput:
    """`batch_norm_relu`, and the statistics it took, as `batch_norm_with_statistics` returns them."""
    return batch_norm_by(_batch_norm_relu, x, gamma, beta, eps, axis)


def _forward(x, gamma, beta, eps, axes):
    (y, mean, var), _ = _fwd(x, gamma, beta, eps, axes)
    return y, jax.lax.stop_gradient(mean), jax.lax.stop_gradient(var)


def _fwd(x, gamma, beta, eps, axes):
    (z, mean, var), residuals = batch_norm_fwd(x, gamma, beta, eps, axes)
    # a selection, not a maximum: XLA would compute a maximum again in each of its consumers
    return (jnp.where(z > 0, z, 0), mean, var), (*residuals, beta)


def _bwd(axes, residuals, cotangents):
    *residuals, beta = residuals
    x, gamma, mean, istd = residuals
    z = (gamma * ((x - mean) * istd) + beta).astype(x.dtype)
    dz = jnp.where(z > 0, cotangents[0], 0)
    return batch_norm_bwd(axes, residuals, (dz, *cotangents[1:]))


_batch_norm_relu = jax.custom_vjp(_forward, nondiff_argnums=(4,))
_batch_norm_relu.defvjp(_fwd, _bwd)
