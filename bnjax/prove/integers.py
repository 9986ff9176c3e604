"""Integers that say where elements are: positions, labels, and what comparisons of them mean.

The positions 0, 1, … along an axis are a table where its size is given; along one whose size is a symbol
they are an atom ι_n, of which only this is used: ι_n[i] = ι_n[j] is δ_n[i, j], and [ι_n[c] = 0] and
[ι_n[c] = n − 1] have one 1 (n ≥ 1).  A label l with 0 ≤ l < C is Σ_c D_lc·ι_C[c], with D_lc = [l = c] a
choice: one 1 along c.  So f(l) = Σ_c D_lc·f(c) for whatever function f, comparisons too.

Any other comparison of integers is a truth value of which nothing is known but what it is a function of.
It changes nowhere with the data that are differentiated: it makes no kink.
"""

from collections.abc import Collection

import numpy as np

from bnjax.prove.algebra import Atom, Outside, Poly
from bnjax.prove.arrays import Array, Range
from bnjax.prove.comparisons import by_cases
from bnjax.prove.field import Field
from bnjax.prove.monomials import Entry
from bnjax.prove.rewriting import rule_for
from bnjax.prove.space import Space
from bnjax.prove.tables import spread

LARGEST_SIZE = 2**31 - 1
POSITIONS = "positions."
EQUAL, EXCEEDS = "equal", "exceeds"  # the kinds of truth values of integers


def positions(field: Field, size: str, index: int) -> Poly:
    """0, 1, … along an axis, at a free index."""
    if size.isdigit():
        return field.table(np.arange(int(size)), (index,))
    name = f"{POSITIONS}{size}"
    field.atoms.setdefault(name, Atom(name, (size,)))
    field.freeze(name)
    return field.entry(name, (index,))


def label(field: Field, name: str, sizes: tuple[str, ...], bound: str) -> Poly:
    """An array of unknown integers l with 0 ≤ l < bound."""
    if bound == "1":
        return field.constant(0)
    last = len(sizes)
    _declare_choice(field, name, (*sizes, bound))
    choice = field.entry(name, tuple(range(last + 1)))
    return field.reduce(field.total(choice * positions(field, bound, last), last, bound))


def _declare_choice(field: Field, name: str, sizes: tuple[str, ...]) -> None:
    """An atom with exactly one 1 along its last index."""
    last = len(sizes) - 1
    field.choice(name, sizes)
    summed = field.total(field.entry(name, tuple(range(last + 1))), last, sizes[last])
    ((((factor, _),), _),) = summed.terms.items()
    field.relate(name, rule_for(factor, 1, field.constant(1)))


def range_below(bound: str) -> Range:
    """The values of a label, or of a position."""
    return (0, int(bound) - 1 if bound.isdigit() else LARGEST_SIZE - 1)


def numbers(field: Field, poly: Poly) -> tuple[np.ndarray, tuple[int, ...]] | None:
    """The values of a polynomial that is made of tables and integers, and the indices of their axes."""
    sizes: dict[int, int] = {}
    for monomial, coefficient in poly.terms.items():
        if coefficient.denominator != 1:
            return None
        for factor, power in monomial:
            values = field.values_of(factor.name) if isinstance(factor, Entry) else None
            if not isinstance(factor, Entry) or values is None or power < 0:
                return None
            sizes |= dict(zip(factor.indices, values.shape, strict=True))
    order = tuple(sorted(sizes))
    result = np.zeros([sizes[i] for i in order], object)
    for monomial, coefficient in poly.terms.items():
        term = np.full(result.shape, int(coefficient), object)
        for factor, power in monomial:
            assert isinstance(factor, Entry)
            values = field.values_of(factor.name)
            assert values is not None
            term = term * spread(values, factor.indices, order).astype(object) ** power
        result = result + term
    return np.asarray(result, object), order


def as_table(field: Field, poly: Poly) -> Poly:
    """The same as one table, where it is made of tables: 1 − T, S + T."""
    found = numbers(field, poly)
    if found is None:
        return poly
    values, order = found
    return field.table(values.astype(np.int64), order)


def is_everywhere(field: Field, poly: Poly, values: Collection[int]) -> bool:
    """True only if a polynomial is one of these integers at every index."""
    poly = field.reduce(poly)
    found = numbers(field, poly)
    if found is not None:
        return bool(np.all(np.isin(found[0].astype(np.int64), list(values))))
    ((monomial, coefficient), *more) = poly.terms.items()  # not a number, so there is one
    truths = all(isinstance(factor, Entry) and field.atoms[factor.name].boolean for factor, _ in monomial)
    return not more and coefficient == 1 and truths and {0, 1} <= set(values)


def equal(field: Field, difference: Poly) -> Poly:
    """[difference = 0] of integers."""
    return _by_cases(field, EQUAL, difference)


def exceeds(field: Field, difference: Poly) -> Poly:
    """[difference > 0] of integers."""
    return _by_cases(field, EXCEEDS, difference)


def _by_cases(field: Field, kind: str, difference: Poly) -> Poly:
    difference = field.reduce(difference)
    if numbers(field, difference) is not None:  # a table, and not a case for each of its values
        return _truth(field, kind, difference)
    return by_cases(field, difference, lambda case: _truth(field, kind, case), tables=False)


def one_hot(field: Field, value: Poly, size: str, index: int) -> Poly:
    """[value = c] at a free index c that is not in `value`; Outside where an axis has another layout."""
    return field.reduce(equal(field, value - positions(field, size, index)))


def _truth(field: Field, kind: str, difference: Poly) -> Poly:
    difference = field.reduce(difference)
    found = numbers(field, difference)
    if found is not None:
        values, order = found
        return field.table(values == 0 if kind == EQUAL else values > 0, order)
    if kind == EQUAL:
        known = _equal_positions(field, difference)
        if known is not None:
            return known
        first = difference.terms[min(difference.terms, key=str)]
        difference = difference if first > 0 else -difference
    elif difference.terms.get((), 0) > 0:  # i + 1 > j is what j > i is not
        one = field.constant(1)
        return one - field.apply(kind, one - difference, boolean=True)
    return field.apply(kind, difference, boolean=True)


def _equal_positions(field: Field, difference: Poly) -> Poly | None:
    """ι[i] − ι[j], ι[c] and ι[c] − (n − 1), up to their sign; None for anything else."""
    places = [
        (monomial[0][0], coefficient)
        for monomial, coefficient in difference.terms.items()
        if len(monomial) == 1 and isinstance(monomial[0][0], Entry) and monomial[0][1] == 1
        if monomial[0][0].name.startswith(POSITIONS)
    ]
    if not places or len({entry.name for entry, _ in places}) > 1:
        return None
    (entry, coefficient), size = places[0], places[0][0].name.removeprefix(POSITIONS)
    rest = difference - sum((field.entry(*e) * field.constant(c) for e, c in places), field.constant(0))
    if abs(coefficient) != 1:
        return None
    if len(places) == 2 and not rest.terms and coefficient + places[1][1] == 0:
        return field.delta(size, entry.indices[0], places[1][0].indices[0])
    if len(places) != 1:
        return None
    end = field.constant(-coefficient) * rest
    for word, value in (("first", field.constant(0)), ("last", field.size(size) - field.constant(1))):
        if end == value:
            name = f"{word}.{size}"
            if name not in field.atoms:
                _declare_choice(field, name, (size,))
            return field.entry(name, entry.indices)
    return None


def scalar(field: Field, poly: Poly) -> int:
    """The integer that a polynomial is; Outside where it is none that is known."""
    constant = field.reduce(poly).constant()
    if constant is None or constant.denominator != 1:
        raise Outside("an index that is not a known integer")
    return int(constant)


def known_integers(space: Space, array: Array) -> np.ndarray | None:
    """The integers of an array, over its axes of more than one element; None where they are not known."""
    field = space.field
    found = numbers(field, field.reduce(array.poly)) if array.poly is not None else None
    if found is None or not all(size.isdigit() for size in array.axes):
        return None
    values, order = found
    shape = [int(array.axes[i]) if i in order else 1 for i in range(len(array.axes))]
    return np.broadcast_to(values.reshape(shape), [int(size) for size in array.axes])
