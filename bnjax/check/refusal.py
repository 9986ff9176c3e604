"""Would `check_vjp` refuse this rule?  The same answer, from the cheapest evidence that gives it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from bnjax.check.cases import Case
from bnjax.check.check import check_vjp
from bnjax.check.examination import examination
from bnjax.check.problem import Problem, take_apart
from bnjax.check.report import Failure
from bnjax.check.running import outcomes
from bnjax.check.stages import wide


def refuses(op: Callable[..., Any], primal: Callable[..., Any], *args: Any) -> bool:
    """Whether `check_vjp(op, primal, *args)` finds `op` wrong, for going through many wrong rules.

    Most errors show in float64 on a few numbers, where the traced rule can be run without compiling it;
    only where they do not is the whole check made.  A rule that is right takes as long as `check_vjp`.
    """
    try:
        with np.errstate(all="ignore"):
            problem = take_apart(op, primal, args)
            with jax.enable_x64(True):
                if any(failure.stage == "value" for failure in _uncompiled(problem)):
                    return True
    except Exception:  # what cannot be traced is the whole check's to judge
        pass
    return not check_vjp(op, primal, *args).ok


def _uncompiled(problem: Problem) -> Iterator[Failure]:
    """What the stage of values finds, one case after another, with nothing compiled."""
    exam = examination(problem)
    if exam.narrow:
        return  # the whole check's to judge
    for setting in reversed(exam.settings):
        cases = [case for case in wide.cases(exam, [setting]) if isinstance(case, Case)]
        program = replace(cases[0].program, run="interpreted")
        cases = [replace(case, program=program) for case in cases]
        for case, outcome in outcomes(problem.op, cases).items():
            if isinstance(outcome, Exception):
                return
            yield from (f.failure for f in case.judge(problem, case, outcome, lambda: None) if f.failure)
