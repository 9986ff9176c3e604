"""In float64, past the ordinary data: numbers up to 1e8 of either sign, ties, zeros; the value alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from bnjax.check import compare, probes
from bnjax.check.cases import Case, Peer, failing
from bnjax.check.examination import Examination
from bnjax.check.points import beyond
from bnjax.check.problem import Problem
from bnjax.check.programs import Outcome
from bnjax.check.reference import Reference
from bnjax.check.report import Finding
from bnjax.check.stages.wide import of_setting


def cases(exam: Examination) -> Iterator[Case]:
    """The points beyond the setting of the most elements, each beside its ordinary numbers."""
    if exam.largest is None:
        return
    program = replace(of_setting(exam.problem, exam.largest), run="interpreted")
    for point, scale in beyond(exam.problem, exam.largest):
        expected = exam.reference(exam.largest.jaxpr, point, exam.working).coarse()
        judge = _judge_overflow if scale > probes.OVERFLOW else compare.hold
        yield Case("value", point, program, point.arguments, expected, judge, failing(), exam.narrow)


def _judge_overflow(problem: Problem, case: Case, outcome: Outcome, peer: Peer) -> Iterator[Finding]:
    """Where exp overflows a right rule may, though its primal does not: what is not finite is left out."""
    expected: Reference = case.expected
    results, lost = _finite(outcome.results, expected.results)
    cotangents, more = _finite(outcome.cotangents, expected.cotangents)
    if lost or more:
        yield Finding(note=f"the op is not finite where the primal is: {case.point.where}")
    yield from compare.hold(problem, case, Outcome(results, outcome.others, cotangents), peer)


def _finite(got: Sequence[Any], balls: Sequence[Any]) -> tuple[list[Any], bool]:
    """`got` with the balls' centres where it is not finite, and whether it is so where they are."""
    found, lost = [], False
    for array, ball in zip(got, balls, strict=True):
        array = np.asarray(array, np.float64)
        if array.shape == ball.value.shape:
            known = np.isfinite(array)
            lost = lost or bool(np.any(~known & np.isfinite(ball.value)))
            array = np.where(known, array, ball.value)
        found.append(array)
    return found, lost
