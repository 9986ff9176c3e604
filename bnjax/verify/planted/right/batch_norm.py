"""Batch norm of a vector: one theorem's backward pass in many manners."""

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.verify.planted.family import Case
from bnjax.verify.planted.right.form import EPS, cast_back, f32, rule, total


def statistics_of(x, eps):
    """μ and istd, in two passes."""
    x = f32(x)
    mean = jnp.sum(x) / x.shape[0]
    var = jnp.sum(jnp.square(x - mean)) / x.shape[0]
    return mean, jax.lax.rsqrt(var + f32(eps))


def bn_primal(x, gamma, beta, eps):
    """γ·x̂ + β, in float32 at least inside."""
    mean, istd = statistics_of(x, eps)
    return (f32(gamma) * ((f32(x) - mean) * istd) + f32(beta)).astype(x.dtype)


def bn_arguments(n, seed):
    """x of n, γ, β, ε."""
    rng = np.random.default_rng((seed, n))
    x = rng.normal(rng.normal(), rng.uniform(0.5, 2), n).astype(np.float32)
    gamma, beta = rng.normal(size=2).astype(np.float32)
    return x, gamma, beta, EPS


def _one_pass(x, eps):
    x = f32(x)
    mean = jnp.mean(x)
    return mean, jax.lax.rsqrt(jnp.maximum(jnp.mean(x * x) - mean * mean, 0) + f32(eps))


def _shifted(x, eps):
    x = f32(x)
    shift = x[0]
    d = x - shift
    mean = jnp.mean(d)
    return shift + mean, jax.lax.rsqrt(jnp.maximum(jnp.mean(d * d) - mean * mean, 0) + f32(eps))


def _sqrt_and_divide(x, eps):
    mean, istd = statistics_of(x, eps)
    return mean, 1 / jnp.sqrt(1 / (istd * istd))


def bn_backward(statistics=statistics_of, total=total, combine=None, x_hat_of=None):
    """Theorem 34's backward pass, in the manner asked for."""

    def backward(args, dy):
        x, gamma, _, eps = args
        mean, istd = statistics(x, eps)
        x_hat = (f32(x) - mean) * istd if x_hat_of is None else x_hat_of(f32(x), mean, istd)
        dy, n, gamma = f32(dy), x.shape[0], f32(gamma)
        dgamma, dbeta = total(dy * x_hat), total(dy)
        dx = (combine or _three_terms)(dy, x_hat, gamma, istd, dgamma, dbeta, n)
        return cast_back((dx, dgamma, dbeta, -0.5 * istd**2 * gamma * dgamma), args)

    return backward


def _three_terms(dy, x_hat, gamma, istd, dgamma, dbeta, n):
    return gamma * istd * (dy - dbeta / n - x_hat * (dgamma / n))


def _as_written(dy, x_hat, gamma, istd, dgamma, dbeta, n):
    return gamma * istd / n * (n * dy - dbeta - x_hat * dgamma)


def _distributed(dy, x_hat, gamma, istd, dgamma, dbeta, n):
    return gamma * istd * dy - gamma * istd * dbeta / n - gamma * istd * x_hat * dgamma / n


def _two_projections(dy, x_hat, gamma, istd, dgamma, dbeta, n):
    centered = dy - jnp.sum(dy) / n
    return gamma * istd * (centered - x_hat * (jnp.sum(centered * x_hat) / n))


def _g_first(dy, x_hat, gamma, istd, dgamma, dbeta, n):
    g = gamma * dy
    return istd * (g - jnp.mean(g) - x_hat * jnp.mean(g * x_hat))


def _scale_and_shift(dy, x_hat, gamma, istd, dgamma, dbeta, n):
    a = gamma * istd
    return a * dy + (-a * dgamma / n * x_hat + -a * dbeta / n)


def matmul_total(a):
    """The sum as a row of ones times a column."""
    return (jnp.ones((1, a.shape[0]), a.dtype) @ a.reshape(-1, 1))[0, 0]


def _vdot_total(a):
    return jnp.vdot(jnp.ones_like(a), a)


def _loop_total(a):
    """Block by block in a loop, at most 16 rounds."""
    blocks = 16
    padded = jnp.pad(a, (0, -a.shape[0] % blocks)).reshape(blocks, -1)
    return jax.lax.fori_loop(0, blocks, lambda i, s: s + jnp.sum(padded[i]), jnp.zeros((), a.dtype))


def _scan_total(a):
    padded = jnp.pad(a, (0, -a.shape[0] % 8)).reshape(8, -1)
    return jax.lax.scan(lambda s, row: (s + jnp.sum(row), None), jnp.zeros((), a.dtype), padded)[0]


def _pairwise_total(a):
    while a.shape[0] > 1:
        a = jnp.pad(a, (0, a.shape[0] % 2))
        a = a[0::2] + a[1::2]
    return a[0]


def _cumulative_total(a):
    return jnp.sum(a.at[1:].set(0)) + jnp.sum(a.at[:1].set(0))


def _einsum_total(a):
    return jnp.einsum("n->", a)


def _reversed_total(a):
    return jnp.sum(a[::-1])


def _bn(name, **manner):
    return Case(f"batch_norm/{name}", rule(bn_primal, bn_backward(**manner)), bn_primal, bn_arguments)


def _from_output_backward(args, dy):
    """x̂ divided out of what the forward pass kept, not from x."""
    x, _, _, eps = args
    mean, istd = statistics_of(x, eps)
    scaled = f32(x) * istd - mean * istd
    return bn_backward(x_hat_of=lambda *_: scaled)(args, dy)


def _by_autodiff_of_another(args, dy):
    """Autodiff, but of the one-pass forward."""

    def forward(x, gamma, beta, eps):
        mean, istd = _shifted(x, eps)
        return (f32(gamma) * ((f32(x) - mean) * istd) + f32(beta)).astype(x.dtype)

    return jax.vjp(forward, *args)[1](dy)


BATCH_NORM = [
    _bn("the project's own form"),
    _bn("as the theorem is written", combine=_as_written),
    _bn("distributed", combine=_distributed),
    _bn("two projections", combine=_two_projections),
    _bn("γ·dy first", combine=_g_first),
    _bn("scale and shift", combine=_scale_and_shift),
    _bn("one-pass variance", statistics=_one_pass),
    _bn("shifted variance", statistics=_shifted),
    _bn("a root and a division", statistics=_sqrt_and_divide),
    _bn("x̂ as x·istd − μ·istd", x_hat_of=lambda x, mean, istd: x * istd - mean * istd),
    _bn("x̂ by division", x_hat_of=lambda x, mean, istd: (x - mean) / (1 / istd)),
    _bn("sums by matmul", total=matmul_total),
    _bn("sums by vdot", total=_vdot_total),
    _bn("sums by einsum", total=_einsum_total),
    _bn("sums in a fori_loop", total=_loop_total),
    _bn("sums in a scan", total=_scan_total),
    _bn("sums pairwise", total=_pairwise_total),
    _bn("sums backwards", total=_reversed_total),
    _bn("sums in two parts", total=_cumulative_total),
    Case(
        "batch_norm/x̂ without a difference",
        rule(bn_primal, _from_output_backward),
        bn_primal,
        bn_arguments,
    ),
    Case(
        "batch_norm/autodiff of a shifted forward",
        rule(bn_primal, _by_autodiff_of_another),
        bn_primal,
        bn_arguments,
    ),
    Case("batch_norm/under jit", jax.jit(rule(bn_primal, bn_backward())), bn_primal, bn_arguments),
    Case(
        "batch_norm/under checkpoint",
        jax.checkpoint(rule(bn_primal, bn_backward())),
        bn_primal,
        bn_arguments,
    ),
]
