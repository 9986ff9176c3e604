r"""Theorem 32: the normalizing step x̂ = (x − μ)·istd, and its three-term VJP."""

import math

import jax
from jax.typing import ArrayLike

from bnjax.theorems.arguments import (
    Axes,
    check_positive,
    kronecker,
    output_index,
    reduction_and_eps,
)
from bnjax.theorems.statistics import batch_mean, batch_statistics, statistics_dtype


def normalize(x: ArrayLike, eps: ArrayLike = 1e-5, *, axis: Axes = 0) -> jax.Array:
    r"""Bring each channel to mean 0 and variance σ²/(σ²+ε): x̂ = (x − μ)·istd, istd = (σ² + ε)^(−1/2).

    **Theorem 32 (three-term VJP).** For ε > 0 and a cotangent dy::

        dx = istd/n · (n·dy − Σ dy − x̂·Σ(dy·x̂))        dε = −½·istd²·Σ(dy·x̂)

    The Jacobian istd·(I − 11ᵀ/n − x̂x̂ᵀ/n) is symmetric; its eigenvalues are 0 on 1, ε·istd³ on x̂ and
    istd on the rest, so ‖J‖₂ ≤ 1/√ε.

    Args:
      x: floating array; `axis` are the axes of the batch (n elements in all), the others the channels.
      eps: ε > 0, a scalar or one value a channel, in units of x².
      axis: int or tuple of ints; 0 makes the chapter's vector of n, (0, 1, 2) makes NHWC images.

    Returns:
      x̂, with x's shape and dtype, dimensionless; the statistics are taken in float32 (float64 for
      float64).  For n = 1, and for a constant channel, x̂ = 0.

    Raises:
      TypeError: x or ε is not real floating point, or `axis` is not made of ints.
      ValueError: ε ≤ 0, NaN or infinite (when concrete); `axis` out of range, repeated or empty; an
        empty batch.

    Example:
      >>> import jax, jax.numpy as jnp, bnjax
      >>> y, vjp = jax.vjp(bnjax.normalize, jnp.array([3.0, -1.0, -1.0, -1.0]), 1.0)
      >>> dx, deps = vjp(jnp.array([1.0, 0.0, 0.0, 0.0]))
      >>> print(y, dx, deps)  # μ = 0, σ² = 3
      [ 1.5 -0.5 -0.5 -0.5] [ 0.09375 -0.03125 -0.03125 -0.03125] -0.1875

    Source: *Verified Deep Learning with Lean 4*, chapter 5, after Ioffe & Szegedy 2015.
    """
    check_positive("eps", eps)
    return _normalize(*reduction_and_eps(x, eps, axis))


def normalize_primal(x: ArrayLike, eps: ArrayLike = 1e-5, *, axis: Axes = 0) -> jax.Array:
    """The forward of `normalize` without the hand VJP: what autodiff differentiates."""
    return _forward(*reduction_and_eps(x, eps, axis))


def normalize_jacobian(x: ArrayLike, eps: ArrayLike = 1e-5, *, axis: Axes = 0) -> jax.Array:
    """∂x̂_j/∂x_i = istd·(δ_ij − 1/n − x̂_j·x̂_i/n), zero between channels; shape x.shape + x.shape."""
    x, eps, axes = reduction_and_eps(x, eps, axis)
    mean, var = batch_statistics(x, axes)
    istd = jax.lax.rsqrt(var + eps)
    x_hat = (x - mean) * istd
    n = math.prod(x.shape[a] for a in axes)
    delta, same_channel = kronecker(x, axes)
    return output_index(istd) * (delta - same_channel / n - output_index(x_hat) * x_hat * same_channel / n)


def _forward(x: jax.Array, eps: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    mean, var = batch_statistics(x, axes)
    return ((x - mean) * jax.lax.rsqrt(var + eps)).astype(x.dtype)


_normalize = jax.custom_vjp(_forward, nondiff_argnums=(2,))


def _normalize_fwd(x, eps, axes):
    mean, var = batch_statistics(x, axes)
    istd = jax.lax.rsqrt(var + eps)
    return ((x - mean) * istd).astype(x.dtype), (x, mean, istd)


def _normalize_bwd(axes, residuals, dy):
    x, mean, istd = residuals
    n = math.prod(x.shape[a] for a in axes)
    dy = dy.astype(statistics_dtype(x))
    x_hat = (x - mean) * istd
    mean_dy = batch_mean(dy, axes)
    mean_dy_x_hat = batch_mean(dy * x_hat, axes)
    dx = istd * (dy - mean_dy - x_hat * mean_dy_x_hat)
    deps = -0.5 * istd**2 * n * mean_dy_x_hat
    return dx.astype(x.dtype), deps


_normalize.defvjp(_normalize_fwd, _normalize_bwd)
