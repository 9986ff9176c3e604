r"""Batch normalization and ReLU as one rule, which keeps one activation-sized array instead of two."""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bnjax.theorems.arguments import Axes, check_positive, reduction
from bnjax.theorems.batch_norm import BatchNormOutput, batch_norm_primal
from bnjax.theorems.pushforward import Pushforward, recomputed, tangent_arrays
from bnjax.theorems.sync import (
    Batch,
    Groups,
    Over,
    Parameters,
    sync_batch_norm_by,
    sync_forward,
    sync_pushforward,
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

    **Pushforward.** ẏ = ż·[z > 0], ż as in `bnjax.theorems.pushforward`.

    **VJP**, its transpose.  ReLU passes dy where z > 0 and stops it elsewhere, at z = 0 too (as
    `jax.nn.relu`); then theorem 34::

        dz = dy·[z > 0]
        dx = γ·istd/n · (n·dz − Σ dz − x̂·Σ(dz·x̂))        dγ = Σ dz·x̂        dβ = Σ dz

    The backward pass keeps x and four numbers a channel, and computes z again: neither y nor a mask of it
    is kept.  A NaN comes through, as in `jax.nn.relu`.  Forward and reverse mode both work.

    Arguments (x, gamma, beta, eps, axis), result and errors are those of `bnjax.batch_norm`.

    Example:
      >>> import jax, jax.numpy as jnp, bnjax
      >>> y, vjp = jax.vjp(bnjax.ops.batch_norm_relu, jnp.array([3.0, -1.0, -1.0, -1.0]), 2.0, 0.0, 1.0)
      >>> print(y, vjp(jnp.ones(4))[0])  # what ReLU cuts off gives no cotangent of its own
      [3. 0. 0. 0.] [ 0.1875 -0.0625 -0.0625 -0.0625]

    Source: theorem 34 of *Verified Deep Learning with Lean 4*, chapter 5; the convention at 0 is
    `jax.nn.relu`'s.
    """
    check_positive("eps", eps)
    reduction(x, axis)  # refuses an empty batch
    return batch_norm_relu_with_statistics(x, gamma, beta, eps, axis=axis).y


def batch_norm_relu_primal(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    axis: Axes = 0,
) -> jax.Array:
    """The forward of `batch_norm_relu` without a rule of its own: what autodiff differentiates."""
    return _relu(batch_norm_primal(x, gamma, beta, eps, axis=axis))


def batch_norm_relu_with_statistics(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    axis: Axes = 0,
    where: ArrayLike | None = None,
    axis_name: str | Sequence[str] | None = None,
    axis_index_groups: Groups | None = None,
) -> BatchNormOutput:
    """`batch_norm_relu`, and the statistics it took: `sync_batch_norm` followed by ReLU, as one rule.

    Arguments (x, gamma, beta, eps, axis, where, axis_name, axis_index_groups), result and errors are those of
    `bnjax.theorems.sync_batch_norm`.

    Example:
      >>> import jax.numpy as jnp, bnjax
      >>> x, counts = jnp.array([1.0, -1.0, 99.0]), jnp.array([True, True, False])
      >>> print(*bnjax.ops.batch_norm_relu_with_statistics(x, 1.0, 0.0, 3.0, where=counts))
      [ 0.5  0.  49.5] 0.0 1.0 2.0
    """
    given = Parameters(x, gamma, beta, eps)
    return sync_batch_norm_by(_batch_norm_relu, given, where, axis, axis_name, axis_index_groups)


def _relu(z: jax.Array) -> jax.Array:
    # a selection, not a maximum, which XLA would compute again in each of its consumers; of what is at
    # most 0, not of what is above, so that a NaN stays
    return jnp.where(z <= 0, 0, z)


@functools.partial(jax.custom_jvp, nondiff_argnums=(6,))
def _batch_norm_relu(x, gamma, beta, eps, where, elements, over):
    return batch_norm_relu_forward(Batch(x, gamma, beta, eps, where, elements), over)


@functools.partial(_batch_norm_relu.defjvp, symbolic_zeros=True)
def _batch_norm_relu_jvp(over, primals, tangents):
    y, mean, var = _batch_norm_relu(*primals, over)
    along = functools.partial(batch_norm_relu_pushforward, over=over)
    moved = recomputed(along)(Batch(*primals), mean, var, tangent_arrays(primals[:4], tangents[:4]))
    return (y, mean, var), tuple(moved)


def batch_norm_relu_forward(batch: Batch, over: Over) -> tuple[jax.Array, jax.Array, jax.Array]:
    """y, μ and σ²."""
    z, mean, var = sync_forward(batch, over)
    return _relu(z), mean, var


def batch_norm_relu_pushforward(
    batch: Batch, mean: jax.Array, var: jax.Array, tangents: tuple[jax.Array, ...], over: Over
) -> Pushforward:
    """The tangents of y, μ and σ² along those of x, γ, β and ε."""
    x, gamma, beta, eps, _, _ = batch
    moved = sync_pushforward(batch, mean, var, tangents, over)
    z = (gamma * ((x - mean) * jax.lax.rsqrt(var + eps)) + beta).astype(x.dtype)
    return moved._replace(y=jnp.where(z > 0, moved.y, 0))
