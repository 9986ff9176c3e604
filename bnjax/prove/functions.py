r"""Exponentials, logarithms, sines and what is like erf over the reals, by the equations that define them.

exp of a polynomial is a product over its terms: exp(c·m) = E^(c/u), with a positive atom E = exp(u·m) for
each monomial m.  So exp(p + q) = exp(p)·exp(q) and exp(0) = 1 hold by form, and E is another free variable.
log takes a monomial of positive factors apart; of anything else it is an atom L, and exp(k·L) is the k-th
power of what L is the logarithm of.  It leaves the obligation p > 0.  Logistic, tanh and softplus are made
of these two, so that what is true of one spelling is true of another.

Why it is sound.  Each of these equations holds for all reals where the obligations hold.  Modulo τ² the
formulas exp(p + τq) = exp(p)·(1 + τq), log(p + τq) = log p + τq/p and f(p + τq) = f(p) + τq·f′(p) are
the definition of the derivative.  No exponential overflows or vanishes: these are real numbers.
Of the sine and the cosine of one argument sin² = 1 − cos² is known, of different arguments nothing is.
"""

import math
from collections.abc import Callable
from fractions import Fraction
from typing import TypeGuard

import jax.numpy as jnp
from jax.typing import DTypeLike

from bnjax.prove.algebra import INFINITESIMAL, Outside, Poly
from bnjax.prove.definitions import Function
from bnjax.prove.field import Field
from bnjax.prove.literals import log_of_number, with_readings
from bnjax.prove.monomials import Entry, Factor, Monomial
from bnjax.prove.rewriting import rule_for
from bnjax.prove.signs import POSITIVE, UNKNOWN

_LARGEST = 80  # exp of a constant beyond it is 0 or ∞ in float32


def exp(field: Field, poly: Poly) -> Poly:
    """exp(poly)."""
    base, tangent = map(with_readings, field.split(poly))
    constant = base.constant()
    if constant is not None and abs(constant) > _LARGEST:
        raise Outside("the exponential of a constant that is 0 or infinite in float32")
    value = field.constant(1)
    for monomial, coefficient in base.terms.items():
        value *= _exp_of_term(field, monomial, coefficient)
    return field.reduce(value + field.entry(INFINITESIMAL) * tangent * value)


def log(field: Field, poly: Poly, known: int = UNKNOWN) -> Poly:
    """log(poly), with the obligation poly > 0; `known` is what the caller knows of poly's sign."""
    base, tangent = map(with_readings, field.split(poly))
    if not base.terms:
        raise Outside("the logarithm of zero")
    known = max(known, field.sign(base))
    field.require_positive(base, known)
    value = _log(field, base, known)
    if not tangent.terms:
        return value
    return value + field.entry(INFINITESIMAL) * tangent * inverse(field, base, known)


def logistic(field: Field, poly: Poly) -> Poly:
    """1/(1 + exp(−poly))."""
    return inverse(field, field.constant(1) + exp(field, -poly), POSITIVE)


def tanh(field: Field, poly: Poly) -> Poly:
    """1 − 2/(1 + exp(2·poly))."""
    one, two = field.constant(1), field.constant(2)
    return one - two * inverse(field, one + exp(field, two * poly), POSITIVE)


def sin(field: Field, poly: Poly) -> Poly:
    """sin(poly)."""
    base, tangent = map(with_readings, field.split(poly))
    return field.reduce(_sine(field, base) + field.entry(INFINITESIMAL) * tangent * _cosine(field, base))


def cos(field: Field, poly: Poly) -> Poly:
    """cos(poly)."""
    base, tangent = map(with_readings, field.split(poly))
    return field.reduce(_cosine(field, base) - field.entry(INFINITESIMAL) * tangent * _sine(field, base))


def tan(field: Field, poly: Poly) -> Poly:
    """sin(poly)/cos(poly), with the obligation cos(poly) ≠ 0."""
    return sin(field, poly) * inverse(field, cos(field, poly))


def atan(field: Field, poly: Poly) -> Poly:
    """atan(poly)."""
    return _odd(field, "atan", poly, lambda base: inverse(field, field.constant(1) + base * base, POSITIVE))


def asinh(field: Field, poly: Poly) -> Poly:
    """asinh(poly)."""

    def slope(base: Poly) -> Poly:
        return inverse(field, root(field, field.constant(1) + base * base, POSITIVE), POSITIVE)

    return _odd(field, "asinh", poly, slope)


def erf(field: Field, poly: Poly, dtype: DTypeLike) -> Poly:
    """erf(poly), scaled so that its derivative at 0 is 2/√π as JAX's rule has it: rounded to `dtype`."""
    at_zero = field.literal(jnp.dtype(dtype).type(2 / math.sqrt(math.pi)))
    return _odd(field, "erf", poly, lambda base: at_zero * exp(field, -base * base))


def inverse(field: Field, poly: Poly, known: int = UNKNOWN) -> Poly:
    """1/poly, exponentials taken out first: 1/(1 + exp(−x)) is exp(x)/(exp(x) + 1)."""
    outside, inside = _content(field, field.reduce(poly))
    if not outside:
        return field.inverse(poly, known)
    return _unit(field, outside, -1) * field.inverse(inside, known)


def root(field: Field, poly: Poly, known: int = UNKNOWN) -> Poly:
    """√poly, exponentials taken out first."""
    outside, inside = _content(field, field.reduce(poly))
    value = field.root(inside, known)
    for factor, power in outside:
        value *= exp(field, field.constant(Fraction(power, 2)) * argument_of(field, factor))
    return value


def power(field: Field, poly: Poly, exponent: Fraction) -> Poly:
    """poly**exponent for poly > 0, as exp(exponent·log(poly))."""
    whole = field.constant(exponent)
    return exp(field, whole * log(field, poly, field.sign(poly)))


def function_of(field: Field, factor: Factor) -> Function | None:
    """The function that a factor is an entry of."""
    if not isinstance(factor, Entry):
        return None
    return next((f for f in field.functions if f.name == factor.name), None)


def argument_of(field: Field, entry: Entry) -> Poly:
    """What an entry of a function's atom is the function of."""
    function = function_of(field, entry)
    assert function is not None
    return field.rename(function.argument, dict(enumerate(entry.indices)))


def _odd(field: Field, kind: str, poly: Poly, slope: Callable[[Poly], Poly]) -> Poly:
    """An odd function, by its derivative."""
    base, tangent = map(with_readings, field.split(poly))
    sign = field.constant(_leading_sign(base))
    value = sign * field.apply(kind, sign * base) if base.terms else base
    return value + field.entry(INFINITESIMAL) * tangent * slope(base)


def _sine(field: Field, base: Poly) -> Poly:
    """sin of a polynomial without τ, of which the first term is taken to be positive."""
    sign = _leading_sign(base)
    return field.constant(sign) * _circular(field, field.constant(sign) * base)[0] if base.terms else base


def _cosine(field: Field, base: Poly) -> Poly:
    even = field.constant(_leading_sign(base)) * base
    return _circular(field, even)[1] if base.terms else field.constant(1)


def _circular(field: Field, base: Poly) -> tuple[Poly, Poly]:
    """The sine and the cosine of a polynomial; of the first the square is written by the second's."""
    known = len(field.functions)
    both = field.apply("sin", base), field.apply("cos", base)
    for made in field.functions[known:-1]:
        slots = tuple(range(len(field.atoms[made.name].sizes)))
        squared = field.constant(1) - field.apply("cos", made.argument) ** 2
        field.rewrite(made.name, rule_for(Entry(made.name, slots), 2, squared))
    return both


def _leading_sign(base: Poly) -> int:
    return -1 if base.terms and base.terms[min(base.terms, key=str)] < 0 else 1


def _exp_of_term(field: Field, monomial: Monomial, coefficient: Fraction) -> Poly:
    """exp(coefficient·monomial)."""
    factor, times = monomial[0] if len(monomial) == 1 else (None, 0)
    if factor is not None and times == 1 and _is(factor, field, "log"):  # the log has left its obligation
        base, whole = argument_of(field, factor), math.floor(coefficient)
        unit = base if whole >= 0 else field.inverse(base, POSITIVE)
        power = field.raised(unit, abs(whole))
        rest = coefficient - whole
        return power * _exp_of_atoms(field, monomial, rest) if rest else power
    return _exp_of_atoms(field, monomial, coefficient)


def _exp_of_atoms(field: Field, monomial: Monomial, coefficient: Fraction) -> Poly:
    """The power of an exponential's atom."""
    finest = Fraction(1, coefficient.denominator)
    term = Poly(field, {monomial: Fraction(1)})
    for function in [f for f in field.functions if f.kind == "exp" and f.rule is None]:
        (known,) = function.argument.terms.values()
        free = sorted(term.free())
        slots = field.rename(term, {index: slot for slot, index in enumerate(free)})
        indices = field.indices_of(function.argument, slots * field.constant(known), free)
        if indices is not None:
            name = function.name
            if (coefficient / known).denominator > 1:
                name, known = _refined(field, function, known, finest)
            return field.entry(name, indices, int(coefficient / known))
    made = field.apply("exp", term * field.constant(finest), positive=True)
    return field.raised(made, coefficient.numerator)


def _refined(field: Field, function: Function, known: Fraction, unit: Fraction) -> tuple[str, Fraction]:
    """An atom of which the powers are those of exp(known·m) and exp(unit·m); its name, and its unit."""
    denominator = math.lcm(known.denominator, unit.denominator)
    finer = Fraction(math.gcd(int(known * denominator), int(unit * denominator)), denominator)
    made = field.apply("exp", function.argument * field.constant(finer / known), positive=True)
    slots = tuple(range(len(field.atoms[function.name].sizes)))
    field.rewrite(
        function.name, rule_for(Entry(function.name, slots), 1, field.raised(made, int(known / finer)))
    )
    return field.functions[-1].name, finer


def _log(field: Field, poly: Poly, known: int) -> Poly:
    """log(poly) for a polynomial without τ."""
    outside, inside = _content(field, poly)
    value = field.constant(0)
    for entry, times in outside:
        value += field.constant(times) * argument_of(field, entry)
    factors = min(inside.terms, key=str)
    scale = inside.terms[factors]
    if len(inside.terms) == 1 and all(_is_positive(field, factor) for factor, _ in factors):
        for factor, power in factors:
            value += field.constant(power) * field.apply("log", Poly(field, {((factor, 1),): Fraction(1)}))
        return value + log_of_number(field, scale)
    if scale > 0:
        inside = inside * field.constant(1 / scale)
        value += log_of_number(field, scale)
    alone = len(inside.terms) == 1 and len(factors) == 1 and isinstance(factors[0][0], Entry)
    if not (alone and factors[0][1] == 1 and scale > 0):
        inside = field.named(inside, POSITIVE if known == POSITIVE else UNKNOWN)
    return field.reduce(value + field.apply("log", inside))


def _content(field: Field, poly: Poly) -> tuple[list[tuple[Entry, int]], Poly]:
    """The exponentials that poly is a multiple of, with their powers, and the rest of it."""
    powers = [dict(monomial) for monomial in poly.terms]
    found: set[Entry] = {f for p in powers for f in p if _is(f, field, "exp")}
    least = {factor: min(p.get(factor, 0) for p in powers) for factor in found}
    outside = sorted((factor, power) for factor, power in least.items() if power)
    return outside, poly * _unit(field, outside, -1)


def _unit(field: Field, powers: list[tuple[Entry, int]], times: int) -> Poly:
    return Poly(field, {tuple((entry, times * power) for entry, power in powers): Fraction(1)})


def _is(factor: Factor, field: Field, kind: str) -> TypeGuard[Entry]:
    function = function_of(field, factor)
    return function is not None and function.kind == kind


def _is_positive(field: Field, factor: Factor) -> bool:
    return isinstance(factor, Entry) and field.atoms[factor.name].positive
