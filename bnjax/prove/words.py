"""Polynomials as text, for obligations and reports."""

import re
from collections.abc import Mapping
from fractions import Fraction

from bnjax.prove.monomials import Factor, Monomial, Sum

_LETTERS = "ijklmpqrs"
_FREE = "abcdefgh"


def poly_words(terms: Mapping[Monomial, Fraction], limit: int = 8) -> str:
    """A polynomial as a formula, cut after `limit` terms."""
    if not terms:
        return "0"
    shown = sorted(terms.items(), key=lambda item: (len(str(item[0])), str(item[0])))
    words = [_term_words(monomial, coefficient) for monomial, coefficient in shown[:limit]]
    more = f" + … ({len(terms) - limit} more terms)" if len(terms) > limit else ""
    return " + ".join(words).replace("+ −", "− ") + more


def contains_name(text: str, name: str) -> bool:
    """Whether a text speaks of an atom: of t.1, and not of t.12."""
    return name in text and re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", text) is not None


def _term_words(monomial: Monomial, coefficient: Fraction) -> str:
    factors = [_factor_words(factor, power) for factor, power in monomial]
    number = str(abs(coefficient))
    if factors and abs(coefficient) == 1:
        number = ""
    elif coefficient.denominator > 1 and factors:
        number = f"({number})"
    product = "·".join([number, *factors] if number else factors)
    return ("−" if coefficient < 0 else "") + product


def _factor_words(factor: Factor, power: int) -> str:
    if not isinstance(factor, Sum):
        return factor.name + _subscript(factor.indices) + _superscript(power)
    inside = "·".join(e.name + _subscript(e.indices) + _superscript(p) for e, p in factor.entries)
    indices = "".join(letter(-1 - k) for k in range(len(factor.sizes)))
    text = f"Σ_{indices} {inside}"
    return f"({text})" + _superscript(power)


def _subscript(indices: tuple[int, ...]) -> str:
    return f"[{','.join(letter(i) for i in indices)}]" if indices else ""


def letter(index: int) -> str:
    """What an index is called: a, b, … where it is free."""
    if index >= 0:
        return _FREE[index] if index < len(_FREE) else f"a{index}"
    return _LETTERS[-1 - index] if -index <= len(_LETTERS) else f"i{-index}"


def _superscript(power: int) -> str:
    return "" if power == 1 else str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
