"""The op under JAX's transformations: batched, eager, twice in a row, and differentiated again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.check import compare, probes
from bnjax.check.cases import Case, Peer, Program, failing
from bnjax.check.examination import Examination
from bnjax.check.points import Point
from bnjax.check.problem import Function, Problem
from bnjax.check.programs import Outcome, forward_program, second_order_program, trace, vjp_program
from bnjax.check.reference import Reference, of_program
from bnjax.check.report import Finding, says

STAGES = ("jit", "determinism", "vmap", "reverse over reverse", "forward over reverse")
_FEW = ("ones", "random")  # cotangents, where each costs a backward pass of its own

# what the op returned at a point, and what it should have: here it is held to itself, right or wrong
Returned = Mapping[Point, tuple[Reference, Outcome]]


def cases(exam: Examination, returned: Returned) -> Iterator[Case | Finding]:
    """Every transformation, at the main setting."""
    if exam.main is None:
        yield from (Finding(s, skipped="the primal takes no small arguments") for s in STAGES)
        return
    points = [p for p in exam.main.points if p in returned]
    if points:
        yield from _vmap(exam.problem, points, returned, exam.narrow)
        yield from _eager(exam.problem, points[:2], returned, exam.narrow)
    for stage in STAGES[3:]:
        yield _second_order(exam, exam.main.points[0], stage)


# --- vmap -------------------------------------------------------------------------------------------------


def _vmap(problem: Problem, points: Sequence[Point], returned: Returned, narrow: bool) -> Iterator[Case]:
    """Rule and all under vmap, over the points: at each, what comes back without vmap."""

    def of(fun: Function) -> Callable[..., Outcome]:
        batched = jax.vmap(vjp_program(fun, problem))
        return lambda arrays, cotangents, k: jax.tree.map(lambda a: a[k], batched(arrays, cotangents))

    arrays = [
        jnp.stack(list(map(jnp.asarray, column))) for column in zip(*(p.arrays for p in points), strict=True)
    ]
    cotangents = [np.stack(column) for column in zip(*(p.cotangents for p in points), strict=True)]
    program = Program(of, (arrays, cotangents, 0), "compiled")
    for k, point in enumerate(points):
        arguments = (arrays, cotangents, k)
        standard, outcome = returned[point]
        expected, raised = standard.about(outcome), failing("vmap", "under vmap ")
        yield Case("vmap", point, program, arguments, expected, compare.hold, raised, narrow, standard)


# --- eager ------------------------------------------------------------------------------------------------


def _eager(problem: Problem, points: Sequence[Point], returned: Returned, narrow: bool) -> Iterator[Case]:
    """Without jit the same as with it; and again, with another point's forward pass in between."""
    chosen = [i for i, name in enumerate(points[0].names) if name in _FEW]
    few = {p: p.rows(chosen) for p in points}
    once = Program(partial(_one_by_one, problem=problem), (), "eager")
    again = Program(partial(_both_first, problem=problem), (), "eager")
    every = [few[p].arguments for p in points]
    for k, point in enumerate(points):
        standard, outcome = returned[point]
        expected, standard = standard.about(outcome).rows(chosen), standard.rows(chosen)
        runs = {"jit": (once, few[point].arguments), "determinism": (again, (every, k))}
        for stage, (program, arguments) in runs.items():
            raised = failing("jit", "without jit ")
            yield Case(
                stage, few[point], program, arguments, expected, compare.hold, raised, narrow, standard
            )


def _one_by_one(fun: Function, problem: Problem) -> Callable[..., Outcome]:
    """A `vjp_program` whose rows are pulled back one at a time."""

    def program(arrays: Sequence[Any], cotangents: Sequence[Any]) -> Outcome:
        return _pulled(_forward(fun, problem, arrays), cotangents)

    return program


def _both_first(fun: Function, problem: Problem) -> Callable[..., Outcome]:
    """The same for one of several points, once the forward pass has been at all of them."""

    def program(every: Sequence[Any], k: int) -> Outcome:
        passes = [_forward(fun, problem, arrays) for arrays, _ in every]
        return _pulled(passes[k], every[k][1])

    return program


def _forward(fun: Function, problem: Problem, arrays: Sequence[Any]) -> Any:
    forward, arrays = forward_program(fun, problem), list(map(jnp.asarray, arrays))
    return jax.vjp(lambda floats: forward(problem.put(arrays, floats)), problem.pick(arrays), has_aux=True)


def _pulled(forward: Any, cotangents: Sequence[Any]) -> Outcome:
    (results, backward, others), count = forward, len(cotangents[0])
    rows = [
        backward([jnp.asarray(c[i], r.dtype) for c, r in zip(cotangents, results, strict=True)])[0]
        for i in range(count)
    ]
    pulled = [jnp.stack(column) for column in zip(*rows, strict=True)]
    return Outcome([r[None] for r in results], [o[None] for o in others], pulled)


# --- second order -----------------------------------------------------------------------------------------


def _second_order(exam: Examination, point: Point, stage: str) -> Case | Finding:
    """The derivative of the op's VJP against that of the primal's, backward and forward over it."""
    problem, along = exam.problem, point.one
    directions = _directions(exam, along)[stage]
    of = partial(second_order_program, problem=problem, forward=stage == "forward over reverse")
    arguments = (*along.arguments, directions)
    try:
        jaxpr = trace(of(problem.primal), *arguments)
    except Exception as error:
        return Finding(stage, skipped=f"the primal's VJP cannot be differentiated: {says(error)}")
    rest = jax.tree.leaves(arguments[1:])
    expected = of_program(problem, jaxpr, (point.arrays, rest), exam.working, kinks=exam.kinks, order=2)

    def skipped(problem: Problem, case: Case, error: Exception, peer: Peer) -> Finding:
        return Finding(stage, skipped=f"the op's VJP cannot be differentiated: {says(error)}")

    return Case(
        stage,
        replace(along, dtype=""),
        Program(of, arguments),
        arguments,
        expected,
        compare.hold,
        skipped,
        exam.narrow,
    )


def _directions(exam: Examination, along: Point) -> dict[str, Any]:
    """Weights for the VJP's results; tangents for its arguments."""
    rng = probes.generator(2, 7)
    floats = [np.asarray(along.arrays[i]) for i in exam.problem.floats]
    weights = [rng.normal(size=f.shape) for f in floats]
    tangents = [rng.normal(size=f.shape) * np.max(abs(f), initial=1e-3) for f in floats]
    return {
        "reverse over reverse": weights,
        "forward over reverse": (tangents, [rng.normal(size=c.shape) for c in along.cotangents]),
    }
