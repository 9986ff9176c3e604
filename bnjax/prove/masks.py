"""−∞ where a mask says so: what it means to the few primitives that make it and take it away again.

An array with `kept` is −∞ where that is 0.  A choice makes it, a sum with what is finite keeps it, exp is 0
there, the largest of several is that of the ones that are kept, of which there must be one (an obligation:
of none the maximum is −∞, and −∞ − (−∞) is NaN).  Whatever else meets −∞ is refused.

Why it is sound.  exp(−∞) = 0, and exp of what is kept has the derivative that it has; max(−∞, p) = p.
"""

import operator
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.prove.algebra import Atom, Outside, Poly
from bnjax.prove.arrays import Array, aligned, elementwise, finite, summed
from bnjax.prove.choices import taken_over
from bnjax.prove.field import Field
from bnjax.prove.functions import argument_of, function_of
from bnjax.prove.integers import EXCEEDS, as_table, numbers
from bnjax.prove.monomials import Entry
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, UNKNOWN
from bnjax.prove.space import Space

Rule = Callable[..., Array | list[Array]]
_BOTTOM = "∞."  # only in what a maximum is of: no parameter is called so


def _bare(a: Array) -> Array:
    """The numbers where they are kept."""
    return replace(a, kept=None)


def _mask(space: Space, a: Array) -> Array:
    """1 where the numbers are kept."""
    one = space.field.constant(1)
    return Array(a.dims, one if a.kept is None else a.kept, NONNEGATIVE)


def _masked(space: Space, a: Array, kept: Array) -> Array:
    """`a`, and −∞ where `kept` is 0."""
    dims, (poly, truth) = aligned(space, (a, kept))
    truth = as_table(space.field, space.field.reduce(truth))
    if truth == space.field.constant(1):
        return Array(dims, poly, a.sign)
    why = f"infinity, of the mask at {space.field.where}," if space.field.where else "infinity"
    return Array(dims, space.field.reduce(poly * truth), UNKNOWN, why=why, kept=truth)


def with_masks(rules: dict[Primitive, Rule]) -> dict[Primitive, Rule]:
    """The same rules, asked only where no operand has −∞; of the others what is modelled below."""
    return {primitive: _guarded(primitive, rule) for primitive, rule in rules.items()}


def _guarded(primitive: Primitive, rule: Rule) -> Rule:
    def meaning(space: Space, eqn: JaxprEqn, *arrays: Array) -> Array | list[Array]:
        if all(a.kept is None for a in arrays):
            return rule(space, eqn, *arrays)
        if primitive not in _MASKED:
            raise Outside("−∞, of which it is not modelled what becomes of it")
        return _MASKED[primitive](rule, space, eqn, *arrays)

    return meaning


def _same(rule: Rule, space: Space, eqn: JaxprEqn, *arrays: Array) -> list[Array]:
    return list(arrays)


def _each(rule: Rule, space: Space, eqn: JaxprEqn, a: Array, *rest: Array) -> Array:
    """A primitive that leaves every number what it is: of the numbers, and of the mask."""
    values, kept = rule(space, eqn, _bare(a), *rest), rule(space, eqn, _mask(space, a), *rest)
    assert isinstance(values, Array)
    assert isinstance(kept, Array)
    return _masked(space, values, kept)


def _select_n(rule: Rule, space: Space, eqn: JaxprEqn, which: Array, *cases: Array) -> Array:
    truth = finite(which).constant()
    if truth is not None and 0 <= truth < len(cases):
        return cases[int(truth)]
    if len(cases) != 2:
        raise Outside("a choice by an integer")
    values, kept = (
        rule(space, eqn, which, *both) for both in (map(_bare, cases), [_mask(space, c) for c in cases])
    )
    assert isinstance(values, Array)
    assert isinstance(kept, Array)
    return _masked(space, values, kept)


def _added(rule: Rule, space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    if eqn.primitive is jaxs.sub_p and b.kept is not None:
        raise Outside("a difference that may be ∞, or −∞ − (−∞)")
    total = rule(space, eqn, _bare(a), _bare(b))
    assert isinstance(total, Array)
    kept = elementwise(space, (_mask(space, a), _mask(space, b)), operator.mul, NONNEGATIVE)
    return _masked(space, total, kept)


def _scaled(rule: Rule, space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    """A product with, or a quotient by, what is > 0."""
    infinite, other = (a, b) if a.kept is not None else (b, a)
    divided_by = eqn.primitive is jaxs.div_p and infinite is b
    if other.kept is not None or other.sign != POSITIVE or divided_by:
        raise Outside("−∞ times what is not shown to be > 0")
    result = rule(space, eqn, _bare(a), _bare(b))
    assert isinstance(result, Array)
    return _masked(space, result, _mask(space, infinite))


def _exp(rule: Rule, space: Space, eqn: JaxprEqn, a: Array) -> Array:
    values = rule(space, eqn, _bare(a))
    assert isinstance(values, Array)
    return elementwise(space, (values, _mask(space, a)), operator.mul, NONNEGATIVE)


def _max(rule: Rule, space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    for one, other in ((a, b), (b, a)):
        if one.kept is not None and not one.kept.terms and one.dims in (other.dims, ()):
            return other
    raise Outside("the larger of two, of which one may be −∞")


def _is_finite(rule: Rule, space: Space, eqn: JaxprEqn, a: Array) -> Array:
    return _mask(space, a)


def _compared(rule: Rule, space: Space, eqn: JaxprEqn, a: Array, b: Array) -> Array:
    """Whether p is −∞ is what p's mask says; −∞ is below all that is finite, and equals none of it."""
    one, name = space.field.constant(1), eqn.primitive
    if b.kept is not None and not b.kept.terms and name in (jaxs.eq_p, jaxs.ne_p, jaxs.gt_p):
        dims, (truth, _) = aligned(space, (_mask(space, a), _bare(b)))
        return Array(dims, space.field.reduce(one - truth if name is jaxs.eq_p else truth), NONNEGATIVE)
    if b.kept is not None:
        raise Outside("a comparison with what may be −∞")
    finitely = rule(space, eqn, _bare(a), b)
    assert isinstance(finitely, Array)
    below = int(name in (jaxs.ne_p, jaxs.lt_p, jaxs.le_p))
    off = space.field.constant(below)
    return elementwise(
        space, (finitely, _mask(space, a)), lambda t, kept: kept * t + (one - kept) * off, NONNEGATIVE
    )


def _reduce_max(rule: Rule, space: Space, eqn: JaxprEqn, a: Array) -> Array:
    """The largest of those that are kept, of which there is one."""
    field, axes = space.field, {int(axis) for axis in eqn.params["axes"]}
    mask = _mask(space, a)
    _require_one(space, mask, axes)
    bottom = field.entry(_BOTTOM) if _BOTTOM in field.atoms else field.atom(Atom(_BOTTOM))
    field.freeze(_BOTTOM)
    off = field.constant(1) - finite(mask)
    taken = taken_over(space, Array(a.dims, finite(_bare(a)) - off * bottom), axes)
    result = summed(space, Array(a.dims, taken * finite(_bare(a))), axes)
    return Array(result.dims, finite(result), UNKNOWN)


def _require_one(space: Space, mask: Array, axes: set[int]) -> None:
    """That the mask keeps one of each row: known, or an obligation."""
    count = summed(space, mask, axes)
    found = numbers(space.field, finite(count))
    if found is not None and np.any(found[0] < 1):
        raise Outside("a maximum of nothing but −∞")
    known = found is not None or space.field.sign(finite(count)) == POSITIVE
    claim = f"{finite(count)} ≥ 1: the mask keeps at least one element"
    space.field.require(claim, known or _keeps_the_diagonal(space, mask, axes))


def _keeps_the_diagonal(space: Space, mask: Array, axes: set[int]) -> bool:
    """Whether the mask is 1 where the position in a row is that of the row: i ≥ j where j = i."""
    field, positions = space.field, mask.positions()
    for axis in axes:
        for k, dim in enumerate(mask.dims):
            if k in axes or len(dim) != 1 or dim != mask.dims[axis] or len(axes) > 1:
                continue
            (row,), (column,) = positions[k], positions[axis]
            there = field.reduce(finite(mask) * field.delta(dim[0], row, column))
            if _where_nothing_is_exceeded(field, there) == field.delta(dim[0], row, column):
                return True
    return False


def _where_nothing_is_exceeded(field: Field, poly: Poly) -> Poly:
    """Without the terms that have [p > 0] for a p that is 0 at its indices."""
    result = field.constant(0)
    for monomial, coefficient in poly.terms.items():
        never = [f for f, _ in monomial if isinstance(f, Entry) and _is_never(field, f)]
        result += field.constant(0) if never else Poly(field, {monomial: coefficient})
    return result


def _is_never(field: Field, entry: Entry) -> bool:
    function = function_of(field, entry)
    return function is not None and function.kind == EXCEEDS and not argument_of(field, entry).terms


_EACH = (
    jaxs.broadcast_in_dim_p, jaxs.convert_element_type_p, jaxs.reshape_p, jaxs.squeeze_p,
    jaxs.stop_gradient_p, jaxs.transpose_p,
)  # fmt: skip
_COMPARISONS = (jaxs.eq_p, jaxs.ne_p, jaxs.gt_p, jaxs.ge_p, jaxs.lt_p, jaxs.le_p)
_MASKED: dict[Primitive, Callable[..., Array | list[Array]]] = {
    **dict.fromkeys(_EACH, _each),
    **dict.fromkeys((jaxs.copy_p, jaxs.name_p, lax.optimization_barrier_p), _same),
    **dict.fromkeys(_COMPARISONS, _compared),
    jaxs.add_p: _added,
    jaxs.sub_p: _added,
    jaxs.mul_p: _scaled,
    jaxs.div_p: _scaled,
    jaxs.exp_p: _exp,
    jaxs.is_finite_p: _is_finite,
    jaxs.max_p: _max,
    jaxs.reduce_max_p: _reduce_max,
    jaxs.select_n_p: _select_n,
}
