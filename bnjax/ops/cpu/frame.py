"""The call frame as a kernel reads it: buffers, attributes, and whether it is a question for the version."""

import functools
from collections.abc import Callable
from typing import Any

import numba

from bnjax.ops.cpu import layout
from bnjax.ops.cpu.vectors import words

# no check of divisors: none is 0, and a kernel has nobody to raise to
jit: Callable[[Callable[..., Any]], Any] = functools.partial(numba.njit, error_model="numpy")

_word = layout.word
_STAGE = _word(layout.CallFrame, "stage")
_EXTENSION = _word(layout.CallFrame, "extension_start")
_ARGS = _word(layout.CallFrame, "args", "args")
_RETS = _word(layout.CallFrame, "rets", "args")
_ATTRS = _word(layout.CallFrame, "attrs", "attrs")
_EXTENSION_TYPE = _word(layout.MetadataExtension, "extension_base", "type")
_METADATA = _word(layout.MetadataExtension, "metadata")
_VERSION = _word(layout.Metadata, "api_version", "major_version")
_TRAITS = _word(layout.Metadata, "traits")
_DATA = _word(layout.Buffer, "data")
_RANK = _word(layout.Buffer, "rank")
_DIMS = _word(layout.Buffer, "dims")
_VALUE = _word(layout.Scalar, "value")
_MAJOR_MINOR = layout.MAJOR | layout.MINOR << 32  # two ints in one word


@jit
def is_question(frame):
    """Whether XLA asks for the version that the handler is written for; then it is answered here."""
    if frame[_EXTENSION] == 0:
        return False
    extension = words(frame[_EXTENSION])
    if extension[_EXTENSION_TYPE] & 0xFFFFFFFF == layout.METADATA:
        metadata = words(extension[_METADATA])
        metadata[_VERSION], metadata[_TRAITS] = _MAJOR_MINOR, 0
    return True


@jit
def operand(frame, i):
    """The address of operand i's numbers."""
    return words(words(frame[_ARGS])[i])[_DATA]


@jit
def result(frame, i):
    """The address of result i's numbers."""
    return words(words(frame[_RETS])[i])[_DATA]


@jit
def operand_size(frame, i, axis):
    """An operand's size along an axis."""
    return words(words(words(frame[_ARGS])[i])[_DIMS])[axis]


@jit
def result_size(frame, i, axis):
    """A result's size along an axis."""
    return words(words(words(frame[_RETS])[i])[_DIMS])[axis]


@jit
def attribute(frame, i):
    """The i-th attribute in the order of their names, an int64."""
    return words(words(words(frame[_ATTRS])[i])[_VALUE])[0]
