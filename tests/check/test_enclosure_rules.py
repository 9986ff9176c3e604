"""Every primitive that a float program can hold has a rule, on numbers that were computed; or is named."""

import jax
import jax.numpy as jnp
import jax.scipy.linalg as linalg
import jax.scipy.special as special
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Primitive
from jax.extend.core import primitives as jaxs

from bnjax.check import enclosure
from bnjax.check.enclosure.float64 import NUMPY
from bnjax.jaxprs import equations

A = np.random.default_rng(0).uniform(0.3, 0.9, (3, 4))
B = np.random.default_rng(1).uniform(0.3, 0.9, (3, 4))
IMAGE = np.random.default_rng(2).normal(size=(2, 5, 6, 3))
BITS = np.arange(4, dtype=np.uint32)
KEY = jax.random.key(0)
NHWC = ("NHWC", "HWIO", "NHWC")


@jax.custom_vjp
def squared(x):
    """x², with a rule of its own."""
    return x * x


squared.defvjp(lambda x: (x * x, x), lambda x, ct: (2 * x * ct,))


def _window(operand, start, reduce):
    return lax.reduce_window(operand, start, reduce, (1, 2, 3, 1), (1, 2, 1, 1), "SAME")


def _positive(a):
    return a @ a.T + jnp.eye(3)


def _image(a):
    return a[0, 0] * jnp.asarray(IMAGE, a.dtype)


def _pool(a):
    return _window(_image(a), -jnp.inf, lax.max)


def _derivative(f, a, b):
    """Backward and forward derivatives of f, at a computed number along a computed number."""
    y, pull = jax.vjp(f, a)
    return pull(jnp.sin(y) + b[0, 0])[0], jax.jvp(f, (a,), (jnp.cos(a) * b[0, 0],))[1]


def _unary(name, scale=1.0, shift=0.0):
    return lambda a, b: getattr(lax, name)(scale * a + shift)


def _binary(name):
    return lambda a, b: getattr(lax, name)(a, b)


# name ↦ (program of two computed (3, 4) arrays, how wide its ball may be beside its largest element)
ELEMENTWISE = {
    **{name: (_unary(name), 1e-4) for name in (
        "neg", "abs", "square", "sqrt", "rsqrt", "exp", "exp2", "expm1", "log", "log1p", "tanh", "logistic",
        "sin", "cos", "tan", "asin", "acos", "atan", "sinh", "cosh", "asinh", "atanh", "erf", "erfc",
        "erf_inv", "lgamma", "digamma", "cbrt", "sign", "floor", "ceil", "round", "is_finite", "bessel_i0e",
        "bessel_i1e", "stop_gradient")},
    "acosh": (_unary("acosh", 1, 1.5), 1e-4),
    **{name: (_binary(name), 1e-4) for name in (
        "add", "sub", "mul", "div", "max", "min", "pow", "atan2", "nextafter", "igamma", "igammac",
        "igamma_grad_a")},
    "comparisons": (lambda a, b: [a > b, a < b, a >= b, a <= b, a == b, a != b, (a > b) & (a > 0.5),
                                  (a > b) | ~(a > 0.5), (a > b) ^ (b > 0.5)], 1e-4),
    "rem": (lambda a, b: lax.rem(7 * a, b), 1e-3),
    "integer powers": (lambda a, b: a**3 + b**-2, 1e-4),
    "clamp": (lambda a, b: [jnp.clip(a, 0.4, b), lax.clamp(0.5, a, 0.6)], 1e-4),
    "zeta": (lambda a, b: special.zeta(a + 2, b), 1e-3),
    "polygamma": (lambda a, b: special.polygamma(2, a), 1e-3),
    "betainc": (lambda a, b: special.betainc(a, b, 0.5 * a), 1e-3),
    "to integers": (lambda a, b: ((9 * a).astype(jnp.int32) // 2 * 3 - 1, a.astype(bool)), 1e-4),
    "bits of random numbers": (lambda a, b: a * jax.random.uniform(KEY, (3, 4), jnp.float32), 1e-4),
    "random key": (lambda a, b: a * (jax.random.uniform(
        jax.random.fold_in(jax.random.split(KEY)[0], 3), (3, 4), jnp.float32) > 0.5), 1e-4),
    "key data": (lambda a, b: a * jax.random.bits(
        jax.random.wrap_key_data(jax.random.key_data(KEY)), (4,), jnp.uint8),
                 1e-4),
    "raw key": (lambda a, b: a * jax.random.normal(jax.random.PRNGKey(1), (3, 4), jnp.float32), 1e-4),
    "bits of integers": (lambda a, b: a * ((jnp.arange(4, dtype=jnp.int32) << 2) >> 1) + (a.dtype.type(1) * (
        lax.shift_right_logical(BITS, BITS) + lax.population_count(BITS) + lax.clz(BITS))), 1e-4),
    "select of three": (lambda a, b: lax.select_n((3 * a).astype(jnp.int32), a, b, -a), 1e-4),
    "checkpoint name": (lambda a, b: checkpoint_name(a, "a"), 1e-4),
    "a place": (lambda a, b: lax.with_sharding_constraint(
        a, jax.sharding.SingleDeviceSharding(jax.devices()[0])), 1e-4),
    "a precision": (lambda a, b: lax.reduce_precision(a, 8, 23), 1e-4),
    "barrier": (lambda a, b: lax.optimization_barrier((a, b)), 1e-4),
}  # fmt: skip
COMPLEX = {
    "fft": (lambda a, b: jnp.abs(jnp.fft.fft(a)) ** 2, 1e-4),
    "fft2 and back": (lambda a, b: jnp.fft.ifft2(jnp.fft.fft2(a) * jnp.fft.fft2(b)).real, 1e-4),
    "rfft and back": (lambda a, b: jnp.fft.irfft(jnp.fft.rfft(a, 8) * jnp.fft.rfft(b, 8)), 1e-4),
    "parts": (lambda a, b: [jnp.real(z := lax.complex(a, b)), jnp.imag(jnp.conj(z)), abs(z), z * z / (z + 1),
                            jnp.angle(z), jnp.sum(z, 0), z @ z.T, -z, z[0], jnp.where(a > 0.5, z, 1j)], 1e-4),
    "functions": (lambda a, b: [jnp.exp(z := lax.complex(a, b)), jnp.sin(z), jnp.cos(z), jnp.tanh(z),
                                jnp.sqrt(z), jnp.log(z), z**3, jnp.sign(z), jnp.square(z)], 1e-4),
    "power spectrum's derivative": (lambda a, b: _derivative(
        lambda x: jnp.sum(jnp.abs(jnp.fft.rfft(x)) ** 2, -1), a, b), 1e-3),
    "captured complex array": (lambda a, b: jnp.real(a * np.array([1, 1j, -1, 2 - 1j])), 1e-4),
}  # fmt: skip
REDUCTIONS = {
    "sums": (lambda a, b: [jnp.sum(a, 0), jnp.cumsum(a, 1), lax.cumsum(a, 0, reverse=True)], 1e-4),
    "products": (lambda a, b: [jnp.prod(a, 0), jnp.cumprod(a, 1), jnp.prod(a - b)], 1e-3),
    "max over an axis": (lambda a, b: [jnp.max(a, 0), jnp.min(a - b, 1), jnp.max(a)], 1e-4),
    "cummax": (lambda a, b: [lax.cummax(a, 0), lax.cummin(b, 1, reverse=True)], 1e-4),
    "cumlogsumexp": (lambda a, b: lax.cumlogsumexp(5 * a - 4, 1), 1e-4),
    "logsumexp": (lambda a, b: jax.nn.logsumexp(a, 1), 1e-4),
    "argmax": (lambda a, b: [jnp.argmax(a, 0), jnp.argmin(b, 1), jax.nn.one_hot(jnp.argmax(a, 1), 4)], 1e-4),
    "reductions of truth values": (lambda a, b: [jnp.any(a > b, 0), jnp.all(a > b, 1),
                                                 lax.reduce_xor(a > b, (0,)), jnp.sum(a > b)], 1e-4),
    "windows of sums": (lambda a, b: _window(_image(a), 0.0, lax.add), 1e-4),
    "windows of maxima": (lambda a, b: [_pool(a), _window(_image(b), jnp.inf, lax.min)], 1e-4),
    "max pooling's derivative": (lambda a, b: _derivative(_pool, a, b), 1e-4),
    "max pooling's derivative after relu": (lambda a, b: _derivative(
        lambda x: _window(jax.nn.relu(_image(x)), -jnp.inf, lax.max), a, b), 1e-4),
    "min pooling's derivative": (lambda a, b: _derivative(
        lambda x: _window(_image(x), jnp.inf, lax.min), a, b), 1e-4),
    "softmax's derivative": (lambda a, b: _derivative(lambda x: jax.nn.softmax(x @ b.T), a, b), 1e-2),
    "max's derivative": (lambda a, b: _derivative(lambda x: jnp.max(x @ b.T, 0), a, b), 1e-3),
    "product's derivative": (lambda a, b: _derivative(lambda x: jnp.prod(x, 0), a, b), 1e-3),
    "matrix products": (lambda a, b: [a @ b.T, jnp.einsum("ij,kj->ikj", a, b)], 1e-4),
    "masked with minus infinity": (lambda a, b: _derivative(
        lambda x: jax.nn.softmax(jnp.where(jnp.tri(3, dtype=bool), x @ b.T, -jnp.inf)), a, b), 1e-2),
    "convolution's derivative": (lambda a, b: _derivative(lambda x: lax.conv_general_dilated(
        _image(b), _image(x)[0, :3, :3, :, None], (2, 1), "SAME", dimension_numbers=NHWC), a, b), 1e-3),
}  # fmt: skip
PLACES = {
    "shapes": (lambda a, b: [a.reshape(2, 6), a.T, a[:, None], jnp.squeeze(a[:1]), a[1:, ::2], a[::-1],
                             jnp.concatenate([a, b], 1), jnp.pad(a, 1, constant_values=b[0, 0]),
                             jnp.tile(a, 2), jnp.split(a, 2, 1), jnp.copy(a), jax.device_put(a),
                             jnp.arange(4) + a, jnp.where(a > b, a, b)], 1e-4),
    "sort": (lambda a, b: [jnp.sort(a, 1), jnp.sort(b, 0, descending=True), jnp.argsort(a, 0)], 1e-4),
    "sort carries": (lambda a, b: lax.sort((a, b, jnp.sin(a)), dimension=1, num_keys=1), 1e-4),
    "sort by integers": (lambda a, b: lax.sort(((3 * a).astype(jnp.int32), b), dimension=1), 1e-4),
    "top_k": (lambda a, b: [*lax.top_k(a, 2), *lax.top_k(a - b, 4)], 1e-4),
    "top_k's derivative": (lambda a, b: _derivative(lambda x: lax.top_k(x, 2)[0], a, b), 1e-4),
    "median": (lambda a, b: [jnp.median(a, 1), jnp.quantile(b, 0.3, axis=0)], 1e-4),
    "gather": (lambda a, b: [a[jnp.array([0, 2, 2])], jnp.take_along_axis(b, jnp.argsort(a, 1), 1)], 1e-4),
    "gather at a computed place": (lambda a, b: a[jnp.argmax(b, 0), jnp.arange(4)], 1e-4),
    "dynamic_slice": (lambda a, b: [lax.dynamic_slice(a, (1, jnp.argmax(b[0])), (2, 2)),
                                    lax.dynamic_update_slice(a, b[:1], (jnp.argmin(a[:, 0]), 0))], 1e-4),
    "scatter": (lambda a, b: [a.at[jnp.array([0, 1])].set(b[:2]), a.at[1].mul(b[0]), a.at[:, 2].max(b[:, 0]),
                              a.at[0].min(b[1]), a.at[jnp.argmax(a[:, 0])].add(b[2])], 1e-4),
    "scatter-add": (lambda a, b: a.at[jnp.array([0, 0, 1])].add(b), 1e-4),
    "scatter-sub": (lambda a, b: a.at[jnp.array([0, 0, 1])].subtract(b), 1e-4),
    "scatter-mul's derivative": (lambda a, b: _derivative(
        lambda x: b.at[jnp.array([0, 2])].mul(x[:2], unique_indices=True), a, b), 1e-3),
    "scatter's derivatives": (lambda a, b: _derivative(lambda x: [
        b.at[jnp.array([0, 2])].set(x[:2]) + b.at[0].max(x[0]) + segment(x)][0], a, b), 1e-3),
}  # fmt: skip
PROGRAMS = {
    "scan": (lambda a, b: lax.scan(lambda c, r: (jnp.tanh(c + r), jnp.max(c * r)), b[0], a, reverse=True),
             1e-4),
    "scan with a key": (lambda a, b: lax.scan(
        lambda c, r: (jax.random.split(c)[0], r * jax.random.uniform(c, dtype=jnp.float32)),
        KEY, a)[1], 1e-4),
    "scan of nothing": (lambda a, b: lax.scan(lambda c, r: (c, c * r), b[0], a[:0])[0], 1e-4),
    "fori_loop": (lambda a, b: lax.fori_loop(0, 3, lambda i, c: c * b[i % 3] + a[i], a[0]), 1e-4),
    "while": (lambda a, b: lax.while_loop(lambda c: jnp.sum(c) < 40, lambda c: c * 1.5, a), 1e-4),
    "cond": (lambda a, b: lax.cond(a[0, 0] > b[0, 0], lambda: a * b, lambda: a - b), 1e-4),
    "switch": (lambda a, b: lax.switch(jnp.argmax(a[0]), [lambda s=s: a * s for s in range(4)]), 1e-4),
    "associative_scan": (lambda a, b: lax.associative_scan(jnp.multiply, a, axis=1), 1e-4),
    "checkpoint": (lambda a, b: _derivative(jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), a, b), 1e-4),
    "a custom rule": (lambda a, b: squared(a), 1e-4),
    "custom rules": (lambda a, b: [jax.nn.relu(a - b), jax.nn.silu(a), jax.nn.gelu(a, approximate=False),
                                   jax.nn.gelu(a), jax.nn.softplus(a)], 1e-4),
    "map": (lambda a, b: lax.map(lambda r: jnp.sort(r)[0], a), 1e-4),
}  # fmt: skip
ALGEBRA = {
    "cholesky": (lambda a, b: jnp.linalg.cholesky(_positive(a)), 1e-3),
    "solve": (lambda a, b: jnp.linalg.solve(_positive(a), b), 1e-2),
    "inv": (lambda a, b: jnp.linalg.inv(_positive(a)), 1e-2),
    "det": (lambda a, b: [jnp.linalg.det(_positive(a)), *jnp.linalg.slogdet(_positive(a))], 1e-2),
    "eigvalsh": (lambda a, b: jnp.linalg.eigvalsh(_positive(a)), 1e-3),
    "eigh": (lambda a, b: jnp.linalg.eigh(_positive(a)), 1e-1),
    "svd": (lambda a, b: jnp.linalg.svd(a, full_matrices=False), 1e-2),
    "qr": (lambda a, b: jnp.linalg.qr(a.T), 1e-2),
    "orthogonal": (lambda a, b: lax.linalg.householder_product(a.T, a[:, 0]), 1e-2),
    "lstsq": (lambda a, b: jnp.linalg.lstsq(a.T, b.T)[0], 1e-1),
    "expm": (lambda a, b: linalg.expm(_positive(a)), 1e-1),
    "cho_solve": (lambda a, b: linalg.cho_solve(linalg.cho_factor(_positive(a)), b), 1e-2),
    "triangular_solve": (lambda a, b: linalg.solve_triangular(jnp.tril(_positive(a)), b, lower=True), 1e-2),
    "tridiagonal_solve": (lambda a, b: lax.linalg.tridiagonal_solve(
        a[0], 3 + a[1], a[2], b.T), 1e-3),
    "eig": (lambda a, b: [abs(v) for v in jnp.linalg.eig(_positive(a) + 0.1 * a[:, :3])], 1e-2),
    "hessenberg": (lambda a, b: lax.linalg.hessenberg(_positive(a)), 1e-2),
    "tridiagonal": (lambda a, b: lax.linalg.tridiagonal(_positive(a)), 1e-2),
    "matrix_power": (lambda a, b: [jnp.linalg.matrix_power(_positive(a), 3), jnp.linalg.pinv(a)], 1e-1),
    "solve's derivative": (lambda a, b: _derivative(lambda x: jnp.linalg.solve(_positive(x), b), a, b), 1),
    "logdet's derivative": (lambda a, b: _derivative(
        lambda x: jnp.linalg.slogdet(_positive(x))[1], a, b), 1e-2),
    "cholesky's derivative": (lambda a, b: _derivative(
        lambda x: jnp.linalg.cholesky(_positive(x)), a, b), 1e-1),
    "eigvalsh's derivative": (lambda a, b: _derivative(
        lambda x: jnp.linalg.eigvalsh(_positive(x)), a, b), 1e-1),
}  # fmt: skip
CASES = ELEMENTWISE | COMPLEX | REDUCTIONS | PLACES | PROGRAMS | ALGEBRA

# what no program of floats on one device holds, or what has no bound
WITHOUT = {
    "across devices": ("all_gather", "all_to_all", "axis_index", "pmax", "pmin", "ppermute", "psum",
                       "ragged_all_to_all"),
    "effects and references": ("after_all", "create_token", "empty2", "get", "swap"),
    "draws that depend on the dtype": ("random_gamma", "rng_uniform", "rng_bit_generator"),
    "the generator's own": ("threefry2x32",),
    "a computation of the user's": ("reduce", "reduce_window", "select_and_scatter"),
    "not on this path": ("approx_top_k", "call", "closed_call", "custom_lin"),
    "with signs of its own": ("schur",),
    "of total order": ("eq_to", "le_to", "lt_to"),
}  # fmt: skip


def segment(x):
    """Sums of rows by group."""
    return jax.ops.segment_sum(x, jnp.array([0, 1, 0]), 3)


def computed(program):
    """`program` of numbers that have been rounded."""
    return lambda a, b: program(1.1 * a, b / 0.9)


def enclosed(program, a, b, dtype=np.float32):
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(computed(program))(a, b)
        return jaxpr, enclosure.enclose(jaxpr, [a, b], enclosure.rounding(dtype))


def held(program, a, b, wide):
    """The float32 results lie in the balls, which are not absurdly wide."""
    a, b = a.astype(np.float32), b.astype(np.float32)
    jaxpr, balls = enclosed(program, a.astype(np.float64), b.astype(np.float64))
    got = [np.asarray(r) for r in jax.tree.leaves(jax.jit(computed(program))(a, b))]
    assert not enclosure.without_bound(jaxpr)
    assert len(got) == len(balls)
    for result, ball in zip(got, balls, strict=True):
        assert result.shape == ball.value.shape
        if ball.value.dtype == np.bool_:
            assert np.all((result == ball.value) | (False if ball.radius is None else ball.radius))
            continue
        radius = np.zeros(ball.value.shape) if ball.radius is None else ball.radius
        known = np.isfinite(ball.value)
        assert np.all(np.isfinite(radius[known]))
        error = abs(np.where(known, result, 0).astype(ball.value.dtype) - np.where(known, ball.value, 0))
        assert np.all(
            error
            <= enclosure.allowance(
                enclosure.Ball(ball.value[None], radius[None]), enclosure.rounding(np.float32)
            )[0]
        )
        largest = np.max(abs(ball.value[known]), initial=1e-3)
        assert np.max(radius[known], initial=0) <= wide * largest


@pytest.mark.family
@pytest.mark.parametrize("name", CASES)
def test_the_ball_of_a_computed_number_holds_float32(name):
    held(CASES[name][0], A, B, CASES[name][1])


def held_under_vmap(name):
    program, wide = CASES[name]
    more = np.random.default_rng(3).uniform(0.3, 0.9, (2, 3, 4))
    held(jax.vmap(program), more, more[::-1] + 0.01, wide)


def same_when_compiled(name):
    at = enclosure.rounding(np.float32)
    jaxpr, here = enclosed(CASES[name][0], A, B)
    with jax.enable_x64(True):
        balls = jax.jit(lambda a, b: [tuple(x) for x in enclosure.enclose(jaxpr, [a, b], at, jnp)])
        for ball, (value, radius) in zip(here, balls(A, B), strict=True):
            value, finite = np.asarray(value), np.isfinite(ball.value)
            np.testing.assert_allclose(value[finite], ball.value[finite], rtol=1e-11, atol=1e-13)
            mine = np.zeros(ball.value.shape) if ball.radius is None else ball.radius
            other = np.zeros_like(mine) if radius is None else np.asarray(radius)
            np.testing.assert_allclose(1.0 * other[finite], 1.0 * mine[finite], rtol=1e-3, atol=1e-13)


FEW = (
    "softmax's derivative",
    "max pooling's derivative",
    "sort carries",
    "gather at a computed place",
    "while",
)


@pytest.mark.family
@pytest.mark.parametrize("name", [*FEW, "solve", "cond", "power spectrum's derivative"])
def test_the_ball_of_a_vmapped_program_holds_float32(name):
    held_under_vmap(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_ball_of_every_vmapped_program_holds_float32(name):
    held_under_vmap(name)


@pytest.mark.family
@pytest.mark.parametrize("name", [*FEW, "top_k", "switch", "dynamic_slice", "scatter"])
def test_the_compiled_ball_is_the_same(name):
    same_when_compiled(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_every_compiled_ball_is_the_same(name):
    same_when_compiled(name)


def test_every_published_primitive_has_a_case_or_is_named():
    published = {getattr(jaxs, n).name for n in dir(jaxs) if isinstance(getattr(jaxs, n), Primitive)}
    named = {name for names in WITHOUT.values() for name in names}
    with jax.enable_x64(True):
        met = {
            e.primitive.name for p, _ in CASES.values() for e in equations(jax.make_jaxpr(computed(p))(A, B))
        }
    assert named <= published
    assert published - met <= named, sorted(published - met - named)
    assert {primitive.name for primitive in NUMPY} <= met
