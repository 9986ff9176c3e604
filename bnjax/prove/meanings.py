"""The primitives that are modelled: what each computes over the reals.

A rule is called with the space of sizes, the equation and its operands, and returns an `Array` (or a list of
them).  It refuses, by raising `Outside`, whatever it does not mean exactly: integer division, float to
integer, a choice by an integer that depends on the data.  Those that choose are in `choices`.
"""

import operator
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import jax.numpy as jnp
from jax import lax
from jax._src.export.shape_poly import dim_as_value_p
from jax._src.lax.control_flow.conditionals import platform_index_p
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs
from jax.interpreters.ad import add_jaxvals_p as add_any_p

from bnjax.jaxprs import shaped
from bnjax.prove.algebra import INFINITESIMAL, Outside, Poly
from bnjax.prove.arrays import Array, aligned, elementwise, finite, in_one_axis, placed, regrouped, summed
from bnjax.prove.choices import CHOICES
from bnjax.prove.comparisons import by_cases, contains_truth
from bnjax.prove.convolution import CONVOLUTIONS
from bnjax.prove.dynamic import DYNAMIC
from bnjax.prove.field import Field
from bnjax.prove.functions import (
    asinh,
    atan,
    cos,
    erf,
    exp,
    inverse,
    log,
    logistic,
    power,
    root,
    sin,
    tan,
    tanh,
)
from bnjax.prove.indexing import INDEXING
from bnjax.prove.integers import as_table
from bnjax.prove.literals import with_readings
from bnjax.prove.masks import with_masks
from bnjax.prove.moves import MOVES
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, UNKNOWN, sign
from bnjax.prove.space import Space
from bnjax.prove.windows import WINDOWS

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
    inverse = replace(b, poly=_inverse(space.field, finite(b), b.sign))
    return elementwise(space, (a, inverse), operator.mul, a.sign if b.sign else UNKNOWN)  # b ≠ 0


def _neg(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return Array(a.dims, -finite(a))


def _integer_pow(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return _power(space, a, eqn.params["y"])


def _square(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return _power(space, a, 2)


def _power(space: Space, a: Array, power: int) -> Array:
    field = space.field
    base = finite(a) if power >= 0 else _inverse(field, finite(a), a.sign)
    known = a.sign if power % 2 or a.sign == POSITIVE else NONNEGATIVE
    return Array(a.dims, field.reduce(base ** abs(power)), POSITIVE if power == 0 else known)


def _sqrt(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return Array(a.dims, _root(space.field, finite(a), a.sign), POSITIVE)


def _rsqrt(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    field = space.field
    return Array(a.dims, _inverse(field, _root(field, finite(a), a.sign), POSITIVE), POSITIVE)


def _pow(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    exponent = with_readings(finite(b)).constant()
    if exponent is None:
        return _exponential(space, eqn, _mul(space, eqn, _log(space, eqn, a), b))
    if exponent.denominator > 2:
        field, base, rational = space.field, finite(a), exponent
        return Array(
            a.dims, by_cases(field, base, lambda case: power(field, case, rational), a.sign), POSITIVE
        )
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
        return Array(tuple(dims), None, why=a.why)
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
    order = eqn.params.get("dimensions")
    if order is not None:  # of a's dimensions, before they are regrouped
        dims = tuple(a.dims[int(d)] for d in order)
        a = Array(dims, placed(space, a, dims, [list(order).index(k) for k in range(len(order))]), a.sign)
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


def _platform_index(space: Space, eqn: JaxprEqn) -> Array:
    """The case of every platform, where the others are of Pallas kernels, which run no such program."""
    platforms = eqn.params["platforms"]
    if any(names not in (None, ("mosaic",)) for names in platforms) or None not in platforms:
        raise Outside("a branch by platform")
    return Array((), space.field.constant(platforms.index(None)), range=(0, len(platforms) - 1))


def _empty(space: Space, eqn: JaxprEqn) -> Array:
    return Array(tuple(map(space.dim, shaped(eqn.outvars[0]).shape)), None, why="what was never set")


def _exp2(field: Field, poly: Poly) -> Poly:
    return exp(field, poly * log(field, field.constant(2)))


def _dot_general(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    (a_sum, b_sum), (a_batch, b_batch) = eqn.params["dimension_numbers"]
    a_free = [k for k in range(len(a.dims)) if k not in (*a_sum, *a_batch)]
    b_free = [k for k in range(len(b.dims)) if k not in (*b_sum, *b_batch)]
    kept = len(a_batch) + len(a_free) + len(b_free)
    a_order = [*a_batch, *a_free, *a_sum]
    b_order = [*b_batch, *b_free, *b_sum]
    a_where = [*range(kept - len(b_free)), *range(kept, kept + len(a_sum))]
    b_where = [*range(len(b_batch)), *range(kept - len(b_free), kept), *range(kept, kept + len(b_sum))]
    for i, j in zip((*a_sum, *a_batch), (*b_sum, *b_batch), strict=True):
        if a.dims[i] != b.dims[j]:
            a, b = in_one_axis(space, a, i), in_one_axis(space, b, j)
        if a.dims[i] != b.dims[j]:
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


def _function(apply: Callable[[Field, Poly], Poly], known: int = UNKNOWN) -> Callable[..., Array]:
    """A function of each element; truth values in it make cases."""

    def rule(space: Space, eqn: JaxprEqn, a: Array) -> Array:
        poly = by_cases(space.field, finite(a), lambda case: apply(space.field, case))
        return Array(a.dims, space.field.reduce(poly), known)

    return rule


_exponential = _function(exp, POSITIVE)


def _half(field: Field, poly: Poly) -> Poly:
    return poly * field.constant(Fraction(1, 2))


def _log(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return Array(a.dims, _logarithm(space.field, finite(a), a.sign))


def _log1p(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    known = POSITIVE if a.sign >= NONNEGATIVE else UNKNOWN
    return Array(a.dims, _logarithm(space.field, space.field.constant(1) + finite(a), known))


def _erf(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    dtype = shaped(eqn.outvars[0]).dtype
    return Array(a.dims, by_cases(space.field, finite(a), lambda case: erf(space.field, case, dtype)))


def _erfc(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return Array(a.dims, space.field.constant(1) - finite(_erf(space, eqn, a)))


def _partial(apply: Callable[[Field, Poly, int], Poly], masks: bool = False) -> Callable[..., Poly]:
    """A function that needs a sign, (field, poly, known); comparisons in `poly`, or masks too, make cases."""

    def applied(field: Field, poly: Poly, known: int) -> Poly:
        whole = known if not contains_truth(field, poly, masks) else UNKNOWN  # else of all cases together
        return by_cases(field, poly, lambda case: apply(field, case, whole), known, masks)

    return applied


_inverse, _root, _logarithm = _partial(inverse), _partial(root), _partial(log, masks=True)


def _boolean(apply: Callable[..., Poly]) -> Rule:
    def rule(space: Space, eqn: JaxprEqn, *arrays: Array) -> Array:
        if shaped(eqn.outvars[0]).dtype != jnp.bool_:
            raise Outside("bits of an integer")
        one = space.field.constant(1)
        result = elementwise(space, arrays, lambda *polys: apply(one, *polys), NONNEGATIVE)
        return replace(result, poly=as_table(space.field, finite(result)))

    return rule


ARITHMETIC: frozenset[Primitive] = frozenset(
    (
        jaxs.add_p, add_any_p, jaxs.div_p, jaxs.dot_general_p, jaxs.integer_pow_p, jaxs.mul_p, jaxs.neg_p,
        jaxs.pow_p, jaxs.psum_p, jaxs.reduce_sum_p, jaxs.rsqrt_p, jaxs.sqrt_p, jaxs.square_p, jaxs.sub_p,
        jaxs.cumsum_p,
        jaxs.max_p, jaxs.min_p, jaxs.abs_p, jaxs.sign_p, jaxs.clamp_p, jaxs.reduce_max_p, jaxs.reduce_min_p,
    )
)  # fmt: skip
# by identity: another primitive of the same name is another one
PRIMITIVES: dict[Primitive, Rule] = with_masks(
    CHOICES
    | CONVOLUTIONS
    | DYNAMIC
    | INDEXING
    | MOVES
    | WINDOWS
    | {
        jaxs.add_p: _add,
        add_any_p: _add,
        jaxs.asinh_p: _function(asinh),
        jaxs.atan_p: _function(atan),
        jaxs.cos_p: _function(cos),
        jaxs.and_p: _boolean(lambda one, a, b: a * b),
        jaxs.broadcast_in_dim_p: _broadcast_in_dim,
        jaxs.convert_element_type_p: _convert_element_type,
        jaxs.copy_p: _identity,
        dim_as_value_p: _dim_as_value,
        jaxs.div_p: _div,
        jaxs.cosh_p: _function(
            lambda field, poly: _half(field, exp(field, poly) + exp(field, -poly)), POSITIVE
        ),
        jaxs.dot_general_p: _dot_general,
        jaxs.empty2_p: _empty,
        jaxs.erf_p: _erf,
        jaxs.erfc_p: _erfc,
        jaxs.exp_p: _exponential,
        jaxs.exp2_p: _function(_exp2, POSITIVE),
        platform_index_p: _platform_index,
        jaxs.expm1_p: _function(lambda field, poly: exp(field, poly) - field.constant(1)),
        jaxs.integer_pow_p: _integer_pow,
        jaxs.log_p: _log,
        jaxs.log1p_p: _log1p,
        jaxs.logistic_p: _function(logistic, POSITIVE),
        jaxs.mul_p: _mul,
        jaxs.name_p: _identity,
        jaxs.neg_p: _neg,
        jaxs.not_p: _boolean(lambda one, a: one - a),
        lax.optimization_barrier_p: _identity,
        jaxs.or_p: _boolean(lambda one, a, b: a + b - a * b),
        jaxs.pow_p: _pow,
        jaxs.psum_p: _psum,
        jaxs.reduce_sum_p: _reduce_sum,
        jaxs.reshape_p: _reshape,
        jaxs.rsqrt_p: _rsqrt,
        jaxs.sin_p: _function(sin),
        jaxs.sinh_p: _function(lambda field, poly: _half(field, exp(field, poly) - exp(field, -poly))),
        jaxs.sqrt_p: _sqrt,
        jaxs.square_p: _square,
        jaxs.squeeze_p: _squeeze,
        jaxs.stop_gradient_p: _stop_gradient,
        jaxs.sub_p: _sub,
        jaxs.tan_p: _function(tan),
        jaxs.tanh_p: _function(tanh),
        jaxs.transpose_p: _transpose,
    }
)
