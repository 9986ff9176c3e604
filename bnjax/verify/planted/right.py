"""Right rules, written differently from autodiff of their primal: what a checker must not alarm on.

Each entry is a rule, its primal, and its arguments for a batch of n, as `Mutant`s are; the backward passes
differ in parenthesization, in where statistics come from, in how sums are made and in what is saved.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

EPS = np.float32(1e-3)


@dataclass(frozen=True)
class Right:
    """A rule that no verifier may refuse."""

    name: str
    op: Callable[..., Any]
    primal: Callable[..., Any]
    arguments: Callable[[int, int], tuple[Any, ...]]  # n, seed


def _rule(primal, backward, forward=None):
    """`primal` with the backward pass (arguments, dy) ↦ cotangents."""
    op = jax.custom_vjp(primal)
    op.defvjp(lambda *args: ((forward or primal)(*args), args), backward)
    return op


def _f32(a):
    """Sums are taken in float32 at least, as everywhere in this project."""
    return jnp.asarray(a).astype(jnp.promote_types(a.dtype, jnp.float32))


def _total(a):
    return jnp.sum(_f32(a))


def _cast_back(cotangents, args):
    return tuple(jnp.asarray(c).astype(a.dtype) for c, a in zip(cotangents, args, strict=True))


def _normal(n, seed, *shape, key=0):
    return np.random.default_rng((seed, key, n)).normal(size=(n, *shape)).astype(np.float32)


# --- batch norm on a vector --------------------------------------------------------------------------------


def _statistics(x, eps):
    x = _f32(x)
    mean = jnp.sum(x) / x.shape[0]
    var = jnp.sum(jnp.square(x - mean)) / x.shape[0]
    return mean, jax.lax.rsqrt(var + _f32(eps))


def _bn_primal(x, gamma, beta, eps):
    mean, istd = _statistics(x, eps)
    return (_f32(gamma) * ((_f32(x) - mean) * istd) + _f32(beta)).astype(x.dtype)


def _bn_arguments(n, seed):
    rng = np.random.default_rng((seed, n))
    x = rng.normal(rng.normal(), rng.uniform(0.5, 2), n).astype(np.float32)
    gamma, beta = rng.normal(size=2).astype(np.float32)
    return x, gamma, beta, EPS


def _one_pass(x, eps):
    x = _f32(x)
    mean = jnp.mean(x)
    return mean, jax.lax.rsqrt(jnp.maximum(jnp.mean(x * x) - mean * mean, 0) + _f32(eps))


def _shifted(x, eps):
    x = _f32(x)
    shift = x[0]
    d = x - shift
    mean = jnp.mean(d)
    return shift + mean, jax.lax.rsqrt(jnp.maximum(jnp.mean(d * d) - mean * mean, 0) + _f32(eps))


def _sqrt_and_divide(x, eps):
    mean, istd = _statistics(x, eps)
    return mean, 1 / jnp.sqrt(1 / (istd * istd))


def _bn_backward(statistics=_statistics, total=_total, combine=None, x_hat_of=None):
    """Theorem 34's backward pass, in the manner asked for."""

    def backward(args, dy):
        x, gamma, _, eps = args
        mean, istd = statistics(x, eps)
        x_hat = (_f32(x) - mean) * istd if x_hat_of is None else x_hat_of(_f32(x), mean, istd)
        dy, n, gamma = _f32(dy), x.shape[0], _f32(gamma)
        dgamma, dbeta = total(dy * x_hat), total(dy)
        dx = (combine or _three_terms)(dy, x_hat, gamma, istd, dgamma, dbeta, n)
        return _cast_back((dx, dgamma, dbeta, -0.5 * istd**2 * gamma * dgamma), args)

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


def _matmul_total(a):
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
    return Right(f"batch_norm/{name}", _rule(_bn_primal, _bn_backward(**manner)), _bn_primal, _bn_arguments)


def _from_output_backward(args, dy):
    """x̂ divided out of what the forward pass kept, not from x."""
    x, _, _, eps = args
    mean, istd = _statistics(x, eps)
    scaled = _f32(x) * istd - mean * istd
    return _bn_backward(x_hat_of=lambda *_: scaled)(args, dy)


def _by_autodiff_of_another(args, dy):
    """Autodiff, but of the one-pass forward."""

    def forward(x, gamma, beta, eps):
        mean, istd = _shifted(x, eps)
        return (_f32(gamma) * ((_f32(x) - mean) * istd) + _f32(beta)).astype(x.dtype)

    return jax.vjp(forward, *args)[1](dy)


_BATCH_NORM = [
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
    _bn("sums by matmul", total=_matmul_total),
    _bn("sums by vdot", total=_vdot_total),
    _bn("sums by einsum", total=_einsum_total),
    _bn("sums in a fori_loop", total=_loop_total),
    _bn("sums in a scan", total=_scan_total),
    _bn("sums pairwise", total=_pairwise_total),
    _bn("sums backwards", total=_reversed_total),
    _bn("sums in two parts", total=_cumulative_total),
    Right(
        "batch_norm/x̂ without a difference",
        _rule(_bn_primal, _from_output_backward),
        _bn_primal,
        _bn_arguments,
    ),
    Right(
        "batch_norm/autodiff of a shifted forward",
        _rule(_bn_primal, _by_autodiff_of_another),
        _bn_primal,
        _bn_arguments,
    ),
    Right("batch_norm/under jit", jax.jit(_rule(_bn_primal, _bn_backward())), _bn_primal, _bn_arguments),
    Right(
        "batch_norm/under checkpoint",
        jax.checkpoint(_rule(_bn_primal, _bn_backward())),
        _bn_primal,
        _bn_arguments,
    ),
]


# --- batch norm on (n, C): vmap of the vector rule, transposed layouts, Flax -------------------------------

_C = 3


def _columns_arguments(n, seed):
    rng = np.random.default_rng((seed, n, 1))
    return (*(rng.normal(size=s).astype(np.float32) for s in ((n, _C), (_C,), (_C,))), EPS)


_vector_rule = _rule(_bn_primal, _bn_backward())


def _columns_primal(x, gamma, beta, eps):
    wide = _f32(x)
    mean = jnp.sum(wide, 0) / x.shape[0]
    var = jnp.sum(jnp.square(wide - mean), 0) / x.shape[0]
    return (_f32(gamma) * ((wide - mean) * jax.lax.rsqrt(var + _f32(eps))) + _f32(beta)).astype(x.dtype)


def _looped(x, gamma, beta, eps):
    return jnp.stack([_vector_rule(x[:, i], gamma[i], beta[i], eps) for i in range(x.shape[1])], 1)


def _ones_row_backward(args, dy):
    """Channel sums as a row of ones times the matrix."""
    x, gamma, _, eps = args
    ones = jnp.ones((1, x.shape[0]), _f32(x).dtype)
    x_wide, dy = _f32(x), _f32(dy)
    mean = (ones @ x_wide) / x.shape[0]
    istd = jax.lax.rsqrt((ones @ jnp.square(x_wide - mean)) / x.shape[0] + _f32(eps))
    x_hat = (x_wide - mean) * istd
    dgamma, dbeta = ones @ (dy * x_hat), ones @ dy
    dx = _f32(gamma) * istd * (dy - dbeta / x.shape[0] - x_hat * (dgamma / x.shape[0]))
    deps = jnp.sum(-0.5 * istd**2 * _f32(gamma) * dgamma)
    return _cast_back((dx, dgamma[0], dbeta[0], deps), args)


def _flax(fast):
    def op(x, gamma, beta):
        module = linen.BatchNorm(use_running_average=False, epsilon=1e-3, use_fast_variance=fast)
        variables = {
            "params": {"scale": gamma, "bias": beta},
            "batch_stats": {"mean": jnp.zeros(_C), "var": jnp.ones(_C)},
        }
        return module.apply(variables, x, mutable=["batch_stats"])[0]

    return op


def _of_columns(name, op):
    return Right(f"batch_norm of (n, C)/{name}", op, _columns_primal, _columns_arguments)


def _flax_primal(x, gamma, beta):
    return _columns_primal(x, gamma, beta, jnp.asarray(1e-3, x.dtype)).astype(jnp.result_type(x, gamma, beta))


_COLUMNS = [
    _of_columns("vmap of the vector rule", jax.vmap(_vector_rule, (1, 0, 0, None), 1)),
    _of_columns("a loop over the channels", _looped),
    _of_columns("sums by a row of ones", _rule(_columns_primal, _ones_row_backward)),
    Right(
        "batch_norm of (n, C)/Flax, two-pass",
        _flax(False),
        _flax_primal,
        lambda n, s: _columns_arguments(n, s)[:3],
    ),
    Right(
        "batch_norm of (n, C)/Flax, one-pass",
        _flax(True),
        _flax_primal,
        lambda n, s: _columns_arguments(n, s)[:3],
    ),
]

# --- the smaller theorems ----------------------------------------------------------------------------------


def _center_primal(x):
    return x - (_total(x) / x.shape[0]).astype(x.dtype)


def _istd_primal(x, eps):
    return _statistics(x, eps)[1]


def _istd_backward(args, ct):
    x, eps = args
    mean, istd = _statistics(x, eps)
    return _cast_back((-istd * istd * istd * ct * ((_f32(x) - mean) / x.shape[0]), -0.5 * istd**3 * ct), args)


def _affine_primal(v, gamma, beta):
    return (_f32(gamma) * _f32(v) + _f32(beta)).astype(v.dtype)


_THEOREMS = [
    Right(
        "center/again",
        _rule(_center_primal, lambda args, dy: (_center_primal(dy),)),
        _center_primal,
        lambda n, s: (_normal(n, s),),
    ),
    Right(
        "center/n·dy − Σ dy over n",
        _rule(
            _center_primal,
            lambda args, dy: (((dy.shape[0] * _f32(dy) - _total(dy)) / dy.shape[0]).astype(dy.dtype),),
        ),
        _center_primal,
        lambda n, s: (_normal(n, s),),
    ),
    Right(
        "inverse_stddev/istd·istd·istd",
        _rule(_istd_primal, _istd_backward),
        _istd_primal,
        lambda n, s: (_normal(n, s), EPS),
    ),
    Right(
        "affine/sums by matmul",
        _rule(
            _affine_primal,
            lambda args, dy: _cast_back(
                (_f32(args[1]) * _f32(dy), _matmul_total(_f32(dy) * _f32(args[0])), _matmul_total(_f32(dy))),
                args,
            ),
        ),
        _affine_primal,
        lambda n, s: _bn_arguments(n, s)[:3],
    ),
]


# --- layer norm, losses, activations, products -------------------------------------------------------------


def _layer_norm_primal(x, gamma):
    wide = _f32(x)
    mean = jnp.mean(wide, -1, keepdims=True)
    istd = jax.lax.rsqrt(jnp.mean(jnp.square(wide - mean), -1, keepdims=True) + 1e-3)
    return (_f32(gamma) * ((wide - mean) * istd)).astype(x.dtype)


def _layer_norm_backward(args, dy):
    x, gamma = args
    wide, g = _f32(x), _f32(gamma) * _f32(dy)
    mean = jnp.mean(wide, -1, keepdims=True)
    istd = jax.lax.rsqrt(jnp.mean(jnp.square(wide - mean), -1, keepdims=True) + 1e-3)
    x_hat = (wide - mean) * istd
    dx = istd * (g - g.mean(-1, keepdims=True) - x_hat * (g * x_hat).mean(-1, keepdims=True))
    return _cast_back((dx, jnp.sum(_f32(dy) * x_hat, 0)), args)


def _cross_entropy_primal(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]


def _cross_entropy_backward(args, ct):
    logits, labels = args
    p = jax.nn.softmax(_f32(logits))
    target = jax.nn.one_hot(labels, logits.shape[1], dtype=p.dtype)
    return ((p - target) * _f32(ct)[:, None]).astype(logits.dtype), None


def _in_place_backward(args, ct):
    logits, labels = args
    p = jax.nn.softmax(_f32(logits))
    return (p.at[jnp.arange(len(labels)), labels].add(-1) * _f32(ct)[:, None]).astype(logits.dtype), None


def _labels(n, seed):
    return 2 * _normal(n, seed, 5), np.random.default_rng((seed, n, 2)).integers(0, 5, n).astype(np.int32)


def _softmax_backward(args, dy):
    p = jax.nn.softmax(_f32(args[0]))
    g = _f32(dy) * p
    return ((g - p * g.sum(-1, keepdims=True)).astype(args[0].dtype),)


def _softmax(x):
    return jax.nn.softmax(x)


def _relu(x):
    return jax.nn.relu(x)


def _softplus_naive(x):
    return jnp.log1p(jnp.exp(-jnp.abs(x))) + jnp.maximum(x, 0)


def _vector(n, seed):
    return (_normal(n, seed),)


def _silu(x):
    return x / (1 + jnp.exp(-x))


def _silu_backward(args, dy):
    s = jax.nn.sigmoid(_f32(args[0]))
    return ((_f32(dy) * s * (1 + _f32(args[0]) * (1 - s))).astype(dy.dtype),)


def _matmul_arguments(n, seed):
    return _normal(n, seed, 3), _normal(3, seed, 2, key=1)


_OTHERS = [
    Right(
        "layer_norm/three terms",
        _rule(_layer_norm_primal, _layer_norm_backward),
        _layer_norm_primal,
        lambda n, s: (_normal(n, s, 4), _normal(4, s, key=1)),
    ),
    Right(
        "softmax_cross_entropy/p − one-hot",
        _rule(_cross_entropy_primal, _cross_entropy_backward),
        _cross_entropy_primal,
        _labels,
    ),
    Right(
        "softmax_cross_entropy/in place",
        _rule(_cross_entropy_primal, _in_place_backward),
        _cross_entropy_primal,
        _labels,
    ),
    Right("softmax/by rows", _rule(_softmax, _softmax_backward), _softmax, lambda n, s: (_normal(n, s, 4),)),
    Right(
        "softmax/jax.nn's own",
        jax.nn.softmax,
        lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True),
        lambda n, s: (_normal(n, s, 4),),
    ),
    Right(
        "logsumexp/jax.nn's own",
        lambda x: jax.nn.logsumexp(x, -1),
        lambda x: jnp.log(jnp.exp(x).sum(-1)),
        lambda n, s: (_normal(n, s, 4),),
    ),
    Right("relu/jax.nn's own", jax.nn.relu, lambda x: jnp.where(x > 0, x, 0), _vector),
    Right("relu/a mask", _rule(_relu, lambda args, dy: (dy * (args[0] > 0),)), _relu, _vector),
    Right("silu/jax.nn's own", jax.nn.silu, _silu, _vector),
    Right("silu/by hand", _rule(_silu, _silu_backward), _silu, _vector),
    Right(
        "softplus/a sigmoid",
        _rule(
            _softplus_naive, lambda args, dy: ((_f32(dy) * jax.nn.sigmoid(_f32(args[0]))).astype(dy.dtype),)
        ),
        _softplus_naive,
        _vector,
    ),
    Right(
        "matmul/transposes",
        _rule(jnp.matmul, lambda args, dy: (dy @ args[1].T, args[0].T @ dy)),
        jnp.matmul,
        _matmul_arguments,
    ),
    Right(
        "matmul/einsum",
        _rule(
            jnp.matmul,
            lambda args, dy: (jnp.einsum("nm,km->nk", dy, args[1]), jnp.einsum("nk,nm->km", args[0], dy)),
        ),
        jnp.matmul,
        _matmul_arguments,
    ),
]

RIGHT_RULES = (*_BATCH_NORM, *_COLUMNS, *_THEOREMS, *_OTHERS)
