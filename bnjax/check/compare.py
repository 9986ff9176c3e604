"""Holding what a rule returned against what it should have: every difference becomes a finding here."""

import functools
from collections.abc import Iterator, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from bnjax.check import probes
from bnjax.check.cases import Case, Judge, Peer
from bnjax.check.problem import Problem
from bnjax.check.programs import Outcome
from bnjax.check.reference import Worst
from bnjax.check.report import Failure, Finding

STEPS = 4  # a right rule takes a few steps more than autodiff: as in the bound of one operation, 4·u


def hold(problem: Problem, case: Case, outcome: Outcome, peer: Peer) -> Iterator[Finding]:
    """Every leaf of an outcome against its ball; the labels of second derivatives end with dy's."""
    expected, where = case.expected, case.point.where
    form = _form(case, outcome)
    if form:
        yield Finding(failure=Failure("primal value", "", where, message=form))
        return
    for got, ball in zip(outcome.others, expected.others or (), strict=False):
        if ball.radius is None and not np.array_equal(got, ball.value):
            message = "a result that is not floating point differs from the primal's"
            yield Finding(failure=Failure("primal value", "", where, message=message))
    leaves = [*outcome.results, *outcome.cotangents]
    weighed = expected.weigh(outcome)
    wider = expected.widened() if any(np.any(w.ratio > 1) for w in weighed) else None
    if wider is not None:
        yield Finding(kinks=wider.kinks)
        weighed = wider.weigh(outcome)
    for number, (got, worst) in enumerate(zip(leaves, weighed, strict=True)):
        if np.size(got) == 0:
            continue
        j = number - len(outcome.results)
        label = "" if j < 0 else problem.labels[j] if j < len(problem.floats) else "dy"
        stage = "primal value" if case.stage == "value" and j < 0 else case.stage
        first_order = case.stage == "value" or case.point.dtype == "given"
        seen = frozenset({j} if first_order and j >= 0 and np.any(worst.shown) else ())
        failure = None
        if np.any(worst.ratio > 1):
            failure = _difference(problem, case, (stage, label), got, eased(worst, case, peer, number))
        yield Finding(stage, len(worst.ratio), failure, seen=seen)


def holding(far: bool) -> Judge:
    """`hold`, or where a right rule may not be finite, what of it speaks of finite numbers."""
    return _hold_finite if far else hold


def _hold_finite(problem: Problem, case: Case, outcome: Outcome, peer: Peer) -> Iterator[Finding]:
    """Where exp overflows a right rule may, though its primal does not, and outside of the primal's domain
    it may return what it will: what is not finite is left out."""
    results, lost = _finite(outcome.results, case.expected.results)
    cotangents, more = _finite(outcome.cotangents, case.expected.cotangents)
    if lost or more:
        yield Finding(note=f"the op is not finite where the derivative is: {case.point.where}")
    yield from hold(problem, case, Outcome(results, outcome.others, cotangents), peer)


def _finite(got: Sequence[Any], balls: Sequence[Any]) -> tuple[list[Any], bool]:
    """`got` with the balls' centres where it is not finite, and whether it is so where they are."""
    found, lost = [], False
    for array, ball in zip(got, balls, strict=False):
        known = np.isfinite(array)
        if array.shape == ball.value.shape:
            lost = lost or bool(np.any(~known & np.isfinite(ball.value)))
            array = np.where(known, array, ball.value)
        found.append(array)
    return found, lost


def eased(worst: Worst, case: Case, peer: Peer, number: int) -> Worst:
    """The same held to what autodiff of the primal does there, `number` the leaf's."""
    slack = leniency(case, peer, number)
    return worst._replace(
        bound=worst.bound * slack, ratio=worst.ratio / slack if slack < np.inf else 0 * worst.place
    )


def leniency(case: Case, peer: Peer, number: int) -> float:
    """By how many bounds a right rule may be off in a leaf.

    By 1, unless the primal itself, by autodiff or undifferentiated, run in the same dtypes on the same data,
    is further off: then by `STEPS` times as many as it is in its worst element.  An element alone may be
    right by chance.
    """
    own = peer()
    if own is None:
        return 1.0
    if isinstance(own, Exception):
        return np.inf
    standard = case.standard or case.expected
    if any([np.shape(r) for r in each.results] != list(standard.shapes) for each in own):
        return 1.0
    ratio = max(float(np.max(standard.weigh(each)[number].ratio, initial=0.0)) for each in own)
    return STEPS * ratio if ratio > 1 else 1.0


def _form(case: Case, outcome: Outcome) -> str:
    """What is wrong with the number and the shapes of the results; to the cotangents' JAX has seen."""
    shapes, others = case.expected.shapes, case.expected.others
    if len(outcome.results) != len(shapes) or (others is not None and len(outcome.others) != len(others)):
        return (
            f"{len(outcome.results)} floating results and {len(outcome.others)} others, "
            f"the primal has {len(shapes)} and {len(others or ())}"
        )
    for got, shape in zip(outcome.results, shapes, strict=True):
        if np.shape(got) != shape:
            return f"shape {np.shape(got)[1:]} for the result, expected {shape[1:]}"
    return ""


def dtypes(problem: Problem, case: Case, outcome: Outcome, results: Sequence[Any] = ()) -> Iterator[Finding]:
    """A cotangent has its argument's dtype, JAX lets another through in silence; results have theirs.

    In a dtype that nobody gave, that of the primal's results will do: no complex number is a bfloat16.
    """
    for label, i, got in zip(problem.labels, problem.floats, outcome.cotangents, strict=True):
        expected, failure = case.point.arrays[i].dtype, None
        accepted = {expected}
        if expected != problem.dtypes[i]:
            accepted.add(functools.reduce(jnp.promote_types, results, expected))
        if got.dtype not in accepted:
            message = f"cotangent of {label} is {got.dtype}, the argument {expected}"
            failure = Failure("dtype", label, case.point.where, message=message)
        yield Finding("dtype", 1, failure)
    for expected, got in zip(results, outcome.results, strict=False):
        if got.dtype != expected:
            message = f"the result is {got.dtype}, the primal's {expected}"
            yield Finding(failure=Failure("primal value", "", case.point.where, message=message))


def _difference(
    problem: Problem, case: Case, leaf: tuple[str, str], got: Any, worst: Worst
) -> Failure | None:
    """The failure of a leaf at its worst, if it still is one."""
    if not np.any(worst.ratio > 1):
        return None
    row = int(np.argmax(worst.ratio))
    index = np.unravel_index(int(worst.place[row]), np.shape(got)[1:])
    numbers = [a[row] for a in (worst.got, worst.value, worst.bound, worst.ratio)]
    return element(problem, case, leaf, (row, *index), numbers, int(np.sum(worst.ratio > 1)))


def element(
    problem: Problem,
    case: Case,
    leaf: tuple[str, str],
    at: Sequence[Any],
    numbers: Sequence[Any],
    count: int = 1,
) -> Failure:
    """The failure of one element.

    `leaf` is stage and argument, `at` row and index, `numbers` what came, what was expected, the bound, and
    how many times the bound it is off.
    """
    (stage, label), (row, *index), point = leaf, at, case.point
    got, expected, bound, ratio = map(float, numbers)
    cotangents = [c[row] for c in point.cotangents]
    others = [ball.value[0] for ball in case.expected.others or ()]
    return Failure(
        stage, label, point.where, point.names[row] if label else "", tuple(map(int, index)),
        got, expected, bound, ratio,
        seed=probes.SEED,
        count=count,
        dtype=point.dtype,
        arguments=problem.arguments(point.arrays),
        cotangent=problem.cotangent(cotangents, others) if cotangents else None,
    )  # fmt: skip
