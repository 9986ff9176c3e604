"""The convolution by kernels: XLA's over a grid of shapes, in every transformation, and elsewhere."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from bnjax import ops
from bnjax.check import check_vjp
from bnjax.ops import cpu
from bnjax.ops.conv import conv_primal

pytestmark = pytest.mark.skipif(not cpu.available(), reason="no kernels on this machine")

KERNEL = "bnjax_convolution"
WINOGRAD, DIRECT = (3, 6, 8, 32, 32), (2, 5, 9, 3, 32)
# of the largest number: sums of some hundred terms, whose roundoff is a few times 2⁻²⁴
CLOSE = 2.0**-20


def arrays(n, h, w, c, o, seed=0):
    rng = np.random.default_rng(seed)
    shapes = ((n, h, w, c), (3, 3, c, o), (n, h, w, o))
    return [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]


def assert_close(got, expected, close=CLOSE):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        np.testing.assert_allclose(a, b, rtol=0, atol=close * np.max(abs(b)))


def pulled_back(function, x, kernel, dy):
    y, vjp = jax.vjp(function, x, kernel)
    return y, *vjp(dy)


def calls(function, *args):
    return jax.jit(function).lower(*args).as_text().count(f"@{KERNEL}")


@pytest.mark.family
@pytest.mark.parametrize(
    "shape",
    [
        WINOGRAD,
        DIRECT,
        (1, 2, 8, 16, 32),  # one image, one row of tiles
        (17, 2, 10, 16, 32),  # more images than chunks; tiles that fill no whole step
        (2, 14, 14, 32, 64),  # blocks that do not divide the rows
        (1, 40, 72, 16, 32),  # a row of tiles longer than a block
        (2, 1, 8, 1, 32),
        (2, 7, 11, 5, 64),  # odd everything
        (1, 8, 8, 18, 32),  # even sides, channels that are no whole vector
    ],
)
def test_is_xlas(shape):
    x, kernel, dy = arrays(*shape)
    assert calls(cpu.conv, x, kernel) == 1
    got = jax.jit(functools.partial(pulled_back, cpu.conv))(x, kernel, dy)
    with jax.enable_x64(True):
        wide = [a.astype(jnp.float64) for a in (x, kernel, dy)]
        assert_close(got, pulled_back(conv_primal, *wide))


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(1, 4, 8, 16, 32), (1, 3, 8, 1, 32)], ids=["winograd", "direct"])
def test_the_rule_is_accepted(shape):
    x, kernel, _ = arrays(*shape)
    report = check_vjp(cpu.conv, conv_primal, x, kernel)
    assert report.ok, report


def test_reverse_mode_runs_kernels_and_of_what_is_asked_only():
    x, kernel, dy = arrays(*WINOGRAD)
    assert calls(functools.partial(pulled_back, cpu.conv), x, kernel, dy) == 3

    def loss(kernel):
        return jnp.vdot(cpu.conv(x, kernel), dy)

    assert calls(jax.value_and_grad(loss), kernel) == 2


@pytest.mark.parametrize(
    ("shape", "dtype", "asked"),
    [
        ((2, 4, 3, 3, 32), jnp.float32, {}),
        ((2, 4, 8, 3, 5), jnp.float32, {}),
        ((2, 4, 8, 16, 32), jnp.bfloat16, {}),
        ((2, 4, 8, 16, 32), jnp.float64, {}),
        ((2, 4, 8, 16, 32), jnp.float32, {"window_strides": (2, 2)}),
        ((2, 4, 8, 16, 32), jnp.float32, {"precision": jax.lax.Precision.HIGHEST}),
        ((0, 4, 8, 16, 32), jnp.float32, {}),
    ],
    ids=str,
)
def test_elsewhere_it_is_xlas_path(shape, dtype, asked):
    with jax.enable_x64(dtype == jnp.float64):
        x, kernel = (a.astype(dtype) for a in arrays(*shape)[:2])
        by_kernels, by_xla = (functools.partial(f, **asked) for f in (cpu.conv, ops.conv))
        assert calls(by_kernels, x, kernel) == 0
        np.testing.assert_array_equal(jax.jit(by_kernels)(x, kernel), jax.jit(by_xla)(x, kernel))


def test_images_without_a_kernel_for_their_gradient_get_xlas():
    x, kernel, dy = arrays(*DIRECT)
    assert calls(functools.partial(pulled_back, cpu.conv), x, kernel, dy) == 2


def wave(convolve):
    return lambda x, kernel: jnp.sin(convolve(x, kernel))


def hessian_product(convolve):
    def loss(x, kernel):
        return jnp.sum(jnp.sin(convolve(x, kernel)))

    def along(x, kernel, x_dot, kernel_dot):
        gradient = jax.grad(loss, (0, 1))
        return jax.jvp(gradient, (x, kernel), (x_dot, kernel_dot))

    def twice(x, kernel, x_dot, kernel_dot):
        def squared(x, kernel):
            return sum(
                jnp.vdot(g, d)
                for g, d in zip(jax.grad(loss, (0, 1))(x, kernel), (x_dot, kernel_dot), strict=True)
            )

        return jax.grad(squared, (0, 1))(x, kernel)

    return lambda *args: (along(*args), twice(*args))


@pytest.mark.parametrize("shape", [WINOGRAD, DIRECT], ids=["winograd", "direct"])
def test_derivatives_of_every_kind(shape):
    x, kernel, _ = arrays(*shape)
    x = x / 20  # so that the sines' arguments are about 1
    x_dot, kernel_dot, _ = arrays(*shape, seed=1)
    moved = [
        jax.jit(lambda c=c: jax.jvp(wave(c), (x, kernel), (x_dot, kernel_dot)))()
        for c in (cpu.conv, conv_primal)
    ]
    assert_close(*moved, close=2.0**-18)
    products = [jax.jit(hessian_product(c))(x, kernel, x_dot, kernel_dot) for c in (cpu.conv, conv_primal)]
    assert_close(*products, close=2.0**-18)


def test_vmap_scan_and_no_jit():
    x, kernel, _ = arrays(*WINOGRAD)
    assert_close(jax.vmap(cpu.conv, (0, None))(x[:, None], kernel), conv_primal(x, kernel)[:, None])
    several = jnp.stack([kernel, 2 * kernel])
    expected = jnp.stack([conv_primal(x, k) for k in several])
    assert_close(jax.lax.scan(lambda c, k: (c, cpu.conv(x, k)), 0.0, several)[1], expected)
    with jax.disable_jit():
        assert_close(cpu.conv(x, kernel), expected[0])


def mesh():
    return jax.make_mesh((2,), ("batch",), axis_types=(AxisType.Auto,))


@pytest.mark.parametrize("check_vma", [True, False])
def test_in_shard_map_kernels_run(check_vma):
    x, kernel, dy = arrays(4, 4, 8, 32, 32)
    shard, whole = PartitionSpec("batch"), PartitionSpec()

    def gradients(x, kernel, dy):
        if check_vma:
            return pulled_back(cpu.conv, x, jax.lax.pcast(kernel, "batch", to="varying"), dy)
        return pulled_back(cpu.conv, x, kernel, dy)

    def summed(x, kernel, dy):
        y, dx, dk = gradients(x, kernel, dy)
        return y, dx, jax.lax.psum(dk, "batch")

    mapped = jax.jit(
        jax.shard_map(
            summed,
            mesh=mesh(),
            in_specs=(shard, whole, shard),
            out_specs=(shard, shard, whole),
            check_vma=check_vma,
        )
    )
    assert mapped.lower(x, kernel, dy).as_text().count(f"@{KERNEL}") == 3
    assert_close(mapped(x, kernel, dy), pulled_back(conv_primal, x, kernel, dy))


def test_a_sharded_batch_is_not_gathered():
    x, kernel, dy = arrays(4, 4, 8, 32, 32)
    shard = NamedSharding(mesh(), PartitionSpec("batch"))
    placed = jax.device_put(x, shard), kernel, jax.device_put(dy, shard)
    whole = jax.jit(functools.partial(pulled_back, cpu.conv))
    assert "all-gather" not in whole.lower(*placed).compile().as_text()
    got = whole(*placed)
    assert got[0].sharding.is_equivalent_to(shard, 4)
    assert_close(got, pulled_back(conv_primal, x, kernel, dy))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf], ids=str)
def test_nothing_not_finite_is_lost_or_spreads_beyond_its_tile(bad):
    x, kernel, _ = arrays(*WINOGRAD)
    x = x.at[1, 2, 3, 4].set(bad)
    got, expected = (np.isfinite(np.asarray(f(x, kernel))).all(-1) for f in (cpu.conv, conv_primal))
    assert not (got & ~expected).any()
    # XLA's are rows 1 to 3 and columns 2 to 4: of tiles of two, rows 0 to 3 and columns 2 to 5
    spread = np.ones_like(got)
    spread[1, 0:4, 2:6] = False
    assert got[spread].all()


def test_the_number_of_threads_changes_nothing():
    x, kernel, dy = arrays(17, 6, 8, 32, 32)
    step = functools.partial(pulled_back, cpu.conv)
    alone = jax.jit(step, compiler_options={"xla_cpu_multi_thread_eigen": False})
    for one, many in zip(alone(x, kernel, dy), jax.jit(step)(x, kernel, dy), strict=True):
        np.testing.assert_array_equal(one, many)
