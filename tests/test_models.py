"""The chapter's two networks: sizes, initialization, and that they are one argument apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bnjax.models import CifarCNN, _max_pool, parameter_count
from bnjax.nn.nnx import BatchNorm


@pytest.mark.parametrize(("norm", "count"), [("batch", 2_431_210), ("none", 2_431_018)])
def test_parameter_counts_are_the_chapters(norm, count):
    assert parameter_count(CifarCNN(norm=norm, rngs=nnx.Rngs(0))) == count


@pytest.mark.parametrize("norm", ["batch", "none"])
def test_logits(norm):
    model = CifarCNN(norm=norm, rngs=nnx.Rngs(0))
    logits = model(jnp.ones((2, 32, 32, 3)))
    assert logits.shape == (2, 10)
    assert logits.dtype == jnp.float32


def test_batch_norm_follows_every_convolution_and_takes_its_bias():
    model = CifarCNN(norm="batch", rngs=nnx.Rngs(0))
    assert [type(norm) for norm in model.norms] == [BatchNorm] * 4
    assert all(conv.bias is None for conv in model.convs)
    without = CifarCNN(norm="none", rngs=nnx.Rngs(0))
    assert all(conv.bias is not None for conv in without.convs)


@pytest.mark.parametrize(("init", "fans"), [("he", "in"), ("glorot", "both")])
def test_kernels_have_the_variance_of_their_init(init, fans):
    kernel = np.asarray(CifarCNN(init=init, rngs=nnx.Rngs(0)).denses[0].kernel[...])
    fan_in, fan_out = kernel.shape
    expected = 2 / fan_in if fans == "in" else 2 / (fan_in + fan_out)
    np.testing.assert_allclose(kernel.var(), expected, rtol=0.01)


def test_both_networks_start_from_the_same_kernels():
    """So that the experiment compares norms, not draws."""
    batch, none = (CifarCNN(norm=norm, rngs=nnx.Rngs(3)) for norm in ("batch", "none"))
    for ours, theirs in zip([*batch.convs, *batch.denses], [*none.convs, *none.denses], strict=True):
        np.testing.assert_array_equal(ours.kernel[...], theirs.kernel[...])


@pytest.mark.parametrize("argument", ["norm", "init"])
def test_another_choice_is_refused(argument):
    with pytest.raises(ValueError, match=f"{argument} must be one of .*got 'layer'"):
        CifarCNN(**{argument: "layer"}, rngs=nnx.Rngs(0))


def test_max_pool_is_flaxs_in_value_and_gradient():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))  # no ties
    weights = jax.random.normal(jax.random.key(1), (2, 4, 4, 3))

    def flaxs(x):
        return nnx.max_pool(x, (2, 2), strides=(2, 2))

    np.testing.assert_array_equal(_max_pool(x), flaxs(x))
    ours, theirs = (jax.grad(lambda x, f=f: jnp.sum(f(x) * weights))(x) for f in (_max_pool, flaxs))
    np.testing.assert_array_equal(ours, theirs)
