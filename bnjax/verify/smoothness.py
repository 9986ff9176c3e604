r"""Theorem 31's bounds on the gradient of istd, as polynomial certificates that are checked exactly.

A certificate is an identity whose right-hand side is a sum of terms that are ≥ 0 by their form.  With
s = σ², r = istd, g = ∇istd as the program's hand VJP returns it, and n = m + 1 with m other elements u:

    ‖g‖² = r⁶·s/n
    4(s + ε)³ − 27ε²s = (2s − ε)²·(s + 4ε)
    B² − ‖g‖² = r⁶·(2s − ε)²·(s + 4ε)/(27ε²n),         B = 2/(3√3·ε·√n)
    n·((n−1)·s − (x_i − μ)²) = ½·Σ_jk (u_j − u_k)²       (Samuelson's inequality)
    b² − g_i² = (n−1)/n·(B² − ‖g‖²) + r⁶/n²·((n−1)·s − (x_i − μ)²),    b = √(n−1)/n · 2/(3√3·ε)

So ‖g‖ ≤ B, with equality exactly where s = ε/2; and |g_i| ≤ b, with equality exactly where s = ε/2 and all
other elements are equal.  Both hold for every n ≥ 1, every x and every ε > 0.
"""

from dataclasses import dataclass
from fractions import Fraction

from bnjax.prove.algebra import Atom, Poly
from bnjax.prove.derivation import derive
from bnjax.prove.field import Field
from bnjax.prove.signs import UNKNOWN, sign
from bnjax.prove.tracing import parse_arguments, trace
from bnjax.verify.gradient_bounds import STATED, Bound, GradientBounds


@dataclass(frozen=True)
class Certificate:
    """An identity or an inequality, and whether it was found to hold exactly."""

    claim: str
    holds: bool


def theorem31_certificates(claim: GradientBounds = STATED) -> tuple[Certificate, ...]:
    """Every step of the two bounds on the gradient that `claim.op` returns, for all n, x and ε > 0.

    All hold only if the bounds are the least ones: a bound that is too large has no certificate either.
    """
    return (*_gradient_certificates(claim), *_cubic_certificates(), *_samuelson_certificates())


def _gradient_certificates(claim: GradientBounds) -> tuple[Certificate, ...]:
    """The steps about the gradient that the program computes."""
    arguments = parse_arguments(claim.primal, ("n", ""), (1,))
    result = derive(trace(claim.op, claim.primal, arguments))
    field = result.field
    gradient = field.part(result.gradient("x"), "dy", 1)
    eps, n, one = field.entry("eps"), field.entry("n"), field.constant(1)
    per_n = field.entry("n", (), -1)
    deviation = field.entry("x", (0,)) - field.total(field.entry("x", (0,)), 0, "n") * per_n
    var = field.total(deviation**2, 0, "n") * per_n
    istd = field.inverse(field.root(var + eps))
    norm = field.total(gradient**2, 0, "n")
    # everything times ε^lift, so that no ε is left in a denominator
    lift = max(2, -claim.norm.eps, -claim.entry.eps)
    gap = _squared(field, claim.norm, lift) - eps**lift * norm
    entry_gap = _squared(field, claim.entry, lift) - eps**lift * gradient**2
    half = field.constant(2) * var - eps
    cubic = half**2 * (var + field.constant(4) * eps) * eps ** (lift - 2) * field.constant(Fraction(1, 27))
    samuelson = eps**lift * istd**6 * per_n**2 * ((n - one) * var - deviation**2)
    return (
        Certificate("∂istd/∂x_i = −istd³·(x_i − μ)/n", field.vanishes(
            gradient + istd**3 * deviation * per_n)),
        Certificate("‖∇istd‖² = istd⁶·σ²/n", field.vanishes(norm - istd**6 * var * per_n)),
        Certificate("B² − ‖∇istd‖² = istd⁶·(2σ² − ε)²·(σ² + 4ε)/(27ε²n)",
                    field.vanishes(gap - istd**6 * cubic * per_n)),
        Certificate("b² − (∂istd/∂x_i)² = (n−1)/n·(B² − ‖∇istd‖²) + istd⁶/n²·((n−1)σ² − (x_i − μ)²)",
                    field.vanishes(entry_gap - (n - one) * per_n * gap - samuelson)),
    )  # fmt: skip


def _squared(field: Field, bound: Bound, lift: int) -> Poly:
    """The square of a bound, times ε^lift."""
    others = (field.entry("n") - field.constant(1)) ** bound.others
    eps = field.entry("eps") ** (lift + bound.eps)
    return field.constant(bound.constant) * others * field.entry("n", (), bound.size) * eps


def _cubic_certificates() -> tuple[Certificate, ...]:
    field = Field()
    s = field.atom(Atom("s")) ** 2  # σ² ≥ 0
    eps = field.atom(Atom("eps", positive=True))
    two, four = field.constant(2), field.constant(4)
    left = four * (s + eps) ** 3 - field.constant(27) * eps**2 * s
    factors = (two * s - eps) ** 2, s + four * eps
    equal = field.vanishes(left - factors[0] * factors[1])
    nonnegative = sign(factors[1]) != UNKNOWN  # the other factor is a square
    return (
        Certificate("4(σ² + ε)³ − 27ε²σ² = (2σ² − ε)²·(σ² + 4ε)", equal),
        Certificate("(2σ² − ε)²·(σ² + 4ε) ≥ 0", nonnegative),
    )


def _samuelson_certificates() -> tuple[Certificate, ...]:
    """(x_i − μ)² ≤ (n−1)σ², for x_i and m = n − 1 others."""
    field = Field()
    m, one = field.size("m"), field.constant(1)
    own, others = field.atom(Atom("x")), field.atom(Atom("u", ("m",)))
    n = m + one
    per_n = field.inverse(n)
    mean = (own + field.total(others, 0, "m")) * per_n
    var = ((own - mean) ** 2 + field.total((others - mean) ** 2, 0, "m")) * per_n
    left = n * (m * var - (own - mean) ** 2)
    pairs = _sum_over_pairs(field, others)
    return (
        Certificate("n·((n−1)σ² − (x_i − μ)²) = ½·Σ_jk (u_j − u_k)²", field.vanishes(left - pairs)),
        Certificate("½·Σ_jk (u_j − u_k)² ≥ 0", sign(pairs) != UNKNOWN),
    )


def _sum_over_pairs(field: Field, others: Poly) -> Poly:
    """½·Σ_jk (u_j − u_k)²."""
    difference = others - field.rename(others, {0: 1})
    return field.total(field.total(difference**2, 1, "m"), 0, "m") * field.constant(Fraction(1, 2))
