r"""The handlers of batch norm over the rows of (rows, C), with and without ReLU, forward and backward.

Forward, x is read twice and y written: `bnjax.ops.cpu.moments`, then z = γ·(x − μ)·istd + β.  Backward x and
dy are read twice and dx written: with S = Σ dz and T = Σ dz·(x − μ), theorem 34 is::

    dx = γ·istd·((dz − S/n) − (x − μ)·istd²·T/n)        dγ = istd·T        dβ = S

in this order, so that a constant dz cancels before anything is rounded: dx is 0 for n = 1.

Eight passes, the fewest there are.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numba
import numpy as np

from bnjax.ops.cpu.frame import attribute, is_question, jit, operand, operand_size, result, result_size
from bnjax.ops.cpu.moments import PARTS, STEP, block_rows, cotangent_sums, moments, united
from bnjax.ops.cpu.pool import CHUNKS, FIRST, bounds, give_up, new_job, next_job, parallel
from bnjax.ops.cpu.vectors import (
    LANES,
    Words,
    add,
    float32,
    int64,
    inverse_root,
    load,
    move,
    multiply,
    multiply_add,
    rectified,
    spread,
    store,
    subtract,
    where_positive,
)

TARGET = "bnjax_batch_norm"
_FORWARD, _FORWARD_RELU, _BACKWARD, _BACKWARD_RELU = range(4)
_MOST_CHUNKS = 16
# a job's words: addresses (DY of y in the forward pass), sizes
X, DY, DX, PARTS_AT, TABLE, R, C = range(FIRST, FIRST + 7)
# rows of the table, C floats each
_MEAN, _ISTD, _GAMMA, _BETA, _SCALE, _ALONG_ONES, _ALONG_X = range(7)
_TABLE_ROWS = 7


@jit
def _moments_chunk(job, chunk):
    first, last = bounds(job[R], chunk, job[CHUNKS])
    row = 4 * job[C]
    moments(job[X] + first * row, last - first, job[C], job[PARTS_AT] + chunk * PARTS * row)


def _apply_chunk(relu: bool) -> Any:
    @jit
    def apply(job, chunk):
        first, last = bounds(job[R], chunk, job[CHUNKS])
        row, block, table, to = 4 * job[C], block_rows(job[C]), job[TABLE], job[DY] - job[X]
        for r in range(first, last, block):
            stop = min(r + block, last)
            for k in range(0, row, STEP):
                mean, istd = load(table + k), load(table + _ISTD * row + k)
                gamma, beta = load(table + _GAMMA * row + k), load(table + _BETA * row + k)
                for at in range(job[X] + r * row + k, job[X] + stop * row + k, row):
                    z = multiply_add(gamma, multiply(subtract(load(at), mean), istd), beta)
                    if relu:
                        z = rectified(z)
                    store(at + to, z)

    return apply


def _sums_chunk(relu: bool) -> Any:
    sums = cotangent_sums(relu)

    @jit
    def run(job, chunk):
        first, last = bounds(job[R], chunk, job[CHUNKS])
        row, shape = 4 * job[C], (job[C], job[TABLE])
        x, dy, part = job[X] + first * row, job[DY] + first * row, job[PARTS_AT] + chunk * PARTS * row
        sums(x, dy, last - first, shape, part)

    return run


def _dx_chunk(relu: bool) -> Any:
    @jit
    def run(job, chunk):
        first, last = bounds(job[R], chunk, job[CHUNKS])
        row, block, table = 4 * job[C], block_rows(job[C]), job[TABLE]
        dy, dx = job[DY] - job[X], job[DX] - job[X]
        for r in range(first, last, block):
            stop = min(r + block, last)
            for k in range(0, row, STEP):
                mean, istd = load(table + k), load(table + _ISTD * row + k)
                gamma, beta = load(table + _GAMMA * row + k), load(table + _BETA * row + k)
                scale, along_x = load(table + _SCALE * row + k), load(table + _ALONG_X * row + k)
                along_ones = load(table + _ALONG_ONES * row + k)
                for at in range(job[X] + r * row + k, job[X] + stop * row + k, row):
                    centred, dz = subtract(load(at), mean), load(at + dy)
                    if relu:
                        dz = where_positive(multiply_add(gamma, multiply(centred, istd), beta), dz)
                    left = subtract(subtract(dz, along_ones), multiply(centred, along_x))
                    store(at + dx, multiply(scale, left))

    return run


@jit
def _job(frame):
    """The words of both passes: their operands begin with x, γ, β, ε, their results end with scratch."""
    job = new_job(result_size(frame, 3, 0))
    job[X], job[R], job[C] = operand(frame, 0), operand_size(frame, 0, 0), operand_size(frame, 0, 1)
    job[PARTS_AT], job[TABLE] = result(frame, 3), result(frame, 4)
    row = 4 * job[C]
    move(job[TABLE] + _GAMMA * row, operand(frame, 1), row)
    move(job[TABLE] + _BETA * row, operand(frame, 2), row)
    return job


@jit
def _fill_statistics(job, mean, var, eps):
    """μ and istd to the table."""
    row = 4 * job[C]
    move(job[TABLE], mean, row)
    for k in range(0, row, STEP):
        store(job[TABLE] + _ISTD * row + k, inverse_root(add(load(var + k), load(eps + k))))


@jit
def _fill_coefficients(job, dgamma, dbeta):
    """dγ and dβ from the chunks' sums; γ·istd, S/n and istd²·T/n to the table."""
    row, table = 4 * job[C], job[TABLE]
    share = spread(float32(1 / job[R]))
    for k in range(0, row, STEP):
        total, along = spread(float32(0)), spread(float32(0))
        for chunk in range(job[CHUNKS]):
            part = job[PARTS_AT] + chunk * PARTS * row + k
            total, along = add(total, load(part)), add(along, load(part + row))
        istd = load(table + _ISTD * row + k)
        store(dbeta + k, total)
        store(dgamma + k, multiply(istd, along))
        store(table + _SCALE * row + k, multiply(load(table + _GAMMA * row + k), istd))
        store(table + _ALONG_ONES * row + k, multiply(total, share))
        store(table + _ALONG_X * row + k, multiply(multiply(istd, istd), multiply(along, share)))


_run_moments = parallel(_moments_chunk)


def _forward(relu: bool) -> Any:
    run_apply = parallel(_apply_chunk(relu))

    @jit
    def forward(frame):
        mean, var = result(frame, 1), result(frame, 2)
        job = _job(frame)
        job[DY] = result(frame, 0)
        _run_moments(frame, job)
        united(job, job[R], job[C], job[PARTS_AT], mean, var)
        _fill_statistics(job, mean, var, operand(frame, 3))
        job = next_job(job)
        run_apply(frame, job)
        give_up(job)

    return forward


def _backward(relu: bool) -> Any:
    run_sums, run_dx = parallel(_sums_chunk(relu)), parallel(_dx_chunk(relu))

    @jit
    def backward(frame):
        job = _job(frame)
        job[DX], job[DY] = result(frame, 0), operand(frame, 6)
        _fill_statistics(job, operand(frame, 4), operand(frame, 5), operand(frame, 3))
        run_sums(frame, job)
        _fill_coefficients(job, result(frame, 1), result(frame, 2))
        job = next_job(job)
        run_dx(frame, job)
        give_up(job)

    return backward


_forward_plain, _forward_relu = _forward(False), _forward(True)
_backward_plain, _backward_relu = _backward(False), _backward(True)


def compiled(sources: int) -> Any:
    """XLA's FFI handler, of both passes."""

    @numba.cfunc(int64(Words), cache=True)
    def handler(frame):
        if sources and not is_question(frame):  # a closure's number is in the cache's key
            kind = attribute(frame, 0)
            if kind == _FORWARD:
                _forward_plain(frame)
            elif kind == _FORWARD_RELU:
                _forward_relu(frame)
            elif kind == _BACKWARD:
                _backward_plain(frame)
            else:
                _backward_relu(frame)
        return 0

    return handler


class Channels(NamedTuple):
    """What batch norm has a number a channel of, each (C,)."""

    gamma: jax.Array
    beta: jax.Array
    eps: jax.Array


def forward(x: jax.Array, channels: Channels, *, relu: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """y, μ and the biased σ² of x (rows, C)."""
    kind, row = _FORWARD_RELU if relu else _FORWARD, jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    y, mean, var = _call(kind, (jax.ShapeDtypeStruct(x.shape, x.dtype), row, row), x, *channels)
    return y, mean, var


def backward(
    x: jax.Array, channels: Channels, mean: jax.Array, var: jax.Array, dy: jax.Array, *, relu: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """dx, dγ and dβ of x (rows, C)."""
    kind, row = _BACKWARD_RELU if relu else _BACKWARD, jax.ShapeDtypeStruct(x.shape[1:], x.dtype)
    outs = jax.ShapeDtypeStruct(x.shape, x.dtype), row, row
    dx, dgamma, dbeta = _call(kind, outs, x, *channels, mean, var, dy)
    return dx, dgamma, dbeta


def applies(rows: int, channels: int, dtype: jnp.dtype) -> bool:
    """Whether the kernels were written for such an array."""
    return rows > 0 and channels > 0 and channels % LANES == 0 and dtype == jnp.float32


def _call(kind: int, outs: tuple[jax.ShapeDtypeStruct, ...], *operands: jax.Array) -> Any:
    rows, c = operands[0].shape
    scratch = (min(rows, _MOST_CHUNKS), PARTS * c), (_TABLE_ROWS, c)
    results = (*outs, *(jax.ShapeDtypeStruct(shape, outs[0].dtype) for shape in scratch))
    return jax.ffi.ffi_call(TARGET, results)(*operands, kind=np.int64(kind))[:3]
