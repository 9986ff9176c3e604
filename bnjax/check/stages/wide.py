"""The examinations, in the order in which they are made; each writes what it finds to the record."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.check import enclosure, probes
from bnjax.check.compare import Context, compare_cotangents, compare_results
from bnjax.check.points import (
    MAIN_KEYS,
    NARROW_KEYS,
    Setting,
    flippable,
    given_setting,
    has_kinks,
    reference,
    resized_setting,
    small_settings,
)
from bnjax.check.programs import Problem, Together, forward_program, vjp_program
from bnjax.check.report import Failure, Record, says, stage_of
from bnjax.check.stages import transformed
from bnjax.check.stages.large import large_stage
from bnjax.check.stages.witness import witness_stage


def examine(subject: Problem, record: Record) -> None:
    """Every stage, on `subject`."""
    with jax.enable_x64(True):
        if not _primal_runs(subject, record):
            return
        kinks = has_kinks(subject)
        settings = small_settings(subject, record)
        given = given_setting(subject)
        settings += [given] if given is not None else []
        main = _main(settings)
        _float64_stages(subject, record, settings, main, kinks)
        if main is not None:
            witness_stage(subject, record, main)
    _narrow_stages(subject, record, settings, kinks)
    if given is None:
        large_stage(subject, record, kinks)
    with jax.enable_x64(True):
        _grown_stage(subject, record, kinks)
    _evidence_stage(subject, record)


def _primal_runs(subject: Problem, record: Record) -> bool:
    if not subject.floats:
        record.fail(Failure("evidence", message="no evidence: no argument is a floating-point array"))
        return False
    try:
        shapes = jax.eval_shape(forward_program(subject.primal, subject), subject.given)
    except Exception as error:
        record.fail(Failure("oracle", message=f"the primal raises {says(error)}"))
        return False
    if not shapes[0]:
        record.fail(Failure("oracle", message="the primal has no floating-point result to differentiate"))
    return bool(shapes[0])


def _main(settings: Sequence[Setting]) -> Setting | None:
    """The setting of the costlier examinations: the batch of 3, else what there is."""
    return next((s for s in settings if s.key in MAIN_KEYS), settings[-1] if settings else None)


# --- float64 ----------------------------------------------------------------------------------------------


def _float64_stages(
    subject: Problem, record: Record, settings: list[Setting], main: Setting | None, kinks: bool
) -> None:
    _enclose(subject, record, settings, kinks)
    programs = {s.key: (vjp_program(subject.op, subject), s.arguments(0)) for s in settings}
    if main is None:
        for stage in transformed.STAGES:
            record.skipped[stage] = "the primal takes no small arguments"
    else:
        programs |= transformed.programs(subject, main)
    together = Together(programs, compile=["vmap", *(s.key for s in settings if s.is_given)])
    rounding = _working(record, together)
    for setting in settings:
        if setting.key in together.errors:
            error = together.errors[setting.key]
            record.fail(Failure(stage_of(error), "", setting.label, message=f"the op raises {says(error)}"))
    defaults = {key: args for key, (_, args) in programs.items()}
    transforms: dict[Any, Any] = {}
    for number in range(max((len(s.wide) for s in settings), default=0)):
        outcomes = together.run(defaults | {s.key: s.arguments(number) for s in settings})
        transforms = transforms or outcomes
        for setting in settings:
            if number < len(setting.wide) and setting.key not in together.errors:
                _value_stage(
                    subject, record, setting, setting.variant(number), outcomes[setting.key], rounding
                )
    if main is not None:
        transformed.second_order_stages(subject, record, main, transforms, rounding, kinks)
        transformed.vmap_stage(subject, record, main, transforms["vmap"], rounding)
        if main.key not in together.errors:
            transformed.eager_stage(subject, record, main, rounding)
            transformed.non_finite_stage(subject, record, main, together, defaults)


def _enclose(subject: Problem, record: Record, settings: Sequence[Setting], kinks: bool) -> None:
    exact = enclosure.rounding(np.float64)
    for setting in settings:
        for variant, arrays in setting.wide.items():
            cotangents = setting.cotangents(variant)
            setting.references[variant] = reference(setting.jaxpr, arrays, cotangents, subject, exact, kinks)
            record.kinks += setting.references[variant].kinks


def _working(record: Record, together: Together) -> enclosure.Rounding:
    """The precision the op works in when all it is given is float64."""
    narrow = together.narrowest()
    if narrow is None:
        return enclosure.rounding(np.float64)
    record.note(f"the op computes in {narrow} though its arguments are float64: held to float32 there")
    return enclosure.rounding(np.float32)


def _value_stage(
    subject: Problem,
    record: Record,
    setting: Setting,
    variant: str,
    outcome: Any,
    rounding: enclosure.Rounding,
) -> None:
    if isinstance(outcome, Exception):
        record.fail(Failure("raises", "", setting.label, message=f"the op raises {says(outcome)}"))
        return
    results, others, cotangents = outcome
    setting.returned[variant] = results, cotangents
    ref = setting.references[variant]
    compare_results(subject, record, setting.context(variant, "primal value"), results, ref.results, rounding)
    for got, ball in zip(others, ref.others, strict=False):
        if ball.radius is None and not np.array_equal(got, ball.value):
            message = "a result that is not floating point differs from the primal's"
            record.fail(Failure("primal value", "", setting.label, message=message))
    for j, got in enumerate(cotangents):
        transformed.dtype_stage(subject, record, setting.label, j, got.dtype, np.dtype(np.float64))
    compare_cotangents(
        subject, record, setting.context(variant, "value"), cotangents, ref.cotangents, rounding
    )
    transformed.linearity_stage(subject, record, setting, variant, cotangents, rounding)


# --- narrower dtypes --------------------------------------------------------------------------------------


def plans(subject: Problem) -> dict[str, list[Any]]:
    """The dtypes to run the arguments in, beside float64: stage ↦ a dtype for each array."""
    given = [subject.dtypes[i] for i in subject.floats]

    def all_in(dtype: Any) -> list[Any]:
        return [dtype if i in subject.floats else d for i, d in enumerate(subject.dtypes)]

    found = {"float32": all_in(np.dtype(np.float32)), "bfloat16": all_in(np.dtype(jnp.bfloat16))}
    if len(set(given)) > 1 or given[0] not in (np.float32, jnp.bfloat16, np.float64):
        found["given dtypes"] = list(subject.dtypes)
    return found


def _narrow_stages(subject: Problem, record: Record, settings: Sequence[Setting], kinks: bool) -> None:
    """Small arguments rounded to each dtype, against the float64 reference at the rounded arguments."""
    chosen = [s for s in settings if s.is_given or s.key in NARROW_KEYS] or list(settings)
    points, programs = {}, {}
    for stage, dtypes in plans(subject).items():
        for setting in chosen:
            point = _narrowed(subject, record, setting, dtypes, stage)
            if point is not None:
                points[stage, setting.key] = (setting, dtypes, point)
                programs[stage, setting.key] = (
                    vjp_program(subject.op, subject),
                    next(iter(point[0].values())),
                )
    together = Together(programs, compile=programs)
    for key, error in together.errors.items():
        _raised_narrow(subject, record, key[0], points[key], error)
    defaults = {key: args for key, (_, args) in programs.items()}
    for number in range(len(probes.VARIANTS)):
        args = {k: list(p[0].values())[min(number, len(p[0]) - 1)] for k, (_, _, p) in points.items()}
        outcomes = together.run(defaults | args)
        for key, (setting, dtypes, point) in points.items():
            if number < len(point[0]) and key not in together.errors:
                variant = list(point[0])[number]
                _narrow_value(subject, record, key[0], setting, variant, dtypes, point, outcomes[key], kinks)


def _narrowed(subject: Problem, record: Record, setting: Setting, dtypes: list[Any], stage: str) -> Any:
    """(variant ↦ arguments in `dtypes`, the primal's result dtypes); None where the primal refuses."""
    try:
        arrays = subject.cast(next(iter(setting.narrow.values())), dtypes)
        results = [r.dtype for r in jax.eval_shape(forward_program(subject.primal, subject), arrays)[0]]
    except Exception as error:
        record.skipped.setdefault(stage, f"the primal raises {says(error)}")
        return None
    args = {}
    for variant, given in setting.narrow.items():
        cotangents = [c.astype(d) for c, d in zip(setting.cotangents(variant), results, strict=True)]
        args[variant] = (subject.cast(given, dtypes), cotangents)
    return args, results


def _raised_narrow(subject: Problem, record: Record, stage: str, point: Any, error: Exception) -> None:
    """A rule need not take every dtype, but what its forward pass takes its backward pass must."""
    setting, dtypes, (args, _) = point
    kind = stage_of(error)
    if kind == "raises" and list(dtypes) != list(subject.dtypes):
        try:
            jax.eval_shape(forward_program(subject.op, subject), next(iter(args.values()))[0])
        except Exception:
            record.skipped.setdefault(stage, f"the op raises {says(error)}")
            return
    record.fail(
        Failure(
            stage if kind == "raises" else kind,
            "",
            f"{setting.label}, {stage}",
            message=f"the op raises {says(error)}",
        )
    )


def _narrow_value(
    subject: Problem,
    record: Record,
    stage: str,
    setting: Setting,
    variant: str,
    dtypes: list[Any],
    point: Any,
    outcome: Any,
    kinks: bool,
) -> None:
    if isinstance(outcome, Exception):
        record.fail(Failure(stage, "", setting.label, message=f"the op raises {says(outcome)}"))
        return
    args, result_dtypes = point
    arrays, cotangents = args[variant]
    floats = [dtypes[i] for i in subject.floats]
    rounding = enclosure.rounding(max([*floats, *result_dtypes], key=lambda d: float(jnp.finfo(d).eps)))
    results, _, pulled = outcome
    where = f"{setting.label}, {variant}"
    for got, dtype in zip(results, result_dtypes, strict=False):
        if got.dtype != dtype:
            message = f"the result is {got.dtype}, the primal's {dtype}"
            record.fail(Failure("primal value", "", f"{where}, {stage}", message=message))
    for j, got in enumerate(pulled):
        transformed.dtype_stage(subject, record, f"{setting.label}, {stage}", j, got.dtype, floats[j])
    wide = subject.cast(arrays, [np.dtype(np.float64)] * len(arrays))
    with jax.enable_x64(True):
        ref = reference(
            setting.jaxpr, wide, [c.astype(np.float64) for c in cotangents], subject, rounding, kinks
        )
    context = Context(stage, where, list(setting.probes[variant]), stage, arrays, cotangents)
    compare_results(subject, record, context, results, ref.results, rounding)
    compare_cotangents(subject, record, context, pulled, ref.cotangents, rounding)


# --- evidence ---------------------------------------------------------------------------------------------


def _grown_stage(subject: Problem, record: Record, kinks: bool) -> None:
    """Arguments that show nothing at their sizes: once more with every 1 among them grown."""
    if len(record.seen) == len(subject.floats) or record.failures:
        return
    shapes = [np.shape(a) for a in subject.given]
    for key, sizes in enumerate(probes.grown_sizes(shapes)):
        try:
            setting = resized_setting(subject, sizes, key, flippable(subject, sizes))
            together = Together({key: (vjp_program(subject.op, subject), setting.arguments(0))}, compile=[])
        except Exception:
            continue  # a 1 was a 1 for a reason
        if together.errors:
            continue
        _enclose(subject, record, [setting], kinks)
        for number in range(len(setting.wide)):
            outcome = together.run({key: setting.arguments(number)})[key]
            _value_stage(
                subject, record, setting, setting.variant(number), outcome, _working(record, together)
            )


def _evidence_stage(subject: Problem, record: Record) -> None:
    record.count("evidence", len(record.seen))
    if any(
        f.stage in ("raises", "shape", "structure", "number of cotangents") for f in record.failures.values()
    ):
        return  # there is something to mend first
    for j, i in enumerate(subject.floats):
        if j not in record.seen:
            label = subject.labels[i]
            message = f"no evidence for {label}: its true cotangent is about zero along every probe"
            record.fail(Failure("evidence", label, message=message))
