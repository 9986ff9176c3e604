"""Batch norm by kernels: XLA's path over a grid of shapes, its precision far from 0, every transformation."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import bnjax.nn.linen
import bnjax.nn.nnx
from bnjax import ops, prove_vjp
from bnjax.check import check_vjp
from bnjax.ops import cpu
from bnjax.ops.batch_norm_relu import batch_norm_relu_primal
from bnjax.theorems import sync_batch_norm
from bnjax.theorems.batch_norm import batch_norm_primal

pytestmark = pytest.mark.skipif(not cpu.available(), reason="no kernels on this machine")

KERNEL = "bnjax_batch_norm"
relus = pytest.mark.parametrize("relu", [False, True], ids=["plain", "relu"])
# of the largest number: sums of some thousand terms in blocks, whose roundoff is a few times 2⁻²⁴
CLOSE = 2.0**-20


def arrays(*shape, mean=0.0, seed=0):
    """x, γ, β and dy; no z is within roundoff of ReLU's kink, or both paths are right there."""
    rng = np.random.default_rng(seed)
    x, dy = rng.normal(size=(2, *shape))
    gamma, beta = rng.uniform(0.5, 2, (2, shape[-1]))
    over = tuple(range(x.ndim - 1))
    z = gamma * (x - x.mean(over)) / np.sqrt(x.var(over) + 1e-3) + beta
    x = np.where(abs(z) < 1e-3, x + 0.01, x)
    return [jnp.asarray(a, jnp.float32) for a in (mean + x, gamma, beta, dy)]


def outputs(function, x, gamma, beta, eps=1e-3):
    return function(x, gamma, beta, eps, axis=tuple(range(x.ndim - 1)))[:3]


def by_kernels(relu, **asked):
    op = functools.partial(cpu.batch_norm_with_statistics, relu=relu, **asked)
    return lambda *args: outputs(op, *args)


def by_xla(relu, **asked):
    op = ops.batch_norm_relu_with_statistics if relu else sync_batch_norm
    return lambda *args: outputs(functools.partial(op, **asked), *args)


def trained(function, x, gamma, beta, dy):
    """y and the statistics, and the cotangents of x, γ and β for one of y."""

    def split(*args):
        y, *statistics = function(*args)
        return y, statistics

    y, vjp, statistics = jax.vjp(split, x, gamma, beta, has_aux=True)
    return y, statistics, vjp(dy)


def assert_close(got, expected, close=CLOSE):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=close * max(np.max(abs(b)), 0.1))


def calls(function, *args):
    return jax.jit(function).lower(*args).as_text().count(f"@{KERNEL}")


LARGE = (16384, 64)  # what is written goes past the caches, in bfloat16 too


@pytest.mark.family
@relus
@pytest.mark.parametrize(
    "shape", [(101, 32), (3, 16), (1, 16), (17, 48), (4, 5, 7, 64), (300, 512), LARGE], ids=str
)
def test_is_xlas(shape, relu):
    args = arrays(*shape)
    assert calls(functools.partial(trained, by_kernels(relu)), *args) == 2
    got = jax.jit(functools.partial(trained, by_kernels(relu)))(*args)
    with jax.enable_x64(True):
        expected = trained(by_xla(relu), *(a.astype(jnp.float64) for a in args))
    assert_close(got, expected)


@pytest.mark.family
@relus
@pytest.mark.parametrize("shape", [(101, 32), (3, 16), (4, 5, 7, 64), (300, 512), LARGE], ids=str)
def test_in_bfloat16_only_what_is_written_is_rounded(shape, relu):
    x, gamma, beta, dy = arrays(*shape)
    x, dy = x.astype(jnp.bfloat16), dy.astype(jnp.bfloat16)
    step = functools.partial(trained, by_kernels(relu))
    assert calls(step, x, gamma, beta, dy) == 2
    y, statistics, (dx, *others) = jax.jit(step)(x, gamma, beta, dy)
    assert {y.dtype, dx.dtype} == {x.dtype}
    with jax.enable_x64(True):
        exact = trained(by_xla(relu), *(a.astype(jnp.float64) for a in (x, gamma, beta, dy)))
    assert_close((statistics, others), (exact[1], exact[2][1:]))
    for got, expected in ((y, exact[0]), (dx, exact[2][0])):
        got, expected = np.asarray(got, np.float64), np.asarray(expected)
        # half the distance to the next bfloat16, and the roundoff of what is rounded
        bound = 2.0**-8 * abs(expected) + CLOSE * np.max(abs(expected))
        np.testing.assert_array_less(abs(got - expected), bound)


def test_bfloat16_are_rounded_to_nearest_and_ties_to_even():
    """One row of a batch whose γ is 0: y is β, and β is whatever float32 we like."""
    rng = np.random.default_rng(0)
    bits = rng.integers(0, 2**32, 4096, np.uint32)
    bits[:2048] = (bits[:2048] & 0xFFFF0000) | 0x8000  # ties
    beta = bits.view(np.float32)
    beta[abs(beta) < 2 * np.finfo(np.float32).tiny] = np.nan  # XLA's threads take subnormal numbers for 0
    x = jnp.ones((3, beta.size), jnp.bfloat16)
    y = cpu.batch_norm_with_statistics(x, jnp.zeros(beta.size), jnp.asarray(beta)).y
    expected = jnp.asarray(beta).astype(jnp.bfloat16)
    np.testing.assert_array_equal(y[1].astype(np.float32), expected.astype(np.float32))


@pytest.mark.thorough
@pytest.mark.parametrize("ratio", [1e2, 1e3, 1e4])
def test_the_gradient_far_from_zero_is_no_worse_than_two_passes(ratio):
    args = arrays(2000, 32, mean=ratio)
    with jax.enable_x64(True):
        wide = [a.astype(jnp.float64) for a in args]
        exact = trained(by_xla(False), *wide)[2][0]
    found = [np.asarray(trained(f, *args)[2][0], np.float64) for f in (by_kernels(False), by_xla(False))]
    errors = [np.max(abs(dx - np.asarray(exact))) for dx in found]
    # both are that of the mean's one rounding, here by chance the one's and there the other's
    assert errors[0] <= 2 * errors[1]


def test_an_outlier_first_costs_nothing():
    """What deviations are taken from begins as a chunk's first row."""
    x, gamma, beta, dy = arrays(16 * 512, 16)
    x = x.at[::512].set(-1e4)  # the first row of each of 16 chunks
    _, (mean, var), _ = trained(by_kernels(False), x, gamma, beta, dy)
    wide = np.asarray(x, np.float64)
    assert np.max(abs(np.asarray(mean) - wide.mean(0)) / wide.std(0)) < 2.0**-22
    assert np.max(abs(np.asarray(var) / wide.var(0) - 1)) < 2.0**-20


@pytest.mark.slow
@relus
def test_the_rule_is_accepted(relu):
    x, gamma, beta, _ = arrays(9, 16)
    primal = batch_norm_relu_primal if relu else batch_norm_primal
    op = functools.partial(cpu.batch_norm_with_statistics, relu=relu)
    report = check_vjp(lambda *a: op(*a).y, primal, x, gamma, beta, np.float32(1e-3))
    assert report.ok, report


@pytest.mark.family
@pytest.mark.parametrize(
    ("change", "asked"),
    [
        (lambda x: x[:, :15], {}),
        (lambda x: x.astype(jnp.float16), {}),
        (lambda x: x.astype(jnp.float64), {}),
        (lambda x: x, {"where": np.arange(101)[:, None] < 50}),
    ],
    ids=["15 channels", "float16", "float64", "mask"],
)
@relus
def test_elsewhere_it_is_xlas_path(change, asked, relu):
    with jax.enable_x64(True):
        x = change(arrays(101, 16)[0])
        gamma = jnp.ones(x.shape[1], jnp.promote_types(x.dtype, jnp.float32))
        functions = [jax.jit(f(relu, **asked)) for f in (by_kernels, by_xla)]
        assert calls(functions[0], x, gamma, gamma) == 0
        for got, expected in zip(*(f(x, gamma, gamma) for f in functions), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_channels_first_are_xlas():
    x = jnp.ones((16, 8, 16))
    op = functools.partial(cpu.batch_norm_with_statistics, axis=(0, 1, 2)[1:])
    assert calls(lambda x: op(x, jnp.ones(16), jnp.ones(16)).y, x) == 0


@pytest.mark.family
@relus
def test_derivatives_of_every_kind(relu):
    """Forward mode, a loss of the statistics too, and second derivatives."""
    x, gamma, beta, dy = arrays(33, 16)
    moved = [jax.jvp(f(relu), (x, gamma, beta), (dy, beta, gamma)) for f in (by_kernels, by_xla)]
    assert_close(*moved)

    def loss(function):
        def value(*args):
            y, mean, var = function(*args)
            return jnp.vdot(jnp.sin(y), dy) + jnp.sum(mean**2) + jnp.sum(jnp.cos(var))

        return value

    gradients = [jax.jit(jax.grad(loss(f(relu)), (0, 1, 2)))(x, gamma, beta) for f in (by_kernels, by_xla)]
    assert_close(*gradients)

    def twice(function):
        def squared(*args):
            return sum(jnp.sum(g**2) for g in jax.grad(loss(function), (0, 1, 2))(*args))

        return jax.jit(jax.grad(squared, (0, 1, 2)))(x, gamma, beta)

    assert_close(twice(by_kernels(relu)), twice(by_xla(relu)), close=2.0**-17)


def test_eps_has_its_cotangent():
    x, gamma, beta, dy = arrays(33, 16)
    loss = [lambda eps, f=f: jnp.vdot(f(False)(x, gamma, beta, eps)[0], dy) for f in (by_kernels, by_xla)]
    assert_close(*(jax.grad(f)(jnp.float32(0.5)) for f in loss))


@pytest.mark.thorough
def test_vmap_scan_and_no_jit():
    x, gamma, beta, _ = arrays(6, 8, 16)
    expected = jnp.stack([by_xla(True)(one, gamma, beta)[0] for one in x])
    function = by_kernels(True)
    assert_close(jax.vmap(lambda one: function(one, gamma, beta)[0])(x), expected)
    assert_close(jax.lax.scan(lambda c, one: (c, function(one, gamma, beta)[0]), 0.0, x)[1], expected)
    with jax.disable_jit():
        assert_close(function(x[0], gamma, beta)[0], expected[0])


@pytest.mark.parametrize("check_vma", [True, False])
def test_in_shard_map_kernels_run(check_vma):
    """Each device norms its own shard; γ and β are everywhere, so their cotangents are summed."""
    x, gamma, beta, dy = arrays(8, 16)
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
    shard, whole = PartitionSpec("batch"), PartitionSpec()

    def loss(x, gamma, beta, dy):
        def of_each(x, gamma, beta, dy):
            y = by_kernels(True)(x, gamma, beta)[0]
            return jax.lax.psum(jnp.vdot(y, dy), "batch")

        specs = (shard, whole, whole, shard)
        return jax.shard_map(of_each, mesh=mesh, in_specs=specs, out_specs=whole, check_vma=check_vma)(
            x, gamma, beta, dy
        )

    def apart(x, gamma, beta, dy):
        halves = [by_xla(True)(half, gamma, beta)[0] for half in jnp.split(x, 2)]
        return jnp.vdot(jnp.concatenate(halves), dy)

    args = x, gamma, beta, dy
    mapped = jax.jit(jax.value_and_grad(loss, (0, 1, 2)))
    assert mapped.lower(*args).as_text().count(f"@{KERNEL}") == 2
    assert_close(mapped(*args), jax.value_and_grad(apart, (0, 1, 2))(*args))


def test_a_sharded_batch_is_not_gathered():
    x, gamma, beta, dy = arrays(64, 16)
    mesh = jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))
    x, dy = jax.device_put((x, dy), NamedSharding(mesh, PartitionSpec("batch")))
    whole = jax.jit(functools.partial(trained, by_kernels(True)))
    assert "all-gather" not in whole.lower(x, gamma, beta, dy).compile().as_text()
    assert_close(whole(x, gamma, beta, dy), trained(by_xla(True), x, gamma, beta, dy))


@pytest.mark.family
@relus
@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_channel_that_is_not_finite_says_so(relu, bad, dtype):
    """NaN throughout, as XLA's path; where a sum overflows to ∞ the mean may be NaN instead."""
    x, gamma, beta, dy = arrays(33, 32)
    x, dy = x.at[5, 3].set(bad).astype(dtype), dy.astype(dtype)
    got, expected = (trained(f(relu), x, gamma, beta, dy) for f in (by_kernels, by_xla))
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_array_equal(np.isfinite(a), np.isfinite(b))


def test_the_number_of_threads_changes_nothing():
    args = arrays(1001, 48)
    step = functools.partial(trained, by_kernels(True))
    alone = jax.jit(step, compiler_options={"xla_cpu_multi_thread_eigen": False})(*args)
    for one, many in zip(jax.tree.leaves(alone), jax.tree.leaves(jax.jit(step)(*args)), strict=True):
        np.testing.assert_array_equal(one, many)


LAYERS = {"plain": bnjax.nn.nnx.BatchNorm, "relu": bnjax.nn.nnx.BatchNormRelu}


@pytest.mark.parametrize("cls", LAYERS.values(), ids=LAYERS)
def test_an_nnx_layer_that_asks_for_kernels_runs_them(cls):
    x, _, _, dy = arrays(5, 4, 3, 16)

    def step(cpu_kernels):
        layer = cls(16, rngs=nnx.Rngs(0))
        layer.cpu_kernels = cpu_kernels
        graph, params, stats = nnx.split(layer, nnx.Param, nnx.BatchStat)

        def loss(params):
            merged = nnx.merge(graph, params, stats, copy=True)
            return jnp.vdot(merged(x), dy), nnx.state(merged, nnx.BatchStat)

        return jax.jit(jax.value_and_grad(loss, has_aux=True)), params

    (with_kernels, params), (without, _) = step(True), step(False)
    assert with_kernels.lower(params).as_text().count(f"@{KERNEL}") == 2
    assert KERNEL not in without.lower(params).as_text()
    assert_close(with_kernels(params), without(params))


def test_a_linen_layer_that_asks_for_kernels_runs_them():
    x = arrays(5, 4, 3, 16)[0]

    class WithKernels(bnjax.nn.linen.BatchNorm):
        cpu_kernels = True

    found = []
    for cls in (WithKernels, bnjax.nn.linen.BatchNorm):
        layer = cls(use_running_average=False)
        variables = layer.init(jax.random.key(0), x)
        apply = jax.jit(functools.partial(layer.apply, mutable=["batch_stats"]))
        assert (KERNEL in apply.lower(variables, x).as_text()) == cls.cpu_kernels
        found.append(apply(variables, x))
    assert_close(*found)


@pytest.mark.thorough
def test_the_prover_refuses_what_it_cannot_see_into():
    proof = prove_vjp(
        lambda x, g, b: cpu.batch_norm_with_statistics(x, g, b).y,
        lambda x, g, b: batch_norm_primal(x, g, b),
        "N 16",
        "16",
        "16",
    )
    assert proof.status == "refused"
