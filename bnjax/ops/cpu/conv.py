"""The 3×3 convolution by kernels, forward and both gradients."""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from bnjax.ops.conv import WEIGHT_GRADIENTS, WeightGradient, conv_by, conv_primal, conv_rule
from bnjax.ops.cpu.call import Op, call
from bnjax.ops.cpu.trial import available
from bnjax.theorems.arguments import same_varying_axes


def conv(
    x: jax.Array, kernel: jax.Array, *how: Any, weight_gradient: WeightGradient = "products", **others: Any
) -> jax.Array:
    """`bnjax.ops.conv`, by kernels where these apply: its formula, arguments and errors.

    They apply to float32 on a CPU (`bnjax.ops.cpu.available`), images at least 8 pixels wide (4 with AVX2),
    and output channels in multiples of 32 (16); the gradient of images likewise, its channels exchanged.
    Where both sides are even and the channels summed over a multiple of 16 it is Winograd's algorithm
    (`bnjax.ops.cpu.winograd`), else the sums as they stand (`bnjax.ops.cpu.direct`).  What they do not apply
    to, and what `weight_gradient` says, is `bnjax.ops.conv`'s.

    **Pushforward.** The convolution is linear in x and in k, so ẏ = conv(ẋ, k) + conv(x, k̇); its transposes
    are dx and dk of `bnjax.ops.conv`.  Forward and reverse mode both run kernels; `vmap`, derivatives of
    derivatives, and a batch sharded under plain `jit` are XLA's path; inside `shard_map` kernels run.

    **Not finite.** Where a 4×4 patch holds an infinity or a NaN, Winograd makes NaN of all four outputs of
    its 2×2 tile; XLA makes something not finite of those whose window holds it.  None is lost.  Its sums of
    four pixels overflow where these are within a factor of four of float32's largest number.
    """
    return conv_by(functools.partial(_conv, weight_gradient=weight_gradient), x, kernel, *how, **others)


def _conv(x: jax.Array, kernel: jax.Array, weight_gradient: WeightGradient) -> jax.Array:
    if not (available() and _kernels().applies(x, kernel.shape[3])):
        return conv_rule(x, kernel, weight_gradient)
    return _by_kernels(x, kernel, weight_gradient)


def _kernels() -> Any:
    """The module of the kernels, which needs numba."""
    from bnjax.ops.cpu import convolution

    return convolution


class _Ops(NamedTuple):
    """y; its tangents along x and k, linear in their second operand, with dx and dk their transposes."""

    forward: Op
    along_x: Op
    along_kernel: Op


@functools.cache
def _ops(weight_gradient: WeightGradient) -> _Ops:
    def by_x(kernel, x):
        return (conv_primal(x, kernel),)

    def by_kernel(x, kernel):
        return (conv_primal(x, kernel),)

    kernels = _kernels()
    input_gradient = Op(_input_gradient, kernels.input_gradient)
    kernel_gradient = Op(lambda x, dy: (WEIGHT_GRADIENTS[weight_gradient](x, dy),), kernels.weight_gradient)

    def dx(operands, cotangents):
        kernel, (dy,) = operands[0], cotangents
        return (None, *call(input_gradient, kernel, dy)) if kernels.applies(dy, kernel.shape[2]) else None

    def dk(operands, cotangents):
        return None, *call(kernel_gradient, operands[0], cotangents[0])

    return _Ops(
        Op(by_kernel, kernels.forward),
        Op(by_x, lambda kernel, x: kernels.forward(x, kernel), dx),
        Op(by_kernel, kernels.forward, dk),
    )


def _input_gradient(kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    x = same_varying_axes(jnp.zeros((*dy.shape[:3], kernel.shape[2]), dy.dtype), dy)
    return jax.linear_transpose(lambda x: conv_primal(x, kernel), x)(dy)


@functools.partial(jax.custom_jvp, nondiff_argnums=(2,))
def _by_kernels(x, kernel, weight_gradient):
    return call(_ops(weight_gradient).forward, x, kernel)[0]


@functools.partial(_by_kernels.defjvp, symbolic_zeros=True)
def _by_kernels_jvp(weight_gradient, primals, tangents):
    (x, kernel), (x_dot, kernel_dot) = primals, tangents
    ops = _ops(weight_gradient)
    y = _by_kernels(x, kernel, weight_gradient)
    moved = []
    if not isinstance(x_dot, SymbolicZero):
        moved += call(ops.along_x, kernel, x_dot)
    if not isinstance(kernel_dot, SymbolicZero):
        moved += call(ops.along_kernel, x, kernel_dot)
    return y, sum(moved[1:], moved[0]) if moved else jnp.zeros_like(y)
