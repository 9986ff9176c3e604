"""In float32, in bfloat16 and in the dtypes that came: the bounds are those of that precision."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.check import compare, enclosure
from bnjax.check.cases import Case, Peer, Program
from bnjax.check.enclosure import Rounding
from bnjax.check.examination import Examination
from bnjax.check.points import Point, Setting
from bnjax.check.problem import Problem
from bnjax.check.programs import Outcome, forward_program, trace, vjp_program
from bnjax.check.report import Failure, Finding, says, stage_of
from bnjax.check.sizes import Role

_ROUNDINGS = 2  # of the largest slope at an ordinary point: what 1 − y loses where y is nearly 1


def plans(problem: Problem) -> dict[str, list[Any]]:
    """The dtypes to run the arguments in, beside float64: stage ↦ a dtype for each array."""
    given = problem.float_dtypes(problem.dtypes)

    def all_in(dtype: Any) -> list[Any]:
        return problem.put(problem.dtypes, [np.dtype(dtype)] * len(given))

    found = {"float32": all_in(np.float32), "bfloat16": all_in(jnp.bfloat16)}
    if len(set(given)) > 1 or given[0] not in (np.float32, jnp.bfloat16, np.float64):
        found["given dtypes"] = problem.dtypes
    return found


def cases(exam: Examination) -> Iterator[Case | Finding]:
    """Small arguments rounded to each dtype, against the float64 reference at the rounded arguments."""
    chosen = [s for s in exam.settings if s.shrunk is None or s.shrunk.role is not Role.VALUE]
    for stage, dtypes in plans(exam.problem).items():
        if exam.endless:
            yield Finding(
                stage, skipped="a loop goes on until numbers are close, which in it they may never be"
            )
            continue
        for setting in chosen or exam.settings:
            yield from _at(exam, stage, dtypes, setting)


def _at(exam: Examination, stage: str, dtypes: list[Any], setting: Setting) -> Iterator[Case | Finding]:
    problem = exam.problem
    try:
        results = result_dtypes(problem, problem.cast(setting.narrow[0], dtypes))
    except Exception as error:
        yield Finding(stage, skipped=f"the primal raises {says(error)}")
        return
    points = [
        Point(
            f"{point.where}, {stage}",
            problem.cast(arrays, dtypes),
            [c.astype(d) for c, d in zip(point.cotangents, results, strict=True)],
            point.names,
            stage,
        )
        for point, arrays in zip(setting.points, setting.narrow, strict=True)
    ]
    program = Program(partial(vjp_program, problem=problem), points[0].arguments, "compiled", problem.x64)
    with jax.enable_x64(problem.x64):  # the primal may depend on the dtype: an ε of its own, another mask
        jaxpr = trace(vjp_program(problem.primal, problem), *points[0].arguments)
    rounding = working(problem, dtypes, results)
    slopes: list[float] = []
    for point in points:
        wide = point.widened(problem)
        expected = exam.reference(jaxpr, wide, rounding)
        slopes = slopes or expected.slopes(wide.cotangents)  # of the ordinary point, the first
        if point.hot:
            expected = expected.by_elements(point.hot, wide.cotangents)
        if exam.solves and setting.op:
            expected = expected.beside_solver(exam.reference(setting.op.jaxpr, wide, rounding))
        if setting.shrunk is None or point is not points[0]:
            expected = expected.beside_slopes(slopes, wide.cotangents, _ROUNDINGS * rounding.unit)
        yield Case(
            stage, point, program, point.arguments, expected, partial(judge, results=results), _raised, True
        )


def result_dtypes(problem: Problem, arrays: Sequence[Any]) -> list[Any]:
    """Of the primal's floating results at `arrays`."""
    with jax.enable_x64(problem.x64):
        return [r.dtype for r in jax.eval_shape(forward_program(problem.primal, problem), arrays)[0]]


def working(problem: Problem, dtypes: Sequence[Any], results: Sequence[Any]) -> Rounding:
    """The precision of the narrowest of the arguments and results."""
    return enclosure.rounding(max([*problem.float_dtypes(dtypes), *results], key=_unit))


def _unit(dtype: Any) -> float:
    return float(jnp.finfo(dtype).eps)


def judge(
    problem: Problem, case: Case, outcome: Outcome, peer: Peer, *, results: Sequence[Any]
) -> Iterator[Finding]:
    """Dtypes and numbers; `results` are the dtypes of the primal's."""
    yield from compare.dtypes(problem, case, outcome, results)
    yield from compare.hold(problem, case, outcome, peer)


def _raised(problem: Problem, case: Case, error: Exception, peer: Peer) -> Finding:
    """A rule need not take every dtype, but what its forward pass takes its backward pass must.

    What XLA does not run for the primal either counts against nobody, nor does a kernel that it has not in a
    dtype that nobody gave: LU in bfloat16, which the primal avoids on small matrices alone, or FFT.
    """
    own = peer()
    if isinstance(own, Exception):
        return Finding(case.stage, skipped=f"the primal raises {says(own)}")
    kind, arrays = stage_of(error), case.point.arrays
    if kind == "raises" and any(arrays[i].dtype != problem.dtypes[i] for i in problem.floats):
        if isinstance(error, NotImplementedError) or "FFT input must be" in str(error):
            return Finding(case.stage, skipped=f"the op raises {says(error)}")
        try:
            result_dtypes(replace(problem, primal=problem.op), arrays)
        except Exception:
            return Finding(case.stage, skipped=f"the op raises {says(error)}")
    stage = case.stage if kind == "raises" else kind
    return Finding(failure=Failure(stage, "", case.point.where, message=f"the op raises {says(error)}"))
