"""Beyond the ordinary call: what a user of Flax's layers meets is Flax's, or an error that says so."""

import chex
import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import bnjax.nn.linen
import bnjax.nn.nnx

CLOSE = {"rtol": 1e-11, "atol": 1e-12}  # float64, of derivatives up to the second
FEATURES = 3


def batch(*shape, dtype=np.float64):
    return jnp.asarray(1 + 2 * np.random.default_rng(0).normal(size=shape), dtype)


def nnx_call(cls, train, **options):
    """(x, scale, bias) -> y and the new running statistics."""

    def call(x, scale, bias, mask=None):
        layer = cls(FEATURES, use_fast_variance=False, rngs=nnx.Rngs(0), **options)
        layer.scale, layer.bias = nnx.Param(scale), nnx.Param(bias)
        layer.mean, layer.var = (nnx.BatchStat(s) for s in (jnp.zeros_like(scale), jnp.ones_like(scale)))
        y = layer(x, use_running_average=not train, mask=mask)
        return y, {"mean": layer.mean[...], "var": layer.var[...]}

    return call


def linen_call(cls, train, **options):
    def call(x, scale, bias, mask=None):
        layer = cls(use_running_average=not train, use_fast_variance=False, **options)
        stats = {"mean": jnp.zeros_like(scale), "var": jnp.ones_like(scale)}
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
        y, new = layer.apply(variables, x, mask=mask, mutable=["batch_stats"])
        return y, new["batch_stats"]

    return call


BOTH = {
    "nnx": (nnx_call, bnjax.nn.nnx.BatchNorm, nnx.BatchNorm),
    "linen": (linen_call, bnjax.nn.linen.BatchNorm, linen.BatchNorm),
}
both = pytest.mark.parametrize(("api", "ours", "flaxs"), BOTH.values(), ids=BOTH)
modes = pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])


def parameters(dtype=np.float64):
    return jnp.asarray([0.5, -1.0, 2.0], dtype), jnp.asarray([0.1, 0.2, -0.3], dtype)


def squared(call):
    """A loss of y and of the running statistics, not linear in either."""

    def loss(*args):
        y, stats = call(*args)
        weights = jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape)
        return jnp.sum(weights * y**2) + jnp.sum(stats["mean"] ** 2) + jnp.sum(jnp.sin(stats["var"]))

    return loss


def along(args):
    return tuple(jnp.sin(1 + jnp.arange(a.size, dtype=a.dtype)).reshape(a.shape) for a in args)


DERIVATIVES = {
    "gradient": lambda f, args: jax.grad(f, (0, 1, 2))(*args),
    "jvp": lambda f, args: jax.jvp(f, args, along(args)),
    "jacfwd": lambda f, args: jax.jacfwd(f, (0, 1, 2))(*args),
    "linearize": lambda f, args: jax.linearize(f, *args)[1](*along(args)),
    "gradient of jvp": lambda f, args: jax.grad(lambda *a: jax.jvp(f, a, along(a))[1], (0, 1, 2))(*args),
    "jvp of gradient": lambda f, args: jax.jvp(jax.grad(f, (0, 1, 2)), args, along(args)),
    "hessian": lambda f, args: jax.hessian(f, (0, 1))(*args),
    "compiled": lambda f, args: jax.jit(lambda *a: jax.jvp(f, a, along(a)))(*args),
    "checkpointed": lambda f, args: jax.grad(jax.checkpoint(f), (0, 1, 2))(*args),
    "vmapped jvp": lambda f, args: jax.vmap(lambda t: jax.jvp(f, args, t))(
        jax.tree.map(lambda t: jnp.stack([t, 2 * t]), along(args))
    ),
}


SLOW = ("jacfwd", "hessian", "linearize", "jvp of gradient", "compiled", "checkpointed", "vmapped jvp")


@pytest.mark.family
@both
@modes
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in DERIVATIVES]
)
def test_every_derivative_is_flaxs(api, ours, flaxs, train, name):
    with jax.enable_x64(True):
        args = (batch(4, 2, FEATURES), *parameters())
        got, want = (DERIVATIVES[name](squared(api(cls, train)), args) for cls in (ours, flaxs))
        chex.assert_trees_all_close(got, want, **CLOSE)


def test_linen_initializes_on_one_feature_vector():
    layers = [cls(use_running_average=False) for cls in BOTH["linen"][1:]]
    x = batch(FEATURES, dtype=np.float32)
    chex.assert_trees_all_equal(*(layer.init(jax.random.key(0), x) for layer in layers))


@both
@pytest.mark.slow
@pytest.mark.parametrize("derivative", ["gradient", "jvp", "hessian"])
def test_masked_derivatives_are_flaxs(api, ours, flaxs, derivative):
    with jax.enable_x64(True):
        args = (batch(4, 2, FEATURES), *parameters())
        mask = jnp.array([1, 0, 1, 1], bool)[:, None, None]

        def derive(cls):
            call = api(cls, True)
            return DERIVATIVES[derivative](squared(lambda *args: call(*args, mask)), args)

        got, want = derive(ours), derive(flaxs)
        chex.assert_trees_all_close(got, want, **CLOSE)


@both
def test_a_loss_on_running_statistics_has_flaxs_gradient(api, ours, flaxs):
    """In Linen a gradient; in NNX, where they are state, none."""

    def of_statistics(call):
        return lambda x: sum(jnp.sum(s**3) for s in jax.tree.leaves(call(x, *parameters())[1]))

    with jax.enable_x64(True):
        x = batch(5, FEATURES)
        got, want = (jax.grad(of_statistics(api(cls, True)))(x) for cls in (ours, flaxs))
        assert np.all(np.abs(want) > 0) == (api is linen_call)
        chex.assert_trees_all_close(got, want, **CLOSE)


@pytest.mark.family
@both
@modes
@pytest.mark.parametrize("axis_name", [None, "examples"])
def test_a_feature_vector_is_a_batch_of_one(api, ours, flaxs, train, axis_name):
    """Alone, and under `vmap` over the examples, where `axis_name` makes them a batch."""
    with jax.enable_x64(True):
        examples, (scale, bias) = batch(5, FEATURES), parameters()

        def mapped(cls):
            call = api(cls, train, axis_name=axis_name)
            one = jax.vmap(call, (0, None, None), axis_name="examples")
            return one, jax.grad(lambda *args: squared(one)(*args), (0, 1, 2))

        got, want = (jax.tree.map(lambda f: f(examples, scale, bias), mapped(cls)) for cls in (ours, flaxs))
        chex.assert_trees_all_close(got, want, **CLOSE)
        alone = [api(cls, train)(examples[0], scale, bias) for cls in (ours, flaxs)]
        chex.assert_trees_all_close(*alone, **CLOSE)


@pytest.mark.parametrize("name", ["BatchNorm", "BatchNormRelu"])
def test_references_to_running_statistics_are_updated_under_a_gradient(name):
    """`hijax` variables are shared with the differentiated function, so no derivative may enter them."""
    ours, flaxs = getattr(bnjax.nn.nnx, name), nnx.BatchNorm
    then = (lambda y: y) if name == "BatchNormRelu" else nnx.relu
    x = batch(6, FEATURES, dtype=np.float32)
    results = []
    for cls, after in ((ours, then), (flaxs, nnx.relu)):
        with nnx.var_defaults(hijax=True):
            layer = cls(FEATURES, use_fast_variance=False, rngs=nnx.Rngs(0))
            dx = jax.jit(jax.grad(lambda x, f=after, layer=layer: jnp.sum(f(layer(x)) ** 3)))(x)
            results.append((dx, layer.mean[...], layer.var[...]))
    chex.assert_trees_all_close(*results, rtol=1e-5, atol=1e-5)


@pytest.mark.family
@modes
@pytest.mark.parametrize("masked", [False, True], ids=["whole", "masked"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16], ids=["float32", "bfloat16"])
def test_what_is_not_finite_comes_through_batch_norm_relu(train, masked, dtype):
    x = batch(6, FEATURES, dtype=dtype).at[0].set(jnp.array([np.nan, np.inf, -np.inf], dtype))
    mask = (jnp.arange(6) < 4)[:, None] if masked else None

    def run(cls, after):
        def loss(x):
            layer = cls(FEATURES, dtype=dtype, rngs=nnx.Rngs(0))
            y = after(layer(x, use_running_average=not train, mask=mask))
            return jnp.sum(y.astype(jnp.float32)), (y, layer.mean[...], layer.var[...])

        dx, out = jax.grad(loss, has_aux=True)(x)
        return [np.asarray(a, np.float32) for a in (*out, dx)]

    got = run(bnjax.nn.nnx.BatchNormRelu, lambda y: y)
    want = run(bnjax.nn.nnx.BatchNorm, nnx.relu)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    assert np.isnan(got[0][0, 0])
    assert not np.isfinite(got[0][0, 1])


def flat(api, cls, **options):
    return api(cls, True, **options)(batch(6, FEATURES, dtype=np.float32), *parameters(np.float32))


@both
@pytest.mark.parametrize("axis", [2, 5, -3, (0, 2)])
def test_an_axis_out_of_range_is_an_error(api, ours, flaxs, axis):
    del flaxs  # raises IndexError, or takes -3 of two for no axis at all
    with pytest.raises(ValueError, match="out of range for x with 2 dimensions"):
        flat(api, ours, axis=axis)


@both
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int32])
def test_a_mask_that_is_not_boolean_is_an_error(api, ours, flaxs, dtype):
    """Weights would be counted as 1 each by a cast."""
    del flaxs
    x = batch(6, FEATURES, dtype=np.float32)
    with pytest.raises(TypeError, match="mask must be boolean"):
        api(ours, True)(x, *parameters(np.float32), jnp.full((6, 1), 0.5).astype(dtype))


@both
@pytest.mark.parametrize("epsilon", [0.0, 0])
def test_epsilon_0_is_flaxs(api, ours, flaxs, epsilon):
    chex.assert_trees_all_close(
        flat(api, ours, epsilon=epsilon), flat(api, flaxs, epsilon=epsilon), rtol=1e-5, atol=1e-6
    )


@both
@pytest.mark.parametrize("epsilon", [-1e-5, np.nan, np.inf])
def test_an_impossible_epsilon_is_an_error(api, ours, flaxs, epsilon):
    del flaxs
    with pytest.raises(ValueError, match="at least 0 and finite"):
        flat(api, ours, epsilon=epsilon)


@both
@modes
def test_an_empty_batch_leaves_the_running_statistics(api, ours, flaxs, train):
    """In training Flax's become NaN."""
    args = (batch(0, 4, FEATURES, dtype=np.float32), *parameters(np.float32))
    y, stats = api(ours, train)(*args)
    chex.assert_trees_all_equal(y, api(flaxs, train)(*args)[0])
    chex.assert_trees_all_equal(stats, {"mean": jnp.zeros(FEATURES), "var": jnp.ones(FEATURES)})
    assert all(np.all(np.isfinite(g)) for g in jax.grad(squared(api(ours, train)), (0, 1, 2))(*args))


@both
@modes
def test_complex_input_is_an_error(api, ours, flaxs, train):
    del flaxs
    with pytest.raises(TypeError, match="x must be a real floating-point array, got dtype complex64"):
        api(ours, train)(batch(6, FEATURES, dtype=np.complex64), *parameters(np.float32))


@both
def test_integer_input_is_flaxs(api, ours, flaxs):
    x = jnp.arange(6 * FEATURES).reshape(6, FEATURES) % 5
    got, want = (api(cls, True)(x, *parameters(np.float32)) for cls in (ours, flaxs))
    chex.assert_trees_all_equal_shapes_and_dtypes(got, want)
    chex.assert_trees_all_close(got, want, rtol=1e-5, atol=1e-6)
