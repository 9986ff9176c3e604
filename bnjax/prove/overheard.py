"""What Python asks of a symbolic size, and no method of the size hears.

`type(n)` calls none.  A listener stands in the place of `type` in the modules of the user's code.  Nor do the
comparison and the hash of an abstract array, `x.aval == …`.

Where JAX meets sizes that it cannot compare it raises, or finds them unequal: user code that catches the
exception goes on as it would at no number.  A trace function hears where an exception of JAX's ends.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from types import FrameType, ModuleType, TracebackType
from typing import Any, cast

import jax.export
from jax._src.core import ShapedArray
from jax._src.export.shape_poly import _DimExpr as SymbolicSize

from bnjax.prove.questions import LOCK, Question, kind_of, kind_of_file, line_of, methods

Note = Callable[[str, FrameType], None]


@contextlib.contextmanager
def overheard(functions: Sequence[Callable[..., Any]]) -> Iterator[list[Question]]:
    """Where the user's code, of which `functions` are, asks so meanwhile."""
    questions: dict[tuple[str, str], Question] = {}

    def note(text: str, frame: FrameType) -> None:
        line = line_of(frame)
        questions.setdefault((text, line), Question("", text, line))

    found: list[Question] = []
    with LOCK, _types_heard(functions, note), _catches_heard(note), _symbols_heard(note), _avals_heard(note):
        try:
            yield found
        finally:
            found.extend(questions.values())


@contextlib.contextmanager
def _types_heard(functions: Sequence[Callable[..., Any]], note: Note) -> Iterator[None]:
    listener = _listener(lambda: note("type of a size", sys._getframe(2)))
    places = [place for place in _namespaces(functions) if "type" not in place]
    for place in places:
        place["type"] = listener
    try:
        yield
    finally:
        for place in places:
            place.pop("type", None)


@contextlib.contextmanager
def _catches_heard(note: Note) -> Iterator[None]:
    raised: set[FrameType] = set()  # frames that an exception of JAX's has come to

    def in_user_code(frame: FrameType, event: str, argument: Any) -> Any:
        if event == "exception":
            if _is_of_jax(argument[2]):
                raised.add(frame)
        elif frame in raised:
            raised.remove(frame)
            if event == "line":
                note("an exception that JAX raises", frame)
        return in_user_code

    def called(frame: FrameType, event: str, argument: Any) -> Any:
        return in_user_code if kind_of(frame.f_code) == "user" else None

    before = sys.gettrace()
    sys.settrace(called)
    try:
        yield
    finally:
        sys.settrace(before)


@contextlib.contextmanager
def _symbols_heard(note: Note) -> Iterator[None]:
    is_symbolic = jax.export.is_symbolic_dim

    def asked(size: Any) -> bool:
        frame = sys._getframe(1)
        if isinstance(size, SymbolicSize) and kind_of(frame.f_code) == "user":
            note("is_symbolic_dim of a size", frame)
        return is_symbolic(size)

    jax.export.is_symbolic_dim = cast(Any, asked)
    try:
        yield
    finally:
        jax.export.is_symbolic_dim = is_symbolic


@contextlib.contextmanager
def _avals_heard(note: Note) -> Iterator[None]:
    """Abstract arrays are compared, and looked up, without a word to their sizes."""

    def heard(name: str) -> Callable[..., Any]:
        method = getattr(ShapedArray, name)

        def asked(self: Any, *other: Any) -> Any:
            frame = sys._getframe(1)
            if any(isinstance(size, SymbolicSize) for size in self.shape) and kind_of(frame.f_code) == "user":
                note(f"{name} of an abstract array", frame)
            return method(self, *other)

        return asked

    with methods(ShapedArray, {name: heard(name) for name in ("__eq__", "__ne__", "__hash__")}):
        yield


def _is_of_jax(traceback: TracebackType | None) -> bool:
    while traceback is not None:
        if kind_of(traceback.tb_frame.f_code) == "trusted":
            return True
        traceback = traceback.tb_next
    return False


def _namespaces(functions: Sequence[Callable[..., Any]]) -> list[dict[str, Any]]:
    """The global names of the user's modules, and of `functions`."""
    named = [vars(module) for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
    named = [names for names in named if names.get("__file__") or names.get("__name__") == "__main__"]
    named = [names for names in named if kind_of_file(str(names.get("__file__"))) == "user"]
    named += [names for f in functions if isinstance(names := getattr(f, "__globals__", None), dict)]
    return list({id(names): names for names in named}.values())


def _listener(note: Callable[[], None]) -> type:
    """What does as `type` does, and tells of sizes; `type(n)` in the user's code calls it."""

    class Listening(type):
        def __call__(cls, *args: Any, **keywords: Any) -> Any:
            if cls is not listener:  # a metaclass made of it
                return super().__call__(*args, **keywords)
            if len(args) == 1 and type(args[0]) is SymbolicSize:
                note()
            return type(*args, **keywords)

        def __instancecheck__(cls, instance: Any) -> bool:
            return isinstance(instance, type)

        def __subclasscheck__(cls, subclass: type) -> bool:
            return issubclass(subclass, type)

    listener = Listening("type", (type,), {})
    return listener
