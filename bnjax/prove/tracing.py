"""From shapes in words to traced programs: the values and the VJPs of two functions, as jaxprs."""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from jax import export
from jax.extend.core import ClosedJaxpr, JaxprEqn

from bnjax.jaxprs import called, parameter_names, replaced, walk
from bnjax.prove.space import Size


@dataclass(frozen=True)
class Argument:
    """An array of the claim: its name, its dimensions as words ("n", "7", "2*K"), and its kind."""

    name: str
    words: tuple[str, ...]
    positive: bool = False
    boolean: bool = False

    @property
    def differentiated(self) -> bool:
        """Whether it has a cotangent."""
        return not self.boolean

    def base_axes(self) -> tuple[tuple[str, ...], ...]:
        """For each dimension the axes it is the product of; none for size 1."""
        return tuple(tuple(b for b in word.split("*") if b != "1") for word in self.words)

    def symbols(self) -> set[str]:
        """The size symbols."""
        return {part for word in self.words for part in word.split("*") if not part.isdigit()}

    def at(self, sizes: dict[str, int]) -> "Argument":
        """The same argument with numbers for the size symbols."""
        words = ("*".join(str(sizes.get(b, b)) for b in word.split("*")) for word in self.words)
        return replace(self, words=tuple(words))

    def shape(self, scope: export.SymbolicScope | None = None) -> tuple[Size, ...]:
        """The shape to trace with: ints, or JAX's symbolic sizes of `scope`."""
        if not self.symbols():
            return tuple(math.prod(map(int, word.split("*"))) for word in self.words)
        return tuple(export.symbolic_shape(", ".join(self.words) + ",", scope=scope))


@dataclass(frozen=True)
class Programs:
    """The traced programs of an op and its primal; a VJP takes cotangents, then the arguments."""

    arguments: tuple[Argument, ...]
    cotangents: tuple[Argument, ...]
    op: ClosedJaxpr
    primal: ClosedJaxpr
    op_vjp: ClosedJaxpr
    primal_vjp: ClosedJaxpr

    def base_axes(self) -> dict[str, tuple[str, ...]]:
        """The dimensions that stand for more than one base axis, by the name JAX gives their size."""
        scope = export.SymbolicScope()
        result = {}
        for argument in (*self.arguments, *self.cotangents):
            sizes = argument.shape(scope)
            for size, axes in zip(sizes, argument.base_axes(), strict=True):
                if len(axes) > 1:
                    result[str(size)] = axes
        return result


def parse_arguments(primal: Callable, shapes: Sequence[str], positive: Sequence[int]) -> tuple[Argument, ...]:
    """The arguments that `shapes` describe, named as `primal` names them.

    Raises ValueError for a shape that is not made of sizes, and for an index in `positive` out of range.
    """
    for index in positive:
        if not 0 <= index < len(shapes):
            raise ValueError(f"positive names argument {index}, but there are {len(shapes)} shapes")
    names = parameter_names(primal, len(shapes))
    arguments = []
    for index, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        boolean = shape.startswith("bool:")
        words = tuple(shape.removeprefix("bool:").replace(",", " ").split())
        for word in words:
            if not re.fullmatch(r"(\w+\*)*\w+", word) or re.search(r"\b(0|\d+[A-Za-z_]\w*)\b", word):
                raise ValueError(f"shape {index} is {shape!r}: sizes are letters, positive ints, or products")
        arguments.append(Argument(name, words, index in positive, boolean))
    taken = set().union(*(a.symbols() for a in arguments))
    return tuple(replace(a, name=_fresh(a.name, taken)) for a in arguments)


def _fresh(name: str, taken: set[str]) -> str:
    """`name`, marked until nothing else has it: two arrays of one name would be taken for one."""
    while name in taken:
        name += "'"
    taken.add(name)
    return name


def trace(op: Callable, primal: Callable, arguments: tuple[Argument, ...]) -> Programs:
    """The jaxprs of op, primal and their VJPs, at float32 and the arguments' (maybe symbolic) shapes."""
    scope = export.SymbolicScope()
    structs = [
        jax.ShapeDtypeStruct(a.shape(scope), jnp.bool_ if a.boolean else jnp.float32) for a in arguments
    ]
    outputs, op_outputs = (jax.eval_shape(_float_leaves(f), *structs) for f in (primal, op))
    if not outputs:
        raise ValueError("the primal has no float output: there is nothing to prove")
    if [o.shape for o in outputs] != [o.shape for o in op_outputs]:
        raise ValueError(
            f"the op's outputs have shapes {[o.shape for o in op_outputs]}, "
            f"the primal's {[o.shape for o in outputs]}"
        )
    taken = {a.name for a in arguments}.union(*(a.symbols() for a in arguments))
    cotangents = tuple(
        Argument(_fresh("dy" if len(outputs) == 1 else f"dy{k}", taken), _words(o.shape, arguments, scope))
        for k, o in enumerate(outputs)
    )
    seeds = [jax.ShapeDtypeStruct(output.shape, output.dtype) for output in outputs]
    return Programs(
        arguments,
        cotangents,
        *(jax.make_jaxpr(_float_leaves(f))(*structs) for f in (op, primal)),
        *(jax.make_jaxpr(pullback(f, arguments))(seeds, *structs) for f in (op, primal)),
    )


def _words(
    shape: Sequence[Size], arguments: Sequence[Argument], scope: export.SymbolicScope
) -> tuple[str, ...]:
    """An output's dimensions in the words of the arguments' ones where they are equal."""
    known: dict[str, str] = {}
    for argument in arguments:
        known |= dict(zip(map(str, argument.shape(scope)), argument.words, strict=True))
    return tuple(known.get(str(size), str(size)) for size in shape)


def _float_leaves(function: Callable) -> Callable:
    def leaves(*args):
        # a size may be among the outputs, and is no array
        outputs = [y for y in jax.tree.leaves(function(*args)) if hasattr(y, "dtype")]
        return [y for y in outputs if jnp.issubdtype(y.dtype, jnp.floating)]

    return leaves


def without_custom_rules(function: Callable) -> Callable:
    """The same function of arrays, with the derivative that JAX's primitives give it and no custom rule."""

    def run(*args):
        jaxpr, shapes = jax.make_jaxpr(function, return_shape=True)(*args)
        return jax.tree.unflatten(jax.tree.structure(shapes), _run(jaxpr, args))

    return run


def _run(jaxpr: ClosedJaxpr, args: Sequence[jax.Array]) -> list[jax.Array]:
    return walk(jaxpr, args, _bound, lambda value: value)


def _bound(eqn: JaxprEqn, operands: list[jax.Array]) -> list[jax.Array]:
    inner = called(eqn)
    if inner is not None:
        return _run(inner, operands)
    results = eqn.primitive.bind(*operands, **eqn.params)
    return results if eqn.primitive.multiple_results else [results]


def pullback(function: Callable, arguments: Sequence[Argument]) -> Callable:
    """(cotangents, *args) ↦ the float outputs of function(*args), then one cotangent per float argument."""
    places = [k for k, argument in enumerate(arguments) if argument.differentiated]

    def run(cotangents, *args):
        def partial(*floats):
            return _float_leaves(function)(*replaced(args, places, floats))

        outputs, pull = jax.vjp(partial, *(args[k] for k in places))
        return outputs, pull(list(cotangents))

    return run
