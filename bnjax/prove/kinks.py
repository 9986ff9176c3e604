"""Where comparisons of data change: what is left out of a claim there, and what is shown all the same.

A derivative is claimed at the points near which no comparison changes.  On a kink, p = 0, the primal may
have none; what the hand VJP returns there is then JAX's, or one of the values of the two sides, or their
mean.  Where that is not shown, p ≠ 0 becomes an open obligation.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from bnjax.prove.algebra import Poly
from bnjax.prove.arrays import Array, finite, over_the_same
from bnjax.prove.comparisons import ABOVE, LARGEST, TIE, ZERO, at_values
from bnjax.prove.definitions import Function
from bnjax.prove.derivation import Derivation
from bnjax.prove.diagonals import zero_where_equal
from bnjax.prove.field import Field
from bnjax.prove.functions import function_of
from bnjax.prove.inequalities import exclude_each_other
from bnjax.prove.monomials import Entry, entries_of, flatten
from bnjax.prove.thin import is_thin
from bnjax.prove.vanishing import Question, names_in, vanishes, with_numbers, without
from bnjax.prove.words import letter

_TOGETHER = 3  # kinks looked at together
_ORDERED = 4  # arrays that grow at rates in every order


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
    if not _lie_between(field, polys, touched, off):
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
    names = set().union(*map(names_in, polys))
    waiting, functions = list(names), {f.name: f for f in field.functions}
    while waiting:
        name = waiting.pop()
        inside = [d.value for d in field.definitions if d.name == name]
        inside += [functions[name].argument] if name in functions else []
        new = set().union(*map(names_in, inside)) - names
        names |= new
        waiting += new
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


def _lie_between(
    field: Field, pairs: Sequence[tuple[Poly, Poly]], touched: Sequence[Function], off: Question
) -> bool:
    """Whether on the kinks the hand cotangents are the references of one side, or the mean of the sides."""
    if any(f.kind != ZERO for f in touched):
        return False
    everywhere = Question(off.linear)
    for up in _directions(field, touched):
        if all(vanishes(field, hand - _on_the_side(field, other, up), everywhere) for hand, other in pairs):
            return True
    names = [f.name for f in touched]
    if len(touched) > _TOGETHER or any(_mixed(hand - other, names) for hand, other in pairs):
        return False
    pairs = [(hand, without(field, other, off.excluded)) for hand, other in pairs]
    tied = (t for count in range(1, len(touched) + 1) for t in itertools.combinations(touched, count))
    return all(_is_a_side(field, pairs, kinks, off) for kinks in tied)


def _is_a_side(
    field: Field, pairs: Sequence[tuple[Poly, Poly]], tied: Sequence[Function], off: Question
) -> bool:
    """Whether where these p are 0, and no others, the cotangents are those of a side, or of their mean.

    A pair is the hand cotangent, and the reference as it is off the kinks.
    """
    above = [_partner(field, f) for f in tied]
    there = replace(off, null=tuple(f.argument for f in tied))
    sides = [
        dict(zip(above, map(Fraction, side), strict=True))
        for side in itertools.product((0, 1), repeat=len(tied))
        if _is_met(field, tied, side)
    ]
    here = [
        with_numbers(field, hand, _same((f.name for f in tied), 1) | _same(above, 0)) for hand, _ in pairs
    ]
    choices = [[with_numbers(field, other, side) for _, other in pairs] for side in sides]
    share = field.constant(Fraction(1, max(1, len(choices))))
    mean = [sum(column, field.constant(0)) * share for column in zip(*choices, strict=True)]
    return any(
        all(vanishes(field, a - b, there) for a, b in zip(here, choice, strict=True))
        for choice in (*choices, mean)
    )


def _is_met(field: Field, tied: Sequence[Function], side: Sequence[int]) -> bool:
    """Whether some point nearby may lie on this side of each kink."""
    signed = [f.argument if up else -f.argument for f, up in zip(tied, side, strict=True)]
    return not exclude_each_other(field, signed, ())


def _directions(field: Field, touched: Sequence[Function]) -> Iterator[dict[str, bool]]:
    """For each p that is 0 on a kink, whether p > 0 a step away in one direction, the same for all of them.

    Each atom grows at a rate of its own; a direction counts if it leaves all of the kinks.
    """
    names = sorted(set().union(*(names_in(f.argument) for f in touched)))
    orders = itertools.permutations(names) if len(names) <= _ORDERED else [names, names[::-1]]
    for order, up in itertools.product(orders, (1, -1)):
        rates = {name: up * 3**k for k, name in enumerate(order)}
        slopes = [_slope(field, f.argument, rates) for f in touched]
        if all(slopes):
            yield {f.name: slope > 0 for f, slope in zip(touched, slopes, strict=True)}


def _slope(field: Field, poly: Poly, rates: Mapping[str, int]) -> Fraction:
    """How fast a polynomial grows that is linear in single entries; 0 where it is not."""
    total = Fraction(0)
    for monomial, coefficient in poly.terms.items():
        match monomial:
            case ():
                pass
            case ((Entry(name=name), 1),):
                total += coefficient * rates[name]
            case _:
                return Fraction(0)
    return total


def _on_the_side(field: Field, poly: Poly, up: Mapping[str, bool]) -> Poly:
    """`poly` where each [p = 0] has become [p > 0] or [p < 0]."""
    functions = {f.name: f for f in field.functions}
    moved = {_partner(field, functions[name]): name for name, above in up.items() if above}
    result = field.constant(0)
    for monomial, coefficient in without(field, poly, frozenset(up)).terms.items():
        bound, entries = flatten(monomial)
        here = [(e, p) for e, p in entries if e.name in moved]
        for names in itertools.product(*((e.name, moved[e.name]) for e, _ in here)):
            chosen = [(Entry(name, e.indices), p) for name, (e, p) in zip(names, here, strict=True)]
            rest = [(e, p) for e, p in entries if e.name not in moved]
            result += field.constant(coefficient) * field.assemble(bound, [*rest, *chosen])
    return field.reduce(result)


def _same(names: Iterable[str], value: int) -> dict[str, Fraction]:
    return dict.fromkeys(names, Fraction(value))


def _partner(field: Field, function: Function) -> str:
    """The name of [p > 0] beside [p = 0]; empty where p is never negative."""
    partners = (f.name for f in field.functions if f.kind == ABOVE and f.argument == function.argument)
    return next(partners, "")


def _mixed(poly: Poly, names: Sequence[str]) -> bool:
    """Whether kinks at two different places meet in one product."""
    found = ([e for e, _ in entries_of(m) if e.name in names] for m in poly.terms)
    return any(len(set(e)) < len(e) or len({x.name for x in e}) < len(set(e)) for e in found)
