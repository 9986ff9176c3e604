"""Wrong bounds of theorem 31, and wrong gradients of istd under its true bounds."""

from fractions import Fraction
from typing import Any

import jax.numpy as jnp

from bnjax.verify.gradient_bounds import ENTRY_BOUND, NORM_BOUND, GradientBounds
from bnjax.verify.planted.vector import inverse_stddev as _family


def _gradient(error: str, dx: Any) -> GradientBounds:
    """The rule of istd with another dx."""
    return GradientBounds(error, _family.rule(x=dx), _family.primal)


GRADIENT: tuple[GradientBounds, ...] = (
    GradientBounds("the norm: 26 for 27", norm=NORM_BOUND._replace(constant=Fraction(4, 26))),
    GradientBounds("the norm: 28 for 27", norm=NORM_BOUND._replace(constant=Fraction(4, 28))),
    GradientBounds("the norm: without the 2", norm=NORM_BOUND._replace(constant=Fraction(1, 27))),
    GradientBounds(
        "the norm: a millionth too small", norm=NORM_BOUND._replace(constant=Fraction(3999992, 27000000))
    ),
    GradientBounds("the norm: without √n", norm=NORM_BOUND._replace(size=0)),
    GradientBounds("the norm: n for √n", norm=NORM_BOUND._replace(size=-2)),
    GradientBounds("the norm: ε²", norm=NORM_BOUND._replace(eps=-4)),
    GradientBounds("the norm: √ε", norm=NORM_BOUND._replace(eps=-1)),
    GradientBounds("the norm: that of an entry", norm=ENTRY_BOUND),
    GradientBounds("an entry: without √(n−1)", entry=ENTRY_BOUND._replace(others=0)),
    GradientBounds("an entry: n − 1 for √(n−1)", entry=ENTRY_BOUND._replace(others=2)),
    GradientBounds("an entry: √n for √(n−1)", entry=ENTRY_BOUND._replace(others=0, size=-1)),
    GradientBounds("an entry: √n for n", entry=ENTRY_BOUND._replace(size=-1)),
    GradientBounds("an entry: without 1/n", entry=ENTRY_BOUND._replace(size=0)),
    GradientBounds("an entry: ε²", entry=ENTRY_BOUND._replace(eps=-4)),
    GradientBounds(
        "an entry: a millionth too large", entry=ENTRY_BOUND._replace(constant=Fraction(4000008, 27000000))
    ),
    _gradient("dx doubled", lambda r, ct: -2 * r.istd**3 * (r.x - r.mean) / r.n * ct),
    _gradient("dx halved", lambda r, ct: -0.5 * r.istd**3 * (r.x - r.mean) / r.n * ct),
    _gradient("dx without 1/n", lambda r, ct: -(r.istd**3) * (r.x - r.mean) * ct),
    _gradient("dx over n + 1", lambda r, ct: -(r.istd**3) * (r.x - r.mean) / (r.n + 1) * ct),
    _gradient("dx with istd² for istd³", lambda r, ct: -(r.istd**2) * (r.x - r.mean) / r.n * ct),
    _gradient("dx from x not centered", lambda r, ct: -(r.istd**3) * r.x / r.n * ct),
    _gradient("dx without ε", lambda r, ct: -(r.x - r.mean) / (r.n * r.var * jnp.sqrt(r.var)) * ct),
)
"""Theorem 31's mutants: each misses a bound at some point, and has no certificates."""
