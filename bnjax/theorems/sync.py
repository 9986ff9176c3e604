r"""Batch normalization whose batch is masked, or spread over devices, or both.

Theorem 34 with its sums replaced: n by Σ w, Σ (…) by Σ w·(…), w the mask, and every sum taken over the
devices as well.  Statistics are sums over counts, never means of means, so shards (and masks) may
differ in size from device to device.
"""

import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bnjax.theorems.arguments import Axes, check_positive, parameter, reduction, same_varying_axes
from bnjax.theorems.batch_norm import BatchNormOutput
from bnjax.theorems.statistics import statistics_dtype

Groups = Sequence[Sequence[int]]


def sync_batch_norm(
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
    r"""`batch_norm` with statistics over the elements that `where` keeps, on every device of `axis_name`.

    With w = 1 where an element counts and W = psum Σ w::

        μ = psum Σ w·x / W      σ² = psum Σ w·(x − μ)² / W      y = γ·(x − μ)·istd + β

    Every element is normalized, the masked ones too (as Flax does), so the sums of the cotangent run
    over all of them, and only the way back through the statistics carries w.  With g = γ·dy::

        dx = istd·(g − w/W · psum Σ g − w·x̂/W · psum Σ g·x̂)
        dγ = Σ dy·x̂        dβ = Σ dy        dε = −½·istd²·Σ g·x̂

    A masked element whose dy is 0, as under a masked loss, has dx = 0.  dγ, dβ and dε are this
    device's; who replicates γ sums them, as JAX does.

    Args:
      x, gamma, beta, eps, axis: as `batch_norm`; x is this device's shard.
      where: boolean, broadcastable to x's shape: the elements that count.  All of them if None.
      axis_name: the mapped axes (of `vmap`, `shard_map` or `pmap`) that the batch also runs over.
      axis_index_groups: groups of devices that share statistics, as `jax.lax.psum` takes them.

    Returns:
      y, with x's shape and dtype, and μ, σ² and W with the shape of the kept axes, constants to the
      derivative.  Where nothing counts (W = 0), μ = σ² = 0.

    Raises:
      TypeError, ValueError: as `batch_norm`; `where` not boolean, or not broadcastable to x.
    """
    check_positive("eps", eps)
    x, axes = reduction(x, axis)
    y, *statistics = _sync(
        x,
        parameter("gamma", gamma, x, axes),
        parameter("beta", beta, x, axes),
        parameter("eps", eps, x, axes, scalar=True),
        None if where is None else _mask(where, x),
        axes,
        axis_name,
        None if axis_index_groups is None else tuple(map(tuple, axis_index_groups)),
    )
    return BatchNormOutput(y, *(jnp.squeeze(s, axes) for s in statistics))


def _mask(where: ArrayLike, x: jax.Array) -> jax.Array:
    mask = jnp.asarray(where)
    if mask.dtype != jnp.bool_:
        raise TypeError(f"where must be boolean, got dtype {mask.dtype}")
    try:
        return same_varying_axes(jnp.broadcast_to(mask, x.shape), x)
    except ValueError:
        raise ValueError(f"where must be broadcastable to x's shape {x.shape}, got {mask.shape}") from None


def _total(a, axes, axis_name, groups):
    """Σ over this device's batch, then over the devices."""
    local = jnp.sum(a, axes, keepdims=True)
    return local if axis_name is None else jax.lax.psum(local, axis_name, axis_index_groups=groups)


def _count(x, where, axes, axis_name, groups):
    """W, the elements that count: a sum over a mask; without one a size, known when tracing."""
    if where is not None:
        return _total(where.astype(statistics_dtype(x)), axes, axis_name, groups)
    n = math.prod(x.shape[a] for a in axes)
    if axis_name is not None:
        n = n * (jax.lax.axis_size(axis_name) if groups is None else len(groups[0]))
    shape = [1 if a in axes else size for a, size in enumerate(x.shape)]
    return jnp.full(shape, n, statistics_dtype(x))


def _kept(a, where):
    return a if where is None else jnp.where(where, a, 0)


def _forward(x, gamma, beta, eps, where, *over):
    (y, *statistics), _ = _sync_fwd(x, gamma, beta, eps, where, *over)
    return y, *jax.lax.stop_gradient(statistics)


_sync = jax.custom_vjp(_forward, nondiff_argnums=(5, 6, 7))


def _sync_fwd(x, gamma, beta, eps, where, *over):
    wide = x.astype(statistics_dtype(x))
    count = _count(x, where, *over)
    # W = 0: every sum is 0, and so are μ and σ²
    n = count if where is None else jnp.maximum(count, 1)
    mean = _total(_kept(wide, where), *over) / n
    var = _total(_kept(jnp.square(wide - mean), where), *over) / n
    istd = jax.lax.rsqrt(var + eps)
    y = (gamma * ((wide - mean) * istd) + beta).astype(x.dtype)
    return (y, mean, var, count), (x, gamma, where, n, mean, istd)


def _sync_bwd(axes, axis_name, groups, residuals, cotangents):
    x, gamma, where, n, mean, istd = residuals
    dy = cotangents[0].astype(statistics_dtype(x))
    x_hat = (x - mean) * istd
    dgamma = jnp.sum(dy * x_hat, axes, keepdims=True)
    dbeta = jnp.sum(dy, axes, keepdims=True)
    # γ may differ from device to device, so it goes inside the psum
    mean_g = _total(gamma * dy, axes, axis_name, groups) / n
    mean_g_x_hat = _total(gamma * dy * x_hat, axes, axis_name, groups) / n
    dx = istd * (gamma * dy - _kept(mean_g + x_hat * mean_g_x_hat, where))
    deps = -0.5 * istd**2 * gamma * dgamma
    return dx.astype(x.dtype), dgamma, dbeta, deps, None


_sync.defvjp(_sync_fwd, _sync_bwd)
