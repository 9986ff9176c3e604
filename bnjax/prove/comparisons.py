r"""Comparisons of data: which of p > 0, p = 0 and p < 0 holds is a pair of truth values of its own.

[p > 0] and [p = 0] are boolean atoms P and Z, for p up to a positive factor, and [p < 0] is 1 − P − Z: every
comparison is one of these exactly, at each point, on the kink p = 0 too.  The largest of p_j over j is Σ_j
A_j·p_j with one A_j = 1 (of several that are largest, the first), and p_j equals it where A_j + T_j = 1, with
T_j = 1 for another that is largest.  Where the largest is, is Σ_j A_j·j.  A function of a value that contains
truth values is taken apart, case by case, each under what the case implies.

Where p is zero for equal indices alone, as x_i − x_j is at i = j, [p = 0] is δ_ij + (1 − δ_ij)·Z and [p > 0]
is (1 − δ_ij)·P: there it is no comparison of data.

Why it is sound.  All of this holds at every point.  Only the derivative needs more: a truth value has none
where it changes.  So what was shown of a derivative holds where no truth value of the primal changes nearby:
off the kinks.  The set p = 0 is such a thin one only where p is analytic for all reals, or made of such by
cases, and not zero everywhere (`bnjax.prove.thin`); of any other nothing is left out, and both cases are
shown.  Of numbers that are largest together, nearby too, the derivatives are the same, whichever is taken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from bnjax.prove.algebra import INFINITESIMAL, Outside, Poly
from bnjax.prove.definitions import Function
from bnjax.prove.diagonals import apart
from bnjax.prove.field import Field
from bnjax.prove.functions import argument_of, function_of
from bnjax.prove.literals import with_literals, with_readings
from bnjax.prove.monomials import Entry, Factor, Monomial, Sum, entries_of
from bnjax.prove.rewriting import rule_for
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, UNKNOWN
from bnjax.prove.tables import spread

ABOVE, ZERO, LARGEST, TIE = "above", "zero", "largest", "tie"


def above(field: Field, poly: Poly) -> Poly:
    """[poly > 0]: 1 where it holds, and 0."""
    truth = _above(field, poly)
    field.decided.append(truth.constant())
    return truth


def zero(field: Field, poly: Poly) -> Poly:
    """[poly = 0]."""
    truth = _zero(field, poly)
    field.decided.append(truth.constant())
    return truth


def _above(field: Field, poly: Poly) -> Poly:
    poly = _read(field, field.split(poly)[0])
    tie = _tie(field, -poly)
    if tie is not None:
        return field.constant(1) - tie
    if _tie(field, poly) is not None:
        return field.constant(0)
    choice = _choice(field, poly)
    if choice is not None:
        return _by_choice(field, poly, choice, lambda case: above(field, case))
    tables = _tables(field, poly)
    if tables:
        return _by_tables(field, poly, tables, lambda case: above(field, case))
    if _exceeds(field, poly):
        return field.constant(1)
    if not poly.terms or field.sign(-poly) >= NONNEGATIVE or field.is_assumed(-poly):
        return field.constant(0)
    if _boolean(field, poly) is not None:
        return by_cases(field, poly, lambda case: above(field, case))
    if field.sign(poly) >= NONNEGATIVE:
        return field.constant(1) - zero(field, poly)
    scaled, flipped = _normal(field, poly)
    truth, null = (field.apply(kind, scaled, boolean=True) for kind in (ABOVE, ZERO))
    return apart(field, scaled) * (field.constant(1) - truth - null if flipped else truth)


def _zero(field: Field, poly: Poly) -> Poly:
    poly = _read(field, field.split(poly)[0])
    tie = _tie(field, poly) or _tie(field, -poly)
    if tie is not None:
        return tie
    choice = _choice(field, poly)
    if choice is not None:
        return _by_choice(field, poly, choice, lambda case: zero(field, case))
    tables = _tables(field, poly)
    if tables:
        return _by_tables(field, poly, tables, lambda case: zero(field, case))
    if not poly.terms:
        return field.constant(1)
    if any(_exceeds(field, side) for side in (poly, -poly)):
        return field.constant(0)
    if _boolean(field, poly) is not None:
        return by_cases(field, poly, lambda case: zero(field, case))
    scaled, _ = _normal(field, poly)
    elsewhere = apart(field, scaled)
    return field.constant(1) - elsewhere + elsewhere * field.apply(ZERO, scaled, boolean=True)


def larger(field: Field, a: Poly, b: Poly) -> Poly:
    """max(a, b)."""
    truth = above(field, a - b)
    return field.reduce(truth * a + (field.constant(1) - truth) * b)


def by_cases(
    field: Field,
    poly: Poly,
    apply: Callable[[Poly], Poly],
    known: int = UNKNOWN,
    masks: bool = True,
    tables: bool = True,
) -> Poly:
    """apply(poly), for each value that the truth values in `poly` may have, under what that implies.

    `known` is what is known of poly's sign; without `masks` only comparisons make cases, and without
    `tables` no table makes any.
    """
    base = field.part(poly, INFINITESIMAL, 0)
    choice = _choice(field, base)
    if choice is not None:
        return _by_choice(
            field, poly, choice, lambda case: by_cases(field, case, apply, known, masks, tables)
        )
    found = _tables(field, base) if tables else []
    if found:
        return _by_tables(field, poly, found, lambda case: by_cases(field, case, apply, known, masks, tables))
    entry = _boolean(field, base, masks, tables)
    if entry is None:
        return apply(poly)
    result = field.constant(0)
    for case in cases_of(field, entry):
        value = at_values(poly, case.values)
        with _assuming(field, case.positive, value if known == POSITIVE else None):
            result += case.weight * by_cases(field, value, apply, known, masks, tables)
    return field.reduce(result)


def contains_truth(field: Field, poly: Poly, masks: bool = True) -> bool:
    """Whether `by_cases` makes cases of `poly`."""
    base = field.part(poly, INFINITESIMAL, 0)
    if _choice(field, base) is not None or _tables(field, base):
        return True
    return _boolean(field, base, masks) is not None


def _choice(field: Field, poly: Poly) -> tuple[Entry, int] | None:
    """A truth value under a sum, with the summed index along which it is 1 at most once; else None."""
    sums = [f for monomial in poly.terms for f, power in monomial if isinstance(f, Sum) and power == 1]
    for tables in (False, True):  # a label that is a sum over a table is taken as a label
        for factor in sums:
            for entry, _ in factor.entries:
                if (entry.name in field.tables) != tables:
                    continue
                bound = [place for place, index in enumerate(entry.indices) if index < 0]
                distinct = len(set(entry.indices)) == len(entry.indices)
                once = len(bound) == 1 and (entry.name, bound[0]) in field.single
                if once and distinct and field.atoms[entry.name].boolean:
                    return entry, bound[0]
    return None


def _by_choice(field: Field, poly: Poly, choice: tuple[Entry, int], apply: Callable[[Poly], Poly]) -> Poly:
    """f(p) = Σ_k K_k·f(p_k) + (1 − Σ_k K_k)·f(p_0): p is p_k where K_k = 1, and p_0 where all K_k are 0."""
    (name, indices), place = choice
    new = 1 + max((-1, *indices, *(index for each in (poly, *field.assumed) for index in each.free())))
    size = field.atoms[name].sizes[place]
    entry = Entry(name, (*indices[:place], new, *indices[place + 1 :]))
    here = field.entry(*entry)
    case = apply(at_values(field.reduce(poly * here), {entry: 1}))
    result = field.total(field.reduce(here * case), new, size)
    nowhere = field.reduce(field.constant(1) - field.total(here, new, size))
    if nowhere.terms:
        left = {m: c for m, c in poly.terms.items() if field.reduce(Poly(field, {m: c}) * nowhere).terms}
        result += nowhere * apply(Poly(field, left))
    return field.reduce(result)


def _tables(field: Field, poly: Poly) -> list[Entry]:
    """The tables of truth values that stand outside of the sums."""
    factors = {f for monomial in poly.terms for f, _ in monomial if isinstance(f, Entry)}
    return sorted(f for f in factors if field.has_values(f.name) and field.atoms[f.name].boolean)


def _by_tables(field: Field, poly: Poly, tables: Sequence[Entry], apply: Callable[[Poly], Poly]) -> Poly:
    """f(p) = Σ_v [the tables are v]·f(p where they are v), over the values that they have together."""
    order = tuple(sorted({index for entry in tables for index in entry.indices}))
    whole = np.broadcast_arrays(*(spread(_values(field, e), e.indices, order) for e in tables))
    rows, where = np.unique(np.stack(whole, axis=-1).reshape(-1, len(tables)), axis=0, return_inverse=True)
    result = field.constant(0)
    for k, row in enumerate(rows):
        here = field.table((where == k).reshape(whole[0].shape), order)
        result += here * apply(at_values(poly, dict(zip(tables, map(int, row), strict=True))))
    return field.reduce(result)


def _values(field: Field, entry: Entry) -> np.ndarray:
    values = field.values_of(entry.name)
    assert values is not None
    return values


class Case(NamedTuple):
    """One outcome of a comparison: its indicator, the truth values, and what is > 0, or = 0, there."""

    weight: Poly
    values: dict[Entry, int]
    positive: Poly | None = None
    null: Poly | None = None


def cases_of(field: Field, entry: Entry) -> list[Case]:
    """The values of a truth value, and of its partner; what compares 0 with 0, as x_i − x_i, has one."""
    one, here = field.constant(1), field.entry(*entry)
    function = function_of(field, entry)
    if function is None or function.kind not in (ABOVE, ZERO):
        return [Case(here, {entry: 1}), Case(one - here, {entry: 0})]
    poly = argument_of(field, entry)
    null, top = (_partner(field, entry, function, kind) for kind in (ZERO, ABOVE))
    if not field.reduce(poly).terms:
        return [Case(one, {top: 0, null: 1})]
    elsewhere = apart(field, poly)
    is_zero = one - elsewhere + elsewhere * field.entry(*null)
    if function.kind == ZERO and field.sign(poly) >= NONNEGATIVE:
        return [Case(one - is_zero, {null: 0}, positive=poly), Case(is_zero, {null: 1}, null=poly)]
    is_above = elsewhere * field.entry(*top)
    return [
        Case(is_above, {top: 1, null: 0}, positive=poly),
        Case(one - is_above - is_zero, {top: 0, null: 0}, positive=-poly),
        Case(is_zero, {top: 0, null: 1}, null=poly),
    ]


def _partner(field: Field, entry: Entry, function: Function, kind: str) -> Entry:
    """The truth value of this kind of what `entry` is one of, at its own indices: p may be symmetric."""
    name, slots = the_entry(field.apply(kind, function.argument, boolean=True))
    return Entry(name, tuple(entry.indices[slot] for slot in slots))


def at_zero(field: Field, poly: Poly, null: Poly) -> Poly:
    """`poly` where null = 0, if that can be solved for an entry that stands outside of its sums."""
    for monomial, coefficient in null.terms.items():
        if len(monomial) != 1 or monomial[0][1] != 1 or not isinstance(monomial[0][0], Entry):
            continue
        entry = monomial[0][0]
        elsewhere = [e for m in null.terms if m != monomial for e, _ in entries_of(m) if e.name == entry.name]
        if not elsewhere and not field.atoms[entry.name].size:
            solution = field.entry(*entry) - null * field.constant(1 / coefficient)
            return _substituted(field, poly, entry, solution)
    return poly


def _substituted(field: Field, poly: Poly, entry: Entry, value: Poly) -> Poly:
    result = field.constant(0)
    for monomial, coefficient in poly.terms.items():
        power = dict(monomial).get(entry, 0)
        if power < 0:
            return poly
        rest = Poly(field, {tuple(f for f in monomial if f[0] != entry): coefficient})
        result += rest * value**power
    return result


def largest(field: Field, poly: Poly, over: Mapping[int, str]) -> Poly:
    """The truth value A with which Σ A·poly is the largest value of `poly` over some free indices."""
    base, tangent = field.split(poly)
    indices = sorted(set(over) & base.free())
    if tangent.free() & set(over) - set(indices):
        raise Outside("a maximum of equal numbers")
    if not indices:
        raise Outside("a maximum over an axis on which nothing depends")
    free = sorted(base.free())
    places = [free.index(index) for index in indices]
    count = len(field.functions)
    truth = field.apply(f"{LARGEST} over {', '.join(map(str, places))} of", base, boolean=True)
    name, found = the_entry(truth)
    if sorted(found[place] for place in places) != indices:
        raise Outside("a maximum over the other axes of a symmetric array")
    if len(field.functions) > count:
        total = field.entry(name, tuple(range(len(free))))
        for place in places:
            total = field.total(total, place, field.atoms[name].sizes[place])
        ((((factor, _),), _),) = total.terms.items()
        field.rewrite(name, rule_for(factor, 1, field.constant(1)))
    return truth


def reduced_places(function: Function) -> list[int]:
    """Over which of its indices a largest value is taken."""
    return [int(k) for k in function.kind.removeprefix(f"{LARGEST} over ").split(" of")[0].split(",")]


def the_entry(poly: Poly) -> Entry:
    """The entry that `poly` is."""
    ((((entry, _),), _),) = poly.terms.items()
    assert isinstance(entry, Entry)
    return entry


def at_values(poly: Poly, values: Mapping[Entry, int]) -> Poly:
    """`poly` where these truth values, which stand outside of its sums, are 0 or 1."""
    result = poly.ring.constant(0)
    for monomial, coefficient in poly.terms.items():
        if all(values.get(factor, 1) for factor, _ in monomial if isinstance(factor, Entry)):
            rest = tuple(f for f in monomial if f[0] not in values)
            result += Poly(poly.ring, {rest: coefficient})
    return result


def _boolean(field: Field, poly: Poly, masks: bool = True, tables: bool = True) -> Entry | None:
    """A truth value that stands outside of the sums."""
    for monomial in poly.terms:
        for factor, _ in monomial:
            if not isinstance(factor, Entry) or not field.atoms[factor.name].boolean:
                continue
            if not tables and factor.name in field.tables:
                continue
            if masks or function_of(field, factor) is not None:
                return factor
    return None


def _exceeds(field: Field, poly: Poly) -> bool:
    return field.sign(poly) == POSITIVE or field.is_assumed(poly)


def _normal(field: Field, poly: Poly) -> tuple[Poly, bool]:
    """A multiple of `poly`, the same for all of its positive multiples; whether its sign is another."""
    powers = [dict(monomial) for monomial in poly.terms]
    least = {f: min(p.get(f, 0) for p in powers) for p in powers for f in p if _is_positive(field, f)}
    unit: Monomial = tuple(sorted((f, -power) for f, power in least.items() if power))
    poly = poly * Poly(field, {unit: Fraction(1)})
    free = sorted(poly.free())
    slots = field.rename(poly, {index: slot for slot, index in enumerate(free)})
    first = slots.terms[min(slots.terms, key=str)]
    return poly * field.constant(1 / first), first < 0


def _read(field: Field, poly: Poly) -> Poly:
    """`poly` with what literals are read as, which must be a multiple of what it is with the literals."""
    read, exact = with_readings(poly), with_literals(poly)
    if read == exact:
        return poly
    if not read.terms or not exact.terms or _normal(field, read) != _normal(field, exact):
        raise Outside("a comparison with a rounded literal")
    return read


def _is_positive(field: Field, factor: Factor) -> bool:
    return isinstance(factor, Entry) and field.atoms[factor.name].positive


def _tie(field: Field, poly: Poly) -> Poly | None:
    """[p_j = the largest of p], where `poly` is p_j minus the largest of p."""
    free = sorted(poly.free())
    slots = field.rename(poly, {index: slot for slot, index in enumerate(free)})
    for function in [f for f in field.functions if f.kind.startswith(LARGEST)]:
        assert function.rule is not None
        bound = [place for place in range(len(field.atoms[function.name].sizes))]
        reduced = reduced_places(function)
        top = field.entry(function.name, tuple(bound)) * function.argument
        for place in reduced:
            top = field.total(top, place, field.atoms[function.name].sizes[place])
        indices = field.indices_of(field.reduce(function.argument - top), slots, free)
        if indices is not None:
            gap = field.rename(function.argument, dict(enumerate(indices)))
            other = field.apply(f"{TIE} for {function.name} of", gap, boolean=True)
            return field.entry(function.name, indices) + other
    return None


@contextmanager
def _assuming(field: Field, *positive: Poly | None) -> Iterator[None]:
    before = list(field.assumed)
    field.assumed += [field.split(p)[0] for p in positive if p is not None]
    try:
        yield
    finally:
        field.assumed[:] = before
