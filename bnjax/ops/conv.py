r"""The 3×3 convolution, with two ways to its weight gradient: as products, and as XLA's convolution."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import lax

from bnjax.theorems.arguments import same_varying_axes

WeightGradient = Literal["products", "convolution"]
NHWC = ("NHWC", "HWIO", "NHWC")
_BLOCK_ROWS = 4096  # pixels a product runs over: what it copies stays in a core's cache


def conv(
    x: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int] = (1, 1),
    padding: str | Sequence[tuple[int, int]] = "SAME",
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: lax.ConvDimensionNumbers | tuple[str, str, str] | None = NHWC,
    *,
    weight_gradient: WeightGradient = "products",
    **others: Any,
) -> jax.Array:
    r"""Convolve images with a kernel: y_nhwo = Σ_ijc x_n,h+i−1,w+j−1,c · k_ijco, zeros beyond the edges.

    **VJP.** For a cotangent dy, with zeros beyond the edges of dy too::

        dx_nhwc = Σ_ijo dy_n,h+1−i,w+1−j,o · k_ijco
        dk_ijco = Σ_nhw x_n,h+i−1,w+j−1,c · dy_nhwo = Σ_nhw x_n,h+i−1,w,c · dy_n,h,w+1−j,o

    "products" takes the last form, which moves x by rows and dy by columns, so three copies of each make
    all nine (i, j) by one matrix product, (3C × NHW) · (NHW × 3O), where the nine shifts of x would be nine
    copies.  It runs over a block of images at a time, and is two to four times as fast as XLA's
    convolution by YNNPACK, the default on CPU.  "convolution" takes the first form, XLA's convolution of x
    by dy, and sees to it that what it transposes for that is in memory, not computed again on the way: the
    faster one under `bnjax.train.step.compiler_options` (see `bnjax bench`).

    The rule is for 3×3 kernels with stride 1, "SAME" padding and NHWC images, on CPU.  Whatever else is
    asked is `jax.lax.conv_general_dilated` with JAX's own derivative, so that this function can take its
    place, in `flax.nnx.Conv(..., conv_general_dilated=bnjax.ops.conv)`.

    Args:
      x: images (N, H, W, C).
      kernel: (3, 3, C, O), of x's dtype.
      window_strides, padding, lhs_dilation, rhs_dilation, dimension_numbers, others: as
        `jax.lax.conv_general_dilated` takes them, but for the defaults.
      weight_gradient: how dk is computed where the rule applies.

    Returns:
      y (N, H, W, O), of x's dtype.

    Raises:
      TypeError, ValueError: as `jax.lax.conv_general_dilated`; another `weight_gradient`.

    Example:
      >>> import jax.numpy as jnp, bnjax
      >>> print(bnjax.ops.conv(jnp.ones((1, 3, 3, 1)), jnp.ones((3, 3, 1, 1)))[0, :, :, 0])
      [[4. 6. 4.]
       [6. 9. 6.]
       [4. 6. 4.]]

    Source: `jax.lax.conv_general_dilated`, whose values these are.
    """
    if weight_gradient not in WEIGHT_GRADIENTS:
        raise ValueError(f"weight_gradient must be one of {tuple(WEIGHT_GRADIENTS)}, got {weight_gradient!r}")
    return conv_by(
        functools.partial(conv_rule, weight_gradient=weight_gradient),
        x,
        kernel,
        window_strides,
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers,
        **others,
    )


def conv_by(
    rule: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    kernel: jax.Array,
    window_strides: Sequence[int] = (1, 1),
    padding: str | Sequence[tuple[int, int]] = "SAME",
    lhs_dilation: Sequence[int] | None = None,
    rhs_dilation: Sequence[int] | None = None,
    dimension_numbers: lax.ConvDimensionNumbers | tuple[str, str, str] | None = NHWC,
    **others: Any,
) -> jax.Array:
    """`rule(x, kernel)` where that is all that is asked; else XLA's convolution.  Arguments as `conv`."""
    dilation = (*(lhs_dilation or ()), *(rhs_dilation or ()))
    numbers, nhwc = (lax.conv_dimension_numbers(x.shape, kernel.shape, n) for n in (dimension_numbers, NHWC))
    plain = tuple(window_strides) == (1, 1) and padding == "SAME" and all(d == 1 for d in dilation)
    grouped = others.get("feature_group_count", 1) != 1
    nothing_else = all(value is None for name, value in others.items() if name != "feature_group_count")
    if plain and numbers == nhwc and not grouped and nothing_else and _three_by_three(x, kernel):
        return rule(x, kernel)
    return lax.conv_general_dilated(
        x,
        kernel,
        tuple(window_strides),
        padding,
        lhs_dilation,
        rhs_dilation,
        dimension_numbers=dimension_numbers,
        **others,
    )


def conv_rule(x: jax.Array, kernel: jax.Array, weight_gradient: WeightGradient) -> jax.Array:
    """`conv` where its rule applies."""
    return _conv(x, kernel, weight_gradient)


def conv_primal(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The forward of `conv` without the hand VJP: what autodiff differentiates."""
    return lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=NHWC)


def _three_by_three(x: jax.Array, kernel: jax.Array) -> bool:
    """Whether these are the arrays that the rule was written for, on the machine that it is fast on."""
    return (
        x.ndim == 4
        and x.size > 0
        and kernel.shape[:3] == (3, 3, x.shape[3])
        and x.dtype == kernel.dtype
        and x.dtype in (jnp.float32, jnp.float64)
        and jax.default_backend() == "cpu"
    )


def _conv(x, kernel, weight_gradient):
    del weight_gradient
    return conv_primal(x, kernel)


def _fwd(x, kernel, weight_gradient):
    del weight_gradient
    x = _in_memory(x)
    return conv_primal(x, kernel), (x, kernel)


def _bwd(weight_gradient, residuals, dy):
    x, kernel = residuals
    dy = _in_memory(dy)
    (dx,) = jax.linear_transpose(lambda x: conv_primal(x, kernel), x)(dy)
    return dx, WEIGHT_GRADIENTS[weight_gradient](x, dy)


_conv = jax.custom_vjp(_conv, nondiff_argnums=(2,))
_conv.defvjp(_fwd, _bwd)


def _in_memory(a: jax.Array) -> jax.Array:
    """`a`, in a form that XLA does not compute again in each consumer: a transposition that computes is slow.

    A barrier would say so, but XLA drops barriers on CPU.
    """
    return jnp.where(a == a, a, jnp.nan)


def _by_convolution(x: jax.Array, dy: jax.Array) -> jax.Array:
    """dk as XLA has it: x convolved with dy, the batch as their channels."""
    kernel = same_varying_axes(jnp.zeros((3, 3, x.shape[-1], dy.shape[-1]), x.dtype), x)
    return jax.linear_transpose(lambda kernel: conv_primal(x, kernel), kernel)(dy)[0]


def _by_products(x: jax.Array, dy: jax.Array) -> jax.Array:
    """dk, a sum over blocks of images, as many in a block as two divides their number.

    Nothing else is asked of that number, so that it can be a symbol: a proof takes its cases one by one.
    """
    n, h, w, _ = x.shape
    images = 1
    while 2 * images * h * w <= _BLOCK_ROWS and n % (2 * images) == 0:
        images *= 2
    blocks = [a.reshape(-1, images, *a.shape[1:]) for a in (x, dy)]
    zero = jnp.zeros((3, 3, x.shape[-1], dy.shape[-1]), x.dtype)
    for block in blocks:
        zero = same_varying_axes(zero, block)
    return lax.scan(lambda total, block: (total + _block_gradient(*block), None), zero, blocks)[0]


def _block_gradient(x: jax.Array, dy: jax.Array) -> jax.Array:
    """dk of these images: x moved by rows, its pixels last; dy moved by columns."""
    _, h, w, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0))).transpose(3, 0, 1, 2)
    dy = jnp.pad(dy, ((0, 0), (0, 0), (1, 1), (0, 0)))
    rows = jnp.concatenate([lax.slice_in_dim(x, i, i + h, axis=2)[None] for i in range(3)])
    moved = [lax.slice_in_dim(dy, 2 - j, 2 - j + w, axis=2) for j in range(3)]
    columns = jnp.concatenate([jnp.expand_dims(a, 3) for a in moved], 3)
    return jnp.tensordot(rows, columns, 3).transpose(0, 2, 1, 3)


# (x, dy) -> dk
WEIGHT_GRADIENTS: dict[WeightGradient, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "products": _by_products,
    "convolution": _by_convolution,
}
