"""Which comparisons exclude each other: x > y, y > z and z > x.

Monomials are taken for independent numbers, so that this is linear arithmetic: equations are solved and put
in, inequalities added so that a monomial leaves, as Fourier and Motzkin do.  Each row that results follows
from those given; one that says 0 > 0, or that what is never positive is, shows that they cannot all hold.
"""

from collections.abc import Sequence

from bnjax.prove.algebra import Poly
from bnjax.prove.field import Field
from bnjax.prove.monomials import Monomial
from bnjax.prove.signs import NONNEGATIVE, POSITIVE

_ROWS = 64


def exclude_each_other(field: Field, positive: Sequence[Poly], null: Sequence[Poly]) -> bool:
    """True only if not all of `positive` can be > 0 where all of `null` are 0."""
    rows, equations = list(positive), list(null)
    while equations:
        equation = equations.pop()
        if any(field.sign(side) == POSITIVE for side in (equation, -equation)):
            return True
        data = [monomial for monomial in equation.terms if monomial]
        if data:
            first = min(data, key=str)
            rows = [_without(row, first, equation) for row in rows]
            equations = [_without(other, first, equation) for other in equations]
    while len(rows) <= _ROWS:
        field.check_time()
        if any(field.sign(-row) >= NONNEGATIVE for row in rows):
            return True
        monomial = _of_both_signs(rows)
        if monomial is None:
            return False
        above, below = ([r for r in rows if _sign(r, monomial) == sign] for sign in (1, -1))
        rows = [r for r in rows if monomial not in r.terms]
        rows += [_without(a, monomial, b) for a in above for b in below]
    return False


def _without(row: Poly, monomial: Monomial, other: Poly) -> Poly:
    """A positive multiple of `row` and a multiple of `other` together, in which a monomial has left."""
    if monomial not in row.terms:
        return row
    ratio = row.terms[monomial] / other.terms[monomial]
    return row - row.ring.constant(ratio) * other


def _of_both_signs(rows: Sequence[Poly]) -> Monomial | None:
    """A monomial that can be made to leave."""
    signs: dict[Monomial, set[int]] = {}
    for row in rows:
        for monomial in row.terms:
            if monomial:
                signs.setdefault(monomial, set()).add(_sign(row, monomial))
    return min((monomial for monomial, found in signs.items() if len(found) == 2), key=str, default=None)


def _sign(row: Poly, monomial: Monomial) -> int:
    coefficient = row.terms.get(monomial, 0)
    return (coefficient > 0) - (coefficient < 0)
