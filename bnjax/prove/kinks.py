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
from bnjax.prove.comparisons import ABOVE, LARGEST, TIE, ZERO, at_values, is_thin
from bnjax.prove.definitions import Function
from bnjax.prove.derivation import Derivation
from bnjax.prove.field import Field
from bnjax.prove.functions import function_of
from bnjax.prove.monomials import Entry, entries_of, flatten
from bnjax.prove.vanishing import Question, names_in, vanishes, with_numbers, without

_TOGETHER = 3  # kinks looked at together
_ORDERED = 4  # arrays that grow at rates in every order


def left_out(field: Field) -> frozenset[str]:
    """The truth values that are 1 only on a kink."""
    kinds = (TIE, ZERO)
    return frozenset(
        f.name for f in field.functions if f.kind.startswith(kinds) and is_thin(field, f.argument)
    )


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


def agree(derivation: Derivation, hand: Array, reference: Array) -> bool:
    """Whether two arrays are equal at every point, or off the kinks, with what is shown on them.

    What is not shown there becomes an open obligation.
    """
    field, linear = derivation.field, derivation.linear()
    hand, reference = over_the_same(derivation.space, hand, reference)
    if hand.dims != reference.dims:
        return False
    difference = field.reduce(finite(hand) - finite(reference))
    everywhere = Question(linear)
    if vanishes(field, difference, everywhere):
        return True
    off = Question(linear, left_out(field))
    if not vanishes(field, difference, off):
        return False
    touched = [f for f in _occurring(field, [difference]) if f.name in off.excluded]
    if not _lies_between(field, finite(hand), finite(reference), touched, off):
        for function in touched:
            field.require(_words(field, function), False)
    return True


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
    thin = is_thin(field, function.argument)
    if function.kind.startswith((LARGEST, TIE)):
        return f"the largest of {function.argument} is attained once{'' if thin else ', or equally nearby'}"
    return f"{function.argument} {'≠ 0' if thin else 'is ≠ 0, or 0 nearby as well'}"


def _lies_between(
    field: Field, hand: Poly, reference: Poly, touched: Sequence[Function], off: Question
) -> bool:
    """Whether on the kinks `hand` is the reference of one side, or the mean of the sides."""
    if any(f.kind != ZERO for f in touched):
        return False
    for up in _directions(field, touched):
        if vanishes(field, hand - _on_the_side(field, reference, up), Question(off.linear)):
            return True
    names = [f.name for f in touched]
    if len(touched) > _TOGETHER or _mixed(hand - reference, names):
        return False
    reference = without(field, reference, off.excluded)
    for count in range(1, len(touched) + 1):
        for tied in itertools.combinations(touched, count):
            above = [_partner(field, f) for f in tied]
            here = with_numbers(field, hand, _same((f.name for f in tied), 1) | _same(above, 0))
            choices = itertools.product((Fraction(0), Fraction(1)), repeat=count)
            sides = [with_numbers(field, reference, dict(zip(above, side, strict=True))) for side in choices]
            mean = sum(sides, field.constant(0)) * field.constant(Fraction(1, len(sides)))
            there = replace(off, null=tuple(f.argument for f in tied))
            if not any(vanishes(field, here - side, there) for side in (*sides, mean)):
                return False
    return True


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
