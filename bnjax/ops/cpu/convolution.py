"""The handler of the 3×3 convolutions: images in chunks, by Winograd or directly, and dk's sums in order."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numba
import numpy as np

from bnjax.ops.cpu import direct, winograd
from bnjax.ops.cpu.frame import attribute, is_question, jit, operand, operand_size, result, result_size
from bnjax.ops.cpu.microkernel import COLUMNS, ROWS
from bnjax.ops.cpu.pool import CHUNKS, FIRST, bounds, chunk_function, give_up, new_job, run
from bnjax.ops.cpu.vectors import LANES, Words, add, clear, float32, int64, load, move, spread, store

TARGET = "bnjax_convolution"
_DIRECT, _DIRECT_GRADIENT, _WINOGRAD, _WINOGRAD_GRADIENT = range(4)
_MOST_CHUNKS = 16
_TILES = {_WINOGRAD: 32, _WINOGRAD_GRADIENT: 64}  # of a block: its planes stay in a core's cache
_G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]], np.float32)

# a job's words: addresses, the bytes of scratch and of the sum that are each chunk's, the kind, sizes
X, OTHER, OUT, SCRATCH, SIZE, SUM, KIND, N, H, W, C, O, BLOCK = range(FIRST, FIRST + 13)  # noqa: E741


@jit
def _place_in_rim(job, n, rim):
    """Copy image n into zeros (H + 2, W + 2, C); the zeros are there."""
    row = 4 * job[W] * job[C]
    for h in range(job[H]):
        to = rim + 4 * ((h + 1) * (job[W] + 2) + 1) * job[C]
        move(to, job[X] + (n * job[H] + h) * row, row)


@jit
def _chunk(job, c):
    rim = job[SCRATCH] + c * job[SIZE]
    scratch = rim + 4 * (job[H] + 2) * (job[W] + 2) * job[C]
    total = rim + job[SIZE] - job[SUM]
    shape, image = (job[H], job[W], job[C], job[O]), 4 * job[H] * job[W] * job[O]
    clear(rim, scratch - rim)
    clear(total, job[SUM])
    first, last = bounds(job[N], c, job[CHUNKS])
    for n in range(first, last):
        _place_in_rim(job, n, rim)
        if job[KIND] == _DIRECT:
            direct.forward(rim, job[OTHER], job[OUT] + n * image, shape)
        elif job[KIND] == _DIRECT_GRADIENT:
            direct.weight_gradient(rim, job[OTHER] + n * image, total, shape)
        elif job[KIND] == _WINOGRAD:
            winograd.forward(rim, scratch, job[OTHER], job[OUT] + n * image, (*shape, job[BLOCK]))
        else:
            winograd.weight_gradient(rim, scratch, job[OTHER] + n * image, total, (*shape, job[BLOCK]))


_chunk_address = chunk_function(_chunk)


@jit
def _fill(job, frame):
    """The job's words from the frame; the attributes by their names: block, kind, sum."""
    job[X], job[OTHER], job[OUT], job[SCRATCH] = (
        operand(frame, 0),
        operand(frame, 1),
        result(frame, 0),
        result(frame, 1),
    )
    job[SIZE] = 4 * result_size(frame, 1, 1)
    job[BLOCK], job[KIND], job[SUM] = attribute(frame, 0), attribute(frame, 1), 4 * attribute(frame, 2)
    job[N], job[H], job[W], job[C] = (
        operand_size(frame, 0, 0),
        operand_size(frame, 0, 1),
        operand_size(frame, 0, 2),
        operand_size(frame, 0, 3),
    )
    job[O] = operand_size(frame, 1, 3)


@jit
def _add_up(job):
    """The chunks' sums to the result, in the chunks' order."""
    for i in range(0, job[SUM], 4 * LANES):
        total = spread(float32(0))
        for c in range(job[CHUNKS]):
            total = add(total, load(job[SCRATCH] + (c + 1) * job[SIZE] - job[SUM] + i))
        store(job[OUT] + i, total)


def compiled(sources: int) -> Any:
    """XLA's FFI handler: x and kernel or dy -> y or the sum of dk's, scratch (chunks, floats)."""

    @numba.cfunc(int64(Words), cache=True)
    def handler(frame):
        if sources and not is_question(frame):  # a closure's number is in the cache's key
            job = new_job(result_size(frame, 1, 0))
            _fill(job, frame)
            run(frame, job, _chunk_address())
            _add_up(job)
            give_up(job)
        return 0

    return handler


def forward(x: jax.Array, kernel: jax.Array) -> tuple[jax.Array]:
    """y of images (N, H, W, C) and a kernel (3, 3, C, O)."""
    y = jax.ShapeDtypeStruct((*x.shape[:3], kernel.shape[3]), x.dtype)
    if not _by_winograd(x):
        return (_call(_DIRECT, x, kernel, y),)
    return (_call(_WINOGRAD, x, _turned(kernel, "ai,bj,ijco->abco"), y),)


def weight_gradient(x: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    """dk of images (N, H, W, C) and a cotangent (N, H, W, O)."""
    c, o = x.shape[3], dy.shape[3]
    if not _by_winograd(x):
        return (_call(_DIRECT_GRADIENT, x, dy, jax.ShapeDtypeStruct((3, 3, c, o), x.dtype)),)
    du = _call(_WINOGRAD_GRADIENT, x, dy, jax.ShapeDtypeStruct((4, 4, c, o), x.dtype))
    return (_turned(du, "ai,bj,abco->ijco"),)


def input_gradient(kernel: jax.Array, dy: jax.Array) -> tuple[jax.Array]:
    """dx: dy convolved with the kernel turned about, its channels exchanged."""
    return forward(dy, kernel[::-1, ::-1].swapaxes(2, 3))


def applies(images: jax.Array, channels: int) -> bool:
    """Whether a kernel was written for these images, with so many channels on the other side."""
    return (
        images.ndim == 4
        and images.size > 0
        and images.dtype == jnp.float32
        and images.shape[2] >= ROWS
        and channels > 0
        and channels % COLUMNS == 0
    )


def _by_winograd(x: jax.Array) -> bool:
    _, height, width, channels = x.shape
    return height % 2 == 0 and width % 2 == 0 and channels % LANES == 0


def _turned(kernel: jax.Array, how: str) -> jax.Array:
    """G K Gᵀ, or the transpose of that."""
    return jnp.einsum(how, _G, _G, kernel, precision="highest")


def _call(kind: int, x: jax.Array, other: jax.Array, out: jax.ShapeDtypeStruct) -> jax.Array:
    n, height, width, c = x.shape
    o, block = other.shape[3], 0
    size = (height + 2) * (width + 2) * c
    if kind in _TILES:
        block = max(1, _TILES[kind] // (width // 2))
        size += 16 * winograd.rooms(block, width) * (c + o)
    total = math.prod(out.shape) if kind in (_DIRECT_GRADIENT, _WINOGRAD_GRADIENT) else 0
    scratch = jax.ShapeDtypeStruct((min(n, _MOST_CHUNKS), size + total), x.dtype)
    call = jax.ffi.ffi_call(TARGET, (out, scratch))
    return call(x, other, block=np.int64(block), kind=np.int64(kind), sum=np.int64(total))[0]
