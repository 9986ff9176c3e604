"""Batch norm of (n, C): vmap of the vector rule, transposed layouts, Flax."""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen

from bnjax.verify.planted.family import Case
from bnjax.verify.planted.right.batch_norm import bn_backward, bn_primal
from bnjax.verify.planted.right.form import EPS, cast_back, f32, rule

_C = 3


def _columns_arguments(n, seed):
    rng = np.random.default_rng((seed, n, 1))
    return (*(rng.normal(size=s).astype(np.float32) for s in ((n, _C), (_C,), (_C,))), EPS)


_vector_rule = rule(bn_primal, bn_backward())


def _columns_primal(x, gamma, beta, eps):
    wide = f32(x)
    mean = jnp.sum(wide, 0) / x.shape[0]
    var = jnp.sum(jnp.square(wide - mean), 0) / x.shape[0]
    return (f32(gamma) * ((wide - mean) * jax.lax.rsqrt(var + f32(eps))) + f32(beta)).astype(x.dtype)


def _looped(x, gamma, beta, eps):
    return jnp.stack([_vector_rule(x[:, i], gamma[i], beta[i], eps) for i in range(x.shape[1])], 1)


def _ones_row_backward(args, dy):
    """Channel sums as a row of ones times the matrix."""
    x, gamma, _, eps = args
    ones = jnp.ones((1, x.shape[0]), f32(x).dtype)
    x_wide, dy = f32(x), f32(dy)
    mean = (ones @ x_wide) / x.shape[0]
    istd = jax.lax.rsqrt((ones @ jnp.square(x_wide - mean)) / x.shape[0] + f32(eps))
    x_hat = (x_wide - mean) * istd
    dgamma, dbeta = ones @ (dy * x_hat), ones @ dy
    dx = f32(gamma) * istd * (dy - dbeta / x.shape[0] - x_hat * (dgamma / x.shape[0]))
    deps = jnp.sum(-0.5 * istd**2 * f32(gamma) * dgamma)
    return cast_back((dx, dgamma[0], dbeta[0], deps), args)


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
    return Case(f"batch_norm of (n, C)/{name}", op, _columns_primal, _columns_arguments)


def _flax_primal(x, gamma, beta):
    return _columns_primal(x, gamma, beta, jnp.asarray(1e-3, x.dtype)).astype(jnp.result_type(x, gamma, beta))


COLUMNS = [
    _of_columns("vmap of the vector rule", jax.vmap(_vector_rule, (1, 0, 0, None), 1)),
    _of_columns("a loop over the channels", _looped),
    _of_columns("sums by a row of ones", rule(_columns_primal, _ones_row_backward)),
    Case(
        "batch_norm of (n, C)/Flax, two-pass",
        _flax(False),
        _flax_primal,
        lambda n, s: _columns_arguments(n, s)[:3],
    ),
    Case(
        "batch_norm of (n, C)/Flax, one-pass",
        _flax(True),
        _flax_primal,
        lambda n, s: _columns_arguments(n, s)[:3],
    ),
]
