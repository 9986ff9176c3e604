r"""Evaluation mode, a different theorem: with fixed statistics the VJP has one term, not three."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bnjax.theorems.arguments import Axes, check_positive, parameter, reduction
from bnjax.theorems.statistics import statistics_dtype


def batch_norm_inference(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    axis: Axes = 0,
) -> jax.Array:
    r"""Batch normalization with given statistics: y = γ·x̂ + β, x̂ = (x − m)·istd, istd = (v + ε)^(−1/2).

    m and v do not depend on x, so x̂ is affine in it, and for a cotangent dy::

        dx = γ·istd·dy        dγ = Σ dy·x̂        dβ = Σ dy
        dm = −γ·istd·dβ       dv = dε = −½·istd²·γ·dγ

    Args:
      x: floating array; `axis` are the axes of the batch, the others the channels.
      gamma, beta, mean, var: γ, β, m and v ≥ 0, the shape of x's kept axes.
      eps: ε > 0, a scalar or one value a channel, in units of x².
      axis: int or tuple of ints; 0 makes the chapter's vector of n, (0, 1, 2) makes NHWC images.

    Returns:
      y, with x's shape and dtype; sums as in `batch_norm`.

    Raises:
      TypeError, ValueError: as `batch_norm`, and for m or v of another shape.

    Source: Ioffe & Szegedy 2015, algorithm 2.
    """
    check_positive("eps", eps)
    return _inference(*_arguments(x, gamma, beta, mean, var, eps, axis))


def batch_norm_inference_primal(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    mean: ArrayLike,
    var: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    axis: Axes = 0,
) -> jax.Array:
    """The forward of `batch_norm_inference` without the hand VJP: what autodiff differentiates."""
    return _forward(*_arguments(x, gamma, beta, mean, var, eps, axis))


def _arguments(x, gamma, beta, mean, var, eps, axis):
    x, axes = reduction(x, axis, allow_empty=True)  # the statistics are given
    return (
        x,
        parameter("gamma", gamma, x, axes),
        parameter("beta", beta, x, axes),
        parameter("mean", mean, x, axes),
        parameter("var", var, x, axes),
        parameter("eps", eps, x, axes, scalar=True),
        axes,
    )


def _forward(x, gamma, beta, mean, var, eps, axes):
    del axes  # the forward needs only broadcasting; the backward sums over them
    return (gamma * ((x - mean) * jax.lax.rsqrt(var + eps)) + beta).astype(x.dtype)


_inference = jax.custom_vjp(_forward, nondiff_argnums=(6,))


def _inference_fwd(x, gamma, beta, mean, var, eps, axes):
    y = _forward(x, gamma, beta, mean, var, eps, axes)
    return y, (x, gamma, mean, jax.lax.rsqrt(var + eps))


def _inference_bwd(axes, residuals, dy):
    x, gamma, mean, istd = residuals
    dy = dy.astype(statistics_dtype(x))
    dgamma = jnp.sum(dy * ((x - mean) * istd), axes, keepdims=True)
    dbeta = jnp.sum(dy, axes, keepdims=True)
    dmean = -gamma * istd * dbeta
    dvar = -0.5 * istd**2 * gamma * dgamma
    return (gamma * istd * dy).astype(x.dtype), dgamma, dbeta, dmean, dvar, dvar


_inference.defvjp(_inference_fwd, _inference_bwd)
