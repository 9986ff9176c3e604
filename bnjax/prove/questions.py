"""What Python asks of a symbolic size while a program is traced.

JAX answers `n == 7` of a symbol n by False, without a word: the program that it traces then is the one of
n ≠ 7.  Here such a question becomes an equation, "n − 7 = 0", and where that is not to be had (a hash, an
attribute, an exception that the program catches) a text, so that the prover can look at the other branch or
say that it did not.  What JAX does not answer, `n > 6`, it names.  Only the user's code is heard: JAX asks as
well, of sizes 1, and is trusted with it.

What no method of a size hears is `bnjax.prove.overheard`'s.
"""

import contextlib
import functools
import operator
import os
import pathlib
import re
import sys
import sysconfig
import threading
from collections.abc import Callable, Iterator, Mapping
from types import CodeType, FrameType
from typing import Any, NamedTuple

import jax
import jaxlib
import numpy as np
from jax._src.export.shape_poly import _DimExpr as SymbolicSize


def _folder(path: str | pathlib.Path) -> str:
    return f"{path}{os.sep}"  # jaxopt does not begin with it


_STANDARD_LIBRARY = _folder(sysconfig.get_paths()["stdlib"])
_ASKERS_OF_OTHERS = (_folder(pathlib.Path(np.__file__).parent), "<frozen")
_TRUSTED = tuple(_folder(pathlib.Path(m.__file__ or "").parent) for m in (jax, jaxlib))
_OURS = _folder(pathlib.Path(__file__).parent)
# what dataclasses make, in no file, asks for who calls it
_MADE = frozenset((
    "__init__", "__repr__", "__eq__", "__lt__", "__le__", "__gt__", "__ge__", "__hash__", "__setattr__",
    "__delattr__", "__replace__",
))  # fmt: skip
# functions of JAX's that answer the user by what a size answers them: by the shapes, without an exception
_ANSWERS = frozenset((
    "array_equal", "array_equiv", "__eq__", "__ne__", "__hash__", "__str__", "__repr__", "__format__",
    "__contains__", "str_short", "definitely_equal", "definitely_equal_shape", "is_constant_dim",
    "is_constant_shape",
))  # fmt: skip
# what a symbolic size can do for some operands only, and what an int can do and it cannot: the program may
# catch the exception
_MAY_RAISE = (
    "__lt__", "__le__", "__gt__", "__ge__", "__int__", "__add__", "__radd__", "__sub__", "__rsub__",
    "__mul__", "__rmul__", "__pow__", "__rpow__", "__floordiv__", "__rfloordiv__", "__truediv__",
    "__rtruediv__", "__mod__", "__rmod__", "__divmod__", "__rdivmod__",
)  # fmt: skip
_UNARY = (
    "__index__", "__float__", "__complex__", "__abs__", "__round__", "__trunc__", "__floor__", "__ceil__",
    "__pos__", "__invert__",
)  # fmt: skip
_BINARY = (
    "__and__", "__rand__", "__or__", "__ror__", "__xor__", "__rxor__", "__lshift__", "__rlshift__",
    "__rshift__", "__rrshift__",
)  # fmt: skip
LOCK = threading.RLock()
_ABSENT = object()
_COMPARISON = re.compile(r"comparison '(.+?)' (>=|<=|>|<) '(.+?)' is inconclusive")


class Question(NamedTuple):
    """What was asked: `zero` is the expression that was taken not to be 0, empty where there is none."""

    zero: str
    text: str
    where: str


@contextlib.contextmanager
def recorded() -> Iterator[list[Question]]:
    """Every question that Python asks of a symbolic size meanwhile, once each."""
    questions: dict[tuple[str, str], Question] = {}

    def note(zero: str, text: str) -> None:
        frame = _asker(sys._getframe(2))
        if frame is not None:
            questions.setdefault((zero, text), Question(zero, text, line_of(frame)))

    found: list[Question] = []
    with LOCK, methods(SymbolicSize, _hooks(note)):
        try:
            yield found
        finally:
            found.extend(questions.values())


@contextlib.contextmanager
def methods(owner: type, hooks: Mapping[str, Callable[..., Any]]) -> Iterator[None]:
    """A class with other methods, and afterwards with its own again."""
    before = {name: vars(owner).get(name, _ABSENT) for name in hooks}
    for name, hook in hooks.items():
        setattr(owner, name, hook)
    try:
        yield
    finally:
        for name, method in before.items():
            if method is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, method)


def both_ways(message: str) -> tuple[str, ...]:
    """The inequality of sizes that JAX says it cannot decide, and its opposite; none of another message."""
    found = _COMPARISON.search(message)
    if found is None:
        return ()
    left, sign, right = found.groups()
    larger, smaller = (left, right) if ">" in sign else (right, left)
    if "=" in sign:
        return f"{larger} >= {smaller}", f"{smaller} >= {_and_one(larger)}"
    return f"{larger} >= {_and_one(smaller)}", f"{smaller} >= {larger}"


def _and_one(size: str) -> str:
    return str(int(size) + 1) if size.isdigit() else f"{size} + 1"


def line_of(frame: FrameType) -> str:
    """Where a frame is: file, line and function."""
    return f"{pathlib.Path(frame.f_code.co_filename).name}:{frame.f_lineno} ({frame.f_code.co_name})"


def _asker(frame: FrameType | None) -> FrameType | None:
    """The frame of the user's code that asks; None if it is JAX that asks, and not to answer the user."""
    called = ""  # the function of JAX's that the user's code has called
    answers = False
    while frame is not None and frame.f_code.co_filename != __file__:  # there JAX makes an answer heard here
        kind = kind_of(frame.f_code)
        if kind == "user":
            return frame if answers or not called else None
        if kind == "trusted":
            called = frame.f_code.co_name
            answers = called in _ANSWERS
        frame = frame.f_back
    return None


def kind_of(code: CodeType) -> str:
    """Whose code it is: "user", "trusted" (JAX's and ours), or "passes on" what the user asks."""
    if code.co_filename == "<string>" and code.co_name in _MADE:
        return "passes on"
    return kind_of_file(code.co_filename)


@functools.lru_cache(maxsize=10_000)
def kind_of_file(filename: str) -> str:
    """As `kind_of`, of the code in a file."""
    if filename.startswith((*_TRUSTED, _OURS)):
        return "trusted"
    packaged = "site-packages" in filename or "dist-packages" in filename
    if filename.startswith(_ASKERS_OF_OTHERS) or (filename.startswith(_STANDARD_LIBRARY) and not packaged):
        return "passes on"
    return "user"


Note = Callable[[str, str], None]


def _hooks(note: Note) -> dict[str, Callable[..., Any]]:
    """The methods of a symbolic size that tell, each with the answer that JAX gives."""
    equal = SymbolicSize.__eq__
    attribute = SymbolicSize.__getattribute__

    def __eq__(self: Any, other: Any) -> bool:
        answer = equal(self, other)
        if not answer:
            zero = _difference(self, other)
            if zero is not None:
                note(zero, f"{self!s} == {other!s}")
        return answer

    def __ne__(self: Any, other: Any) -> bool:
        answer = equal(self, other)
        if not answer:
            zero = _difference(self, other)
            if zero is not None:
                note(zero, f"{self!s} != {other!s}")
        return not answer

    def __bool__(self: Any) -> bool:
        if not _nonzero(self):
            note(str(self), f"bool({self!s})")
        return True

    def __getattribute__(self: Any, name: str) -> Any:
        if name == "__class__":
            note("", "isinstance of a size")
        else:  # an int has it and a size has not, or the other way round, or it is another
            note("", f".{name} of a size")
        return attribute(self, name)

    hooks: dict[str, Callable[..., Any]] = {
        "__eq__": __eq__,
        "__ne__": __ne__,
        "__bool__": __bool__,
        "__getattribute__": __getattribute__,
    }
    for name in ("__hash__", "__str__", "__repr__", "__format__"):
        hooks[name] = _told(note, name, getattr(SymbolicSize, name))
    for name in (*_MAY_RAISE, *_UNARY):
        hooks[name] = _told_where_it_raises(note, name, getattr(SymbolicSize, name, None))
    for name in _BINARY:
        hooks[name] = _told(note, name, lambda self, other: NotImplemented)
    return hooks


def _told(note: Note, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def hook(self: Any, *args: Any) -> Any:
        note("", f"{name} of a size")
        return method(self, *args)

    return hook


def _told_where_it_raises(note: Note, name: str, method: Callable[..., Any] | None) -> Callable[..., Any]:
    def hook(self: Any, *args: Any) -> Any:
        try:
            if method is None:
                raise TypeError(f"a symbolic size has no {name}")
            return method(self, *args)
        except Exception:
            note("", f"{name} of a size")
            raise

    return hook


def _difference(size: Any, other: Any) -> str | None:
    """size − other as an expression that may be 0; "" where equality is not arithmetic; None if it is not."""
    if other is None or isinstance(other, str | bytes | tuple | list | dict | set | type):
        return None
    if not isinstance(other, SymbolicSize):
        try:
            other = operator.index(other)
        except Exception:
            if not isinstance(other, int | float | complex | np.generic):
                return ""
            if other != other or other in (float("inf"), float("-inf")) or other != int(other.real):
                return None
            other = int(other.real)
    elif other.scope is not size.scope:
        return None
    difference = size - other
    return None if _nonzero(difference) else str(difference)


def _nonzero(size: Any) -> bool:
    """Whether the bounds of an expression show that it is not 0."""
    try:
        if not isinstance(size, SymbolicSize):
            return bool(size != 0)
        return bool(size >= 1)
    except Exception:
        pass
    try:
        return bool(size <= -1)
    except Exception:
        return False
