"""Would `check_vjp` refuse this rule?  The same answer, from the cheapest evidence that gives it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from bnjax.check.cases import Case
from bnjax.check.check import check_vjp, stages
from bnjax.check.examination import Examination, examination
from bnjax.check.problem import name_of, take_apart
from bnjax.check.report import Record
from bnjax.check.running import outcomes
from bnjax.check.stages import wide


def refuses(op: Callable[..., Any], primal: Callable[..., Any], *args: Any) -> bool:
    """Whether `check_vjp(op, primal, *args)` finds `op` wrong, for going through many wrong rules.

    Most errors show in float64 on a few numbers, where the traced rule can be run without compiling it;
    where they do not, stage after stage of the check is made until one shows it.  A rule that is right takes
    as long as `check_vjp`.
    """
    record = Record(name_of(op))
    with np.errstate(all="ignore"):
        try:
            problem = take_apart(op, primal, args)
            with jax.enable_x64(True):
                exam = examination(problem)
                if _is_wrong(exam):
                    return True
                for _ in stages(exam, record):
                    if record.wrong:
                        return True
        except Exception:  # what cannot be traced is the whole check's to judge
            return not check_vjp(op, primal, *args).ok
    return bool(record.failures)


def _is_wrong(exam: Examination) -> bool:
    """Whether the stage of values finds something, one case after another, with nothing compiled."""
    if exam.narrow:
        return False  # the whole check's to judge
    for setting in reversed(exam.settings):
        cases = [case for case in wide.cases(exam, [setting]) if isinstance(case, Case)]
        program = replace(cases[0].program, run="interpreted")
        cases = [replace(case, program=program) for case in cases]
        for case, outcome in outcomes(exam.problem.op, cases).items():
            if isinstance(outcome, Exception):
                return False
            found = case.judge(exam.problem, case, outcome, lambda: None)
            if any(f.failure and f.failure.stage == "value" for f in found):
                return True
    return False
