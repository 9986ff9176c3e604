"""In float64: value and cotangents at every small setting, on every kind of data; linearity among them."""

from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from bnjax.check import compare, enclosure, probes
from bnjax.check.cases import Case, Peer, Program, failing
from bnjax.check.examination import Examination
from bnjax.check.points import Setting
from bnjax.check.problem import Problem
from bnjax.check.programs import Outcome, vjp_program
from bnjax.check.reference import Reference, radius
from bnjax.check.report import Failure, Finding

ROUNDINGS = 2.0**-50  # of the largest slope at a point: what 1 − y loses where y is nearly 1


def cases(exam: Examination, settings: Sequence[Setting]) -> Iterator[Case | Finding]:
    """Every point of `settings`; where the arguments that came are looked at, as compiled."""
    for setting in settings:
        program = of_setting(exam.problem, setting)
        ordinary = None
        for point in setting.points:
            expected = exam.reference(setting.jaxpr, point, exam.working)
            if ordinary is None:
                yield from _unbounded(exam.problem, setting, expected)
            ordinary = ordinary or expected
            if expected is not ordinary:
                expected = expected.beside(ordinary)
            expected = expected.beside_slopes(expected.slopes(point.cotangents), point.cotangents, ROUNDINGS)
            far = exam.may_overflow(point)
            judge = partial(_judge, far=far)
            yield Case("value", point, program, point.arguments, expected, judge, failing(), exam.narrow)


def _unbounded(problem: Problem, setting: Setting, expected: Reference) -> Iterator[Finding]:
    """The arguments of whose cotangents some numbers are held to nothing, though they are finite.

    All of them at one small size may be: what interpolates between breakpoints has there one alone.
    """
    for label, ball in zip(problem.labels, expected.cotangents, strict=True):
        unknown = int(np.sum(np.isfinite(ball.value) & ~np.isfinite(radius(ball))))
        some = 0 < unknown < ball.value.size or (unknown and setting.shrunk is None)
        if some and not enclosure.without_bound(setting.jaxpr):  # which is told for itself
            message = (
                f"at {setting.label} {unknown} of {ball.value.size} numbers have no bound, as a quotient by "
                "what cancels has none: by them no rule can be told from another"
            )
            yield Finding(failure=Failure("evidence", label, message=message))


def of_setting(problem: Problem, setting: Setting) -> Program:
    """The program of the setting's points."""
    of, like = partial(vjp_program, problem=problem), setting.points[0].arguments
    return Program(of, like, "interpreted" if setting.shrunk else "compiled", known=setting.op)


def _judge(problem: Problem, case: Case, outcome: Outcome, peer: Peer, *, far: bool) -> Iterator[Finding]:
    yield from compare.dtypes(problem, case, outcome)
    yield from compare.holding(far)(problem, case, outcome, peer)
    yield from _linearity(problem, case, outcome, peer, far)


def _linearity(problem: Problem, case: Case, outcome: Outcome, peer: Peer, far: bool) -> Iterator[Finding]:
    """Additive, homogeneous, and zero ↦ zero, each among the op's own cotangents; `far`, the finite ones."""
    at = {name: i for i, name in enumerate(case.point.names)}
    one, two, both, large, small, zero = (at[n] for n in probes.LINEAR)
    combinations = {
        both: lambda g: g[one] + g[two],
        large: lambda g: probes.SCALE * g[one],
        small: lambda g: -g[one] / probes.SCALE,
        zero: lambda g: 0 * g[zero],
    }
    expected: Reference = case.expected
    for j, (array, ball) in enumerate(zip(outcome.cotangents, expected.cotangents, strict=True)):
        if ball.value.size == 0:
            continue
        got = np.asarray(array, np.float64)
        bound = enclosure.allowance(ball, expected.rounding)
        for row, combine in combinations.items():
            wanted, allowed = combine(got), abs(combine(bound)) + bound[row] * (row != zero)
            difference = np.where(np.isfinite(allowed + ball.value[row]), abs(got[row] - wanted), 0)
            if far:
                difference = np.where(np.isfinite(difference), difference, 0)
            ratio = np.where(difference > 0, difference / (allowed + 1e-300), 0)
            if np.any(ratio > 1):
                ratio = ratio / compare.leniency(case, peer, len(outcome.results) + j)
            failure = None
            if np.any(ratio > 1) or (row == zero and np.any(np.nan_to_num(got[row], nan=0) != 0)):
                index = np.unravel_index(np.argmax(ratio), ratio.shape)
                numbers = (got[(row, *index)], wanted[index], allowed[index], np.max(ratio))
                leaf = ("linearity", problem.labels[j])
                failure = compare.element(problem, case, leaf, (row, *index), numbers)
            yield Finding("linearity", 1, failure)
