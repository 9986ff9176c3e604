"""The primitives that choose by the data: comparisons, maxima, signs, and `select_n` between two cases.

A comparison of sizes alone is decided, under an obligation; one of data is a truth value of its own.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jax.extend.core import JaxprEqn, Literal, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.jaxprs import shaped
from bnjax.prove.algebra import Outside, Poly, entries_of
from bnjax.prove.arrays import Array, aligned, elementwise, finite, summed
from bnjax.prove.comparisons import above, by_cases, larger, largest, the_entry, zero
from bnjax.prove.field import Field
from bnjax.prove.integers import as_table, equal, exceeds, numbers, positions
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, UNKNOWN, sign
from bnjax.prove.space import Space

Rule = Callable[..., Array | list[Array]]


def _comparison(name: str) -> Rule:
    def rule(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
        for k, other in enumerate((b, a)):
            bound = _infinite(eqn.invars[k])
            if bound and other.poly is not None:
                sides = (bound, 0.0) if k == 0 else (0.0, bound)
                return Array(
                    other.dims, space.field.constant(int(getattr(operator, name)(*sides))), NONNEGATIVE
                )
        if jnp.issubdtype(shaped(eqn.invars[0]).dtype, jnp.integer):
            return _of_integers(space, name, a, b)
        dims, (left, right) = aligned(space, (a, b))
        difference = space.field.reduce(left - right)
        _rests_on_no_cast(difference, a, b)
        return Array(dims, _truth(space, name, difference), NONNEGATIVE)

    return rule


def _rests_on_no_cast(difference: Poly, *arrays: Array) -> None:
    """Outside where numbers are equal, or a constant apart, only because a cast is read as the identity."""
    if any(a.narrowed for a in arrays) and difference.constant() is not None:
        raise Outside("a comparison that the rounding of a cast decides")


def _of_integers(space: Space, name: str, a: Array, b: Array) -> Array:
    """A comparison of integers: by what they may be at most, for sizes only, or as `integers` says."""
    if name in ("lt", "le"):
        name, a, b = {"lt": "gt", "le": "ge"}[name], b, a
    field, one = space.field, space.field.constant(1)
    dims, (left, right) = aligned(space, (a, b))
    if a.range is not None and b.range is not None:
        ends = {getattr(operator, name)(x, y) for x in a.range for y in b.range}
        apart = a.range[0] > b.range[1] or b.range[0] > a.range[1]
        if len(ends) == 1 and (apart or name in ("gt", "ge")):
            return Array(dims, field.constant(int(ends.pop())), NONNEGATIVE)

    def truth(difference: Poly) -> Poly:
        decided = _decided(space, name, difference)
        if decided is not None:
            return field.constant(int(decided))
        if name in ("eq", "ne"):
            found = equal(field, difference)
            return found if name == "eq" else one - found
        return exceeds(field, difference) if name == "gt" else one - exceeds(field, -difference)

    difference = field.reduce(left - right)
    known = numbers(field, difference) is not None
    result = truth(difference) if known else by_cases(field, difference, truth, tables=False)
    return Array(dims, as_table(field, field.reduce(result)), NONNEGATIVE)


def _infinite(atom: Any) -> float:
    """A literal that is infinite; else 0."""
    value = float(atom.val) if isinstance(atom, Literal) and not shaped(atom).shape else 0.0
    return value if math.isinf(value) else 0.0


def _truth(space: Space, name: str, difference: Poly) -> Poly:
    """difference > 0, ≥ 0, …: by its sign, for sizes only as an obligation, or as a truth value."""
    field, one = space.field, space.field.constant(1)
    if name in ("lt", "le"):
        name, difference = {"lt": "gt", "le": "ge"}[name], -difference
    decided = _decided(space, name, difference)
    if decided is not None:
        return field.constant(int(decided))
    if name == "gt":
        return above(field, difference)
    if name == "ge":
        return field.reduce(above(field, difference) + zero(field, difference))
    return zero(field, difference) if name == "eq" else one - zero(field, difference)


def _decided(space: Space, name: str, difference: Poly) -> bool | None:
    """Whether difference > 0, ≥ 0, …, where its sign or, for sizes only, an obligation says so."""
    field = space.field
    value = difference.constant()
    if value is not None:
        return getattr(operator, name)(value, 0)
    over, under = field.sign(difference), field.sign(-difference)
    if over == POSITIVE or (over == NONNEGATIVE and name == "ge"):
        return name != "eq"
    if under == POSITIVE or (under == NONNEGATIVE and name == "gt"):
        return name == "ne"
    names = {entry for monomial in difference.terms for (entry, _), _ in entries_of(monomial)}
    if not all(field.atoms[name].size for name in names):
        return None
    claim = f"{difference} {'>' if name in ('gt', 'ge') else '≠'} 0"
    field.require(claim, False)
    null = _size_expression(difference)
    beside = null if name in ("eq", "ne") else f"({null})*(({null})**2 - 1)"  # −1, 0 or 1: at the bound
    space.equations.append((beside, claim))
    return name != "eq"


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
    """The larger one: by its form; max(count, c), 0 < c ≤ 1, of what a mask keeps; or by a comparison."""
    field = space.field
    for k, other in enumerate((b, a)):
        if _infinite(eqn.invars[k]) < 0 and other.poly is not None:
            return other
    dims, (left, right) = aligned(space, (a, b))
    for more, less, known in ((left, right, a.sign), (right, left, b.sign)):
        if field.sign(field.reduce(more - less)) != UNKNOWN:
            return Array(dims, more, known)
    count, least = (right, left) if left.constant() is not None else (left, right)
    if 0 < (least.constant() or 0) <= 1 and _is_count(field, count):
        field.require(f"{count} ≥ 1: the mask keeps at least one element", sign(count) == POSITIVE)
        return Array(dims, count, POSITIVE)
    return Array(dims, larger(field, left, right), max(a.sign, b.sign))


def _min(space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    negated = [Array(x.dims, -finite(x)) for x in (a, b)]
    dims, (left, right) = aligned(space, negated)
    return Array(dims, -larger(space.field, left, right), min(a.sign, b.sign))


def _clamp(space: Space, eqn: JaxprEqn, least: Array, a: Array, most: Array) -> Array:
    dims, (low, value, high) = aligned(space, (least, a, most))
    field = space.field
    return Array(
        dims, -larger(field, -larger(field, value, low), -high), min(max(a.sign, least.sign), most.sign)
    )


def _is_count(field: Field, poly: Poly) -> bool:
    """A sum of truth values and sizes: a whole number ≥ 0."""

    def holds(name: str) -> bool:
        if "." in name and not field.atoms[name].boolean:
            values = (d.value for d in field.definitions if d.name == name and d.power == 1)
            return any(_is_count(field, value) for value in values)
        return field.atoms[name].boolean or field.atoms[name].size

    return all(
        coefficient > 0
        and coefficient.denominator == 1
        and all(power > 0 and holds(name) for (name, _), power in entries_of(monomial))
        for monomial, coefficient in poly.terms.items()
    )


def _sign(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    poly = finite(a)
    _rests_on_no_cast(space.field.reduce(poly), a)
    value = _truth(space, "gt", poly) - _truth(space, "gt", -poly)
    return Array(a.dims, space.field.reduce(value), a.sign)


def _abs(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    if a.sign != UNKNOWN or space.field.sign(finite(a)) != UNKNOWN:
        return a
    return Array(a.dims, larger(space.field, finite(a), -finite(a)), NONNEGATIVE)


def _reduce_max(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return largest_over(space, a, {int(axis) for axis in eqn.params["axes"]})


def _reduce_min(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    result = largest_over(space, Array(a.dims, -finite(a)), {int(axis) for axis in eqn.params["axes"]})
    return Array(result.dims, -finite(result), a.sign)


def _argmax(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return _place_of_largest(space, eqn, a, finite(a))


def _argmin(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return _place_of_largest(space, eqn, a, -finite(a))


def _place_of_largest(space: Space, eqn: JaxprEqn, a: Array, poly: Poly) -> Array:
    """Where the largest value is, the first of several: a label, Σ_j A_j·ι[j] with the A of `largest`."""
    field, (axis,) = space.field, eqn.params["axes"]
    if not jnp.issubdtype(shaped(eqn.invars[0]).dtype, jnp.floating):
        raise Outside("the place of the largest of integers")
    if len(a.dims[axis]) > 1:
        raise Outside(f"the place of the largest along {'·'.join(a.dims[axis])}, an axis that is merged")
    poly = field.reduce(poly)
    over = _varying(a, poly, {axis})
    result = field.constant(0)
    for index, size in over.items():
        truth = largest(field, poly, over)
        name, indices = the_entry(truth)
        field.pick(name, indices.index(index))
        result = field.reduce(truth * positions(field, size, index))
    if not over:
        _rests_on_no_cast(result, a)
    return summed(space, Array(a.dims, result, NONNEGATIVE), {axis})


def taken_over(space: Space, a: Array, axes: set[int]) -> Poly:
    """1 where the value that is taken for the largest over some dimensions is, else 0."""
    poly = space.field.reduce(finite(a))
    over = _varying(a, poly, axes)
    if len(over) < sum(len(a.dims[axis]) for axis in axes):
        raise Outside("the largest of numbers that are equal")
    return largest(space.field, poly, over) if over else space.field.constant(1)


def _varying(a: Array, poly: Poly, axes: set[int]) -> dict[int, str]:
    positions = a.positions()
    return {
        index: size
        for axis in axes
        for index, size in zip(positions[axis], a.dims[axis], strict=True)
        if index in poly.free()
    }


def largest_over(space: Space, a: Array, axes: set[int]) -> Array:
    """The largest value over some dimensions, which leave."""
    field, positions = space.field, a.positions()
    poly = field.reduce(finite(a))
    over = _varying(a, poly, axes)
    if over:
        poly = field.reduce(largest(field, poly, over) * poly)
        for index, size in over.items():
            poly = field.total(poly, index, size)
    kept = [k for k in range(len(a.dims)) if k not in axes]
    old = [i for k in kept for i in positions[k]]
    poly = field.rename(poly, {index: new for new, index in enumerate(old)})
    return Array(tuple(a.dims[k] for k in kept), field.reduce(poly), a.sign)


def _is_finite(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    finite(a)
    return Array(a.dims, space.field.constant(1), NONNEGATIVE)


CHOICES: dict[Primitive, Rule] = {
    jaxs.abs_p: _abs,
    jaxs.argmax_p: _argmax,
    jaxs.argmin_p: _argmin,
    jaxs.clamp_p: _clamp,
    jaxs.eq_p: _comparison("eq"),
    jaxs.ge_p: _comparison("ge"),
    jaxs.gt_p: _comparison("gt"),
    jaxs.is_finite_p: _is_finite,
    jaxs.le_p: _comparison("le"),
    jaxs.lt_p: _comparison("lt"),
    jaxs.max_p: _max,
    jaxs.min_p: _min,
    jaxs.ne_p: _comparison("ne"),
    jaxs.reduce_max_p: _reduce_max,
    jaxs.reduce_min_p: _reduce_min,
    jaxs.select_n_p: _select_n,
    jaxs.sign_p: _sign,
}
