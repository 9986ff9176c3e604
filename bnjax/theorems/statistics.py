"""The batch statistics every theorem but the first is about: μ and σ², taken in one way everywhere."""

import jax
import jax.numpy as jnp


def statistics_dtype(x: jax.Array) -> jnp.dtype:
    """The dtype sums over the batch are taken in: float64 for float64, else float32."""
    return jnp.promote_types(x.dtype, jnp.float32)


def batch_mean(a: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Σ a_i / n over `axes`, in the statistics' dtype; the reduced axes are kept with size 1."""
    return jnp.mean(a.astype(statistics_dtype(a)), axes, keepdims=True)


def batch_statistics(x: jax.Array, axes: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
    """μ and the biased σ² = Σ (x_i − μ)² / n over `axes`, by two passes over x.

    Never E[x²] − E[x]²: in float32 at mean/std = 3000 its gradient is wrong by a factor of 10⁵.
    """
    mean = batch_mean(x, axes)
    # μ − x, not x − μ: that XLA would share with what normalizes, and so write to memory first
    return mean, batch_mean(jnp.square(mean - x), axes)
