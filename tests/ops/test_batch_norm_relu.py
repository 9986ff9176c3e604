"""Batch norm and ReLU in one rule: the two apart in value and gradient, half the memory, `check_vjp`."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import batch_norm
from bnjax.check import check_vjp
from bnjax.ops import batch_norm_relu, batch_norm_relu_with_statistics
from bnjax.ops.batch_norm_relu import batch_norm_relu_primal
from bnjax.theorems import batch_norm_inference, batch_norm_with_statistics, sync_batch_norm

AXES = (0, 1, 2)


def arguments(*shape, seed=0):
    rng = np.random.default_rng(seed)
    x, gamma, beta = (rng.normal(size=s).astype(np.float32) for s in (shape, shape[-1:], shape[-1:]))
    return x, gamma, beta, np.float32(1e-3)


@pytest.mark.thorough
@pytest.mark.parametrize(("shape", "axis"), [((9,), 0), ((4, 2, 3, 2), AXES)], ids=["vector", "images"])
def test_the_rule_is_accepted(shape, axis):
    x, gamma, beta, eps = arguments(*shape)
    gamma, beta = (gamma, beta) if axis else (np.float32(1.3), np.float32(0.4))
    op, primal = (partial(f, axis=axis) for f in (batch_norm_relu, batch_norm_relu_primal))
    report = check_vjp(op, primal, x, gamma, beta, eps)
    assert report.ok, report


@pytest.mark.thorough
def test_a_rule_without_the_mask_is_refused():
    def wrong(x, gamma, beta, eps):
        z = batch_norm(x, gamma, beta, eps)
        return z + jax.lax.stop_gradient(jax.nn.relu(z) - z)

    report = check_vjp(wrong, batch_norm_relu_primal, arguments(9)[0], 1.3, 0.4, 1e-3)
    assert any(f.stage == "value" for f in report.failures), report


def test_is_relu_after_batch_norm():
    with jax.enable_x64(True):
        args = [jnp.asarray(a, jnp.float64) for a in arguments(4, 3, 3, 2)]
        dy = jnp.asarray(np.random.default_rng(1).normal(size=(4, 3, 3, 2)))
        one, two = (
            jax.vjp(f, *args)
            for f in (
                partial(batch_norm_relu, axis=AXES),
                lambda *a: jax.nn.relu(batch_norm(*a, axis=AXES)),
            )
        )
        # not the same bits: where a multiplication and an addition are one instruction is XLA's choice
        chex.assert_trees_all_close((one[0], one[1](dy)), (two[0], two[1](dy)), rtol=1e-13, atol=1e-13)


def test_the_statistics_are_those_of_batch_norm():
    args = arguments(4, 3, 3, 2)
    ours = batch_norm_relu_with_statistics(*args, axis=AXES)
    chex.assert_trees_all_equal(ours[1:], sync_batch_norm(*args, axis=AXES)[1:])
    expected = batch_norm_with_statistics(*args, axis=AXES)
    # a quotient by n, and a product with 1/n: float32's roundoff twice
    chex.assert_trees_all_close(ours[1:3], expected[1:3], rtol=2.0**-23)
    chex.assert_trees_all_equal(ours.elements, jnp.full(2, expected.elements, jnp.float32))


def sync(x, gamma, beta, *, axis):
    return sync_batch_norm(x, gamma, beta, axis=axis)[:3]


def evaluation(x, gamma, beta, *, axis):
    return batch_norm_inference(x, gamma, beta, beta, jnp.square(gamma), axis=axis)


@pytest.mark.parametrize("op", [batch_norm, batch_norm_relu, sync, evaluation])
def test_the_backward_pass_keeps_one_activation(op):
    x, gamma, beta, _ = arguments(8, 4, 4, 3)
    kept = jax.tree.leaves(jax.vjp(partial(op, axis=AXES), jnp.asarray(x), gamma, beta)[1])
    assert sum(a.size == x.size for a in kept) == 1
    assert all(a.size <= 3 for a in kept if a.size != x.size)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_stays(dtype):
    x, gamma, beta, eps = arguments(8, 3)
    y, vjp = jax.vjp(batch_norm_relu, jnp.asarray(x, dtype), gamma, beta, eps)
    assert [a.dtype for a in (y, *vjp(y))] == [dtype, dtype, jnp.float32, jnp.float32, jnp.float32]


def test_eps_must_be_positive():
    with pytest.raises(ValueError, match="eps must be positive"):
        batch_norm_relu(*arguments(4, 2)[:3], -1.0)
