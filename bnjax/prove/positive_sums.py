"""A sum of numbers ≥ 0 of which one is known to be > 0: of what a causal mask keeps, each row keeps itself.

Σ_i p_i, with a free index a of the same axis, is > 0 if p_i is ≥ 0 whatever its truth values are, and p_a is
> 0, where [i > a] has become [a > a], which is false.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence

from bnjax.prove.algebra import Poly
from bnjax.prove.definitions import Definitions
from bnjax.prove.monomials import Entry, Sum, entries_of, reindexed
from bnjax.prove.signs import NONNEGATIVE, POSITIVE

_TRUTHS = 3


def has_a_positive_term(field: Definitions, poly: Poly) -> bool:
    """Whether `poly` is such a sum."""
    found = _summand(field, poly)
    if found is None:
        return False
    summand, index, size = found
    truths = _truths(field, summand)
    if not 0 < len(truths) <= _TRUTHS:
        return False
    if any(field.sign(value) < NONNEGATIVE for value in _values(field, summand, truths)):
        return False
    others = {
        place
        for monomial in summand.terms
        for (name, indices), _ in entries_of(monomial)
        for place, its_size in zip(indices, field.atoms[name].sizes, strict=True)
        if its_size == size and place >= 0
    }
    return any(_is_positive(field, field.rename(summand, {index: place})) for place in others - {index})


def _summand(field: Definitions, poly: Poly) -> tuple[Poly, int, str] | None:
    """p_i, its index and the size of its axis, where every term has one sum, over one index, of one size."""
    sums = [[f for f, _ in monomial if isinstance(f, Sum)] for monomial in poly.terms]
    sizes = {size for found in sums for f in found for size in f.sizes}
    simple = all(len(found) == 1 and len(found[0].sizes) == 1 for found in sums)
    if not sums or not simple or len(sizes) > 1:
        return None
    index, result = 1 + max(poly.free(), default=-1), field.constant(0)
    for monomial, coefficient in poly.terms.items():
        entries = []
        for factor, power in monomial:
            if isinstance(factor, Sum):
                if power != 1:
                    return None
                entries += reindexed(factor.entries, {-1: index})
            else:
                entries.append((factor, power))
        result += field.assemble({}, entries) * field.constant(coefficient)
    return result, index, sizes.pop()


def _truths(field: Definitions, poly: Poly) -> list[Entry]:
    return sorted(
        {f for m in poly.terms for f, _ in m if isinstance(f, Entry) and field.atoms[f.name].boolean}
    )


def _values(field: Definitions, poly: Poly, truths: Sequence[Entry]) -> Iterator[Poly]:
    for values in itertools.product((0, 1), repeat=len(truths)):
        yield _with(field, poly, dict(zip(truths, values, strict=True)))


def _with(field: Definitions, poly: Poly, values: Mapping[Entry, int]) -> Poly:
    result = field.constant(0)
    for monomial, coefficient in poly.terms.items():
        if all(values.get(f, 1) for f, _ in monomial if isinstance(f, Entry)):
            rest = tuple((f, p) for f, p in monomial if f not in values)
            result += Poly(field, {rest: coefficient})
    return field.reduce(result)


def _is_positive(field: Definitions, poly: Poly) -> bool:
    """Whether it is > 0, whatever the truth values are of which it is not known."""
    known = {entry: value for entry in _truths(field, poly) if (value := _known(field, entry)) is not None}
    rest = _with(field, poly, known)
    return all(field.sign(value) == POSITIVE for value in _values(field, rest, _truths(field, rest)))


def _known(field: Definitions, entry: Entry) -> int | None:
    """The truth of [p > 0] where p is a number: ι[a] − ι[a]."""
    function = next((f for f in field.functions if f.name == entry.name and f.kind == "exceeds"), None)
    if function is None:
        return None
    number = field.reduce(field.rename(function.argument, dict(enumerate(entry.indices)))).constant()
    return None if number is None else int(number > 0)
