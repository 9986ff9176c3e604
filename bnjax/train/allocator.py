"""The process's memory allocator, set for programs that need the same large arrays step after step."""

import ctypes
import platform

# mallopt's parameters, from glibc's malloc.h, and the values they get
_KEEP = {
    -8: 1,  # M_ARENA_MAX: all threads take from one heap; the others' cannot hold large arrays
    -4: 0,  # M_MMAP_MAX: large arrays come from the heap too, not from pages of their own
    -1: -1,  # M_TRIM_THRESHOLD: the heap is never given back
}


def keep_freed_memory() -> bool:
    """Let the process keep the memory it frees, to use it again: whether that could be set.

    XLA allocates a step's arrays anew at each step.  By default glibc maps fresh pages for large ones, and
    Linux clears each page at its first use: tens of thousands a training step.  Kept, they are cleared
    once; the process never shrinks.  Other C libraries are left as they are.

    Call it before JAX makes its threads; it holds for the whole process, NumPy and PyTorch included.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    return all([mallopt(parameter, value) == 1 for parameter, value in _KEEP.items()])
