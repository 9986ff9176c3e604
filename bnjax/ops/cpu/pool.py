"""Work in chunks, on the thread that calls a handler and on XLA's own threads.

A job is a block of words in memory of its own, outside every stack, as a helper may come when all is done:

    NEXT      the chunk that whoever comes takes, by an atomic addition
    DONE      chunks finished: the caller waits for all of them, not for the helpers
    HOLDERS   who may still look at the job: the last one frees it
    CHUNKS    how many there are
    WORK      the address of the chunk function
    FIRST …   what the chunk function reads

How the work is cut into chunks depends on the arrays alone, and whoever sums over chunks does it in their
order, so no result depends on the number of threads.  A helper that never comes (in a forked process, say)
takes no chunk, and the caller does them all.
"""

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from bnjax.ops.cpu import layout
from bnjax.ops.cpu.frame import jit
from bnjax.ops.cpu.vectors import (
    Words,
    address_of,
    allocate,
    call,
    call_on,
    fetch_add,
    int64,
    move,
    release,
    rest,
    words,
)

NEXT, DONE, HOLDERS, CHUNKS, WORK, FIRST = range(6)
_ARGUMENTS = 24  # words that a chunk function may have for itself

_word = layout.word
_API, _CONTEXT = _word(layout.CallFrame, "api"), _word(layout.CallFrame, "ctx")
_SCHEDULE = _word(layout.Api, "ThreadPool_Schedule")
_NUM_THREADS = _word(layout.Api, "ThreadPool_NumThreads")
_SCHEDULE_SIZE = layout.ThreadPoolScheduleArgs.data.offset + 8
_SCHEDULE_CONTEXT = _word(layout.ThreadPoolScheduleArgs, "ctx")
_TASK, _TASK_DATA = (_word(layout.ThreadPoolScheduleArgs, name) for name in ("task", "data"))
_THREADS_SIZE = layout.ThreadPoolNumThreadsArgs.num_threads.offset + 8
_THREADS = _word(layout.ThreadPoolNumThreadsArgs, "num_threads")
_DESTROY, _ERROR = _word(layout.Api, "Error_Destroy"), _word(layout.ErrorDestroyArgs, "error")
_DESTROY_SIZE = layout.ErrorDestroyArgs.error.offset + 8
_ANSWER = _SCHEDULE_SIZE // 8  # the word after the question


@jit
def new_job(chunks):
    """A job of so many chunks; its words from FIRST on are the caller's to fill."""
    job = words(allocate(8 * (FIRST + _ARGUMENTS)))
    job[CHUNKS] = chunks
    return job


@jit
def give_up(job):
    """Hold the job no longer; the last one frees it."""
    if fetch_add(address_of(job) + 8 * HOLDERS, -1) == 1:
        release(address_of(job))


@jit
def next_job(job):
    """A job with the same words, in place of one that was run: helpers of that may still come to it."""
    new = new_job(job[CHUNKS])
    move(address_of(new) + 8 * FIRST, address_of(job) + 8 * FIRST, 8 * _ARGUMENTS)
    give_up(job)
    return new


@jit
def bounds(count, chunk, chunks):
    """The part of range(count) that is a chunk's, as start and stop."""
    return count * chunk // chunks, count * (chunk + 1) // chunks


@jit
def _failed(api, error):
    """Whether one of XLA's functions returned an error, which is ours to destroy."""
    if error == 0:
        return False
    order = words(allocate(_DESTROY_SIZE))
    order[0], order[1], order[_ERROR] = _DESTROY_SIZE, 0, error
    call(api[_DESTROY], address_of(order))
    release(address_of(order))
    return True


@jit
def threads(frame):
    """How many threads XLA has for this call; 1 where it does not say."""
    api, question = words(frame[_API]), words(allocate(8 * (_ANSWER + 1)))
    question[0], question[1], question[_SCHEDULE_CONTEXT] = _THREADS_SIZE, 0, frame[_CONTEXT]
    question[_THREADS] = address_of(question) + 8 * _ANSWER
    question[_ANSWER] = 1
    failed = _failed(api, call(api[_NUM_THREADS], address_of(question)))
    answer = 1 if failed else question[_ANSWER]
    release(address_of(question))
    return answer


def _c_function(function: Any, *arguments: types.Type) -> Any:
    """An intrinsic: the address of a C function of words that calls `function`, and returns 0.

    It is made in the module that asks, so that no address of this process gets into numba's cache; and
    only then is `function` compiled, which nobody needs whom the cache serves.
    """

    @intrinsic
    def address(typing):
        def codegen(context: Any, builder: ir.IRBuilder, _: Any, __: Any) -> Any:
            function.compile(arguments)
            compiled = function.overloads[arguments]
            context.active_code_library.add_linking_library(compiled.library)
            word = ir.IntType(64)
            name = builder.module.get_unique_name("bnjax_task")
            wrapper = ir.Function(builder.module, ir.FunctionType(word, [word] * len(arguments)), name)
            wrapper.linkage = "internal"
            inside = ir.IRBuilder(wrapper.append_basic_block())
            callee = context.declare_function(builder.module, compiled.fndesc)
            given = [
                inside.inttoptr(value, word.as_pointer()) if of == Words else value
                for value, of in zip(wrapper.args, arguments, strict=True)
            ]
            returned = compiled.signature.return_type
            context.call_conv.call_function(inside, callee, returned, arguments, given)
            inside.ret(word(0))
            return builder.ptrtoint(wrapper, word)

        return types.int64(), codegen

    return address


def chunk_function(chunk: Any) -> Any:
    """An intrinsic: the address of `chunk(job, number)`, for `run`."""
    return _c_function(chunk, Words, int64)


@jit
def _drain(job):
    """Take chunks until there are none."""
    while True:
        c = fetch_add(address_of(job) + 8 * NEXT, 1)
        if c >= job[CHUNKS]:
            break
        call_on(job[WORK], address_of(job), c)
        fetch_add(address_of(job) + 8 * DONE, 1)


@jit
def _help(job):
    _drain(job)
    give_up(job)


_helper = _c_function(_help, Words)


@jit
def run(frame, job, work):
    """The chunk function at `work` on every chunk; then the job is the caller's to give up."""
    api, helpers = words(frame[_API]), min(threads(frame), job[CHUNKS]) - 1
    job[NEXT], job[DONE], job[HOLDERS], job[WORK] = 0, 0, helpers + 1, work
    order = words(allocate(_SCHEDULE_SIZE))
    for _ in range(helpers):
        order[0], order[1], order[_SCHEDULE_CONTEXT] = _SCHEDULE_SIZE, 0, frame[_CONTEXT]
        order[_TASK], order[_TASK_DATA] = _helper(), address_of(job)
        if _failed(api, call(api[_SCHEDULE], address_of(order))):
            give_up(job)
    release(address_of(order))
    _drain(job)
    while fetch_add(address_of(job) + 8 * DONE, 0) < job[CHUNKS]:
        rest()
