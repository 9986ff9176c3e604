"""Are numbers that a program compares apart from each other at some point, in float64?

For arrays that are too large for exact arithmetic.  Numbers that are equal as reals differ by rounding at
most; what is further apart than that, all of it, is not equal.  What cannot be told is not called apart.
"""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn
from jax.extend.core import primitives as jaxs
from jax.interpreters.ad import add_jaxvals_p as add_any_p

from bnjax.jaxprs import called, shaped, walk
from bnjax.prove.loops import LOOPS, as_sum

_APART = 1e-9  # of the larger one, or of 1
_TWO = frozenset((jaxs.eq_p, jaxs.ge_p, jaxs.gt_p, jaxs.le_p, jaxs.lt_p, jaxs.max_p, jaxs.min_p, jaxs.ne_p))
_ONE = frozenset((jaxs.abs_p, jaxs.sign_p))  # with 0
# no comparison: arithmetic, moves, functions
_NONE = frozenset(
    (
        jaxs.add_p, jaxs.sub_p, jaxs.mul_p, jaxs.div_p, jaxs.neg_p, jaxs.integer_pow_p, jaxs.square_p,
        jaxs.sqrt_p, jaxs.rsqrt_p, jaxs.reduce_sum_p, jaxs.dot_general_p, jaxs.conv_general_dilated_p,
        jaxs.broadcast_in_dim_p, jaxs.reshape_p, jaxs.transpose_p, jaxs.squeeze_p, jaxs.select_n_p,
        jaxs.convert_element_type_p, jaxs.exp_p, jaxs.log_p, jaxs.tanh_p, jaxs.logistic_p, jaxs.log1p_p,
        jaxs.slice_p, jaxs.pad_p, jaxs.concatenate_p, jaxs.iota_p, jaxs.stop_gradient_p, jaxs.copy_p,
        jaxs.and_p, jaxs.or_p, jaxs.not_p, add_any_p,
    )
)  # fmt: skip


class _Unknown(Exception):
    """A primitive of which it is not known what it compares."""


def all_apart(programs: Sequence[ClosedJaxpr], args: Sequence[np.ndarray]) -> bool:
    """Whether at `args` no two numbers that the programs compare are equal, or nearly so."""
    with jax.enable_x64(True):
        try:
            told = jax.jit(lambda *args: [each for p in programs for each in _apart(p, args)])(*args)
        except _Unknown:
            return False
        return all(map(bool, told))


def _apart(program: ClosedJaxpr, args: Sequence[jax.Array]) -> list[jax.Array]:
    """For each comparison whether its numbers are apart, all of them."""
    told: list[jax.Array] = []

    def equation(eqn: JaxprEqn, operands: list[Any]) -> list[Any]:
        inner = as_sum(eqn) if eqn.primitive in LOOPS else called(eqn)
        if inner is not None:
            return walk(inner, operands, equation, _wide)
        floats = any(jnp.issubdtype(shaped(v).dtype, jnp.floating) for v in eqn.invars)
        if floats and eqn.primitive in _TWO and eqn.invars[0] is not eqn.invars[1]:
            told.append(_are_apart(*operands))
        elif floats and eqn.primitive in _ONE:
            told.append(_are_apart(operands[0], jnp.zeros_like(operands[0])))
        elif floats and eqn.primitive not in _NONE | _TWO:
            raise _Unknown(eqn.primitive.name)
        results = eqn.primitive.bind(*operands, **_widened(eqn.params))
        return list(results) if eqn.primitive.multiple_results else [results]

    walk(program, args, equation, _wide)
    return told


_TYPES = ("new_dtype", "dtype", "preferred_element_type", "accumulation_type")
_WIDER = {"float32": jnp.dtype("float64"), "bfloat16": jnp.dtype("float64"), "float16": jnp.dtype("float64")}


def _widened(params: dict[str, Any]) -> dict[str, Any]:
    return {name: _WIDER.get(str(v), v) if name in _TYPES else v for name, v in params.items()}


def _wide(value: Any) -> Any:
    array = np.asarray(value)
    return array.astype(np.float64) if jnp.issubdtype(array.dtype, jnp.floating) else array


def _are_apart(a: jax.Array, b: jax.Array) -> jax.Array:
    bound = jnp.isinf(a) != jnp.isinf(b)  # one that is never reached
    # each for itself: a least difference would lose NaN, which is not apart from anything
    return jnp.all(bound | (abs(a - b) > _APART * jnp.maximum(1, jnp.maximum(abs(a), abs(b)))))
