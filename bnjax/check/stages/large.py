"""The given arrays where they are large: few cotangents, one at a time, judged where they are computed."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.check import enclosure, probes
from bnjax.check.compare import Context, failure, worst
from bnjax.check.enclosure import Ball, Rounding
from bnjax.check.points import reference
from bnjax.check.programs import Problem, compiled, forward_program, narrow_dtype, trace, vjp_program
from bnjax.check.report import Failure, Record, says, stage_of

_NUMPY = 2**18  # elements up to which the enclosure is cheaper than its compilation
_WIDE_PROBES = ("ones", "output", "random")  # float64 is tried along fewer


def large_stage(subject: Problem, record: Record, kinks: bool) -> None:
    """The op on the arguments that came, at their dtypes and in float64."""
    given = subject.cast(subject.given, subject.dtypes)
    floats = [subject.dtypes[i] for i in subject.floats]
    try:
        shapes = jax.eval_shape(forward_program(subject.primal, subject), given)[0]
    except Exception as error:
        record.fail(Failure("oracle", message=f"the primal raises {says(error)}"))
        return
    working = max([*floats, *(s.dtype for s in shapes)], key=lambda d: float(jnp.finfo(d).eps))
    vectors = None
    judge: Any = None
    for stage in _stages(floats):
        wide = stage == "value"
        arrays = subject.cast(given, [np.dtype(np.float64)] * len(given)) if wide else given
        with jax.enable_x64(True) if wide else nullcontext():
            rule = _rule(subject, record, stage, arrays, shapes)
            if rule is None:
                continue
            pull, rounding = rule
            vectors = vectors or _cotangents(pull, arrays, shapes)
            chosen = {n: c for n, c in vectors.items() if not wide or n in _WIDE_PROBES}
            pulled = {n: pull(arrays, c) for n, c in chosen.items()}
        with jax.enable_x64(True):
            judge = judge or _judge(subject, given, shapes, kinks)
            if not wide:
                rounding = enclosure.rounding(working)
            exact = subject.cast(arrays, [np.dtype(np.float64)] * len(arrays))
            for name, (results, _, cotangents) in pulled.items():
                context = Context(
                    stage, "the given arguments", [name], "given", arrays, [c[None] for c in vectors[name]]
                )
                _hold(subject, record, context, judge, exact, results, cotangents, rounding)


def _stages(floats: Sequence[Any]) -> list[str]:
    """The given dtypes under their stage's name, then float64."""
    if set(floats) == {np.dtype(np.float64)}:
        return ["value"]
    name = (
        str(floats[0])
        if len(set(floats)) == 1 and str(floats[0]) in ("float32", "bfloat16")
        else "given dtypes"
    )
    return [name, "value"]


def _rule(
    subject: Problem, record: Record, stage: str, arrays: Sequence[Any], shapes: Sequence[Any]
) -> tuple[Callable[..., Any], Rounding] | None:
    """The op's VJP compiled, and the precision it works in; None, and a failure, where it raises."""
    program = vjp_program(subject.op, subject, batched=False)
    ones = [np.ones(s.shape, s.dtype) for s in shapes]
    try:
        narrow = narrow_dtype(trace(program, arrays, ones))
        return compiled(program, arrays, ones), enclosure.rounding(
            np.float64 if narrow is None else np.float32
        )
    except Exception as error:
        kind = stage_of(error)
        stage = stage if kind == "raises" and stage != "value" else kind
        record.fail(Failure(stage, "", "the given arguments", message=f"the op raises {says(error)}"))
        return None


def _cotangents(
    pull: Callable[..., Any], arrays: Sequence[Any], shapes: Sequence[Any]
) -> dict[str, list[np.ndarray]]:
    """The few named cotangents, in the results' dtypes; the output among them is what the op returned."""
    results = pull(arrays, [np.ones(s.shape, s.dtype) for s in shapes])[0]
    outputs = [np.asarray(r).astype(np.float64) for r in results]
    found = probes.few_cotangents(outputs, probes.generator(0))
    return {
        name: [part.astype(s.dtype) for part, s in zip(probes.split(v, outputs), shapes, strict=True)]
        for name, v in found.items()
    }


def _judge(subject: Problem, given: Sequence[Any], shapes: Sequence[Any], kinks: bool) -> Callable[..., Any]:
    """What holds results and cotangents against their enclosures, and returns a few numbers a leaf."""
    wide = subject.cast(given, [np.dtype(np.float64)] * len(given))
    cotangent = [np.ones((1, *s.shape)) for s in shapes]
    jaxpr = trace(vjp_program(subject.primal, subject), wide, cotangent)

    def judge(
        xp: Any, arrays: Any, cotangent: Any, results: Any, pulled: Any, rounding: Rounding
    ) -> list[Any]:
        ref = reference(jaxpr, arrays, cotangent, subject, rounding, kinks, xp)
        lifted = [Ball(b.value[None], None if b.radius is None else b.radius[None]) for b in ref.results]
        verdicts: list[Any] = []
        for got, ball in zip([*results, *pulled], [*lifted, *ref.cotangents], strict=True):
            if got.shape != ball.value.shape[1:] or got.size == 0:
                verdicts.append(None)
                continue
            ratio, place, shown, bound = worst(got[None], ball, rounding, xp)
            numbers = [
                a.reshape(-1)[place[0]] for a in (xp.asarray(got).astype(np.float64), ball.value, bound)
            ]
            verdicts.append((ratio[0], place[0], shown[0], numbers))
        return verdicts

    if sum(np.size(a) for a in (*wide, *cotangent)) <= _NUMPY:
        return lambda *args: judge(np, *args)
    fast: dict[Any, Any] = {}

    def jitted(*args: Any) -> Any:
        key = tuple((np.shape(a), str(a.dtype)) for a in jax.tree.leaves(args[:-1]))
        if key not in fast:
            fast[key] = compiled(lambda *a: judge(jnp, *a), *args)
        return fast[key](*args)

    return jitted


def _hold(
    subject: Problem,
    record: Record,
    context: Context,
    judge: Callable[..., Any],
    arrays: Sequence[Any],
    results: Sequence[Any],
    cotangents: Sequence[Any],
    rounding: Rounding,
) -> None:
    """What the op returned for one cotangent; `arrays` are the arguments in float64."""
    wide = [np.asarray(c).astype(np.float64) for c in context.cotangents]
    returned = [[np.asarray(a).astype(np.float64) for a in group] for group in (results, cotangents)]
    verdicts = judge(arrays, wide, *returned, rounding)
    for j, (got, verdict) in enumerate(zip([*results, *cotangents], verdicts, strict=True)):
        j -= len(results)
        label = subject.labels[subject.floats[j]] if j >= 0 else ""
        stage = context.stage if j >= 0 else "primal value"
        if j >= 0:
            _dtype(subject, record, context, j, got)
        if verdict is None:
            continue
        ratio, place, shown, numbers = verdict
        record.count(stage, 1)
        record.seen |= {j} if j >= 0 and bool(shown) else set()
        if ratio > 1:
            index = tuple(int(i) for i in np.unravel_index(int(place), np.shape(got)))
            record.fail(
                failure(
                    subject,
                    context,
                    label,
                    0,
                    index,
                    (float(numbers[0]), float(numbers[1]), float(numbers[2])),
                    float(ratio),
                    1,
                    stage,
                )
            )


def _dtype(subject: Problem, record: Record, context: Context, j: int, got: Any) -> None:
    expected = context.arguments[subject.floats[j]].dtype
    record.count("dtype", 1)
    if got.dtype != expected:
        label = subject.labels[subject.floats[j]]
        message = f"cotangent of {label} is {got.dtype}, the argument {expected}"
        record.fail(Failure("dtype", label, context.where, message=message))
