"""Both layers against Flax's: constructor, calls, state, values and gradients; and where they differ."""

import inspect

import chex
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bnjax.nn.linen
import bnjax.nn.nnx

# float32 roundoff of a two-pass and a fast variance of data with mean/std about 1
CLOSE = {"rtol": 2e-5, "atol": 2e-5}
SHAPE = (6, 4, 4, 3)


def batch(seed=0, shape=SHAPE, dtype=jnp.float32):
    rng = np.random.default_rng(seed)
    return jnp.asarray(1 + 2 * rng.normal(size=shape), dtype)


def random_init(key, shape, dtype=jnp.float32):
    return 1 + 0.5 * jax.random.normal(key, shape, dtype)


def nnx_state(layer):
    return nnx.to_pure_dict(nnx.state(layer))


class Nnx:
    """One way to run an NNX layer: (y, dx, gradients of the parameters, new state)."""

    ours, flaxs = bnjax.nn.nnx.BatchNorm, nnx.BatchNorm

    @staticmethod
    def run(cls, x, *, train=True, mask=None, features=3, **options):
        layer = cls(features, scale_init=random_init, bias_init=random_init, rngs=nnx.Rngs(0), **options)
        weights = jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)

        def loss(params, x):
            _, rest = nnx.split_state(nnx.state(layer), nnx.Param, ...)
            copy = nnx.merge(nnx.graphdef(layer), params, rest, copy=True)
            y = copy(x, use_running_average=not train, mask=mask)
            return jnp.sum(y * weights), (y, nnx_state(copy))

        grads, (y, state) = jax.grad(loss, (0, 1), has_aux=True)(nnx.state(layer, nnx.Param), x)
        return y, grads[1], nnx.to_pure_dict(grads[0]), state


class Linen:
    """The same for a Linen layer."""

    ours, flaxs = bnjax.nn.linen.BatchNorm, linen.BatchNorm

    @staticmethod
    def run(cls, x, *, train=True, mask=None, features=3, **options):
        del features  # Linen infers them
        layer = cls(use_running_average=not train, scale_init=random_init, bias_init=random_init, **options)
        variables = layer.init(jax.random.key(0), x)
        stats = variables["batch_stats"]
        weights = jnp.cos(jnp.arange(x.size, dtype=jnp.float32)).reshape(x.shape)

        def loss(params, x):
            y, new = layer.apply(
                {"params": params, "batch_stats": stats}, x, mask=mask, mutable=["batch_stats"]
            )
            return jnp.sum(y * weights), (y, {"batch_stats": stats} | new)

        grads, (y, state) = jax.grad(loss, (0, 1), has_aux=True)(variables.get("params", {}), x)
        return y, grads[1], grads[0], state


both = pytest.mark.parametrize("api", [Nnx, Linen])


@pytest.mark.family
@both
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"momentum": 0.5, "epsilon": 0.1},
        {"use_scale": False},
        {"use_bias": False},
        {"use_scale": False, "use_bias": False},
        {"axis": 1, "features": 4},
        {"use_fast_variance": False},
    ],
    ids=str,
)
def test_values_gradients_and_state_are_flaxs(api, train, options):
    got = api.run(api.ours, batch(), train=train, **options)
    want = api.run(api.flaxs, batch(), train=train, **options)
    chex.assert_trees_all_equal_shapes_and_dtypes(got, want)
    chex.assert_trees_all_close(got, want, **CLOSE)


@pytest.mark.family
@both
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("x_dtype", "options"),
    [
        (jnp.bfloat16, {}),
        (jnp.float32, {"dtype": jnp.bfloat16}),
        (jnp.bfloat16, {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16}),
        (jnp.bfloat16, {"dtype": jnp.float32}),
    ],
    ids=str,
)
def test_dtypes_are_flaxs_and_half_precision_is_close(api, train, x_dtype, options):
    x = batch(dtype=x_dtype)
    got = api.run(api.ours, x, train=train, **options)
    want = api.run(api.flaxs, x, train=train, **options)
    chex.assert_trees_all_equal_shapes_and_dtypes(got, want)
    # both round to bfloat16 (u = 2⁻⁸) at places of their own: a few u of the largest entry
    for ours, flaxs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        ours, flaxs = (np.asarray(a, np.float32) for a in (ours, flaxs))
        assert np.max(np.abs(ours - flaxs)) <= 4 * 2.0**-8 * max(1, np.max(np.abs(flaxs)))


@both
def test_masked_statistics_and_gradients_are_flaxs(api):
    mask = jnp.asarray(np.random.default_rng(1).random((6, 4, 4, 1)) < 0.5)
    got = api.run(api.ours, batch(), mask=mask)
    want = api.run(api.flaxs, batch(), mask=mask)
    chex.assert_trees_all_close(got, want, **CLOSE)


@both
def test_an_empty_mask_leaves_the_running_statistics(api):
    y, _, _, state = api.run(api.ours, batch(), mask=jnp.zeros((6, 4, 4, 1), bool))
    assert np.all(np.isfinite(y))
    stats = state.get("batch_stats", state)
    np.testing.assert_array_equal(stats["mean"], 0)
    np.testing.assert_array_equal(stats["var"], 1)


@both
def test_running_statistics_by_hand(api):
    """momentum·running + (1 − momentum)·batch, with the biased variance, from 0 and 1."""
    x = batch()
    state = api.run(api.ours, x, momentum=0.75)[3]
    stats = state.get("batch_stats", state)
    np.testing.assert_allclose(stats["mean"], 0.25 * np.mean(x, (0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(stats["var"], 0.75 + 0.25 * np.var(x, (0, 1, 2)), rtol=1e-6)


@both
def test_the_variance_is_robust_where_flaxs_default_is_not(api):
    """At mean/std = 3000 in float32 E[x²] − E[x]² has no correct digit left."""
    x = jnp.asarray(3000 + np.random.default_rng(0).normal(size=(512, 3)), jnp.float32)
    reference = api.run(api.flaxs, x, use_fast_variance=False)[1]
    ours, flaxs = (api.run(layer, x)[1] for layer in (api.ours, api.flaxs))
    size = np.max(np.abs(reference))
    assert np.max(np.abs(ours - reference)) < 1e-3 * size
    assert np.max(np.abs(flaxs - reference)) > size


@both
def test_constructor_takes_what_flaxs_takes(api):
    assert inspect.signature(api.ours) == inspect.signature(api.flaxs)
    call = inspect.signature(api.ours.__call__).parameters
    assert list(call) == list(inspect.signature(api.flaxs.__call__).parameters)
    assert issubclass(api.ours, api.flaxs)


def test_nnx_state_loads_into_flaxs_layer_and_back():
    ours, flaxs = (
        cls(3, scale_init=random_init, rngs=nnx.Rngs(1)) for cls in (bnjax.nn.nnx.BatchNorm, nnx.BatchNorm)
    )
    ours(batch())
    nnx.update(flaxs, nnx.state(ours))
    np.testing.assert_allclose(
        ours(batch(1), use_running_average=True), flaxs(batch(1), use_running_average=True), **CLOSE
    )
    nnx.update(ours, nnx.state(flaxs))


def test_linen_variables_are_flaxs():
    """Names too: inside a model both are BatchNorm_0, so that checkpoints go either way."""

    def model(norm):
        class Model(linen.Module):
            @linen.compact
            def __call__(self, x):
                return norm(use_running_average=False)(x)

        return Model()

    ours, flaxs = (model(cls).init(jax.random.key(0), batch()) for cls in (Linen.ours, Linen.flaxs))
    chex.assert_trees_all_equal(ours, flaxs)


def test_linen_initialization_moves_no_statistics_and_needs_no_axis_name():
    layer = bnjax.nn.linen.BatchNorm(use_running_average=False, axis_name="devices")
    stats = layer.init(jax.random.key(0), batch())["batch_stats"]
    np.testing.assert_array_equal(stats["mean"], 0)
    np.testing.assert_array_equal(stats["var"], 1)


def test_nnx_train_and_eval_switch_the_rule():
    layer = bnjax.nn.nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    x = batch()
    layer.train()
    np.testing.assert_allclose(np.mean(layer(x), (0, 1, 2)), 0, atol=1e-5)
    mean = layer.mean[...]
    layer.eval()
    np.testing.assert_allclose(layer(x), (x - mean) / np.sqrt(layer.var[...] + 1e-5), rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(layer.mean[...], mean)


def test_nnx_without_a_mode_says_what_to_pass():
    layer = bnjax.nn.nnx.BatchNorm(3, use_running_average=None, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="BatchNorm needs use_running_average"):
        layer(batch())


@both
def test_a_half_precision_layer_evaluates_with_float32_statistics(api):
    """A running mean of 1000.5 rounds to 1000 in bfloat16, and y would be off by half a σ."""
    if api is Nnx:
        layer = api.ours(1, dtype=jnp.bfloat16, rngs=nnx.Rngs(0))
        layer.mean[...] = jnp.array([1000.5])
        y = layer(jnp.full((2, 1), 1000.0), use_running_average=True)
    else:
        layer = api.ours(use_running_average=True, dtype=jnp.bfloat16)
        variables = layer.init(jax.random.key(0), jnp.ones((2, 1)))
        variables["batch_stats"]["mean"] = jnp.array([1000.5])
        y = layer.apply(variables, jnp.full((2, 1), 1000.0))
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(y, np.float32), -0.5, rtol=2.0**-8)


@both
def test_over_devices_with_unequal_masks_it_is_the_whole_batch(api):
    """Flax averages the devices' means here: flax#2417."""
    x = batch(shape=(2, 4, 3))
    mask = jnp.array([[1, 1, 1, 1], [1, 0, 0, 0]], bool)[..., None]
    kept = jnp.concatenate([x[0], x[1, :1]])

    def device(x, mask):
        if api is Nnx:
            layer = api.ours(3, axis_name="d", momentum=0.0, rngs=nnx.Rngs(0))
            y = layer(x, mask=mask)
            return y, layer.mean[...]
        layer = api.ours(use_running_average=False, axis_name="d", momentum=0.0)
        y, new = layer.apply(layer.init(jax.random.key(0), x), x, mask=mask, mutable=["batch_stats"])
        return y, new["batch_stats"]["mean"]

    y, mean = jax.vmap(device, axis_name="d")(x, mask)
    np.testing.assert_allclose(mean, np.broadcast_to(kept.mean(0), (2, 3)), rtol=1e-5)
    expected = (x - kept.mean(0)) / np.sqrt(kept.var(0) + 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("train", [True, False])
@pytest.mark.parametrize("mask", [None, "half"])
def test_batch_norm_relu_is_relu_after_the_layer(train, mask):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3, 3, 2)), jnp.float32)
    mask = None if mask is None else jnp.arange(4)[:, None, None, None] < 2
    one, two = (cls(2, rngs=nnx.Rngs(0)) for cls in (bnjax.nn.nnx.BatchNormRelu, bnjax.nn.nnx.BatchNorm))
    got = one(x, use_running_average=not train, mask=mask)
    np.testing.assert_array_equal(got, nnx.relu(two(x, use_running_average=not train, mask=mask)))
    for a, b in zip(jax.tree.leaves(nnx.state(one)), jax.tree.leaves(nnx.state(two)), strict=True):
        np.testing.assert_array_equal(a, b)
