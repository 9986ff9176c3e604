"""Exponentials and kinks: right rules are proved, wrong ones of the same kind are refuted."""

import functools

import jax
import jax.numpy as jnp
import pytest

import bnjax.ops
from bnjax.prove import prove_vjp
from bnjax.theorems.batch_norm import batch_norm_primal
from tests.prove.networks import KINKED, SMOOTH, STRAIGHT_THROUGH
from tests.prove.rules import with_rule

ROWS = SMOOTH | KINKED
BY_DEFAULT = ("sigmoid", "relu", "huber", "logsumexp", "two layers")


def marked(names):
    return [pytest.param(name, marks=() if name in BY_DEFAULT else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", marked(ROWS))
def test_a_right_rule_is_proved(name):
    row = ROWS[name]
    proof = prove_vjp(with_rule(row.primal, row.right), row.primal, *row.shapes, positive=row.positive)
    assert proof.status == "proved", str(proof)
    assert bool(proof.kinks) == (name in KINKED), "a kink is named where there is one, and nowhere else"


@pytest.mark.family
@pytest.mark.parametrize("name", marked(ROWS))
def test_a_wrong_rule_is_refuted(name):
    row = ROWS[name]
    for backward in row.wrong:
        proof = prove_vjp(with_rule(row.primal, backward), row.primal, *row.shapes, positive=row.positive)
        assert proof.status == "refuted", str(proof)
        assert proof.counterexample.float64[0] != proof.counterexample.float64[1]


@pytest.mark.parametrize("name", STRAIGHT_THROUGH)
def test_a_straight_through_estimator_is_refuted(name):
    primal = STRAIGHT_THROUGH[name]
    proof = prove_vjp(with_rule(lambda x: primal(x), lambda a, dy: (dy,)), lambda x: primal(x), "n")
    assert proof.status == "refuted", str(proof)


@pytest.mark.parametrize(
    "shapes",
    [("n", "", "", ""), pytest.param(("N H W C", "C", "C", ""), marks=pytest.mark.slow)],
    ids=lambda shapes: shapes[0],
)
def test_batch_norm_and_relu_in_one_rule_is_proved(shapes):
    axis = tuple(range(max(1, len(shapes[0].split()) - 1)))
    op = functools.partial(bnjax.ops.batch_norm_relu, axis=axis)

    def primal(*args):
        return jax.nn.relu(batch_norm_primal(*args, axis=axis))

    proof = prove_vjp(op, primal, *shapes, positive=(3,))
    assert proof.status == "proved", str(proof)
    assert "where t.0² = x3" in proof.kinks[0]

    wrong = with_rule(
        primal, lambda args, dy: jax.vjp(lambda *a: batch_norm_primal(*a, axis=axis), *args)[1](dy)
    )
    assert prove_vjp(wrong, primal, *shapes, positive=(3,)).status == "refuted"


def test_the_claim_says_where_the_derivative_is_claimed_and_what_is_there_on_a_kink():
    row = KINKED["relu"]
    claim = prove_vjp(with_rule(row.primal, row.right), row.primal, "n").claim
    assert "The derivative is claimed where x[a] ≠ 0." in claim
    assert "of its sides" in claim
    assert "underflow" in claim


def scaled_exp(factor):
    """exp, with a hand VJP times factor(x)."""
    return with_rule(lambda x: jnp.exp(x), lambda a, dy: (dy * jnp.exp(a[0]) * factor(a[0]),))


def test_a_kink_of_the_rule_alone_is_named():
    """max(x, 0) + min(x, 0) is x, and has no kink; the rule's value where x = 0 is not its derivative."""

    def primal(x):
        return jnp.maximum(x, 0) + jnp.minimum(x, 0)

    torn = with_rule(primal, lambda a, dy: (dy * ((a[0] > 0) * 1.0 + (a[0] < 0)),))
    whole = with_rule(primal, lambda a, dy: (dy,))
    assert prove_vjp(torn, primal, "n").kinks == ("x[a] ≠ 0",)
    assert prove_vjp(whole, primal, "n").status == "proved"


ON_A_KINK = {
    "elementwise": scaled_exp(lambda x: jnp.where(x == 0, 7.0, 1.0)),
    "elsewhere": scaled_exp(lambda x: jnp.where(x == 1, 7.0, 1.0)),
    "of all": scaled_exp(lambda x: jnp.where(x.sum() == 0, 7.0, 1.0)),
    "the largest": scaled_exp(lambda x: 7 * ((x == x.max()) * 1.0).sum() - 6),
}


@pytest.mark.parametrize("name", ON_A_KINK)
def test_what_is_wrong_on_a_thin_set_only_is_a_condition(name):
    proof = prove_vjp(ON_A_KINK[name], lambda x: jnp.exp(x), "n")
    assert proof.status == "conditional", str(proof)
    assert "≠ 0" in proof.claim or "attained once" in proof.claim


def test_two_kinks_at_once_are_looked_at_together():
    def primal(x, y):
        return abs(x) + abs(y)

    def backward(args, dy):
        both = (args[0] == 0) & (args[1] == 0)
        return dy * jnp.where(both, 7.0, jnp.sign(args[0])), dy * jnp.sign(args[1])

    assert prove_vjp(with_rule(primal, backward), primal, "n", "n").status == "conditional"


OTHER_VALUES = {
    "at 0": (lambda x: jnp.where(x == 0, 5.0, x), lambda x: x),
    "the jump's other side": (lambda x: jnp.where(x >= 0, x + 1, x), lambda x: jnp.where(x > 0, x + 1, x)),
    "where two are equal": (lambda x: (x[0] == x[1]) * 3.0 + x, lambda x: x),
    "at 2": (lambda x: jnp.where(2 * x == 4, 5.0, x), lambda x: x),
    "of the largest": (lambda x: (x == x.max()).sum() * jnp.ones(()), lambda x: jnp.ones(()) + 0 * x[0]),
}


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_a_value_that_is_wrong_on_a_thin_set_is_wrong(name):
    """A derivative may not exist there; a value does."""
    op, primal = OTHER_VALUES[name]
    proof = prove_vjp(op, primal, "3")
    assert proof.status == "refuted", str(proof)
    assert proof.counterexample.what == "the output where nothing is differentiated"


def test_a_value_that_is_wrong_at_one_odd_number_is_at_least_not_called_right():
    proof = prove_vjp(lambda x: jnp.where(97 * x == 31, 5.0, x), lambda x: x, "3")
    assert proof.status == "refused"
    assert "the value" in proof.reason


NARROW = {
    "between −1/2 and 0": lambda x: x > -0.5,
    "between 0 and 1/9": lambda x: x > 1 / 9,
    "above 7": lambda x: (x > 0) & (x < 7),
    "below −20": lambda x: (x > 0) | (x < -20),
}


@pytest.mark.parametrize("name", NARROW)
def test_a_slope_that_is_wrong_in_a_narrow_place_is_refuted(name):
    op = with_rule(jax.nn.relu, lambda args, dy: (dy * NARROW[name](args[0]),))
    assert prove_vjp(op, jax.nn.relu, "n").status == "refuted"


TWO = {  # cotangents of max(a, b) where a = b, and what is claimed
    "to the first": (lambda a, b: (a >= b, b > a), "proved"),
    "to the last": (lambda a, b: (a > b, b >= a), "proved"),
    "half to each": (lambda a, b: ((a > b) + (a == b) / 2, (b > a) + (a == b) / 2), "proved"),
    "to both": (lambda a, b: (a >= b, b >= a), "conditional"),
    "to none": (lambda a, b: (a > b, b > a), "conditional"),
    "a side, and JAX's half": (lambda a, b: (a >= b, (b > a) + (a == b) / 2), "conditional"),
}


@pytest.mark.parametrize("name", TWO)
def test_cotangents_on_a_kink_are_of_one_side_together(name):
    slopes, status = TWO[name]
    op = with_rule(jnp.maximum, lambda args, dy: tuple(dy * slope for slope in slopes(*args)))
    assert prove_vjp(op, jnp.maximum, "n", "n").status == status


FOUR = {  # which of four takes the cotangent, where several are largest
    "the first": ((0, 1, 2, 3), "proved"),
    "the last": ((3, 2, 1, 0), "proved"),
    "the middle ones first": ((2, 1, 3, 0), "proved"),
    "none": ((), "conditional"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", FOUR)
def test_any_number_of_kinks_at_once_is_shown_by_one_direction(name):
    order, status = FOUR[name]

    def primal(*args):
        return jnp.maximum(jnp.maximum(args[0], args[1]), jnp.maximum(args[2], args[3]))

    def backward(args, dy):
        top, taken = primal(*args), jnp.zeros_like(dy)
        shares = [dy * ((args[k] > primal(*args[:k], -jnp.inf, *args[k + 1 :])) * 1.0) for k in range(4)]
        for k in order:
            shares[k] = dy * (args[k] == top) * (1 - taken)
            taken = jnp.maximum(taken, (args[k] == top) * 1.0)
        return tuple(shares)

    assert prove_vjp(with_rule(primal, backward), primal, *["n"] * 4).status == status


# what is compared with 0 is 0 on an open set, or everywhere, and the hand VJP takes the other side there
THICK = {
    "x + |x|": lambda x: x + abs(x),
    "x + √x²": lambda x: x + jnp.sqrt(x * x),
    "x − min(x, 0)": lambda x: x - jnp.minimum(x, 0),
    "Σ relu(x)": lambda x: jnp.maximum(x, 0).sum(),
    "e^x·e^−x − 1": lambda x: jnp.exp(x) * jnp.exp(-x) - 1,
    "tanh and logistic": lambda x: jnp.tanh(x) - (jnp.exp(x) - jnp.exp(-x)) / (jnp.exp(x) + jnp.exp(-x)),
    "roots": lambda x: jnp.sqrt(x * x + 1) * jnp.sqrt(x * x + 2) - jnp.sqrt((x * x + 1) * (x * x + 2)),
    "a constant's zeros": lambda x: x * jnp.array([0.0, 1.0, 2.0]),
    "the diagonal": lambda x: (x[:, None] - x[None, :]) @ jnp.ones_like(x) * 0 + jnp.maximum(x - x, 0),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if k % 4 == 0 else pytest.mark.slow) for k, n in enumerate(THICK)]
)
def test_the_wrong_side_of_what_is_zero_on_an_open_set_is_not_called_right(name):
    compared = THICK[name]

    def primal(x):
        return jnp.where(compared(x) > 0, x, 3 * x)

    def backward(args, dy):
        return (jnp.where(compared(args[0]) >= 0, dy, 3 * dy),)

    proof = prove_vjp(with_rule(primal, backward), primal, "3", timeout=20.0)
    assert proof.status in ("refused", "refuted"), str(proof)


@pytest.mark.parametrize("factor", [lambda n: n - 7, lambda n: n * n - 16])
def test_what_is_zero_at_one_size_is_no_thin_set(factor):
    """At n = 7 what is compared is 0 for every x, and the hand VJP takes the other side."""

    def primal(x):
        return jnp.where(factor(x.shape[0]) * x > 0, x, 3 * x)

    def backward(args, dy):
        return (jnp.where(factor(args[0].shape[0]) * args[0] >= 0, dy, 3 * dy),)

    assert prove_vjp(with_rule(primal, backward), primal, "n").status in ("refused", "refuted")


def test_the_diagonal_of_all_differences_is_no_thin_set():
    def primal(x):
        return jnp.where(x[:, None] - x[None, :] > 0, 1.0, 3.0) @ x

    def backward(args, dy):
        return (jnp.where(args[0][:, None] - args[0][None, :] >= 0, 1.0, 3.0).T @ dy,)

    assert prove_vjp(with_rule(primal, backward), primal, "n").status in ("refused", "refuted")


def test_what_a_case_implies_holds_in_that_case_only():
    """√(x + e) where x > 0: elsewhere x + e may be negative, and its relu has another slope."""

    def primal(x, e):
        return jnp.sqrt(jnp.where(x > 0, x + e, 1.0)) + jnp.maximum(x + e, 0)

    def backward(args, dy):
        x, e = args
        slope = jnp.where(x > 0, 0.5 / jnp.sqrt(jnp.where(x > 0, x + e, 1.0)), 0.0)
        return dy * (slope + 1), dy * (slope + 1)

    def right(args, dy):
        x, e = args
        slope = jnp.where(x > 0, 0.5 / jnp.sqrt(jnp.where(x > 0, x + e, 1.0)), 0.0)
        return dy * (slope + (x + e > 0)), dy * (slope + (x + e > 0))

    assert prove_vjp(with_rule(primal, backward), primal, "n", "n", positive=(1,)).status == "refuted"
    assert prove_vjp(with_rule(primal, right), primal, "n", "n", positive=(1,)).status == "proved"


def test_log_of_what_may_not_be_positive_is_a_condition():
    proof = prove_vjp(with_rule(jnp.log, lambda a, dy: (dy / a[0],)), jnp.log, "n")
    assert proof.status == "conditional"
    assert "x[a] > 0" in proof.claim


REFUSED = {
    "a mask of −inf": lambda x: jnp.where(x > 0, x, -jnp.inf),
    "overflow of a constant": lambda x: x + jnp.exp(jnp.full((), 100.0)) * 0,
    "log 0": lambda x: x * jnp.log(0 * x),
    "1/relu": lambda x: 1 / jnp.maximum(x, 0),
    "an index": lambda x: x * jnp.argsort(x),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_real_number_is_refused(name):
    proof = prove_vjp(REFUSED[name], REFUSED[name], "n")
    assert proof.status == "refused", str(proof)
    assert "test_networks.py:" in proof.where + proof.reason
