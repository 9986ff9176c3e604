"""Whether what is compared is apart, told in float64, for arrays that are too large for exact numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.prove import prove_vjp
from bnjax.prove.apart import all_apart
from tests.prove.rules import with_rule

X = np.random.default_rng(0).normal(size=(64, 64))


def is_apart(function, x=X):
    return all_apart([jax.make_jaxpr(function)(jnp.float32(x))], [x])


APART = {
    "relu": lambda x: jnp.maximum(x, 0),
    "a number with itself": lambda x: jnp.where(x == x, x, jnp.nan),
    "a bound that is never reached": lambda x: jnp.maximum(x, -jnp.inf),
    "no comparison": lambda x: jnp.exp(x) @ x,
}
NOT_APART = {
    "equal numbers": lambda x: jnp.maximum(x + 1, 1 + x),
    "equal up to rounding": lambda x: jnp.where(jnp.sqrt(x * x + 1) ** 2 > x * x + 1, x, 3 * x),
    "a maximum that is one of them": lambda x: x == jnp.maximum(x, -x),
    "the largest of many": lambda x: x.max(),
    "what is not known": lambda x: jnp.sort(x),
    "not a number": lambda x: jnp.log(-jnp.abs(x)) > 0,
}


@pytest.mark.parametrize("name", APART)
def test_what_is_apart_is_told(name):
    assert is_apart(APART[name])


@pytest.mark.parametrize("name", NOT_APART)
def test_what_may_be_equal_is_not_called_apart(name):
    assert not is_apart(NOT_APART[name])


def test_a_proof_of_a_large_array_is_of_something():
    def primal(x):
        return jnp.maximum(x, 0)

    rule = with_rule(primal, lambda args, dy: (jnp.where(args[0] > 0, dy, 0),))
    assert prove_vjp(rule, primal, "n 5000").status == "proved"
