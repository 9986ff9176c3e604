"""Loops and branches in exact numbers: as JAX runs them; and wrong rules that have them, refuted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bnjax.prove import prove_vjp
from bnjax.prove.exact import Arithmetic, array_of, evaluate
from tests.prove.rules import with_rule


def running(x):
    return lax.scan(lambda c, row: (c * 2 + row, c * row), jnp.ones(2), x)


def backwards(x):
    return lax.scan(lambda c, row: (c - row, (c, row + 1)), jnp.zeros(2), x, reverse=True)


def halved(x):
    return lax.while_loop(lambda c: c[1] > 1, lambda c: (c[0] + c[1], c[1] / 2), (x, 5.0 + 0 * x.sum()))


def counted(x):
    return lax.fori_loop(0, 3, lambda k, c: c * x + k, x)


def branch(x):
    return lax.cond(x[0, 0] > 0, lambda y: 2 * y, lambda y: y * y, x)


def switch(x):
    return [lax.switch(k, [lambda y: y, lambda y: -y, lambda y: y + 1], x) for k in (-1, 1, 7)]


PROGRAMS = (running, backwards, halved, counted, branch, switch)


@pytest.mark.parametrize("program", PROGRAMS)
def test_exact_numbers_run_as_jax_does(program):
    with jax.enable_x64(True):
        x = np.array([[1.5, -2.0], [3.0, 0.25], [-1.0, 4.0]])
        jaxpr = jax.make_jaxpr(program)(x)
        exact = evaluate(jaxpr, [array_of(x, Arithmetic())], Arithmetic())
        expected = jax.tree.leaves(program(jnp.asarray(x)))
    for got, want in zip(exact, expected, strict=True):
        np.testing.assert_array_equal(got.astype(float), want)


@pytest.mark.parametrize("program", [running, counted, branch], ids=lambda program: program.__name__)
def test_a_wrong_rule_with_a_loop_is_refuted(program):
    def primal(x):
        return jax.tree.leaves(program(x))[-1]

    wrong = with_rule(primal, lambda args, dy: (2 * jax.vjp(primal, *args)[1](dy)[0],))
    proof = prove_vjp(wrong, primal, "3 2")
    assert proof.status == "refuted", str(proof)
    assert proof.counterexample.float64[0] == pytest.approx(2 * proof.counterexample.float64[1])


def test_a_loop_without_end_is_given_up():
    def primal(x):
        return lax.while_loop(lambda c: c[0] > 0, lambda c: (c[0] + 1, c[1]), (1.0, x))[1]

    assert prove_vjp(with_rule(lambda x: x, lambda args, dy: (2 * dy,)), lambda x: x, "2").status == "refuted"
    jaxpr = jax.make_jaxpr(primal)(1.0)
    with pytest.raises(Exception, match="many steps"):
        evaluate(jaxpr, [array_of(1.0, Arithmetic())], Arithmetic())
