"""The primitives that are modelled: what each computes over the reals.

A rule is called with the space of sizes, the equation and its operands, and returns an `Array` (or a list of
them).  It refuses, by raising `Outside`, whatever it does not mean exactly: integer division, float to
integer, a maximum or a choice that depends on the data.
"""

import operator
from collections.abc import Callable
from dataclasses import replace

import jax.numpy as jnp
from jax import lax
from jax._src.export.shape_poly import dim_as_value_p
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs
from jax.interpreters.ad import add_jaxvals_p as add_any_p

from bnjax.jaxprs import shaped
from bnjax.prove.algebra import INFINITESIMAL, Outside, Poly, entries_of
from bnjax.prove.arrays import Array, aligned, elementwise, finite, placed, regrouped, summed
from bnjax.prove.field import Field
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, UNKNOWN, sign
from bnjax.prove.space import Space

Rule = Callable[..., Array | list[Array]]


def _add(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    known = max(a.sign, b.sign) if min(a.sign, b.sign) > UNKNOWN else UNKNOWN
    return elementwise(space, (a, b), operator.add, known)


def _sub(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    nothing = b.poly is not None and not b.poly.terms  # the degrees of freedom that `var` subtracts from n
    return elementwise(space, (a, b), operator.sub, a.sign if nothing else UNKNOWN)


def _mul(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    known = min(a.sign, b.sign)
    if known == UNKNOWN and a.dims == b.dims and a.poly == b.poly:
        known = NONNEGATIVE
    return elementwise(space, (a, b), operator.mul, known)


def _div(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    if not jnp.issubdtype(shaped(eqn.outvars[0]).dtype, jnp.floating):
        raise Outside("integer division")
    if b.poly is not None and not space.field.reduce(b.poly).terms:
        dims, _ = aligned(space, (a, b))
        return Array(dims, None)  # NaN or infinity, to be selected away
    inverse = replace(b, poly=space.field.inverse(finite(b), b.sign))
    return elementwise(space, (a, inverse), operator.mul, a.sign if b.sign else UNKNOWN)  # b ≠ 0


def _neg(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return Array(a.dims, -finite(a))


def _integer_pow(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return _power(space, a, eqn.params["y"])


def _square(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return _power(space, a, 2)


def _power(space: Space, a: Array, power: int) -> Array:
    field = space.field
    base = finite(a) if power >= 0 else field.inverse(finite(a), a.sign)
    known = a.sign if power % 2 or a.sign == POSITIVE else NONNEGATIVE
    return Array(a.dims, field.reduce(base ** abs(power)), POSITIVE if power == 0 else known)


def _sqrt(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return Array(a.dims, space.field.root(finite(a), a.sign), POSITIVE)


def _rsqrt(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    field = space.field
    return Array(a.dims, field.inverse(field.root(finite(a), a.sign), POSITIVE), POSITIVE)


def _pow(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    exponent = b.poly.constant() if b.poly is not None else None
    if exponent is None or exponent.denominator > 2:
        raise Outside("a power that is neither integer nor half-integer")
    if exponent.denominator == 1:
        return _power(space, a, int(exponent))
    return _power(space, _sqrt(space, eqn, a), int(2 * exponent))


def _reduce_sum(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return summed(space, a, {int(axis) for axis in eqn.params["axes"]})


def _psum(space: Space, eqn: JaxprEqn, *arrays: Array) -> list[Array]:
    axes = eqn.params["axes"]
    if eqn.params.get("axis_index_groups") is not None or not all(isinstance(a, int) for a in axes):
        raise Outside("a sum over devices that are not one vmapped axis")
    return [summed(space, a, set(axes)) for a in arrays]


def _broadcast_in_dim(space: Space, eqn: JaxprEqn, a: Array, *_: Array) -> Array:
    where = [int(d) for d in eqn.params["broadcast_dimensions"]]
    dims = [space.dim(size) for size in eqn.params["shape"]]
    for k, dim in zip(where, a.dims, strict=True):
        dims[k] = dim or dims[k]
    if a.poly is None:
        return Array(tuple(dims), None)
    return Array(tuple(dims), placed(space, a, dims, where), a.sign)


def _transpose(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    order = [int(d) for d in eqn.params["permutation"]]
    dims = tuple(a.dims[d] for d in order)
    where = [order.index(k) for k in range(len(order))]
    return Array(dims, placed(space, a, dims, where), a.sign)


def _squeeze(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    gone = {int(d) for d in eqn.params["dimensions"]}
    return replace(a, dims=tuple(dim for k, dim in enumerate(a.dims) if k not in gone))


def _reshape(space: Space, eqn: JaxprEqn, a: Array, *_: Array) -> Array:
    if eqn.params.get("dimensions") is not None:
        raise Outside("a reshape that permutes")
    return regrouped(space, a, eqn.params["new_sizes"])


def _convert_element_type(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    """The same number: the interpreter asks whether the new dtype holds it."""
    old, new = shaped(eqn.invars[0]).dtype, shaped(eqn.outvars[0]).dtype
    to_integer = jnp.issubdtype(new, jnp.integer) and jnp.issubdtype(old, jnp.floating)
    if old != new and (to_integer or new == jnp.bool_):
        raise Outside(f"{old} to {new}")
    return a


def _identity(space: Space, eqn: JaxprEqn, *arrays: Array) -> list[Array]:
    return list(arrays)


def _stop_gradient(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return replace(a, poly=space.field.part(finite(a), INFINITESIMAL, 0))


def _dim_as_value(space: Space, eqn: JaxprEqn) -> Array:
    poly = space.dimension(eqn.params["dim"])
    return Array((), poly, sign(poly))


def _dot_general(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
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
        placed(space, array, dims, [where[order.index(k)] for k in range(len(order))])
        for array, order, where in ((a, a_order, a_where), (b, b_order, b_where))
    ]
    product = Array(tuple(dims), polys[0] * polys[1], min(a.sign, b.sign))
    return summed(space, product, set(range(kept, kept + len(a_sum))))


def _comparison(name: str) -> Rule:
    def rule(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
        dims, (left, right) = aligned(space, (a, b))
        truth = _decided(space, name, space.field.reduce(left - right))
        return Array(dims, space.field.constant(int(truth)), NONNEGATIVE)

    return rule


def _decided(space: Space, name: str, difference: Poly) -> bool:
    """Whether difference > 0, ≥ 0, ...: by its sign, or, for sizes only, as an obligation."""
    field = space.field
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
        claim = f"{difference} {'>' if name in ('gt', 'ge') else '≠'} 0"
        field.require(claim, False)
        zero = _size_expression(difference)
        beside = zero if name in ("eq", "ne") else f"({zero})*(({zero})**2 - 1)"  # −1, 0 or 1: at the bound
        space.equations.append((beside, claim))
        return name != "eq"
    raise Outside("a comparison that depends on the data")


def _size_expression(poly: Poly) -> str:
    """A polynomial of size symbols, as Python reads it."""
    terms = (
        "*".join([f"({coefficient})", *(f"{name}**({power})" for (name, _), power in entries_of(monomial))])
        for monomial, coefficient in poly.terms.items()
    )
    return " + ".join(terms)


def _select_n(space: Space, eqn: JaxprEqn, which: Array, *cases: Array) -> Array:
    truth = finite(which).constant()
    if truth is not None:
        if not 0 <= truth < len(cases):
            raise Outside(f"the case {truth} of {len(cases)}, which JAX leaves open")
        return cases[int(truth)]
    if len(cases) != 2 or shaped(eqn.invars[0]).dtype != jnp.bool_:
        raise Outside("a choice by an integer")
    one = space.field.constant(1)
    known = min(case.sign for case in cases)
    return elementwise(
        space, (which, *cases), lambda w, off, on: (one - w) * off + w * on, min(known, NONNEGATIVE)
    )


def _max(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    """Where one side is larger by its form; and max(count, c), 0 < c ≤ 1, of what a mask keeps."""
    field = space.field
    dims, (left, right) = aligned(space, (a, b))
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


def _boolean(apply: Callable[..., Poly]) -> Rule:
    def rule(space: Space, eqn: JaxprEqn, *arrays: Array) -> Array:
        if shaped(eqn.outvars[0]).dtype != jnp.bool_:
            raise Outside("bits of an integer")
        one = space.field.constant(1)
        return elementwise(space, arrays, lambda *polys: apply(one, *polys), NONNEGATIVE)

    return rule


ARITHMETIC: frozenset[Primitive] = frozenset(
    (
        jaxs.add_p, add_any_p, jaxs.div_p, jaxs.dot_general_p, jaxs.integer_pow_p, jaxs.mul_p, jaxs.neg_p,
        jaxs.pow_p, jaxs.psum_p, jaxs.reduce_sum_p, jaxs.rsqrt_p, jaxs.sqrt_p, jaxs.square_p, jaxs.sub_p,
        jaxs.max_p,
    )
)  # fmt: skip
# by identity: another primitive of the same name is another one
PRIMITIVES: dict[Primitive, Rule] = {
    jaxs.add_p: _add,
    add_any_p: _add,
    jaxs.and_p: _boolean(lambda one, a, b: a * b),
    jaxs.broadcast_in_dim_p: _broadcast_in_dim,
    jaxs.convert_element_type_p: _convert_element_type,
    jaxs.copy_p: _identity,
    dim_as_value_p: _dim_as_value,
    jaxs.div_p: _div,
    jaxs.dot_general_p: _dot_general,
    jaxs.eq_p: _comparison("eq"),
    jaxs.ge_p: _comparison("ge"),
    jaxs.gt_p: _comparison("gt"),
    jaxs.integer_pow_p: _integer_pow,
    jaxs.le_p: _comparison("le"),
    jaxs.lt_p: _comparison("lt"),
    jaxs.max_p: _max,
    jaxs.mul_p: _mul,
    jaxs.name_p: _identity,
    jaxs.ne_p: _comparison("ne"),
    jaxs.neg_p: _neg,
    jaxs.not_p: _boolean(lambda one, a: one - a),
    lax.optimization_barrier_p: _identity,
    jaxs.or_p: _boolean(lambda one, a, b: a + b - a * b),
    jaxs.pow_p: _pow,
    jaxs.psum_p: _psum,
    jaxs.reduce_sum_p: _reduce_sum,
    jaxs.reshape_p: _reshape,
    jaxs.rsqrt_p: _rsqrt,
    jaxs.select_n_p: _select_n,
    jaxs.sqrt_p: _sqrt,
    jaxs.square_p: _square,
    jaxs.squeeze_p: _squeeze,
    jaxs.stop_gradient_p: _stop_gradient,
    jaxs.sub_p: _sub,
    jaxs.transpose_p: _transpose,
}
