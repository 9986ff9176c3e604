"""XLA's call frame: the structs of its FFI, as its header declares them, and where their fields lie.

Every struct here is that of the same name, without `XLA_FFI_`, in jaxlib's `xla/ffi/api/c_api.h`: a binary
interface with a version.  A handler is called with a pointer to a `CallFrame` and reads it as 64-bit words;
the offsets come from these declarations, and `bnjax.ops.cpu.probe` compares what is read through them with
what was sent before any kernel is used.
"""

import ctypes
from typing import Any

MAJOR, MINOR = 0, 3  # of the interface that these structs are
METADATA = 1  # Extension_Type: the handler is asked for the version it was written for
EXECUTE = 3  # ExecutionStage
FLOAT32 = 11  # DataType

_size, _pointer, _long, _int = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int


class ExtensionBase(ctypes.Structure):
    """What each struct may be followed by."""

    _fields_ = [("struct_size", _size), ("type", _int), ("next", _pointer)]


class MetadataExtension(ctypes.Structure):
    """The question for the version."""

    _fields_ = [("extension_base", ExtensionBase), ("metadata", _pointer)]


class ApiVersion(ctypes.Structure):
    """A version of the interface."""

    _fields_ = [
        ("struct_size", _size),
        ("extension_start", _pointer),
        ("major_version", _int),
        ("minor_version", _int),
    ]


class Metadata(ctypes.Structure):
    """The answer to that question."""

    _fields_ = [
        ("struct_size", _size),
        ("api_version", ApiVersion),
        ("traits", ctypes.c_uint32),
        ("state_type_id", _long),
    ]


class Buffer(ctypes.Structure):
    """An array."""

    _fields_ = [
        ("struct_size", _size),
        ("extension_start", _pointer),
        ("dtype", _int),
        ("data", _pointer),
        ("rank", _long),
        ("dims", _pointer),
    ]


class Scalar(ctypes.Structure):
    """An attribute that is a number."""

    _fields_ = [("dtype", _int), ("value", _pointer)]


class Args(ctypes.Structure):
    """The operands, and in the same form the results (`Rets`)."""

    _fields_ = [
        ("struct_size", _size),
        ("extension_start", _pointer),
        ("size", _long),
        ("types", _pointer),
        ("args", _pointer),
    ]


class Attrs(ctypes.Structure):
    """The attributes, sorted by name."""

    _fields_ = [
        ("struct_size", _size),
        ("extension_start", _pointer),
        ("size", _long),
        ("types", _pointer),
        ("names", _pointer),
        ("attrs", _pointer),
    ]


class CallFrame(ctypes.Structure):
    """What a handler is called with."""

    _fields_ = [
        ("struct_size", _size),
        ("extension_start", _pointer),
        ("api", _pointer),
        ("ctx", _pointer),
        ("stage", _int),
        ("args", Args),
        ("rets", Args),
        ("attrs", Attrs),
        ("future", _pointer),
    ]


class Api(ctypes.Structure):
    """XLA's functions; each takes a pointer to a struct of its arguments."""

    _fields_ = [
        ("struct_size", _size),
        ("extension_start", _pointer),
        ("api_version", ApiVersion),
        ("internal_api", _pointer),
        *(
            (name, _pointer)
            for name in (
                "Error_Create",
                "Error_GetMessage",
                "Error_Destroy",
                "Handler_Register",
                "Stream_Get",
                "Type_Register",
                "ExecutionContext_Get",
                "State_Set",
                "State_Get",
                "DeviceMemory_Allocate",
                "DeviceMemory_Free",
                "ThreadPool_Schedule",
                "ThreadPool_NumThreads",
            )
        ),
    ]


class ErrorDestroyArgs(ctypes.Structure):
    """Of `Api.Error_Destroy`."""

    _fields_ = [("struct_size", _size), ("extension_start", _pointer), ("error", _pointer)]


class ThreadPoolScheduleArgs(ctypes.Structure):
    """Of `Api.ThreadPool_Schedule`: run `task(data)` on one of XLA's threads."""

    _fields_ = [
        ("struct_size", _size),
        ("extension_start", _pointer),
        ("ctx", _pointer),
        ("task", _pointer),
        ("data", _pointer),
    ]


class ThreadPoolNumThreadsArgs(ctypes.Structure):
    """Of `Api.ThreadPool_NumThreads`: how many there are, written to where `num_threads` points."""

    _fields_ = [
        ("struct_size", _size),
        ("extension_start", _pointer),
        ("ctx", _pointer),
        ("num_threads", _pointer),
    ]


def word(struct: Any, *path: str) -> int:
    """The offset of a field, in words of 8 bytes; a path of names where structs lie within structs.

    ValueError for a field that is not a word: its half would be read with its neighbour's.
    """
    offset, of = 0, struct
    for name in path:
        offset += getattr(of, name).offset
        of = next(part for named, part, *_ in of._fields_ if named == name)
    if offset % 8:
        raise ValueError(f"{struct.__name__}.{'.'.join(path)} does not begin a word")
    return offset // 8
