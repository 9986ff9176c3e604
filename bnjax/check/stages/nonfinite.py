"""NaN and infinity: what is not finite in the primal must not be swallowed by the op."""

from collections.abc import Container, Iterator
from dataclasses import replace
from functools import partial

import numpy as np

from bnjax.check import enclosure, traits
from bnjax.check.cases import Case, Peer, Program, failing
from bnjax.check.enclosure import Ball
from bnjax.check.examination import Examination
from bnjax.check.points import Point
from bnjax.check.problem import Problem
from bnjax.check.programs import Outcome, holds, vjp_program
from bnjax.check.reference import Reference, split
from bnjax.check.report import Failure, Finding

STAGE = "non-finite"
_ORDERS = frozenset({"lt", "le", "gt", "ge", "argmax", "argmin", "sort", "top_k"})
_ROUNDED = 2.0**-40  # of a cotangent's largest: (a − p) − (a − n) is the same whatever a is, and rounded


def cases(exam: Examination, returned: Container[Point]) -> Iterator[Case | Finding]:
    """One element of each float argument poisoned, at the main setting.

    Required is that what depends on the poisoned number and is not finite in the primal is not finite in
    the op.  What stays the same whatever that number is, as behind a mask, may be finite: 0·NaN is NaN in
    autodiff, and a rule that selects is not worse.  So may a cotangent that changes by jumps alone, as that
    of a maximum, and every one where the primal's own results are finite, NaN or not: it has selected; and
    those of an op that asks which number is larger, or the largest, for NaN is in no order.
    Cotangents are looked at for NaN alone: at infinity a hand rule may well be finite where autodiff is not,
    which is what some are written for.
    """
    if exam.main is None:
        yield Finding(STAGE, skipped="the primal takes no small arguments")
        return
    if exam.main.points[0] not in returned:
        return  # it raises there as it is
    if exam.solves:
        yield Finding(STAGE, skipped="what a solver makes of NaN is no rule's")
        return
    main = exam.main.points[0].one
    program = Program(partial(vjp_program, problem=exam.problem), main.arguments)
    orders = exam.main.op is not None and holds(exam.main.op.jaxpr, _ORDERS)
    meant = {place for meaning in exam.problem.meanings for place in meaning.places}  # NaN is in no order
    for label, i in zip(exam.problem.labels, exam.problem.floats, strict=True):
        if np.size(main.arrays[i]) == 0 or exam.problem.arrays[i].distribution or i in meant:
            continue
        fixed = _fixed(exam, main, i)
        for poison in (np.nan, np.inf):
            point = replace(_with(main, i, poison), where=exam.main.label)
            expected = _reference(exam, point)
            judge = partial(_judge, fixed=fixed, label=label, poison=poison, orders=orders)
            yield Case(STAGE, point, program, point.arguments, expected, judge, failing(STAGE))


def _with(point: Point, i: int, value: float) -> Point:
    """The point with another first element of the array i."""
    arrays = list(point.arrays)
    arrays[i] = np.array(arrays[i])
    arrays[i].flat[0] = value
    return replace(point, arrays=arrays)


def _reference(exam: Examination, point: Point) -> Reference:
    """The values alone: what is finite is asked, and what changes."""
    values = enclosure.evaluate(exam.slice, [*point.arrays, *point.cotangents])
    return split(exam.problem, [Ball(v, None) for v in values], enclosure.rounding(np.float64))


def _fixed(exam: Examination, point: Point, i: int) -> list[np.ndarray]:
    """The elements that the array's first element has no part in: of the results far around it, of the
    cotangents a little way."""
    value, size = float(point.arrays[i].flat[0]), float(np.max(abs(point.arrays[i])))
    far = [2.5 * value + size, -1.5 * value - size]
    if traits.is_positive(exam.problem.arrays[i].sample):
        far = far[:1]
    here, near, *others = (_reference(exam, _with(point, i, v)) for v in (value, value + 1e-3 * size, *far))
    results = [
        np.all([b.value == leaf[0].value for b in leaf], axis=0)
        for leaf in zip(here.results, *(r.results for r in others), strict=True)
    ]
    both = ((a.value, b.value) for a, b in zip(here.cotangents, near.cotangents, strict=True))
    return results + [abs(a - b) <= _ROUNDED * np.max(abs(a), initial=0) for a, b in both]


def _judge(
    problem: Problem,
    case: Case,
    outcome: Outcome,
    peer: Peer,
    *,
    fixed: list[np.ndarray],
    label: str,
    poison: float,
    orders: bool,
) -> Iterator[Finding]:
    expected: Reference = case.expected
    names = ["its result"] * len(expected.results) + [f"the cotangent of {n}" for n in problem.labels]
    leaves = [*outcome.results, *outcome.cotangents]
    balls = [*expected.results, *expected.cotangents]
    passed_on = np.isnan(poison) and not all(np.all(np.isfinite(b.value)) for b in expected.results)
    for what, got, ball, free in zip(names, leaves, balls, fixed, strict=False):
        failure, note = None, ""
        if np.shape(got) == np.shape(ball.value) and (passed_on or what == "its result"):
            swallowed = np.isfinite(got) & ~np.isfinite(ball.value) & ~free
            if np.any(swallowed):
                number = f"{int(np.sum(swallowed))} of {swallowed.size} elements"
                message = f"with {poison} in {label}, {what} is finite where the primal's is not ({number})"
                if orders and what != "its result":
                    note = f"{message}: the op compares, and NaN is in no order"
                else:
                    failure = Failure(STAGE, label, case.point.where, message=message)
            if np.isnan(poison) and what == "its result" and np.any(np.isnan(got) & np.isfinite(ball.value)):
                note = f"with NaN in {label}, the op's result is NaN where the primal's is not"
            yield Finding(STAGE, 1, failure, note=note)
