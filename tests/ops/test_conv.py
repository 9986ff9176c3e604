"""The convolution: XLA's in value and cotangents, through `check_vjp`, and passed on where it is not ours."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.check import check_vjp
from bnjax.ops import conv
from bnjax.ops.conv import conv_primal

WAYS = ("products", "convolution")


def arrays(n, h, w, c, o, seed=0):
    rng = np.random.default_rng(seed)
    return [rng.normal(size=s).astype(np.float32) for s in ((n, h, w, c), (3, 3, c, o))]


def by(way):
    return functools.partial(conv, weight_gradient=way)


@pytest.mark.parametrize(
    "way",
    [
        pytest.param("convolution", marks=pytest.mark.thorough),
        pytest.param("products", marks=pytest.mark.slow),
    ],
)
def test_the_rule_is_accepted(way):
    report = check_vjp(by(way), conv_primal, *arrays(2, 4, 5, 3, 2))
    assert report.ok, report


@pytest.mark.thorough
def test_a_rule_that_mixes_up_the_shifts_is_refused():
    wrong = jax.custom_vjp(conv_primal)

    def backward(residuals, dy):
        dx, dkernel = jax.vjp(conv_primal, *residuals)[1](dy)
        return dx, dkernel[:, ::-1]

    wrong.defvjp(lambda x, kernel: (conv_primal(x, kernel), (x, kernel)), backward)
    report = check_vjp(wrong, conv_primal, *arrays(2, 4, 5, 3, 2))
    assert {f.argument for f in report.failures if f.stage == "value"} == {"kernel"}, report


@pytest.mark.family
@pytest.mark.parametrize(
    "shape", [(1, 1, 1, 1, 1), (3, 2, 1, 2, 3), (6, 32, 32, 3, 4), (32, 16, 16, 2, 2), (7, 40, 40, 1, 1)]
)
@pytest.mark.parametrize("way", WAYS)
def test_cotangents_are_xlas(way, shape):
    """One block, several, an odd number of them, and images larger than a block."""
    with jax.enable_x64(True):
        x, kernel = (jnp.asarray(a, jnp.float64) for a in arrays(*shape))
        y, vjp = jax.vjp(by(way), x, kernel)
        expected_y, expected_vjp = jax.vjp(conv_primal, x, kernel)
        np.testing.assert_array_equal(y, expected_y)
        dy = jnp.asarray(np.random.default_rng(1).normal(size=y.shape))
        for got, want in zip(vjp(dy), expected_vjp(dy), strict=True):
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * float(jnp.max(abs(want))))


@pytest.mark.parametrize(
    "asked",
    [
        {"window_strides": (2, 2)},
        {"padding": "VALID"},
        {"rhs_dilation": (2, 2)},
        {"padding": ((0, 1), (1, 0))},
        {"precision": jax.lax.Precision.HIGHEST},
    ],
    ids=str,
)
def test_what_the_rule_was_not_written_for_is_xlas(asked):
    x, kernel = arrays(2, 6, 6, 3, 2)
    options = {"window_strides": (1, 1), "padding": "SAME", "dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def loss(function, options):
        return lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel, **options)))

    ours = jax.value_and_grad(loss(conv, asked), (0, 1))(x, kernel)
    xlas = jax.value_and_grad(loss(jax.lax.conv_general_dilated, options | asked), (0, 1))(x, kernel)
    for got, want in zip(jax.tree.leaves(ours), jax.tree.leaves(xlas), strict=True):
        np.testing.assert_array_equal(got, want)


def test_other_kernels_and_dtypes_are_xlas():
    x, _ = arrays(2, 6, 6, 3, 2)
    kernel = np.ones((5, 1, 3, 2), np.float32)
    expected = jax.lax.conv_general_dilated(
        x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    np.testing.assert_array_equal(conv(x, kernel), expected)
    half = conv(x.astype(jnp.bfloat16), kernel.astype(jnp.bfloat16))
    assert half.dtype == jnp.bfloat16
    assert conv(jnp.zeros((0, 4, 4, 3)), jnp.zeros((3, 3, 3, 2))).shape == (0, 4, 4, 2)


@pytest.mark.parametrize("way", WAYS)
def test_an_image_with_a_nan_or_an_infinity_keeps_it(way):
    """x and dy go through a selection, to be in memory."""
    x, kernel = arrays(1, 4, 4, 1, 1)
    x[0, 0, 0], x[0, 3, 3] = np.nan, np.inf
    y, vjp = jax.vjp(by(way), x, kernel)
    np.testing.assert_array_equal(y, conv_primal(x, kernel))
    dx, dkernel = vjp(jnp.full_like(y, jnp.nan))
    assert np.isnan(dx).all()
    assert np.isnan(dkernel).all()


def test_another_way_is_refused():
    with pytest.raises(ValueError, match="weight_gradient must be one of"):
        conv(*arrays(1, 4, 4, 1, 1), weight_gradient="winograd")


@pytest.mark.parametrize("way", WAYS)
def test_the_rule_stands_in_shard_map(way):
    """The cotangents vary over the mesh where their arguments do, which `shard_map` checks."""
    x, kernel = (jnp.asarray(a) for a in arrays(4, 3, 4, 3, 2))
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(jax.sharding.AxisType.Auto,))
    shard, whole = jax.sharding.PartitionSpec("batch"), jax.sharding.PartitionSpec()

    def gradient(x, kernel):
        kernel = jax.lax.pcast(kernel, "batch", to="varying")
        return jax.lax.psum(jax.grad(lambda k: jnp.sum(jnp.sin(by(way)(x, k))))(kernel), "batch")

    mapped = jax.jit(jax.shard_map(gradient, mesh=mesh, in_specs=(shard, whole), out_specs=whole))
    expected = jax.grad(lambda k: jnp.sum(jnp.sin(conv_primal(x, k))))(kernel)
    np.testing.assert_allclose(mapped(x, kernel), expected, rtol=0, atol=2.0**-20 * np.max(abs(expected)))
