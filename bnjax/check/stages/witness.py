"""The second witness: the primal's derivative by differences, which trusts no rule of differentiation.

⟨dy, f(x + t·v)⟩ is a function φ of one number; ⟨VJP(dy), v⟩ must be φ'(0).  Central differences of order
6 and 8 over a ladder of steps give φ'(0) and, where they agree, how well; their disagreement is the
tolerance.  It is autodiff of the *primal* that is on trial here: a custom rule inside it may be wrong.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.check import enclosure, probes, traits
from bnjax.check.examination import Examination
from bnjax.check.points import Point
from bnjax.check.programs import forward_program, trace
from bnjax.check.reference import Reference, radius
from bnjax.check.report import Failure, Finding
from bnjax.jaxprs import equations

_STEPS = 2.0 ** -np.arange(4, 15)
_NODES = np.arange(-4, 5)
_GRID = _STEPS[:, None] * _NODES
_ORDER_8 = np.array([1 / 280, -4 / 105, 1 / 5, -4 / 5, 0, 4 / 5, -1 / 5, 4 / 105, -1 / 280])
_ORDER_6 = np.array([0, -1 / 60, 3 / 20, -3 / 4, 0, 3 / 4, -3 / 20, 1 / 60, 0])
_FORWARD = np.array([0, 0, 0, 0, -3 / 2, 2, -1 / 2, 0, 0])
_KINDS_OF_DATA = 3


class _Slope(NamedTuple):
    """φ'(0), how far the estimates of it disagree, and whether φ has a kink there."""

    value: float
    error: float
    kink: bool


def cases(exam: Examination) -> Iterator[Finding]:
    """Autodiff of the primal against differences, for every float argument on three kinds of data."""
    if exam.main is None:
        return
    points = exam.main.points[:_KINDS_OF_DATA]
    stacked = list(map(_copies, points[0].arrays))
    try:
        jaxpr = trace(jax.vmap(forward_program(exam.problem.primal, exam.problem)), stacked)
    except Exception:
        yield Finding(note="no witness by differences: the primal cannot be vmapped")
        return
    for point in points:
        expected = exam.reference(exam.slice, point.one, enclosure.rounding(np.float64))
        for j in set(range(len(exam.problem.floats))) - exam.constant:
            yield from _witness(exam, point.one, expected, jaxpr, j)


def _witness(exam: Examination, along: Point, expected: Reference, jaxpr: Any, j: int) -> Iterator[Finding]:
    i, label = exam.problem.floats[j], exam.problem.labels[j]
    direction = _direction(np.asarray(along.arrays[i]), j)
    slope = _slope(_phi(jaxpr, along, i, direction))
    ball = expected.cotangents[j]
    terms = ball.value[0] * direction
    claimed, size = float(np.sum(terms)), float(np.sum(abs(terms)))
    slack = float(np.sum(radius(ball)[0] * abs(direction)))
    finite = np.isfinite(slope.value + claimed + slack)
    if slope.kink or not finite or slope.error > 1e-4 * (size + abs(slope.value)):
        return
    yield Finding("oracle", 1)
    if abs(slope.value - claimed) <= 100 * slope.error + 1e-9 * size + slack:
        return
    message = f"⟨VJP(dy), v⟩ in {label} is {claimed:.9g} by autodiff, {slope.value:.9g} by differences: "
    if any(e.primitive.name == "stop_gradient" for e in equations(jaxpr)):
        yield Finding(note=message + "the primal holds a stop_gradient, so autodiff is taken at its word")
    else:
        message += "a derivative rule inside the primal is wrong"
        yield Finding(failure=Failure("oracle", label, along.where, "random", message=message))


def _phi(jaxpr: Any, along: Point, i: int, direction: np.ndarray) -> np.ndarray:
    """⟨dy, f⟩ at every step and node of the grid, the array i moved along `direction`."""
    stacked = list(map(_copies, along.arrays))
    stacked[i] = along.arrays[i] + np.multiply.outer(_GRID.ravel(), direction)
    values = enclosure.evaluate(jaxpr, stacked)
    products = [v * c[0] for v, c in zip(values, along.cotangents, strict=False)]
    return np.sum([p.reshape(_GRID.size, -1).sum(1) for p in products], axis=0).reshape(_GRID.shape)


def _copies(a: Any) -> Any:
    """One for every step and node."""
    if isinstance(a, np.ndarray):
        return np.broadcast_to(a, (_GRID.size, *a.shape))
    return jnp.stack([a] * _GRID.size)


def _direction(values: np.ndarray, j: int) -> np.ndarray:
    """A direction of the argument's own scale: its spread, or its magnitude where it must stay positive.

    It leaves a symmetric matrix one: of what reads one triangle only that derivative is its rule's to know.
    """
    rng = probes.generator(j, 11)
    signs = np.where(rng.uniform(size=values.shape) < 0.5, -1.0, 1.0) * rng.uniform(0.5, 1, size=values.shape)
    signs = traits.symmetric(signs) if traits.is_symmetric(values) else signs
    if traits.is_positive(values):
        return signs * values
    spread = float(np.std(values)) if values.size > 1 else 0.0
    return signs * (spread or float(np.max(np.abs(values), initial=0)) or 1.0)


def _slope(phi: np.ndarray) -> _Slope:
    eighth, sixth = phi @ _ORDER_8 / _STEPS, phi @ _ORDER_6 / _STEPS
    right, left = phi @ _FORWARD / _STEPS, -(phi[:, ::-1] @ _FORWARD) / _STEPS
    error = abs(eighth - sixth)[:-1] + abs(np.diff(eighth))
    if not np.any(np.isfinite(error)):
        return _Slope(float("nan"), float("inf"), False)
    best = int(np.nanargmin(error))
    rounding = 2.0**-50 * np.max(abs(phi[best])) / _STEPS[best]
    kink = (
        abs(right[-3] - left[-3])
        > 1e-3 * (abs(right[-3]) + abs(left[-3])) + 1e3 * 2.0**-50 * np.max(abs(phi)) / _STEPS[-3]
    )
    return _Slope(float(eighth[best]), float(error[best] + rounding), bool(kink))
