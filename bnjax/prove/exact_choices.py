"""Comparisons, maxima and signs of exact numbers: for counterexamples, apart from the algebra.

At a kink nothing is decided: equal numbers are compared only where both are the program's own, or are one
and the same (an element and the maximum that it is), so that they are equal nearby too.
"""

import functools
import math
import operator
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn

from bnjax.jaxprs import shaped
from bnjax.prove.reals import Constant, Enclosure, Unsupported, each


def compare(name: str) -> Callable:
    """The rule of a comparison; of integers it decides at equal ones too."""

    def rule(eqn: JaxprEqn, arithmetic: Any, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        exact = not jnp.issubdtype(shaped(eqn.invars[0]).dtype, jnp.floating)
        return each(lambda x, y: compared(name, x, y, exact), a, b)

    return rule


def compared(name: str, a, b, exact: bool = False) -> bool:
    """Whether a > b, a = b, …; raises where equal numbers decide, unless it is `exact`."""
    if exact or any(isinstance(v, float) and math.isinf(v) for v in (a, b)):
        return getattr(operator, name)(_finite(a), _finite(b))
    if isinstance(a, Fraction) and isinstance(b, Fraction) and a != b:
        return getattr(operator, name)(a, b)
    if a is b or (isinstance(a, Constant) and isinstance(b, Constant)):  # equal, and nearby as well
        return name in ("eq", "ge", "le")
    if a > b or b > a:  # enclosures: raises where they overlap
        return name in ("ne", "gt", "ge") if a > b else name in ("ne", "lt", "le")
    raise Unsupported("a comparison of equal numbers")


def _finite(value):
    """An enclosed number as any of those in it: it is compared with infinity."""
    return value.low if isinstance(value, Enclosure) else value


def larger(a, b):
    """The larger one."""
    return a if compared("gt", a, b) else b


def least(a, b):
    """The smaller one."""
    return a if compared("lt", a, b) else b


def extreme_of(pick: Callable) -> Callable:
    """The largest or the smallest element over some axes, itself: two that are equal decide nothing."""

    def rule(eqn: JaxprEqn, arithmetic: Any, a: np.ndarray) -> np.ndarray:
        axes = sorted(int(axis) for axis in eqn.params["axes"])
        kept = [k for k in range(a.ndim) if k not in axes]
        rows = np.transpose(a, [*kept, *axes]).reshape(*(a.shape[k] for k in kept), -1)
        result = np.empty(rows.shape[:-1], object)
        for index in np.ndindex(result.shape):
            result[index] = functools.reduce(pick, rows[index])
        return result

    return rule


def place_of(pick: Callable) -> Callable:
    """Where the largest or the smallest along an axis is: the first of equal ones, which are constants."""

    def rule(eqn: JaxprEqn, arithmetic: Any, a: np.ndarray) -> np.ndarray:
        rows = np.moveaxis(a, eqn.params["axes"][0], -1)
        result = np.empty(rows.shape[:-1], object)
        for index in np.ndindex(result.shape):
            best = functools.reduce(lambda first, value: pick(value, first), rows[index])
            result[index] = Constant(next(k for k, value in enumerate(rows[index]) if value is best))
        return result

    return rule


def sign(value):
    """1 or −1; 0 of the program's own zero."""
    if is_null(value):
        return value
    return Constant(1 if compared("gt", value, 0) else -1)


def is_null(value) -> bool:
    """Whether it is a 0 of the program's own."""
    return isinstance(value, Constant) and value == 0
