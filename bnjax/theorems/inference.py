r"""Evaluation mode, a different theorem: with fixed statistics the VJP has one term, not three."""

import functools

import jax
from jax.typing import ArrayLike

from bnjax.theorems.arguments import Axes, check_positive, parameter, reduction
from bnjax.theorems.pushforward import recomputed


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

    m and v do not depend on x, so x̂ is affine in it::

        ẏ = γ·istd·ẋ + x̂·(γ̇ − ½·γ·istd²·(v̇ + ε̇)) + β̇ − γ·istd·ṁ

    and the transpose of that, for a cotangent dy, has one term for x where theorem 34 has three::

        dx = γ·istd·dy        dγ = Σ dy·x̂        dβ = Σ dy
        dm = −γ·istd·dβ       dv = dε = −½·istd²·γ·dγ

    Args:
      x: floating array; `axis` are the axes of the batch, the others the channels.
      gamma, beta, mean, var: γ, β, m and v ≥ 0, the shape of x's kept axes.
      eps: ε ≥ 0, a scalar or one value a channel, in units of x²; where v + ε = 0, y is not finite.
      axis: int or tuple of ints; 0 makes the chapter's vector of n, (0, 1, 2) makes NHWC images, and () one
        example, each element its own channel.

    Returns:
      y, with x's shape and dtype; sums as in `batch_norm`.

    Raises:
      TypeError: x or a parameter is not real floating point, or `axis` is not made of ints.
      ValueError: ε < 0, NaN or infinite (when concrete); `axis` out of range or repeated; a parameter of
        another shape.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from bnjax.theorems import batch_norm_inference
      >>> x, m, v = jnp.array([5.0, 1.0]), 1.0, 3.0
      >>> y, vjp = jax.vjp(lambda x: batch_norm_inference(x, 2.0, 0.5, m, v, 1.0), x)
      >>> print(y, *vjp(jnp.array([1.0, 0.0])))  # the second example feels nothing of the first
      [4.5 0.5] [1. 0.]

    Source: Ioffe & Szegedy 2015, algorithm 2.
    """
    check_positive("eps", eps, or_zero=True)
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
    """The forward of `batch_norm_inference` without the hand VJP: what autodiff differentiates.

    Arguments (x, gamma, beta, mean, var, eps, axis), result and errors are those of `batch_norm_inference`.

    Example:
      >>> import jax.numpy as jnp
      >>> from bnjax.theorems import batch_norm_inference_primal
      >>> print(batch_norm_inference_primal(jnp.array([5.0, 1.0]), 2.0, 0.5, 1.0, 3.0, 1.0))
      [4.5 0.5]
    """
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


@functools.partial(jax.custom_jvp, nondiff_argnums=(6,))
def _inference(x, gamma, beta, mean, var, eps, axes):
    return _forward(x, gamma, beta, mean, var, eps, axes)


def _forward(x, gamma, beta, mean, var, eps, axes):
    del axes  # needed by nothing: the statistics are given
    return (gamma * ((x - mean) * jax.lax.rsqrt(var + eps)) + beta).astype(x.dtype)


@_inference.defjvp
def _inference_jvp(axes, primals, tangents):
    return _inference(*primals, axes), recomputed(_pushforward)(primals, tangents)


def _pushforward(primals, tangents):
    """ẏ, grouped as in `bnjax.theorems.pushforward`: two sums in its transpose."""
    x, gamma, _, mean, var, eps = primals
    x_dot, gamma_dot, beta_dot, mean_dot, var_dot, eps_dot = tangents
    istd = jax.lax.rsqrt(var + eps)
    along_x_hat = gamma_dot - 0.5 * gamma * istd**2 * (var_dot + eps_dot)
    along_ones = beta_dot - gamma * istd * mean_dot
    y_dot = gamma * istd * x_dot.astype(istd.dtype) + (x - mean) * (istd * along_x_hat) + along_ones
    return y_dot.astype(x.dtype)
