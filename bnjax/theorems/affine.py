r"""Theorems 28 and 33: the affine step y = γ·v + β."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bnjax.theorems.arguments import (
    Axes,
    kronecker,
    output_index,
    parameter,
    reduction,
)
from bnjax.theorems.statistics import statistics_dtype


def affine(
    v: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    axis: Axes = 0,
) -> jax.Array:
    r"""Scale and shift each channel: y = γ·v + β.

    **Theorem 28 (affine Jacobian).** ∂(γ·v_j + β)/∂v_i = γ·δ_ij, always.

    **Theorem 33 (affine VJP).** For a cotangent dy, always::

        dv = γ·dy        dγ = Σ dy·v        dβ = Σ dy

    Args:
      v: floating array; `axis` are the axes of the batch (n elements in all), the others the channels.
      gamma, beta: γ and β, the shape of v's kept axes (a scalar for a vector v).
      axis: int or tuple of ints; 0 makes the chapter's vector of n, (0, 1, 2) makes NHWC images.

    Returns:
      y, with v's shape and dtype.  dγ and dβ are summed in float32 (float64 for float64) and have the
      dtype of γ and β.

    Raises:
      TypeError: v, γ or β is not real floating point, or `axis` is not made of ints.
      ValueError: `axis` out of range, repeated or empty; γ or β of another shape; an empty batch.

    Example:
      >>> import jax, jax.numpy as jnp, bnjax
      >>> y, vjp = jax.vjp(bnjax.affine, jnp.array([1.0, 2.0, 3.0]), 2.0, 0.5)
      >>> dv, dgamma, dbeta = vjp(jnp.array([1.0, 0.0, 1.0]))
      >>> print(y, dv, dgamma, dbeta)
      [2.5 4.5 6.5] [2. 0. 2.] 4.0 2.0

    Source: *Verified Deep Learning with Lean 4*, chapter 5.
    """
    return _affine(*_arguments(v, gamma, beta, axis))


def affine_primal(
    v: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    axis: Axes = 0,
) -> jax.Array:
    """The forward of `affine` without the hand VJP: what autodiff differentiates."""
    return _forward(*_arguments(v, gamma, beta, axis))


def affine_jacobian(
    v: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    *,
    axis: Axes = 0,
) -> jax.Array:
    """∂y_j/∂v_i = γ·δ_ij as a dense array of shape v.shape + v.shape, the output index j first."""
    v, gamma, beta, axes = _arguments(v, gamma, beta, axis)
    delta, _ = kronecker(v, axes)
    return output_index(gamma) * delta


def _arguments(
    v: ArrayLike, gamma: ArrayLike, beta: ArrayLike, axis: Axes
) -> tuple[jax.Array, jax.Array, jax.Array, tuple[int, ...]]:
    v, axes = reduction(v, axis)
    return v, parameter("gamma", gamma, v, axes), parameter("beta", beta, v, axes), axes


def _forward(v: jax.Array, gamma: jax.Array, beta: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    del axes  # the forward needs only broadcasting; the backward sums over them
    return (gamma * v.astype(statistics_dtype(v)) + beta).astype(v.dtype)


_affine = jax.custom_vjp(_forward, nondiff_argnums=(3,))


def _affine_fwd(v, gamma, beta, axes):
    return _forward(v, gamma, beta, axes), (v, gamma)


def _affine_bwd(axes, residuals, dy):
    v, gamma = residuals
    dy = dy.astype(statistics_dtype(v))
    dv = gamma * dy
    dgamma = jnp.sum(dy * v, axes, keepdims=True)
    dbeta = jnp.sum(dy, axes, keepdims=True)
    return dv.astype(v.dtype), dgamma, dbeta


_affine.defvjp(_affine_fwd, _affine_bwd)
