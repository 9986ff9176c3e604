r"""Theorems 30 and 31: the inverse standard deviation istd = (σ² + ε)^(−1/2)."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bnjax.theorems.arguments import (
    Axes,
    check_positive,
    kronecker,
    reduction_and_eps,
)
from bnjax.theorems.statistics import batch_statistics


def inverse_stddev(x: ArrayLike, eps: ArrayLike = 1e-5, *, axis: Axes = 0) -> jax.Array:
    r"""Each channel's inverse standard deviation: istd = (σ² + ε)^(−1/2), σ² = Σ (x_i − μ)² / n.

    **Theorem 30 (inverse-stddev Jacobian).** For ε > 0, ∂istd/∂x_i = −istd³·(x_i − μ)/n, so for a
    cotangent ct (one number a channel)::

        dx = −istd³·(x − μ)/n · ct        dε = −½·istd³·ct

    **Theorem 31 (smoothness).** For ε > 0 istd is differentiable everywhere, a constant channel
    included (istd = 1/√ε, gradient 0), and its gradient is bounded whatever x is: see
    `gradient_norm_bound` and `partial_derivative_bound`.  At ε = 0 it is not: at σ² = 0 it diverges.

    Args:
      x: floating array; `axis` are the axes of the batch (n elements in all), the others the channels.
      eps: ε > 0, a scalar or one value a channel, in units of x².
      axis: int or tuple of ints; 0 makes the chapter's vector of n, (0, 1, 2) makes NHWC images.

    Returns:
      istd, the shape of the kept axes, in units of 1/x.  It is a statistic: float32 for half-precision
      x, else x's dtype.

    Raises:
      TypeError: x or ε is not real floating point, or `axis` is not made of ints.
      ValueError: ε ≤ 0, NaN or infinite (when concrete); `axis` out of range, repeated or empty; an
        empty batch.

    Example:
      >>> import jax, jax.numpy as jnp, bnjax
      >>> istd, gradient = jax.value_and_grad(bnjax.inverse_stddev)(jnp.array([1.0, -1.0]), 3.0)
      >>> print(istd, gradient)  # σ² = 1
      0.5 [-0.0625  0.0625]

    Source: *Verified Deep Learning with Lean 4*, chapter 5.
    """
    check_positive("eps", eps)
    x, eps, axes = reduction_and_eps(x, eps, axis)
    return jnp.squeeze(_inverse_stddev(x, eps, axes), axes)


def inverse_stddev_primal(x: ArrayLike, eps: ArrayLike = 1e-5, *, axis: Axes = 0) -> jax.Array:
    """The forward of `inverse_stddev` without the hand VJP: what autodiff differentiates."""
    x, eps, axes = reduction_and_eps(x, eps, axis)
    return jnp.squeeze(_forward(x, eps, axes), axes)


def inverse_stddev_jacobian(x: ArrayLike, eps: ArrayLike = 1e-5, *, axis: Axes = 0) -> jax.Array:
    """∂istd_c/∂x_i = −istd_c³·(x_i − μ_c)/n, zero for x_i of another channel; shape istd.shape + x.shape."""
    x, eps, axes = reduction_and_eps(x, eps, axis)
    mean, var = batch_statistics(x, axes)
    istd = jax.lax.rsqrt(var + eps)
    n = math.prod(x.shape[a] for a in axes)
    _, same_channel = kronecker(x, axes)
    # where same_channel is not 0, istd_i is istd_c: i may index every factor
    return jnp.squeeze(-(istd**3) * (x - mean) / n * same_channel, axes)


def gradient_norm_bound(n: int, eps: ArrayLike) -> jax.Array:
    r"""The least B with ‖∇istd‖₂ ≤ B for every batch of n: B = 2/(3√3·ε·√n).

    Attained, for n ≥ 2, exactly where σ² = ε/2.  It follows from ‖∇istd‖² = istd⁶·σ²/n and
    4(σ²+ε)³ − 27ε²σ² = (2σ²−ε)²(σ²+4ε) ≥ 0.  As ε → 0 it diverges like 1/ε.

    Args:
      n: the size of the batch, at least 1.
      eps: ε > 0, an array of any shape, in units of x².

    Returns:
      B, of the shape and dtype of ε, in units of 1/x².

    Raises:
      TypeError: ε is not a real number.
      ValueError: n < 1; ε ≤ 0, NaN or infinite (when concrete).

    Example:
      >>> from bnjax.theorems import gradient_norm_bound
      >>> print(f"{gradient_norm_bound(4, 1.0):.4f}")
      0.1925

    Source: theorem 31 of *Verified Deep Learning with Lean 4*, chapter 5.
    """
    _check_batch_size(n)
    check_positive("eps", eps)
    return 2 / (3 * math.sqrt(3) * math.sqrt(n) * jnp.asarray(eps))


def partial_derivative_bound(n: int, eps: ArrayLike) -> jax.Array:
    r"""The least B with |∂istd/∂x_i| ≤ B for every batch of n: B = √(n−1)/n · 2/(3√3·ε).

    Attained where σ² = ε/2 and x_i is the only outlier, by Samuelson's inequality
    (x_i − μ)² ≤ (n−1)·σ².  For n = 1 it is 0: istd is constant.

    Arguments, result and errors are those of `gradient_norm_bound`, which takes n and eps.

    Example:
      >>> from bnjax.theorems import partial_derivative_bound
      >>> print(f"{partial_derivative_bound(4, 1.0):.4f}")
      0.1667
    """
    _check_batch_size(n)
    check_positive("eps", eps)
    return math.sqrt(n - 1) / n * 2 / (3 * math.sqrt(3) * jnp.asarray(eps))


def _check_batch_size(n: int) -> None:
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")


def _forward(x: jax.Array, eps: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    _, var = batch_statistics(x, axes)
    return jax.lax.rsqrt(var + eps)


_inverse_stddev = jax.custom_vjp(_forward, nondiff_argnums=(2,))


def _inverse_stddev_fwd(x, eps, axes):
    mean, var = batch_statistics(x, axes)
    istd = jax.lax.rsqrt(var + eps)
    return istd, (x, mean, istd)


def _inverse_stddev_bwd(axes, residuals, cotangent):
    x, mean, istd = residuals
    n = math.prod(x.shape[a] for a in axes)
    deps = -0.5 * istd**3 * cotangent
    dx = 2 * deps * (x - mean) / n  # −istd³·(x − μ)/n · ct
    return dx.astype(x.dtype), deps


_inverse_stddev.defvjp(_inverse_stddev_fwd, _inverse_stddev_bwd)
