"""Theorem 31: istd is smooth for ε > 0, its bounds are reached, and at ε = 0 they are gone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import inverse_stddev
from bnjax.theorems import gradient_norm_bound, partial_derivative_bound
from bnjax.theorems.inverse_stddev import inverse_stddev_primal

gradient = jax.grad(inverse_stddev)


def test_the_check_value():
    """n = 3, ε = 4, x = (2, −1, −1) attains the partial-derivative bound, 0.0453609."""
    with jax.enable_x64(True):
        x = jnp.array([2.0, -1.0, -1.0])
        np.testing.assert_allclose(partial_derivative_bound(3, 4.0), 0.0453609, rtol=1e-6)
        np.testing.assert_allclose(abs(gradient(x, 4.0)[0]), partial_derivative_bound(3, 4.0), rtol=1e-14)


@pytest.mark.parametrize("n", [2, 3, 8, 129])
@pytest.mark.parametrize("eps", [1e-5, 0.5, 4.0])
def test_bounds_are_reached(n, eps):
    """At σ² = ε/2 with one outlier both are equalities."""
    with jax.enable_x64(True):
        x = np.zeros(n)
        x[0] = 1.0
        x = jnp.asarray(x * np.sqrt(eps / 2 / x.var()))
        dx = gradient(x, eps)
        np.testing.assert_allclose(jnp.linalg.norm(dx), gradient_norm_bound(n, eps), rtol=1e-12)
        np.testing.assert_allclose(abs(dx[0]), partial_derivative_bound(n, eps), rtol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 8, 129])
def test_bounds_hold_and_only_there(n):
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        for scale in np.logspace(-3, 3, 25):
            dx = gradient(jnp.asarray(scale * rng.normal(size=n)), 0.3)
            assert jnp.linalg.norm(dx) < gradient_norm_bound(n, 0.3)
            assert jnp.max(jnp.abs(dx)) < partial_derivative_bound(n, 0.3)


def test_a_batch_of_one_has_no_gradient():
    assert partial_derivative_bound(1, 0.1) == 0
    assert gradient(jnp.array([3.0]), 0.1) == 0


def test_bounds_diverge_like_one_over_eps():
    np.testing.assert_allclose(gradient_norm_bound(8, 1e-6) / gradient_norm_bound(8, 1e-3), 1e3, rtol=1e-6)
    np.testing.assert_allclose(
        partial_derivative_bound(8, 1e-6) / partial_derivative_bound(8, 1e-3), 1e3, rtol=1e-6
    )


def test_without_eps_it_diverges_at_zero_variance_and_with_eps_it_does_not():
    constant = jnp.full(5, 2.0)
    istd, vjp = jax.vjp(jax.jit(inverse_stddev), constant, jnp.float32(0))
    assert np.isinf(istd)
    assert not np.any(np.isfinite(vjp(jnp.float32(1))[0]))
    assert np.isinf(inverse_stddev_primal(constant, 0.0))
    istd, vjp = jax.vjp(inverse_stddev, constant, jnp.float32(1e-5))
    np.testing.assert_allclose(istd, 1 / np.sqrt(1e-5), rtol=1e-6)
    np.testing.assert_array_equal(vjp(jnp.float32(1))[0], 0)


@pytest.mark.parametrize("bound", [gradient_norm_bound, partial_derivative_bound])
def test_bounds_refuse_an_empty_batch_and_a_bad_eps(bound):
    with pytest.raises(ValueError, match="n must be at least 1, got 0"):
        bound(0, 0.1)
    with pytest.raises(ValueError, match="eps must be positive and finite"):
        bound(3, 0.0)
