"""The pushforward of batch norm: it is the JVP, and its transpose is the VJP of theorem 34."""

from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax
from bnjax.prove import prove_vjp
from bnjax.theorems import batch_norm_pushforward, sync_batch_norm
from bnjax.theorems.batch_norm import batch_norm_primal

SHAPES = [((7,), 0), ((1,), 0), ((5, 3), 0), ((4, 3, 2, 2), (0, 2, 3))]


def primals_and_tangents(shape, axis, dtype=np.float64):
    """(x, γ, β, ε) and their tangents."""
    rng = np.random.default_rng(3)
    axes = np.atleast_1d(axis)
    kept = tuple(size for a, size in enumerate(shape) if a not in axes)

    def draw():
        return [jnp.asarray(rng.normal(size=s), dtype) for s in (shape, kept, kept, ())]

    x, gamma, beta, _ = draw()
    return (x, gamma, beta, jnp.asarray(0.01, dtype)), tuple(draw())


def with_statistics(axis, x, gamma, beta, eps):
    """y, μ and σ² in plain JAX."""
    y = batch_norm_primal(x, gamma, beta, eps, axis=axis)
    return y, jnp.mean(x, axis, keepdims=True), jnp.var(x, axis, keepdims=True)


def inner(a, b):
    return sum(jnp.vdot(u, v) for u, v in zip(a, b, strict=True))


@pytest.mark.family
@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_it_is_the_jvp(shape, axis):
    with jax.enable_x64(True):
        primals, tangents = primals_and_tangents(shape, axis)
        _, expected = jax.jvp(partial(with_statistics, axis), primals, tangents)
        got = batch_norm_pushforward(primals, tangents, axis=axis)
        chex.assert_trees_all_close(tuple(got), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize(("shape", "axis"), SHAPES)
def test_the_hand_vjp_is_its_transpose(shape, axis):
    with jax.enable_x64(True):
        primals, tangents = primals_and_tangents(shape, axis)
        pushed = batch_norm_pushforward(primals, tangents, axis=axis).y
        dy = jnp.cos(jnp.arange(pushed.size, dtype=pushed.dtype)).reshape(shape)
        pulled = jax.vjp(partial(bnjax.batch_norm, axis=axis), *primals)[1](dy)
        assert abs(inner((dy,), (pushed,)) - inner(pulled, tangents)) < 1e-12


def pairing(push):
    """⟨·⟩ of the theorem: `push` as a function of the tangents whose hand VJP is theorem 34's.

    The cotangents of x, γ, β, ε themselves, which the theorem is not about, are left to autodiff.
    """

    def forward(x, gamma, beta, eps, *tangents):
        return push((x, gamma, beta, eps), tangents)

    op = jax.custom_vjp(forward)

    def fwd(*args):
        return forward(*args), args

    def bwd(args, dy):
        primals, tangents = args[:4], args[4:]
        second = jax.vjp(lambda *primals: forward(*primals, *tangents), *primals)[1](dy)
        return *second, *jax.vjp(bnjax.batch_norm, *primals)[1](dy)

    op.defvjp(fwd, bwd)
    return op


def jvp_of_primal(x, gamma, beta, eps, *tangents):
    return jax.jvp(batch_norm_primal, (x, gamma, beta, eps), tangents)[1]


def without_the_variance_term(primals, tangents):
    x, gamma, _, eps = primals
    istd = jax.lax.rsqrt(jnp.var(x) + eps)
    x_hat = (x - jnp.mean(x)) * istd
    x_dot, gamma_dot, beta_dot, eps_dot = tangents
    along_x = gamma * istd * (x_dot - jnp.mean(x_dot))
    return along_x + gamma_dot * x_hat + beta_dot - 0.5 * gamma * istd**2 * x_hat * eps_dot


@pytest.mark.parametrize(
    ("push", "status"),
    [(lambda *a: batch_norm_pushforward(*a).y, "proved"), (without_the_variance_term, "refuted")],
    ids=["the theorem", "a term short"],
)
def test_the_theorem_is_proved_for_every_n(push, status):
    shapes = ("n", "", "", "")
    proof = prove_vjp(pairing(push), jvp_of_primal, *shapes, *shapes, positive=(3,))
    assert proof.status == status, str(proof)


def test_the_transpose_that_the_layers_run_is_proved_with_the_statistics_cotangents():
    def op(x, gamma, beta, eps):
        return sync_batch_norm(x, gamma, beta, eps)[:3]

    def primal(x, gamma, beta, eps):
        return batch_norm_primal(x, gamma, beta, eps), jnp.mean(x, 0), jnp.mean((x - jnp.mean(x, 0)) ** 2, 0)

    proof = prove_vjp(op, primal, "n C", "C", "C", "", positive=(3,))
    assert proof.status == "proved", str(proof)


def test_errors_name_the_argument():
    primals, tangents = primals_and_tangents((5, 3), 0, np.float32)
    with pytest.raises(ValueError, match="eps must be positive"):
        batch_norm_pushforward((*primals[:3], -1.0), tangents)
    with pytest.raises(ValueError, match="gamma must have the shape"):
        batch_norm_pushforward(primals, (tangents[0], jnp.ones(2), *tangents[2:]))
    with pytest.raises(ValueError, match="the tangent of x must have x's shape"):
        batch_norm_pushforward(primals, (jnp.ones((2, 3)), *tangents[1:]))
