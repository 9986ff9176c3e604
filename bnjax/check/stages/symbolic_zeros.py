"""Each argument differentiated by itself, each result used by itself: rules that ask which of them are.

With `symbolic_zeros` a rule is told which arguments are differentiated and which results are used.  All
other stages differentiate and use all of them, and any other rule cannot tell the difference.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from bnjax.check import compare
from bnjax.check.cases import Case, Program, failing
from bnjax.check.examination import Examination
from bnjax.check.problem import Function, Problem
from bnjax.check.programs import Outcome, forward_program, trace
from bnjax.jaxprs import equations

STAGE = "symbolic zeros"


def cases(exam: Examination) -> Iterator[Case]:
    """At the main setting, along one cotangent, where the op's rule is told."""
    if exam.main is None or not _is_told(exam):
        return
    point = exam.main.points[0].one
    expected = exam.reference(exam.slice, point, exam.working)
    for of in (_arguments_apart, _results_apart):
        program = Program(partial(of, problem=exam.problem), point.arguments)
        yield Case(
            STAGE, point, program, point.arguments, expected, compare.hold, failing(STAGE), exam.narrow
        )


def _is_told(exam: Examination) -> bool:
    """Whether the op has a rule with symbolic zeros; if it cannot be traced, that is for other stages."""
    assert exam.main is not None
    try:
        jaxpr = trace(forward_program(exam.problem.op, exam.problem), exam.main.points[0].arrays)
    except Exception:
        return False
    return any(eqn.params.get("symbolic_zeros") for eqn in equations(jaxpr))


def _arguments_apart(fun: Function, problem: Problem) -> Callable[..., Outcome]:
    """A `vjp_program` of one row in which every cotangent comes from a VJP in its argument alone."""
    forward = forward_program(fun, problem)

    def program(arrays: Sequence[Any], cotangents: Sequence[Any]) -> Outcome:
        pulled = []
        for i in problem.floats:

            def alone(a: Any, i: int = i) -> Any:
                return forward([a if k == i else b for k, b in enumerate(arrays)])

            results, backward, others = jax.vjp(alone, jnp.asarray(arrays[i]), has_aux=True)
            pulled += backward(_row(cotangents, results))
        return Outcome([r[None] for r in results], [o[None] for o in others], [p[None] for p in pulled])

    return program


def _results_apart(fun: Function, problem: Problem) -> Callable[..., Outcome]:
    """The same in which every cotangent is the sum of those of the results, each used by itself."""
    forward = forward_program(fun, problem)

    def program(arrays: Sequence[Any], cotangents: Sequence[Any]) -> Outcome:
        results, others = forward(arrays)
        row, sums = _row(cotangents, results), None
        for k in range(len(results)):

            def alone(floats: Sequence[Any], k: int = k) -> Any:
                return forward(problem.put(arrays, floats))[0][k]

            (pulled,) = jax.vjp(alone, problem.pick(arrays))[1](row[k])
            sums = pulled if sums is None else [a + b for a, b in zip(sums, pulled, strict=True)]
        return Outcome([r[None] for r in results], [o[None] for o in others], [s[None] for s in sums or ()])

    return program


def _row(cotangents: Sequence[Any], results: Sequence[Any]) -> list[Any]:
    return [jnp.asarray(c)[0].astype(r.dtype) for c, r in zip(cotangents, results, strict=True)]
