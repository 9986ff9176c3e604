"""`enclose`: a program walked equation by equation, its calls, loops and branches on the way."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.check.enclosure.float64 import NUMPY, widest
from bnjax.check.enclosure.model import Ball, Machine, Rounding, exact, is_number, rounding, rounds
from bnjax.check.enclosure.rules import rule, unknown
from bnjax.check.enclosure.solving import FACTOR, PROBLEMS, directions, reach
from bnjax.jaxprs import called, closed, equations, walk


def enclose(jaxpr: ClosedJaxpr, arguments: Sequence[Any], model: Rounding, xp: Any = np) -> list[Ball]:
    """The balls of `jaxpr`'s results at the exact `arguments`; of nothing, where a loop does not end.

    With `xp=numpy` it runs at once, without compilation; with `xp=jax.numpy` it can be jitted.  Floats
    are float64 throughout, whatever dtype the jaxpr names.
    """
    machine = Machine(xp, model)
    with np.errstate(all="ignore"):
        try:
            return _run(jaxpr, [_point(machine, a) for a in arguments], machine)
        except EndlessError:
            shapes: list[Any] = list(jaxpr.out_avals)
            return [_lost(Ball(np.zeros(a.shape, widest(a.dtype)), None), machine) for a in shapes]


def evaluate(jaxpr: ClosedJaxpr, arguments: Sequence[Any]) -> list[Any]:
    """The values of `enclose` with numpy, without the bounds: in less than half of the time."""
    machine = Machine(np, rounding(np.float64))
    with np.errstate(all="ignore"):
        return _values(jaxpr, [_point(machine, a).value for a in arguments], machine)


def without_bound(jaxpr: ClosedJaxpr) -> list[str]:
    """The names of the primitives in `jaxpr` that have no rule: what is computed from a rounded number
    by one of them has an infinite radius.
    """
    names = dict.fromkeys(
        eqn.primitive.name
        for eqn in equations(jaxpr)
        if not (rule(eqn.primitive) or eqn.primitive in _PROGRAMS or _inner(eqn))
        and any(jnp.issubdtype(getattr(out.aval, "dtype", np.bool_), jnp.inexact) for out in eqn.outvars)
    )
    return list(names)


def _point(machine: Machine, a: Any) -> Ball:
    """An exact ball; a random key is no number and stays as it is."""
    dtype = jnp.result_type(a) if not hasattr(a, "dtype") else a.dtype
    if jnp.issubdtype(dtype, jax.dtypes.extended):
        return Ball(a, None)
    if jnp.issubdtype(dtype, jnp.inexact):
        return Ball(machine.xp.asarray(a, dtype=widest(dtype)), None)
    return Ball(machine.xp.asarray(a), None)


def _inner(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """The program that an equation is a call of, those that JAX publishes no object of among them."""
    unpublished = {"composite": "jaxpr", "custom_vmap_call": "call"}.get(eqn.primitive.name)
    return called(eqn) if unpublished is None else closed(eqn.params[unpublished])


def _run(jaxpr: ClosedJaxpr, arguments: Sequence[Ball], machine: Machine) -> list[Ball]:
    """`jaxpr` at the balls `arguments`."""

    def equation(eqn: JaxprEqn, balls: list[Ball]) -> Sequence[Ball]:
        inner = _inner(eqn)
        if inner is not None:
            return _run(inner, balls, machine)
        if not eqn.outvars:
            return []  # a callback for its effect
        of = _PROGRAMS.get(eqn.primitive) or rule(eqn.primitive) or unknown
        out = of(machine, eqn, *balls)
        return [_settled(b, machine) for b in ([out] if isinstance(out, Ball) else out)]

    return walk(jaxpr, arguments, equation, lambda a: _point(machine, a))


def _settled(ball: Ball, machine: Machine) -> Ball:
    """A point, where what is not rounded is nowhere in doubt; only numpy can tell."""
    if machine.xp is not np or exact(ball) or rounds(ball.value) or np.any(ball.radius):
        return ball
    return Ball(ball.value, None)


def _dense(balls: Sequence[Ball], machine: Machine) -> list[Ball]:
    """Every radius an array, so that a loop's carry keeps its type."""
    return [Ball(b.value, machine.radius(b)) for b in balls]


def _scan_counts(params: Any, operands: int) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].update(list(range(operands))).unpack()  # from JAX 0.12 on
    return len(list(consts)), len(list(carry))


def _scan(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> list[Ball]:
    params = eqn.params
    fixed, carried = _scan_counts(params, len(balls))
    consts, carry, scanned = balls[:fixed], list(balls[fixed : fixed + carried]), balls[fixed + carried :]

    def step(carry: Sequence[Ball], row: Sequence[Ball]) -> tuple[list[Ball], list[Ball]]:
        out = _run(params["jaxpr"], [*consts, *carry, *row], machine)
        return out[:carried], out[carried:]

    if machine.xp is not np:

        def dense_step(carry: Any, row: Any) -> Any:
            return tuple(_dense(part, machine) for part in step(carry, row))

        first, rows = _dense(carry, machine), _dense(scanned, machine)
        last, stacked = jax.lax.scan(dense_step, first, rows, params["length"], params["reverse"])
        return [*last, *stacked]
    found: list[list[Ball]] = []
    for i in range(params["length"])[:: -1 if params["reverse"] else 1]:
        row = [Ball(b.value[i], None if exact(b) else b.radius[i]) for b in scanned]
        carry, results = step(carry, row)
        found.append(results)
    if params["reverse"]:
        found.reverse()
    if not found:
        shapes: list[Any] = [v.aval for v in eqn.outvars[carried:]]
        return [*carry, *(Ball(np.zeros(a.shape, widest(a.dtype)), None) for a in shapes)]
    return [*carry, *(_stacked(column, machine) for column in zip(*found, strict=True))]


def _stacked(balls: Sequence[Ball], machine: Machine) -> Ball:
    values = [b.value for b in balls]
    value = np.stack(values) if isinstance(values[0], np.ndarray | np.generic) else jnp.stack(values)
    return Ball(value, None if all(map(exact, balls)) else np.stack([machine.radius(b) for b in balls]))


_MOST_STEPS = 1000


class EndlessError(Exception):
    """A loop that goes on until numbers are close, which at these they may never be."""


def may_not_end(eqn: JaxprEqn) -> bool:
    """Whether an equation is a loop that asks floats whether to go on."""
    if eqn.primitive is not jaxs.while_p:
        return False
    inside = (v for e in equations(eqn.params["cond_jaxpr"]) for v in e.invars)
    return any(jnp.issubdtype(getattr(v.aval, "dtype", np.bool_), jnp.inexact) for v in inside)


def _while(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> list[Ball]:
    """The loop as it runs; where it was once undecided whether to go on, nothing is promised.

    A loop under vmap has a truth value a lane: it runs while any is True, and changes only those.
    """
    params, xp = eqn.params, machine.xp
    first, second = params["cond_nconsts"], params["body_nconsts"]
    of_test, of_body, carry = balls[:first], balls[first : first + second], list(balls[first + second :])

    def test(carry: Sequence[Ball]) -> Ball:
        (on,) = _run(params["cond_jaxpr"], [*of_test, *carry], machine)
        return on

    def step(carry: Sequence[Ball], on: Any) -> list[Ball]:
        after = _run(params["body_jaxpr"], [*of_body, *carry], machine)
        return (
            after if not on.ndim else [_lanes(on, *pair, machine) for pair in zip(after, carry, strict=True)]
        )

    on = test(carry)
    if xp is np:
        lost, steps = False, 0
        while np.any(on.value):
            steps += 1
            if steps > _MOST_STEPS and may_not_end(eqn):
                raise EndlessError(f"a loop has not ended after {_MOST_STEPS} steps")
            lost = lost or bool(np.any(machine.doubt(on)))
            carry = step(carry, on.value)
            on = test(carry)
        return [_lost(b, machine) for b in carry] if lost or np.any(machine.doubt(on)) else carry

    def body(state: Any) -> Any:
        carry, on, lost = state
        carry = _dense(step(carry, on), machine)
        on = test(carry)
        return carry, on.value, lost | machine.doubt(on).any()

    start = (_dense(carry, machine), on.value, machine.doubt(on).any())
    last, _, lost = jax.lax.while_loop(lambda state: state[1].any(), body, start)
    return [Ball(b.value, jnp.where(lost, _lost(b, machine).radius, b.radius)) for b in last]


def _lanes(on: Any, after: Ball, before: Ball, machine: Machine) -> Ball:
    """The state after a step, in the lanes that are on."""

    def chosen(new: Any, old: Any) -> Any:
        return machine.xp.where(on.reshape(on.shape + (1,) * (new.ndim - on.ndim)), new, old)

    if exact(after) and exact(before):
        return Ball(chosen(after.value, before.value), None)
    return Ball(chosen(after.value, before.value), chosen(machine.radius(after), machine.radius(before)))


def _lost(ball: Ball, machine: Machine) -> Ball:
    """The value, and no promise."""
    return Ball(ball.value, machine.xp.full(ball.value.shape, np.inf if is_number(ball.value) else True))


def _cond(machine: Machine, eqn: JaxprEqn, which: Ball, *balls: Ball) -> list[Ball]:
    """The branch, and where it is undecided which, every branch."""
    branches = eqn.params["branches"]
    if machine.xp is not np and exact(which):
        runs = [lambda b, c=c: _dense(_run(c, b, machine), machine) for c in branches]
        return list(jax.lax.switch(jnp.asarray(which.value, np.int32), runs, list(balls)))
    doubt = machine.doubt(which)
    if machine.xp is np:
        at = int(np.clip(which.value, 0, len(branches) - 1))
        if not doubt:
            return _run(branches[at], balls, machine)
        every = [_run(c, balls, machine) for c in branches]
        chosen = every[at]
    else:
        every = [_run(c, balls, machine) for c in branches]
        index = jnp.clip(jnp.asarray(which.value, np.int32), 0, len(branches) - 1)
        chosen = [_picked(index, column, machine) for column in zip(*every, strict=True)]
    return [
        _union(c, doubt, column, machine) for c, column in zip(chosen, zip(*every, strict=True), strict=True)
    ]


def _picked(index: Any, balls: Sequence[Ball], machine: Machine) -> Ball:
    values = jax.lax.select_n(index, *(jnp.asarray(b.value) for b in balls))
    return Ball(values, jax.lax.select_n(index, *(machine.radius(b) for b in balls)))


def _union(chosen: Ball, doubt: Any, balls: Sequence[Ball], machine: Machine) -> Ball:
    """`chosen`, where in doubt with a radius that reaches all of `balls`."""
    reach = machine.radius(chosen)
    for ball in balls:
        if is_number(chosen.value):
            farthest = machine.apart(ball.value, chosen.value) + machine.radius(ball)
            reach = machine.xp.maximum(reach, farthest)
        elif chosen.value.dtype == np.bool_:
            reach = reach | (ball.value != chosen.value) | machine.radius(ball)
    return Ball(chosen.value, machine.xp.where(doubt, reach, machine.radius(chosen)))


def _values(jaxpr: ClosedJaxpr, arguments: Sequence[Any], machine: Machine) -> list[Any]:
    """What `jaxpr` computes in float64, without radii.

    What JAX would have to compile goes by its rule; for JAX itself loops and branches are left as they are.
    """

    def equation(eqn: JaxprEqn, values: list[Any]) -> Sequence[Any]:
        inner = _inner(eqn)
        if inner is not None:
            return _values(inner, values, machine)
        if not eqn.outvars:
            return []
        if machine.xp is np and eqn.primitive not in NUMPY:
            of = _PROGRAMS.get(eqn.primitive) or rule(eqn.primitive) or unknown
            balls = of(machine, eqn, *(Ball(v, None) for v in values))
            return [b.value for b in ([balls] if isinstance(balls, Ball) else balls)]
        out = machine.apply(eqn, *values)
        return out if eqn.primitive.multiple_results else [out]

    return walk(jaxpr, arguments, equation, lambda a: _point(machine, a).value)


def _linear_solve(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> list[Ball]:
    """x with A·x = b, and how far x is from it where A and b are near: A·δx = δb − δA·x, to first order.

    How the solver factorizes A does not enter: it is backward stable as a whole.
    """
    lengths, programs = eqn.params["const_lengths"], eqn.params["jaxprs"]
    start = lengths.matvec + lengths.vecmat
    matrix, factors, right = (
        balls[: lengths.matvec],
        balls[start : start + lengths.solve],
        balls[sum(lengths) :],
    )

    def values(program: ClosedJaxpr, *arrays: Any) -> list[Any]:
        return _values(program, arrays, machine)

    def moved(balls: Sequence[Ball]) -> list[Any]:
        return [
            b.value + directions(rng, b.value.shape) * reach(machine, b)
            if rounds(b.value) and b.value.size
            else b.value
            for b in balls
        ]

    rng, factored = np.random.default_rng(0), [b.value for b in factors]
    solution = values(programs.solve, *factored, *(b.value for b in right))
    product = values(programs.matvec, *(b.value for b in matrix), *solution)
    farthest = [0 * abs(x) for x in solution]
    for _ in range(PROBLEMS):
        near = values(programs.matvec, *moved(matrix), *solution)
        rest = [m - b.value - (n - p) for m, b, n, p in zip(moved(right), right, near, product, strict=True)]
        steps = values(programs.solve, *factored, *rest)
        farthest = [machine.xp.maximum(f, abs(s)) for f, s in zip(farthest, steps, strict=True)]
    return [machine.rounded(x, FACTOR * f, FACTOR) for x, f in zip(solution, farthest, strict=True)]


_PROGRAMS: dict[Primitive, Callable[..., list[Ball]]] = {
    jaxs.scan_p: _scan,
    jaxs.while_p: _while,
    jaxs.cond_p: _cond,
    jaxs.linear_solve_p: _linear_solve,
}
