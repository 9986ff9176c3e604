"""A point where two programs differ in float64, for those with an operation that is not evaluated exactly.

That what they return differs is no matter of rounding, nor of a kink, if it differs by a thousandth, and at
points nearby by as much, and if the programs that were traced, in float32, differ so too: in float64 others
may be traced.  What is small beside all other numbers is rounding.  Programs with floats narrower than
float32, which round more, are not looked at.
"""

import random
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from bnjax.jaxprs import equations, shaped
from bnjax.prove.limits import ENDS
from bnjax.prove.proof import Counterexample
from bnjax.prove.trials import View, anywhere, draw, numeric

_POINTS = 4
_NEARBY, _MOVED = 3, 1e-6  # how many are run for each, and how far from it
_APART, _SAME = 1e-3, 1e-2  # a difference, of the larger number; how much it may vary nearby
_SMALL = 1e-6  # of the largest number of all, or of 1

Pair = tuple[np.ndarray, np.ndarray]  # of the op, and of the primal


def find_difference(view: View, deadline: float) -> Counterexample | None:
    """A point at which the programs themselves differ, and at points nearby as much."""
    if any(map(_is_narrow, view.programs)):
        return None
    for seed in range(_POINTS):
        source = random.Random(seed)
        point = {a.name: draw(a, source, anywhere) for a in view.arguments}
        given = list(map(numeric, point.values()))
        runs = []
        try:
            for _ in range(_NEARBY):
                if time.monotonic() > deadline:
                    return None
                runs.append(_in_float64(view, given))
                given = [_moved(value, source) for value in map(numeric, point.values())]
            narrow = _as_traced(view, list(map(numeric, point.values())))
        except ENDS:
            raise
        except BaseException:  # the user's code, in float64
            return None
        for place, what in enumerate(view.names):
            found = _first_apart([run[place] for run in runs], narrow[place], _largest(runs))
            if found is not None:
                values = {name: value.tolist() for name, value in point.items()}
                mine, theirs = (float(a[found]) for a in runs[0][place])
                return Counterexample(what, found, values, None, None, (mine, theirs))
    return None


def _first_apart(runs: Sequence[Pair], narrow: Pair, largest: float) -> tuple[int, ...] | None:
    """Where two leaves differ, and do as much nearby and in float32."""
    with np.errstate(invalid="ignore"):  # NaN is not far from anything
        gaps = np.stack([mine - theirs for mine, theirs in (*runs, narrow)])
        size = np.maximum(*map(abs, runs[0]))
        far = (abs(gaps[0]) > _APART * size) & (abs(gaps[0]) > _SMALL * largest)
        far &= np.ptp(gaps, 0) < _SAME * abs(gaps[0])
    return tuple(map(int, np.argwhere(far)[0])) if np.any(far) else None


def _largest(runs: Sequence[Sequence[Pair]]) -> float:
    known = (a[np.isfinite(a)] for run in runs for pair in run for a in pair)
    return max((float(np.max(abs(a), initial=0)) for a in known), default=0) or 1.0


def _in_float64(view: View, given: Sequence[np.ndarray]) -> list[Pair]:
    """What op and primal return, leaf by leaf."""
    with jax.enable_x64(True):
        arrays = list(map(jnp.asarray, given))
        return _pairs([run(*arrays) for run in view.runs])


def _as_traced(view: View, given: Sequence[np.ndarray]) -> list[Pair]:
    return _pairs([jax.jit(jaxpr_as_fun(program))(*_of_types(program, given)) for program in view.programs])


def _of_types(program: ClosedJaxpr, given: Sequence[np.ndarray]) -> list[jax.Array]:
    return [jnp.asarray(value, aval.dtype) for value, aval in zip(given, program.in_avals, strict=True)]


def _pairs(runs: Sequence[Sequence[jax.Array]]) -> list[Pair]:
    mine, theirs = ([np.asarray(leaf, np.float64) for leaf in run] for run in runs)
    return list(zip(mine, theirs, strict=True))


def _is_narrow(program: ClosedJaxpr) -> bool:
    types = (shaped(v).dtype for eqn in equations(program) for v in eqn.outvars)
    return any(jnp.issubdtype(dtype, jnp.floating) and dtype.itemsize < 4 for dtype in types)


def _moved(value: np.ndarray, source: random.Random) -> np.ndarray:
    """Real numbers by a millionth; truth values and labels stay."""
    if value.dtype != np.float64:
        return value
    steps = np.array([source.uniform(-1, 1) for _ in range(value.size)]).reshape(value.shape)
    return value + _MOVED * np.maximum(abs(value), _MOVED) * steps
