"""The largest of numbers that are computed, where it is, and what is compared with it."""

import jax
import jax.numpy as jnp
import pytest

from bnjax.prove import prove_vjp
from tests.prove.rules import with_rule


def hit(v, axis=None):
    return (v == v.max(axis, keepdims=True)).astype(v.dtype)


def first(v):
    return jax.nn.one_hot(jnp.argmax(v), v.shape[0], dtype=v.dtype)


def absolute(x):
    return jnp.abs(x).max()


def largest(x):
    return x.max()


def pairs(x):
    return x.reshape(x.shape[0], 3, 2).max(-1)


def of_pairs(x, dy, shared=True):
    mask = hit(x.reshape(x.shape[0], 3, 2), -1)
    mask = mask / mask.sum(-1, keepdims=True) if shared else mask
    return ((mask * dy[..., None]).reshape(x.shape),)


def deviation(x):
    return jnp.abs(x - x.mean()).max()


def rows(x):
    return x.max(-1)


def element(x, y):
    return y[jnp.argmax(x)]


def by_itself(f):
    return lambda args, dy: jax.vjp(f, *args)[1](dy)


RIGHT = {  # the primal, its rule (None: by autodiff), shapes
    "a norm": (absolute, None, ["n"]),
    "scaled by a norm": (lambda x: x / (jnp.abs(x).max() + 1), None, ["n"]),
    "a smallest": (lambda x: jnp.abs(x).min(), None, ["n"]),
    "of a distance": (lambda x, y: jnp.abs(x - y).max(), None, ["n", "n"]),
    "of what leaks": (lambda x: jnp.where(x > 0, x, 0.1 * x).max(), None, ["n"]),
    "of pairs": (pairs, lambda args, dy: of_pairs(args[0], dy), ["n 6"]),
    "of pairs, clipped": (lambda x: jax.nn.relu(pairs(x)), None, ["n 6"]),
    "clipped": (lambda x: jax.nn.relu(x.max(1)), None, ["n m"]),
    "a margin": (lambda x, y: jax.nn.relu(1 + x.max() - y.max()), None, ["n", "n"]),
    "minus an element": (lambda x: jax.nn.relu(x.max() - x[0]), None, ["n"]),
    "above its half": (lambda x: jnp.where(x > 0.5 * x.max(), x, 0), None, ["n"]),
    "to the first": (largest, lambda args, dy: (dy * first(args[0]),), ["n"]),
    "to the first, of a norm": (
        absolute,
        lambda args, dy: (dy * jnp.sign(args[0]) * first(jnp.abs(args[0])),),
        ["n"],
    ),
    "scattered": (
        largest,
        lambda args, dy: (jnp.zeros_like(args[0]).at[jnp.argmax(args[0])].add(dy),),
        ["n"],
    ),
    "to the first of a row": (
        rows,
        lambda args, dy: (jax.nn.one_hot(jnp.argmax(args[0], -1), args[0].shape[-1]) * dy[:, None],),
        ["n m"],
    ),
    "an element": (lambda x: x[jnp.argmax(x)], None, ["n"]),
    "an element of another": (lambda x, y: y[jnp.argmin(x)], None, ["n", "n"]),
    "one of four": (
        lambda x, y: (jax.nn.one_hot(jnp.argmax(x, -1), 4) * y).sum(-1),
        None,
        ["n 4", "n 4"],
    ),
    "the first of equal ones": (
        lambda x: x[jnp.argmax(0 * x)],
        lambda args, dy: (jnp.zeros_like(args[0]).at[0].set(dy),),
        ["n"],
    ),
}
REFUTED = {
    "no sign": (absolute, lambda args, dy: (dy * hit(jnp.abs(args[0])),), ["n"]),
    "where x is largest": (absolute, lambda args, dy: (dy * jnp.sign(args[0]) * hit(args[0]),), ["n"]),
    "no mean": (
        deviation,
        lambda args, dy: (dy * jnp.sign(args[0] - args[0].mean()) * first(args[0]),),
        ["n"],
    ),
    "half": (pairs, lambda args, dy: (of_pairs(args[0], dy)[0] / 2,), ["n 6"]),
    "to the smallest": (largest, lambda args, dy: (dy * first(-args[0]),), ["n"]),
    "at one place": (
        largest,
        lambda args, dy: (dy * first(args[0]) + dy * (jnp.argmax(args[0]) == 2),),
        ["n"],
    ),
    "the first element": (
        element,
        lambda args, dy: (0 * args[0], jnp.zeros_like(args[0]).at[0].set(dy)),
        ["n", "n"],
    ),
    "along the other axis": (
        rows,
        lambda args, dy: (jax.nn.one_hot(jnp.argmax(args[0], 0), args[0].shape[-1]) * dy[:, None],),
        ["n n"],
    ),
    "where it is the first": (  # which it is near such a point too
        lambda x, a, b: jnp.where(x.max() > x[0], a * a, b * b),
        lambda args, dy: (0 * args[0], 2 * args[1] * dy * (args[0].max() >= args[0][0]), 0 * args[2]),
        ["n", "", ""],
    ),
    "where it is one of two maxima": (
        lambda x, y, a, b: jnp.where(jnp.maximum(x, y).max() > x.max(), a * a, b * b),
        lambda args, dy: (0 * args[0], 0 * args[1], 2 * args[2] * dy, 0 * args[3]),
        ["n", "n", "", ""],
    ),
    "never above": (
        lambda x, a, b: jnp.where(jnp.abs(x - x.max()).min() > 0, a * a, b * b),
        lambda args, dy: (0 * args[0], 2 * args[1] * dy, 0 * args[2]),
        ["n", "", ""],
    ),
}
ON_TIES = {  # wrong only where several are the largest
    "each of a norm": (absolute, lambda args, dy: (dy * jnp.sign(args[0]) * hit(jnp.abs(args[0])),), ["n"]),
    "each of pairs": (pairs, lambda args, dy: of_pairs(args[0], dy, shared=False), ["n 6"]),
    "a part to the first": (largest, lambda args, dy: (dy * first(args[0]) / hit(args[0]).sum(),), ["n"]),
    "a part to the first of a norm": (
        absolute,
        lambda args, dy: (dy * jnp.sign(args[0]) * first(jnp.abs(args[0])) / hit(jnp.abs(args[0])).sum(),),
        ["n"],
    ),
    "a part to the first of another": (
        element,
        lambda args, dy: (0 * args[0], dy * first(args[0]) / hit(args[0]).sum()),
        ["n", "n"],
    ),
    "each of another": (element, lambda args, dy: (0 * args[0], dy * hit(args[0])), ["n", "n"]),
}


@pytest.mark.family
@pytest.mark.parametrize("name", RIGHT)
def test_the_right_rule_is_proved(name):
    primal, backward, shapes = RIGHT[name]
    proof = prove_vjp(with_rule(primal, backward or by_itself(primal)), primal, *shapes)
    assert proof.status == "proved", str(proof)


@pytest.mark.family
@pytest.mark.parametrize("name", REFUTED)
def test_the_wrong_rule_is_refuted(name):
    primal, backward, shapes = REFUTED[name]
    assert prove_vjp(with_rule(primal, backward), primal, *shapes).status == "refuted"


@pytest.mark.family
@pytest.mark.parametrize("name", ON_TIES)
def test_a_rule_that_is_wrong_on_ties_is_proved_off_them(name):
    primal, backward, shapes = ON_TIES[name]
    proof = prove_vjp(with_rule(primal, backward), primal, *shapes)
    assert proof.status == "conditional", str(proof)
    assert any("attained once" in o.claim and not o.discharged for o in proof.obligations)


def test_what_two_always_share_at_one_size_is_no_tie_there():
    """|x₀ − μ| = |x₁ − μ| for all data: of two elements the rule is wrong, of more it is right."""

    def twice_where_several_are(args, dy):
        away = jnp.abs(args[0] - args[0].mean())
        return by_itself(deviation)(args, dy * jnp.where(hit(away).sum() > 1, 2.0, 1.0))

    proof = prove_vjp(with_rule(deviation, twice_where_several_are), deviation, "n")
    assert proof.status in ("refused", "refuted"), str(proof)
