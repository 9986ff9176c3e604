"""A point where two programs differ in float64, for those with an operation that is not evaluated exactly.

That what they return differs is no matter of rounding, nor of a kink, if it differs by a thousandth, and at
points nearby by as much.  Programs with floats narrower than float32, which round more, are not looked at.
"""

import random
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr

from bnjax.jaxprs import equations, shaped
from bnjax.prove.limits import ENDS
from bnjax.prove.proof import Counterexample
from bnjax.prove.trials import View, anywhere, draw, numeric

_POINTS = 4
_NEARBY, _MOVED = 3, 1e-6  # how many are run for each, and how far from it
_APART, _SAME = 1e-3, 1e-2  # a difference, of the larger number; how much it may vary nearby


def find_difference(view: View, deadline: float) -> Counterexample | None:
    """A point at which the programs themselves differ, and at points nearby as much."""
    if any(map(_is_narrow, view.programs)):
        return None
    for seed in range(_POINTS):
        source = random.Random(seed)
        point = {a.name: draw(a, source, anywhere) for a in view.arguments}
        given = list(map(numeric, point.values()))
        runs = []
        for _ in range(_NEARBY):
            if time.monotonic() > deadline:
                return None
            try:
                with jax.enable_x64(True):
                    arrays = list(map(jnp.asarray, given))
                    runs.append([list(map(np.asarray, run(*arrays))) for run in view.runs])
            except ENDS:
                raise
            except BaseException:  # the user's code, in float64
                return None
            given = [_moved(value, source) for value in map(numeric, point.values())]
        for place, what in enumerate(view.names):
            mine, theirs = (np.stack([run[k][place] for run in runs]).astype(np.float64) for k in range(2))
            with np.errstate(invalid="ignore"):  # NaN is not far from anything
                gaps, size = mine - theirs, np.maximum(abs(mine), abs(theirs)).max(0)
                far = (abs(gaps[0]) > _APART * size) & (np.ptp(gaps, 0) < _SAME * abs(gaps[0]))
            if np.any(far):
                index = tuple(map(int, np.argwhere(far)[0]))
                values = {name: value.tolist() for name, value in point.items()}
                seen = float(mine[0][index]), float(theirs[0][index])
                return Counterexample(what, index, values, None, None, seen)
    return None


def _is_narrow(program: ClosedJaxpr) -> bool:
    types = (shaped(v).dtype for eqn in equations(program) for v in eqn.outvars)
    return any(jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4 for dtype in types)


def _moved(value: np.ndarray, source: random.Random) -> np.ndarray:
    """Real numbers by a millionth; truth values and labels stay."""
    if value.dtype != np.float64:
        return value
    steps = np.array([source.uniform(-1, 1) for _ in range(value.size)]).reshape(value.shape)
    return value + _MOVED * np.maximum(abs(value), _MOVED) * steps
