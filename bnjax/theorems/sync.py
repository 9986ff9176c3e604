r"""Batch normalization whose batch is masked, or spread over devices, or both.

Theorem 34 with its sums replaced: n by Σ w, Σ (…) by Σ w·(…), w the mask, and every sum taken over the
devices as well.  Statistics are sums over counts, never means of means, so shards (and masks) may
differ in size from device to device.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from bnjax.theorems.arguments import Axes, check_positive, parameter, reduction, same_varying_axes
from bnjax.theorems.batch_norm import BatchNormOutput
from bnjax.theorems.pushforward import Kept, Pushforward, pushforward, recomputed, tangent_arrays
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

    **Pushforward**, the theorem of `bnjax.theorems.pushforward` with its means taken as μ is::

        ẏ = γ·istd·(ẋ − μ̇ − x̂·psum Σ w·ẋ·x̂ / W) + γ̇·x̂ + β̇ − ½·γ·istd²·x̂·ε̇
        μ̇ = psum Σ w·ẋ / W      (σ²)˙ = 2·psum Σ w·ẋ·(x − μ) / W

    **VJP**, its transpose.  Every element is normalized, the masked ones too (as Flax does), so the sums of
    the cotangent run over all of them, and only the way back through the statistics carries w.  With
    g = γ·istd·dy, and cotangents dμ and dσ² of the statistics::

        dx = g − w/W · psum(Σ g − dμ) − w/W · (x − μ)·psum(istd·Σ g·x̂ − 2·dσ²)
        dγ = Σ dy·x̂        dβ = Σ dy        dε = −½·istd·Σ g·x̂

    A masked element whose dy is 0, as under a masked loss, has dx = 0.  dγ, dβ and dε are this
    device's; who replicates γ sums them, as JAX does.  For the way back x and four numbers a channel are
    kept.  Forward mode, reverse mode and any order of both work.

    Args:
      x, gamma, beta: as `batch_norm`; x is this device's shard.
      eps: as `batch_norm`, or 0; then y and its derivatives are not finite where σ² = 0.
      axis: as `batch_norm`, or (), where the batch runs over the devices alone.
      where: boolean, broadcastable to x's shape: the elements that count.  All of them if None.
      axis_name: the mapped axes (of `vmap`, `shard_map` or `pmap`) that the batch also runs over.
      axis_index_groups: groups of devices that share statistics, as `jax.lax.psum` takes them.

    Returns:
      y, with x's shape and dtype, and μ, σ² and W with the shape of the kept axes.  Where nothing counts
      (W = 0, an empty x too), μ = σ² = 0.

    Raises:
      TypeError: as `batch_norm`; `where` not boolean.
      ValueError: ε < 0, NaN or infinite (when concrete); `axis` out of range or repeated; γ or β of another
        shape; `where` not broadcastable to x.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> from bnjax.theorems import sync_batch_norm
      >>> x, counts = jnp.array([[1.0, -1.0], [1.0, 99.0]]), jnp.array([[True, True], [True, False]])
      >>> def device(x, counts):
      ...     return sync_batch_norm(x, 1.0, 0.0, where=counts, axis_name="devices")
      >>> output = jax.vmap(device, axis_name="devices")(x, counts)
      >>> print([f"{mean:.4f}" for mean in output.mean], output.elements)  # a third, on both devices
      ['0.3333', '0.3333'] [3. 3.]
    """
    given = Parameters(x, gamma, beta, eps)
    return sync_batch_norm_by(_sync, given, where, axis, axis_name, axis_index_groups)


class Parameters(NamedTuple):
    """What batch norm is a function of."""

    x: ArrayLike
    gamma: ArrayLike
    beta: ArrayLike
    eps: ArrayLike


class Over(NamedTuple):
    """What the statistics run over: axes of x, and devices."""

    axes: tuple[int, ...]
    axis_name: str | Sequence[str] | None
    groups: tuple[tuple[int, ...], ...] | None


class Batch(NamedTuple):
    """What a rule takes: parameters in the statistics' shape, the mask, and W, the elements that count."""

    x: jax.Array
    gamma: jax.Array
    beta: jax.Array
    eps: jax.Array
    where: jax.Array | None
    elements: jax.Array


def sync_batch_norm_by(
    rule: Callable[..., tuple[jax.Array, ...]],
    given: Parameters,
    where: ArrayLike | None,
    axis: Axes,
    axis_name: str | Sequence[str] | None,
    axis_index_groups: Groups | None,
) -> BatchNormOutput:
    """What `rule` makes of the arguments as they came, in the caller's shapes."""
    check_positive("eps", given.eps, or_zero=True)
    x, axes = reduction(given.x, axis, allow_empty=True)
    groups = None if axis_index_groups is None else tuple(map(tuple, axis_index_groups))
    over = Over(axes, axis_name, groups)
    mask = None if where is None else _mask(where, x)
    elements = elements_counted(x, mask, over)
    gamma, beta = parameter("gamma", given.gamma, x, axes), parameter("beta", given.beta, x, axes)
    eps = parameter("eps", given.eps, x, axes, scalar=True)
    y, mean, var = rule(*Batch(x, gamma, beta, eps, mask, elements), over)
    return BatchNormOutput(y, *(jnp.squeeze(s, axes) for s in (mean, var, elements)))


def sync_forward(batch: Batch, over: Over) -> tuple[jax.Array, jax.Array, jax.Array]:
    """y, μ and σ²."""
    x, gamma, beta, eps, _, _ = batch
    wide = x.astype(statistics_dtype(x))
    mean = _average(wide, batch, over)
    # μ − x, not x − μ: that XLA would share with what normalizes, and so write to memory first
    var = _average(jnp.square(mean - wide), batch, over)
    y = (gamma * ((wide - mean) * jax.lax.rsqrt(var + eps)) + beta).astype(x.dtype)
    return y, mean, var


def sync_pushforward(
    batch: Batch, mean: jax.Array, var: jax.Array, tangents: tuple[jax.Array, ...], over: Over
) -> Pushforward:
    """The tangents of y, μ and σ² along those of x, γ, β and ε."""
    kept = Kept(batch.x, batch.gamma, mean, jax.lax.rsqrt(var + batch.eps))
    return pushforward(kept, tangents, lambda a: _average(a, batch, over))


@functools.partial(jax.custom_jvp, nondiff_argnums=(6,))
def _sync(x, gamma, beta, eps, where, elements, over):
    return sync_forward(Batch(x, gamma, beta, eps, where, elements), over)


@functools.partial(_sync.defjvp, symbolic_zeros=True)
def _sync_jvp(over, primals, tangents):
    y, mean, var = _sync(*primals, over)
    along = functools.partial(sync_pushforward, over=over)
    moved = recomputed(along)(Batch(*primals), mean, var, tangent_arrays(primals[:4], tangents[:4]))
    return (y, mean, var), tuple(moved)


def _mask(where: ArrayLike, x: jax.Array) -> jax.Array:
    mask = jnp.asarray(where)
    if mask.dtype != jnp.bool_:
        raise TypeError(f"where must be boolean, got dtype {mask.dtype}")
    try:
        return same_varying_axes(jnp.broadcast_to(mask, x.shape), x)
    except ValueError:
        raise ValueError(f"where must be broadcastable to x's shape {x.shape}, got {mask.shape}") from None


def _total(a: jax.Array, over: Over) -> jax.Array:
    """Σ over this device's batch, then over the devices."""
    local = jnp.sum(a, over.axes, keepdims=True)
    if over.axis_name is None:
        return local
    return jax.lax.psum(local, over.axis_name, axis_index_groups=over.groups)


def elements_counted(x: jax.Array, where: jax.Array | None, over: Over) -> jax.Array:
    """W, the elements that count: a sum over a mask; without one a size, known when tracing."""
    if where is not None:
        return _total(where.astype(statistics_dtype(x)), over)
    n = math.prod(x.shape[a] for a in over.axes)
    if over.axis_name is not None:
        n = n * (jax.lax.axis_size(over.axis_name) if over.groups is None else len(over.groups[0]))
    shape = [1 if a in over.axes else size for a, size in enumerate(x.shape)]
    return jnp.full(shape, n, statistics_dtype(x))


def _average(a: jax.Array, batch: Batch, over: Over) -> jax.Array:
    """psum Σ w·a / W; 0 where nothing counts."""
    if batch.where is not None:
        a = jnp.where(batch.where, a, 0)
    elif a.size > 0:
        return _total(a, over) / batch.elements
    return _total(a, over) / jnp.maximum(batch.elements, 1)
