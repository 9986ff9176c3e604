"""The op under JAX's transformations: batched, eager, twice in a row, and differentiated again."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
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
from bnjax.check.stages.wide import ROUNDINGS
from bnjax.jaxprs import equations

STAGES = ("jit", "determinism", "vmap", "reverse over reverse", "forward over reverse")
_TOLD = frozenset({"custom_vmap_call", "ffi_call", "pallas_call", "pure_callback"})
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
        yield from _undifferentiated(exam.problem, points, returned, exam.narrow)
        yield from _vmap(exam, points, returned)
        yield from _mapped(exam, points[:2], returned)
        yield from _eager(exam.problem, points[:2], returned, exam.narrow)
    along = exam.main.points[0].one
    slopes = exam.reference(exam.slice, along, exam.working).slopes(along.cotangents)
    for stage in STAGES[3:]:
        yield _second_order(exam, along, stage, max(slopes))


# --- no derivative ----------------------------------------------------------------------------------------


def _undifferentiated(
    problem: Problem, points: Sequence[Point], returned: Returned, narrow: bool
) -> Iterator[Case]:
    """The value of the op called for itself: a rule's forward pass is another program."""

    def of(fun: Function) -> Callable[..., Outcome]:
        forward = forward_program(fun, problem)

        def program(arrays: Sequence[Any]) -> Outcome:
            results, others = forward(arrays)
            return Outcome([r[None] for r in results], [o[None] for o in others], [])

        return program

    program = Program(of, (points[0].arrays,))
    for point in points:
        alone = replace(point, where=f"{point.where}, not differentiated", cotangents=[])
        expected, raised = returned[point][0].value(), failing("raises", "not differentiated ")
        yield Case("primal value", alone, program, (point.arrays,), expected, compare.hold, raised, narrow)


# --- vmap -------------------------------------------------------------------------------------------------


def _vmap(exam: Examination, points: Sequence[Point], returned: Returned) -> Iterator[Case]:
    """Rule and all under vmap, over the points: at each, what comes back without vmap."""

    def of(fun: Function) -> Callable[..., Outcome]:
        batched = jax.vmap(vjp_program(fun, exam.problem))
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
        judge = compare.holding(exam.may_overflow(point))
        yield Case("vmap", point, program, arguments, expected, judge, raised, exam.narrow, standard)


def _mapped(exam: Examination, points: Sequence[Point], returned: Returned) -> Iterator[Case]:
    """Under vmap the arrays and one cotangent, then each array alone, where a rule is told which they are.

    What comes back is held to the primal, for a rule that is right without vmap.
    """
    if not _is_told(exam.problem, points[0].one.arguments):
        return
    if any(np.any(w.ratio > 1) for p in points for w in returned[p][0].weigh(returned[p][1])):
        return
    rows = [jax.tree.leaves(p.one.arguments) for p in points]
    count = len(points[0].arrays)
    for chosen in (range(len(rows[0])), *([i] for i in range(count))):
        stacked = [
            jnp.stack(list(map(jnp.asarray, column))) if i in chosen else column[0]
            for i, column in enumerate(zip(*rows, strict=True))
        ]
        program = Program(partial(_over, problem=exam.problem, chosen=chosen), (stacked, 0))
        for k, point in enumerate(points):
            lane = [rows[k if i in chosen else 0][i] for i in range(len(rows[0]))]
            where = replace(point.one, arrays=lane[:count], cotangents=lane[count:])
            expected = exam.reference(exam.slice, where, exam.working)
            raised = failing("vmap", "under vmap ")
            yield Case("vmap", where, program, (stacked, k), expected, compare.hold, raised, exam.narrow)


def _is_told(problem: Problem, like: Any) -> bool:
    """Whether the op or its rule has a rule of its own for vmap, or leaves JAX."""
    jaxpr = trace(vjp_program(problem.op, problem, batched=False), *like)
    return any(eqn.primitive.name in _TOLD for eqn in equations(jaxpr))


def _over(fun: Function, problem: Problem, chosen: Container[int]) -> Callable[..., Outcome]:
    """Lane k of a `vjp_program` of one row under vmap over the `chosen` of arrays and cotangents."""
    count, single = len(problem.arrays), vjp_program(fun, problem, batched=False)

    def program(stacked: Sequence[Any], k: int) -> Outcome:
        axes = [0 if i in chosen else None for i in range(len(stacked))]
        lanes = jax.vmap(lambda leaves: single(leaves[:count], leaves[count:]), (axes,))(list(stacked))
        return jax.tree.map(lambda a: a[k], lanes)

    return program


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


def _second_order(exam: Examination, along: Point, stage: str, slope: float) -> Case | Finding:
    """The derivative of the op's VJP against that of the primal's, backward and forward over it.

    `slope` is the largest of the first derivative.
    """
    problem = exam.problem
    directions = _directions(exam, along)[stage]
    of = partial(second_order_program, problem=problem, forward=stage == "forward over reverse")
    arguments = (*along.arguments, directions)
    try:
        jaxpr = trace(of(problem.primal), *arguments)
    except Exception as error:
        return Finding(stage, skipped=f"the primal's VJP cannot be differentiated: {says(error)}")
    rest = jax.tree.leaves(arguments[1:])
    expected = of_program(problem, jaxpr, (along.arrays, rest), exam.working, kinks=exam.kinks, order=2)
    expected = expected.beside_slopes([slope] * len(expected.cotangents), along.cotangents, ROUNDINGS)
    if stage == STAGES[3]:  # the others are seen along `_directions`
        expected = expected.without(exam.constant | problem.distributions)

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
    """Weights for the VJP's results; tangents for its arguments.

    What is detached stays a constant, and what sums to 1 goes on doing so.
    """
    rng = probes.generator(2, 7)
    floats = [np.asarray(along.arrays[i]) for i in exam.problem.floats]
    weights = [rng.normal(size=f.shape) for f in floats]
    tangents = [
        rng.normal(size=f.shape) * (0 if j in exam.constant else np.max(abs(f), initial=1e-3))
        for j, f in enumerate(floats)
    ]
    tangents = [
        t - np.mean(t, -1, keepdims=True) if j in exam.problem.distributions else t
        for j, t in enumerate(tangents)
    ]
    return {
        "reverse over reverse": weights,
        "forward over reverse": (tangents, [rng.normal(size=c.shape) for c in along.cotangents]),
    }
