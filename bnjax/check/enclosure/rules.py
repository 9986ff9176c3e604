"""Which rule a primitive has: (machine, eqn, *balls) ↦ the ball of its result, or a list of them."""

from typing import Any

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Primitive

from bnjax.check.enclosure.arithmetic import ARITHMETIC, Rule, move, same
from bnjax.check.enclosure.choice import CHOICE, bits
from bnjax.check.enclosure.indexing import INDEXING, scatter_add
from bnjax.check.enclosure.model import LIBRARY, Ball, Machine, exact, is_number, rounds
from bnjax.check.enclosure.solving import SOLVING, nearby

_RULES: dict[Primitive, Rule] = {**ARITHMETIC, **CHOICE, **INDEXING, **SOLVING}

# those that JAX publishes no object of
_UNPUBLISHED: dict[str, Rule] = {
    "scatter-sub": scatter_add,
    **dict.fromkeys(("split", "tile", "stack", "unstack", "broadcast_to"), move),
    **dict.fromkeys(("optimization_barrier", "pvary"), same),
    **dict.fromkeys(("geqrf", "geqp3", "ormqr", "symmetric_product", "cholesky_update"), nearby),
    **dict.fromkeys((
        "lu_pivots_to_permutation", "random_wrap", "random_unwrap", "random_clone", "iota_2x32_shape",
        "mulhi"), bits),
}  # fmt: skip


def rule(primitive: Primitive) -> Rule | None:
    """The primitive's rule, if it has one."""
    return _RULES.get(primitive) or _UNPUBLISHED.get(primitive.name)


def unknown(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball | list[Ball]:
    """A primitive without a rule: exact in, a rounding out; otherwise nothing is promised.

    NotImplementedError for one that holds a program and cannot be applied alone, such as `shard_map`.
    """
    many = eqn.primitive.multiple_results
    try:
        out = machine.apply(eqn, *(b.value for b in balls))
    except Exception as error:
        if not any(isinstance(value, Jaxpr | ClosedJaxpr) for value in eqn.params.values()):
            raise
        held = f"{eqn.primitive.name} holds a program that the bounds do not follow"
        raise NotImplementedError(held) from error
    made = [_promise(machine, v, all(map(exact, balls))) for v in (out if many else [out])]
    return made if many else made[0]


def _promise(machine: Machine, value: Any, known: bool) -> Ball:
    xp = machine.xp
    if known and rounds(value):
        largest = xp.max(abs(value), initial=0)
        return machine.rounded(value, machine.rounding.unit * largest, LIBRARY)
    if known or not (is_number(value) or value.dtype == np.bool_):
        return Ball(value, None)
    return Ball(value, xp.full(value.shape, np.inf if is_number(value) else True))
