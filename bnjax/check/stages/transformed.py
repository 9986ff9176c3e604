"""The examinations beyond a value: linear, deterministic, eager, batched, differentiated again."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.check import enclosure, probes
from bnjax.check.compare import Context, compare_cotangents, compare_results, failure
from bnjax.check.enclosure import Ball, Rounding
from bnjax.check.points import Setting, enclose_smooth, reference
from bnjax.check.programs import Problem, Together, second_order_program, trace, vjp_program
from bnjax.check.report import Failure, Record, says

STAGES = ("jit", "determinism", "vmap", "reverse over reverse", "forward over reverse", "non-finite")
_SECOND_ORDER = ("reverse over reverse", "forward over reverse")
_FEW = ("ones", "random")


def programs(subject: Problem, main: Setting) -> dict[Any, Any]:
    """The op's programs under vmap and differentiated again, with their arguments."""
    weights, tangents = _directions(subject, main)
    arrays, cotangent = main.arguments(0)[0], _one(main)
    return {
        "vmap": (jax.vmap(vjp_program(subject.op, subject)), _stacked(main)),
        _SECOND_ORDER[0]: (
            second_order_program(subject.op, subject, forward=False),
            (arrays, cotangent, (weights,)),
        ),
        _SECOND_ORDER[1]: (
            second_order_program(subject.op, subject, forward=True),
            (arrays, cotangent, tangents),
        ),
    }


def dtype_stage(subject: Problem, record: Record, where: str, j: int, got: Any, expected: Any) -> None:
    """A cotangent has its argument's dtype; JAX lets another through in silence."""
    record.count("dtype", 1)
    if got != expected:
        label = subject.labels[subject.floats[j]]
        message = f"cotangent of {label} is {got}, the argument {expected}"
        record.fail(Failure("dtype", label, where, message=message))


# --- linearity --------------------------------------------------------------------------------------------


def linearity_stage(
    subject: Problem,
    record: Record,
    setting: Setting,
    variant: str,
    pulled: Sequence[Any],
    rounding: Rounding,
) -> None:
    """Additive, homogeneous, and zero ↦ zero, each among the op's own results."""
    context = setting.context(variant, "linearity")
    at = {name: i for i, name in enumerate(context.names)}
    one, two, both, large, small, zero = (at[n] for n in probes.LINEAR)
    combinations = {
        both: lambda g: g[one] + g[two],
        large: lambda g: probes.SCALE * g[one],
        small: lambda g: -g[one] / probes.SCALE,
        zero: lambda g: 0 * g[zero],
    }
    for j, (array, ball) in enumerate(zip(pulled, setting.references[variant].cotangents, strict=True)):
        if np.shape(array) != np.shape(ball.value) or ball.value.size == 0:
            continue
        got = np.asarray(array, np.float64)
        bound = enclosure.allowance(ball, rounding)
        for probe, combine in combinations.items():
            record.count("linearity", 1)
            expected, allowed = combine(got), abs(combine(bound)) + bound[probe] * (probe != zero)
            difference = np.where(np.isfinite(allowed + ball.value[probe]), abs(got[probe] - expected), 0)
            ratio = np.where(difference > 0, difference / (allowed + 1e-300), 0)
            if np.any(ratio > 1) or (probe == zero and np.any(np.nan_to_num(got[probe], nan=0) != 0)):
                index = tuple(int(i) for i in np.unravel_index(np.argmax(ratio), ratio.shape))
                numbers = (got[(probe, *index)], expected[index], allowed[index])
                label = subject.labels[subject.floats[j]]
                record.fail(failure(subject, context, label, probe, index, numbers, np.max(ratio), 1))


# --- vmap -------------------------------------------------------------------------------------------------


def _stacked(main: Setting) -> tuple[list[Any], list[Any]]:
    """All variants of the setting as a batch of points, each with its own cotangents."""
    points = [main.arguments(i) for i in range(len(main.wide))]
    arrays = [
        jnp.stack(list(map(jnp.asarray, column))) for column in zip(*(p[0] for p in points), strict=True)
    ]
    return arrays, [np.stack(column) for column in zip(*(p[1] for p in points), strict=True)]


def vmap_stage(subject: Problem, record: Record, main: Setting, outcome: Any, rounding: Rounding) -> None:
    """Rule and all under vmap: what comes back is the stack of what comes back from each."""
    if isinstance(outcome, Exception):
        if not record.failures:  # else it is the same exception as without vmap
            record.fail(Failure("vmap", "", main.label, message=f"under vmap the op raises {says(outcome)}"))
        return
    results, _, pulled = outcome
    for row, variant in enumerate(main.returned):
        context = main.context(variant, "vmap")
        own_results, own_cotangents = _own(main, variant, main.returned[variant], rounding)
        compare_results(subject, record, context, [r[row] for r in results], own_results, rounding)
        compare_cotangents(subject, record, context, [g[row] for g in pulled], own_cotangents, rounding)


def _own(main: Setting, variant: str, returned: Any, rounding: Rounding) -> tuple[list[Ball], list[Ball]]:
    """What the op itself returned, right or wrong, give or take twice what the reference is allowed."""
    ref = main.references[variant]
    groups = (_lifted(ref.results), ref.cotangents)
    allowed = [[2 * enclosure.allowance(b, rounding) for b in group] for group in groups]
    allowed[0] = [a[0] for a in allowed[0]]
    return tuple(
        [_about(g, a) for g, a in zip(got, group, strict=False)]
        for got, group in zip(returned, allowed, strict=True)
    )  # type: ignore[return-value]


def _about(got: Any, allowed: Any) -> Ball:
    """A ball about what came; about nothing in particular where it has not the shape it should have."""
    if np.shape(got) != np.shape(allowed):
        allowed = np.full(np.shape(got), np.inf)
    return Ball(np.asarray(got, np.float64), allowed)


# --- second order -----------------------------------------------------------------------------------------


def _one(main: Setting) -> list[np.ndarray]:
    """The random cotangent of the first variant."""
    at = list(main.probes[main.variant(0)]).index("random")
    return [c[at] for c in main.cotangents(main.variant(0))]


def _directions(
    subject: Problem, main: Setting
) -> tuple[list[np.ndarray], tuple[list[np.ndarray], list[np.ndarray]]]:
    arrays = main.arguments(0)[0]
    rng = probes.generator(main.key, 7)
    floats = [np.asarray(arrays[i]) for i in subject.floats]
    weights = [rng.normal(size=f.shape) for f in floats]
    tangents = [rng.normal(size=f.shape) * np.max(abs(f), initial=1e-3) for f in floats]
    return weights, (tangents, [rng.normal(size=c.shape) for c in _one(main)])


def second_order_stages(
    subject: Problem,
    record: Record,
    main: Setting,
    outcomes: Mapping[Any, Any],
    rounding: Rounding,
    kinks: bool,
) -> None:
    """The derivative of the op's VJP against that of the primal's, backward and forward over it."""
    weights, tangents = _directions(subject, main)
    cotangent = _one(main)
    for stage, directions in zip(_SECOND_ORDER, ((weights,), tangents), strict=True):
        outcome = outcomes[stage]
        if isinstance(outcome, Exception):
            record.skipped[stage] = f"the op's VJP cannot be differentiated: {says(outcome)}"
            continue
        program = second_order_program(subject.primal, subject, forward=stage == _SECOND_ORDER[1])
        try:
            jaxpr = trace(program, main.arguments(0)[0], cotangent, directions)
        except Exception as error:
            record.skipped[stage] = f"the primal's VJP cannot be differentiated: {says(error)}"
            continue
        rest = jax.tree.leaves((cotangent, directions))
        balls, _ = enclose_smooth(jaxpr, main.arguments(0)[0], rest, subject, rounding, kinks)
        context = Context(
            stage, main.label, ["random"], "", main.arguments(0)[0], [c[None] for c in cotangent]
        )
        got = jax.tree.leaves(outcome)
        compare_cotangents(subject, record, context, [g[None] for g in got], _lifted(balls), rounding)


def _lifted(balls: Sequence[Ball]) -> list[Ball]:
    return [Ball(b.value[None], None if b.radius is None else np.asarray(b.radius)[None]) for b in balls]


# --- eager ------------------------------------------------------------------------------------------------


def eager_stage(subject: Problem, record: Record, main: Setting, rounding: Rounding) -> None:
    """Without jit the same as with it; and again, with another point's forward pass in between."""
    variants = list(main.returned)[:2]
    chosen = [i for i, name in enumerate(main.probes[variants[0]]) if name in _FEW] if variants else []
    try:
        first = {v: _pulled(main, v, _eager(subject, main, v), chosen) for v in variants}
        points = {v: _eager(subject, main, v) for v in variants}
        second = {v: _pulled(main, v, points[v], chosen) for v in variants}
    except Exception as error:
        record.fail(Failure("jit", "", main.label, message=f"without jit the op raises {says(error)}"))
        return
    for variant in variants:
        own_results, own_cotangents = _own(main, variant, main.returned[variant], rounding)
        few = [Ball(b.value[chosen], b.radius[chosen]) for b in own_cotangents]
        again = [Ball(g, b.radius) for g, b in zip(first[variant][1], few, strict=True)]
        for stage, (results, pulled), expected in (
            ("jit", first[variant], few),
            ("determinism", second[variant], again),
        ):
            whole = main.context(variant, stage)
            cotangents = [c[chosen] for c in whole.cotangents]
            context = Context(stage, whole.where, _FEW, "float64", whole.arguments, cotangents)
            compare_results(subject, record, context, results, own_results, rounding)
            compare_cotangents(subject, record, context, pulled, expected, rounding)


def _pulled(
    main: Setting, variant: str, point: Any, chosen: Sequence[int]
) -> tuple[list[Any], list[np.ndarray]]:
    """An op's results and the cotangents of a few probes, [probe, *leaf], from its backward pass."""
    results, backward = point
    cotangents = main.cotangents(variant)
    rows = [backward([jnp.asarray(c[i]) for c in cotangents])[0] for i in chosen]
    return results, [np.stack(column).astype(np.float64) for column in zip(*rows, strict=True)]


def _eager(subject: Problem, main: Setting, variant: str) -> tuple[list[Any], Any]:
    """The op's results at a variant, and its backward pass from there."""
    arrays = [jnp.asarray(a) for a in main.wide[variant]]

    def of_floats(floats: Sequence[Any]) -> list[Any]:
        merged = list(arrays)
        for i, a in zip(subject.floats, floats, strict=True):
            merged[i] = a
        results = [jnp.asarray(r) for r in jax.tree.leaves(subject.op(*subject.arguments(merged)))]
        return [r for r in results if jnp.issubdtype(r.dtype, jnp.floating)]

    return jax.vjp(of_floats, [arrays[i] for i in subject.floats])


# --- NaN and infinity -------------------------------------------------------------------------------------


def non_finite_stage(
    subject: Problem, record: Record, main: Setting, together: Together, defaults: Mapping[Any, Any]
) -> None:
    """What is not finite in the primal must not be swallowed by the op.

    Cotangents are looked at for NaN alone: at infinity a hand rule may well be finite where autodiff is
    not, which is what some are written for.
    """
    variant = main.variant(0)
    at = list(main.probes[variant]).index("random")
    for j, i in enumerate(subject.floats):
        for poison in (np.nan, np.inf):
            arrays, cotangents = main.arguments(0)
            arrays = list(arrays)
            if np.size(arrays[i]) == 0:
                continue
            arrays[i] = np.array(arrays[i])
            arrays[i].flat[0] = poison
            ref = reference(main.jaxpr, arrays, cotangents, subject, enclosure.rounding(np.float64), False)
            outcome = together.run({**defaults, main.key: (arrays, cotangents)})[main.key]
            if isinstance(outcome, Exception):
                record.fail(Failure("non-finite", "", main.label, message=f"the op raises {says(outcome)}"))
                continue
            results, _, pulled = outcome
            pairs = [("its result", r, b.value) for r, b in zip(results, ref.results, strict=False)]
            if np.isnan(poison):
                pairs += [
                    (f"the cotangent of {subject.labels[k]}", g[at], b.value[at])
                    for k, g, b in zip(subject.floats, pulled, ref.cotangents, strict=True)
                ]
            record.count("non-finite", len(pairs))
            for what, got, expected in pairs:
                _propagates(
                    record, subject.labels[subject.floats[j]], main.label, poison, what, got, expected
                )


def _propagates(
    record: Record, label: str, where: str, poison: float, what: str, got: Any, expected: Any
) -> None:
    if np.shape(got) != np.shape(expected):
        return
    swallowed = np.isfinite(got) & ~np.isfinite(expected)
    if np.any(swallowed):
        number = f"{int(np.sum(swallowed))} of {swallowed.size} elements"
        message = f"with {poison} in {label}, {what} is finite where the primal's is not ({number})"
        record.fail(Failure("non-finite", label, where, message=message))
    if np.isnan(poison) and what == "its result" and np.any(np.isnan(got) & np.isfinite(expected)):
        record.note(f"with NaN in {label}, the op's result is NaN where the primal's is not")
