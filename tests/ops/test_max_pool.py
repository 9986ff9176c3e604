"""The max pool: Flax's in value and gradient, ties and all, and through `check_vjp`."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bnjax.check import check_vjp
from bnjax.ops import max_pool
from bnjax.ops.max_pool import max_pool_primal


def images(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def flaxs(x):
    return nnx.max_pool(x, (2, 2), strides=(2, 2))


@pytest.mark.parametrize("levels", [None, 3], ids=["no ties", "ties"])
def test_is_flaxs_in_value_and_gradient(levels):
    x = images(3, 8, 6, 5)
    x = x if levels is None else np.round(x * levels / 4)
    weights = images(3, 4, 3, 5, seed=1)
    np.testing.assert_array_equal(max_pool(x), flaxs(x))
    ours, theirs = (jax.grad(lambda x, f=f: jnp.sum(f(x) * weights))(x) for f in (max_pool, flaxs))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.thorough
def test_the_rule_is_accepted():
    report = check_vjp(max_pool, max_pool_primal, images(2, 4, 4, 3))
    assert report.ok, report


@pytest.mark.thorough
def test_a_rule_that_takes_the_wrong_corner_is_refused():
    wrong = jax.custom_vjp(max_pool_primal)
    wrong.defvjp(
        lambda x: (max_pool_primal(x), x), lambda x, dy: (jax.vjp(max_pool_primal, x[:, ::-1])[1](dy)[0],)
    )
    report = check_vjp(wrong, max_pool_primal, images(2, 4, 4, 3))
    assert any(f.stage == "value" for f in report.failures), report


@pytest.mark.parametrize(
    ("shape", "window", "strides"), [((2, 5, 5, 2), (2, 2), (2, 2)), ((2, 6, 6, 2), (3, 3), (1, 2))]
)
def test_another_window_is_xlas(shape, window, strides):
    x = images(*shape)
    ours, theirs = (
        jax.value_and_grad(lambda x, f=f: jnp.sum(f(x, window, strides) ** 2))(x)
        for f in (max_pool, lambda x, w, s: nnx.max_pool(x, w, strides=s))
    )
    for got, want in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(got, want)


def test_a_nan_stays():
    x = images(1, 2, 2, 1)
    x[0, 0, 1, 0] = np.nan
    assert np.isnan(max_pool(x)).all()


def test_the_backward_pass_keeps_a_byte_an_output():
    x = images(2, 4, 4, 3)
    kept = jax.tree.leaves(jax.vjp(max_pool, x)[1])
    assert [(a.shape, a.dtype) for a in kept if a.size > 8] == [((2, 2, 2, 3), jnp.int8)]


def test_images_have_four_dimensions():
    with pytest.raises(ValueError, match="x must be images"):
        max_pool(jnp.ones((4, 4)))
