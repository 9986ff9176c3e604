"""Where a rule is looked at: small shapes, several kinds of data on each, and the arguments that came."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from bnjax.check import domain, enclosure, extremes, probes, sizes, traits
from bnjax.check.enclosure import Ball
from bnjax.check.extremes import Extreme
from bnjax.check.problem import Problem
from bnjax.check.programs import Traced, forward_program, strays, trace, traced, vjp_program
from bnjax.check.report import says
from bnjax.check.sizes import Shrunk
from bnjax.jaxprs import equations

SMALL = 4096  # elements of the arguments, and of the results, up to which the given ones are a small setting
Step = tuple[str, tuple[tuple[int, ...], ...]]
_NULL_DIRECTIONS = 512  # results up to which null directions are found


@dataclass(frozen=True, eq=False)
class Point:
    """Arrays, and the cotangents that are pulled back there.

    Attributes:
      where: what a report calls it.
      arrays: the arrays of the arguments.
      cotangents: [row, *result] for each floating result.
      names: of the rows.
      dtype: what the floats were cast to, as a report says it.
    """

    where: str
    arrays: list[Any]
    cotangents: list[np.ndarray]
    names: Sequence[str]
    dtype: str = "float64"

    @property
    def arguments(self) -> tuple[list[Any], list[np.ndarray]]:
        """Of a `vjp_program`."""
        return self.arrays, self.cotangents

    @property
    def one(self) -> "Point":
        """Along the random cotangent alone."""
        return self.rows([list(self.names).index("random")])

    @property
    def hot(self) -> list[int]:
        """The rows of the one-hot cotangents, where there is one for every element of the results."""
        rows = [i for i, name in enumerate(self.names) if name.startswith("one-hot")]
        return rows if len(rows) == sum(c[0].size for c in self.cotangents) else []

    def widened(self, problem: Problem) -> "Point":
        """In float64."""
        cotangents = [c.astype(np.float64) for c in self.cotangents]
        return Point(self.where, problem.widened(self.arrays), cotangents, self.names, self.dtype)

    def rows(self, chosen: Sequence[int]) -> "Point":
        """With a few of the cotangents."""
        few = [c[chosen] for c in self.cotangents]
        return Point(self.where, self.arrays, few, [self.names[i] for i in chosen], self.dtype)


@dataclass(frozen=True, eq=False)
class Setting:
    """Arguments of one shape, several sets of them, and the primal's VJP traced for these.

    Attributes:
      label: its shapes in words.
      shrunk: the sizes it came from; None for the arguments that came.
      points: in float64, one a kind of data.
      flips: the positive arguments that the primal takes the negatives of too.
      narrow: the arrays that narrower dtypes are tried on, one list a point.
      jaxpr, forward: `vjp_program` and `forward_program` of the primal.
      finite: whether any of the primal's results is, at any point.
      op: `vjp_program` of the op, if it is traced.
    """

    label: str
    shrunk: Shrunk | None
    points: tuple[Point, ...]
    flips: frozenset[int]
    narrow: tuple[list[Any], ...]
    jaxpr: ClosedJaxpr
    forward: ClosedJaxpr
    finite: bool
    op: Traced | None = None

    def rounded(self) -> "Setting":
        """With numbers that float32 has: a rule that casts to it loses nothing of them."""

        def held(a: Any) -> Any:
            if not isinstance(a, np.ndarray) or a.dtype != np.float64:
                return a
            with np.errstate(over="ignore", under="ignore"):
                return a.astype(np.float32).astype(np.float64)

        points = (replace(p, arrays=list(map(held, p.arrays))) for p in self.points)
        return replace(self, points=tuple(points))


def given_setting(problem: Problem) -> Setting | None:
    """The arguments that came, if they are small enough to be examined as small settings are."""
    arrays = problem.given
    if sum(np.size(a) for a in arrays) > SMALL:
        return None
    forward = trace(forward_program(problem.primal, problem), arrays)
    wide = {"as given": arrays}
    setting = _setting(problem, "the given arguments", None, wide, (arrays,), frozenset(), forward)
    outputs = sum(c[0].size for c in setting.points[0].cotangents)
    return _with_op(problem, setting) if outputs <= SMALL else None


def small_settings(problem: Problem) -> tuple[list[Setting], list[str]]:
    """The small settings that the primal and the op's forward pass take, and why others are left out."""

    @cache
    def steps() -> set[Step]:
        return _steps(trace(forward_program(problem.primal, problem), problem.given))

    shapes = [np.shape(a) for a in problem.given]
    tried = sizes.shrunk_sizes(shapes)
    settings, refusals = _taken(problem, tried)
    if len(refusals) * 2 > len(tried):
        fewer = sizes.fewer_sizes(shapes)
        more, refused = _taken(problem, fewer)
        settings, refusals, tried = settings + more, refusals + refused, tried + fewer
    if len(refusals) * 2 > len(tried) and _traces(problem):  # sizes have a meaning, which a rule may rely on
        refusals += [f"at {s.label} the op's rule raises" for s in settings if s.op is None]
        settings = [s for s in settings if s.op is not None]
        refusals += [f"at {s.label} it is another program" for s in settings if steps() - _steps(s.forward)]
        settings = [s for s in settings if not steps() - _steps(s.forward)]
    split, _ = _taken(problem, sizes.split_sizes(shapes))  # where the axes are equal for a reason, none
    split = [s for s in split if not any(map(_repeats, steps() - _steps(s.forward)))]
    notes = [f"{len(refusals)} of {len(tried)} small shapes left out: {refusals[0]}"] if refusals else []
    blank = [s.label.removeprefix("shapes ") for s in settings if not s.finite]
    if blank:
        notes.append(f"at shapes {'; '.join(blank)} the primal is finite nowhere: nothing is known of them")
    return [*split, *settings], notes


def _repeats(step: Step) -> bool:
    """Whether an operand is of size 1 along an axis, so that it broadcasts."""
    _, operands = step
    return any(operands)


def _steps(jaxpr: ClosedJaxpr) -> set[Step]:
    """The primitives of a program, with the axes along which each operand is repeated."""

    def repeated(operand: Any, out: Any) -> tuple[int, ...]:
        shape, whole = (getattr(value.aval, "shape", ()) for value in (operand, out))
        if len(shape) != len(whole):
            return ()
        return tuple(k for k, (a, b) in enumerate(zip(shape, whole, strict=True)) if a == 1 != b)

    return {
        (eqn.primitive.name, tuple(repeated(operand, eqn.outvars[0]) for operand in eqn.invars))
        for eqn in equations(jaxpr)
        if eqn.outvars
    }


class Extremal(NamedTuple):
    """A point past the ordinary ones.

    Attributes:
      kind: what makes it.
      positive: whether its zeros are of arguments that came positive, of which a right rule may divide.
    """

    point: Point
    kind: Extreme
    positive: bool


def beyond(problem: Problem, setting: Setting) -> Iterator[Extremal]:
    """The extremes beside the first point of `setting`.

    Arguments that came positive are given zeros by themselves, and none of whose negatives the primal does
    not take; a parameter, of fewer axes than the batch, as an ε, stays of its magnitude.
    """
    first = setting.points[0]
    floats = [first.arrays[i] for i in problem.floats]
    positive = [traits.is_positive(problem.arrays[i].sample) for i in problem.floats]
    signed = [i in setting.flips or not p for i, p in zip(problem.floats, positive, strict=True)]
    main = max(map(np.ndim, floats))
    pool = next((a.ravel() for a, either in zip(floats, signed, strict=True) if either and a.size), None)
    kinds = extremes.extremes(len(floats))
    for kind, of_positive in [(k, p) for k in kinds for p in ((False, True) if k.zeros else (False,))]:
        moved = list(floats)
        for j, (values, either) in enumerate(zip(floats, signed, strict=True)):
            parameter = not either and np.ndim(values) < main
            kept = parameter != kind.parameters or j in problem.distributions
            kept = kept or (kind.zeros and (not either or positive[j] != of_positive))
            if values.size and not kept and kind.only in (None, j):
                like = pool if either and pool is not None else values.ravel()
                draw = extremes.Draw(like, either, probes.generator(j))
                moved[j] = kind.fill(np.asarray(values, np.float64), draw)
        if any(a is not b for a, b in zip(moved, floats, strict=True)):
            arrays = problem.put(first.arrays, moved)
            where = f"{setting.label}, {kind.name}{' in arguments that came positive' if of_positive else ''}"
            yield Extremal(replace(first, where=where, arrays=arrays), kind, of_positive)


def grown_settings(problem: Problem) -> Iterator[Setting]:
    """Settings in which every 1 has grown, as far as the primal takes them: a 1 may be one for a reason."""
    for shrunk in sizes.grown_sizes([np.shape(a) for a in problem.given]):
        try:
            yield resized_setting(problem, shrunk, flippable(problem, shrunk))
        except Exception:
            continue


def _taken(problem: Problem, tried: Sequence[Shrunk]) -> tuple[list[Setting], list[str]]:
    settings, refusals, flips = [], [], None

    @cache
    def given() -> ClosedJaxpr:
        return trace(forward_program(problem.primal, problem), problem.given)

    for shrunk in tried:
        try:
            flips = flippable(problem, shrunk) if flips is None else flips
            setting = resized_setting(problem, shrunk, flips)
            if 1 in shrunk.sizes.values() and not _scales(shrunk, given().out_avals, setting):
                raise ValueError("another shape, since a 1 broadcasts")
            if _has_a_meaning(shrunk, given().out_avals, setting):
                raise ValueError("a result of the same shape: the size has a meaning")
            if strays(setting.forward, setting.points[0].arrays) and not strays(given(), problem.given):
                raise ValueError("a size that it does not mean: a window or an index lies outside")
        except Exception as error:
            refusals.append(f"the primal raises {says(error)}")
            continue
        try:
            settings.append(_with_op(problem, setting))
        except Exception as error:
            refusals.append(f"at {setting.label} the op raises {says(error)}")
    return settings, refusals


def _with_op(problem: Problem, setting: Setting) -> Setting:
    """The setting with the op traced; raises where its forward pass does.

    Where the backward pass alone raises it is for the stages to find, unless it is not made for these sizes:
    it traces at those that came, and others than the batch's have changed.
    """
    try:
        return replace(setting, op=traced(vjp_program(problem.op, problem), *setting.points[0].arguments))
    except Exception:
        if setting.shrunk is not None:
            jax.eval_shape(forward_program(problem.op, problem), setting.points[0].arrays)
            if (setting.shrunk.alone or setting.shrunk.reshaped) and _traces(problem):
                raise
        return setting


def _traces(problem: Problem) -> bool:
    """Whether the op's VJP can be traced at the arguments that came."""
    try:
        trace(vjp_program(problem.op, problem), problem.given, None)
    except Exception:
        return False
    return True


def _scales(shrunk: Shrunk, given: Sequence[Any], setting: Setting) -> bool:
    """Whether the primal's results have the shapes that came with the small sizes put in.

    Where they have not, a 1 has met an array that the function holds, and was broadcast.
    """
    results = [a.shape for a in setting.forward.out_avals]
    return [sizes.resized(g.shape, shrunk.sizes) for g in given] == results


def _has_a_meaning(shrunk: Shrunk, given: Sequence[Any], setting: Setting) -> bool:
    """Whether the only size that came is changed, and the results keep it."""
    if not shrunk.alone or shrunk.second:
        return False
    ((size, small),) = shrunk.sizes.items()
    same = [g.shape for g in given] == [a.shape for a in setting.forward.out_avals]
    return size != small and same and any(size in g.shape for g in given)


def resized_setting(problem: Problem, shrunk: Shrunk, flips: set[int]) -> Setting:
    """The setting of `shrunk`, on every kind of data; `flips` are the arguments that may change sign."""
    wide = {v: _data(problem, shrunk, v, flips, narrow=False) for v in probes.VARIANTS}
    narrow = tuple(_data(problem, shrunk, v, flips, narrow=True) for v in probes.VARIANTS)
    forward = trace(forward_program(problem.primal, problem), narrow[0])
    wide = {v: domain.inside(problem, forward, shrunk, arrays) for v, arrays in wide.items()}
    narrow = tuple(domain.inside(problem, forward, shrunk, arrays) for arrays in narrow)
    shapes = dict.fromkeys("×".join(map(str, np.shape(a))) or "scalar" for a in narrow[0])
    label = f"shapes {', '.join(shapes)}"
    return _setting(problem, label, shrunk, wide, narrow, frozenset(flips), forward)


def _setting(
    problem: Problem,
    label: str,
    shrunk: Shrunk | None,
    wide: dict[str, list[Any]],
    narrow: tuple[list[Any], ...],
    flips: frozenset[int],
    forward: ClosedJaxpr,
) -> Setting:
    """The setting of these arrays, with their cotangents, and the primal's VJP along all of them traced."""
    points, finite = [], False
    for number, (data, arrays) in enumerate(wide.items()):
        results = domain.results(forward, arrays)
        finite = finite or any(np.isfinite(r).any() or r.size == 0 for r in results)
        if not results:
            raise ValueError("no floating-point result to differentiate")
        rng = probes.generator(shrunk.seed, number) if shrunk else probes.generator(probes.GIVEN_SEED, 9)
        named = probes.cotangents(results, [np.asarray(arrays[i]) for i in problem.floats], rng)
        where = f"{label}, {data}" if shrunk else label
        points.append(Point(where, arrays, probes.rows(named, results), list(named)))
    program = vjp_program(problem.primal, problem)
    if probes.FULL_JACOBIAN < sum(y.size for y in results) <= _NULL_DIRECTIONS:
        points = _with_null_directions(problem, points, results)
    jaxpr = trace(program, *points[0].arguments)
    return Setting(label, shrunk, tuple(points), flips, narrow, jaxpr, forward, finite)


def _with_null_directions(
    problem: Problem, points: Sequence[Point], results: Sequence[np.ndarray]
) -> list[Point]:
    """Where not every cotangent is tried: two that the largest argument's true cotangent does not see."""
    size = sum(y.size for y in results)
    every = probes.split(np.eye(size), results)
    jaxpr = trace(vjp_program(problem.primal, problem), points[0].arrays, every)
    more = []
    for point in points:
        values = enclosure.evaluate(jaxpr, [*point.arrays, *every])
        largest = max(values[-len(problem.floats) :], key=np.size)
        found = probes.null_directions(largest.reshape(size, -1))
        vectors = np.stack((found + [np.zeros(size)] * 2)[:2])
        both = zip(point.cotangents, probes.split(vectors, results), strict=True)
        names = [*point.names, "null direction 0", "null direction 1"]
        more.append(Point(point.where, point.arrays, [np.concatenate(pair) for pair in both], names))
    return more


def _data(problem: Problem, shrunk: Shrunk, variant: str, flips: set[int], *, narrow: bool) -> list[Any]:
    most = max((np.ndim(problem.arrays[i].value) for i in problem.floats), default=0)
    scale = probes.low_scale([problem.arrays[i].sample for i in problem.floats])
    arrays: list[Any] = []
    for i, argument in enumerate(problem.arrays):
        leaf, sample = argument.value, argument.sample
        shape = shrunk.of(np.shape(leaf))
        rng = probes.generator(shrunk.seed, probes.VARIANTS.index(variant), i)
        if argument.floating:
            kind = probes.Kind(variant, leaf.ndim == most and most > 0, i in flips, narrow, scale)
            values = probes.float_leaf(sample, shape, kind, rng)
            arrays.append(traits.distribution(values) if argument.distribution else values)
        elif isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biu":
            mixed = variant != probes.VARIANTS[0]
            arrays.append(probes.integer_leaf(sample, shape, shrunk.sizes, rng, mixed=mixed))
        elif shape == np.shape(leaf):
            arrays.append(leaf)
        else:  # random keys
            arrays.append(jnp.ravel(leaf)[rng.integers(leaf.size, size=shape)])
    return arrays


def _known(ball: Ball) -> bool:
    """Whether an array is finite, and not mostly rounding."""
    largest = np.max(abs(ball.value), initial=0)
    known = largest == 0 or ball.radius is None or np.max(ball.radius, initial=0) < 1e-3 * largest
    return bool(np.all(np.isfinite(ball.value)) and known)


def flippable(problem: Problem, shrunk: Shrunk) -> set[int]:
    """The positive float arguments whose negative the primal takes too: on all data it stays finite, and not
    a matter of rounding, as a loop that does not converge.
    """
    base = [_data(problem, shrunk, v, set(), narrow=True) for v in probes.VARIANTS[:3]]
    floats = [base[0][i] for i in problem.floats]
    base.append(problem.put(base[0], [np.full_like(a, np.mean(a)) if a.size else a for a in floats]))
    program = vjp_program(problem.primal, problem)
    jaxpr = trace(lambda arrays: program(arrays, None), base[0])

    def finite(arrays: list[Any], i: int) -> bool:
        flipped = [-a if j == i else a for j, a in enumerate(arrays)]
        balls = enclosure.enclose(jaxpr, flipped, enclosure.rounding(np.float64))
        return all(_known(b) for b in balls if b.value.dtype.kind == "f")

    free = [i for i in problem.floats if not problem.arrays[i].distribution]
    positive = [i for i in free if traits.is_positive(problem.arrays[i].sample)]
    return {i for i in positive if all(finite(arrays, i) for arrays in base)}
