"""Loops and branches of exact numbers, run as they stand: for counterexamples, apart from the algebra."""

from collections.abc import Callable, Sequence

import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.prove.reals import Unsupported, as_array

_STEPS = 10_000

Run = Callable[[ClosedJaxpr, Sequence[np.ndarray]], list[np.ndarray]]


def _scan(eqn: JaxprEqn, run: Run, *operands: np.ndarray) -> list[np.ndarray]:
    consts, carried = eqn.params["num_consts"], eqn.params["num_carry"]
    held, carry = operands[:consts], list(operands[consts : consts + carried])
    rows = operands[consts + carried :]
    steps = range(eqn.params["length"])
    stacked: list[list[np.ndarray]] = []
    for step in reversed(steps) if eqn.params["reverse"] else steps:
        results = run(eqn.params["jaxpr"], [*held, *carry, *(as_array(row[step]) for row in rows)])
        carry = results[:carried]
        stacked.append(results[carried:])
    if eqn.params["reverse"]:
        stacked.reverse()
    if not stacked and len(eqn.outvars) > carried:
        raise Unsupported("a loop without steps")
    return [*carry, *(np.stack(column) for column in zip(*stacked, strict=True))]


def _while(eqn: JaxprEqn, run: Run, *operands: np.ndarray) -> list[np.ndarray]:
    p = eqn.params
    first, second = p["cond_nconsts"], p["cond_nconsts"] + p["body_nconsts"]
    asked, held, carry = operands[:first], operands[first:second], list(operands[second:])
    for _ in range(_STEPS):
        if not run(p["cond_jaxpr"], [*asked, *carry])[0].item():
            return carry
        carry = run(p["body_jaxpr"], [*held, *carry])
    raise Unsupported("a loop of many steps")


def _cond(eqn: JaxprEqn, run: Run, which: np.ndarray, *operands: np.ndarray) -> list[np.ndarray]:
    branches = eqn.params["branches"]
    return run(branches[min(max(int(which.item()), 0), len(branches) - 1)], operands)


LOOPS: dict[Primitive, Callable[..., list[np.ndarray]]] = {
    jaxs.cond_p: _cond,
    jaxs.scan_p: _scan,
    jaxs.while_p: _while,
}
