"""On a kink, p = 0: whether a rule returns what the primal's derivative is on one side of it, or their mean.

Truth values occur at places: [x_i > 0] at each i, under sums as well.  A point is looked at where p is 0 at
one place and no other, then at two, and so on, as many as one product has: what a polynomial of that degree
in the truth values is where more of them change follows from these.
"""

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from bnjax.prove.algebra import Poly
from bnjax.prove.comparisons import ABOVE, ZERO, at_zero
from bnjax.prove.definitions import Function
from bnjax.prove.diagonals import merged
from bnjax.prove.field import Field
from bnjax.prove.inequalities import exclude_each_other
from bnjax.prove.monomials import Entry, entries_of, flatten
from bnjax.prove.tables import DELTA
from bnjax.prove.vanishing import Question, names_in, names_inside, vanishes, where_equal, without

_TOGETHER = 3  # places looked at together
_ORDERED = 4  # arrays that grow at rates in every order

Pair = tuple[Poly, Poly]  # the hand cotangent, and the reference


class _Kink(NamedTuple):
    """The names of [p = 0] and of [p > 0], empty where p is never negative; p; and the orders of its indices
    in which it is p or −p, with that sign."""

    zero: str
    above: str
    poly: Poly
    orders: tuple[tuple[tuple[int, ...], int], ...]

    def place(self, indices: tuple[int, ...]) -> tuple[int, ...]:
        """The same for all indices at which p is the same, or its negative."""
        return min(tuple(indices[k] for k in order) for order, _ in self.orders)


_At = tuple[_Kink, tuple[int, ...]]  # one at which p is 0, and where


def lie_between(field: Field, pairs: Sequence[Pair], touched: Sequence[Function], off: Question) -> bool:
    """Whether on the kinks the hand cotangents are the references of one side, or the mean of the sides.

    Args:
      pairs: the hand cotangents and the references, which are equal off the kinks.
      touched: the functions [p = 0], and ties, that their differences contain.
      off: the question off the kinks.
    """
    everywhere = Question(off.linear)
    ties = frozenset(f.name for f in touched if f.kind != ZERO)
    if ties:  # each of the others is taken as on the side where the first of the largest is larger
        pairs = [(hand, without(field, other, ties)) for hand, other in pairs]
        if ties & names_inside(field, itertools.chain(*pairs)):
            return False
        left = names_inside(field, (field.reduce(hand - other) for hand, other in pairs))
        touched = [f for f in touched if f.name in left]
        if not touched:
            return all(vanishes(field, hand - other, everywhere) for hand, other in pairs)
    for up in _directions(field, touched):
        if all(vanishes(field, hand - _on_the_side(field, other, up), everywhere) for hand, other in pairs):
            return True
    pairs = [(hand, without(field, other, off.excluded)) for hand, other in pairs]
    kinks = {function.name: _kink(field, function) for function in touched}
    products = _multiplied(kinks.values(), [poly for pair in pairs for poly in pair])
    if max(map(len, products)) > _TOGETHER:
        return False
    parts = {
        part for each in products for k in range(len(each)) for part in itertools.combinations(each, k + 1)
    }
    return all(
        _is_a_side(field, pairs, list(zip(tied, places, strict=True)), off)
        for tied in ([kinks[name] for name in part] for part in sorted(parts, key=len))
        for places in _places(field, tied)
    )


def _kink(field: Field, function: Function) -> _Kink:
    poly = function.argument
    sizes = field.atoms[function.name].sizes
    orders = []
    for order in itertools.permutations(range(len(sizes))):
        if tuple(sizes[k] for k in order) == sizes:
            turned = field.reduce(field.rename(poly, dict(enumerate(order))))
            signs = [sign for sign in (1, -1) if turned == field.constant(sign) * poly]
            orders += [(order, sign) for sign in signs]
    return _Kink(function.name, _partner(field, function), poly, tuple(orders))


def _multiplied(kinks: Iterable[_Kink], polys: Iterable[Poly]) -> set[tuple[str, ...]]:
    """Which [p = 0], one for each place, have truth values in one product; and all of them together."""
    known = {name: kink for kink in kinks for name in (kink.zero, kink.above)}
    products = {tuple(sorted({kink.zero for kink in known.values()}))}
    for monomial in itertools.chain.from_iterable(poly.terms for poly in polys):
        truths = [(known[e.name], e.indices) for e, _ in flatten(monomial)[1] if e.name in known]
        places = {(kink.zero, kink.place(indices)) for kink, indices in truths}
        products.add(tuple(sorted(name for name, _ in places)))
    return products


def _places(field: Field, tied: Sequence[_Kink]) -> Iterator[list[tuple[int, ...]]]:
    """A place for each, apart from the others; and where it can be one for all: x − y, y − z, z − x."""
    shapes = [field.atoms[kink.zero].sizes for kink in tied]
    ranks = list(map(len, shapes))
    yield [tuple(range(sum(ranks[:k]), sum(ranks[: k + 1]))) for k in range(len(tied))]
    if len(set(shapes)) == 1 and any(shapes) and len({kink.zero for kink in tied}) == len(tied) > 1:
        yield [tuple(range(ranks[0]))] * len(tied)


def _is_a_side(field: Field, pairs: Sequence[Pair], at: Sequence[_At], off: Question) -> bool:
    """Whether where these p are 0, each at its place, the cotangents are those of a side, or of their mean.

    The places are free indices of their own, before all others: a delta takes the first of its two.
    """
    null = tuple(field.rename(kink.poly, dict(enumerate(place))) for kink, place in at)
    count = 1 + max((index for _, place in at for index in place), default=-1)
    pairs = [(_moved(field, hand, count), _moved(field, other, count)) for hand, other in pairs]
    there = replace(off, null=null)
    here = [_seen(field, hand, at, (0,) * len(at)) for hand, _ in pairs]
    choices = [
        [_seen(field, other, at, side) for _, other in pairs]
        for side in itertools.product((-1, 1), repeat=len(at))
        if _is_met(field, null, side)
    ]
    if not choices:
        return False
    share = field.constant(Fraction(1, len(choices)))
    mean = [sum(column, field.constant(0)) * share for column in zip(*choices, strict=True)]
    return any(
        all(_vanishes_there(field, a - b, there) for a, b in zip(here, choice, strict=True))
        for choice in (*choices, mean)
    )


def _moved(field: Field, poly: Poly, by: int) -> Poly:
    return field.rename(poly, {index: index + by for index in poly.free()})


def _vanishes_there(field: Field, poly: Poly, there: Question) -> bool:
    """Whether what stands by each product of deltas is zero, where their indices are equal."""
    parts: dict[tuple[Entry, ...], Poly] = {}
    for monomial, coefficient in poly.terms.items():
        deltas = tuple(f for f, _ in monomial if isinstance(f, Entry) and f.name.startswith(DELTA))
        rest = tuple(factor for factor in monomial if factor[0] not in deltas)
        parts[deltas] = parts.get(deltas, field.constant(0)) + Poly(field, {rest: coefficient})
    for deltas, part in parts.items():
        asked = there
        for i, j in (delta.indices for delta in deltas):
            part, asked = merged(field, part, {j: i}), where_equal(field, asked, {j: i})
        solved = part
        for null in asked.null:
            solved = at_zero(field, solved, null)
        if not any(vanishes(field, form, asked) for form in (part, solved)):
            return False
    return True


def _is_met(field: Field, null: Sequence[Poly], side: Sequence[int]) -> bool:
    """Whether some point nearby may lie on this side of each kink."""
    positive = [field.constant(sign) * p for p, sign in zip(null, side, strict=True)]
    return not exclude_each_other(field, positive, ())


def _seen(field: Field, poly: Poly, at: Sequence[_At], signs: Sequence[int]) -> Poly:
    """`poly` where each p has this sign at its place."""
    result = field.constant(0)
    names = {name for kink, _ in at for name in (kink.zero, kink.above)}
    for monomial, coefficient in poly.terms.items():
        bound, entries = flatten(monomial)
        truths = (_truth(field, e, at, signs) for e, _ in entries if e.name in names)
        rest = [(e, p) for e, p in entries if e.name not in names]
        for factors, weight in math.prod(truths, start=field.constant(coefficient)).terms.items():
            result += field.constant(weight) * field.assemble(bound, [*rest, *entries_of(factors)])
    return field.reduce(result)


def _truth(field: Field, entry: Entry, at: Sequence[_At], signs: Sequence[int]) -> Poly:
    """A truth value, at whatever indices: at the places of its p it is what the sign there says."""
    one, truth, sizes = field.constant(1), field.entry(*entry), field.atoms[entry.name].sizes
    for (kink, place), sign in zip(at, signs, strict=True):
        if entry.name not in (kink.zero, kink.above):
            continue
        for order, turn in kink.orders:
            turned = (place[k] for k in order)
            here = math.prod(map(field.delta, sizes, entry.indices, turned), start=one)
            known = sign == 0 if entry.name == kink.zero else sign * turn > 0
            truth = (one - here) * truth + here * field.constant(int(known))
    return truth


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


def _partner(field: Field, function: Function) -> str:
    """The name of [p > 0] beside [p = 0]; empty where p is never negative."""
    partners = (f.name for f in field.functions if f.kind == ABOVE and f.argument == function.argument)
    return next(partners, "")
