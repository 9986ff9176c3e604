"""A handler that writes down what it reads of the call frame, to be compared with what was sent."""

import ctypes
from typing import Any

import jax
import jax.numpy as jnp
import numba
import numpy as np

from bnjax.ops.cpu import layout
from bnjax.ops.cpu.frame import attribute, is_question, jit, operand, operand_size, result, result_size
from bnjax.ops.cpu.pool import FIRST, chunk_function, give_up, new_job, run, threads
from bnjax.ops.cpu.vectors import Words, int64, move, words

TARGET = "bnjax_probe"
SHAPE = (3, 5, 7)  # of the operand
CHUNKS = 11
_CALL_FRAME = layout.CallFrame.future.offset  # XLA's size of it ends there
_STAGE = layout.word(layout.CallFrame, "stage")
_API = layout.word(layout.CallFrame, "api")
_SIZES = tuple(layout.word(layout.CallFrame, part, "struct_size") for part in ("args", "rets", "attrs"))
_LAST_API = layout.Api.ThreadPool_NumThreads.offset
_ARGS = layout.word(layout.CallFrame, "args", "args")
_DTYPE, _RANK = layout.word(layout.Buffer, "dtype"), layout.word(layout.Buffer, "rank")
READ = 16  # words of the answer before the chunks'


@jit
def _chunk(job, c):
    words(job[FIRST])[READ + c] = job[FIRST + 1] * (c + 1)


_chunk_address = chunk_function(_chunk)


@jit
def _read(frame, answer):
    buffer = words(words(frame[_ARGS])[0])
    answer[1], answer[2], answer[3] = frame[_SIZES[0]], frame[_SIZES[1]], frame[_SIZES[2]]
    answer[4] = 1 if words(frame[_API])[0] > _LAST_API else 0
    answer[5], answer[6], answer[7] = frame[_STAGE] & 0xFFFFFFFF, buffer[0], buffer[_DTYPE] & 0xFFFFFFFF
    answer[8] = buffer[_RANK]
    answer[9], answer[10], answer[11] = (
        operand_size(frame, 0, 0),
        operand_size(frame, 0, 1),
        operand_size(frame, 0, 2),
    )
    answer[12], answer[13] = attribute(frame, 0), attribute(frame, 1)
    answer[14], answer[15] = result_size(frame, 0, 0), 1 if threads(frame) > 0 else 0


def compiled(sources: int) -> Any:
    """The handler: (3, 5, 7) of floats -> the words read, and the floats again."""

    @numba.cfunc(int64(Words), cache=True)
    def handler(frame):
        if sources and not is_question(frame) and frame[0] == _CALL_FRAME:
            answer = words(result(frame, 0))
            answer[0] = frame[0]
            _read(frame, answer)
            job = new_job(CHUNKS)
            job[FIRST], job[FIRST + 1] = result(frame, 0), attribute(frame, 1)
            run(frame, job, _chunk_address())
            give_up(job)
            move(result(frame, 1), operand(frame, 0), 4 * SHAPE[0] * SHAPE[1] * SHAPE[2])
        return 0

    return handler


def misread() -> str | None:
    """What of the frame is not read as it was sent; None if all of it is."""
    rng = np.random.default_rng(0)
    sent = rng.integers(0, 2**32, SHAPE, np.uint32).view(np.float32)
    first, second = (int(n) for n in rng.integers(2**40, 2**56, 2))
    count = READ + CHUNKS
    results = (jax.ShapeDtypeStruct((2 * count,), jnp.uint32), jax.ShapeDtypeStruct(SHAPE, jnp.float32))
    probe = jax.jit(lambda x: jax.ffi.ffi_call(TARGET, results)(x, a=np.int64(first), b=np.int64(second)))
    answer, copied = (np.asarray(a) for a in probe(sent))
    read = answer.view(np.int64)
    args, attrs = ctypes.sizeof(layout.Args), ctypes.sizeof(layout.Attrs)
    expected = [
        _CALL_FRAME,
        args,
        args,
        attrs,
        1,
        layout.EXECUTE,
        ctypes.sizeof(layout.Buffer),
        layout.FLOAT32,
    ]
    expected += [len(SHAPE), *SHAPE, first, second, 2 * count, 1]
    expected += [second * (c + 1) for c in range(CHUNKS)]
    if not np.array_equal(copied.view(np.uint32), sent.view(np.uint32)):
        return "the operand"
    wrong = [str(i) for i in range(count) if read[i] != np.int64(expected[i])]
    return f"words {', '.join(wrong)}" if wrong else None
