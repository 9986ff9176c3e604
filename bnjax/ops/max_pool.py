r"""The 2×2 max pool, whose backward pass needs one byte an output instead of the input."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax


def max_pool(
    x: jax.Array, window_shape: Sequence[int] = (2, 2), strides: Sequence[int] = (2, 2)
) -> jax.Array:
    r"""The largest of each window: y_nhwc = max_ij x_n,2h+i,2w+j,c over i, j ∈ {0, 1}.

    **VJP.** Where the largest is taken once, y depends on that element alone, and a cotangent dy goes
    to it whole::

        dx_n,2h+i,2w+j,c = dy_nhwc  if (i, j) is where the largest is, else 0

    At a tie the maximum has no derivative; the first of the largest, row by row, then takes all of dy,
    as in XLA and PyTorch.  A window with a NaN gives NaN, and its dy goes to the last of the window.

    The rule is for 2×2 windows with stride 2 over images of even height and width; it keeps which of the
    four was largest, a byte an output.  Other windows are `jax.lax.reduce_window` with JAX's own
    derivative, without padding.

    Args:
      x: floating images (N, H, W, C).
      window_shape, strides: of the window over H and W.

    Returns:
      y (N, H/2, W/2, C), of x's dtype.

    Raises:
      ValueError: x has not four dimensions.

    Example:
      >>> import jax, jax.numpy as jnp, bnjax
      >>> y, vjp = jax.vjp(bnjax.ops.max_pool, jnp.arange(4.0).reshape(1, 2, 2, 1))
      >>> (dx,) = vjp(jnp.full((1, 1, 1, 1), 5.0))
      >>> print(y.ravel(), dx.ravel())
      [3.] [0. 0. 0. 5.]
    """
    if x.ndim != 4:
        raise ValueError(f"x must be images (N, H, W, C), got shape {x.shape}")
    even = x.shape[1] % 2 == 0 and x.shape[2] % 2 == 0
    if even and tuple(window_shape) == (2, 2) and tuple(strides) == (2, 2):
        return _max_pool(x)
    return lax.reduce_window(x, -jnp.inf, lax.max, (1, *window_shape, 1), (1, *strides, 1), "VALID")


def max_pool_primal(x: jax.Array) -> jax.Array:
    """The forward of `max_pool` without the hand VJP: what autodiff differentiates."""
    rows = jnp.maximum(_every_other(x, 0, 1), _every_other(x, 1, 1))
    return jnp.maximum(_every_other(rows, 0, 2), _every_other(rows, 1, 2))


def _every_other(x, start, axis):
    return lax.slice_in_dim(x, start, None, 2, axis)


_max_pool = jax.custom_vjp(max_pool_primal)


def _max_pool_fwd(x):
    y = max_pool_primal(x)
    first, second, third = (
        _every_other(_every_other(x, i, 1), j, 2) == y for i, j in ((0, 0), (0, 1), (1, 0))
    )
    winner = jnp.where(first, 0, jnp.where(second, 1, jnp.where(third, 2, 3)))
    return y, winner.astype(jnp.int8)


def _max_pool_bwd(winner, dy):
    n, h, w, c = dy.shape
    corner = jnp.arange(4, dtype=jnp.int8).reshape(1, 1, 2, 1, 2, 1)
    dx = jnp.where(winner[:, :, None, :, None] == corner, dy[:, :, None, :, None], 0)
    return (dx.reshape(n, 2 * h, 2 * w, c),)


_max_pool.defvjp(_max_pool_fwd, _max_pool_bwd)
