"""What is to be proved of a piece: its rule, or JAX's rule of its primitive, at the sizes of its network."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, Literal, jaxpr_as_fun
from jax.extend.core import primitives as jaxs

from bnjax.jaxprs import called, shaped
from bnjax.prove.algebra import Outside
from bnjax.prove.pieces import Network, Piece, Sizes, Step, Value, at, computed, results_of, symbols_of
from bnjax.prove.proof import Proof
from bnjax.prove.prover import prove_vjp
from bnjax.prove.signs import POSITIVE
from bnjax.prove.space import Size
from bnjax.prove.tracing import without_custom_rules

_SECONDS = 60.0


@dataclass(frozen=True)
class Lemma:
    """A piece, its steps' places among those with rules of their own, and the network at other sizes.

    `network_at` takes whether it is in float64: literals have dtypes, and what runs in float64 has others.
    """

    piece: Piece
    places: tuple[int | None, ...]
    network_at: Callable[[Sizes, bool], Network]
    symbols: tuple[str, ...]  # of the network

    def prove(self) -> Proof:
        """The lemma's proof; refused where it cannot be stated."""
        try:
            shapes = [*map(_shape, self.piece.arguments()), *(f"bool: {name}" for name in self._beside())]
            shapes = _with_split_axes(self.piece, shapes)
        except Outside as problem:
            return Proof("refused", "", reason=str(problem), where=self.piece.where)
        positive = [k for k, value in enumerate(self.piece.arguments()) if is_positive(value)]
        try:
            primal = self._function(self._custom)
            return prove_vjp(self._function(False), primal, *shapes, positive=positive, timeout=_SECONDS)
        except ValueError as problem:  # a kind of argument, or an index, that is not read
            return Proof("refused", "", reason=str(problem), where=self.piece.where)

    @property
    def _custom(self) -> bool:
        return any(place is not None for place in self.places)

    def _beside(self) -> list[str]:
        """The sizes that the piece depends on and no argument has: each is the length of a mask more."""
        seen = {part for v in self.piece.arguments() for size in v.shape.shape for part in _names(size)}
        own = set().union(*map(symbols_of, self.piece.steps))
        needed = self.symbols if self._custom else sorted(own)
        return [name for name in needed if name not in seen]

    def _function(self, plain: bool) -> Callable[..., Any]:
        """The piece as a function of its arguments; `plain` without rules of its own."""
        arguments = self.piece.arguments()
        shapes = [value.shape.shape for value in arguments] + [(name,) for name in self._beside()]

        def run(*args):
            sizes = _sizes(shapes, args)
            given = {
                value: arg if value.active or not _is_float(value) else lax.stop_gradient(arg)
                for value, arg in zip(arguments, args, strict=False)  # and masks that only name sizes
            }
            integers: dict[int | None, Any] = {
                value.number: given[value] for value in given if value.number is not None
            }
            made: dict[Any, Any] = {}
            wide = any(arg.dtype == jnp.float64 for arg in args)
            for mine, place in zip(self.piece.steps, self.places, strict=True):
                step = mine if place is None else _counterpart(self.network_at(sizes, wide), place, mine)
                within = None if place is not None else sizes
                operands = [
                    computed(v, within, integers) if v.fixed else made.get(own.source, given.get(own))
                    for v, own in zip(step.operands, mine.operands, strict=True)
                ]
                if step.custom:
                    results = _custom(step, operands, plain)
                else:
                    results = results_of(step, operands, within, wide)
                made |= {(mine, k): result for k, result in enumerate(results)}
            chosen = [made[output] for output in self.piece.outputs]
            return chosen[0] if len(chosen) == 1 else tuple(chosen)

        return run

    def key(self, sizes: Sizes | None = None) -> tuple:
        """What is the same of two pieces only if one lemma is both's, at these sizes.

        Of two steps with a rule of their own it is that they stand in the same place and look alike: the
        lemma traces the network itself, at every size that it is shown at.
        """
        own = [v for v in self.piece.operands if not v.fixed]
        steps = self.piece.steps
        found = []
        for step, place in zip(steps, self.places, strict=True):
            operands = tuple(self._operand_key(v, own, place, sizes) for v in step.operands)
            what = str(at(step.equation.params, sizes)) if place is None else (place, step.name)
            found.append((id(step.equation.primitive), what, operands))
        return tuple(found), tuple((steps.index(step), k) for step, k in self.piece.outputs)

    def _operand_key(self, v: Value, own: list[Value], place: int | None, sizes: Sizes | None) -> Any:
        if v.fixed:
            return _constant_key(v, sizes) if place is None else None
        if v.source is not None and v.source[0] in self.piece.steps:
            return self.piece.steps.index(v.source[0]), v.source[1]
        shape = str(at(tuple(v.shape.shape), sizes))
        return own.index(v), shape, str(v.shape.dtype), v.active, is_positive(v)


def lemmas(
    network: Network, network_at: Callable[[Sizes, bool], Network], symbols: Sequence[str]
) -> list[Lemma]:
    """The lemmas that a network's gradient rests on, in order."""
    places = {step: place for place, step in enumerate(network.custom())}
    return [
        Lemma(piece, tuple(map(places.get, piece.steps)), network_at, tuple(symbols))
        for piece in network.pieces()
    ]


def is_positive(value: Value) -> bool:
    """Whether it is an array of numbers that are > 0 whatever the network's inputs are."""
    return value.sign == POSITIVE and _is_float(value)


def _is_float(value: Value) -> bool:
    return bool(jnp.issubdtype(value.shape.dtype, jnp.floating))


def _shape(value: Value) -> str:
    """The words for an array of this shape and kind."""
    dtype = value.shape.dtype
    sizes = [str(size) for size in value.shape.shape]
    strange = [size for size in sizes if not re.fullmatch(r"(\w+\*)*\w+", size)]
    if strange:
        raise Outside(f"an axis of {strange[0]} elements")
    if value.below:
        return f"int {value.below}: {' '.join(sizes)}"
    if not _is_float(value) and dtype != jnp.bool_:
        raise Outside(f"numbers of {dtype} that depend on the data")
    return ("" if _is_float(value) else "bool: ") + " ".join(sizes)


def _names(size: Size) -> list[str]:
    """The symbols of a size from which they can be read: of a symbol, and of a multiple of one."""
    names = re.findall(r"[A-Za-z_]\w*", str(size))
    return names if len(names) == 1 and re.fullmatch(r"(\d+\*)?\w+", str(size)) else []


def _with_split_axes(piece: Piece, shapes: list[str]) -> list[str]:
    """The shapes of a reshape with each axis as the product that it is merged of, or split into.

    Those of the result are the shape of a mask that is not used: prove_vjp reads sizes off the arguments.
    """
    step = piece.steps[0]
    if len(piece.steps) > 1 or step.equation.primitive is not jaxs.reshape_p or len(shapes) != 1:
        return shapes
    ends = step.equation.invars[0], step.equation.outvars[0]
    old, new = ([str(size) for size in shaped(end).shape] for end in ends)
    factors = _common_factors(old, new)
    if factors is None:
        return shapes
    before, after = factors
    return [" ".join(before), *(f"bool: {word}" for word in after if "*" in word)]


def _common_factors(old: list[str], new: list[str]) -> tuple[list[str], list[str]] | None:
    """Words for two shapes of one array, row by row, in the same factors; None where there are none."""
    sides = [[size for size in side if size != "1"] for side in (old, new)]
    if [size for size in sides[0] if not size.isdigit()] != [size for size in sides[1] if not size.isdigit()]:
        return None
    words: list[list[list[str]]] = [[[]], [[]]]
    left = [side.pop(0) if side else "1" for side in sides]
    while left != ["1", "1"]:
        if left[0] == left[1]:
            factor = left[0]
        elif all(size.isdigit() for size in left):
            least, most = sorted(map(int, left))
            if least == 1 or most % least:
                return None
            factor = str(least)
        else:
            return None
        for side in (0, 1):
            words[side][-1].append(factor)
            left[side] = "1" if left[side] == factor else str(int(left[side]) // int(factor))
            if left[side] == "1" and sides[side]:
                left[side] = sides[side].pop(0)
                words[side].append([])
    made = []
    for side, shape in ((0, old), (1, new)):
        rest = iter("*".join(part) for part in words[side])
        made.append([size if size == "1" else next(rest) for size in shape])
    return made[0], made[1]


def _sizes(shapes: Sequence[Sequence[Size]], args: Sequence[jax.Array]) -> Sizes:
    """What the size symbols are where the arguments have these shapes."""
    sizes: dict[str, Size] = {}
    for shape, arg in zip(shapes, args, strict=False):
        for size, actual in zip(shape, arg.shape, strict=True):
            for name in _names(size):
                factor = int(str(size).partition("*")[0]) if "*" in str(size) else 1
                sizes[name] = actual if factor == 1 else actual // factor
    return sizes


def _counterpart(network: Network, place: int, step: Step) -> Step:
    """The step of the network at other sizes that stands where `step` does."""
    others = network.custom()
    if place >= len(others) or others[place].name != step.name:
        raise ValueError(f"at these sizes the network has no {step.name} as its rule number {place + 1}")
    return others[place]


def _custom(step: Step, operands: Sequence[Any], plain: bool) -> Sequence[Any]:
    """What a function with a rule of its own returns; `plain` without that rule."""
    eqn = step.equation
    inner = called(eqn)
    assert inner is not None
    if plain:
        return tuple(without_custom_rules(jaxpr_as_fun(inner))(*operands))
    named = {v: x for v, x in zip(eqn.invars, operands, strict=True) if not isinstance(v, Literal)}
    alone = inner.jaxpr.replace(
        constvars=[],
        invars=list(named),
        outvars=eqn.outvars,
        eqns=[eqn],
        effects=eqn.effects,
        debug_info=inner.jaxpr.debug_info.with_unknown_names(),
    )
    return jaxpr_as_fun(ClosedJaxpr(alone, ()))(*named.values())


def _constant_key(value: Value, sizes: Sizes | None) -> Any:
    """What is the same of two fixed values only if they are equal at these sizes."""
    if value.source is None or all(isinstance(size, int) for size in at(value.shape.shape, sizes)):
        try:
            array = np.asarray(computed(value, sizes, {}))
            return array.shape, str(array.dtype), array.tobytes()
        except Exception:  # of a symbol: by what computes it
            pass
    if value.source is None:
        return value.number
    step, position = value.source
    inside = tuple(_constant_key(v, sizes) for v in step.operands)
    return id(step.equation.primitive), position, str(at(step.equation.params, sizes)), inside
