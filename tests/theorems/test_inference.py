"""Evaluation mode: the one-term rule against autodiff, and that it is another rule than theorem 34's."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import batch_norm
from bnjax.theorems import batch_norm_inference, batch_norm_inference_primal
from tests.theorems.cases import EPS, EVERY_CASE, kept_shape


def arguments(shape, axis, dtype=np.float64):
    rng = np.random.default_rng(0)
    kept = kept_shape(shape, axis)
    x, gamma, beta, mean = (rng.normal(size=s) for s in (shape, kept, kept, kept))
    return tuple(jnp.asarray(a, dtype) for a in (x, gamma, beta, mean, rng.uniform(0.1, 2, kept), EPS))


@pytest.mark.family
@EVERY_CASE
def test_vjp_is_autodiffs_in_every_argument(shape, axis):
    with jax.enable_x64(True):
        args = arguments(shape, axis)
        y, vjp = jax.vjp(partial(batch_norm_inference, axis=axis), *args)
        expected_y, expected_vjp = jax.vjp(partial(batch_norm_inference_primal, axis=axis), *args)
        chex.assert_trees_all_equal(y, expected_y)
        dy = jnp.asarray(np.random.default_rng(1).normal(size=shape))
        chex.assert_trees_all_close(vjp(dy), expected_vjp(dy), rtol=1e-12, atol=1e-12)


def test_it_has_one_term_where_training_has_three():
    """Along dy = 1 training's dx is 0, as y does not change when all of x moves; here it is not."""
    x, gamma, beta, mean, var, eps = arguments((6,), 0, np.float32)
    ones = jnp.ones(6)
    dx = jax.vjp(lambda x: batch_norm_inference(x, gamma, beta, mean, var, eps), x)[1](ones)[0]
    np.testing.assert_allclose(dx, gamma / np.sqrt(var + eps) * ones, rtol=1e-6)
    training_dx = jax.vjp(lambda x: batch_norm(x, gamma, beta, eps), x)[1](ones)[0]
    np.testing.assert_allclose(training_dx, 0, atol=1e-6)


def test_an_empty_batch_is_fine_as_the_statistics_are_given():
    _, *rest = arguments((6, 3), 0, np.float32)
    assert batch_norm_inference(jnp.ones((0, 3)), *rest).shape == (0, 3)


def test_statistics_of_another_shape():
    x, gamma, beta, mean, var, eps = arguments((6, 3), 0, np.float32)
    with pytest.raises(ValueError, match=r"mean must have the shape of x's kept axes, \(3,\), got \(6,\)"):
        batch_norm_inference(x, gamma, beta, jnp.ones(6), var, eps)
    with pytest.raises(ValueError, match=r"var must have the shape"):
        batch_norm_inference(x, gamma, beta, mean, jnp.ones(()), eps)
