"""A setting: one choice of small sizes, the data a rule is run on there, and what it should return."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.check import enclosure, probes
from bnjax.check.compare import Context
from bnjax.check.enclosure import Ball, Rounding
from bnjax.check.programs import Problem, forward_program, primitives, trace, vjp_program
from bnjax.check.report import Record, says

GIVEN = "as given"
_JUMP = 2.0**-20  # of the largest element: what no smooth program changes by within a hair
_GIVEN_KEY = 99
_NULL_DIRECTIONS = 512  # results up to which null directions are found
_FEWER_KEY = 20
MAIN_KEYS = (2, _FEWER_KEY + 2)  # a batch of 3
NARROW_KEYS = (0, 2, _FEWER_KEY, _FEWER_KEY + 2)  # batches of 1 and 3
SMALL = 4096  # elements of the arguments, and of the results, up to which the given ones are a small setting
_KINKS = {
    *("max", "min", "abs", "sign", "floor", "ceil", "round", "clamp", "gt", "lt", "ge", "le", "eq", "ne"),
    *("reduce_max", "reduce_min", "argmax", "argmin", "sort", "top_k", "cummax", "cummin"),
    *("reduce_window_max", "reduce_window_min", "select_and_scatter_add", "select_and_gather_add"),
}


@dataclass
class Setting:
    """Arguments of one shape, several sets of them, and the primal's VJP as a program."""

    label: str
    key: int
    wide: dict[str, list[Any]]  # variant ↦ arrays, for float64
    narrow: dict[str, list[Any]]  # variant ↦ arrays, for narrower dtypes
    jaxpr: Any
    outputs: dict[str, list[np.ndarray]]  # variant ↦ floating results, to make cotangents from
    probes: dict[str, dict[str, np.ndarray]]  # variant ↦ name ↦ cotangent
    references: dict[str, "Reference"] = field(default_factory=dict)
    # variant ↦ what the op returned: results, cotangents
    returned: dict[str, tuple[list[Any], list[Any]]] = field(default_factory=dict)

    @property
    def is_given(self) -> bool:
        """Whether these are the arguments that came."""
        return GIVEN in self.wide

    def variant(self, number: int) -> str:
        """The variant of that number; the last one again where there are fewer."""
        return list(self.wide)[min(number, len(self.wide) - 1)]

    def arguments(self, number: int) -> tuple[list[Any], list[np.ndarray]]:
        """The arrays and the cotangents of a variant."""
        variant = self.variant(number)
        return self.wide[variant], self.cotangents(variant)

    def context(self, variant: str, stage: str) -> Context:
        """Of a comparison in float64."""
        where = self.label if self.is_given else f"{self.label}, {variant}"
        return Context(
            stage,
            where,
            list(self.probes[variant]),
            "float64",
            *self.arguments(list(self.wide).index(variant)),
        )

    def cotangents(self, variant: str) -> list[np.ndarray]:
        """The variant's cotangents, a [probe, *result] array for each result."""
        return probes.split(np.stack(list(self.probes[variant].values())), self.outputs[variant])


@dataclass
class Reference:
    """The primal's results and the cotangents of its float arguments, [probe, *leaf], enclosed."""

    results: list[Ball]
    others: list[Ball]
    cotangents: list[Ball]
    kinks: int  # elements of the cotangents at which the primal has no derivative


def reference(
    jaxpr: Any,
    arrays: Sequence[Any],
    cotangents: Any,
    subject: Problem,
    rounding: Rounding,
    kinks: bool,
    xp: Any = np,
) -> Reference:
    """`jaxpr`, a `vjp_program` of the primal, at `arrays` along `cotangents`."""
    balls, count_kinks = enclose_smooth(jaxpr, arrays, cotangents, subject, rounding, kinks, xp)
    last = len(balls) - len(subject.floats)
    count = sum(jnp.issubdtype(b.value.dtype, jnp.floating) for b in balls[:last])
    return Reference(balls[:count], balls[count:last], balls[last:], count_kinks)


def enclose_smooth(
    jaxpr: Any,
    arrays: Sequence[Any],
    rest: Any,
    subject: Problem,
    rounding: Rounding,
    kinks: bool,
    xp: Any = np,
) -> tuple[list[Ball], int]:
    """The enclosures of a program's results, wider at a kink, and how many elements lie at one.

    Where the values a hair to either side differ, either of the two, and what is between, is right: a
    derivative's convention at a kink is not the checker's to choose.
    """
    rest = list(rest)
    balls = enclosure.enclose(jaxpr, [*arrays, *rest], rounding, xp)
    if not kinks:
        return balls, 0
    sides = [
        enclosure.enclose(jaxpr, [*_moved(arrays, subject, sign, xp), *rest], rounding, xp)
        for sign in (1, -1)
    ]
    widened, count = [], 0
    for ball, one, other in zip(balls, *sides, strict=True):
        if jnp.issubdtype(ball.value.dtype, jnp.floating):
            jump = 2 * xp.maximum(abs(one.value - other.value), abs(one.value - ball.value))
            jump = xp.where(xp.isnan(jump), 0, jump)
            radius = jump if ball.radius is None else ball.radius + jump
            if xp is np:
                count += int(np.sum(jump > _JUMP * np.max(abs(ball.value), initial=0)))
            ball = Ball(ball.value, radius)
        widened.append(ball)
    return widened, count


def _moved(arrays: Sequence[Any], subject: Problem, sign: int, xp: Any) -> list[Any]:
    moved = list(arrays)
    for i in subject.floats:
        hair = probes.generator(i).uniform(0.5, 1, np.shape(arrays[i])) * sign * 2.0**-40
        scale = xp.max(abs(xp.where(xp.isfinite(arrays[i]), arrays[i], 0)), initial=2.0**-100)
        moved[i] = arrays[i] + hair * scale
    return moved


def small_settings(subject: Problem, record: Record) -> list[Setting]:
    """The small settings that the primal and the op's forward pass take: a rule may be the narrower."""
    shapes = [np.shape(a) for a in subject.given]
    tried = dict(enumerate(probes.shrunk_sizes(shapes)))
    settings, refusals = _taken(subject, tried)
    if len(refusals) * 2 > len(tried):
        fewer = dict(enumerate(probes.fewer_sizes(shapes), _FEWER_KEY))
        more, refused = _taken(subject, fewer)
        settings, refusals, tried = settings + more, refusals + refused, tried | fewer
    if refusals:
        record.note(f"{len(refusals)} of {len(tried)} small shapes left out: {refusals[0]}")
    return settings


def _taken(subject: Problem, tried: dict[int, probes.Sizes]) -> tuple[list[Setting], list[str]]:
    settings, refusals, flips = [], [], None
    for key, sizes in tried.items():
        try:
            flips = flippable(subject, sizes) if flips is None else flips
            setting = resized_setting(subject, sizes, key, flips)
            if 1 in sizes.values() and not _scales(subject, sizes, setting):
                raise ValueError("another shape, since a 1 broadcasts")
        except Exception as error:
            refusals.append(f"the primal raises {says(error)}")
            continue
        try:
            jax.eval_shape(forward_program(subject.op, subject), setting.arguments(0)[0])
            settings.append(setting)
        except Exception as error:
            refusals.append(f"at {setting.label} the op raises {says(error)}")
    return settings, refusals


def _scales(subject: Problem, sizes: probes.Sizes, setting: Setting) -> bool:
    """Whether the primal's results have the shapes that came with `sizes` put in.

    Where they have not, a 1 has met an array that the function holds, and was broadcast.
    """
    given = jax.eval_shape(forward_program(subject.primal, subject), subject.given)[0]
    results = next(iter(setting.outputs.values()))
    return [probes.resized(g.shape, sizes) for g in given] == [r.shape for r in results]


def resized_setting(subject: Problem, sizes: probes.Sizes, key: int, flips: set[int]) -> Setting:
    """The setting of `sizes`, on every kind of data; `flips` are the arguments that may change sign."""
    wide = {v: _data(subject, sizes, v, key, flips, narrow=False) for v in probes.VARIANTS}
    narrow = {v: _data(subject, sizes, v, key, flips, narrow=True) for v in probes.VARIANTS}
    shapes = dict.fromkeys("×".join(map(str, np.shape(a))) or "scalar" for a in wide[probes.VARIANTS[0]])
    setting = Setting(f"shapes {', '.join(shapes)}", key, wide, narrow, None, {}, {})
    return _with_reference(subject, setting)


def _with_reference(subject: Problem, setting: Setting) -> Setting:
    """`setting` with its cotangents, and the primal's VJP along all of them traced."""
    forward = trace(forward_program(subject.primal, subject), next(iter(setting.wide.values())))
    exact = enclosure.rounding(np.float64)
    for variant, arrays in setting.wide.items():
        balls = enclosure.enclose(forward, arrays, exact)
        results = [np.asarray(b.value) for b in balls if jnp.issubdtype(b.value.dtype, jnp.floating)]
        if not results:
            raise ValueError("no floating-point result to differentiate")
        floats = [np.asarray(arrays[i]) for i in subject.floats]
        rng = probes.generator(
            setting.key, probes.VARIANTS.index(variant) if variant in probes.VARIANTS else 9
        )
        setting.outputs[variant] = results
        setting.probes[variant] = probes.cotangents(results, floats, rng)
    if probes.FULL_JACOBIAN < sum(y.size for y in results) <= _NULL_DIRECTIONS:
        _add_null_directions(subject, setting)
    variant = next(iter(setting.wide))
    program = vjp_program(subject.primal, subject)
    setting.jaxpr = trace(program, setting.wide[variant], setting.cotangents(variant))
    return setting


def _add_null_directions(subject: Problem, setting: Setting) -> None:
    """Where not every cotangent is tried: two that the largest argument's true cotangent does not see."""
    size = sum(y.size for y in next(iter(setting.outputs.values())))
    program, exact = vjp_program(subject.primal, subject), enclosure.rounding(np.float64)
    jaxpr = None
    for variant, arrays in setting.wide.items():
        every = probes.split(np.eye(size), setting.outputs[variant])
        jaxpr = jaxpr or trace(program, arrays, every)
        pulled = enclosure.enclose(jaxpr, [*arrays, *every], exact)[-len(subject.floats) :]
        largest = max((b.value for b in pulled), key=np.size)
        found = probes.null_directions(largest.reshape(size, -1))
        for i, vector in enumerate((found + [np.zeros(size)] * 2)[:2]):
            setting.probes[variant][f"null direction {i}"] = vector


def _data(
    subject: Problem, sizes: probes.Sizes, variant: str, key: int, flips: set[int], narrow: bool
) -> list[Any]:
    given = subject.given
    floats = [subject.samples[i] for i in subject.floats]
    most = max((np.ndim(given[i]) for i in subject.floats), default=0)
    scale = probes.low_scale(floats)
    arrays = []
    for i, leaf in enumerate(given):
        shape = probes.resized(np.shape(leaf), sizes)
        rng = probes.generator(key, probes.VARIANTS.index(variant), i)
        if i in subject.floats:
            main = leaf.ndim == most and most > 0
            arrays.append(
                probes.float_leaf(
                    subject.samples[i],
                    shape,
                    variant,
                    rng,
                    main=main,
                    flip=i in flips,
                    low_scale=scale,
                    narrow=narrow,
                )
            )
        elif isinstance(leaf, np.ndarray) and leaf.dtype.kind in "biu":
            arrays.append(probes.integer_leaf(subject.samples[i], shape, sizes, rng))
        elif shape == np.shape(leaf):
            arrays.append(leaf)
        else:
            raise ValueError(f"{subject.labels[i]} cannot be made smaller")
    return arrays


def flippable(subject: Problem, sizes: probes.Sizes) -> set[int]:
    """The positive float arguments whose negative the primal takes too: it stays finite on all data."""
    flips = set()
    base = {v: _data(subject, sizes, v, 0, set(), narrow=True) for v in probes.VARIANTS[:3]}
    base["constant"] = [
        np.full_like(a, np.mean(a)) if np.ndim(a) and i in subject.floats and np.size(a) else a
        for i, a in enumerate(base[probes.VARIANTS[0]])
    ]
    program = vjp_program(subject.primal, subject)
    jaxpr = trace(lambda arrays: program(arrays, None), base["constant"])
    for i in subject.floats:
        if not probes.is_positive(subject.samples[i]):
            continue
        flipped = ([-a if j == i else a for j, a in enumerate(arrays)] for arrays in base.values())
        balls = [
            b for arrays in flipped for b in enclosure.enclose(jaxpr, arrays, enclosure.rounding(np.float64))
        ]
        if all(np.all(np.isfinite(b.value)) for b in balls if b.value.dtype.kind == "f"):
            flips.add(i)
    return flips


def given_setting(subject: Problem) -> Setting | None:
    """The arguments that came, if they are small enough to be examined as small settings are."""
    arrays = [np.asarray(a, np.float64) if i in subject.floats else a for i, a in enumerate(subject.given)]
    if sum(np.size(a) for a in arrays) > SMALL:
        return None
    setting = Setting("the given arguments", _GIVEN_KEY, {GIVEN: arrays}, {GIVEN: arrays}, None, {}, {})
    setting = _with_reference(subject, setting)
    return setting if sum(y.size for y in setting.outputs[GIVEN]) <= SMALL else None


def has_kinks(subject: Problem) -> bool:
    """Whether the primal compares, rounds or picks floats, so that it may not be differentiable somewhere."""
    jaxpr = trace(forward_program(subject.primal, subject), subject.given)
    return any(
        eqn.primitive.name in _KINKS and any(jnp.issubdtype(a.aval.dtype, jnp.floating) for a in eqn.invars)
        for eqn in primitives(jaxpr.jaxpr)
    )
