"""The second witness: the primal's derivative by differences, which trusts no rule of differentiation.

⟨dy, f(x + t·v)⟩ is a function φ of one number; ⟨VJP(dy), v⟩ must be φ'(0).  Central differences of order
6 and 8 over a ladder of steps give φ'(0) and, where they agree, how well; their disagreement is the
tolerance.  It is autodiff of the *primal* that is on trial here: a custom rule inside it may be wrong.
"""

from typing import Any

import jax
import numpy as np

from bnjax.check import enclosure, probes
from bnjax.check.points import Setting
from bnjax.check.programs import Problem, forward_program, primitives, trace
from bnjax.check.report import Failure, Record

_STEPS = 2.0 ** -np.arange(4, 15)
_NODES = np.arange(-4, 5)
_ORDER_8 = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280])
_ORDER_6 = np.array([0, -1 / 60, 3 / 20, -3 / 4, 0, 3 / 4, -3 / 20, 1 / 60, 0])
_FORWARD = np.array([0, 0, 0, 0, -3 / 2, 2, -1 / 2, 0, 0])


def witness_stage(subject: Problem, record: Record, main: Setting) -> None:
    """Autodiff of the primal against differences, for every float argument on three kinds of data."""
    forward = jax.vmap(forward_program(subject.primal, subject))
    variants = list(main.wide)[:3]
    grid = _STEPS[:, None] * _NODES
    stacked = [
        np.broadcast_to(a, (grid.size, *np.shape(a)))
        if isinstance(a, np.ndarray)
        else np.stack([a] * grid.size)
        for a in main.wide[variants[0]]
    ]
    try:
        jaxpr = trace(forward, stacked)
    except Exception:
        record.note("no witness by differences: the primal cannot be vmapped")
        return
    for variant in variants:
        at = list(main.probes[variant]).index("random")
        cotangents = [c[at] for c in main.cotangents(variant)]
        for j in range(len(subject.floats)):
            _witness(subject, record, main, variant, j, jaxpr, grid, cotangents, at)


def _witness(
    subject: Problem,
    record: Record,
    main: Setting,
    variant: str,
    j: int,
    jaxpr: Any,
    grid: np.ndarray,
    cotangents: list[np.ndarray],
    at: int,
) -> None:
    i = subject.floats[j]
    arrays = main.wide[variant]
    direction = _direction(np.asarray(arrays[i]), j)
    stacked = [np.broadcast_to(a, (grid.size, *np.shape(a))) for a in arrays]
    stacked[i] = arrays[i] + np.multiply.outer(grid.ravel(), direction)
    balls = enclosure.enclose(jaxpr, stacked, enclosure.rounding(np.float64))
    phi = sum(
        (b.value * c).reshape(grid.size, -1).sum(1) for b, c in zip(balls, cotangents, strict=False)
    ).reshape(grid.shape)
    derivative, error, kink = _differences(phi)
    ball = main.references[variant].cotangents[j]
    terms = ball.value[at] * direction
    claimed = float(np.sum(terms))
    slack = 0.0 if ball.radius is None else float(np.sum(ball.radius[at] * abs(direction)))
    if (
        kink
        or not np.isfinite(derivative + claimed + slack)
        or error > 1e-4 * np.sum(abs(terms)) + 1e-4 * abs(derivative)
    ):
        return
    record.count("oracle", 1)
    bound = 100 * error + 1e-9 * float(np.sum(abs(terms))) + slack
    if abs(derivative - claimed) <= bound:
        return
    label = subject.labels[i]
    message = f"⟨VJP(dy), v⟩ in {label} is {claimed:.9g} by autodiff, {derivative:.9g} by differences: "
    if any(e.primitive.name == "stop_gradient" for e in primitives(jaxpr.jaxpr)):
        record.note(message + "the primal holds a stop_gradient, so autodiff is taken at its word")
    else:
        message += "a derivative rule inside the primal is wrong"
        record.fail(Failure("oracle", label, f"{main.label}, {variant}", "random", message=message))


def _direction(values: np.ndarray, j: int) -> np.ndarray:
    """A direction of the argument's own scale: its spread, or its magnitude where it must stay positive."""
    rng = probes.generator(j, 11)
    signs = np.where(rng.uniform(size=values.shape) < 0.5, -1.0, 1.0) * rng.uniform(0.5, 1, size=values.shape)
    if probes.is_positive(values):
        return signs * values
    spread = float(np.std(values)) if values.size > 1 else 0.0
    return signs * (spread or float(np.max(np.abs(values), initial=0)) or 1.0)


def _differences(phi: np.ndarray) -> tuple[float, float, bool]:
    """φ'(0), how far the estimates of it disagree, and whether φ has a kink there."""
    eighth, sixth = phi @ _ORDER_8 / _STEPS, phi @ _ORDER_6 / _STEPS
    right, left = phi @ _FORWARD / _STEPS, -(phi[:, ::-1] @ _FORWARD) / _STEPS
    error = abs(eighth - sixth)[:-1] + abs(np.diff(eighth))
    if not np.any(np.isfinite(error)):
        return float("nan"), float("inf"), False
    best = int(np.nanargmin(error))
    rounding = 2.0**-50 * np.max(abs(phi[best])) / _STEPS[best]
    kink = (
        abs(right[-3] - left[-3])
        > 1e-3 * (abs(right[-3]) + abs(left[-3])) + 1e3 * 2.0**-50 * np.max(abs(phi)) / _STEPS[-3]
    )
    return float(eighth[best]), float(error[best] + rounding), bool(kink)
