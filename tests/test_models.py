"""The chapter's two networks: sizes, initialization, and that they are one argument apart."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bnjax.models import CifarCNN, parameter_count
from bnjax.nn.nnx import BatchNorm, BatchNormRelu


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
    assert [type(norm) for norm in model.norms] == [BatchNormRelu] * 4
    assert issubclass(BatchNormRelu, BatchNorm)
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


@pytest.mark.parametrize(
    "norm",
    [pytest.param("batch", marks=pytest.mark.slow), pytest.param("none", marks=pytest.mark.thorough)],
)
def test_the_network_is_the_one_of_flaxs_own_parts(norm):
    """Its logits and its gradients, with every op of ours in the place of one of Flax's."""

    class Plain(CifarCNN):
        def __call__(self, x):
            for index, (conv, layer) in enumerate(zip(self.convs, self.norms, strict=True)):
                x = conv(x)
                if norm == "batch":
                    scale, bias = layer.scale[...], layer.bias[...]
                    mean, var = x.mean((0, 1, 2)), x.var((0, 1, 2))
                    x = (x - mean) / jnp.sqrt(var + 1e-5) * scale + bias
                x = nnx.relu(x)
                x = nnx.max_pool(x, (2, 2), strides=(2, 2)) if index % 2 else x
            x = x.reshape(x.shape[0], -1)
            for dense in self.denses[:2]:
                x = nnx.relu(dense(x))
            return self.denses[2](x)

    def loss(model):
        return jnp.sum(model(images) * weights)

    # in float64: in float32 an input of a ReLU falls on the other side of 0 on some processors
    with jax.enable_x64(True):
        images = jax.random.normal(jax.random.key(0), (4, 32, 32, 3), jnp.float64)
        weights = jax.random.normal(jax.random.key(1), (4, 10), jnp.float64)
        ours = CifarCNN(norm, rngs=nnx.Rngs(0))
        plain = Plain(norm, convolve=jax.lax.conv_general_dilated, rngs=nnx.Rngs(0))
        for model in (ours, plain):
            params = nnx.state(model, nnx.Param)
            nnx.update(model, jax.tree.map(lambda a: a.astype(jnp.float64), params))
        (value, grads), (expected, references) = (nnx.value_and_grad(loss)(m) for m in (ours, plain))
    assert value.dtype == jnp.float64
    np.testing.assert_allclose(value, expected, rtol=2e-14)
    for got, want in zip(jax.tree.leaves(grads), jax.tree.leaves(references), strict=True):
        got, want = np.asarray(got), np.asarray(want)
        assert got.dtype == np.float64
        # 180 roundoffs: sums of up to 4,096 terms, 64 if at random, through seven layers
        np.testing.assert_allclose(got, want, rtol=0, atol=2e-14 * np.max(abs(want)))
