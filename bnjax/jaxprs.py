"""What every reader of a traced program needs: what is a call, one walk, all equations, names and lines."""

import inspect
import pathlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Primitive, jaxprs_in_params
from jax.extend.core import primitives as jaxs

Value = TypeVar("Value")

# the primitives that run a jaxpr and mean what it means, and the parameter that holds it
_CALLS: dict[Primitive, str] = {
    jaxs.jit_p: "jaxpr",
    jaxs.call_p: "call_jaxpr",
    jaxs.closed_call_p: "call_jaxpr",
    jaxs.remat_p: "jaxpr",
    jaxs.custom_jvp_call_p: "call_jaxpr",
    jaxs.custom_vjp_call_p: "call_jaxpr",
}
_PACKAGE = pathlib.Path(__file__).parent
# whose frames are no user's: JAX's, and those of the engines that trace
_LIBRARIES = tuple(map(str, (pathlib.Path(jax.__file__).parent, _PACKAGE / "check", _PACKAGE / "prove")))


def called(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """The program that an equation runs on its operands and means no more than; None if it is no call.

    Primitives are told apart by identity: another one of the same name is another one.
    """
    parameter = _CALLS.get(eqn.primitive)
    return None if parameter is None else closed(eqn.params[parameter])


def closed(jaxpr: ClosedJaxpr | Jaxpr) -> ClosedJaxpr:
    """`jaxpr` with its constants; one that stands in an equation may have none."""
    return jaxpr if isinstance(jaxpr, ClosedJaxpr) else ClosedJaxpr(jaxpr, ())


def walk(
    jaxpr: ClosedJaxpr,
    arguments: Sequence[Value],
    equation: Callable[[JaxprEqn, list[Value]], Sequence[Value]],
    constant: Callable[[Any], Value],
    literal: Callable[[Literal], Value] | None = None,
) -> list[Value]:
    """The outputs of `jaxpr`, its equations taken in order, in whatever a reader computes with.

    Args:
      jaxpr: the program.
      arguments: a value for each of its inputs.
      equation: (eqn, operands) ↦ a value for each of its outputs; it asks `called` before anything else.
      constant: what a literal, or an array that the program holds, is as a value.
      literal: what a literal is, where its dtype matters: Python's 0.9 has more bits than a float32.
    """
    environment: dict[Any, Value] = {}

    def read(atom: Any) -> Value:
        if not isinstance(atom, Literal):
            return environment[atom]
        return constant(atom.val) if literal is None else literal(atom)

    environment.update(zip(jaxpr.jaxpr.constvars, map(constant, jaxpr.consts), strict=True))
    environment.update(zip(jaxpr.jaxpr.invars, arguments, strict=True))
    for eqn in jaxpr.jaxpr.eqns:
        operands = [read(atom) for atom in eqn.invars]
        environment.update(zip(eqn.outvars, equation(eqn, operands), strict=True))
    return [read(atom) for atom in jaxpr.jaxpr.outvars]


def shaped(atom: Any) -> jax.core.ShapedArray:
    """The shape and dtype of a variable or literal of a jaxpr."""
    return atom.aval


def equations(jaxpr: ClosedJaxpr | Jaxpr) -> Iterator[JaxprEqn]:
    """Every equation of `jaxpr`, and of the programs inside it: calls, branches, loops."""
    for eqn in (
        jaxpr.jaxpr if isinstance(jaxpr, ClosedJaxpr) else jaxpr
    ).eqns:  # open ones may hold constants
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from equations(inner)


def parameter_names(function: Callable[..., Any], count: int) -> list[str]:
    """The names of a function's first `count` positional parameters; x0, x1, … where it has none."""
    try:
        parameters = inspect.signature(function).parameters.values()
        names = [p.name for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    except (TypeError, ValueError):
        names = []
    return [names[k] if k < len(names) else f"x{k}" for k in range(count)]


def replaced(values: Sequence[Any], places: Sequence[int], others: Sequence[Any]) -> list[Any]:
    """`values` with `others` at `places`: a function's arguments, those differentiated put in again."""
    result = list(values)
    for place, other in zip(places, others, strict=True):
        result[place] = other
    return result


def source_line(eqn: JaxprEqn) -> str:
    """`file:line (function)` of the user's code that made this equation; empty where none is known."""
    traceback = eqn.source_info.traceback
    frames: Sequence[Any] = traceback.frames if traceback else ()
    for frame in frames:
        if not frame.file_name.startswith(_LIBRARIES):
            return f"{pathlib.Path(frame.file_name).name}:{frame.line_num} ({frame.function_name})"
    return ""
