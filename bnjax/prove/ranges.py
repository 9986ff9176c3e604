"""Which numbers a dtype holds: an integer is a number only while it is known to fit, a constant likewise.

Each integer array carries the least and the largest value that it may have.  A size, and what is computed of
sizes before JAX is given it, are taken to be below 2³¹, which the claim says; whatever else may leave its
dtype's range would wrap, and is refused by name.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax._src.export.shape_poly import dim_as_value_p
from jax._src.lax.control_flow.conditionals import platform_index_p
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs
from jax.typing import DTypeLike

from bnjax.jaxprs import shaped
from bnjax.prove.algebra import Outside
from bnjax.prove.arrays import Array, Range
from bnjax.prove.signs import POSITIVE
from bnjax.prove.space import Size

_SIZE = 2**31 - 1
_TRUTH: Range = (0, 1)


def fitted(eqn: JaxprEqn, operands: list[Array], result: Array) -> Array:
    """An integer result with the values that it may have; without a polynomial where it may wrap."""
    if eqn.primitive is jaxs.select_n_p and any(result is case for case in operands[1:]):
        return result  # the other case is not taken
    try:
        return replace(result, range=_fitted(eqn, operands, result))
    except Outside as problem:
        return Array(result.dims, None, why=str(problem))


def _fitted(eqn: JaxprEqn, operands: list[Array], result: Array) -> Range:
    dtype = shaped(eqn.outvars[0]).dtype
    if eqn.primitive is dim_as_value_p:
        low, high = (1 if result.sign == POSITIVE else _least(eqn.params["dim"])), _SIZE
    elif eqn.primitive in (jaxs.argmax_p, jaxs.argmin_p):
        low, high = 0, _last(shaped(eqn.invars[0]).shape[eqn.params["axes"][0]])
    elif eqn.primitive not in _RANGES:
        raise Outside(f"arithmetic on {dtype}, which may wrap")
    else:
        low, high = _RANGES[eqn.primitive](eqn, *map(_range, eqn.invars, operands))
    limits = jnp.iinfo(dtype)
    if low < limits.min or high > limits.max:
        raise Outside(f"a number of {dtype} that may be anything from {low} to {high}, and may wrap")
    return low, high


def _range(atom: Any, array: Array) -> Range:
    if array.poly is None:
        raise Outside(array.why)
    if array.range is None and shaped(atom).dtype != jnp.bool_:
        raise Outside(f"a number of {shaped(atom).dtype} of which nothing is known")
    return array.range or _TRUTH


def holds(dtype: DTypeLike, value: Array) -> None:
    """Outside where a float type cannot hold an integer, or a constant, that is cast to it.

    Casts between float types of 16 bits and more are identities to the prover, but not where they lose what
    the program says exactly: a constant, an integer.
    """
    info = jnp.finfo(dtype)
    if info.bits < 16:
        raise Outside(f"a cast to {info.dtype}, which has too few values")
    if info.bits > 16:
        return
    if value.range is not None and max(map(abs, value.range)) > 2 ** (info.nmant + 1):
        raise Outside(f"integers from {value.range[0]} to {value.range[1]} as {info.dtype}")
    constant = None if value.poly is None else value.poly.constant()
    if constant is not None and _is_binary(constant) and Fraction(_cast(constant, dtype)) != constant:
        raise Outside(f"the constant {float(constant)} as {info.dtype}")


def narrows(eqn: JaxprEqn, operands: Sequence[Array]) -> bool:
    """Whether an equation casts data to a float type of fewer bits."""
    if eqn.primitive is not jaxs.convert_element_type_p or operands[0].poly is None:
        return False
    old, new = shaped(eqn.invars[0]).dtype, shaped(eqn.outvars[0]).dtype
    floats = all(jnp.issubdtype(dtype, jnp.floating) for dtype in (old, new))
    return floats and jnp.finfo(new).nmant < jnp.finfo(old).nmant and operands[0].poly.constant() is None


def in_range(dtype: DTypeLike, value: Array) -> None:
    """Outside where a constant that the program computes is infinite, or 0, in its float type."""
    constant = None if value.poly is None else value.poly.constant()
    if constant:
        info = jnp.finfo(dtype)
        if not Fraction(float(info.smallest_subnormal)) <= abs(constant) <= Fraction(float(info.max)):
            raise Outside(f"a constant out of the range of {info.dtype}")


def of_constant(array: np.ndarray) -> Range | None:
    """The range of a constant array of integers."""
    return (int(array.min()), int(array.max())) if array.dtype.kind in "iu" and array.size else None


def _is_binary(constant: Fraction) -> bool:
    """Whether some float is this number: one that the program computes, 1/n, is rounded everywhere."""
    return constant.denominator & (constant.denominator - 1) == 0


def _cast(constant: Fraction, dtype: DTypeLike) -> float:
    with np.errstate(over="ignore"):
        cast = float(np.asarray(float(constant)).astype(jnp.dtype(dtype)))
    return cast if np.isfinite(cast) else 0.0


def _corners(apply: Callable[[int, int], int]) -> Callable[..., Range]:
    def rule(eqn: JaxprEqn, a: Range, b: Range) -> Range:
        values = [apply(x, y) for x, y in itertools.product(a, b)]
        return min(values), max(values)

    return rule


def _power(eqn: JaxprEqn, a: Range) -> Range:
    power = eqn.params.get("y", 2)
    values = [bound**power for bound in a] if power >= 0 else [-_SIZE, _SIZE]
    return min(0, *values), max(0, *values)


def _summed(eqn: JaxprEqn, a: Range) -> Range:
    shape = shaped(eqn.invars[0]).shape
    count: Size = 1
    for axis in eqn.params["axes"]:
        count = count * shape[axis]
    if isinstance(count, int):
        return a[0] * count, a[1] * count
    if a[0] < 0 or a[1] > 1:
        raise Outside(f"a sum of integers from {a[0]} to {a[1]} over {count} elements, which may wrap")
    return 0, _SIZE


def _same(eqn: JaxprEqn, a: Range, *_: Range) -> Range:
    return a


def _any_of(eqn: JaxprEqn, *operands: Range) -> Range:
    return min(a[0] for a in operands), max(a[1] for a in operands)


def _least(size: Size) -> int:
    try:
        return 0 if size >= 0 else -_SIZE
    except jax.errors.InconclusiveDimensionOperation:  # n - 2
        return -_SIZE


def _last(size: Size) -> int:
    return size - 1 if isinstance(size, int) else _SIZE - 1


_RANGES: dict[Primitive, Callable[..., Range]] = {
    jaxs.add_p: _corners(lambda x, y: x + y),
    jaxs.sub_p: _corners(lambda x, y: x - y),
    jaxs.mul_p: _corners(lambda x, y: x * y),
    jaxs.max_p: _corners(max),
    jaxs.clamp_p: lambda eqn, low, a, high: tuple(
        min(max(x, y), z) for x, y, z in zip(low, a, high, strict=True)
    ),
    jaxs.neg_p: lambda eqn, a: (-a[1], -a[0]),
    jaxs.integer_pow_p: _power,
    jaxs.square_p: _power,
    jaxs.reduce_sum_p: _summed,
    jaxs.psum_p: _summed,
    jaxs.select_n_p: lambda eqn, which, *cases: (min(c[0] for c in cases), max(c[1] for c in cases)),
    jaxs.concatenate_p: _any_of,
    jaxs.pad_p: _any_of,
    jaxs.min_p: _corners(min),
    platform_index_p: lambda eqn: (0, len(eqn.params["platforms"]) - 1),
    jaxs.iota_p: lambda eqn: (0, _last(shaped(eqn.outvars[0]).shape[eqn.params["dimension"]])),
    jaxs.slice_p: _same,
    jaxs.rev_p: _same,
    lax.split_p: _same,
    lax.stack_p: _any_of,
    lax.tile_p: _same,
    jaxs.gather_p: _same,
    jaxs.dynamic_slice_p: _same,
    jaxs.dynamic_update_slice_p: lambda eqn, a, update, *_: _any_of(eqn, a, update),
    jaxs.convert_element_type_p: _same,
    jaxs.broadcast_in_dim_p: _same,
    jaxs.reshape_p: _same,
    jaxs.transpose_p: _same,
    jaxs.squeeze_p: _same,
    jaxs.copy_p: _same,
    jaxs.name_p: _same,
    jaxs.stop_gradient_p: _same,
    lax.optimization_barrier_p: _same,
}
