"""Runs a jaxpr on exact numbers: rationals, and enclosures by rationals where a number is irrational.

The prover's second opinion: it shares the walk over a jaxpr with the algebra and nothing else, so that a
counterexample found here does not rest on it.  The same interpreter runs on other numbers, such as the
balls of `bnjax.prove.rounding`: an `Arithmetic` says what a literal, a square root and exp, log and erf are,
the operators are Python's.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax._src.lax.control_flow.conditionals import platform_index_p
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Primitive
from jax.extend.core import primitives as jaxs
from jax.interpreters.ad import add_jaxvals_p as add_any_p
from jax.typing import DTypeLike

from bnjax.jaxprs import called, shaped, walk
from bnjax.prove import reals
from bnjax.prove.exact_choices import (
    compare,
    compared,
    extreme_of,
    is_null,
    larger,
    least,
    place_of,
    sign,
)
from bnjax.prove.exact_convolution import convolved
from bnjax.prove.exact_loops import LOOPS
from bnjax.prove.exact_places import PLACES
from bnjax.prove.reals import Constant, Enclosure, NotEvaluated, Unsupported, as_array, each, exact_root


class Arithmetic:
    """Exact rational arithmetic; a subclass changes the numbers, or rounds each result."""

    def literal(self, value) -> object:
        """A literal of the program, read exactly."""
        if isinstance(value, bool | np.bool_):
            return bool(value)
        if not math.isfinite(float(value)):
            return float(value)  # a NaN literal that `where` selects away
        return Constant(int(value)) if float(value) == int(value) else Constant(float(value))

    def root(self, value):
        """√value."""
        return exact_root(value)

    def function(self, name: str, value):
        """exp, log or another function of `reals`, of a value."""
        return getattr(reals, name)(value)

    def exceeds(self, a, b) -> bool:
        """a > b; raises where that is not decided."""
        return compared("gt", a, b)

    def rounded(self, eqn, operands: Sequence[np.ndarray], result: np.ndarray) -> np.ndarray:
        """What the machine makes of an exact `result`."""
        return result


def array_of(values, arithmetic: Arithmetic) -> np.ndarray:
    """An object array of the arithmetic's numbers."""
    given = np.asarray(values)
    if given.dtype == jax.dtypes.float0:  # what a rule is given for an output that is not a float
        return np.full(given.shape, math.nan, object)
    result = np.empty(given.shape, object)
    for index in np.ndindex(given.shape):
        result[index] = arithmetic.literal(given[index])
    return result


def evaluate(jaxpr: ClosedJaxpr, args: Sequence[np.ndarray], arithmetic: Arithmetic) -> list[np.ndarray]:
    """The outputs of a jaxpr with concrete shapes at object arrays `args`."""

    def equation(eqn: JaxprEqn, operands: list[np.ndarray]) -> list[np.ndarray]:
        inner = called(eqn)
        if inner is not None:
            return evaluate(inner, operands, arithmetic)
        if eqn.primitive in LOOPS:
            run = functools.partial(evaluate, arithmetic=arithmetic)
            return LOOPS[eqn.primitive](eqn, run, *operands)
        return _results(eqn, operands, arithmetic)

    def literal(atom: Literal) -> np.ndarray:
        return array_of(np.asarray(atom.val, shaped(atom).dtype), arithmetic)

    return walk(jaxpr, args, equation, functools.partial(array_of, arithmetic=arithmetic), literal)


def _results(eqn: JaxprEqn, operands: list[np.ndarray], arithmetic: Arithmetic) -> list[np.ndarray]:
    if eqn.primitive in _IDENTITIES:
        return operands
    if eqn.primitive in _MOVES:
        return [_moved(eqn, operands)]
    if eqn.primitive in PLACES:
        return [arithmetic.rounded(eqn, operands, PLACES[eqn.primitive](eqn, arithmetic, *operands))]
    if eqn.primitive is lax.split_p:
        ends = np.cumsum(eqn.params["sizes"])[:-1]
        return list(map(as_array, np.split(operands[0], ends, eqn.params["axis"])))
    if eqn.primitive is lax.unstack_p:
        return [as_array(part) for part in np.moveaxis(operands[0], int(eqn.params["axis"]), 0)]
    if eqn.primitive is jaxs.psum_p:
        sums = [as_array(np.add.reduce(a, axis=tuple(eqn.params["axes"]))) for a in operands]
        return [arithmetic.rounded(eqn, [a], total) for a, total in zip(operands, sums, strict=True)]
    if eqn.primitive not in _RULES:
        raise NotEvaluated(eqn.primitive.name)
    result = as_array(_RULES[eqn.primitive](eqn, arithmetic, *operands))
    aval = shaped(eqn.outvars[0])
    if result.shape != aval.shape:
        result = np.broadcast_to(result, aval.shape)
    if jnp.issubdtype(aval.dtype, jnp.integer):
        result = _wrapped(result, aval.dtype)
    return [arithmetic.rounded(eqn, operands, result)]


def _moved(eqn: JaxprEqn, operands: list[np.ndarray]) -> np.ndarray:
    """A primitive that only moves elements: run on their numbers by JAX, then on the elements."""
    shape = shaped(eqn.outvars[0]).shape
    if eqn.primitive is jaxs.reshape_p:
        return operands[0].reshape(shape)
    if eqn.primitive is jaxs.broadcast_in_dim_p:
        where = eqn.params["broadcast_dimensions"]
        full = [1] * len(shape)
        for k, size in zip(where, operands[0].shape, strict=True):
            full[int(k)] = size
        return np.broadcast_to(operands[0].reshape(full), shape)
    starts = np.cumsum([0, *(a.size for a in operands)])
    numbers = [
        jnp.arange(start, start + a.size, dtype=jnp.int32).reshape(a.shape)
        for start, a in zip(starts, operands, strict=False)
    ]
    order = np.asarray(eqn.primitive.bind(*numbers, **eqn.params))
    return as_array(np.concatenate([a.ravel() for a in operands])[order])


def _divide(eqn: JaxprEqn, arithmetic: Arithmetic, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if not jnp.issubdtype(shaped(eqn.outvars[0]).dtype, jnp.floating):
        raise Unsupported("integer division")
    return each(_quotient, a, b)


def _quotient(a, b):
    if isinstance(b, Fraction) and b == 0:
        return math.nan  # to be selected away; any use of it ends in Unsupported or NaN
    return a / b


def _wrapped(values: np.ndarray, dtype: DTypeLike) -> np.ndarray:
    """Integers as their dtype keeps them: modulo 2 to the number of its bits."""
    least, greatest = int(jnp.iinfo(dtype).min), int(jnp.iinfo(dtype).max)

    def wrap(value: Any) -> Any:
        inside = bool(value >= least) and bool(value <= greatest)
        return value if inside else (value - least) % (greatest - least + 1) + least

    return as_array(each(wrap, values))


def _convert(eqn: JaxprEqn, arithmetic: Arithmetic, a: np.ndarray) -> np.ndarray:
    old, new = shaped(eqn.invars[0]).dtype, shaped(eqn.outvars[0]).dtype
    if jnp.issubdtype(old, jnp.floating) and not jnp.issubdtype(new, jnp.floating):
        raise NotEvaluated("float to integer")
    if new == jnp.bool_ and old != jnp.bool_:
        return each(lambda v: v != 0, a)
    if jnp.issubdtype(new, jnp.floating) and jnp.finfo(new).bits < 16:
        raise NotEvaluated(f"a cast to {new}")
    if old == jnp.bool_ and new != jnp.bool_:
        return each(lambda v: arithmetic.literal(int(v)), a)
    return a


def contraction(dimension_numbers, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The `dot_general` of two object arrays."""
    (a_sum, b_sum), (a_batch, b_batch) = dimension_numbers
    letters = iter("abcdefghijklmnopqrstuvwxyz")
    left = [next(letters) for _ in a.shape]
    right = [next(letters) for _ in b.shape]
    for i, j in zip((*a_sum, *a_batch), (*b_sum, *b_batch), strict=True):
        right[j] = left[i]
    batch = [left[i] for i in a_batch]
    out = batch + [s for k, s in enumerate(left) if k not in (*a_sum, *a_batch)]
    out += [s for k, s in enumerate(right) if k not in (*b_sum, *b_batch)]
    return as_array(np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(out)}", a, b))


def _power(eqn: JaxprEqn, arithmetic: Arithmetic, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    def raised(x, y):
        if not isinstance(y, Fraction) or y.denominator > 2:
            return arithmetic.function("exp", y * arithmetic.function("log", x))
        return _raised(x, int(y)) if y.denominator == 1 else _raised(arithmetic.root(x), int(2 * y))

    return each(raised, *np.broadcast_arrays(a, each(_as_fraction, b)))


def _as_fraction(value):
    """A number of the arithmetic as a rational, where it is one."""
    try:
        return Fraction(value) if isinstance(value, int | float | Fraction) else Fraction(float(value))
    except (TypeError, ValueError, OverflowError):
        return value


def _raised(value, power: int):
    result = functools.reduce(operator.mul, [value] * abs(power)) if power else Fraction(1)
    return result if power >= 0 else 1 / result


def _is_bottom(value) -> bool:
    """Whether it is −∞."""
    return isinstance(value, float) and value == -math.inf


def _sum(a, b):
    """a + b, where −∞ takes in what is finite."""
    for one, other in ((a, b), (b, a)):
        if _is_bottom(one) and not isinstance(other, float):
            return one
    return a + b


def _difference(a, b):
    """a − b; of an element and itself a 0 that is one nearby as well."""
    if a is b and isinstance(a, Fraction | Enclosure):
        return Constant(0)
    return a if _is_bottom(a) and not isinstance(b, float) else a - b


def _select(eqn: JaxprEqn, arithmetic: Arithmetic, which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    def pick(index, *values):
        if not 0 <= int(index) < len(values):
            raise Unsupported("a choice out of range")
        return values[int(index)]

    return each(pick, which, *cases)


def _rounded_to(function: Callable[[Any], int], steps: int) -> Callable:
    """A step function, between its steps: at integers, or at halves of odd numbers."""

    def step(value):
        if not isinstance(value, Fraction) or value.denominator == steps:
            raise Unsupported("a step, or a number that is only enclosed")
        return Constant(function(value))

    return _unary(step)


def _apply(function: Callable) -> Callable:
    """`function`, made of those that the arithmetic has, at every element."""
    return lambda eqn, arithmetic, a: each(functools.partial(function, arithmetic.function), a)


def _binary(function: Callable) -> Callable:
    return lambda eqn, arithmetic, a, b: each(function, a, b)


def _unary(function: Callable) -> Callable:
    return lambda eqn, arithmetic, a: each(function, a)


def _cumulated(eqn: JaxprEqn, arithmetic: Arithmetic, a: np.ndarray) -> np.ndarray:
    axis = eqn.params["axis"]
    if eqn.params["reverse"]:
        return np.flip(np.add.accumulate(np.flip(a, axis), axis), axis)
    return np.add.accumulate(a, axis)


def _total(eqn: JaxprEqn, arithmetic: Arithmetic, a: np.ndarray) -> np.ndarray:
    axes = tuple(int(axis) for axis in eqn.params["axes"])
    result = np.add.reduce(a, axis=axes) if a.size else np.zeros(shaped(eqn.outvars[0]).shape, np.int64)
    return each(lambda v: arithmetic.literal(0) + v, as_array(result))


_IDENTITIES = frozenset((lax.optimization_barrier_p, jaxs.stop_gradient_p, jaxs.copy_p, jaxs.name_p))
_MOVES = frozenset(
    (
        jaxs.reshape_p, jaxs.transpose_p, jaxs.broadcast_in_dim_p, jaxs.squeeze_p, jaxs.slice_p, jaxs.rev_p,
        jaxs.concatenate_p, jaxs.pad_p, lax.stack_p, lax.tile_p,
    )
)  # fmt: skip


_RULES: dict[Primitive, Callable[..., Any]] = {
    jaxs.abs_p: _unary(lambda v: v if is_null(v) else larger(v, -v)),
    jaxs.add_p: _binary(_sum),
    add_any_p: _binary(operator.add),
    jaxs.argmax_p: place_of(larger),
    jaxs.argmin_p: place_of(least),
    jaxs.exp2_p: _apply(lambda f, v: f("exp", v * f("log", Fraction(2)))),
    platform_index_p: lambda eqn, arithmetic: Constant(eqn.params["platforms"].index(None)),
    jaxs.and_p: _binary(lambda a, b: a and b),
    jaxs.asinh_p: _apply(lambda f, v: f("asinh", v)),
    jaxs.atan_p: _apply(lambda f, v: f("atan", v)),
    jaxs.ceil_p: _rounded_to(math.ceil, 1),
    jaxs.clamp_p: lambda eqn, arithmetic, a, b, c: each(
        lambda low, v, high: least(high, larger(low, v)), a, b, c
    ),
    jaxs.conv_general_dilated_p: convolved,
    jaxs.convert_element_type_p: _convert,
    jaxs.cos_p: _apply(lambda f, v: f("cos", v)),
    jaxs.cosh_p: _apply(lambda f, v: (f("exp", v) + f("exp", -v)) / 2),
    jaxs.div_p: _divide,
    jaxs.dot_general_p: lambda eqn, arithmetic, a, b: contraction(eqn.params["dimension_numbers"], a, b),
    jaxs.erf_p: _apply(lambda f, v: f("erf", v)),
    jaxs.erfc_p: _apply(lambda f, v: 1 - f("erf", v)),
    jaxs.empty2_p: lambda eqn, arithmetic: np.full(shaped(eqn.outvars[0]).shape, math.nan, object),
    jaxs.exp_p: _apply(lambda f, v: Constant(0) if _is_bottom(v) else f("exp", v)),
    jaxs.expm1_p: _apply(lambda f, v: f("exp", v) - 1),
    jaxs.floor_p: _rounded_to(math.floor, 1),
    jaxs.integer_pow_p: lambda eqn, arithmetic, a: each(lambda v: _raised(v, eqn.params["y"]), a),
    jaxs.is_finite_p: _unary(lambda v: not isinstance(v, float)),
    jaxs.log1p_p: _apply(lambda f, v: f("log", 1 + v)),
    jaxs.log_p: _apply(lambda f, v: f("log", v)),
    jaxs.logistic_p: _apply(lambda f, v: 1 / (1 + f("exp", -v))),
    jaxs.max_p: _binary(larger),
    jaxs.min_p: _binary(least),
    jaxs.mul_p: _binary(operator.mul),
    jaxs.neg_p: _unary(operator.neg),
    jaxs.not_p: _unary(operator.not_),
    jaxs.or_p: _binary(lambda a, b: a or b),
    jaxs.pow_p: _power,
    jaxs.reduce_max_p: extreme_of(larger),
    jaxs.reduce_min_p: extreme_of(least),
    jaxs.reduce_and_p: lambda eqn, arithmetic, a: np.logical_and.reduce(a, axis=tuple(eqn.params["axes"])),
    jaxs.reduce_or_p: lambda eqn, arithmetic, a: np.logical_or.reduce(a, axis=tuple(eqn.params["axes"])),
    jaxs.cumsum_p: _cumulated,
    jaxs.reduce_sum_p: _total,
    jaxs.round_p: _rounded_to(round, 2),
    jaxs.rsqrt_p: lambda eqn, arithmetic, a: each(lambda v: 1 / arithmetic.root(v), a),
    jaxs.select_n_p: _select,
    jaxs.sign_p: _unary(sign),
    jaxs.sin_p: _apply(lambda f, v: f("sin", v)),
    jaxs.sinh_p: _apply(lambda f, v: (f("exp", v) - f("exp", -v)) / 2),
    jaxs.sqrt_p: lambda eqn, arithmetic, a: each(arithmetic.root, a),
    jaxs.square_p: _unary(lambda v: v * v),
    jaxs.sub_p: _binary(_difference),
    jaxs.tan_p: _apply(lambda f, v: f("sin", v) / f("cos", v)),
    jaxs.tanh_p: _apply(lambda f, v: 1 - 2 / (f("exp", 2 * v) + 1)),
    jaxs.eq_p: compare("eq"),
    jaxs.ge_p: compare("ge"),
    jaxs.gt_p: compare("gt"),
    jaxs.le_p: compare("le"),
    jaxs.lt_p: compare("lt"),
    jaxs.ne_p: compare("ne"),
}
