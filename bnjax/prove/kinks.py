"""Where comparisons of data change: what is left out of a claim there, and what is shown all the same.

A derivative is claimed at the points near which no comparison changes.  On a kink, p = 0, the primal may
have none; what the hand VJP returns there is then JAX's, or one of the values of the two sides, or their
mean.  Where that is not shown, p ≠ 0 becomes an open obligation.
"""

from collections.abc import Sequence

from bnjax.prove.algebra import Poly
from bnjax.prove.arrays import Array, finite, over_the_same
from bnjax.prove.comparisons import ABOVE, LARGEST, TIE, ZERO, at_values
from bnjax.prove.definitions import Function
from bnjax.prove.derivation import Derivation
from bnjax.prove.diagonals import zero_where_equal
from bnjax.prove.field import Field
from bnjax.prove.functions import function_of
from bnjax.prove.monomials import Entry
from bnjax.prove.sides import lie_between
from bnjax.prove.thin import is_thin
from bnjax.prove.vanishing import Question, names_inside, vanishes
from bnjax.prove.words import letter


def left_out(field: Field) -> frozenset[str]:
    """The truth values that are 1 only on a kink."""
    kinds = (TIE, ZERO)
    return frozenset(f.name for f in field.functions if f.kind.startswith(kinds) and is_thin(field, f))


def words(derivation: Derivation) -> tuple[str, ...]:
    """Off which kinks the derivative is claimed: what the primal, or a cotangent, depends on."""
    field, everywhere = derivation.field, Question(derivation.linear())
    results = [*derivation.moved, *map(finite, derivation.gradients["op"])]
    outputs = [_without_idle(field, field.reduce(result), everywhere) for result in results]
    return tuple(dict.fromkeys(field.in_full(_words(field, f)) for f in _occurring(field, outputs)))


def _without_idle(field: Field, poly: Poly, everywhere: Question) -> Poly:
    """`poly` without the truth values that make no difference to it."""
    for entry in dict.fromkeys(f for m in poly.terms for f, _ in m if function_of(field, f) is not None):
        if not isinstance(entry, Entry) or not field.atoms[entry.name].boolean:
            continue
        off = at_values(poly, {entry: 0})
        if vanishes(field, at_values(poly, {entry: 1}) - off, everywhere):
            poly = off
    return poly


def are_equal(derivation: Derivation, hand: Array, reference: Array, off_kinks: bool = False) -> bool:
    """Whether two arrays are equal at every point, or at least off the kinks."""
    pair = _as_polys(derivation, hand, reference)
    if pair is None:
        return False
    field, excluded = derivation.field, left_out(derivation.field) if off_kinks else frozenset()
    return vanishes(field, field.reduce(pair[0] - pair[1]), Question(derivation.linear(), excluded))


def look_at_kinks(derivation: Derivation, pairs: Sequence[tuple[Array, Array]]) -> None:
    """What the cotangents, which are JAX's off the kinks, are on them; an open obligation if not shown.

    They are looked at together: of max(a, b), where a = b, (1, 0), (0, 1) and (½, ½) are derivatives on
    a side, or a mean of them, and (1, 1) is not, though each of its numbers is one of theirs.
    """
    field, off = derivation.field, Question(derivation.linear(), left_out(derivation.field))
    polys = [pair for pair in (_as_polys(derivation, *p) for p in pairs) if pair is not None]
    differences = [field.reduce(hand - reference) for hand, reference in polys]
    touched = [f for f in _occurring(field, differences) if f.name in off.excluded]
    if not lie_between(field, polys, touched, off):
        for function in touched:
            field.require(_words(field, function), False)


def _as_polys(derivation: Derivation, hand: Array, reference: Array) -> tuple[Poly, Poly] | None:
    hand, reference = over_the_same(derivation.space, hand, reference)
    return (finite(hand), finite(reference)) if hand.dims == reference.dims else None


def vanishes_off(derivation: Derivation, poly: Poly) -> bool:
    """Whether a polynomial is 0 off the kinks."""
    return vanishes(derivation.field, poly, Question(derivation.linear(), left_out(derivation.field)))


def _occurring(field: Field, polys: Sequence[Poly]) -> list[Function]:
    """The comparisons and maxima whose truth values occur, in the definitions of what occurs as well."""
    names = names_inside(field, polys)
    kinds = (ABOVE, ZERO, LARGEST, TIE)
    return [f for f in field.functions if f.name in names and f.kind.startswith(kinds)]


def _words(field: Field, function: Function) -> str:
    thin = is_thin(field, function)
    if function.kind.startswith((LARGEST, TIE)):
        return f"the largest of {function.argument} is attained once{'' if thin else ', or equally nearby'}"
    pairs = zero_where_equal(field, function.argument)
    apart = ", ".join(f"{letter(i)} ≠ {letter(j)}" for i, j in pairs)
    where = f" ({apart})" if apart else ""
    return f"{function.argument} {'≠ 0' if thin else 'is ≠ 0, or 0 nearby as well'}{where}"
