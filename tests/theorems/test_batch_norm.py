"""What theorem 34 says besides its VJP: the composition, the invariants, the edge values."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import THEOREMS, affine, batch_norm, inverse_stddev, normalize
from bnjax.theorems import batch_norm_with_statistics
from tests.theorems.cases import EPS, EVERY_CASE, arguments, batch_size, reduced

THEOREM_34 = THEOREMS[-1]


@pytest.mark.family
@EVERY_CASE
def test_is_affine_after_normalize_in_value_and_every_cotangent(shape, axis):
    def composed(x, gamma, beta, eps):
        return affine(normalize(x, eps, axis=axis), gamma, beta, axis=axis)

    def fused(x, gamma, beta, eps):
        return batch_norm(x, gamma, beta, eps, axis=axis)

    with jax.enable_x64(True):
        args = arguments(THEOREM_34, shape, axis)
        y, vjp = jax.vjp(fused, *args)
        expected_y, expected_vjp = jax.vjp(composed, *args)
        dy = jnp.asarray(np.random.default_rng(0).normal(size=shape))
        chex.assert_trees_all_close(y, expected_y, rtol=1e-13, atol=1e-13)
        chex.assert_trees_all_close(vjp(dy), expected_vjp(dy), rtol=1e-11, atol=1e-12)


@pytest.mark.family
@EVERY_CASE
def test_invariants(shape, axis):
    """Σ x̂ = 0, Σ x̂² = n(1 − ε·istd²), Σ dx = 0, ⟨dx, x̂⟩ = γ·istd·ε·istd²·⟨dy, x̂⟩, per channel."""
    axes = reduced(shape, axis)
    with jax.enable_x64(True):
        x, gamma, beta, eps = arguments(THEOREM_34, shape, axis)
        dy = jnp.asarray(np.random.default_rng(0).normal(size=shape))
        x_hat, istd = normalize(x, eps, axis=axis), inverse_stddev(x, eps, axis=axis)
        dx = jax.vjp(lambda x: batch_norm(x, gamma, beta, eps, axis=axis), x)[1](dy)[0]
        n = batch_size(shape, axis)
        close = {"rtol": 1e-11, "atol": 1e-11}
        np.testing.assert_allclose(jnp.sum(x_hat, axes), 0, **close)
        np.testing.assert_allclose(jnp.sum(x_hat**2, axes), n * (1 - eps * istd**2), **close)
        np.testing.assert_allclose(jnp.sum(dx, axes), 0, **close)
        expected = gamma * istd * eps * istd**2 * jnp.sum(dy * x_hat, axes)
        np.testing.assert_allclose(jnp.sum(dx * x_hat, axes), expected, **close)


@pytest.mark.parametrize("n", [2, 3, 8])
def test_spectrum_of_the_normalize_jacobian(n):
    """0 on 1, ε·istd³ on x̂, istd on the rest."""
    with jax.enable_x64(True):
        x, eps = arguments(THEOREMS[4], (n,), 0)
        istd = float(inverse_stddev(x, eps))
        eigenvalues = np.linalg.eigvalsh(THEOREMS[4].jacobian(x, eps))
        expected = sorted([0, EPS * istd**3] + [istd] * (n - 2))
        np.testing.assert_allclose(eigenvalues, expected, rtol=1e-12, atol=1e-14)
        assert eigenvalues[-1] <= 1 / np.sqrt(EPS)


def test_a_batch_of_one_gives_beta_and_no_gradient():
    x, gamma, beta = jnp.array([[3.0, -4.0]]), jnp.array([2.0, 3.0]), jnp.array([0.5, -0.5])
    y, vjp = jax.vjp(lambda x: batch_norm(x, gamma, beta), x)
    chex.assert_trees_all_equal(y, beta[None])
    chex.assert_trees_all_equal(vjp(jnp.ones_like(y))[0], jnp.zeros_like(x))


def test_a_constant_channel_gives_one_over_root_eps_and_finite_gradients():
    x = jnp.full(6, 7.0)
    np.testing.assert_allclose(inverse_stddev(x, 0.25), 2.0, rtol=1e-6)
    dx = jax.grad(lambda x: jnp.sum(batch_norm(x, 1.0, 0.0, 0.25) ** 3 + x * jnp.arange(6)))(x)
    assert np.all(np.isfinite(dx))


@pytest.mark.parametrize("ratio", [10, 1_000, 10_000])
def test_gradient_survives_a_large_offset_in_float32(ratio):
    """At mean/std = 3000 the gradient through E[x²] − E[x]² is wrong by a factor of 10⁵."""
    rng = np.random.default_rng(0)
    x = jnp.asarray(ratio + rng.normal(size=(4096,)), jnp.float32)
    dy = jnp.asarray(rng.normal(size=(4096,)), jnp.float32)
    dx = jax.vjp(lambda x: batch_norm(x, 1.0, 0.0), x)[1](dy)[0]
    with jax.enable_x64(True):
        wide = jnp.asarray(x, jnp.float64)
        reference = jax.vjp(lambda x: THEOREM_34.primal(x, 1.0, 0.0), wide)[1](jnp.asarray(dy, jnp.float64))[
            0
        ]
    # μ is rounded to u·ratio, relative to σ = 1: that alone moves x̂ by as much
    error = np.max(np.abs(np.asarray(dx, np.float64) - np.asarray(reference)))
    error /= np.max(np.abs(reference))
    assert error < 8 * 2.0**-24 * (ratio + 16)


@pytest.mark.thorough
def test_statistics_are_the_batchs_and_constants_to_the_derivative():
    with jax.enable_x64(True):
        x, gamma, beta, eps = arguments(THEOREM_34, (6, 3), 0)
        y, mean, var, elements = batch_norm_with_statistics(x, gamma, beta, eps)
        chex.assert_trees_all_equal(y, batch_norm(x, gamma, beta, eps))
        np.testing.assert_allclose(mean, np.mean(x, 0), rtol=1e-14)
        np.testing.assert_allclose(var, np.var(x, 0), rtol=1e-14)
        assert elements == 6

        def loss(x):
            output = batch_norm_with_statistics(x, gamma, beta, eps)
            return jnp.sum(output.mean) + jnp.sum(output.var)

        chex.assert_trees_all_equal(jax.grad(loss)(x), jnp.zeros_like(x))


@pytest.mark.thorough
def test_second_order_through_the_statistics_op_sees_the_statistics():
    """The residuals must not carry the stop_gradient that the returned statistics do."""
    with jax.enable_x64(True):
        x, gamma, beta, eps = arguments(THEOREM_34, (6,), 0)

        def twice(f):
            return jax.grad(lambda x: jnp.sum(jax.grad(lambda x: jnp.sum(f(x) ** 3))(x) ** 2))(x)

        hand = twice(lambda x: batch_norm_with_statistics(x, gamma, beta, eps).y)
        reference = twice(lambda x: THEOREM_34.primal(x, gamma, beta, eps))
        np.testing.assert_allclose(hand, reference, rtol=1e-10)
