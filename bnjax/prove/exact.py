"""Runs a jaxpr on exact numbers: rationals, and enclosures by rationals where a root is irrational.

The prover's second opinion: it shares no code with the algebra, so that a counterexample found here does
not rest on it.  The same interpreter runs on other numbers, such as the balls of `bnjax.prove.rounding`:
an `Arithmetic` says what a literal and a square root are, the operators are Python's.
"""

import functools
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import jax.numpy as jnp
import numpy as np

_BITS = 256


class Unsupported(Exception):
    """A primitive, or a comparison of equal numbers, that exact evaluation does not decide."""


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


def evaluate(jaxpr, args: Sequence[np.ndarray], arithmetic: Arithmetic, consts=None) -> list[np.ndarray]:
    """The outputs of a jaxpr with concrete shapes at object arrays `args`."""
    consts = getattr(jaxpr, "consts", ()) if consts is None else consts
    jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
    env = dict(zip(jaxpr.constvars, (array_of(c, arithmetic) for c in consts), strict=True))
    env |= dict(zip(jaxpr.invars, args, strict=True))

    def read(atom):
        return array_of(atom.val, arithmetic) if hasattr(atom, "val") else env[atom]

    for eqn in jaxpr.eqns:
        results = _equation(eqn, [read(atom) for atom in eqn.invars], arithmetic)
        env.update(zip(eqn.outvars, results, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _equation(eqn, operands: list[np.ndarray], arithmetic: Arithmetic) -> list[np.ndarray]:
    name = eqn.primitive.name
    if name in ("scan", "while", "cond"):
        raise Unsupported(name)
    for key in ("jaxpr", "call_jaxpr", "fun_jaxpr"):
        if key in eqn.params:
            return evaluate(eqn.params[key], operands, arithmetic)
    if name in ("optimization_barrier", "stop_gradient", "copy", "copy_p", "name"):
        return operands
    if name in _MOVES:
        return [_moved(eqn, operands)]
    if name == "psum":
        return [_array(np.add.reduce(a, axis=tuple(eqn.params["axes"]))) for a in operands]
    if name not in _RULES:
        raise Unsupported(name)
    result = _array(_RULES[name](eqn, arithmetic, *operands))
    shape = eqn.outvars[0].aval.shape
    if result.shape != shape:
        result = np.broadcast_to(result, shape)
    return [arithmetic.rounded(eqn, operands, result)]


def _array(value) -> np.ndarray:
    if isinstance(value, np.ndarray):
        return value
    result = np.empty((), object)
    result[()] = value
    return result


def _moved(eqn, operands: list[np.ndarray]) -> np.ndarray:
    """A primitive that only moves elements: run on their numbers by JAX, then on the elements."""
    shape = eqn.outvars[0].aval.shape
    if eqn.primitive.name == "reshape":
        return operands[0].reshape(shape)
    if eqn.primitive.name == "broadcast_in_dim":
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


def _divide(eqn, arithmetic, a, b):
    if not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating):
        raise Unsupported("integer division")
    return _each(_quotient, a, b)


def _quotient(a, b):
    if isinstance(b, Fraction) and b == 0:
        return math.nan  # to be selected away; any use of it ends in Unsupported or NaN
    return a / b


def _convert(eqn, arithmetic, a):
    old, new = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
    if jnp.issubdtype(old, jnp.floating) and not jnp.issubdtype(new, jnp.floating):
        raise Unsupported("float to integer")
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


def _power(eqn, arithmetic, a, b):
    doubled = _each(lambda v: 2 * v, b)
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
    def rule(eqn, arithmetic, a, b):
        exact = not jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.floating)
        return _each(lambda x, y: _compared(name, x, y, exact), a, b)

    return rule


def _compared(name: str, a, b, exact: bool) -> bool:
    if exact or (isinstance(a, Fraction) and isinstance(b, Fraction) and a != b):
        return getattr(operator, name)(a, b)
    if a > b or b > a:  # enclosures: raises where they overlap
        return name in ("ne", "gt", "ge") if a > b else name in ("ne", "lt", "le")
    raise Unsupported("a comparison of equal numbers")


def _select(eqn, arithmetic, which, *cases):
    def pick(index, *values):
        return values[int(index)]

    return _each(pick, which, *cases)


def _sign(value):
    return Fraction(1) if value > 0 else Fraction(-1) if value < 0 else _tie(value, 0)


def _binary(function: Callable) -> Callable:
    return lambda eqn, arithmetic, a, b: _each(function, a, b)


def _unary(function: Callable) -> Callable:
    return lambda eqn, arithmetic, a: _each(function, a)


def _total(eqn, arithmetic, a):
    axes = tuple(int(axis) for axis in eqn.params["axes"])
    result = np.add.reduce(a, axis=axes) if a.size else np.zeros(eqn.outvars[0].aval.shape, int)
    return _each(lambda v: arithmetic.literal(0) + v, _array(result))


_MOVES = frozenset(
    ["reshape", "transpose", "broadcast_in_dim", "squeeze", "expand_dims", "slice", "rev", "concatenate"]
)
_RULES: dict[str, Callable] = {
    "abs": _unary(lambda v: _larger(v, -v)),
    "add": _binary(operator.add),
    "add_any": _binary(operator.add),
    "and": _binary(lambda a, b: a and b),
    "convert_element_type": _convert,
    "div": _divide,
    "dot_general": lambda eqn, arithmetic, a, b: contraction(eqn.params["dimension_numbers"], a, b),
    "integer_pow": lambda eqn, arithmetic, a: _each(lambda v: _raised(v, eqn.params["y"]), a),
    "max": _binary(_larger),
    "min": _binary(lambda a, b: -_larger(-a, -b)),
    "mul": _binary(operator.mul),
    "neg": _unary(operator.neg),
    "not": _unary(operator.not_),
    "or": _binary(lambda a, b: a or b),
    "pow": _power,
    "reduce_sum": _total,
    "rsqrt": lambda eqn, arithmetic, a: _each(lambda v: 1 / arithmetic.root(v), a),
    "select_n": _select,
    "sign": _unary(_sign),
    "sqrt": lambda eqn, arithmetic, a: _each(arithmetic.root, a),
    "square": _unary(lambda v: v * v),
    "sub": _binary(operator.sub),
    **{name: _compare(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
}
