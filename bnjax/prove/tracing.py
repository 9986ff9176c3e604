"""From shapes in words to traced programs: the values and the VJPs of two functions, as jaxprs."""

import inspect
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jax.extend.core import primitives as jaxs

from bnjax.jaxprs import called, equations, parameter_names, replaced, source_line, walk
from bnjax.prove.space import Size


@dataclass(frozen=True)
class Argument:
    """An array of the claim: its name, its dimensions as words ("n", "7", "2*K"), and its kind."""

    name: str
    words: tuple[str, ...]
    positive: bool = False
    boolean: bool = False
    below: str = ""  # of integers: a size, 0 ≤ each < below

    @property
    def differentiated(self) -> bool:
        """Whether it has a cotangent."""
        return not self.boolean and not self.below

    @property
    def dtype(self) -> Any:
        """The dtype that it is traced with."""
        return jnp.bool_ if self.boolean else jnp.int32 if self.below else jnp.float32

    def base_axes(self) -> tuple[tuple[str, ...], ...]:
        """For each dimension the axes it is the product of; none for size 1."""
        return tuple(tuple(b for b in word.split("*") if b != "1") for word in self.words)

    def symbols(self) -> set[str]:
        """The size symbols."""
        words = (*self.words, *([self.below] if self.below else []))
        return {part for word in words for part in word.split("*") if not part.isdigit()}

    def at(self, sizes: Mapping[str, int | str]) -> "Argument":
        """The same argument with numbers, or other words, for the size symbols."""
        *words, below = (
            "*".join(str(sizes.get(b, b)) for b in word.split("*")) for word in (*self.words, self.below)
        )
        return replace(self, words=tuple(words), below=below)

    def shape(self, scope: export.SymbolicScope | None = None) -> tuple[Size, ...]:
        """The shape to trace with: ints, or JAX's symbolic sizes of `scope`."""
        if all(part.isdigit() for word in self.words for part in word.split("*")):
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

    Raises TypeError for a shape that is no string and for indices that are no sequence, and ValueError for a
    shape that is not made of sizes, and for an index in `positive` that is out of range or names a boolean
    argument.
    """
    for index, shape in enumerate(shapes):
        if not isinstance(shape, str):
            raise TypeError(f"shape {index} is a {type(shape).__name__}: shapes are words, such as 'n 3'")
    if not isinstance(positive, Sequence):
        raise TypeError(f"positive is a {type(positive).__name__}: it is indices of arguments, such as (1,)")
    for index in positive:
        if not 0 <= index < len(shapes):
            raise ValueError(f"positive names argument {index}, but there are {len(shapes)} shapes")
        if ":" in shapes[index]:
            raise ValueError(f"positive names argument {index}, which is boolean, or of integers")
    names = parameter_names(primal, len(shapes))
    arguments = []
    for index, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        kind, _, sizes = shape.rpartition(":")
        boolean, below = kind.strip() == "bool", ""
        if kind and not boolean:
            integers = re.fullmatch(r"\s*int\s+([A-Za-z_]\w*|[1-9]\d*)\s*", kind)
            if integers is None:
                raise ValueError(
                    f"shape {index} is {shape!r}: a mask is 'bool: n', labels below C 'int C: n'"
                )
            below = integers[1]
        words = tuple(sizes.replace(",", " ").split())
        for word in words:
            if not re.fullmatch(r"(\w+\*)*\w+", word) or re.search(r"\b(0|\d+[A-Za-z_]\w*)\b", word):
                raise ValueError(
                    f"shape {index} is {shape!r}: sizes are letters, positive ints, or products, "
                    "with spaces between: 'n', 'N 3', '2*K C'"
                )
        arguments.append(Argument(name, words, index in positive, boolean, below))
    taken = set().union(*(a.symbols() for a in arguments))
    return tuple(replace(a, name=_fresh(a.name, taken)) for a in arguments)


def check_count(primal: Callable, shapes: Sequence[str]) -> None:
    """ValueError if `shapes` are not one for each argument of `primal`, as far as Python can tell."""
    try:
        signature = inspect.signature(primal)
    except (TypeError, ValueError):  # of some builtins
        return
    try:
        signature.bind(*shapes)
    except TypeError as error:
        raise ValueError(
            f"the shapes {shapes} are not one for each argument of the primal: {error}"
        ) from None


def _fresh(name: str, taken: set[str]) -> str:
    """`name`, marked until nothing else has it: two arrays of one name would be taken for one."""
    while name in taken:
        name += "'"
    taken.add(name)
    return name


class Structure(NamedTuple):
    """What a function returns: the tree, and for each leaf "float" or the name of another dtype."""

    tree: Any
    kinds: tuple[str, ...]

    def __str__(self) -> str:
        return str(jax.tree.unflatten(self.tree, self.kinds))


def trace(
    op: Callable, primal: Callable, arguments: tuple[Argument, ...], constraints: Sequence[str] = ()
) -> Programs:
    """The jaxprs of op, primal and their VJPs, at float32 and the arguments' (maybe symbolic) shapes.

    `constraints` are inequalities of sizes, as "n >= 7", that decide what Python asks of them.

    Raises ValueError where the two return different structures, shapes or kinds of numbers, and whatever
    the two functions raise.
    """
    scope = export.SymbolicScope(constraints)
    structs = [jax.ShapeDtypeStruct(a.shape(scope), a.dtype) for a in arguments]
    (mine, op_structure), (theirs, structure) = (_program(f, structs) for f in (op, primal))
    if op_structure != structure:
        raise ValueError(f"the op returns {op_structure}, the primal {structure}")
    if [o.shape for o in mine.out_avals] != [o.shape for o in theirs.out_avals]:
        raise ValueError(
            f"the op's outputs have shapes {[o.shape for o in mine.out_avals]}, "
            f"the primal's {[o.shape for o in theirs.out_avals]}"
        )
    outputs = theirs.out_avals[: structure.kinds.count("float")]
    if not outputs:
        raise ValueError("the primal has no float output: there is nothing to prove")
    taken = {a.name for a in arguments}.union(*(a.symbols() for a in arguments))
    cotangents = tuple(
        Argument(_fresh("dy" if len(outputs) == 1 else f"dy{k}", taken), _words(o.shape, arguments, scope))
        for k, o in enumerate(outputs)
    )
    seeds = [jax.ShapeDtypeStruct(output.shape, output.dtype) for output in outputs]
    vjps = (jax.make_jaxpr(pullback(f, arguments))(seeds, *structs) for f in (op, primal))
    return Programs(arguments, cotangents, mine, theirs, *vjps)


def _program(function: Callable, structs: Sequence[jax.ShapeDtypeStruct]) -> tuple[ClosedJaxpr, Structure]:
    """The program of a function, its float outputs first, and what it returns."""
    found: list[Structure] = []

    def run(*args):
        floats, others, structure = split(function, args)
        found.append(structure)
        return [*floats, *others]

    return jax.make_jaxpr(run)(*structs), found[-1]


def split(function: Callable, args: Sequence[Any]) -> tuple[list[jax.Array], list[jax.Array], Structure]:
    """function(*args) as float outputs and others, sizes and Python's numbers being arrays too."""
    leaves, tree = jax.tree.flatten(function(*args))
    arrays = [jnp.asarray(leaf) for leaf in leaves]
    kinds = tuple("float" if jnp.issubdtype(a.dtype, jnp.floating) else str(a.dtype) for a in arrays)
    floats = [a for a, kind in zip(arrays, kinds, strict=True) if kind == "float"]
    others = [a for a, kind in zip(arrays, kinds, strict=True) if kind != "float"]
    return floats, others, Structure(tree, kinds)


def _words(
    shape: Sequence[Size], arguments: Sequence[Argument], scope: export.SymbolicScope
) -> tuple[str, ...]:
    """An output's dimensions in the words of the arguments' ones where they are equal."""
    known: dict[str, str] = {}
    for argument in arguments:
        known |= dict(zip(map(str, argument.shape(scope)), argument.words, strict=True))
    return tuple(known.get(str(size), str(size)) for size in shape)


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
    """(cotangents, *args) ↦ the float outputs of function(*args), the cotangents, the other outputs."""
    places = [k for k, argument in enumerate(arguments) if argument.differentiated]

    def run(cotangents, *args):
        def partial(*floats):
            return split(function, replaced(args, places, floats))[:2]

        outputs, pull, others = jax.vjp(partial, *(args[k] for k in places), has_aux=True)
        seeds = [dy.astype(y.dtype) for dy, y in zip(cotangents, outputs, strict=True)]
        return [*outputs, *pull(seeds), *others]

    return run


def fingerprint(programs: Programs) -> list[str]:
    """What is the same whenever the same programs are traced: their equations, literals and constants."""
    traced = (programs.op, programs.primal, programs.op_vjp, programs.primal_vjp)
    return [mark for jaxpr in traced for mark in marks(jaxpr)]


def is_instance(programs: Programs, general: Programs, sizes: Mapping[str, Any]) -> bool:
    """True only if programs are those of symbolic sizes with numbers put in: what is proved holds of them."""
    here, there = fingerprint(programs), fingerprint(general)
    for name, size in sizes.items():
        there = [re.sub(rf"\b{name}\b", str(size), mark) for mark in there]
    return here == there


def marks(jaxpr: ClosedJaxpr) -> list[str]:
    """A program's equations, literals and constants, as text."""
    text = re.sub(r"0x[0-9a-f]+", "", str(jaxpr))
    found = [re.sub(r"\bnp\.int\d+\((-?\d+)\)", r"\1", text)]
    inside = (v for eqn in equations(jaxpr) for v in eqn.params.values() if isinstance(v, ClosedJaxpr))
    found += [str(np.asarray(constant).tobytes()) for held in (jaxpr, *inside) for constant in held.consts]
    literals = (atom.val for eqn in equations(jaxpr) for atom in eqn.invars if isinstance(atom, Literal))
    return found + [repr(literal) for literal in literals]


def held_constant(programs: Programs) -> list[str]:
    """Where the primal has a `stop_gradient`."""
    found = (source_line(e) for e in equations(programs.primal) if e.primitive is jaxs.stop_gradient_p)
    return list(dict.fromkeys(found))
