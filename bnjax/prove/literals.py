"""A literal that is a rounded quotient of small integers: 1/5, which no float is.

Literals are read exactly, and then dy·0.2 is not dy/5.  Where an equation fails by that alone, it is tried
again with each such literal as an unknown positive number; quotients, roots and the last comparison know
what it is read as.  Comparisons must come out as they do of the literal itself.  What is shown then holds
under the condition that the literal is read so, which is named.
"""

import math
from collections.abc import Iterator
from fractions import Fraction

import jax.numpy as jnp
import numpy as np

from bnjax.prove.algebra import Poly
from bnjax.prove.monomials import flatten

_LARGEST = 2**16  # of numerator times denominator
_SPARE = 7  # bits of the mantissa that a quotient must leave: most floats are near no quotient


def quotient(literal: np.floating) -> Fraction | None:
    """The one quotient of small integers that rounds to this float; None without one, and for one it is."""
    value = Fraction(float(literal))
    limit = min(_LARGEST, 2 ** max(jnp.finfo(literal.dtype).nmant - _SPARE, 0))
    for found in _convergents(abs(value)):
        if found.numerator * found.denominator > limit:
            return None
        if literal.dtype.type(float(found)) == abs(literal):
            return None if found == abs(value) else found * (1 if value > 0 else -1)
    return None


def with_quotients(poly: Poly) -> Poly:
    """The same with the quotients that literals are read as."""
    ring = poly.ring
    read = {name: value for name in poly.names() if (value := ring.atoms[name].quotient)}
    if not read:
        return poly
    result = ring.constant(0)
    for monomial, coefficient in poly.terms.items():
        bound, entries = flatten(monomial)
        powers = (read.get(entry.name, Fraction(1)) ** power for entry, power in entries)
        rest = [(entry, power) for entry, power in entries if entry.name not in read]
        result += ring.assemble(bound, rest) * ring.constant(math.prod(powers, start=coefficient))
    return result


def _convergents(value: Fraction) -> Iterator[Fraction]:
    """Of the continued fraction: whatever is nearer than 1/(2·denominator²) to the value is among them."""
    before, last = (0, 1), (1, 0)
    while True:
        whole = value.numerator // value.denominator
        before, last = last, (whole * last[0] + before[0], whole * last[1] + before[1])
        yield Fraction(*last)
        if value == whole:
            return
        value = 1 / (value - whole)
