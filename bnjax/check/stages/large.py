"""The given arrays where they are large: few cotangents, one at a time, weighed where they are computed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from bnjax.check import enclosure, probes
from bnjax.check.cases import Case, Peer, Program
from bnjax.check.enclosure import Rounding
from bnjax.check.examination import Examination
from bnjax.check.points import Point
from bnjax.check.problem import Problem
from bnjax.check.programs import Outcome, forward_program, trace, vjp_program
from bnjax.check.reference import Worst, split, widened
from bnjax.check.report import Failure, Finding, says, stage_of
from bnjax.check.running import compiled
from bnjax.check.stages import narrow

_NUMPY = 2**18  # elements up to which the enclosure is cheaper than its compilation
_WIDE_PROBES = ("ones", "output", "random")  # float64 is tried along fewer


def cases(exam: Examination) -> Iterator[Case | Finding]:
    """The op on the arguments that came, at their dtypes and in float64."""
    if exam.given is not None:
        return
    problem = exam.problem
    given = problem.cast(problem.given, problem.dtypes)
    results = narrow.result_dtypes(problem, given)
    wide = problem.widened(problem.given)
    named = _cotangents(problem, wide)
    jaxpr = trace(vjp_program(problem.primal, problem), wide, next(iter(named.values())))
    weigh = _Weighing(exam, jaxpr)
    of = partial(vjp_program, problem=problem, batched=False)
    for stage in _stages(problem):
        in_float64 = stage == "value"
        rounding = exam.working if in_float64 else narrow.working(problem, problem.dtypes, results)
        points = [
            Point("the given arguments", wide if in_float64 else given, cotangents, [name], "given")
            for name, cotangents in _rounded(named, results, in_float64)
        ]
        program = Program(of, points[0].arguments, "compiled", in_float64 or problem.x64)
        judge = partial(narrow.judge, results=() if in_float64 else results)
        eased = exam.narrow or not in_float64
        for point in points:
            expected = _Expected(weigh, point.widened(problem), rounding)
            yield Case(stage, point, program, point.arguments, expected, judge, _raised, eased)


def _stages(problem: Problem) -> list[str]:
    """The given dtypes under their stage's name, then float64."""
    given = {str(d) for d in problem.float_dtypes(problem.dtypes)}
    if given == {"float64"}:
        return ["value"]
    return [next(iter(given)) if given <= {"float32"} or given <= {"bfloat16"} else "given dtypes", "value"]


def _cotangents(problem: Problem, wide: Sequence[Any]) -> dict[str, list[np.ndarray]]:
    """The few named cotangents, one row each; the output among them is the primal's."""
    forward = forward_program(problem.primal, problem)
    outputs = list(map(np.asarray, compiled(forward, wide)(wide)[0]))
    found = probes.few_cotangents(outputs, probes.generator(0))
    return {name: probes.split(vector[None], outputs) for name, vector in found.items()}


def _rounded(
    named: dict[str, list[np.ndarray]], results: Sequence[Any], in_float64: bool
) -> list[tuple[str, list[np.ndarray]]]:
    """The cotangents in the results' dtypes, or those that float64 is tried along."""
    if in_float64:
        return [(name, named[name]) for name in _WIDE_PROBES]
    return [
        (name, [c.astype(d) for c, d in zip(cotangents, results, strict=True)])
        for name, cotangents in named.items()
    ]


def _raised(problem: Problem, case: Case, error: Exception, peer: Peer) -> Finding:
    own = peer()
    if isinstance(own, Exception):
        return Finding(case.stage, skipped=f"the primal raises {says(own)}")
    kind = stage_of(error)
    stage = case.stage if kind == "raises" and case.stage != "value" else kind
    return Finding(failure=Failure(stage, "", case.point.where, message=f"the op raises {says(error)}"))


@dataclass(frozen=True, eq=False)
class _Weighing:
    """The primal's reference and the weighing against it, as one program: compiled where arrays are large."""

    exam: Examination
    jaxpr: ClosedJaxpr
    kinks: bool = False

    @cached_property
    def wider(self) -> "_Weighing":
        """The same with kinks taken in."""
        return replace(self, kinks=True)

    def __call__(self, arguments: tuple[Any, Any], outcome: Outcome, rounding: Rounding) -> list[Worst]:
        if sum(map(np.size, jax.tree.leaves(arguments))) <= _NUMPY:
            return self._weigh(arguments, outcome, rounding, np)
        if not self._compiled:
            weigh = partial(self._weigh, xp=jnp)
            self._compiled.append(compiled(weigh, arguments, outcome, rounding))
        return [Worst(*map(np.asarray, w)) for w in self._compiled[0](arguments, outcome, rounding)]

    @cached_property
    def _compiled(self) -> list[Any]:
        return []

    def _weigh(self, arguments: Any, outcome: Any, rounding: Rounding, xp: Any) -> list[Worst]:
        problem = self.exam.problem
        if self.kinks:
            balls, _ = widened(problem, self.jaxpr, arguments, rounding, xp)
        else:
            balls = enclosure.enclose(self.jaxpr, [*arguments[0], *arguments[1]], rounding, xp)
        return split(problem, balls, rounding).weigh(outcome, xp)


@dataclass(frozen=True, eq=False)
class _Expected:
    """What should come back at a point, worked out when something has come."""

    weighing: _Weighing
    point: Point  # in float64
    rounding: Rounding
    others: None = None  # not compared
    kinks: int = 0  # not counted

    def widened(self) -> "_Expected | None":
        """The same with kinks taken in; None where there are none."""
        if not self.weighing.exam.kinks or self.weighing.kinks:
            return None
        return replace(self, weighing=self.weighing.wider)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        return [c.shape for c in self.point.cotangents]

    def weigh(self, outcome: Outcome) -> list[Worst]:
        """The worst of every leaf: of the results, then of the cotangents."""
        results, cotangents = ([np.asarray(a, np.float64) for a in part] for part in (outcome[0], outcome[2]))
        return self.weighing(self.point.arguments, Outcome(results, [], cotangents), self.rounding)
