"""Which comparisons change on a thin set alone: so small that a derivative may be left out on it.

The set p = 0 is thin where p is analytic for all reals, and not zero everywhere; and where p is one of a few
functions at each point, as |x| and a largest value are, if each of them is such.  Whether it is depends on
the sizes (x_i minus the mean is 0 at n = 1) and on the indices (x_i − x_j is 0 at i = j).
"""

import itertools
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import NamedTuple

from bnjax.prove.algebra import Poly
from bnjax.prove.comparisons import LARGEST, TIE, at_values, reduced_places
from bnjax.prove.definitions import Function
from bnjax.prove.diagonals import Pairs, arrangements, merged, zero_where_equal
from bnjax.prove.field import Field
from bnjax.prove.functions import function_of
from bnjax.prove.monomials import Entry, Monomial, Sum, entries_of, flatten, reindexed
from bnjax.prove.positions import at_each, free_sizes
from bnjax.prove.signs import POSITIVE

_TRUTHS = 6  # that a comparison's argument may be made of
_SUMS = 3  # multiplied with each other in what is 0 on a thin set; and the sizes written out in any case


class _Gap(NamedTuple):
    """What is 0 where a comparison changes, but where some pair of its indices is equal, or every one."""

    poly: Poly
    pairs: Pairs
    some: bool

    def is_left_out(self, equal: Callable[[int, int], bool]) -> bool:
        """Whether nothing is said where these indices are equal."""
        found = [equal(i, j) for i, j in self.pairs]
        return bool(found) and (any(found) if self.some else all(found))


def is_thin(field: Field, function: Function) -> bool:
    """Whether a comparison, or which number is the largest, changes on a thin set alone, at most sizes."""
    if function.name not in field.thin:
        parts = (_analytic_part(field, piece) for piece in _pieces(field, _gap(field, function)))
        field.thin[function.name] = all(part and _is_somewhere_nonzero(field, part, {}) for part in parts)
    return field.thin[function.name]


def exceptions(field: Field, function: Function) -> list[dict[str, int]]:
    """Sizes at which it may not, though it is thin at others: numbers for some of the symbols."""
    found: list[dict[str, int]] = []
    for piece in _pieces(field, _gap(field, function)):
        gap = _analytic_part(field, piece)
        assert gap is not None, "it is thin at most sizes"
        found += [sizes for sizes in _exceptions(field, gap) if sizes not in found]
    return found


def _exceptions(field: Field, gap: _Gap) -> list[dict[str, int]]:
    symbols = sorted(s for s in _sizes_in_sums(field, gap.poly) if not s.isdigit())
    last = _written_out(field, gap.poly)
    hidden = sorted(_sizes_inside(field, gap.poly).items())
    found = [{size: n} for size, largest in hidden for n in range(1, max(largest, last[size]) + 1)]
    for count in range(1, len(symbols) + 1):
        for chosen in itertools.combinations(symbols, count):
            for numbers in itertools.product(*(range(1, last[size] + 1) for size in chosen)):
                sizes = dict(zip(chosen, numbers, strict=True))
                if not any(known.items() <= sizes.items() for known in found):
                    found += [] if _is_somewhere_nonzero(field, gap, sizes) else [sizes]
    return found


def _gap(field: Field, function: Function) -> _Gap:
    """What stands in it for t² = σ² + ε is σ² + ε again: in t² − ε the sizes are inside of an atom."""
    if not function.kind.startswith((LARGEST, TIE)):
        poly = field.unfolded(function.argument)
        return _Gap(poly, zero_where_equal(field, poly), some=True)
    if function.kind.startswith(TIE):
        (function,) = (f for f in field.functions if function.kind == f"{TIE} for {f.name} of")
    poly, free = function.argument, sorted(function.argument.free())
    other = {place: len(free) + place for place in reduced_places(function)}
    renamed = field.rename(poly, {i: other.get(i, i) for i in free})
    return _Gap(field.unfolded(field.reduce(poly - renamed)), tuple(other.items()), some=False)


def _pieces(field: Field, gap: _Gap) -> list[_Gap]:
    """With each value of the truth values that stand outside of its sums: where it is 0, one of these is."""
    gap = gap._replace(poly=_with_one_of_them(field, gap.poly))
    factors = {factor for monomial in gap.poly.terms for factor, _ in monomial}
    entries = {factor for factor in factors if isinstance(factor, Entry)}
    truths = sorted(e for e in entries if field.atoms[e.name].boolean and not field.has_values(e.name))
    if len(truths) > _TRUTHS:
        return [gap]
    values = (dict(zip(truths, each, strict=True)) for each in itertools.product((0, 1), repeat=len(truths)))
    return [gap._replace(poly=at_values(gap.poly, value)) for value in values]


def _with_one_of_them(field: Field, poly: Poly) -> Poly:
    """`poly` with the element at a new index for each largest value: for one of the elements it is `poly`."""
    result, new = field.constant(0), 1 + max((-1, *poly.free()))
    places: dict[tuple, int] = {}  # the new index of a maximum, by what of it is not summed and by its place
    for monomial, coefficient in poly.terms.items():
        bound, entries = flatten(monomial)
        for entry, function in [(e, function_of(field, e)) for e, _ in entries]:
            if function is None or not function.kind.startswith(LARGEST):
                continue
            reduced = reduced_places(function)
            others = tuple(i for place, i in enumerate(entry.indices) if place not in reduced)
            if bound.keys() & set(others) or not bound.keys() >= {entry.indices[place] for place in reduced}:
                continue
            names = {
                entry.indices[place]: places.setdefault((entry.name, others, place), new + len(places))
                for place in reduced
            }
            bound = {index: size for index, size in bound.items() if index not in names}
            entries = reindexed([(e, p) for e, p in entries if e != entry], names)
        result += field.constant(coefficient) * field.assemble(bound, entries)
    return result


def _analytic_part(field: Field, gap: _Gap) -> _Gap | None:
    """What has to be nonzero somewhere, if it is analytic; tables, whose numbers are written out, are."""
    entries = (pair for monomial in gap.poly.terms for pair in entries_of(monomial))
    analytic = all(field.has_values(e.name) or _is_analytic(field, e, power) for e, power in entries)
    return _of_one_size(field, gap) if analytic else None


def _of_one_size(field: Field, gap: _Gap) -> _Gap | None:
    """A part of what is 0, not 0 where it is not: no size makes what is inside its atoms cancel.

    1/(1 + n·y²) − 1/(1 + 50·y²) is 0 at n = 50, and no coefficient says so.  What a size is inside of is a
    common factor that is never 0, or multiplied by data that can be 0: γ in γ·x/σ + β.  None without one.
    """
    inner = {name: field.inside({name}) - {name} for name in gap.poly.names()}
    sized = {name for name, names in inner.items() if any(field.atoms[n].size for n in names)}
    inside = set().union(*inner.values())
    parts: dict[tuple, Poly] = {}
    for monomial, coefficient in gap.poly.terms.items():
        key = tuple(f for f in monomial if any(e.name in sized for e, _ in entries_of((f,))))
        parts[key] = parts.get(key, field.constant(0)) + Poly(field, {monomial: coefficient})
    for key, part in parts.items():
        others = [m for k, other in parts.items() if k != key for m in other.terms]
        free = {n for n in gap.poly.names() - part.names() - inside if _can_be_zero(field, n)}
        never = all(_is_never_zero(field, e.name) for e, _ in entries_of(key) if e.name in sized)
        if never and all(any(e.name in free and p > 0 for e, p in entries_of(m)) for m in others):
            return gap._replace(poly=part)
    return None


def _can_be_zero(field: Field, name: str) -> bool:
    """Whether an atom is data of any sign."""
    atom = field.atoms[name]
    return not (atom.positive or atom.boolean or atom.size or name in field.tables or name in field.inverted)


def _is_never_zero(field: Field, name: str) -> bool:
    """Whether an atom is a quotient, a root or an exponential."""
    defined = any(d.name == name for d in field.definitions)
    return defined or any(f.name == name and f.kind == "exp" for f in field.functions)


def _sizes_in_sums(field: Field, poly: Poly) -> set[str]:
    """The sizes that a polynomial is another for, not only longer."""
    sums = {size for m in poly.terms for f, _ in m if isinstance(f, Sum) for size in f.sizes}
    return sums | {name for name in poly.names() if field.atoms[name].size}


def _written_out(field: Field, poly: Poly) -> dict[str, int]:
    """Up to which number a size is written out, as its products of sums and elements may be dependent there.

    Σ_i x_i is x_a + x_b where these are all elements, and of two elements Σx³ is a polynomial in Σx and Σx².
    With v indices of a size summed over in one product, beside w that are not, products are independent from
    v + w elements on: over different elements each has a term that only what has more indices has as well.
    """
    free = Counter(free_sizes(field, poly).values())
    bound: Counter[str] = Counter()
    for monomial in poly.terms:
        bound |= Counter(flatten(monomial)[0].values())  # the most in one product
    found = {size: max(_SUMS, free[size] + bound[size] - 1) for size in free | bound}
    return defaultdict(lambda: _SUMS, found)


def _sizes_inside(field: Field, poly: Poly) -> dict[str, int]:
    """Of sums inside of its atoms: at few elements exp(Σ_i x_i) is exp(x), and sin(Σ_i x_i − x) is 0.

    With each size the largest number that is few.  What is positive, and the only one of its kind, is equal
    to nothing.
    """
    made_of = {f.name: (f.kind, f.argument) for f in field.functions}
    made_of |= {d.name: (str(d.power), d.value) for d in field.definitions}
    kinds = [made_of[name][0] for name in poly.names() & made_of.keys()]
    sizes: dict[str, int] = {}
    for name in poly.names() & made_of.keys():
        if kinds.count(made_of[name][0]) > 1 or not field.atoms[name].positive:
            for value in (made_of[part][1] for part in field.inside({name}) if part in made_of):
                sums = (f for m in value.terms for f, _ in m if isinstance(f, Sum))
                last = _written_out(field, value)
                for size in {size for f in sums for size in f.sizes if not size.isdigit()}:
                    sizes[size] = max(sizes.get(size, 0), last[size])
    return sizes


def _is_somewhere_nonzero(field: Field, gap: _Gap, numbers: Mapping[str, int]) -> bool:
    """Whether it is not 0 for all data, with these numbers for sizes, and whichever indices are equal."""
    given = {size for name in gap.poly.names() for size in field.atoms[name].sizes if size.isdigit()}
    tables = {size for name in gap.poly.names() if field.has_values(name) for size in field.atoms[name].sizes}
    last = _written_out(field, gap.poly)
    small = {size: int(size) for size in given if int(size) <= last[size] or size in tables} | dict(numbers)
    ways = arrangements(field, gap.poly)
    return ways is not None and all(_has_values(field, gap, way, small) for way in ways)


def _has_values(field: Field, gap: _Gap, way: Mapping[int, int], small: Mapping[str, int]) -> bool:
    """At sizes that are not small its monomials are independent functions (as products of power sums are), so
    it is enough that one coefficient is not 0; along small axes it is written out.
    """
    poly = _with_numbers(merged(field, gap.poly, way), small)
    sizes = {i: small[size] for i, size in sorted(free_sizes(field, poly).items()) if size in small}
    parts = at_each(field, poly, small)
    if parts is None:
        return False
    for place in itertools.product(*map(range, sizes.values())):
        at = dict(zip(sizes, place, strict=True))

        def equal(i: int, j: int, at: Mapping[int, int] = at) -> bool:
            i, j = way.get(i, i), way.get(j, j)
            return i == j or (i in at and j in at and at[i] == at[j])

        if not gap.is_left_out(equal) and not (place in parts and _has_a_coefficient(field, parts[place])):
            return False
    return True


def _with_numbers(poly: Poly, sizes: Mapping[str, int]) -> Poly:
    """`poly` with numbers for the size symbols in its coefficients."""
    result = poly.ring.constant(0)
    for monomial, coefficient in poly.terms.items():
        for factor, power in monomial:
            if isinstance(factor, Entry) and factor.name in sizes:
                coefficient *= Fraction(sizes[factor.name]) ** power
        rest = tuple(f for f in monomial if not (isinstance(f[0], Entry) and f[0].name in sizes))
        result += Poly(poly.ring, {rest: coefficient})
    return result


def _has_a_coefficient(field: Field, poly: Poly) -> bool:
    """Whether a product of data has one term alone, so that its coefficient is 0 at no size; or a number."""
    if poly.constant():
        return True
    coefficients: dict[Monomial, int] = {}
    for monomial in poly.terms:
        data = tuple(f for f in monomial if not (isinstance(f[0], Entry) and _is_size(field, f[0].name)))
        coefficients[data] = coefficients.get(data, 0) + 1
        if sum(power for factor, power in data if isinstance(factor, Sum)) > _SUMS:
            return False
    return any(terms == 1 for data, terms in coefficients.items() if data)


def _is_size(field: Field, name: str) -> bool:
    """Whether an atom is a size, or made of sizes and numbers alone."""
    made_of = [d.value for d in field.definitions if d.name == name]
    made_of += [f.argument for f in field.functions if f.name == name]
    inner = {part for value in made_of for part in value.names()}
    return field.atoms[name].size or (bool(made_of) and all(_is_size(field, part) for part in inner))


def _are_analytic(field: Field, poly: Poly) -> bool:
    return all(_is_analytic(field, entry, power) for m in poly.terms for entry, power in entries_of(m))


def _is_analytic(field: Field, entry: Entry, power: int) -> bool:
    atom = field.atoms[entry.name]
    if atom.boolean or (power < 0 and not atom.positive):
        return False
    if entry.name.startswith(("const.", "positions.")) or entry.name in field.tables:
        return False
    defined = next((d.value for d in field.definitions if d.name == entry.name), None)
    if defined is not None:
        return field.sign(defined) == POSITIVE and _are_analytic(field, defined)
    function = function_of(field, entry)
    if function is None:
        return True
    known = function.kind != "log" or field.sign(function.argument) == POSITIVE
    return known and _are_analytic(field, function.argument)
