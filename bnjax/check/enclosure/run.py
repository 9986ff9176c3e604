"""`enclose`: a program walked equation by equation, its calls, loops and branches on the way."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.check.enclosure.model import Ball, Rounding
from bnjax.check.enclosure.rules import Machine, exact, rule
from bnjax.jaxprs import called, walk


def enclose(jaxpr: ClosedJaxpr, arguments: Sequence[Any], rounding: Rounding, xp: Any = np) -> list[Ball]:
    """The balls of `jaxpr`'s results at the exact `arguments`.

    With `xp=numpy` it runs at once, without compilation; with `xp=jax.numpy` it can be jitted.  Floats
    are float64 throughout, whatever dtype the jaxpr names.
    """
    balls = [Ball(_wide(a, xp), None) for a in arguments]
    with np.errstate(all="ignore"):
        return _run(jaxpr, balls, Machine(xp, rounding))


def _wide(a: Any, xp: Any) -> Any:
    if jnp.issubdtype(jnp.result_type(a), jnp.floating):
        return xp.asarray(a, dtype=np.float64)
    return xp.asarray(a) if xp is np and isinstance(a, np.ndarray | np.generic | bool | int) else a


def _run(jaxpr: ClosedJaxpr, arguments: Sequence[Ball], machine: Machine) -> list[Ball]:
    """`jaxpr` at the balls `arguments`."""

    def constant(a: Any) -> Ball:
        return Ball(_wide(np.asarray(a) if machine.xp is np else a, machine.xp), None)

    def equation(eqn: JaxprEqn, balls: list[Ball]) -> Sequence[Ball]:
        inner = called(eqn)
        if inner is not None:
            return _run(inner, balls, machine)
        out = (_PROGRAMS.get(eqn.primitive) or rule(eqn.primitive))(machine, eqn, *balls)
        return [out] if isinstance(out, Ball) else out

    return walk(jaxpr, arguments, equation, constant)


def _dense(balls: Sequence[Ball], xp: Any) -> list[Ball]:
    """Every radius an array, so that a loop's carry keeps its type."""
    return [Ball(b.value, xp.zeros_like(b.value) if exact(b) else b.radius) for b in balls]


def _scan_counts(params: Any, operands: int) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].update(list(range(operands))).unpack()  # from JAX 0.12 on
    return len(list(consts)), len(list(carry))


def _scan(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> list[Ball]:
    params, xp = eqn.params, machine.xp
    body, length = params["jaxpr"], params["length"]
    fixed, carried = _scan_counts(params, len(balls))
    consts, scanned = balls[:fixed], _dense(balls[fixed + carried :], xp)
    carry: Sequence[Ball] = balls[fixed : fixed + carried]

    def step(carry: Sequence[Ball], slices: Sequence[Ball]) -> tuple[list[Ball], list[Ball]]:
        out = _dense(_run(body, [*consts, *carry, *slices], machine), xp)
        return out[:carried], out[carried:]

    if xp is not np:
        last, stacked = jax.lax.scan(step, _dense(carry, xp), scanned, length, params["reverse"])
        return [*last, *stacked]
    rows: list[list[Ball]] = []
    for i in range(length)[:: -1 if params["reverse"] else 1]:
        carry, row = step(carry, [Ball(b.value[i], b.radius[i]) for b in scanned])
        rows.append(row)
    if params["reverse"]:
        rows.reverse()
    if not rows:
        shapes: list[Any] = [v.aval for v in eqn.outvars[carried:]]
        return [*carry, *(Ball(np.zeros(a.shape, a.dtype), None) for a in shapes)]
    return [
        *carry,
        *(
            Ball(np.stack([b.value for b in c]), np.stack([b.radius for b in c]))
            for c in zip(*rows, strict=True)
        ),
    ]


def _while(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> list[Ball]:
    params, xp = eqn.params, machine.xp
    test, body = params["cond_jaxpr"], params["body_jaxpr"]
    first, second = params["cond_nconsts"], params["body_nconsts"]
    test_consts, body_consts = balls[:first], balls[first : first + second]

    def go_on(carry: Any) -> Any:
        return _run(test, [*test_consts, *carry], machine)[0].value

    def step(carry: Any) -> list[Ball]:
        return _dense(_run(body, [*body_consts, *carry], machine), xp)

    carry = _dense(balls[first + second :], xp)
    if xp is not np:
        return list(jax.lax.while_loop(go_on, step, carry))
    while np.all(go_on(carry)):
        carry = step(carry)
    return carry


def _cond(machine: Machine, eqn: JaxprEqn, which: Ball, *balls: Ball) -> list[Ball]:
    branches = eqn.params["branches"]
    if machine.xp is np:
        chosen = branches[int(np.clip(which.value, 0, len(branches) - 1))]
        return _run(chosen, balls, machine)
    return list(
        jax.lax.switch(
            jnp.asarray(which.value, np.int32),
            [lambda b, c=c: _dense(_run(c, b, machine), jnp) for c in branches],
            list(balls),
        )
    )


_PROGRAMS: dict[Primitive, Callable[..., list[Ball]]] = {
    jaxs.scan_p: _scan,
    jaxs.while_p: _while,
    jaxs.cond_p: _cond,
}
