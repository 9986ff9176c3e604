"""The traced programs interpreted: what is left of the claim are equations between polynomials."""

import time
from dataclasses import dataclass, replace

from bnjax.prove.algebra import INFINITESIMAL, Atom, Outside, Poly
from bnjax.prove.arrays import Array, finite, over_the_same
from bnjax.prove.field import Field
from bnjax.prove.integers import label, range_below
from bnjax.prove.interpreter import Interpreter
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, sign
from bnjax.prove.space import Axis, Space
from bnjax.prove.strides import Cut, cut_axes, in_parts
from bnjax.prove.tracing import Argument, Programs


@dataclass(frozen=True)
class Derivation:
    """The programs interpreted: values, cotangents of the arguments, and the directional derivative."""

    field: Field
    programs: Programs
    values: dict[str, list[Array]]
    gradients: dict[str, list[Array]]
    duality: Poly
    moved: list[Poly]  # the primal's outputs at x + τ·v
    space: Space

    def linear(self) -> frozenset[str]:
        """The cotangents and tangents, in which everything compared is linear."""
        tangents = [f"v.{a.name}" for a in self.programs.arguments if a.differentiated]
        names = {a.name for a in self.programs.cotangents}.union(tangents)
        return frozenset(name for name in self.field.atoms if name.partition("[")[0] in names)

    def gradient(self, name: str, side: str = "op") -> Poly:
        """The cotangent of the argument `name`, free indices from left to right."""
        floats = [a.name for a in self.programs.arguments if a.differentiated]
        return self.field.reduce(finite(self.gradients[side][floats.index(name)]))


def derive(programs: Programs, seconds: float = 60.0, reads_quotients: bool = False) -> Derivation:
    """Interpret the programs: every value and cotangent as a polynomial.  Raises Refusal or Outside."""
    end = time.monotonic() + seconds
    strides: dict[Axis, int] = {}
    while True:
        interpreter = Interpreter(
            Field(end - time.monotonic(), reads_quotients), programs.base_axes(), strides
        )
        try:
            return _derive(programs, interpreter)
        except Cut as cut:  # each a new one
            strides[cut.axis] = cut.stride


def _derive(programs: Programs, interpreter: Interpreter) -> Derivation:
    inputs, cotangents = (
        [_input(interpreter.space, argument) for argument in arguments]
        for arguments in (programs.arguments, programs.cotangents)
    )
    values = {
        "primal": interpreter.run(programs.primal, inputs),
        "op": interpreter.run(programs.op, inputs),
    }
    gradients = {}
    for side, program in (("primal", programs.primal_vjp), ("op", programs.op_vjp)):
        results = interpreter.run(program, [*cotangents, *inputs])
        floats = len(cotangents)
        last = floats + sum(a.differentiated for a in programs.arguments)
        values[f"{side} under vjp"] = results[:floats] + results[last:]
        gradients[side] = results[floats:last]
    duality, moved = _duality(interpreter, programs, inputs, cotangents, gradients["op"])
    return Derivation(interpreter.field, programs, values, gradients, duality, moved, interpreter.space)


def _duality(
    interpreter: Interpreter,
    programs: Programs,
    inputs: list[Array],
    cotangents: list[Array],
    gradients: list[Array],
) -> tuple[Poly, list[Poly]]:
    """⟨dy, Jv⟩ − ⟨VJP(dy), v⟩, with Jv the coefficient of τ in primal(x + τ·v); and these outputs."""
    field = interpreter.field
    tau = field.entry(INFINITESIMAL)
    moved, tangents = [], []
    for argument, value in zip(programs.arguments, inputs, strict=True):
        if argument.differentiated:
            tangents.append(
                _input(interpreter.space, replace(argument, name=f"v.{argument.name}", positive=False))
            )
            value = replace(value, poly=finite(value) + tau * finite(tangents[-1]))
        moved.append(value)
    total = field.constant(0)
    outputs = interpreter.run(programs.primal, moved)
    for output, dy in zip(outputs, cotangents, strict=False):
        tangent = field.part(field.reduce(finite(output)), INFINITESIMAL, 1)
        total += _inner(interpreter.space, replace(output, poly=tangent), dy)
    for gradient, v in zip(gradients, tangents, strict=True):
        total -= _inner(interpreter.space, gradient, v)
    return total, [field.reduce(finite(output)) for output in outputs[: len(cotangents)]]


def _inner(space: Space, a: Array, b: Array) -> Poly:
    """Σ a·b over every index; both lie over the same base axes."""
    field, (a, b) = space.field, over_the_same(space, a, b)
    if a.dims != b.dims:
        raise Outside(f"layout: a cotangent over {a.dims} for an array over {b.dims}")
    product = finite(a) * finite(b)
    for index, size in enumerate(a.axes):
        product = field.total(product, index, size)
    return field.reduce(product)


def _input(space: Space, argument: Argument) -> Array:
    field, dims = space.field, argument.base_axes()
    sizes = tuple(size for dim in dims for size in dim)
    for size in sizes:
        field.size(size)
    if argument.below:
        poly = label(field, argument.name, sizes, argument.below)
        return Array(dims, poly, NONNEGATIVE, range_below(argument.below))
    dims, cuts = cut_axes(dims, space.strides)
    atom = Atom(argument.name, positive=argument.positive, boolean=argument.boolean)
    poly = in_parts(field, atom, dims, cuts)
    return Array(dims, poly, sign(poly) if not argument.positive else POSITIVE)
