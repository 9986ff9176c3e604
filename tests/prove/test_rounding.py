"""The certified rounding bound contains what the CPU returns, and is not so wide as to contain anything."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bnjax.prove.reals import Unsupported
from bnjax.theorems import THEOREMS, batch_norm

pytest.importorskip("flint")
from bnjax.prove import rounding
from bnjax.prove.rounding import rounding_bound, vjp_rounding_bound

SCALAR_OUTPUT = (30, 31)
PARAMETERS = {
    28: (1.5, -0.5),
    29: (),
    30: (1e-5,),
    31: (1e-5,),
    32: (1e-5,),
    33: (1.5, -0.5),
    34: (1.5, -0.5, 1e-5),
}


def arguments(theorem, n, seed=0, offset=0.0):
    source = np.random.default_rng((seed, n))
    x = jnp.asarray(offset + source.normal(size=n), jnp.float32)
    dy = jnp.asarray(source.normal(size=() if theorem.number in SCALAR_OUTPUT else n), jnp.float32)
    return dy, x, *(jnp.float32(p) for p in PARAMETERS[theorem.number])


def program(op):
    def run(dy, *args):
        value, pull = jax.vjp(op, *args)
        return value, *pull(dy)

    return run


@pytest.mark.family
@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: f"theorem {theorem.number}")
@pytest.mark.parametrize("n", [8, 128, 4096])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_the_bound_contains_what_the_machine_returns(theorem, n, offset):
    dy, *args = arguments(theorem, n, offset=offset)
    bound = vjp_rounding_bound(theorem.op, dy, *args)
    run = program(theorem.op)
    assert bound.contains(run(dy, *args))
    assert bound.contains(jax.jit(run)(dy, *args))
    # and not something that is wrong by ten bounds
    wrong = [e + 10 * b for e, b in zip(bound.exact, bound.bounds, strict=True)]
    assert not bound.contains(wrong)


@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda theorem: f"theorem {theorem.number}")
def test_it_is_sharp_enough_to_say_something_for_small_batches(theorem):
    dy, *args = arguments(theorem, 8)
    bound = vjp_rounding_bound(theorem.op, dy, *args)
    assert bound.helpful
    assert max(bound.relative) < 1e-4
    assert "too loose" not in str(bound)


def test_it_says_where_it_is_too_loose_to_help():
    """A mean of 3000 standard deviations: what x − μ leaves is rounding."""
    theorem = THEOREMS[-1]
    dy, *args = arguments(theorem, 4096, offset=3000.0)
    bound = vjp_rounding_bound(theorem.op, dy, *args)
    assert not bound.helpful
    assert str(bound).endswith("too loose to help")
    assert bound.contains(program(theorem.op)(dy, *args))


def test_the_real_value_is_that_of_exact_arithmetic():
    x = jnp.asarray([1.0, 3.0], jnp.float32)
    bound = rounding_bound(lambda x: (jnp.mean(x), x / jnp.mean(x) - 0.5), x)
    assert bound.exact[0] == 2.0
    np.testing.assert_array_equal(bound.exact[1], [0.0, 1.0])


def test_float64_is_bounded_by_its_own_roundoff():
    theorem = THEOREMS[-1]
    dy, *args = arguments(theorem, 64)
    narrow = vjp_rounding_bound(theorem.op, dy, *args)
    with jax.enable_x64(True):
        dy, *args = (jnp.asarray(a, jnp.float64) for a in (dy, *args))
        wide = vjp_rounding_bound(theorem.op, dy, *args)
        assert wide.contains(program(theorem.op)(dy, *args))
    assert max(wide.relative) < 1e-6 * max(narrow.relative)


def test_bfloat16_outputs_round_at_their_own_precision():
    theorem = THEOREMS[-1]
    dy, x, *rest = arguments(theorem, 32)
    x, dy = x.astype(jnp.bfloat16), dy.astype(jnp.bfloat16)
    bound = vjp_rounding_bound(theorem.op, dy, x, *rest)
    assert bound.contains(program(theorem.op)(dy, x, *rest))
    assert bound.relative[0] > 1e-3


def test_images_and_matrix_products():
    source = np.random.default_rng(0)
    x, y = (jnp.asarray(source.normal(size=(4, 3, 3, 2)), jnp.float32) for _ in range(2))
    op = functools.partial(batch_norm, axis=(0, 1, 2))
    args = (x, jnp.ones(2), jnp.zeros(2), jnp.float32(1e-5))
    assert vjp_rounding_bound(op, y, *args).contains(program(op)(y, *args))

    def sums(x):
        return jnp.ones((1, 36), x.dtype) @ x.reshape(36, 2)

    assert rounding_bound(sums, x).contains([sums(x)])


def test_a_sum_over_a_vmapped_axis_is_rounded_like_any_other():
    def total(x):
        return jax.vmap(lambda row: lax.psum(row, "rows"), axis_name="rows")(x)

    x = jnp.asarray(np.random.default_rng(0).normal(size=(64, 3)), jnp.float32)
    bound = rounding_bound(total, x)
    assert bound.contains([total(x)])
    assert np.all(bound.bounds[0] > 0)


def test_without_the_widening_the_machine_is_not_contained(monkeypatch):
    """The negative control of the containment tests: the balls alone are too narrow."""
    monkeypatch.setattr(rounding._Rounded, "rounded", lambda self, eqn, operands, result: result)
    theorem = THEOREMS[-1]
    dy, *args = arguments(theorem, 128)
    assert not vjp_rounding_bound(theorem.op, dy, *args).contains(program(theorem.op)(dy, *args))


def test_a_primitive_without_a_model_is_refused():
    with pytest.raises(Unsupported, match="exp"):
        rounding_bound(jnp.exp, jnp.ones(3))


def test_a_program_that_returns_zero_has_no_relative_bound():
    bound = rounding_bound(lambda x: x - x, jnp.ones(3))
    assert bound.relative == (math.inf,)
    assert "real value is 0" in str(bound)


def test_the_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "flint", None)
    with pytest.raises(ImportError, match=r"bnjax\[proof\]"):
        rounding_bound(lambda x: x, jnp.ones(3))
