"""The primitives that are modelled: what each computes over the reals.

A rule is called with the interpreter, the equation and its operands, and returns an `Array` (or a list of
them).  It refuses, by raising `Outside`, whatever it does not mean exactly: integer division, float to
integer, a maximum or a choice that depends on the data.
"""

import operator
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

import jax.numpy as jnp

from bnjax.prove.algebra import INFINITESIMAL, Outside, Poly, entries_of
from bnjax.prove.arrays import Array, aligned, elementwise, finite, placed, regrouped, summed
from bnjax.prove.field import Field
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, UNKNOWN, sign

if TYPE_CHECKING:
    from bnjax.prove.interpreter import Interpreter


def is_arithmetic(dtype) -> bool:
    """Whether + and × are those of the reals: not on truth values, nor on integers that wrap early."""
    return jnp.issubdtype(dtype, jnp.floating) or dtype in (jnp.int32, jnp.int64)


def _add(interpreter, eqn, a, b):
    known = max(a.sign, b.sign) if min(a.sign, b.sign) > UNKNOWN else UNKNOWN
    return elementwise(interpreter, (a, b), operator.add, known)


def _sub(interpreter, eqn, a, b):
    return elementwise(interpreter, (a, b), operator.sub, UNKNOWN)


def _mul(interpreter, eqn, a, b):
    known = min(a.sign, b.sign)
    if known == UNKNOWN and a.dims == b.dims and a.poly == b.poly:
        known = NONNEGATIVE
    return elementwise(interpreter, (a, b), operator.mul, known)


def _div(interpreter, eqn, a, b):
    if not jnp.issubdtype(eqn.outvars[0].aval.dtype, jnp.floating):
        raise Outside("integer division")
    if b.poly is not None and not interpreter.field.reduce(b.poly).terms:
        dims, _ = aligned(interpreter, (a, b))
        return Array(dims, None)  # NaN or infinity, to be selected away
    inverse = replace(b, poly=interpreter.field.inverse(finite(b), b.sign))
    return elementwise(interpreter, (a, inverse), operator.mul, a.sign if b.sign else UNKNOWN)  # b ≠ 0


def _neg(interpreter, eqn, a):
    return Array(a.dims, -finite(a))


def _integer_pow(interpreter, eqn, a):
    return _power(interpreter, a, eqn.params["y"])


def _square(interpreter, eqn, a):
    return _power(interpreter, a, 2)


def _power(interpreter: "Interpreter", a: Array, power: int) -> Array:
    field = interpreter.field
    base = finite(a) if power >= 0 else field.inverse(finite(a), a.sign)
    known = a.sign if power % 2 or a.sign == POSITIVE else NONNEGATIVE
    return Array(a.dims, field.reduce(base ** abs(power)), POSITIVE if power == 0 else known)


def _sqrt(interpreter, eqn, a):
    return Array(a.dims, interpreter.field.root(finite(a), a.sign), POSITIVE)


def _rsqrt(interpreter, eqn, a):
    field = interpreter.field
    return Array(a.dims, field.inverse(field.root(finite(a), a.sign), POSITIVE), POSITIVE)


def _pow(interpreter, eqn, a, b):
    exponent = b.poly.constant() if b.poly is not None else None
    if exponent is None or exponent.denominator > 2:
        raise Outside("a power that is neither integer nor half-integer")
    if exponent.denominator == 1:
        return _power(interpreter, a, int(exponent))
    return _power(interpreter, _sqrt(interpreter, eqn, a), int(2 * exponent))


def _reduce_sum(interpreter, eqn, a):
    return summed(interpreter, a, {int(axis) for axis in eqn.params["axes"]})


def _psum(interpreter, eqn, *arrays):
    axes = eqn.params["axes"]
    if eqn.params.get("axis_index_groups") is not None or not all(isinstance(a, int) for a in axes):
        raise Outside("a sum over devices that are not one vmapped axis")
    return [summed(interpreter, a, set(axes)) for a in arrays]


def _broadcast_in_dim(interpreter, eqn, a, *_):
    where = [int(d) for d in eqn.params["broadcast_dimensions"]]
    dims = [interpreter.dim(size) for size in eqn.params["shape"]]
    for k, dim in zip(where, a.dims, strict=True):
        dims[k] = dim or dims[k]
    if a.poly is None:
        return Array(tuple(dims), None)
    return Array(tuple(dims), placed(interpreter, a, dims, where), a.sign)


def _transpose(interpreter, eqn, a):
    order = [int(d) for d in eqn.params["permutation"]]
    dims = tuple(a.dims[d] for d in order)
    where = [order.index(k) for k in range(len(order))]
    return Array(dims, placed(interpreter, a, dims, where), a.sign)


def _squeeze(interpreter, eqn, a):
    gone = {int(d) for d in eqn.params["dimensions"]}
    return replace(a, dims=tuple(dim for k, dim in enumerate(a.dims) if k not in gone))


def _reshape(interpreter, eqn, a, *_):
    if eqn.params.get("dimensions") is not None:
        raise Outside("a reshape that permutes")
    return regrouped(interpreter, a, eqn.params["new_sizes"])


def _convert_element_type(interpreter, eqn, a):
    old, new = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
    floating = jnp.issubdtype(new, jnp.floating)
    if floating or old == new or (jnp.issubdtype(new, jnp.integer) and not jnp.issubdtype(old, jnp.floating)):
        return a
    raise Outside(f"{old} to {new}")


def _identity(interpreter, eqn, *arrays):
    return list(arrays)


def _stop_gradient(interpreter, eqn, a):
    return replace(a, poly=interpreter.field.part(finite(a), INFINITESIMAL, 0))


def _dim_as_value(interpreter, eqn):
    poly = interpreter.dimension(eqn.params["dim"])
    return Array((), poly, sign(poly))


def _dot_general(interpreter, eqn, a, b):
    (a_sum, b_sum), (a_batch, b_batch) = eqn.params["dimension_numbers"]
    a_free = [k for k in range(len(a.dims)) if k not in (*a_sum, *a_batch)]
    b_free = [k for k in range(len(b.dims)) if k not in (*b_sum, *b_batch)]
    kept = len(a_batch) + len(a_free) + len(b_free)
    a_order = [*a_batch, *a_free, *a_sum]
    b_order = [*b_batch, *b_free, *b_sum]
    a_where = [*range(kept - len(b_free)), *range(kept, kept + len(a_sum))]
    b_where = [*range(len(b_batch)), *range(kept - len(b_free), kept), *range(kept, kept + len(b_sum))]
    if any(a.dims[i] != b.dims[j] for i, j in zip((*a_sum, *a_batch), (*b_sum, *b_batch), strict=True)):
        raise Outside("layout: the contracted dimensions differ")
    dims: list[tuple[str, ...]] = [()] * (kept + len(a_sum))
    for array, order, where in ((a, a_order, a_where), (b, b_order, b_where)):
        for k, target in zip(order, where, strict=True):
            dims[target] = array.dims[k]
    polys = [
        placed(interpreter, array, dims, [where[order.index(k)] for k in range(len(order))])
        for array, order, where in ((a, a_order, a_where), (b, b_order, b_where))
    ]
    product = Array(tuple(dims), polys[0] * polys[1], min(a.sign, b.sign))
    return summed(interpreter, product, set(range(kept, kept + len(a_sum))))


def _comparison(name: str) -> Callable:
    def rule(interpreter, eqn, a, b):
        dims, (left, right) = aligned(interpreter, (a, b))
        truth = _decided(interpreter.field, name, interpreter.field.reduce(left - right))
        return Array(dims, interpreter.field.constant(int(truth)), NONNEGATIVE)

    return rule


def _decided(field: Field, name: str, difference: Poly) -> bool:
    """Whether difference > 0, ≥ 0, ...: by its sign, or, for sizes only, as an obligation."""
    if name in ("lt", "le"):
        name, difference = {"lt": "gt", "le": "ge"}[name], -difference
    value = difference.constant()
    if value is not None:
        return getattr(operator, name)(value, 0)
    above, below = field.sign(difference), field.sign(-difference)
    if above == POSITIVE or (above == NONNEGATIVE and name == "ge"):
        return name != "eq"
    if below == POSITIVE or (below == NONNEGATIVE and name == "gt"):
        return name == "ne"
    names = {entry for monomial in difference.terms for (entry, _), _ in entries_of(monomial)}
    if all(field.atoms[name].size for name in names):
        field.require(f"{difference} {'>' if name in ('gt', 'ge') else '≠'} 0", False)
        return name != "eq"
    raise Outside("a comparison that depends on the data")


def _select_n(interpreter, eqn, which, *cases):
    truth = finite(which).constant()
    if truth is not None:
        return cases[int(truth)]
    if len(cases) != 2 or eqn.invars[0].aval.dtype != jnp.bool_:
        raise Outside("a choice by an integer")
    one = interpreter.field.constant(1)
    known = min(case.sign for case in cases)
    return elementwise(
        interpreter, (which, *cases), lambda w, off, on: (one - w) * off + w * on, min(known, NONNEGATIVE)
    )


def _max(interpreter, eqn, a, b):
    """Where one side is larger by its form; and max(count, c), 0 < c ≤ 1, of what a mask keeps."""
    field = interpreter.field
    dims, (left, right) = aligned(interpreter, (a, b))
    for larger, smaller, known in ((left, right, a.sign), (right, left, b.sign)):
        if field.sign(field.reduce(larger - smaller)) != UNKNOWN:
            return Array(dims, larger, known)
    count, least = (right, left) if left.constant() is not None else (left, right)
    if not 0 < (least.constant() or 0) <= 1 or not _is_count(field, count):
        raise Outside("a maximum that depends on the data")
    field.require(f"{count} ≥ 1: the mask keeps at least one element", sign(count) == POSITIVE)
    return Array(dims, count, POSITIVE)


def _is_count(field: Field, poly: Poly) -> bool:
    """A sum of truth values and sizes: a whole number ≥ 0."""

    def holds(name: str) -> bool:
        if "." in name:
            counts = [d.name for d in field.definitions if d.power == 1 and _is_count(field, d.value)]
            return name in counts
        return field.atoms[name].boolean or field.atoms[name].size

    return all(
        coefficient > 0
        and coefficient.denominator == 1
        and all(power > 0 and holds(name) for (name, _), power in entries_of(monomial))
        for monomial, coefficient in poly.terms.items()
    )


def _boolean(apply: Callable) -> Callable:
    def rule(interpreter, eqn, *arrays):
        if eqn.outvars[0].aval.dtype != jnp.bool_:
            raise Outside("bits of an integer")
        one = interpreter.field.constant(1)
        return elementwise(interpreter, arrays, lambda *polys: apply(one, *polys), NONNEGATIVE)

    return rule


ARITHMETIC = frozenset(
    ["add", "add_any", "div", "dot_general", "integer_pow", "mul", "neg", "pow", "psum", "reduce_sum"]
) | {"rsqrt", "sqrt", "square", "sub", "max"}
_COMPARISONS: dict[str, Callable] = {name: _comparison(name) for name in ("eq", "ne", "lt", "le", "gt", "ge")}
PRIMITIVES: dict[str, Callable] = _COMPARISONS | {
    "add": _add,
    "add_any": _add,
    "and": _boolean(lambda one, a, b: a * b),
    "broadcast_in_dim": _broadcast_in_dim,
    "convert_element_type": _convert_element_type,
    "copy": _identity,
    "dim_as_value": _dim_as_value,
    "div": _div,
    "dot_general": _dot_general,
    "integer_pow": _integer_pow,
    "max": _max,
    "mul": _mul,
    "name": _identity,
    "neg": _neg,
    "not": _boolean(lambda one, a: one - a),
    "optimization_barrier": _identity,
    "or": _boolean(lambda one, a, b: a + b - a * b),
    "pow": _pow,
    "psum": _psum,
    "reduce_sum": _reduce_sum,
    "reshape": _reshape,
    "rsqrt": _rsqrt,
    "select_n": _select_n,
    "sqrt": _sqrt,
    "square": _square,
    "squeeze": _squeeze,
    "stop_gradient": _stop_gradient,
    "sub": _sub,
    "transpose": _transpose,
}
