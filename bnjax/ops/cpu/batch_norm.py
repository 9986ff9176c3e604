"""Batch norm by kernels, with and without ReLU, forward and backward."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.interpreters import ad
from jax.typing import ArrayLike

from bnjax.ops.batch_norm_relu import (
    batch_norm_relu_forward,
    batch_norm_relu_pushforward,
    batch_norm_relu_with_statistics,
)
from bnjax.ops.cpu.call import Op, call
from bnjax.ops.cpu.trial import available
from bnjax.theorems.arguments import Axes, reduction
from bnjax.theorems.batch_norm import BatchNormOutput
from bnjax.theorems.pushforward import tangent_arrays
from bnjax.theorems.sync import (
    Batch,
    Groups,
    Over,
    Parameters,
    elements_counted,
    sync_batch_norm,
    sync_batch_norm_by,
    sync_forward,
    sync_pushforward,
)


def batch_norm_with_statistics(
    x: ArrayLike,
    gamma: ArrayLike,
    beta: ArrayLike,
    eps: ArrayLike = 1e-5,
    *,
    relu: bool = False,
    axis: Axes = 0,
    where: ArrayLike | None = None,
    axis_name: str | Sequence[str] | None = None,
    axis_index_groups: Groups | None = None,
) -> BatchNormOutput:
    """`sync_batch_norm`, or with `relu` `bnjax.ops.batch_norm_relu_with_statistics`, by kernels.

    These apply to float32 and bfloat16 on a CPU (`bnjax.ops.cpu.available`), the channels last and a multiple
    of 16, on one device and without a mask.  What they do not apply to is the function's named above: the
    formulas, arguments and errors are its.

    Mean and variance are of one reading of x (`bnjax.ops.cpu.moments`), as exact as two-pass; the way back
    is theorem 34, where nobody asks for derivatives of the statistics.  Forward mode is XLA's path, and so
    are `vmap`, derivatives of derivatives and a batch sharded under plain `jit`; in `shard_map` kernels run.
    """
    x, axes = reduction(x, axis, allow_empty=True)
    rule = batch_norm_relu_with_statistics if relu else sync_batch_norm
    if where is None and axis_name is None and available() and _applies(x, axes):
        by_kernels = functools.partial(_by_kernels, relu)
        return sync_batch_norm_by(by_kernels, Parameters(x, gamma, beta, eps), None, axes, None, None)
    return rule(
        x,
        gamma,
        beta,
        eps,
        axis=axes,
        where=where,
        axis_name=axis_name,
        axis_index_groups=axis_index_groups,
    )


def _applies(x: jax.Array, axes: tuple[int, ...]) -> bool:
    if axes != tuple(range(x.ndim - 1)):
        return False
    return _kernels().applies(math.prod(x.shape[:-1]), x.shape[-1], x.dtype)


def _kernels() -> Any:
    """The module of the kernels, which needs numba."""
    from bnjax.ops.cpu import normalization

    return normalization


def _by_kernels(relu, x, gamma, beta, eps, where, elements, over):
    del where, elements  # nothing is masked
    return _batch_norm(x, gamma, beta, eps, over, relu)


@functools.partial(jax.custom_jvp, nondiff_argnums=(4, 5))
def _batch_norm(x, gamma, beta, eps, over, relu):
    return tuple(call(_forward(over, relu), x, gamma, beta, eps))


@functools.partial(_batch_norm.defjvp, symbolic_zeros=True)
def _batch_norm_jvp(over, relu, primals, tangents):
    y, mean, var = _batch_norm(*primals, over, relu)
    moved = tangent_arrays(primals, tangents)
    return (y, mean, var), tuple(call(_pushforward(over, relu), *primals, mean, var, *moved))


def _batch(x, gamma, beta, eps, over):
    return Batch(x, gamma, beta, eps, None, elements_counted(x, None, over))


def _rows(x, *others):
    """x as (rows, C), and what each channel has one of as (C,)."""
    return x.reshape(-1, x.shape[-1]), *(a.reshape(-1) for a in others)


@functools.cache
def _forward(over: Over, relu: bool) -> Op:
    def program(x, gamma, beta, eps):
        form = batch_norm_relu_forward if relu else sync_forward
        return form(_batch(x, gamma, beta, eps, over), over)

    def kernel(x, gamma, beta, eps):
        rows, *channels = _rows(x, gamma, beta, eps)
        y, mean, var = _kernels().forward(rows, channels, relu=relu)
        return y.reshape(x.shape), mean.reshape(gamma.shape), var.reshape(gamma.shape)

    return Op(program, kernel)


@functools.cache
def _pushforward(over: Over, relu: bool) -> Op:
    """(x, γ, β, ε, μ, σ², ẋ, γ̇, β̇, ε̇) -> ẏ, μ̇, (σ²)˙; its transpose by theorem 34 if dy is all there is."""

    def program(x, gamma, beta, eps, mean, var, *tangents):
        form = batch_norm_relu_pushforward if relu else sync_pushforward
        return tuple(form(_batch(x, gamma, beta, eps, over), mean, var, tangents, over))

    def transpose(operands, cotangents):
        dy, *others = cotangents
        if not all(isinstance(other, ad.Zero) for other in others) or isinstance(dy, ad.Zero):
            return None
        _, gamma, _, eps, _, var = operands[:6]
        dx, dgamma, dbeta = call(_backward(over, relu), *operands[:6], dy)
        deps = -0.5 * gamma * dgamma / (var + eps)
        return *(None,) * 6, dx, dgamma, dbeta, deps

    return Op(program, None, transpose)


@functools.cache
def _backward(over: Over, relu: bool) -> Op:
    """(x, γ, β, ε, μ, σ², dy) -> dx, dγ, dβ."""

    def program(x, gamma, beta, eps, mean, var, dy):
        def moved(x_dot, gamma_dot, beta_dot):
            tangents = x_dot, gamma_dot, beta_dot, jnp.zeros_like(eps)
            return _pushforward(over, relu).program(x, gamma, beta, eps, mean, var, *tangents)[0]

        return jax.linear_transpose(moved, x, gamma, beta)(dy)

    def kernel(x, gamma, beta, eps, mean, var, dy):
        rows, *channels = _rows(x, gamma, beta, eps)
        _, mean, var = _rows(x, mean, var)
        found = _kernels().backward(rows, channels, mean, var, dy.reshape(rows.shape), relu=relu)
        return found[0].reshape(x.shape), *(a.reshape(gamma.shape) for a in found[1:])

    return Op(program, kernel)
