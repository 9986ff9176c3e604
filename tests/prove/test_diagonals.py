"""Comparisons of pairs, x_i > x_j: what is left out where numbers are equal is not left out at i = j."""

import jax
import jax.numpy as jnp
import pytest

from bnjax.prove import prove_vjp
from bnjax.prove.algebra import Atom
from bnjax.prove.comparisons import above
from bnjax.prove.field import Field
from bnjax.prove.vanishing import Question, vanishes
from tests.prove.rules import with_rule


def mean_where_equal(args, dy):
    (x,) = args
    return (jnp.where(x > x.T, dy + dy.T, jnp.where(x == x.T, (dy + dy.T) / 2, 0)),)


def nothing_where_equal(args, dy):
    return (jnp.where(args[0] > args[0].T, dy + dy.T, 0),)


def everything_where_equal(args, dy):
    return (jnp.where(args[0] >= args[0].T, dy + dy.T, 0),)


def with_the_diagonal(args, dy):
    return (nothing_where_equal(args, dy)[0] + 7 * dy * jnp.eye(dy.shape[0]),)


LARGER_OF_TWO = {
    "maximum": lambda x: jnp.maximum(x, x.T),
    "a selection": lambda x: jnp.where(x > x.T, x, x.T),
    "relu": lambda x: jax.nn.relu(x - x.T) + x.T,
    "abs": lambda x: (x + x.T + jnp.abs(x - x.T)) / 2,
}


@pytest.mark.parametrize("shape", ["N N", pytest.param("3 3", marks=pytest.mark.thorough)])
@pytest.mark.parametrize("name", LARGER_OF_TWO)
def test_of_an_element_and_its_transpose_the_diagonal_is_both(name, shape):
    primal = LARGER_OF_TWO[name]

    def autodiff(args, dy):
        return jax.vjp(primal, *args)[1](dy)

    assert prove_vjp(with_rule(primal, autodiff), primal, shape).status == "proved"
    for wrong in (nothing_where_equal, everything_where_equal, with_the_diagonal):
        assert prove_vjp(with_rule(primal, wrong), primal, shape).status == "refuted"


def test_off_the_diagonal_the_mean_is_right_where_two_are_equal():
    primal = LARGER_OF_TWO["maximum"]
    proof = prove_vjp(with_rule(primal, mean_where_equal), primal, "N N")
    assert proof.status == "proved"
    assert proof.kinks == ("x[a,b] − x[b,a] ≠ 0 (a ≠ b)",)


def pairs(v):
    return jnp.sum((v[:, None] + 0 * v[None]) ** 2, 1)


def halved_where_not_larger(args, dy):
    (v,) = args
    weights = jnp.where(v[:, None] <= v[None], 1.0, 0.5)
    return (2 * v * dy * jnp.sum(weights**2, 1),)


@pytest.mark.parametrize("shape", ["N", "4"])
def test_a_weight_of_every_pair_is_seen(shape):
    assert prove_vjp(with_rule(pairs, halved_where_not_larger), pairs, shape).status == "refuted"
    right = with_rule(pairs, lambda args, dy: (2 * args[0].shape[0] * args[0] * dy,))
    assert prove_vjp(right, pairs, shape).status == "proved"


def once(x, v):
    return x * 1.0


@pytest.mark.parametrize("shapes", [("3 3", "3"), ("N N", "N")])
def test_a_factor_of_the_larger_and_another_of_the_rest(shapes):
    def rule(args, dy):
        return dy * jnp.where(args[1][:, None] > args[1], 1.0, 0.5), 0 * args[1]

    assert prove_vjp(with_rule(once, rule), once, *shapes).status == "refuted"


def chosen(v, y):
    return jnp.where(v[:, None] > v, y, 3 * y)


@pytest.mark.parametrize("shapes", [("3", "3 3"), ("N", "N N")])
def test_no_cotangent_is_zero_on_every_pair(shapes):
    def rule(args, dy):
        v, _ = args
        return 0 * v, jnp.where(v[:, None] > v, dy, 3 * dy)

    assert prove_vjp(with_rule(chosen, rule), chosen, *shapes).status == "proved"
    for factor in (0, 1):
        wrong = with_rule(
            chosen, lambda args, dy, f=factor: (0 * args[0], f * rule(args, dy)[1] + (f and dy))
        )
        assert prove_vjp(wrong, chosen, *shapes).status == "refuted"


@pytest.mark.thorough
def test_three_indices_two_of_which_may_be_equal():
    """Of x_i, x_j, x_k the comparison of the first two is none at i = j, whatever k is."""

    def primal(x, y):
        return jnp.where((x[:, None] > x)[:, :, None], y, 2 * y)

    def rule(args, dy, at_equal):
        x, _ = args
        larger = (x[:, None] > x) | (at_equal & jnp.eye(x.shape[0], dtype=bool))
        return 0 * x, jnp.where(larger[:, :, None], dy, 2 * dy)

    right = with_rule(primal, lambda args, dy: rule(args, dy, False))
    assert prove_vjp(right, primal, "N", "N N N").status == "proved"
    wrong = with_rule(primal, lambda args, dy: rule(args, dy, True))
    assert prove_vjp(wrong, primal, "N", "N N N").status == "refuted"


def test_an_index_that_is_summed_over_is_none_of_which_something_is_known():
    """The sum of the y_i at which z_i is not below x_a is not 0, though z_b is below x_a."""
    field = Field()
    field.size("n")
    for name in "xyz":
        field.atom(Atom(name, ("n",)))
    gap = field.entry("x", (0,)) - field.entry("z", (1,))
    rest = (field.constant(1) - above(field, gap)) * field.entry("y", (1,))
    known = Question(positive=(gap,))
    assert vanishes(field, rest, known)
    assert not vanishes(field, field.total(rest, 1, "n"), known)
