"""Runs a jaxpr on exact numbers: rationals, and enclosures by rationals where a root is irrational.

The prover's second opinion: it shares the walk over a jaxpr with the algebra and nothing else, so that a
counterexample found here does not rest on it.  The same interpreter runs on other numbers, such as the
balls of `bnjax.prove.rounding`: an `Arithmetic` says what a literal and a square root are, the operators
are Python's.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import ClosedJaxpr, JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs
from jax.interpreters.ad import add_jaxvals_p as add_any_p
from jax.typing import DTypeLike

from bnjax.jaxprs import called, shaped, walk

_BITS = 256


class Unsupported(Exception):
    """A primitive, or a comparison of equal numbers, that exact evaluation does not decide."""


class NotEvaluated(Unsupported):
    """A primitive that is not evaluated, whatever its operands."""


@dataclass(frozen=True)
class Enclosure:
    """A real number between two rationals."""

    low: Fraction
    high: Fraction

    def __add__(self, other):
        other = enclosure(other)
        return _outward(self.low + other.low, self.high + other.high)

    def __neg__(self):
        return Enclosure(-self.high, -self.low)

    def __sub__(self, other):
        return self + -enclosure(other)

    def __rsub__(self, other):
        return enclosure(other) + -self

    def __mul__(self, other):
        other = enclosure(other)
        corners = [a * b for a in (self.low, self.high) for b in (other.low, other.high)]
        return _outward(min(corners), max(corners))

    def __truediv__(self, other):
        return self * _reciprocal(enclosure(other))

    def __rtruediv__(self, other):
        return enclosure(other) * _reciprocal(self)

    def __gt__(self, other):
        return _decide(self - other)

    def __lt__(self, other):
        return _decide(other - self)

    __radd__ = __add__
    __rmul__ = __mul__


def enclosure(value) -> Enclosure:
    """A number as an enclosure; a rational encloses itself."""
    return value if isinstance(value, Enclosure) else Enclosure(Fraction(value), Fraction(value))


def disjoint(a, b) -> bool:
    """True only if the two numbers differ."""
    a, b = enclosure(a), enclosure(b)
    return a.high < b.low or b.high < a.low


def exact_root(value):
    """√value: rational where it can be, else an enclosure."""
    if isinstance(value, Enclosure):
        return Enclosure(enclosure(exact_root(value.low)).low, enclosure(exact_root(value.high)).high)
    if value <= 0:
        raise Unsupported("a square root where it has no derivative")
    value = Fraction(value)
    root = Fraction(math.isqrt(value.numerator), math.isqrt(value.denominator))
    if root * root == value:
        return root
    scale = 2 ** max(_BITS - value.numerator.bit_length() + value.denominator.bit_length(), 0)
    floor = math.isqrt(value.numerator * scale * scale // value.denominator)
    return Enclosure(Fraction(floor, scale), Fraction(floor + 1, scale))


def _reciprocal(value: Enclosure) -> Enclosure:
    if value.low <= 0 <= value.high:
        raise Unsupported("a division by a number that may be zero")
    return Enclosure(1 / value.high, 1 / value.low)


def _outward(low: Fraction, high: Fraction) -> Enclosure:
    return Enclosure(_rounded(low, math.floor), _rounded(high, math.ceil))


def _rounded(value: Fraction, rounding: Callable[[Fraction], int]) -> Fraction:
    if value.denominator.bit_length() <= _BITS or not value:
        return value
    scale = Fraction(2) ** (_BITS - value.numerator.bit_length() + value.denominator.bit_length())
    return rounding(value * scale) / scale


def _decide(difference) -> bool:
    difference = enclosure(difference)
    if difference.low > 0:
        return True
    if difference.high < 0:
        return False
    raise Unsupported("a comparison of equal numbers")


class Arithmetic:
    """Exact rational arithmetic; a subclass changes the numbers, or rounds each result."""

    def literal(self, value) -> object:
        """A literal of the program, read exactly."""
        if isinstance(value, bool | np.bool_):
            return bool(value)
        if not math.isfinite(float(value)):
            return float(value)  # a NaN literal that `where` selects away
        return Fraction(int(value)) if float(value) == int(value) else Fraction(float(value))

    def root(self, value):
        """√value."""
        return exact_root(value)

    def rounded(self, eqn, operands: Sequence[np.ndarray], result: np.ndarray) -> np.ndarray:
        """What the machine makes of an exact `result`."""
        return result


def array_of(values, arithmetic: Arithmetic) -> np.ndarray:
    """An object array of the arithmetic's numbers."""
    given = np.asarray(values)
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
        return _results(eqn, operands, arithmetic)

    return walk(jaxpr, args, equation, functools.partial(array_of, arithmetic=arithmetic))


def _results(eqn: JaxprEqn, operands: list[np.ndarray], arithmetic: Arithmetic) -> list[np.ndarray]:
    if eqn.primitive in _IDENTITIES:
        return operands
    if eqn.primitive in _MOVES:
        return [_moved(eqn, operands)]
    if eqn.primitive is jaxs.psum_p:
        sums = [_array(np.add.reduce(a, axis=tuple(eqn.params["axes"]))) for a in operands]
        return [arithmetic.rounded(eqn, [a], total) for a, total in zip(operands, sums, strict=True)]
    if eqn.primitive not in _RULES:
        raise NotEvaluated(eqn.primitive.name)
    result = _array(_RULES[eqn.primitive](eqn, arithmetic, *operands))
    aval = shaped(eqn.outvars[0])
    if result.shape != aval.shape:
        result = np.broadcast_to(result, aval.shape)
    if jnp.issubdtype(aval.dtype, jnp.integer):
        result = _wrapped(result, aval.dtype)
    return [arithmetic.rounded(eqn, operands, result)]


def _array(value) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    result = np.empty((), object)
    result[()] = value
    return result


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
    return _array(np.concatenate([a.ravel() for a in operands])[order])


def _each(function: Callable, *arrays: np.ndarray) -> np.ndarray:
    """function at every element, keeping Python's own numbers."""
    return np.frompyfunc(function, len(arrays), 1)(*arrays)


def _divide(eqn: JaxprEqn, arithmetic: Arithmetic, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if not jnp.issubdtype(shaped(eqn.outvars[0]).dtype, jnp.floating):
        raise Unsupported("integer division")
    return _each(_quotient, a, b)


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

    return _array(_each(wrap, values))


def _convert(eqn: JaxprEqn, arithmetic: Arithmetic, a: np.ndarray) -> np.ndarray:
    old, new = shaped(eqn.invars[0]).dtype, shaped(eqn.outvars[0]).dtype
    if jnp.issubdtype(old, jnp.floating) and not jnp.issubdtype(new, jnp.floating):
        raise NotEvaluated("float to integer")
    if new == jnp.bool_ and old != jnp.bool_:
        return _each(lambda v: v != 0, a)
    if jnp.issubdtype(new, jnp.floating) and jnp.finfo(new).bits < 16:
        raise NotEvaluated(f"a cast to {new}")
    if old == jnp.bool_ and new != jnp.bool_:
        return _each(lambda v: arithmetic.literal(int(v)), a)
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
    return _array(np.einsum(f"{''.join(left)},{''.join(right)}->{''.join(out)}", a, b))


def _power(eqn: JaxprEqn, arithmetic: Arithmetic, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    doubled = _array(_each(lambda v: 2 * v, b))
    if any(v != int(v) for v in doubled.ravel()):
        raise Unsupported("a power that is neither integer nor half-integer")
    return _each(
        lambda x, y: _raised(x, int(y) // 2) if int(y) % 2 == 0 else _raised(arithmetic.root(x), int(y)),
        *np.broadcast_arrays(a, doubled),
    )


def _raised(value, power: int):
    result = functools.reduce(operator.mul, [value] * abs(power)) if power else Fraction(1)
    return result if power >= 0 else 1 / result


def _larger(a, b):
    return a if a > b else b if b > a else _tie(a, b)


def _tie(a, b):
    """Equal numbers: a maximum of constants is one of them, but data at a kink decides nothing."""
    raise Unsupported("a maximum of equal numbers")


def _compare(name: str) -> Callable:
    def rule(eqn: JaxprEqn, arithmetic: Arithmetic, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        exact = not jnp.issubdtype(shaped(eqn.invars[0]).dtype, jnp.floating)
        return _each(lambda x, y: _compared(name, x, y, exact), a, b)

    return rule


def _compared(name: str, a, b, exact: bool) -> bool:
    if exact or (isinstance(a, Fraction) and isinstance(b, Fraction) and a != b):
        return getattr(operator, name)(a, b)
    if a > b or b > a:  # enclosures: raises where they overlap
        return name in ("ne", "gt", "ge") if a > b else name in ("ne", "lt", "le")
    raise Unsupported("a comparison of equal numbers")


def _select(eqn: JaxprEqn, arithmetic: Arithmetic, which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    def pick(index, *values):
        if not 0 <= int(index) < len(values):
            raise Unsupported("a choice out of range")
        return values[int(index)]

    return _each(pick, which, *cases)


def _sign(value):
    return Fraction(1) if value > 0 else Fraction(-1) if value < 0 else _tie(value, 0)


def _binary(function: Callable) -> Callable:
    return lambda eqn, arithmetic, a, b: _each(function, a, b)


def _unary(function: Callable) -> Callable:
    return lambda eqn, arithmetic, a: _each(function, a)


def _total(eqn: JaxprEqn, arithmetic: Arithmetic, a: np.ndarray) -> np.ndarray:
    axes = tuple(int(axis) for axis in eqn.params["axes"])
    result = np.add.reduce(a, axis=axes) if a.size else np.zeros(shaped(eqn.outvars[0]).shape, np.int64)
    return _each(lambda v: arithmetic.literal(0) + v, _array(result))


_IDENTITIES = frozenset((lax.optimization_barrier_p, jaxs.stop_gradient_p, jaxs.copy_p, jaxs.name_p))
_MOVES = frozenset(
    (
        jaxs.reshape_p, jaxs.transpose_p, jaxs.broadcast_in_dim_p, jaxs.squeeze_p, jaxs.slice_p, jaxs.rev_p,
        jaxs.concatenate_p,
    )
)  # fmt: skip
_RULES: dict[Primitive, Callable[..., Any]] = {
    jaxs.abs_p: _unary(lambda v: _larger(v, -v)),
    jaxs.add_p: _binary(operator.add),
    add_any_p: _binary(operator.add),
    jaxs.and_p: _binary(lambda a, b: a and b),
    jaxs.convert_element_type_p: _convert,
    jaxs.div_p: _divide,
    jaxs.dot_general_p: lambda eqn, arithmetic, a, b: contraction(eqn.params["dimension_numbers"], a, b),
    jaxs.integer_pow_p: lambda eqn, arithmetic, a: _each(lambda v: _raised(v, eqn.params["y"]), a),
    jaxs.max_p: _binary(_larger),
    jaxs.min_p: _binary(lambda a, b: -_larger(-a, -b)),
    jaxs.mul_p: _binary(operator.mul),
    jaxs.neg_p: _unary(operator.neg),
    jaxs.not_p: _unary(operator.not_),
    jaxs.or_p: _binary(lambda a, b: a or b),
    jaxs.pow_p: _power,
    jaxs.reduce_sum_p: _total,
    jaxs.rsqrt_p: lambda eqn, arithmetic, a: _each(lambda v: 1 / arithmetic.root(v), a),
    jaxs.select_n_p: _select,
    jaxs.sign_p: _unary(_sign),
    jaxs.sqrt_p: lambda eqn, arithmetic, a: _each(arithmetic.root, a),
    jaxs.square_p: _unary(lambda v: v * v),
    jaxs.sub_p: _binary(operator.sub),
    jaxs.eq_p: _compare("eq"),
    jaxs.ge_p: _compare("ge"),
    jaxs.gt_p: _compare("gt"),
    jaxs.le_p: _compare("le"),
    jaxs.lt_p: _compare("lt"),
    jaxs.ne_p: _compare("ne"),
}
