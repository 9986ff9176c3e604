"""The smaller theorems, layer norm, losses, activations, products."""

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.verify.planted.family import Case
from bnjax.verify.planted.right.batch_norm import bn_arguments, matmul_total, statistics_of
from bnjax.verify.planted.right.form import EPS, cast_back, f32, normal, rule, total


def _center_primal(x):
    return x - (total(x) / x.shape[0]).astype(x.dtype)


def _istd_primal(x, eps):
    return statistics_of(x, eps)[1]


def _istd_backward(args, ct):
    x, eps = args
    mean, istd = statistics_of(x, eps)
    return cast_back((-istd * istd * istd * ct * ((f32(x) - mean) / x.shape[0]), -0.5 * istd**3 * ct), args)


def _affine_primal(v, gamma, beta):
    return (f32(gamma) * f32(v) + f32(beta)).astype(v.dtype)


THEOREMS = [
    Case(
        "center/again",
        rule(_center_primal, lambda args, dy: (_center_primal(dy),)),
        _center_primal,
        lambda n, s: (normal(n, s),),
    ),
    Case(
        "center/n·dy − Σ dy over n",
        rule(
            _center_primal,
            lambda args, dy: (((dy.shape[0] * f32(dy) - total(dy)) / dy.shape[0]).astype(dy.dtype),),
        ),
        _center_primal,
        lambda n, s: (normal(n, s),),
    ),
    Case(
        "inverse_stddev/istd·istd·istd",
        rule(_istd_primal, _istd_backward),
        _istd_primal,
        lambda n, s: (normal(n, s), EPS),
    ),
    Case(
        "affine/sums by matmul",
        rule(
            _affine_primal,
            lambda args, dy: cast_back(
                (f32(args[1]) * f32(dy), matmul_total(f32(dy) * f32(args[0])), matmul_total(f32(dy))),
                args,
            ),
        ),
        _affine_primal,
        lambda n, s: bn_arguments(n, s)[:3],
    ),
]


# --- layer norm, losses, activations, products -------------------------------------------------------------


def _layer_norm_primal(x, gamma):
    wide = f32(x)
    mean = jnp.mean(wide, -1, keepdims=True)
    istd = jax.lax.rsqrt(jnp.mean(jnp.square(wide - mean), -1, keepdims=True) + 1e-3)
    return (f32(gamma) * ((wide - mean) * istd)).astype(x.dtype)


def _layer_norm_backward(args, dy):
    x, gamma = args
    wide, g = f32(x), f32(gamma) * f32(dy)
    mean = jnp.mean(wide, -1, keepdims=True)
    istd = jax.lax.rsqrt(jnp.mean(jnp.square(wide - mean), -1, keepdims=True) + 1e-3)
    x_hat = (wide - mean) * istd
    dx = istd * (g - g.mean(-1, keepdims=True) - x_hat * (g * x_hat).mean(-1, keepdims=True))
    return cast_back((dx, jnp.sum(f32(dy) * x_hat, 0)), args)


def _cross_entropy_primal(logits, labels):
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1)[:, 0]


def _cross_entropy_backward(args, ct):
    logits, labels = args
    p = jax.nn.softmax(f32(logits))
    target = jax.nn.one_hot(labels, logits.shape[1], dtype=p.dtype)
    return ((p - target) * f32(ct)[:, None]).astype(logits.dtype), None


def _in_place_backward(args, ct):
    logits, labels = args
    p = jax.nn.softmax(f32(logits))
    return (p.at[jnp.arange(len(labels)), labels].add(-1) * f32(ct)[:, None]).astype(logits.dtype), None


def _labels(n, seed):
    return 2 * normal(n, seed, 5), np.random.default_rng((seed, n, 2)).integers(0, 5, n).astype(np.int32)


def _softmax_backward(args, dy):
    p = jax.nn.softmax(f32(args[0]))
    g = f32(dy) * p
    return ((g - p * g.sum(-1, keepdims=True)).astype(args[0].dtype),)


def _softmax(x):
    return jax.nn.softmax(x)


def _relu(x):
    return jax.nn.relu(x)


def _softplus_naive(x):
    return jnp.log1p(jnp.exp(-jnp.abs(x))) + jnp.maximum(x, 0)


def _vector(n, seed):
    return (normal(n, seed),)


def _silu(x):
    return x / (1 + jnp.exp(-x))


def _silu_backward(args, dy):
    s = jax.nn.sigmoid(f32(args[0]))
    return ((f32(dy) * s * (1 + f32(args[0]) * (1 - s))).astype(dy.dtype),)


def _matmul_arguments(n, seed):
    return normal(n, seed, 3), normal(3, seed, 2, key=1)


OTHERS = [
    Case(
        "layer_norm/three terms",
        rule(_layer_norm_primal, _layer_norm_backward),
        _layer_norm_primal,
        lambda n, s: (normal(n, s, 4), normal(4, s, key=1)),
    ),
    Case(
        "softmax_cross_entropy/p − one-hot",
        rule(_cross_entropy_primal, _cross_entropy_backward),
        _cross_entropy_primal,
        _labels,
    ),
    Case(
        "softmax_cross_entropy/in place",
        rule(_cross_entropy_primal, _in_place_backward),
        _cross_entropy_primal,
        _labels,
    ),
    Case("softmax/by rows", rule(_softmax, _softmax_backward), _softmax, lambda n, s: (normal(n, s, 4),)),
    Case(
        "softmax/jax.nn's own",
        jax.nn.softmax,
        lambda x: jnp.exp(x) / jnp.exp(x).sum(-1, keepdims=True),
        lambda n, s: (normal(n, s, 4),),
    ),
    Case(
        "logsumexp/jax.nn's own",
        lambda x: jax.nn.logsumexp(x, -1),
        lambda x: jnp.log(jnp.exp(x).sum(-1)),
        lambda n, s: (normal(n, s, 4),),
    ),
    Case("relu/jax.nn's own", jax.nn.relu, lambda x: jnp.where(x > 0, x, 0), _vector),
    Case("relu/a mask", rule(_relu, lambda args, dy: (dy * (args[0] > 0),)), _relu, _vector),
    Case("silu/jax.nn's own", jax.nn.silu, _silu, _vector),
    Case("silu/by hand", rule(_silu, _silu_backward), _silu, _vector),
    Case(
        "softplus/a sigmoid",
        rule(_softplus_naive, lambda args, dy: ((f32(dy) * jax.nn.sigmoid(f32(args[0]))).astype(dy.dtype),)),
        _softplus_naive,
        _vector,
    ),
    Case(
        "matmul/transposes",
        rule(jnp.matmul, lambda args, dy: (dy @ args[1].T, args[0].T @ dy)),
        jnp.matmul,
        _matmul_arguments,
    ),
    Case(
        "matmul/einsum",
        rule(
            jnp.matmul,
            lambda args, dy: (jnp.einsum("nm,km->nk", dy, args[1]), jnp.einsum("nk,nm->km", args[0], dy)),
        ),
        jnp.matmul,
        _matmul_arguments,
    ),
]
