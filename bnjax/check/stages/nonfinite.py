"""NaN and infinity: what is not finite in the primal must not be swallowed by the op."""

from collections.abc import Container, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from bnjax.check import enclosure
from bnjax.check.cases import Case, Program, failing
from bnjax.check.examination import Examination
from bnjax.check.points import Point
from bnjax.check.problem import Problem
from bnjax.check.programs import Outcome, vjp_program
from bnjax.check.reference import Reference, reference
from bnjax.check.report import Failure, Finding

STAGE = "non-finite"


def cases(exam: Examination, returned: Container[Point]) -> Iterator[Case | Finding]:
    """One element of each float argument poisoned, at the main setting.

    Cotangents are looked at for NaN alone: at infinity a hand rule may well be finite where autodiff is
    not, which is what some are written for.
    """
    if exam.main is None:
        yield Finding(STAGE, skipped="the primal takes no small arguments")
        return
    if exam.main.points[0] not in returned:
        return  # it raises there as it is
    exact, problem, main = enclosure.rounding(np.float64), exam.problem, exam.main.points[0].one
    program = Program(partial(vjp_program, problem=problem), main.arguments)
    for label, i in zip(problem.labels, problem.floats, strict=True):
        for poison in (np.nan, np.inf):
            if np.size(main.arrays[i]) == 0:
                continue
            arrays = list(main.arrays)
            arrays[i] = np.array(arrays[i])
            arrays[i].flat[0] = poison
            point = replace(main, where=exam.main.label, arrays=arrays)
            expected = reference(problem, exam.slice, point.arguments, exact, kinks=False)
            judge = partial(_judge, reference=expected, label=label, poison=poison)
            yield Case(STAGE, point, program, point.arguments, expected, judge, failing(STAGE))


def _judge(
    problem: Problem, case: Case, outcome: Outcome, *, reference: Reference, label: str, poison: float
) -> Iterator[Finding]:
    pairs = [("its result", *pair) for pair in zip(outcome.results, reference.results, strict=False)]
    if np.isnan(poison):
        cotangents = zip(problem.labels, outcome.cotangents, reference.cotangents, strict=True)
        pairs += [(f"the cotangent of {name}", got, ball) for name, got, ball in cotangents]
    for what, got, ball in pairs:
        failure, note = None, ""
        if np.shape(got) == np.shape(ball.value):
            swallowed = np.isfinite(got) & ~np.isfinite(ball.value)
            if np.any(swallowed):
                number = f"{int(np.sum(swallowed))} of {swallowed.size} elements"
                message = f"with {poison} in {label}, {what} is finite where the primal's is not ({number})"
                failure = Failure(STAGE, label, case.point.where, message=message)
            if np.isnan(poison) and what == "its result" and np.any(np.isnan(got) & np.isfinite(ball.value)):
                note = f"with NaN in {label}, the op's result is NaN where the primal's is not"
        yield Finding(STAGE, 1, failure, note=note)
