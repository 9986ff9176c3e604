"""Masked and cross-device batches: the statistics of the elements that count, and their VJP."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from bnjax import THEOREMS, batch_norm
from bnjax.theorems import batch_norm_with_statistics, sync_batch_norm
from tests.theorems.cases import EPS, EVERY_CASE, arguments, reduced

THEOREM_34 = THEOREMS[-1]


def masked_primal(x, gamma, beta, eps, where, axes):
    """The definition, for autodiff: statistics by jnp's own masked mean and variance."""
    mean = jnp.mean(x, axes, where=where, keepdims=True)
    var = jnp.var(x, axes, where=where, keepdims=True)
    gamma, beta = jnp.expand_dims(gamma, axes), jnp.expand_dims(beta, axes)
    return gamma * (x - mean) / jnp.sqrt(var + eps) + beta


@pytest.mark.family
@EVERY_CASE
def test_without_mask_and_devices_it_is_theorem_34(shape, axis):
    with jax.enable_x64(True):
        args = arguments(THEOREM_34, shape, axis)
        output = sync_batch_norm(*args, axis=axis)
        expected = batch_norm_with_statistics(*args, axis=axis)
        chex.assert_trees_all_close(tuple(output), tuple(expected), rtol=1e-13, atol=1e-13)
        dy = jnp.asarray(np.random.default_rng(0).normal(size=shape))
        got = jax.vjp(lambda *a: sync_batch_norm(*a, axis=axis).y, *args)[1](dy)
        want = jax.vjp(lambda *a: batch_norm(*a, axis=axis), *args)[1](dy)
        chex.assert_trees_all_close(got, want, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("shape", "axis"), [((9,), 0), ((9, 3), 0), ((4, 3, 5, 2), (0, 1, 2))])
def test_masked_vjp_is_autodiffs(shape, axis):
    axes = reduced(shape, axis)
    with jax.enable_x64(True):
        args = arguments(THEOREM_34, shape, axis)
        rng = np.random.default_rng(0)
        where = jnp.asarray(rng.random(shape) < 0.6)
        y, vjp = jax.vjp(lambda *a: sync_batch_norm(*a, axis=axis, where=where).y, *args)
        expected_y, expected_vjp = jax.vjp(lambda *a: masked_primal(*a, where, axes), *args)
        chex.assert_trees_all_close(y, expected_y, rtol=1e-13, atol=1e-13)
        dy = jnp.asarray(rng.normal(size=shape))
        chex.assert_trees_all_close(vjp(dy), expected_vjp(dy), rtol=1e-11, atol=1e-12)


def test_padding_under_a_masked_loss_changes_nothing_and_gets_no_gradient():
    with jax.enable_x64(True):
        x, gamma, beta, eps = arguments(THEOREM_34, (5, 3), 0)
        padded = jnp.concatenate([x, jnp.full((4, 3), 1e6)])
        where = jnp.arange(9)[:, None] < 5
        dy = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
        output = sync_batch_norm(padded, gamma, beta, eps, where=where)
        expected = batch_norm_with_statistics(x, gamma, beta, eps)
        np.testing.assert_allclose(output.y[:5], expected.y, rtol=1e-12)
        np.testing.assert_allclose(output.mean, expected.mean, rtol=1e-14)
        np.testing.assert_allclose(output.var, expected.var, rtol=1e-12)
        np.testing.assert_array_equal(output.elements, 5)
        vjp = jax.vjp(lambda x: sync_batch_norm(x, gamma, beta, eps, where=where).y, padded)[1]
        dx = vjp(jnp.concatenate([dy, jnp.zeros((4, 3))]))[0]
        np.testing.assert_array_equal(dx[5:], 0)
        want = jax.vjp(lambda x: batch_norm(x, gamma, beta, eps), x)[1](dy)[0]
        np.testing.assert_allclose(dx[:5], want, rtol=1e-10, atol=1e-12)


def test_an_empty_mask_gives_zero_statistics_not_nan():
    x = jnp.arange(4.0)
    y, mean, var, elements = sync_batch_norm(x, 1.0, 0.5, where=jnp.zeros(4, bool))
    assert (mean, var, elements) == (0, 0, 0)
    assert np.all(np.isfinite(y))
    dx = jax.grad(lambda x: jnp.sum(sync_batch_norm(x, 1.0, 0.5, where=jnp.zeros(4, bool)).y))(x)
    assert np.all(np.isfinite(dx))


def test_mask_of_another_dtype_or_shape():
    x = jnp.ones((4, 3))
    c = jnp.ones(3)
    with pytest.raises(TypeError, match="where must be boolean, got dtype float32"):
        sync_batch_norm(x, c, c, where=jnp.ones((4, 1)))
    with pytest.raises(ValueError, match=r"where must be broadcastable to x's shape \(4, 3\), got \(4,\)"):
        sync_batch_norm(x, c, c, where=jnp.ones(4, bool))


def whole_batch(x, gamma, beta, eps, dy, where=None):
    """y and the cotangents when all devices' shards are one batch."""
    rows = x.reshape(-1, x.shape[-1])
    masks = None if where is None else where.reshape(rows.shape)
    y, vjp = jax.vjp(lambda *a: sync_batch_norm(*a, where=masks).y, rows, gamma, beta, eps)
    dx, *rest = vjp(dy.reshape(rows.shape))
    return y.reshape(x.shape), dx.reshape(x.shape), *rest


@pytest.mark.parametrize("masked", [False, True])
def test_over_a_vmapped_axis_it_is_the_whole_batch(masked):
    """Unequal masks make shards of unequal size: means of means would be wrong here."""
    with jax.enable_x64(True):
        x, gamma, beta, eps = arguments(THEOREM_34, (3, 4, 2), (0, 1))
        dy = jnp.asarray(np.random.default_rng(0).normal(size=x.shape))
        counts = jnp.array([4, 1, 2])
        where = jnp.broadcast_to((jnp.arange(4) < counts[:, None])[..., None], x.shape) if masked else None

        def over_devices(x, gamma, beta, eps):
            def device(x, where):
                return sync_batch_norm(x, gamma, beta, eps, where=where, axis_name="d").y

            return jax.vmap(device, axis_name="d")(x, where)

        y, vjp = jax.vjp(over_devices, x, gamma, beta, eps)
        expected_y, *expected = whole_batch(x, gamma, beta, eps, dy, where)
        chex.assert_trees_all_close(y, expected_y, rtol=1e-12, atol=1e-12)
        chex.assert_trees_all_close(list(vjp(dy)), expected, rtol=1e-11, atol=1e-12)


def test_gamma_may_differ_from_device_to_device():
    with jax.enable_x64(True):
        x, _, beta, eps = arguments(THEOREM_34, (3, 4, 2), (0, 1))
        gamma = jnp.asarray(np.random.default_rng(1).normal(size=(3, 2)))
        dy = jnp.asarray(np.random.default_rng(0).normal(size=x.shape))

        def over_devices(x, gamma):
            def device(x, gamma):
                return sync_batch_norm(x, gamma, beta, eps, axis_name="d").y

            return jax.vmap(device, axis_name="d")(x, gamma)

        def definition(x, gamma):
            mean, var = jnp.mean(x, (0, 1)), jnp.var(x, (0, 1))
            return gamma[:, None] * (x - mean) / jnp.sqrt(var + EPS) + beta

        got, want = (jax.vjp(f, x, gamma)[1](dy) for f in (over_devices, definition))
        chex.assert_trees_all_close(got, want, rtol=1e-11, atol=1e-12)


@pytest.mark.thorough
def test_groups_of_one_device_do_not_share_statistics():
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 5)), jnp.float32)
    mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))

    def device(x):
        return sync_batch_norm(x[0], 1.0, 0.0, axis_name="d", axis_index_groups=[[0], [1]]).y[None]

    # vmap has no groups, and shard_map only where it does not check what varies
    y = jax.shard_map(device, mesh=mesh, in_specs=P("d"), out_specs=P("d"), check_vma=False)(x)
    np.testing.assert_allclose(y, jax.vmap(lambda x: batch_norm(x, 1.0, 0.0))(x), atol=1e-6)


@pytest.mark.parametrize("check_vma", [True, False])
@pytest.mark.parametrize("sync", [True, False], ids=["sync", "local"])
def test_gradients_under_shard_map_with_replicated_gamma(sync, check_vma):
    """γ is replicated, x is sharded: dγ must be summed over the devices once, not twice, not never."""
    with jax.enable_x64(True):
        x, gamma, beta, eps = arguments(THEOREM_34, (6, 3), 0)
        dy = jnp.asarray(np.random.default_rng(0).normal(size=x.shape))
        mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))

        def shard(x, gamma, beta, eps):
            if sync:
                return sync_batch_norm(x, gamma, beta, eps, axis_name="d").y
            return batch_norm(x, gamma, beta, eps)

        mapped = jax.shard_map(
            shard, mesh=mesh, in_specs=(P("d"), P(), P(), P()), out_specs=P("d"), check_vma=check_vma
        )
        y, vjp = jax.vjp(jax.jit(mapped), x, gamma, beta, eps)
        if sync:
            expected_y, *expected = whole_batch(x, gamma, beta, eps, dy)
        else:
            halves = [jax.vjp(batch_norm, part, gamma, beta, eps) for part in (x[:3], x[3:])]
            parts = [half[1](d) for half, d in zip(halves, (dy[:3], dy[3:]), strict=True)]
            expected_y = jnp.concatenate([half[0] for half in halves])
            expected = [
                jnp.concatenate([parts[0][0], parts[1][0]]),
                *(a + b for a, b in zip(parts[0][1:], parts[1][1:], strict=True)),
            ]
        chex.assert_trees_all_close(y, expected_y, rtol=1e-12, atol=1e-12)
        chex.assert_trees_all_close(list(vjp(dy)), expected, rtol=1e-11, atol=1e-12)


def test_jit_over_a_sharded_batch_needs_nothing():
    with jax.enable_x64(True):
        args = arguments(THEOREM_34, (6, 3), 0)
        mesh = jax.make_mesh((2,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
        sharded = jax.device_put(args[0], jax.NamedSharding(mesh, P("d")))
        gradient = jax.jit(jax.grad(lambda *a: jnp.sum(jnp.sin(batch_norm(*a))), (0, 1, 2, 3)))
        chex.assert_trees_all_close(gradient(sharded, *args[1:]), gradient(*args), rtol=1e-11, atol=1e-12)
