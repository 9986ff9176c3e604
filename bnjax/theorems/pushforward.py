r"""The pushforward of batch normalization, whose transpose is the three-term VJP of theorem 34."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from bnjax.theorems.arguments import Axes, check_positive, same_varying_axes
from bnjax.theorems.batch_norm import batch_norm_arguments
from bnjax.theorems.statistics import batch_mean, batch_statistics, statistics_dtype


class Pushforward(NamedTuple):
    """The tangents of y and of the statistics that it was made with.

    Attributes:
      y: ẏ, of x's shape and dtype.
      mean, var: μ̇ and (σ²)˙, x's shape with the reduced axes set to 1, float32 (float64 for float64).

    Example:
      >>> import jax.numpy as jnp
      >>> from bnjax.theorems import batch_norm_pushforward
      >>> primals = jnp.array([1.0, -1.0]), 1.0, 0.0, 3.0
      >>> moved = batch_norm_pushforward(primals, (jnp.ones(2), 0.0, 0.0, 0.0))
      >>> print(moved.mean, moved.var)  # an offset moves the mean alone
      [1.] [0.]
    """

    y: jax.Array
    mean: jax.Array
    var: jax.Array


class Kept(NamedTuple):
    """What a derivative of batch norm is taken at: one activation, and three numbers a channel."""

    x: jax.Array
    gamma: jax.Array
    mean: jax.Array
    istd: jax.Array


def batch_norm_pushforward(
    primals: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike],
    tangents: tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike],
    *,
    axis: Axes = 0,
) -> Pushforward:
    r"""The tangents of y, μ and σ² at (x, γ, β, ε) along (ẋ, γ̇, β̇, ε̇): the JVP of batch norm by hand.

    **Theorem (pushforward).** For ε > 0::

        ẏ = γ·istd·(ẋ − mean ẋ − x̂·mean(ẋ·x̂)) + γ̇·x̂ + β̇ − ½·γ·istd²·x̂·ε̇
        μ̇ = mean ẋ        (σ²)˙ = 2·mean(ẋ·(x − μ))

    **Theorem (transpose).** It is the transpose of theorem 34 with cotangents dμ and dσ² of the statistics:
    with dx, dγ, dβ and dε as `bnjax.theorems.batch_norm_with_statistics` states them, for all tangents and
    cotangents::

        ⟨dy, ẏ⟩ + ⟨dμ, μ̇⟩ + ⟨dσ², (σ²)˙⟩ = ⟨dx, ẋ⟩ + ⟨dγ, γ̇⟩ + ⟨dβ, β̇⟩ + ⟨dε, ε̇⟩

    For dy alone: x's part of ẏ, γ·istd·(I − 11ᵀ/n − x̂x̂ᵀ/n), is a symmetric matrix.

    Args:
      primals: x, γ, β, ε as `bnjax.batch_norm` takes them.
      tangents: ẋ, γ̇, β̇, ε̇, of the shapes of the primals.
      axis: as `bnjax.batch_norm`.

    Returns:
      ẏ, with x's shape and dtype; μ̇ and (σ²)˙, as statistics: x's shape with the reduced axes set to 1,
      float32 (float64 for float64).

    Raises:
      TypeError, ValueError: as `bnjax.batch_norm`, for the tangents too.

    Example:
      >>> import jax.numpy as jnp
      >>> from bnjax.theorems import batch_norm_pushforward
      >>> x, x_dot = jnp.array([3.0, -1.0, -1.0, -1.0]), jnp.array([1.0, 0.0, 0.0, 0.0])
      >>> print(batch_norm_pushforward((x, 2.0, 1.0, 1.0), (x_dot, 0.0, 0.0, 0.0)).y)
      [ 0.1875 -0.0625 -0.0625 -0.0625]
    """
    check_positive("eps", primals[3])
    x, gamma, _, eps, axes = batch_norm_arguments(*primals, axis)
    mean, var = batch_statistics(x, axes)
    kept = Kept(x, gamma, mean, jax.lax.rsqrt(var + eps))
    moved = batch_norm_arguments(*tangents, axis)[:4]
    if moved[0].shape != x.shape:
        raise ValueError(f"the tangent of x must have x's shape {x.shape}, got {moved[0].shape}")
    return pushforward(kept, moved, lambda a: batch_mean(a, axes))


def pushforward(
    kept: Kept, tangents: tuple[jax.Array, ...], average: Callable[[jax.Array], jax.Array]
) -> Pushforward:
    """The theorem on the rules' shapes; `average` is the mean over the elements that count, everywhere.

    The terms are grouped so that JAX's transpose of this very program is theorem 34 with its sums taken
    once: ẏ = γ·istd·ẋ + (x − μ)·a + b with a, b one number a channel turns into Σ dy·(x − μ) and Σ dy, and
    all that is left is arithmetic a channel, and dx = γ·istd·dy + (x − μ)·c + d.
    """
    x, gamma, mean, istd = kept
    x_dot, gamma_dot, beta_dot, eps_dot = tangents
    x_dot = x_dot.astype(statistics_dtype(x))
    mean_dot = average(x_dot)
    covariance = average(x_dot * (x - mean))
    along_x_hat = gamma_dot - gamma * istd * (istd * covariance) - 0.5 * gamma * istd**2 * eps_dot
    along_ones = beta_dot - gamma * istd * mean_dot
    # μ − x here, x − μ above: what they share XLA would write to memory first
    y_dot = gamma * istd * x_dot + (mean - x) * (-istd * along_x_hat) + along_ones
    return Pushforward(y_dot.astype(x.dtype), mean_dot, 2 * covariance)


def recomputed(pushforward: Callable[..., Pushforward]) -> Callable[..., Pushforward]:
    """`pushforward`, of whose inside nothing is kept for the transpose: its arguments are, x among them."""
    return jax.checkpoint(pushforward, prevent_cse=False)


def tangent_arrays(
    primals: Sequence[jax.Array], tangents: Sequence[jax.Array | SymbolicZero]
) -> tuple[jax.Array, ...]:
    """The tangents as arrays, where JAX has a symbol for zeros (so that a mask's need not be one)."""
    return tuple(
        same_varying_axes(jnp.zeros_like(x), x) if isinstance(t, SymbolicZero) else t
        for x, t in zip(primals, tangents, strict=True)
    )
