"""Which sets p = 0 are thin: so small that a derivative may be left out on them, whatever the size.

It is one where p is analytic for all reals, and not zero everywhere.
"""

from bnjax.prove.algebra import Poly
from bnjax.prove.field import Field
from bnjax.prove.functions import function_of
from bnjax.prove.monomials import Entry, Monomial, Sum, entries_of
from bnjax.prove.signs import POSITIVE

_SUMS = 3  # multiplied with each other in a polynomial that is 0 on a thin set


def is_thin(field: Field, poly: Poly) -> bool:
    """Whether `poly` is analytic for all values of its atoms, and 0 everywhere at no size of its own.

    With at most three sums in a product, its monomials are independent functions at sizes ≥ 4 (as products of
    power sums are); smaller ones are proved as numbers.  So it is enough that one coefficient is not 0.
    """
    coefficients: dict[Monomial, int] = {}
    for monomial in poly.terms:
        data = tuple(f for f in monomial if not (isinstance(f[0], Entry) and field.atoms[f[0].name].size))
        coefficients[data] = coefficients.get(data, 0) + 1
        if sum(power for factor, power in data if isinstance(factor, Sum)) > _SUMS:
            return False
    never_zero = any(terms == 1 for data, terms in coefficients.items() if data)
    return never_zero and _are_analytic(field, poly)


def is_alike_at_each_size(poly: Poly) -> bool:
    """Whether it is 0 everywhere at each size or at none: x_i, and not Σ_i x_i − x_j, or (n − 7)·x_i."""
    atoms = poly.ring.atoms
    entries = {entry for monomial in poly.terms for entry, _ in entries_of(monomial)}
    sums = (f for monomial in poly.terms for f, _ in monomial if isinstance(f, Sum))
    apart = len({entry.name for entry in entries}) == len(entries)
    return (
        apart
        and not any(atoms[e.name].size for e in entries)
        and not any(not size.isdigit() for factor in sums for size in factor.sizes)
    )


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
