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
                if record.wrong and exam.problem.symmetrizable - exam.problem.symmetric:
                    record = _of_symmetric(exam.problem, record)
        except Unexamined as reason:
            record.add(Finding(failure=Failure(reason.stage, message=str(reason))))
        except Exception as error:
            record.add(_gave_up(error))
    return record.report(time.perf_counter() - start)


def _examined(exam: Examination) -> Record:
    """What all stages have to say."""
    record = Record(exam.problem.name)
    for _ in stages(exam, record):
        pass
    return record


def _of_symmetric(problem: Problem, record: Record) -> Record:
    """Where the rule is right of symmetric matrices, and such came, it is not known which were meant."""
    names = " and ".join(problem.arrays[i].label for i in sorted(problem.symmetrizable))
    again = _examined(examination(replace(problem, symmetric=problem.symmetrizable)))
    if again.failures:
        return record
    message = (
        f"right where {names} is symmetric, as it came, and wrong elsewhere, as in {record.report(0).worst}; "
        "if it is so always, let both functions take (a + a.T) / 2"
    )
    again.add(Finding(failure=Failure("oracle", message=message)))
    return again


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
