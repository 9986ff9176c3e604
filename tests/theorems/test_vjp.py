"""Every op against autodiff of its primal and against its dense Jacobian, value and every cotangent."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import THEOREMS, batch_norm
from tests.theorems.cases import (
    CASES,
    EPS,
    EVERY_CASE,
    EVERY_OP,
    arguments,
    batch_size,
    probes,
)

# float64 roundoff 1.1e-16, times the few thousand operations that the largest case sums
RTOL = 1e-12


def close(actual, expected, scale=1.0):
    """Equal to RTOL of the largest expected entry, as roundoff in a sum is relative to its terms."""
    largest = max(scale, float(np.max(np.abs(expected), initial=0)))
    chex.assert_trees_all_close(actual, expected, rtol=0, atol=RTOL * largest)


def vjps(theorem, args, axis):
    return [jax.vjp(partial(f, axis=axis), *args) for f in (theorem.op, theorem.primal)]


@pytest.mark.family
@EVERY_OP
@EVERY_CASE
def test_op_is_its_primal_and_its_vjp_is_autodiffs(theorem, shape, axis):
    with jax.enable_x64(True):
        args = arguments(theorem, shape, axis)
        (y, vjp), (expected_y, expected_vjp) = vjps(theorem, args, axis)
        chex.assert_trees_all_equal(y, expected_y)
        for probe in probes(theorem, args, axis).values():
            cotangents, expected = vjp(probe), expected_vjp(probe)
            chex.assert_trees_all_equal_shapes_and_dtypes(cotangents, args)
            for cotangent, reference in zip(cotangents, expected, strict=True):
                close(cotangent, reference)


@pytest.mark.family
@EVERY_OP
@EVERY_CASE
def test_vjp_is_the_dense_jacobian_transposed(theorem, shape, axis):
    with jax.enable_x64(True):
        args = arguments(theorem, shape, axis)
        jacobian = theorem.jacobian(*args, axis=axis)
        y, vjp = jax.vjp(partial(theorem.op, axis=axis), *args)
        assert jacobian.shape == y.shape + shape
        for probe in probes(theorem, args, axis).values():
            close(vjp(probe)[0], jnp.tensordot(probe, jacobian, y.ndim))


@pytest.mark.family
@EVERY_OP
@pytest.mark.parametrize(("shape", "axis"), CASES[:6])
def test_jacobian_is_autodiffs(theorem, shape, axis):
    with jax.enable_x64(True):
        args = arguments(theorem, shape, axis)
        expected = jax.jacfwd(partial(theorem.primal, axis=axis))(*args)
        close(theorem.jacobian(*args, axis=axis), expected)


@EVERY_OP
@pytest.mark.parametrize(("shape", "axis"), CASES[:4])
def test_directional_derivative_by_central_differences(theorem, shape, axis):
    """⟨dy, Jv⟩ = ⟨VJP(dy), v⟩ with Jv from its definition, so that no rule of JAX is trusted."""
    # eighth order: f'(0) = Σ w_k (f(kh) − f(−kh)) / h, error about h⁸
    weights = (4 / 5, -1 / 5, 4 / 105, -1 / 280)
    step = 2.0**-7
    with jax.enable_x64(True):
        args = arguments(theorem, shape, axis)
        rng = np.random.default_rng(2)
        # ε stays positive: its direction is its own size
        directions = [jnp.asarray(rng.normal(size=a.shape) * (EPS if a.shape == () else 1)) for a in args]

        def along(t):
            moved = (a + t * v for a, v in zip(args, directions, strict=True))
            return theorem.primal(*moved, axis=axis)

        jv = sum(w * (along(k * step) - along(-k * step)) / step for k, w in enumerate(weights, start=1))
        y, vjp = jax.vjp(partial(theorem.op, axis=axis), *args)
        dy = jnp.asarray(rng.normal(size=y.shape))
        inner = sum(jnp.vdot(ct, v) for ct, v in zip(vjp(dy), directions, strict=True))
        np.testing.assert_allclose(inner, jnp.vdot(dy, jv), rtol=1e-9, atol=1e-9)


@EVERY_OP
@EVERY_CASE
def test_linear_in_the_cotangent(theorem, shape, axis):
    with jax.enable_x64(True):
        args = arguments(theorem, shape, axis)
        y, vjp = jax.vjp(partial(theorem.op, axis=axis), *args)
        rng = np.random.default_rng(3)
        a, b = (jnp.asarray(rng.normal(size=y.shape)) for _ in range(2))
        for combined, va, vb in zip(vjp(2 * a - 3 * b), vjp(a), vjp(b), strict=True):
            close(combined, 2 * va - 3 * vb, scale=10)
        chex.assert_trees_all_equal(vjp(jnp.zeros_like(y)), jax.tree.map(jnp.zeros_like, args))


@pytest.mark.family
@EVERY_OP
@pytest.mark.parametrize(("shape", "axis"), [((7,), 0), ((5, 3), -1), ((2, 3, 2, 3), (0, 2, 3))])
def test_under_jit_and_vmap(theorem, shape, axis):
    with jax.enable_x64(True):
        many = [arguments(theorem, shape, axis, seed=seed) for seed in range(3)]
        dys = [probes(theorem, args, axis)["random"] for args in many]

        def value_and_vjp(dy, *args):
            y, vjp = jax.vjp(partial(theorem.op, axis=axis), *args)
            return y, *vjp(dy)

        expected = [value_and_vjp(dy, *args) for dy, args in zip(dys, many, strict=True)]
        jitted = [jax.jit(value_and_vjp)(dy, *args) for dy, args in zip(dys, many, strict=True)]
        stacked = [jnp.stack(leaves) for leaves in zip(*many, strict=True)]
        mapped = jax.vmap(value_and_vjp)(jnp.stack(dys), *stacked)
        for got, want in zip(jax.tree.leaves(jitted), jax.tree.leaves(expected), strict=True):
            close(got, want)
        for got, want in zip(mapped, zip(*expected, strict=True), strict=True):
            close(got, jnp.stack(want))


@pytest.mark.family
@EVERY_OP
@pytest.mark.parametrize(("shape", "axis"), [((1,), 0), ((7,), 0), ((2, 3, 2, 3), (0, 2, 3))])
def test_second_order_reverse_over_reverse_and_forward_over_reverse(theorem, shape, axis):
    with jax.enable_x64(True):
        args = arguments(theorem, shape, axis)
        every = tuple(range(len(args)))

        def gradient(f):
            return jax.grad(lambda *a: jnp.sum(jnp.sin(f(*a, axis=axis))), every)

        def norm(f):
            return lambda *a: sum(jnp.sum(g**2) for g in gradient(f)(*a))

        hand = jax.grad(norm(theorem.op), every)(*args)
        reference = jax.grad(norm(theorem.primal), every)(*args)
        # ε = 0.1 to the third power divides these: their own size is the scale of their roundoff
        for got, want in zip(hand, reference, strict=True):
            close(got, want, scale=10)
        _, hand_jvp = jax.jvp(gradient(theorem.op), args, args)
        _, reference_jvp = jax.jvp(gradient(theorem.primal), args, args)
        for got, want in zip(hand_jvp, reference_jvp, strict=True):
            close(got, want, scale=10)


@pytest.mark.thorough
@EVERY_OP
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__)
@pytest.mark.parametrize(("shape", "axis"), [((1,), 0), ((64,), 0), ((8, 7, 5, 3), (0, 1, 2))])
def test_low_precision_against_float64(theorem, dtype, shape, axis):
    """The result for the rounded inputs, within roundoff of what the float64 program gives for them.

    Whatever the dtype, the arithmetic is float32 (u = 2⁻²⁴), and the result is rounded once more to its
    own dtype.  A sum of n rounded terms errs by about √n·u times the sum of their sizes (Higham & Mary
    2019), which for dx is |J|ᵀ|dy| and for a parameter at most Σ|dy| times the largest derivative by
    it, 1/√ε³ here; 8 is for the few sums and products that meet in one result.
    """
    low = arguments(theorem, shape, axis, dtype)
    statistic = theorem.op.__name__ == "inverse_stddev"
    y, vjp = jax.vjp(partial(theorem.op, axis=axis), *low)
    assert y.dtype == (jnp.float32 if statistic else dtype)
    with jax.enable_x64(True):
        high = [a.astype(jnp.float64) for a in low]
        expected_y, expected_vjp = jax.vjp(partial(theorem.primal, axis=axis), *high)
        jacobian = np.abs(theorem.jacobian(*high, axis=axis))
        dys = {key: probe.astype(y.dtype) for key, probe in probes(theorem, high, axis).items()}
        expected = {key: expected_vjp(dy.astype(jnp.float64)) for key, dy in dys.items()}
    roundoff = 8 * np.sqrt(batch_size(shape, axis) + 16) * 2.0**-24

    def check(got, want, size):
        want = np.asarray(want)
        info = jnp.finfo(got.dtype)
        once_more = np.maximum(float(info.eps) / 2 * np.abs(want), float(info.smallest_subnormal))
        assert np.all(np.abs(np.asarray(got, np.float64) - want) <= once_more + roundoff * size)

    check(y, expected_y, np.max(np.abs(expected_y)) + 1)
    for key, dy in dys.items():
        cotangents = vjp(dy)
        chex.assert_trees_all_equal_shapes_and_dtypes(cotangents, low)
        sizes = np.abs(np.asarray(dy, np.float64))
        # a small x_i − μ has the absolute error of its neighbours: the largest entry sets the size
        check(cotangents[0], expected[key][0], np.max(np.tensordot(sizes, jacobian, sizes.ndim)))
        for got, want in zip(cotangents[1:], expected[key][1:], strict=True):
            check(got, want, sizes.sum() / EPS**1.5)


def test_theorems_31_and_33_are_about_the_functions_of_30_and_28():
    """So that what is tested of each op is tested of each theorem."""
    by_number = {theorem.number: theorem for theorem in THEOREMS}
    assert tuple(by_number) == (28, 29, 30, 31, 32, 33, 34)
    for other, tested in ((31, 30), (33, 28)):
        for function in ("op", "primal", "jacobian"):
            assert getattr(by_number[other], function) is getattr(by_number[tested], function)


def test_float64_stays_float64():
    with jax.enable_x64(True):
        for theorem in THEOREMS:
            args = arguments(theorem, (4, 3), 0)
            y, vjp = jax.vjp(theorem.op, *args)
            chex.assert_type((y, *vjp(y)), jnp.float64)


@pytest.mark.thorough
def test_half_precision_x_with_float32_parameters_keeps_both():
    x = jnp.ones((4, 3), jnp.bfloat16) * jnp.arange(4, dtype=jnp.bfloat16)[:, None]
    gamma, beta = jnp.ones(3), jnp.zeros(3)
    y, vjp = jax.vjp(batch_norm, x, gamma, beta)
    dx, dgamma, dbeta = vjp(y)
    assert (y.dtype, dx.dtype) == (jnp.bfloat16, jnp.bfloat16)
    assert (dgamma.dtype, dbeta.dtype) == (jnp.float32, jnp.float32)


def test_dgamma_and_dbeta_of_a_half_precision_batch_are_summed_in_float32():
    """4,097 ones sum to 4,096 in bfloat16 at best; in float32 they are counted."""
    x = jnp.zeros((4097,), jnp.bfloat16)
    _, vjp = jax.vjp(batch_norm, x, jnp.float32(1), jnp.float32(0))
    assert float(vjp(jnp.ones_like(x))[2]) == 4097


def test_shared_eps_gets_the_sum_of_the_channels_cotangents():
    with jax.enable_x64(True):
        x, gamma, beta, eps = arguments(THEOREMS[-1], (5, 3), 0)
        dy = jnp.asarray(np.random.default_rng(4).normal(size=(5, 3)))
        shared = jax.vjp(batch_norm, x, gamma, beta, eps)[1](dy)[3]
        each = jax.vjp(batch_norm, x, gamma, beta, jnp.full(3, eps))[1](dy)[3]
        assert (shared.shape, each.shape) == ((), (3,))
        close(shared, jnp.sum(each))
