r"""Theorem 34: batch normalization, affine ∘ normalize, as one fused rule."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bnjax.theorems.arguments import (
    Axes,
    check_positive,
    output_index,
    parameter,
    reduction,
)
from bnjax.theorems.normalize import normalize_jacobian
from bnjax.theorems.statistics import batch_statistics, statistics_dtype


def batch_norm(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    axis: Axes = 0,
) -> jax.Array:
    r"""Batch normalization: y = γ·x̂ + β, x̂ = (x − μ)·istd, istd = (σ² + ε)^(−1/2).

    **Theorem 34 (full batch norm VJP).** For ε > 0, bn = affine ∘ normalize, and for a cotangent dy::

        dx = γ·istd/n · (n·dy − Σ dy − x̂·Σ(dy·x̂))
        dγ = Σ dy·x̂        dβ = Σ dy        dε = −½·istd²·γ·dγ

    The backward pass keeps x and three numbers a channel; x̂ is computed again.

    Args:
      x: floating array; `axis` are the axes of the batch (n elements in all), the others the channels.
      gamma, beta: γ and β, the shape of x's kept axes (a scalar for a vector x).
      eps: ε > 0, a scalar or one value a channel, in units of x².
      axis: int or tuple of ints; 0 makes the chapter's vector of n, (0, 1, 2) makes NHWC images.

    Returns:
      y, with x's shape and dtype.  The statistics, dγ and dβ are summed in float32 (float64 for
      float64); dγ and dβ then have the dtype of γ and β.  For n = 1, y = β.

    Raises:
      TypeError: x, γ, β or ε is not real floating point, or `axis` is not made of ints.
      ValueError: ε ≤ 0, NaN or infinite (when concrete); `axis` out of range, repeated or empty; γ or β
        of another shape; an empty batch.

    Example:
      >>> import jax, jax.numpy as jnp, bnjax
      >>> y, vjp = jax.vjp(bnjax.batch_norm, jnp.array([3.0, -1.0, -1.0, -1.0]), 2.0, 1.0, 1.0)
      >>> dx, dgamma, dbeta, deps = vjp(jnp.array([1.0, 0.0, 0.0, 0.0]))
      >>> print(y, dx, dgamma, dbeta, deps)  # μ = 0, σ² = 3
      [4. 0. 0. 0.] [ 0.1875 -0.0625 -0.0625 -0.0625] 1.5 1.0 -0.375

    Source: *Verified Deep Learning with Lean 4*, chapter 5, after Ioffe & Szegedy 2015.
    """
    check_positive("eps", eps)
    return _batch_norm(*batch_norm_arguments(x, gamma, beta, eps, axis))[0]


def batch_norm_primal(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    axis: Axes = 0,
) -> jax.Array:
    """The forward of `batch_norm` without the hand VJP: what autodiff differentiates."""
    return _forward(*batch_norm_arguments(x, gamma, beta, eps, axis))[0]


def batch_norm_jacobian(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    axis: Axes = 0,
) -> jax.Array:
    """∂y_j/∂x_i = γ·istd·(δ_ij − 1/n − x̂_j·x̂_i/n), zero between channels; shape x.shape + x.shape."""
    _, scale, _, _, _ = batch_norm_arguments(x, gamma, beta, eps, axis)
    return output_index(scale) * normalize_jacobian(x, eps, axis=axis)


class BatchNormOutput(NamedTuple):
    """y, the statistics it was made with, and how many elements a channel they were taken over.

    Attributes:
      y: the normalized array, of x's shape and dtype.
      mean, var: μ, in units of x, and the biased σ², in units of x²; the shape of x's kept axes, float32
        (float64 for float64).
      elements: n; or, where there may be a mask, an array of the shape of μ.

    Example:
      >>> import jax.numpy as jnp
      >>> from bnjax.theorems import batch_norm_with_statistics
      >>> y, mean, var, n = batch_norm_with_statistics(jnp.array([1.0, 3.0, 5.0, 7.0]), 1.0, 0.0)
      >>> print(mean, var, n)
      4.0 5.0 4
    """

    y: jax.Array
    mean: jax.Array
    var: jax.Array
    elements: jax.Array | int


def batch_norm_with_statistics(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    axis: Axes = 0,
) -> BatchNormOutput:
    """`batch_norm`, and the μ and biased σ² it took, for a layer's running statistics.

    Arguments (x, gamma, beta, eps, axis) and errors are those of `batch_norm`.  μ and σ² have the shape of
    the kept axes; they are constants to the derivative, as under `jax.lax.stop_gradient`.

    Example:
      >>> import jax.numpy as jnp
      >>> from bnjax.theorems import batch_norm_with_statistics
      >>> output = batch_norm_with_statistics(jnp.array([[1.0, 0.0], [3.0, 8.0]]), jnp.ones(2), jnp.zeros(2))
      >>> print(output.mean, output.var, output.elements)  # of each column
      [2. 4.] [ 1. 16.] 2
    """
    return batch_norm_by(_batch_norm, x, gamma, beta, eps, axis)


def batch_norm_by(rule, x, gamma, beta, eps, axis) -> BatchNormOutput:
    """What `rule` makes of the arguments as they came, in the caller's shapes."""
    check_positive("eps", eps)
    arguments = batch_norm_arguments(x, gamma, beta, eps, axis)
    y, mean, var = rule(*arguments)
    axes = arguments[-1]
    n = math.prod(y.shape[a] for a in axes)
    return BatchNormOutput(y, jnp.squeeze(mean, axes), jnp.squeeze(var, axes), n)


def batch_norm_arguments(x, gamma, beta, eps, axis):
    """What the rules take, from what came: checked, in the shapes of `bnjax.theorems.arguments`."""
    x, axes = reduction(x, axis)
    return (
        x,
        parameter("gamma", gamma, x, axes),
        parameter("beta", beta, x, axes),
        parameter("eps", eps, x, axes, scalar=True),
        axes,
    )


def _forward(x, gamma, beta, eps, axes):
    (y, mean, var), _ = batch_norm_fwd(x, gamma, beta, eps, axes)
    return y, jax.lax.stop_gradient(mean), jax.lax.stop_gradient(var)


_batch_norm = jax.custom_vjp(_forward, nondiff_argnums=(4,))


def batch_norm_fwd(x, gamma, beta, eps, axes):
    """(y, μ, σ²), and what the backward pass keeps."""
    mean, var = batch_statistics(x, axes)
    istd = jax.lax.rsqrt(var + eps)
    y = (gamma * ((x - mean) * istd) + beta).astype(x.dtype)
    return (y, mean, var), (x, gamma, mean, istd)


def batch_norm_bwd(axes, residuals, cotangents):
    """The cotangents of x, γ, β and ε by theorem 34; those of μ and σ² are not looked at."""
    x, gamma, mean, istd = residuals
    dy = cotangents[0].astype(statistics_dtype(x))
    n = math.prod(x.shape[a] for a in axes)
    x_hat = (x - mean) * istd
    # Σ dy·x̂ by μ − x: XLA would share x − μ with dx, and so write it to memory first
    dgamma = -istd * jnp.sum(dy * (mean - x), axes, keepdims=True)
    dbeta = jnp.sum(dy, axes, keepdims=True)
    dx = gamma * istd * (dy - dbeta / n - x_hat * (dgamma / n))
    deps = -0.5 * istd**2 * gamma * dgamma
    return dx.astype(x.dtype), dgamma, dbeta, deps


_batch_norm.defvjp(batch_norm_fwd, batch_norm_bwd)
