"""A rule no worse than autodiff of its primal is right: the primal itself, and its VJP as a rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.check import check_vjp

RNG = np.random.default_rng(5)
KEY, TYPED = jax.random.PRNGKey(3), jax.random.key(3)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def layer_norm(x, gamma, beta):
    centered = x - x.mean(-1, keepdims=True)
    return centered * jax.lax.rsqrt(x.var(-1, keepdims=True) + 1e-5) * gamma + beta


def in_float32(x, w):
    return (x.astype(jnp.float32) @ w.astype(jnp.float32)).astype(x.dtype)


def in_bfloat16(x, w):
    return jnp.sum(x.astype(jnp.bfloat16) @ w.astype(jnp.bfloat16)).astype(x.dtype)


def dropout(x):
    return jnp.where(jax.random.bernoulli(KEY, 0.5, x.shape), 2 * x, 0)


def dropout_by_key(x, key):
    return jnp.where(jax.random.bernoulli(key, 0.5, x.shape), 2 * x, 0)


def cross_entropy(z, labels):
    log_p = jnp.take_along_axis(jax.nn.log_softmax(z), jnp.maximum(labels, 0)[:, None], 1)[:, 0]
    return -jnp.sum(jnp.where(labels >= 0, log_p, 0))


CASES = {
    "x + b": (lambda x, b: x + b, normal(40, 5), normal(5)),
    "x @ w + b": (lambda x, w, b: x @ w + b, normal(9, 5), normal(5, 4), normal(4)),
    "relu(x @ w + b)": (lambda x, w, b: jax.nn.relu(x @ w + b), normal(9, 5), normal(5, 4), normal(4)),
    "layer norm": (layer_norm, normal(9, 6), normal(6), normal(6)),
    "float32 inside": (in_float32, normal(6, 4), normal(4, 3)),
    "bfloat16 inside": (in_bfloat16, normal(6, 4), normal(4, 3)),
    "a float32 result": (lambda x: jnp.mean(jnp.exp(x.astype(jnp.float32))) * 0.1, normal(30)),
    "its dtype's epsilon": (lambda x: jnp.sqrt(x * x + jnp.finfo(x.dtype).eps), normal(6)),
    "dropout, its key captured": (dropout, normal(6, 3)),
    "dropout, a raw key": (dropout_by_key, normal(6, 3), KEY),
    "dropout, a typed key": (dropout_by_key, normal(6, 3), TYPED),
    "cross entropy, −1 ignored": (cross_entropy, normal(6, 4), np.array([0, 2, -1, 1, 3, -1])),
    "a clamped window": (lambda x: jnp.convolve(x, jnp.ones(3, x.dtype), "valid"), normal(9)),
    "columns by number": (lambda p: p[:, 0] * p[:, 1] + p[:, 2], normal(8, 3)),
    "solve": (jnp.linalg.solve, normal(4, 4) + 3 * np.eye(4, dtype=np.float32), normal(4)),
    "power spectrum": (lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2, normal(8)),
    "products of 1e-20": (lambda x, y: x * y, 1e-20 * normal(6), 1e-20 * normal(6)),
}
FEW = ("x + b", "bfloat16 inside", "a float32 result")


def as_rule(primal):
    """The primal with its own VJP as the backward pass."""
    op = jax.custom_vjp(primal)
    op.defvjp(lambda *args: (primal(*args), args), lambda args, dy: jax.vjp(primal, *args)[1](dy))
    return op


def refused(name, make, dtype):
    primal, *args = CASES[name]
    args = [a.astype(dtype) if a.dtype == np.float32 else a for a in args]
    report = check_vjp(make(primal), primal, *args)
    return None if report.ok else str(report)


@pytest.mark.thorough
@pytest.mark.parametrize("name", FEW)
def test_a_primals_own_vjp_is_accepted_in_bfloat16(name):
    assert (report := refused(name, as_rule, jnp.bfloat16)) is None, report


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16, jnp.float16], ids=lambda d: d.__name__)
@pytest.mark.parametrize("make", [lambda primal: primal, as_rule], ids=["the primal", "its VJP"])
@pytest.mark.parametrize("name", CASES)
def test_a_primals_own_vjp_is_accepted_in_every_dtype(name, make, dtype):
    if name == "solve" and dtype == jnp.float16:
        pytest.skip("JAX solves nothing in float16")
    if name == "products of 1e-20" and dtype == jnp.float16:
        pytest.skip("0 in float16")
    assert (report := refused(name, make, dtype)) is None, report


@pytest.mark.parametrize(
    ("name", "argument", "factor"),
    [("x + b", 1, 0.99), ("bfloat16 inside", 0, 1.1), ("a float32 result", 0, 1 + 1e-4)],
)
def test_what_autodiff_may_do_is_no_excuse(name, argument, factor):
    primal, *args = CASES[name]

    def backward(args, dy):
        cotangents = list(jax.vjp(primal, *args)[1](dy))
        cotangents[argument] = cotangents[argument] * jnp.asarray(factor, cotangents[argument].dtype)
        return tuple(cotangents)

    op = jax.custom_vjp(primal)
    op.defvjp(lambda *args: (primal(*args), args), backward)
    args = [a.astype(jnp.bfloat16) for a in args]
    assert check_vjp(op, primal, *args).verdict == "WRONG"
