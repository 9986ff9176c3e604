"""A quotient written as a rounded literal: right under a condition that names the reading, never proved."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.prove import prove_vjp
from bnjax.prove.algebra import Atom
from bnjax.prove.field import Field
from bnjax.prove.literals import quotient, reading
from tests.prove.rules import with_rule


def mean(x):
    return jnp.sum(x) / x.shape[0]


def rule(scale):
    """A mean whose cotangent is dy·scale(n)."""

    def backward(args, dy):
        (x,) = args
        return (jnp.broadcast_to(dy * scale(x.shape[0]), x.shape),)

    return with_rule(mean, backward)


@pytest.mark.parametrize("a", [1, 2, -1, 9, 99])
@pytest.mark.parametrize("b", [5, 7, 10, 100, 641])
def test_a_rounded_quotient_is_recognized(a, b):
    for dtype in (np.float32, np.float64):
        number = dtype(a / b)
        assert quotient(number) == Fraction(a, b)
        assert quotient(np.nextafter(number, dtype(2))) is None
        assert quotient(np.nextafter(number, dtype(-2))) is None


@pytest.mark.parametrize("number", [0.0, 1.0, -2.0, 0.5, 0.75, 3e38, 1e-45, 2.0**-20, 12345.0])
def test_a_number_that_a_float_is_stays_itself(number):
    assert quotient(np.float32(number)) is None


def test_a_short_mantissa_tells_no_quotients():
    assert quotient(np.asarray(1 / 5, jnp.bfloat16)[()]) is None
    assert quotient(np.float16(1 / 5)) == Fraction(1, 5)  # 10 bits: 1·5 ≤ 2³
    assert quotient(np.float16(1 / 9)) is None


def test_most_floats_are_read_as_no_quotient():
    numbers = np.random.default_rng(0).uniform(0.1, 10, 2000).astype(np.float32)
    assert sum(quotient(number) is not None for number in numbers) < 40


@pytest.mark.parametrize("n", [3, 5, 10])
def test_the_reading_is_a_condition(n):
    proof = prove_vjp(rule(lambda n: 1 / n), mean, str(n))
    assert proof.status == "conditional"
    assert [o.claim for o in proof.obligations if not o.discharged] == [
        f"{np.float32(1 / n)!s} is read as 1/{n}"
    ]
    assert f"provided that {np.float32(1 / n)!s} is read as 1/{n}" in proof.claim


def test_at_symbolic_sizes_the_conditions_are_those_of_the_numbers():
    proof = prove_vjp(rule(lambda n: 1 / n), mean, "n")
    assert proof.status == "conditional"
    assert all(o.discharged or "is read as 1/" in o.claim for o in proof.obligations)


def test_nothing_is_read_where_nothing_need_be():
    """The same literal on both sides, 1/2, and ε: proved as before, and no condition is made."""
    scaled = with_rule(lambda x: x * 0.2, lambda args, dy: (dy * 0.2,))
    assert prove_vjp(scaled, lambda x: 0.2 * x, "5").status == "proved"
    assert prove_vjp(rule(lambda n: 0.5), mean, "2").status == "proved"


def test_a_reading_serves_a_power_and_a_root():
    def primal(x):
        return x / jnp.sqrt(jnp.sum(x * x) / 5 + 2)

    def op(x):
        return x * (jnp.sum(x * x) * (1 / 5) + 2) ** -0.5

    assert prove_vjp(op, primal, "5").status == "conditional"
    assert prove_vjp(lambda x: x / 0.2, lambda x: 5 * x, "5").status == "conditional"
    assert prove_vjp(lambda x: x * 0.2**2 * 25, lambda x: x, "5").status == "conditional"
    assert prove_vjp(lambda x: 2 * op(x), primal, "5").status == "refuted"


@pytest.mark.parametrize(
    ("scale", "n"),
    [
        (lambda n: 1 / (n + 1), 5),
        (lambda n: 0.2000001, 5),
        (lambda n: 0.333, 3),
        (lambda n: -1 / n, 5),
        (lambda n: np.nextafter(np.float32(0.2), np.float32(1)), 5),
        (lambda n: 1 / n**2, 7),
        (lambda n: (1 / n) * (1 + 1e-5), 7),
    ],
)
def test_a_wrong_literal_is_refuted(scale, n):
    assert prove_vjp(rule(scale), mean, str(n)).status == "refuted"


def test_what_float64_shows_to_differ_is_refuted_though_a_reading_would_make_it_equal():
    """3·0.1 − 0.3 is 0 of the quotients, and 5.6e-17 of the numbers."""

    def op(x):
        return x + 1e12 * (0.1 * x * 3 - 0.3 * x)

    assert prove_vjp(op, lambda x: x, "3").status == "refuted"


def test_no_branch_is_decided_by_a_reading():
    """Of 0.1·3 and 0.3 the quotients are equal and the floats are not."""

    @jax.jit
    def differ(a):
        return a * 0.1 * 3 != a * 0.3

    def op(x):
        return jnp.where(differ(jnp.float32(x.shape[0]) + 0 * jnp.sum(x)), x, 3 * x) * 5 * 0.2

    def divided(x):
        return jnp.where(1 / (x * 0.1 * 10) == 1 / x, x, 3 * x) * 5 * 0.2

    def largest(x):
        return jnp.maximum(x * x * (5 * 0.2) + 1 - x * x * 0.2 * 5, 1) * x * 5 * 0.2

    for wrong in (op, divided, largest):
        assert prove_vjp(wrong, lambda x: x, "5").status not in ("proved", "conditional")


def test_a_branch_that_no_literal_takes_part_in_is_no_hindrance():
    def primal(x):
        return jnp.where(x > 0, x, 2 * x) / 5

    def op(x):
        return jnp.where(x > 0, x, 2 * x) * (1 / 5)

    assert prove_vjp(op, primal, "5").status == "conditional"
    assert prove_vjp(lambda x: op(-x), primal, "5").status == "refuted"


def test_a_literal_read_is_an_unknown_but_for_the_last_comparison():
    field = Field(reads_quotients=True)
    x = field.atom(Atom("x", ("n",)))
    fifth = field.literal(np.float32(0.2))
    assert fifth.constant() is None
    assert (fifth * field.constant(5)).constant() is None
    assert field.vanishes(x * fifth * field.constant(5) - x)
    assert field.vanishes(field.literal(np.float32(-0.2)) + fifth)
    root = field.root(x * x + fifth)
    assert field.vanishes(field.constant(5) * root * root - field.constant(5) * x * x - field.constant(1))
    assert not field.vanishes(field.constant(5) * root * root - field.constant(5) * x * x)
    assert not field.vanishes(fifth - field.constant(Fraction(float(np.float32(0.2)))))
    assert [o.claim for o in field.obligations.values() if "read" in o.claim] == [
        "0.2 is read as 1/5",
        "-0.2 is read as -1/5",
    ]
    exact = Field()
    assert exact.literal(np.float32(0.2)).constant() == Fraction(float(np.float32(0.2)))


def test_coq_is_given_the_literal_exactly():
    script = prove_vjp(rule(lambda n: 1 / n), mean, "5").coq()
    assert "(13421773 / 67108864)" in script
    assert "(1 / 5)" not in script


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (2 / 5, "2/5"),
        (0.044715, "8943/200000"),
        (-1e-5, "-1/100000"),
        (math.sqrt(2), "√(2)"),
        (-math.sqrt(0.5), "-√(1/2)"),
        (math.pi, "√(π²)"),
        (math.sqrt(2 / math.pi), "√(2/π)"),
        (2 / math.sqrt(math.pi), "√(4/π)"),
        (1 / math.sqrt(2 * math.pi), "√(1/(2·π))"),
        (1 / math.pi, "√(1/π²)"),
        (math.log(2), "log(2)"),
        (-1.5 * math.log(2), "-3·log(2)/2"),
        (1 / math.log(10), "1/log(10)"),
        (0.5 / math.log(2), "1/(2·log(2))"),
    ],
)
def test_a_rounded_root_and_decimals_are_recognized(number, words):
    assert str(reading(np.float32(number))) == words
    for beside in (-2, 2):
        other = reading(np.nextafter(np.float32(number), np.float32(beside)))
        assert other is None or str(other) != words


@pytest.mark.parametrize("number", [0.0, 1.0, 0.5, 12345.0, 2.0**-20, 0.8271236, np.float64(0.7978846)])
def test_what_is_no_rounding_of_such_a_number_is_read_as_none(number):
    assert reading(number if isinstance(number, np.float64) else np.float32(number)) is None


def test_most_floats_are_read_as_nothing():
    numbers = np.random.default_rng(0).uniform(0.1, 10, 2000).astype(np.float32)
    readings = [read for number in numbers if (read := reading(number)) is not None]
    assert len(readings) < 120
    assert not any(read.pi or read.root != 1 for read in readings)


def gelu(x):
    return 0.5 * x * (1 + jax.lax.erf(x * 0.70710678))


def gelu_rule(scale, half=0.5):
    """The derivative by the density of the normal distribution, its factor a literal."""

    def backward(args, dy):
        (x,) = args
        return (dy * (0.5 * (1 + jax.lax.erf(x / jnp.sqrt(2.0))) + x * scale * jnp.exp(-half * x * x)),)

    return with_rule(gelu, backward)


@pytest.mark.thorough
def test_a_gaussian_with_rounded_factors_is_conditional_on_them():
    proof = prove_vjp(gelu_rule(0.3989422804), gelu, "n")
    assert proof.status == "conditional", str(proof)
    assert "0.3989423 is read as √(1/(2·π))" in proof.claim
    assert "0.70710677 is read as √(1/2)" in proof.claim
    for wrong in (gelu_rule(0.39894), gelu_rule(0.398943), gelu_rule(0.3989422804, 0.5000001)):
        assert prove_vjp(wrong, gelu, "n").status == "refuted"


def gelu_by_tanh(x):
    return 0.5 * x * (1 + jnp.tanh(0.7978845608 * (x + 0.044715 * x**3)))


@pytest.mark.thorough
def test_decimals_that_are_multiplied_out_are_conditional_on_them():
    def rule(cubed):
        def backward(args, dy):
            (x,) = args
            t = jnp.tanh(0.7978845608 * (x + 0.044715 * x**3))
            return (dy * 0.5 * (1 + t + x * (1 - t * t) * 0.7978845608 * (1 + cubed * x * x)),)

        return with_rule(gelu_by_tanh, backward)

    proof = prove_vjp(rule(0.134145), gelu_by_tanh, "n")
    assert proof.status == "conditional", str(proof)
    assert "0.134145 is read as 26829/200000" in proof.claim
    assert prove_vjp(rule(0.134146), gelu_by_tanh, "n").status == "refuted"


@pytest.mark.thorough
def test_a_comparison_of_literals_comes_out_as_they_are_and_not_as_they_are_read():
    """0.1·x + 0.2·x − 0.3·x is 0 of the decimals, and not of the floats; of 0.9·x + 0.1·x both see x."""

    def primal(x):
        return jnp.maximum(0.9 * x, -0.1 * x) / 5

    assert prove_vjp(lambda x: jnp.maximum(0.9 * x, -0.1 * x) * 0.2, primal, "n").status == "conditional"

    def wrong(x):
        return jnp.where(0.1 * x + 0.2 * x - 0.3 * x == 0, x, 2 * x) * 5 * 0.2

    assert prove_vjp(wrong, lambda x: x, "n").status not in ("proved", "conditional")


def test_a_literal_of_python_is_the_float_that_the_program_computes_with():
    """Handed to a jitted function, 0.9 stands in the program as Python's number, of 53 bits."""

    def scaled(x):
        return x * 0.9

    chosen = with_rule(scaled, lambda args, dy: (jnp.where(args[0] > 0, 0.9, 0.9) * dy,))
    assert prove_vjp(chosen, scaled, "n").status == "proved"
    other = with_rule(scaled, lambda args, dy: (jnp.where(args[0] > 0, 0.9, 0.9000001) * dy,))
    assert prove_vjp(other, scaled, "n").status == "refuted"


@pytest.mark.parametrize(
    ("primal", "backward", "read"),
    [
        (lambda x: jnp.exp2(x), lambda a, dy: (dy * jnp.exp2(a[0]) * 0.6931471805599453,), "log(2)"),
        (lambda x: jnp.log2(x), lambda a, dy: (dy * 1.4426950408889634 / a[0],), "1/log(2)"),
        (lambda x: jnp.log10(x), lambda a, dy: (dy / (2.302585092994046 * a[0]),), "log(10)"),
    ],
    ids=["exp2", "log2", "log10"],
)
def test_a_rounded_logarithm_of_two_or_ten_is_one(primal, backward, read):
    proof = prove_vjp(with_rule(primal, backward), primal, "n", positive=(0,))
    assert proof.status == "conditional"
    assert all(o.discharged or "is read as" in o.claim for o in proof.obligations)
    assert f"is read as {read}" in proof.claim
    wrong = with_rule(primal, lambda args, dy: (1.0001 * backward(args, dy)[0],))
    assert prove_vjp(wrong, primal, "n", positive=(0,)).status == "refuted"
