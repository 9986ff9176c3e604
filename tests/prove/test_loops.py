"""A loop that only adds up is read as a sum; any other is refused by name."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bnjax.jaxprs import equations
from bnjax.prove import prove_vjp
from bnjax.prove.algebra import Outside
from bnjax.prove.loops import as_sum, without_loop
from tests.prove.rules import with_rule


def summed(x, w):
    """Σ over the rows of x, one at a time."""
    return lax.scan(lambda total, row: (total + row * w, None), jnp.zeros_like(w), x)[0]


def plain(x, w):
    return x.sum(0) * w


def scan_of(function, *args):
    (eqn,) = [e for e in jax.make_jaxpr(function)(*args).eqns if e.primitive.name == "scan"]
    return eqn


def test_the_sum_is_what_the_loop_computes():
    def function(start, x):
        return lax.scan(lambda total, row: (total + row.sum() ** 2, row * 2), start, x)

    start, x = jnp.float32(3), jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), jnp.float32)
    program = as_sum(scan_of(function, start, x))
    total, rows = jax.core.eval_jaxpr(program.jaxpr, program.consts, start, x)
    expected, kept = function(start, x)
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    np.testing.assert_array_equal(rows, kept)


MORE = {
    "a product": lambda total, row: (total * row, None),
    "a term of the carry": lambda total, row: (total + total * row, None),
    "a carry that is seen": lambda total, row: (total + row, total),
    "a sum that is seen": lambda total, row: (total + row, total + row),
    "twice the carry": lambda total, row: (total + total, None),
    "another order": lambda total, row: (row + 0 * row, None),
}


@pytest.mark.parametrize("name", MORE)
def test_a_loop_that_does_more_is_refused(name):
    eqn = scan_of(lambda x: lax.scan(MORE[name], jnp.float32(1), x), jnp.ones(3))
    with pytest.raises(Outside, match="loop"):
        as_sum(eqn)


STEPS = {
    "a product": lambda carry, row: (carry * row, None),
    "a running mean": lambda carry, row: (0.75 * carry + 0.25 * row, None),
    "all of its sums": lambda carry, row: (carry + row, carry + row),
    "a square of the carry": lambda carry, row: (carry**2 + row, carry),
}


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("reverse", [False, True])
def test_a_loop_of_few_steps_is_these_steps(name, reverse):
    def looped(start, x):
        return lax.scan(STEPS[name], start, x, reverse=reverse)

    start, x = jnp.float32(2), jnp.asarray([1.0, 3.0, 5.0], jnp.float32)
    program = without_loop(scan_of(looped, start, x))
    results = jax.core.eval_jaxpr(program.jaxpr, program.consts, start, x)
    assert not any(e.primitive.name == "scan" for e in equations(program))
    np.testing.assert_array_equal(np.hstack(results), np.hstack(jax.tree.leaves(looped(start, x))))


def test_a_loop_of_many_steps_or_of_a_symbol_is_refused():
    def product(x):
        return lax.scan(STEPS["a product"], jnp.float32(1), x)[0]

    with pytest.raises(Outside, match="loop"):
        without_loop(scan_of(product, jnp.ones(17)))
    assert prove_vjp(product, product, "n").status == "refused"


def looped_mean(x):
    return lax.scan(STEPS["a running mean"], jnp.zeros_like(x[0]), x)[0]


def test_a_rule_of_a_loop_is_proved_step_by_step_and_one_the_other_way_round_is_not():
    def backward(args, dy, order=1):
        weights = [0.25, 0.25 * 0.75, 0.25 * 0.75**2][::-order]
        return (jnp.stack([w * dy for w in weights]),)

    wrong = with_rule(looped_mean, lambda args, dy: backward(args, dy, -1))
    assert prove_vjp(with_rule(looped_mean, backward), looped_mean, "3 d").status == "proved"
    assert prove_vjp(wrong, looped_mean, "3 d").status == "refuted"


def test_a_carry_that_stays_is_no_hindrance():
    """Of a sum of squares JAX's backward loop carries dy along as it is."""

    def squares(x):
        return lax.scan(lambda total, row: (total + row * row, None), jnp.zeros_like(x[0]), x)[0]

    assert prove_vjp(with_rule(squares, lambda a, dy: (2 * a[0] * dy,)), squares, "n d").status == "proved"
    assert prove_vjp(with_rule(squares, lambda a, dy: (a[0] * dy,)), squares, "n d").status == "refuted"


def test_two_carries_that_change_places_are_refused():
    def swap(carry, row):
        return (carry[1] + row, carry[0] + row), None

    eqn = scan_of(lambda x: lax.scan(swap, (jnp.float32(1), jnp.float32(2)), x), jnp.ones(3))
    with pytest.raises(Outside, match="loop"):
        as_sum(eqn)


def test_a_rule_that_sums_in_a_loop_is_proved_and_a_wrong_one_is_not():
    def backward(args, dy, factor=1):
        x, w = args
        return jnp.broadcast_to(dy * w, x.shape), factor * summed(x, dy)

    right = with_rule(plain, backward)
    wrong = with_rule(plain, lambda args, dy: backward(args, dy, 2))
    assert prove_vjp(right, plain, "n m", "m").status == "proved"
    assert prove_vjp(wrong, plain, "n m", "m").status in ("refused", "refuted")


def test_a_loop_over_nothing_but_its_count():
    def primal(x):
        return lax.scan(lambda total, _: (total + x, None), 0 * x, None, length=5)[0]

    assert prove_vjp(with_rule(primal, lambda args, dy: (5 * dy,)), primal, "n").status == "proved"
    assert prove_vjp(with_rule(primal, lambda args, dy: (4 * dy,)), primal, "n").status == "refuted"


@pytest.mark.family
@pytest.mark.parametrize("dtype", [jnp.uint8, jnp.int8])
def test_a_count_keeps_the_dtype_of_its_carry(dtype):
    """It wraps there; `sum` by itself would count in 32 bits."""

    def primal(x, kept):
        return x * lax.scan(lambda c, k: (c + k.astype(dtype), None), dtype(0), kept)[0].astype(x.dtype)

    op = with_rule(primal, lambda args, dy: (dy * args[1].sum(), None))
    for size in ("n", "300"):
        assert prove_vjp(op, primal, size, f"bool: {size}").status in ("refused", "refuted"), size
    assert prove_vjp(op, primal, "100", "bool: 100").status == "proved"
