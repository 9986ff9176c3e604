"""Would `check_vjp` refuse this rule?  The same answer, from the cheapest evidence that gives it."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from bnjax.check import enclosure
from bnjax.check.check import check_vjp
from bnjax.check.compare import compare_cotangents
from bnjax.check.points import Setting, given_setting, has_kinks, reference, small_settings
from bnjax.check.programs import Problem, problem, trace, vjp_program
from bnjax.check.report import Record


def refuses(op: Callable[..., Any], primal: Callable[..., Any], *args: Any) -> bool:
    """Whether `check_vjp(op, primal, *args)` finds `op` wrong, for going through many wrong rules.

    Most errors show in float64 on a few numbers, where the traced rule can be run without compiling it;
    only where they do not is the whole check made.  A rule that is right takes as long as `check_vjp`.
    """
    try:
        with jax.enable_x64(True), np.errstate(all="ignore"):
            if _wrong_uncompiled(problem(op, primal, args)):
                return True
    except Exception:  # what cannot be traced is the whole check's to judge
        pass
    return not check_vjp(op, primal, *args).ok


def _wrong_uncompiled(subject: Problem) -> bool:
    record = Record("")
    kinks = has_kinks(subject)
    given = given_setting(subject)
    if given is not None and _wrong_at(subject, given, kinks, record):
        return True
    return any(_wrong_at(subject, setting, kinks, record) for setting in small_settings(subject, record))


def _wrong_at(subject: Problem, setting: Setting, kinks: bool, record: Record) -> bool:
    """Whether the op's cotangents leave their bounds at `setting`, by numpy on its jaxpr."""
    exact = enclosure.rounding(np.float64)
    jaxpr = trace(vjp_program(subject.op, subject), *setting.arguments(0))
    for number, variant in enumerate(setting.wide):
        arrays, cotangents = setting.arguments(number)
        balls = enclosure.enclose(jaxpr, [*arrays, *cotangents], exact)[-len(subject.floats) :]
        expected = reference(setting.jaxpr, arrays, cotangents, subject, exact, kinks).cotangents
        got = [np.asarray(ball.value) for ball in balls]
        compare_cotangents(subject, record, setting.context(variant, "value"), got, expected, exact)
        if record.failures:
            return True
    return False
