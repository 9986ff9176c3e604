"""Sums up to each element, along an axis whose size is a symbol; turned round before and after."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from bnjax.prove import prove_vjp
from tests.prove.rules import with_rule


def total(x):
    return jnp.cumsum(x, -1)


def from_the_end(x):
    return lax.cumsum(x, x.ndim - 1, reverse=True)


def by_turning(x):
    return jnp.flip(jnp.cumsum(jnp.flip(x, -1), -1), -1)


def by_steps(x):
    return jnp.cumsum(x[..., ::-1], -1)[..., ::-1]  # at a symbol's size JAX takes these by their positions


def by_matrix(x):
    return jnp.tril(jnp.ones((x.shape[0],) * 2)) @ x


def mean(x):
    return jnp.cumsum(x) / (1 + jnp.arange(x.shape[0]))


def log_of_sums(x):
    return jnp.log(jnp.cumsum(jnp.exp(x)))


CASES = {  # primal, right, wrong, shape
    "from the end": (total, lambda a, dy: (from_the_end(dy),), lambda a, dy: (total(dy),), "B T"),
    "by turning": (
        total,
        lambda a, dy: (by_turning(dy),),
        lambda a, dy: (dy.sum(-1, keepdims=True) - total(dy),),
        "B T",
    ),
    "by steps": (total, lambda a, dy: (by_steps(dy),), lambda a, dy: (total(dy[..., ::-1]),), "T"),
    "rows by steps": (total, lambda a, dy: (by_steps(dy),), lambda a, dy: (dy - by_steps(dy),), "B T"),
    "by matrices": (
        by_matrix,
        lambda a, dy: (jnp.triu(jnp.ones((dy.shape[0],) * 2)) @ dy,),
        lambda a, dy: (jnp.triu(jnp.ones((dy.shape[0],) * 2), 1) @ dy,),
        "T D",
    ),
    "means": (
        mean,
        lambda a, dy: (from_the_end(dy / (1 + jnp.arange(dy.shape[0]))),),
        lambda a, dy: (from_the_end(dy) / (1 + jnp.arange(dy.shape[0])),),
        "T",
    ),
    "logarithms": (
        log_of_sums,
        lambda a, dy: (jnp.exp(a[0]) * from_the_end(dy / jnp.cumsum(jnp.exp(a[0]))),),
        lambda a, dy: (jax.nn.softmax(a[0]) * from_the_end(dy),),
        "T",
    ),
}


@pytest.mark.family
@pytest.mark.parametrize("name", CASES)
def test_the_right_rule_is_proved_and_the_wrong_one_refuted(name):
    primal, right, wrong, shape = CASES[name]
    assert prove_vjp(with_rule(primal, right), primal, shape).status == "proved"
    assert prove_vjp(with_rule(primal, wrong), primal, shape).status == "refuted"


@pytest.mark.thorough
def test_an_array_that_is_turned_round_is_used_for_nothing_else():
    """Elements have no numbers there: y + flip(y) is refused, and a sum from the end that stays turned."""
    for function in (
        lambda x: x + jnp.flip(x),
        lambda x: jnp.cumsum(jnp.flip(x)),
        lambda x: jnp.exp(jnp.flip(x)),
    ):
        proof = prove_vjp(function, function, "n")
        assert proof.status == "refused"
        assert "turned round along n" in proof.reason
    assert prove_vjp(lambda x: jnp.flip(jnp.flip(x)), lambda x: x, "n").status == "proved"
    assert prove_vjp(lambda x: jnp.flip(x), lambda x: x, "n").status == "refuted"
    assert prove_vjp(lambda x: jnp.flip(jnp.flip(x, 0), 1), lambda x: x, "n n").status == "refuted"
