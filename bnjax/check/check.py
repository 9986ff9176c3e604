"""`check_vjp`: is the hand VJP of one function the VJP of another?  At points, in every way it could fail.

The reference is autodiff of the primal, its traced program run in float64 with an enclosure beside each
number (`enclosure`); a second witness takes the primal's derivative by differences and trusts no rule of
differentiation.  The op is run as a user runs it, on small shapes and on the arrays that came (`probes`),
in float64, float32 and bfloat16.  Nothing here knows what is being differentiated.
"""

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any

import jax
import numpy as np

from bnjax.check import meanings
from bnjax.check.cases import Case
from bnjax.check.examination import Examination, Unexamined, examination
from bnjax.check.problem import Problem, name_of, take_apart
from bnjax.check.programs import Outcome
from bnjax.check.report import CheckReport, Failure, Finding, Record, says
from bnjax.check.running import run
from bnjax.check.stages import (
    beyond,
    evidence,
    large,
    narrow,
    nonfinite,
    symbolic_zeros,
    transformed,
    wide,
    witness,
)


def check_vjp(op: Callable[..., Any], primal: Callable[..., Any], *args: Any) -> CheckReport:
    r"""Whether the VJP of `op` is the VJP of `primal`, at `args` and at small arguments like them.

    For every cotangent dy that is tried and every float leaf a of the arguments::

        |VJP_op(dy)_a − VJP_primal(dy)_a| ≤ bound        element by element

    with VJP_primal by autodiff in float64 and the bound that of `bnjax.check.enclosure`.  Where what is
    computed is narrower than float64 and the bound is exceeded, the rule may be off by as many bounds as
    autodiff of the primal is in that dtype, times 4 (`compare.STEPS`): no worse than autodiff is not wrong.

    Args:
      op: the function whose rule is in question, typically a `jax.custom_vjp`.
      primal: the same function in plain JAX, called with the same arguments.
      args: example arguments, arrays or pytrees of them.  Float leaves (and Python floats) are
        differentiated; integer and boolean arrays, and all other leaves, are not.  Bind keyword
        arguments with `functools.partial` or a lambda.

    Returns:
      A `CheckReport`: `.ok`, `.verdict`, `.failures`, and a table as its `str`.  The verdict is "ok",
      "WRONG", or "could not be checked": also where some argument's cotangent was zero wherever it was
      looked at, for then nothing was seen of it.  Whatever `op` raises is in the report; nothing escapes.

    Example:
      >>> import jax, jax.numpy as jnp, bnjax
      >>> def center(x):
      ...     return x - jnp.mean(x)
      >>> wrong = jax.custom_vjp(center)
      >>> wrong.defvjp(lambda x: (center(x), None), lambda _, dy: (dy,))  # forgot the −1/n
      >>> report = bnjax.check_vjp(wrong, center, jnp.arange(4.0))
      >>> report.verdict, report.worst.argument
      ('WRONG', 'x')
    """
    start = time.perf_counter()
    record = Record(name_of(op))
    with np.errstate(all="ignore"):
        try:
            problem = take_apart(op, primal, args)
            with jax.enable_x64(True):
                exam = examination(problem)
                record = _examined(exam)
                if record.wrong:
                    record = _as_meant(exam.problem, record)
                elif exam.problem.distributions and not record.failures:
                    record = _unnormalized(exam.problem, record)
        except Unexamined as reason:
            record.add(Finding(failure=Failure(reason.stage, message=str(reason))))
        except Exception as error:
            record.add(_gave_up(error))
    return record.report(time.perf_counter() - start)


def _examined(exam: Examination, enough: Callable[[Record], bool] = lambda _: False) -> Record:
    """What all stages have to say, or as many as are `enough`."""
    record = Record(exam.problem.name)
    for _ in stages(exam, record):
        if enough(record):
            break
    return record


def _as_meant(problem: Problem, record: Record) -> Record:
    """Where the rule is right of arrays that are like those that came, it is in doubt what was meant."""
    found = meanings.in_doubt(problem)
    for meant in [*((m,) for m in found), *([tuple(found)] if len(found) > 1 else [])]:
        try:
            exam = examination(replace(problem, meanings=(*problem.meanings, *meant)))
            again = _examined(exam, lambda record: bool(record.failures))
        except Exception:  # of these arrays it is not to be had
            continue
        if not again.failures:
            words, advice = (
                " and ".join(parts) for parts in zip(*((m.words, m.written) for m in meant), strict=True)
            )
            again.add(_doubt(words, record.report(0).worst, f"let both functions take {advice}"))
            return again
    return record


def _unnormalized(problem: Problem, record: Record) -> Record:
    """Where what came sums to 1 the rule is right; is it of such arrays alone, in their own cotangents?"""
    labels = [problem.labels[j] for j in problem.distributions]
    free = replace(problem, arrays=tuple(a._replace(distribution=False) for a in problem.arrays))

    def own(record: Record) -> list[Failure]:
        failures = record.failures.values()
        return [
            f for f in failures if f.stage == "primal value" or (f.stage == "value" and f.argument in labels)
        ]

    again = own(_examined(examination(free), lambda record: bool(own(record))))
    if again:
        words = f"{' and '.join(labels)} sums to 1 along its last axis"
        record.add(_doubt(words, again[0], "divide by the sum in both functions"))
    return record


def _doubt(words: str, worst: Failure | None, advice: str) -> Finding:
    message = (
        f"right where {words}, as it came, and wrong elsewhere, as in {worst}; if it is so always, {advice}"
    )
    return Finding(failure=Failure("oracle", message=message))


def stages(exam: Examination, record: Record) -> Iterator[None]:
    """Make one stage at each step: it says what it wants looked at, `run` looks and records."""

    def look(cases: Iterable[Case | Finding]) -> list[tuple[Case, Outcome]]:
        try:
            return run(exam.problem, cases, record)
        except Exception as error:  # the others are made all the same
            record.add(_gave_up(error))
            return []

    for note in exam.notes:
        record.add(Finding(note=note))
    seen = look(wide.cases(exam, exam.settings))
    yield
    returned = {case.point: (case.expected, outcome) for case, outcome in seen}
    for cases in (
        beyond.cases(exam),
        transformed.cases(exam, returned),
        symbolic_zeros.cases(exam),
        nonfinite.cases(exam, returned),
        witness.cases(exam),
        narrow.cases(exam),
        large.cases(exam),
        evidence.grown(exam, record),
        evidence.missing(exam, record),
    ):
        look(cases)
        yield


def _gave_up(error: Exception) -> Finding:
    """No stage let this exception through on purpose: it is the check's own, and says nothing of the rule."""
    return Finding(failure=Failure("oracle", message=f"the check could not be made: {says(error)}"))


def assert_vjp(op: Callable[..., Any], primal: Callable[..., Any], *args: Any) -> None:
    """Raise AssertionError, with the report, unless `check_vjp(op, primal, *args)` is ok.

    Arguments (op, primal, args) are those of `check_vjp`.

    Example:
      >>> import jax.numpy as jnp, bnjax
      >>> bnjax.assert_vjp(jnp.sin, lambda x: jnp.sin(x), 0.5)
    """
    report = check_vjp(op, primal, *args)
    if not report.ok:
        raise AssertionError(str(report))
