"""What all stages of one check share."""

from dataclasses import dataclass, replace
from functools import cached_property

import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.check import enclosure, extremes, meanings, points
from bnjax.check.enclosure import Rounding
from bnjax.check.points import Point, Setting
from bnjax.check.problem import Function, Problem
from bnjax.check.programs import (
    forward_program,
    holds,
    narrow_dtype,
    only_forwards,
    reach,
    trace,
    vjp_program,
)
from bnjax.check.reference import KINKS, Reference, reference
from bnjax.check.report import says
from bnjax.check.sizes import Role
from bnjax.jaxprs import equations

_TRANSFORMED = 4  # roundings: those of the few steps of a short transform


@dataclass(frozen=True)
class Examination:
    """The problem, where it is looked at, and what is known of it beforehand.

    Attributes:
      small: the small settings; `given` is the one of the arguments that came, where they are few.
      kinks: whether the primal compares, rounds or picks floats, so that it may have no derivative somewhere.
      narrow: whether the op or the primal computes in less than float64 where all arguments are float64.
      endless: whether the op or the primal goes on until numbers are close, which in a narrow dtype they
        may never be.
      exponential: whether the op or the primal takes exponentials, which overflow.
      notes: what should be known.
    """

    problem: Problem
    small: list[Setting]
    given: Setting | None
    kinks: bool
    narrow: bool
    endless: bool
    exponential: bool
    notes: list[str]

    @property
    def working(self) -> Rounding:
        """The precision that is allowed for where all arguments are float64."""
        return enclosure.rounding(np.float32 if self.narrow else np.float64)

    @property
    def settings(self) -> list[Setting]:
        """All of them."""
        return self.small if self.given is None else [*self.small, self.given]

    @property
    def main(self) -> Setting | None:
        """The setting of the costlier stages: the batch of 3, else what there is."""
        threes = (s for s in self.settings if s.shrunk and s.shrunk.role is Role.MAIN)
        return next(threes, self.settings[-1] if self.settings else None)

    @property
    def largest(self) -> Setting | None:
        """The setting of the most elements."""
        return max(self.settings, key=lambda s: sum(map(np.size, s.points[0].arrays)), default=None)

    @cached_property
    def slice(self) -> ClosedJaxpr:
        """`vjp_program` of the primal at the main setting, along one cotangent."""
        assert self.main is not None
        return trace(vjp_program(self.problem.primal, self.problem), *self.main.points[0].one.arguments)

    @cached_property
    def constant(self) -> frozenset[int]:
        """The floats that the primal detaches: its program takes them, and no path leads from dy to their
        cotangents, which are linear in it, and so 0.
        """
        found = [_detached(s.jaxpr, self.problem) for s in self.settings]
        return frozenset.intersection(*found) if found else frozenset()

    @cached_property
    def _primitives(self) -> frozenset[Primitive]:
        """Of the VJPs of the op and of the primal."""
        traced = [s.op.jaxpr for s in self.settings if s.op]
        programs = [*(s.jaxpr for s in self.settings), *traced]
        return frozenset(eqn.primitive for program in programs for eqn in equations(program))

    @property
    def solves(self) -> bool:
        """Whether one of them factorizes a matrix or solves for something."""
        return not self._primitives.isdisjoint(enclosure.SOLVING)

    def may_overflow(self, point: Point) -> bool:
        """Whether numbers are so large that exp, or its product with a large cotangent, may not be finite."""
        most = extremes.OVERFLOW / (8 if self.narrow else 1)  # float32 has 8 bits of exponent, float64 11
        floats = [np.asarray(point.arrays[i]) for i in self.problem.floats]
        return self.exponential and any(np.any(abs(a) > most) for a in floats)

    def reference(self, jaxpr: ClosedJaxpr, point: Point, rounding: Rounding) -> Reference:
        """What should come back at `point`, by `jaxpr`, the primal's `vjp_program`.

        By Fourier transforms a rule is as exact as the largest numbers that enter it, which are not those
        that leave it in every row.
        """
        found = reference(self.problem, jaxpr, point.arguments, rounding, kinks=self.kinks)
        if jaxs.fft_p in self._primitives:
            found = found.beside_slopes(
                found.slopes(point.cotangents), point.cotangents, _TRANSFORMED * rounding.unit
            )
        return found


def _detached(jaxpr: ClosedJaxpr, problem: Problem) -> frozenset[int]:
    """Of a `vjp_program`."""
    paths, count = reach(jaxpr), len(problem.floats)
    taken = frozenset().union(*paths[:-count])
    both = enumerate(zip(problem.floats, paths[-count:], strict=True))
    return frozenset(j for j, (i, path) in both if i in taken and max(path, default=0) < len(problem.arrays))


_EXPONENTIALS = frozenset({"exp", "exp2", "expm1", "sinh", "cosh", "pow"})


class Unexamined(Exception):
    """What keeps a check from being made: the stage and the message of its failure."""

    def __init__(self, stage: str, message: str):
        super().__init__(message)
        self.stage = stage


def examination(problem: Problem) -> Examination:
    """Look at the primal and choose the settings; `Unexamined` where it cannot be looked at."""
    if not problem.floats:
        raise Unexamined("evidence", "no evidence: no argument is a floating-point array")
    try:
        forward = trace(forward_program(problem.primal, problem), problem.given)
    except Exception as error:
        raise Unexamined("oracle", f"the primal raises {says(error)}") from error
    if not any(jnp.issubdtype(a.dtype, jnp.floating) for a in forward.out_avals):
        raise Unexamined("oracle", "the primal has no floating-point result to differentiate")
    loops = [eqn for eqn in equations(forward) if eqn.primitive is jaxs.while_p]
    if loops and not any(map(enclosure.may_not_end, loops)):
        problem = replace(problem, forwards=only_forwards(problem))
    natural = meanings.by_nature(problem, forward)
    problem = replace(problem, meanings=(*problem.meanings, *natural))
    small, notes = points.small_settings(problem)
    notes += [
        f"{m.words}, as it came, wherever it was looked at: the primal is made for such" for m in natural
    ]
    for j in problem.distributions:
        notes = [
            *notes,
            f"{problem.labels[j]} sums to 1 along its last axis: so it did wherever it was looked at",
        ]
    given = points.given_setting(problem)
    narrow = _narrow(problem, [*small, *([given] if given else [])][-1:])
    if narrow:
        notes = [*notes, f"the {narrow} though its arguments are float64: held to float32 there"]
        small, given = [setting.rounded() for setting in small], given and given.rounded()
    programs = [
        forward,
        *(s.op.jaxpr for s in small[-1:] if s.op),
        *([given.op.jaxpr] if given and given.op else []),
    ]
    exponential = any(holds(program, _EXPONENTIALS) for program in programs)
    endless = any(enclosure.may_not_end(eqn) for program in programs for eqn in equations(program))
    kinks = holds(forward, KINKS)
    return Examination(problem, small, given, kinks, bool(narrow), endless, exponential, notes)


def _narrow(problem: Problem, settings: list[Setting]) -> str:
    """Which of op and primal computes in what, if it is narrower than float64 where all arguments are."""
    functions = {"op": problem.op, "primal": problem.primal}
    jaxprs = {name: _ones(fun, problem) for name, fun in functions.items()} if not settings else {}
    for setting in settings:
        jaxprs = {"op": setting.op and setting.op.jaxpr, "primal": setting.jaxpr}
    for name, jaxpr in jaxprs.items():
        dtype = narrow_dtype(jaxpr) if jaxpr is not None else None
        if dtype is not None:
            return f"{name} computes in {dtype}"
    return ""


def _ones(fun: Function, problem: Problem) -> ClosedJaxpr | None:
    try:
        return trace(vjp_program(fun, problem), problem.given, None)
    except Exception:  # for the stages to find
        return None
