"""What the theorem speaks of, named for Coq: sizes, arguments, their directions, results.  It is trusted."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import count as numbers
from typing import Any

from jax.extend.core import primitives as jaxs

from bnjax.jaxprs import equations
from bnjax.prove.coq.terms import INDICES, Outside
from bnjax.prove.tracing import Argument

_KEYWORDS = (
    "as at by cofix do else end exists exists2 fix for forall fun if IF in let match mod of return then "
    "Set SProp Prop Type using where with"
)
_USED = (
    "sum rsqrt sqrt bit select INR R nat bool True is_derive fst snd s t primal op vjp jvp primal_program "
    "op_program vjp_program jvp_program primal_defined op_defined vjp_defined jvp_defined"
)
_RESERVED = frozenset([*_KEYWORDS.split(), *_USED.split(), *INDICES])


class Names:
    """Names for Coq, each given once."""

    def __init__(self) -> None:
        self.taken = set(_RESERVED)

    def fresh(self, wish: str) -> str:
        """`wish`, made an identifier and marked until nothing else has it."""
        name = wish if re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", wish) else "arg"
        while name in self.taken:
            name += "'"
        self.taken.add(name)
        return name

    def lines(self) -> Iterator[str]:
        """a1, a2, …: the lines of a program, which is a scope of its own."""
        return (name for k in numbers(1) if (name := f"a{k}") not in self.taken)


@dataclass(frozen=True)
class Direction:
    """An argument that moves: its curve is named as it is, its velocity and its cotangent as here."""

    argument: Argument
    velocity: str
    cotangent: str


@dataclass(frozen=True)
class Claim:
    """What the theorem speaks of, named for Coq."""

    sizes: tuple[str, ...]
    arguments: tuple[Argument, ...]
    directions: tuple[Direction, ...]
    cotangents: tuple[Argument, ...]
    outputs: tuple[str, ...]  # of the primal
    op_outputs: tuple[str, ...]
    rule_outputs: tuple[str, ...]  # of op under its hand derivative
    outer: tuple[str, ...]  # the axes that no statistic runs over: the sums over them come first
    inner: tuple[str, ...]

    def call(self, program: str, point: str, first: Sequence[str] = ()) -> str:
        """A program at the sizes, at `first`, and at the curves' `point`."""
        at = [a.name if a.boolean else f"({a.name} {point})" for a in self.arguments]
        return " ".join([program, *self.sizes, *first, *at])


def named(arguments: Sequence[Argument], names: Names) -> tuple[Argument, ...]:
    """The arguments with sizes and names that Coq can read and that nothing else has."""
    symbols = sorted(set().union(*(a.symbols() for a in arguments)))
    renamed = {symbol: names.fresh(symbol) for symbol in symbols}
    if any("'" in name for name in renamed.values()):  # JAX reads sizes too
        renamed = {symbol: names.fresh(f"size_{symbol}") for symbol in symbols}
    if any("*" in word for a in arguments for word in a.words):
        raise Outside("an axis that is a product of sizes")
    for argument in arguments:
        if argument.below:
            raise Outside(f"the integers of {argument.name}")
    return tuple(
        replace(a, name=names.fresh(a.name), words=tuple(renamed.get(w, w) for w in a.words))
        for a in arguments
    )


def claim_of(
    names: Names, arguments: tuple[Argument, ...], outputs: Sequence[Argument], primal: Any
) -> Claim:
    """The claim on a `primal` with these results, everything in it named."""
    sizes = sorted(set().union(*(a.symbols() for a in arguments)))
    cotangents = tuple(replace(a, name=names.fresh(a.name)) for a in outputs)
    directions = tuple(
        Direction(a, names.fresh(f"d_{a.name}"), names.fresh(f"v_{a.name}"))
        for a in arguments
        if a.differentiated
    )
    many = len(cotangents) > 1

    def values(letter: str) -> tuple[str, ...]:
        return tuple(names.fresh(f"{letter}{k}" if many else letter) for k in range(len(cotangents)))

    reduced = set(_reduced(primal))
    axes = list(dict.fromkeys(w for a in cotangents for w in a.words if w != "1"))
    outer = tuple(w for w in axes if w not in reduced and all(w in a.words for a in cotangents))
    inner = tuple(w for w in dict.fromkeys([*axes, *sorted(reduced)]) if w not in outer and w != "1")
    three = values("f"), values("o"), values("y")
    return Claim(tuple(sizes), arguments, directions, cotangents, *three, outer, inner)


def _reduced(jaxpr: Any) -> Iterator[str]:
    """The axes that the program sums over."""
    for eqn in equations(jaxpr):
        axes: Sequence[int] = ()
        if eqn.primitive is jaxs.reduce_sum_p:
            axes = eqn.params["axes"]
        elif eqn.primitive is jaxs.dot_general_p:
            (axes, _), _ = eqn.params["dimension_numbers"]
        aval: Any = eqn.invars[0].aval if axes else None
        yield from (str(aval.shape[k]) for k in axes)
