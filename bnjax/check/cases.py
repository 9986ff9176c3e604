"""A case: a program of the op, what to run it on, what should come back, and who judges what does."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from bnjax.check.points import Point
from bnjax.check.problem import Function, Problem
from bnjax.check.programs import Outcome, Traced
from bnjax.check.report import Failure, Finding, says, stage_of


@dataclass(frozen=True, eq=False)
class Program:
    """What is run; cases of one `Program` share its trace.

    Attributes:
      of: makes the program of a function: of the op, or of the primal to see how well that does.
      like: arguments to trace it at.
      run: interpreted and compiled are the same program; eager is not traced as a whole.
      x64: whether JAX's 64-bit mode is on.
      known: the op's, if it is traced already.
    """

    of: Callable[[Function], Callable[..., Outcome]]
    like: tuple[Any, ...]
    run: Literal["interpreted", "compiled", "eager"] = "interpreted"
    x64: bool = True
    known: Traced | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One thing that a stage wants looked at; `stage` is the name under which a failure is told."""

    stage: str
    point: Point
    program: Program
    arguments: tuple[Any, ...]
    expected: Any  # an `Expected`
    judge: "Judge"
    raised: Callable[[Problem, "Case", Exception, "Peer"], Finding]
    eased: bool = False  # whether it is narrower than float64, and so is held to no more than autodiff does
    standard: Any = None  # the `Expected` of the primal in the op's place, where it is another one


# what the primal returns in the op's place, in the same dtypes, by autodiff, and with the results that it
# has undifferentiated, which may be less exact; None where it is not asked
Peer = Callable[[], Sequence[Outcome] | Exception | None]
Judge = Callable[[Problem, Case, Outcome, Peer], Iterator[Finding]]


def failing(stage: str = "", how: str = "") -> Callable[[Problem, Case, Exception, Peer], Finding]:
    """An exception as a failure of `stage`, or else of JAX's own examination of a rule."""

    def raised(problem: Problem, case: Case, error: Exception, peer: Peer) -> Finding:
        message = f"{how}the op raises {says(error)}"
        return Finding(failure=Failure(stage or stage_of(error), "", case.point.where, message=message))

    return raised
