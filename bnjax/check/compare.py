"""Holding what a rule returned against the enclosure of what it should have."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bnjax.check import enclosure, probes
from bnjax.check.enclosure import Ball, Rounding
from bnjax.check.programs import Problem
from bnjax.check.report import Failure, Record


@dataclass(frozen=True)
class Context:
    """What a comparison is of, for the failure that may come of it."""

    stage: str
    where: str
    names: Sequence[str]  # of the probes
    dtype: str
    arguments: Sequence[Any]  # the arrays
    cotangents: Sequence[Any]  # [probe, *result]


def worst(got: Any, ball: Ball, rounding: Rounding, xp: Any = np) -> tuple[Any, Any, Any, Any]:
    """Of [probe, *leaf], per probe: the largest |got − value|/bound, its place, whether 0 would have failed.

    The fourth is the bound itself, element by element.  Elements without a finite reference are left out.
    """
    bound = enclosure.allowance(ball, rounding, xp)
    got = xp.asarray(got).astype(np.float64)
    known = xp.isfinite(ball.value) & xp.isfinite(bound)
    ratio = xp.where(known, abs(got - ball.value) / bound, 0)
    ratio = xp.where(known & ~xp.isfinite(got), np.inf, ratio).reshape(len(got), -1)
    evidence = (known & (abs(ball.value) > 2 * bound)).reshape(len(got), -1)
    return xp.max(ratio, axis=1), xp.argmax(ratio, axis=1), xp.any(evidence, axis=1), bound


def compare_cotangents(
    subject: Problem,
    record: Record,
    context: Context,
    got: Sequence[Any],
    balls: Sequence[Ball],
    rounding: Rounding,
) -> None:
    """Every float argument's cotangents, [probe, *leaf], against their enclosures; and what was seen.

    Second derivatives go on with the cotangent's own.
    """
    for j, (array, ball) in enumerate(zip(got, balls, strict=True)):
        label = subject.labels[subject.floats[j]] if j < len(subject.floats) else "dy"
        shown = _compare(subject, record, context, label, array, ball, rounding)
        if context.stage == "value" or context.dtype == "given":
            record.seen |= {j} if shown else set()


def compare_results(
    subject: Problem,
    record: Record,
    context: Context,
    got: Sequence[Any],
    balls: Sequence[Ball],
    rounding: Rounding,
) -> None:
    """The op's own value against the primal's."""
    if len(got) != len(balls):
        record.fail(
            Failure(
                "primal value", "", context.where, message=f"{len(got)} results, the primal has {len(balls)}"
            )
        )
        return
    for array, ball in zip(got, balls, strict=True):
        one = Ball(ball.value[None], None if ball.radius is None else np.asarray(ball.radius)[None])
        _compare(subject, record, context, "", np.asarray(array)[None], one, rounding)


def _compare(
    subject: Problem, record: Record, context: Context, label: str, got: Any, ball: Ball, rounding: Rounding
) -> bool:
    """One leaf; whether it holds evidence."""
    if np.shape(got) != np.shape(ball.value):
        stage = "shape" if label else "primal value"
        message = (
            f"shape {np.shape(got)[1:]} for {label or 'the result'}, expected {np.shape(ball.value)[1:]}"
        )
        record.fail(Failure(stage, label, context.where, message=message))
        return False
    if ball.value.size == 0:
        return False
    ratios, places, shown, bound = worst(got, ball, rounding)
    record.count(context.stage, len(ratios))
    if np.any(ratios > 1):
        probe = int(np.argmax(ratios))
        index = tuple(int(i) for i in np.unravel_index(places[probe], ball.value.shape[1:]))
        at = (probe, *index)
        record.fail(
            failure(
                subject,
                context,
                label,
                probe,
                index,
                (np.asarray(got[at], np.float64), ball.value[at], bound[at]),
                ratios[probe],
                int(np.sum(ratios > 1)),
            )
        )
    return bool(np.any(shown))


def failure(
    subject: Problem,
    context: Context,
    label: str,
    probe: int,
    index: tuple[int, ...],
    numbers: tuple[Any, Any, Any],
    ratio: Any,
    count: int,
    stage: str | None = None,
) -> Failure:
    """The failure of one element: `numbers` are what came, what was expected, and the bound."""
    got, expected, bound = map(float, numbers)
    cotangents = [c[probe] for c in context.cotangents]
    return Failure(
        stage or context.stage,
        label,
        context.where,
        context.names[probe] if label else "",
        index,
        got,
        expected,
        bound,
        float(ratio),
        seed=probes.SEED,
        count=count,
        dtype=context.dtype,
        arguments=subject.arguments(context.arguments),
        cotangent=cotangents[0] if len(cotangents) == 1 else tuple(cotangents),
    )
