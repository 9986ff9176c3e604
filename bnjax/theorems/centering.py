r"""Theorem 29: the centering step y = x − μ."""

import math

import jax
from jax.typing import ArrayLike

from bnjax.theorems.arguments import Axes, kronecker, reduction
from bnjax.theorems.statistics import batch_mean


def center(x: ArrayLike, *, axis: Axes = 0) -> jax.Array:
    r"""Subtract each channel's batch mean: y = x − μ, μ = Σ x_i / n.

    **Theorem 29 (centering Jacobian).** ∂(x_j − μ)/∂x_i = δ_ij − 1/n, for n ≥ 1.  The matrix is
    symmetric, so its VJP is centering itself::

        dx = dy − Σ dy / n

    Forgetting the −1/n is the classic wrong rule: the mean depends on every x_i.

    Args:
      x: floating array; `axis` are the axes of the batch (n elements in all), the others the channels.
      axis: int or tuple of ints; 0 makes the chapter's vector of n, (0, 1, 2) makes NHWC images.

    Returns:
      y, with x's shape and dtype; the mean is taken in float32 (float64 for float64).

    Raises:
      TypeError: x is not real floating point, or `axis` is not made of ints.
      ValueError: `axis` out of range, repeated or empty; an empty batch.

    Example:
      >>> import jax, jax.numpy as jnp, bnjax
      >>> y, vjp = jax.vjp(bnjax.center, jnp.array([4.0, 1.0, 1.0]))
      >>> (dx,) = vjp(jnp.array([3.0, 0.0, 0.0]))
      >>> print(y, dx)
      [ 2. -1. -1.] [ 2. -1. -1.]

    Source: *Verified Deep Learning with Lean 4*, chapter 5.
    """
    return _center(*reduction(x, axis))


def center_primal(x: ArrayLike, *, axis: Axes = 0) -> jax.Array:
    """The forward of `center` without the hand VJP: what autodiff differentiates."""
    return _forward(*reduction(x, axis))


def center_jacobian(x: ArrayLike, *, axis: Axes = 0) -> jax.Array:
    """∂y_j/∂x_i = δ_ij − 1/n as a dense array of shape x.shape + x.shape, zero between channels."""
    x, axes = reduction(x, axis)
    delta, same_channel = kronecker(x, axes)
    return delta - same_channel / math.prod(x.shape[a] for a in axes)


def _forward(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    return (x - batch_mean(x, axes)).astype(x.dtype)


_center = jax.custom_vjp(_forward, nondiff_argnums=(1,))


def _center_fwd(x, axes):
    return _forward(x, axes), None


def _center_bwd(axes, _, dy):
    dx = dy - batch_mean(dy, axes)
    return (dx.astype(dy.dtype),)


_center.defvjp(_center_fwd, _center_bwd)
