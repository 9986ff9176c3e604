"""A loop that only adds up is a sum: `scan` with carries that grow by what does not depend on them, or stay.

A loop of few steps, as many as a number says, is these steps one after the other.  Of any other,
carry ← carry + g(x_k) over k, from carry₀, is carry₀ + Σ_k g(x_k), for any number of steps, a symbol too.
That it is of this form is read off the loop's body: a carry is an operand of the one addition that makes the
next, and of nothing else.  The terms of all steps are what `jax.vmap` makes of g.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Primitive, jaxpr_as_fun
from jax.extend.core import primitives as jaxs

from bnjax.jaxprs import shaped
from bnjax.prove.algebra import Outside

LOOPS: frozenset[Primitive] = frozenset((jaxs.scan_p,))
_STEPS = 16


def without_loop(eqn: JaxprEqn) -> ClosedJaxpr:
    """The program of a `scan` as a sum, or as its steps; Outside where it is neither."""
    length = eqn.params["length"]
    try:
        return as_sum(eqn)
    except Outside:
        if not isinstance(length, int) or not 0 < length <= _STEPS:
            raise
    return _unrolled(eqn)


def _unrolled(eqn: JaxprEqn) -> ClosedJaxpr:
    consts, carries, length = (eqn.params[name] for name in ("num_consts", "num_carry", "length"))
    step = jaxpr_as_fun(eqn.params["jaxpr"])

    def run(*operands):
        carry, rows, stacked = operands[consts : consts + carries], operands[consts + carries :], []
        for k in reversed(range(length)) if eqn.params["reverse"] else range(length):
            results = step(*operands[:consts], *carry, *(row[k] for row in rows))
            carry = results[:carries]
            stacked.append(results[carries:])
        if eqn.params["reverse"]:
            stacked.reverse()
        return [*carry, *map(jnp.stack, zip(*stacked, strict=True))]

    return jax.make_jaxpr(run)(*map(_struct, eqn.invars))


def _struct(atom: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shaped(atom).shape, shaped(atom).dtype)


def as_sum(eqn: JaxprEqn) -> ClosedJaxpr:
    """The program of a `scan` without its loop; Outside where a carry does more than to grow."""
    body: ClosedJaxpr = eqn.params["jaxpr"]
    consts, carries = eqn.params["num_consts"], eqn.params["num_carry"]
    places = range(consts, consts + carries)
    held = [body.jaxpr.outvars[k] is body.jaxpr.invars[place] for k, place in enumerate(places)]
    terms = _terms(body, [None if stays else place for stays, place in zip(held, places, strict=True)])

    def run(*operands):
        fixed, start, rows = (
            operands[:consts],
            operands[consts : consts + carries],
            operands[consts + carries :],
        )
        step = jax.vmap(
            lambda *row: jaxpr_as_fun(terms)(*fixed, *start, *row), axis_size=eqn.params["length"]
        )
        results = step(*rows)
        # in the carry's own dtype: a sum of uint8 is one of uint32 by itself
        sums = [
            a if stays else a + jnp.sum(t, 0, dtype=t.dtype)
            for a, t, stays in zip(start, results[:carries], held, strict=True)
        ]
        return [*sums, *results[carries:]]

    return jax.make_jaxpr(run)(*map(_struct, eqn.invars))


def _terms(body: ClosedJaxpr, places: Sequence[int | None]) -> ClosedJaxpr:
    """The body with what is added to each carry in the place of its next value; None for one that stays."""
    jaxpr = body.jaxpr
    outputs = list(jaxpr.outvars)
    sums = []
    for k, place in enumerate(places):
        if place is None:
            continue
        carry = jaxpr.invars[place]
        used = [e for e in jaxpr.eqns if any(v is carry for v in e.invars)]
        if len(used) != 1 or used[0].primitive is not jaxs.add_p or used[0].outvars[0] is not outputs[k]:
            raise Outside("a loop whose carry does more than to grow by what does not depend on it")
        (added,) = [v for v in used[0].invars if v is not carry] or [None]
        others = [e for e in jaxpr.eqns if any(v is outputs[k] for v in e.invars)]
        if added is None or others or outputs.count(outputs[k]) > 1 or isinstance(added, Literal):
            raise Outside("a loop whose carry does more than to grow by what does not depend on it")
        sums.append(used[0])
        outputs[k] = added
    eqns = [e for e in jaxpr.eqns if not any(e is s for s in sums)]
    if any(v is jaxpr.invars[place] for place in places if place is not None for v in outputs):
        raise Outside("a loop that returns its carry")
    names = jaxpr.debug_info.with_unknown_names()
    return ClosedJaxpr(jaxpr.replace(eqns=eqns, outvars=outputs, debug_info=names), body.consts)
