"""In float64, past the ordinary data: numbers from 1e-10 to 1e8, ties, zeros; the value alone."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from bnjax.check import compare, enclosure, probes
from bnjax.check.cases import Case, Judge, Peer, failing
from bnjax.check.examination import Examination
from bnjax.check.points import beyond
from bnjax.check.problem import Problem
from bnjax.check.programs import Outcome
from bnjax.check.report import Finding
from bnjax.check.stages.wide import of_setting


def cases(exam: Examination) -> Iterator[Case]:
    """The points beyond the setting of the most elements, each beside its ordinary numbers."""
    if exam.largest is None:
        return
    program = replace(of_setting(exam.problem, exam.largest), run="interpreted")
    ordinary = exam.reference(exam.largest.jaxpr, exam.largest.points[0], exam.working)
    for point, kind, positive in beyond(exam.problem, exam.largest):
        expected = exam.reference(exam.largest.jaxpr, point, exam.working).beside(ordinary)
        outside = any(np.any(np.isnan(ball.value)) for ball in expected.results)  # of the primal's domain
        far = outside or exam.may_overflow(point)
        hold = compare.holding(far or positive)
        judge = hold
        if exam.kinks and kind.equal:
            judge = partial(_judge, hold=hold)
            expected = expected if kind.only is None else expected.silent_at_kinks()
        yield Case("value", point, program, point.arguments, expected, judge, failing(), exam.narrow)


def _judge(problem: Problem, case: Case, outcome: Outcome, peer: Peer, *, hold: Judge) -> Iterator[Finding]:
    yield from hold(problem, case, outcome, peer)
    yield from _together(problem, case, outcome, peer)


def _together(problem: Problem, case: Case, outcome: Outcome, peer: Peer) -> Iterator[Finding]:
    """Where equal numbers move together, and zeros stay, no comparison of them changes.

    Along such a direction the primal has a derivative on a kink too, and every rule that takes a side there,
    or the mean of the sides, has the same: of a maximum attained twice, all of dy, once.
    """
    balls, label = case.expected.cotangents, problem.labels
    directions = _directions([np.asarray(case.point.arrays[i]) for i in problem.floats])
    if any(np.shape(got) != ball.value.shape for got, ball in zip(outcome.cotangents, balls, strict=True)):
        return
    with np.errstate(invalid="ignore", over="ignore"):
        triples = list(zip(outcome.cotangents, balls, directions, strict=True))
        rows = [np.stack([_along(got, v), _along(ball.value, v)]) for got, ball, v in triples]
        got, wanted = np.sum(rows, 0)
        bounds = [_along(enclosure.allowance(ball, case.expected.rounding), abs(v)) for _, ball, v in triples]
        allowed = np.sum(bounds, 0) + 1e-300
        ratio = abs(got - wanted) / allowed
        ratio = np.where(np.isfinite(ratio) & np.isfinite(allowed), ratio, 0)
        if np.any(ratio > 1):
            numbers = range(len(outcome.results), len(outcome.results) + len(balls))
            ratio = ratio / max(compare.leniency(case, peer, number) for number in numbers)
    if not np.any(ratio > 1):
        return
    row = int(np.argmax(ratio))
    worst = max(range(len(rows)), key=lambda j: abs(rows[j][0, row] - rows[j][1, row]))
    found = (got[row], wanted[row], allowed[row], ratio[row])
    failure = compare.element(problem, case, ("value", label[worst]), (row,), found, int(np.sum(ratio > 1)))
    message = (
        f"where equal numbers move together, the derivative is {got[row]:.9g}, expected {wanted[row]:.9g} "
        f"± {allowed[row]:.2g}: at a tie it is counted more than once, or less"
    )
    yield Finding(failure=replace(failure, index=None, message=message))


def _directions(floats: Sequence[np.ndarray]) -> list[np.ndarray]:
    """How fast each number moves: equal ones alike, zeros not at all."""
    values, where = np.unique(np.concatenate([a.ravel() for a in floats]), return_inverse=True)
    speeds = np.where(values == 0, 0, probes.generator(values.size).normal(size=values.shape))[where]
    ends = np.cumsum([a.size for a in floats])[:-1]
    return [part.reshape(a.shape) for part, a in zip(np.split(speeds, ends), floats, strict=True)]


def _along(rows: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Σ over the elements of a leaf, for each row."""
    return np.sum(np.asarray(rows, np.float64) * direction, axis=tuple(range(1, np.ndim(rows))))
