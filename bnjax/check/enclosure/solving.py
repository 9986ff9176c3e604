"""The rule of linear algebra: the exact result of a problem near the one that was given."""

from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.check.enclosure.arithmetic import Rule
from bnjax.check.enclosure.model import Ball, Machine, is_number, rounds

PROBLEMS = 8  # how many near problems
_SUBSTITUTIONS = (jaxs.triangular_solve_p, jaxs.tridiagonal_solve_p)
FACTOR = 4  # how far beyond the farthest of their results the ball reaches


def nearby(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball | list[Ball]:
    """The spread of the results at problems within the balls, and within a rounding.

    LAPACK's algorithms are backward stable: what they return is exact for a matrix within a few roundoffs
    of the one they got, of each element where they substitute, else of the largest in the matrix.  An
    integer, a pivot, is in doubt where any of the problems has another.
    """
    rng = np.random.default_rng(0)
    stacked: list[Any] = []
    for ball in balls:
        shape = (PROBLEMS + 1, *ball.value.shape)
        moved = machine.xp.broadcast_to(ball.value, shape)
        if rounds(ball.value) and ball.value.size:
            steps = directions(rng, shape) * np.r_[0, np.ones(PROBLEMS)].reshape(-1, *[1] * ball.value.ndim)
            moved = moved + steps * reach(machine, ball, by_element=eqn.primitive in _SUBSTITUTIONS)
        stacked.append(moved)
    out = machine.apply(eqn, *stacked)
    many = eqn.primitive.multiple_results
    made = [_spread(machine, result) for result in (out if many else [out])]
    return made if many else made[0]


def directions(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Numbers of either sign and of no two sizes, so that no two perturbations cancel."""
    return rng.choice([-1.0, 1.0], shape) * rng.uniform(0.5, 1, shape)


def reach(machine: Machine, ball: Ball, *, by_element: bool = False) -> Any:
    """How far a near problem's array may be from this one: its radius, and a rounding."""
    size = abs(ball.value)
    if not by_element:
        size = size.max(axis=tuple(range(max(size.ndim - 2, 0), size.ndim)), keepdims=True)
    return machine.radius(ball) + machine.rounding.unit * size


def _spread(machine: Machine, results: Any) -> Ball:
    """The first of the results, and how far the others are from it."""
    xp, value = machine.xp, results[0]
    if not is_number(value) or value.size == 0:
        return Ball(value, None)
    farthest = abs(results[1:] - value).max(axis=0)
    if not rounds(value):
        return Ball(value, xp.where(farthest > 0, np.inf, 0.0))
    lost = xp.isnan(farthest)
    return machine.rounded(value, xp.where(lost, np.inf, FACTOR * farthest), FACTOR)


SOLVING: dict[Primitive, Rule] = dict.fromkeys(
    (
        jaxs.cholesky_p, jaxs.lu_p, jaxs.qr_p, jaxs.eigh_p, jaxs.svd_p, jaxs.eig_p,
        jaxs.hessenberg_p, jaxs.tridiagonal_p, jaxs.householder_product_p, jaxs.triangular_solve_p,
        jaxs.tridiagonal_solve_p,
    ),
    nearby,
)  # fmt: skip
