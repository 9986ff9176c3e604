r"""The handlers of batch norm over the rows of (rows, C), with and without ReLU, forward and backward.

Forward, x is read twice and y written: `bnjax.ops.cpu.moments`, then z = γ·(x − μ)·istd + β.  Backward x and
dy are read twice and dx written: with S = Σ dz and T = Σ dz·(x − μ), theorem 34 is::

    dx = γ·istd·((dz − S/n) − (x − μ)·istd²·T/n)        dγ = istd·T        dβ = S

in this order, so that a constant dz cancels before anything is rounded: dx is 0 for n = 1.

Eight passes, the fewest there are.  x, y, dy and dx are float32 or bfloat16, all of them; the rest, and all
arithmetic, is float32: of bfloat16 only what is written is rounded.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numba
import numpy as np

from bnjax.ops.cpu.frame import attribute, is_question, jit, operand, operand_size, result, result_size
from bnjax.ops.cpu.moments import PARTS, STEP, block_rows, cotangent_sums, moments_of, united
from bnjax.ops.cpu.pool import CHUNKS, FIRST, bounds, chunk_function, give_up, new_job, next_job, run
from bnjax.ops.cpu.vectors import (
    BFLOAT16,
    FLOAT32,
    LANES,
    Element,
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
_BACKWARD, _NARROW, _RELU = range(3)  # attributes, which XLA sorts by their names
_MOST_CHUNKS = 16
# bytes that are written past the caches: no core's cache holds them until they are read again, and a line
# that is not written past it is first read from memory
_LARGE = 1 << 21
# a job's words: addresses (DY of y in the forward pass), whether past the caches, sizes
X, DY, DX, PARTS_AT, TABLE, PAST, R, C = range(FIRST, FIRST + 8)
# rows of the table, C floats each
_MEAN, _ISTD, _GAMMA, _BETA, _SCALE, _ALONG_ONES, _ALONG_X = range(7)
_TABLE_ROWS = 7


@functools.cache  # it does not know of ReLU: one serves both
def _moments_chunk(element: Element) -> Any:
    size, moments = element.size, moments_of(element)

    @jit
    def visit(job, chunk):
        first, last = bounds(job[R], chunk, job[CHUNKS])
        part = job[PARTS_AT] + chunk * PARTS * 4 * job[C]
        moments(job[X] + first * size * job[C], last - first, job[C], part)

    return visit


def _apply_chunk(element: Element, relu: bool) -> Any:
    size, read, write = element

    @jit
    def visit(job, chunk):
        first, last = bounds(job[R], chunk, job[CHUNKS])
        row, wide, block = size * job[C], 4 * job[C], block_rows(job[C])
        table, to, past = job[TABLE], job[DY] - job[X], job[PAST]
        for r in range(first, last, block):
            stop = min(r + block, last)
            for k in range(0, wide, STEP):
                mean, istd = load(table + k), load(table + _ISTD * wide + k)
                gamma, beta = load(table + _GAMMA * wide + k), load(table + _BETA * wide + k)
                column = job[X] + k * size // 4
                for at in range(column + r * row, column + stop * row, row):
                    z = multiply_add(gamma, multiply(subtract(read(at), mean), istd), beta)
                    if relu:
                        z = rectified(z)
                    write(at + to, z, past)

    return visit


def _sums_chunk(element: Element, relu: bool) -> Any:
    size, sums = element.size, cotangent_sums(element, relu)

    @jit
    def visit(job, chunk):
        first, last = bounds(job[R], chunk, job[CHUNKS])
        row, shape = size * job[C], (job[C], job[TABLE])
        x, dy, part = job[X] + first * row, job[DY] + first * row, job[PARTS_AT] + chunk * PARTS * 4 * job[C]
        sums(x, dy, last - first, shape, part)

    return visit


def _dx_chunk(element: Element, relu: bool) -> Any:
    size, read, write = element

    @jit
    def visit(job, chunk):
        first, last = bounds(job[R], chunk, job[CHUNKS])
        row, wide, block, table = size * job[C], 4 * job[C], block_rows(job[C]), job[TABLE]
        dy, dx, past = job[DY] - job[X], job[DX] - job[X], job[PAST]
        for r in range(first, last, block):
            stop = min(r + block, last)
            for k in range(0, wide, STEP):
                mean, istd = load(table + k), load(table + _ISTD * wide + k)
                gamma, beta = load(table + _GAMMA * wide + k), load(table + _BETA * wide + k)
                scale, along_x = load(table + _SCALE * wide + k), load(table + _ALONG_X * wide + k)
                along_ones = load(table + _ALONG_ONES * wide + k)
                column = job[X] + k * size // 4
                for at in range(column + r * row, column + stop * row, row):
                    centred, dz = subtract(read(at), mean), read(at + dy)
                    if relu:
                        dz = where_positive(multiply_add(gamma, multiply(centred, istd), beta), dz)
                    left = subtract(subtract(dz, along_ones), multiply(centred, along_x))
                    write(at + dx, multiply(scale, left), past)

    return visit


@jit
def _job(frame):
    """The words of both passes: their operands begin with x, γ, β, ε, their results end with scratch."""
    job = new_job(result_size(frame, 3, 0))
    job[X], job[R], job[C] = operand(frame, 0), operand_size(frame, 0, 0), operand_size(frame, 0, 1)
    job[PARTS_AT], job[TABLE] = result(frame, 3), result(frame, 4)
    written = job[R] * job[C] * (2 if attribute(frame, _NARROW) else 4)
    job[PAST] = written >= _LARGE and result(frame, 0) % STEP == 0
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


def _variants(chunk: Callable[[Element, bool], Any]) -> Any:
    """frame -> the address of the chunk function that it asks for."""
    wide, wide_relu = (chunk_function(chunk(FLOAT32, relu)) for relu in (False, True))
    narrow, narrow_relu = (chunk_function(chunk(BFLOAT16, relu)) for relu in (False, True))

    @jit
    def address(frame):
        relu = attribute(frame, _RELU)
        if attribute(frame, _NARROW):
            return narrow_relu() if relu else narrow()
        return wide_relu() if relu else wide()

    return address


_moments = _variants(lambda element, relu: _moments_chunk(element))
_apply = _variants(_apply_chunk)
_sums, _dx = _variants(_sums_chunk), _variants(_dx_chunk)


@jit
def _forward(frame):
    mean, var = result(frame, 1), result(frame, 2)
    job = _job(frame)
    job[DY] = result(frame, 0)
    run(frame, job, _moments(frame))
    united(job, job[R], job[C], job[PARTS_AT], mean, var)
    _fill_statistics(job, mean, var, operand(frame, 3))
    job = next_job(job)
    run(frame, job, _apply(frame))
    give_up(job)


@jit
def _backward(frame):
    job = _job(frame)
    job[DX], job[DY] = result(frame, 0), operand(frame, 6)
    _fill_statistics(job, operand(frame, 4), operand(frame, 5), operand(frame, 3))
    run(frame, job, _sums(frame))
    _fill_coefficients(job, result(frame, 1), result(frame, 2))
    job = next_job(job)
    run(frame, job, _dx(frame))
    give_up(job)


def compiled(sources: int) -> Any:
    """XLA's FFI handler, of both passes in both dtypes."""

    @numba.cfunc(int64(Words), cache=True)
    def handler(frame):
        if sources and not is_question(frame):  # a closure's number is in the cache's key
            if attribute(frame, _BACKWARD):
                _backward(frame)
            else:
                _forward(frame)
        return 0

    return handler


class Channels(NamedTuple):
    """What batch norm has a number a channel of, each (C,)."""

    gamma: jax.Array
    beta: jax.Array
    eps: jax.Array


def forward(x: jax.Array, channels: Channels, *, relu: bool) -> tuple[jax.Array, jax.Array, jax.Array]:
    """y, μ and the biased σ² of x (rows, C)."""
    y, mean, var = _call(_like(x, channels), x, *channels, backward=False, relu=relu)
    return y, mean, var


def backward(
    x: jax.Array, channels: Channels, mean: jax.Array, var: jax.Array, dy: jax.Array, *, relu: bool
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """dx, dγ and dβ of x (rows, C)."""
    outs = _like(x, channels)
    dx, dgamma, dbeta = _call(outs, x, *channels, mean, var, dy, backward=True, relu=relu)
    return dx, dgamma, dbeta


def applies(rows: int, channels: int, dtype: jnp.dtype) -> bool:
    """Whether the kernels were written for such an array."""
    return rows > 0 and channels > 0 and channels % LANES == 0 and dtype in (jnp.float32, jnp.bfloat16)


def _like(x: jax.Array, channels: Channels) -> tuple[jax.ShapeDtypeStruct, ...]:
    """What both passes return: an array as x, and two of a number a channel."""
    a_channel = jax.ShapeDtypeStruct(channels[0].shape, channels[0].dtype)
    return jax.ShapeDtypeStruct(x.shape, x.dtype), a_channel, a_channel


def _call(outs: tuple[jax.ShapeDtypeStruct, ...], *operands: jax.Array, backward: bool, relu: bool) -> Any:
    (rows, c), dtype = outs[0].shape, outs[0].dtype
    scratch = (min(rows, _MOST_CHUNKS), PARTS * c), (_TABLE_ROWS, c)
    results = (*outs, *(jax.ShapeDtypeStruct(shape, jnp.float32) for shape in scratch))
    asked = {"backward": backward, "narrow": dtype == jnp.bfloat16, "relu": relu}
    attributes = {name: np.int64(value) for name, value in asked.items()}
    return jax.ffi.ffi_call(TARGET, results)(*operands, **attributes)[:3]
