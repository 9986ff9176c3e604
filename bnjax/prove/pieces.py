"""A traced network taken apart: its equations in order, and those whose derivative is part of its gradient.

An equation is a *piece* if numbers that are differentiated go in, and something comes out that an output of
the network depends on.  `jit` and `remat` are what is inside of them; a `custom_vjp` or `custom_jvp` is one
piece.  What depends on sizes and on integer inputs alone is computed again wherever a piece uses it, so that
the piece is as special as it is in the network (a division by N, not by anything).  Steps between which −∞
passes, as from a mask to the softmax that it is for, are one piece: a claim over the reals is about none of
them alone.
"""

import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax._src.export.shape_poly import _DimExpr as SymbolicSize
from jax._src.export.shape_poly import dim_as_value_p
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, JaxprEqn
from jax.extend.core import primitives as jaxs
from jax.typing import ArrayLike

from bnjax.jaxprs import called, shaped, source_line, walk
from bnjax.prove.algebra import Atom, Poly
from bnjax.prove.arrays import Array
from bnjax.prove.field import Field
from bnjax.prove.interpreter import Interpreter
from bnjax.prove.meanings import PRIMITIVES
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, UNKNOWN
from bnjax.prove.sizes import value as value_of
from bnjax.prove.space import Size

Sizes = Mapping[str, Size]

_CUSTOM = frozenset((jaxs.custom_jvp_call_p, jaxs.custom_vjp_call_p))


@dataclass(frozen=True, eq=False)
class Value:
    """A number, or array, of a network.

    Attributes:
      shape: its shape and dtype.
      source: the step that computes it, and as which of its outputs; None for an input and for a constant.
      constant: the array, of a constant.
      number: which input it is, of an input.
      below: of an input of integers: the size that each is below.
      fixed: whether it depends on sizes and integer inputs alone.
      active: whether it moves with what is differentiated.
      sign: what is known of its entries' sign, whatever the inputs are.
      infinite: whether entries of it may be −∞, by a mask.
      masked: whether −∞ went into the step that made it: exp(−∞), and sums of it.
      layers: the layers whose parameters it is made of by moving elements alone.
    """

    shape: ShapedArray
    source: "tuple[Step, int] | None" = None
    constant: Any = None
    number: int | None = None
    below: str = ""
    fixed: bool = False
    active: bool = False
    sign: int = UNKNOWN
    infinite: bool = False
    masked: bool = False
    layers: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Step:
    """An equation, its operands, and the line of the user's code that made it."""

    equation: JaxprEqn
    operands: tuple[Value, ...]
    where: str

    @property
    def custom(self) -> bool:
        """Whether it has a rule of its own."""
        return self.equation.primitive in _CUSTOM

    @property
    def name(self) -> str:
        """The function that has the rule, or the primitive."""
        inner = called(self.equation)
        return self.equation.primitive.name if inner is None else inner.jaxpr.debug_info.func_name


@dataclass(frozen=True)
class Piece:
    """A step whose derivative is part of the gradient, or several in order; and which outputs matter."""

    steps: tuple[Step, ...]
    outputs: tuple[tuple[Step, int], ...]

    @property
    def name(self) -> str:
        """The steps' names."""
        return ", ".join(step.name for step in self.steps)

    @property
    def where(self) -> str:
        """The user's lines."""
        return ", ".join(dict.fromkeys(step.where for step in self.steps))

    @property
    def operands(self) -> tuple[Value, ...]:
        """What goes in from outside of it, a value as often as it does."""
        every = itertools.chain(*(step.operands for step in self.steps))
        return tuple(v for v in every if v.source is None or v.source[0] not in self.steps)

    def arguments(self) -> list[Value]:
        """The operands that are computed from floats, and the inputs that the others are computed from."""
        data = [v for v in self.operands if not v.fixed]
        return list(dict.fromkeys([*data, *inputs_of(v for v in self.operands if v.fixed)]))

    def layers(self) -> str:
        """The layers whose parameters go in; empty where there is none."""
        return ", ".join(dict.fromkeys(itertools.chain(*(v.layers for v in self.operands))))


class Network:
    """The steps of a traced network, in order; `inputs` are its arguments."""

    def __init__(self, jaxpr: ClosedJaxpr, inputs: Sequence[Value]):
        self.steps: list[Step] = []
        self._made: dict[Step, list[Value]] = {}
        self._where = ""
        self.outputs = walk(jaxpr, inputs, self._equation, _constant)

    def custom(self) -> list[Step]:
        """The steps with rules of their own."""
        return [step for step in self.steps if step.custom]

    def pieces(self) -> list[Piece]:
        """The pieces of the gradient, in order."""
        wanted = {value for value in self.outputs if value.active}
        found: dict[Step, tuple[tuple[Step, int], ...]] = {}
        for step in reversed(self.steps):
            outputs = tuple((step, k) for k, value in enumerate(self._made[step]) if value in wanted)
            if outputs:
                wanted |= {value for value in step.operands if value.active}
                found[step] = outputs
        groups = self._groups()
        pieces = dict.fromkeys(groups[step] for step in self.steps if step in found)
        return [Piece(group, self._leaving(group, found)) for group in pieces]

    def _groups(self) -> dict[Step, tuple[Step, ...]]:
        """For each step those that −∞ passes to and from, itself among them, in order.

        What is made of −∞ is known there alone to be > 0: a sum of exponentials, one of which is kept.
        """
        groups: dict[Step, tuple[Step, ...]] = {step: (step,) for step in self.steps}
        for step in self.steps:
            for value in step.operands:
                if (value.infinite or value.masked) and not value.fixed and value.source is not None:
                    whole = {*groups[step], *groups[value.source[0]]}
                    size = 0
                    while len(whole) > size:
                        size = len(whole)
                        whole = set().union(*(groups[other] for other in self._between(whole)))
                    joined = tuple(other for other in self.steps if other in whole)
                    groups |= dict.fromkeys(joined, joined)
        return groups

    def _between(self, group: set[Step]) -> set[Step]:
        """A group, and the steps on a way from one of it to another: else it would be its own operand."""
        after, before = set(group), set(group)
        for step in self.steps:
            if any(v.source is not None and v.source[0] in after for v in step.operands):
                after.add(step)
        for step in reversed(self.steps):
            if step in before:
                before |= {v.source[0] for v in step.operands if v.source is not None}
        return after & before

    def _leaving(
        self, group: tuple[Step, ...], found: Mapping[Step, tuple[tuple[Step, int], ...]]
    ) -> tuple[tuple[Step, int], ...]:
        """The outputs that matter of a group's steps, but for those that only the group uses."""
        used = {v for step in self.steps if step not in group for v in step.operands} | set(self.outputs)
        every = (output for step in group for output in found.get(step, ()))
        return tuple((step, k) for step, k in every if self._made[step][k] in used)

    def _equation(self, eqn: JaxprEqn, operands: Sequence[Value]) -> list[Value]:
        before, self._where = self._where, source_line(eqn) or self._where
        try:
            inner = called(eqn)
            if inner is None:
                return self._step(eqn, operands, _known(eqn, operands))
            if eqn.primitive in _CUSTOM and any(v.active for v in operands):
                inside = Network(inner, operands)
                return self._step(eqn, operands, [(v.sign, v.infinite) for v in inside.outputs])
            return walk(inner, operands, self._equation, _constant)
        finally:
            self._where = before

    def _step(
        self, eqn: JaxprEqn, operands: Sequence[Value], known: Sequence[tuple[int, bool]]
    ) -> list[Value]:
        step = Step(eqn, tuple(operands), self._where)
        moves = eqn.primitive in _MOVES
        active = any(v.active for v in operands) and eqn.primitive is not jaxs.stop_gradient_p
        self.steps.append(step)
        self._made[step] = [
            Value(
                shape=shaped(var),
                source=(step, k),
                fixed=all(v.fixed for v in operands) and not eqn.effects,
                active=active and jnp.issubdtype(shaped(var).dtype, jnp.floating),
                sign=sign,
                infinite=infinite,
                masked=any(v.infinite for v in operands),
                layers=operands[0].layers if moves else (),
            )
            for k, (var, (sign, infinite)) in enumerate(zip(eqn.outvars, known, strict=True))
        ]
        return self._made[step]


_MOVES = frozenset(
    (jaxs.broadcast_in_dim_p, jaxs.reshape_p, jaxs.transpose_p, jaxs.convert_element_type_p, jaxs.copy_p)
)


def _constant(value: ArrayLike) -> Value:
    array = np.asarray(value)
    least = array.min() if array.size and array.dtype.kind in "iuf" else -1
    known = POSITIVE if least > 0 else NONNEGATIVE if least >= 0 else UNKNOWN
    return Value(ShapedArray(array.shape, array.dtype), constant=value, fixed=True, sign=known)


def _known(eqn: JaxprEqn, operands: Sequence[Value]) -> list[tuple[int, bool]]:
    """The signs of what a primitive returns, by its meaning, whatever its operands are; whether −∞ may be."""
    nothing = [(UNKNOWN, any(v.infinite for v in operands))] * len(eqn.outvars)
    if eqn.primitive not in PRIMITIVES:
        return nothing
    field = Field()
    interpreter = Interpreter(field)
    known: dict[Value, Array] = {}
    try:
        for k, value in enumerate(operands):
            if value not in known:
                known[value] = _anything(interpreter, value, f"operand {k}")
        result = PRIMITIVES[eqn.primitive](interpreter.space, eqn, *(known[value] for value in operands))
    except Exception:  # it leaves the fragment, or there is more to know of its operands
        return nothing
    results = result if isinstance(result, list) else [result]
    signs = (UNKNOWN if array.poly is None else field.sign(array.poly) for array in results)
    return [(max(a.sign, sign), a.kept is not None) for a, sign in zip(results, signs, strict=True)]


def _anything(interpreter: Interpreter, value: Value, name: str) -> Array:
    """Any array of this shape and sign, behind any mask where it may be −∞."""
    if value.constant is not None:
        return interpreter.constant(value.constant)
    dims = tuple(interpreter.space.dim(size) for size in value.shape.shape)
    sizes = tuple(size for dim in dims for size in dim)
    boolean = value.shape.dtype == jnp.bool_
    poly: Poly = interpreter.field.atom(Atom(name, sizes, value.sign == POSITIVE, boolean))
    kept = interpreter.field.atom(Atom(f"{name} kept", sizes, boolean=True)) if value.infinite else None
    return Array(dims, poly, NONNEGATIVE if boolean else value.sign, kept=kept)


def at(parameters: Any, sizes: Sizes | None) -> Any:
    """The parameters of an equation, or an array's shape, at other sizes; as they are if that is None."""
    if sizes is None:
        return parameters
    if isinstance(parameters, SymbolicSize):
        return value_of(str(parameters), sizes)
    if isinstance(parameters, dict):
        return {name: at(value, sizes) for name, value in parameters.items()}
    if isinstance(parameters, tuple) and hasattr(parameters, "_fields"):
        return type(parameters)(*(at(value, sizes) for value in parameters))
    if isinstance(parameters, tuple | list):
        return type(parameters)(at(value, sizes) for value in parameters)
    return parameters


def computed(value: Value, sizes: Sizes | None, given: Mapping[int | None, Any]) -> Any:
    """A fixed value at these sizes, for the inputs given by their numbers."""
    if value.source is None:
        return value.constant if value.number is None else given[value.number]
    step, position = value.source
    return results_of(step, [computed(v, sizes, given) for v in step.operands], sizes)[position]


def inputs_of(values: Iterable[Value]) -> Iterator[Value]:
    """The inputs that fixed values are computed from."""
    for value in values:
        if value.source is not None:
            yield from inputs_of(value.source[0].operands)
        elif value.number is not None:
            yield value


def results_of(step: Step, operands: Sequence[Any], sizes: Sizes | None, wide: bool = False) -> Sequence[Any]:
    """What a primitive makes of its operands, at these sizes; `wide`: with every float in float64."""
    eqn = step.equation
    params = at(eqn.params, sizes)
    if wide:
        arrays = list(map(jnp.asarray, operands))
        operands = [a.astype(jnp.float64) if jnp.issubdtype(a.dtype, jnp.floating) else a for a in arrays]
        params = {name: jnp.dtype("float64") if _is_float(p) else p for name, p in params.items()}
    if eqn.primitive is dim_as_value_p and isinstance(at(eqn.params["dim"], sizes), int):
        return [np.asarray(at(eqn.params["dim"], sizes), shaped(eqn.outvars[0]).dtype)]
    results = eqn.primitive.bind(*operands, **params)
    return list(results) if eqn.primitive.multiple_results else [results]


def _is_float(parameter: Any) -> bool:
    return isinstance(parameter, np.dtype) and jnp.issubdtype(parameter, jnp.floating)


def symbols_of(step: Step) -> Iterator[str]:
    """The size symbols that a step knows, those of its constants too."""
    waiting: list[Any] = [step.equation.params, [shaped(var).shape for var in step.equation.outvars]]
    while waiting:
        item = waiting.pop()
        if isinstance(item, SymbolicSize):
            yield from re.findall(r"[A-Za-z_]\w*(?!\w*\()", str(item))
        elif isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, tuple | list):
            waiting += item
    for value in step.operands:
        if value.fixed and value.source is not None:
            yield from symbols_of(value.source[0])
