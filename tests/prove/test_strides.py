"""Every s-th element along an axis: slices that are arrays of their own, and the max pool that takes them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bnjax.ops.max_pool import max_pool, max_pool_primal
from bnjax.prove import prove_vjp
from bnjax.prove.algebra import Atom
from bnjax.prove.field import Field
from bnjax.prove.strides import cut_axes, in_parts
from tests.prove.reading import value_at
from tests.prove.rules import with_rule

even = slice(None, None, 2)
odd = slice(1, None, 2)


def pairs(x):
    return jnp.maximum(x[:, ::2], x[:, 1::2])


def put(size, starts, parts):
    return sum(
        jnp.zeros((p.shape[0], size)).at[:, s :: len(starts)].set(p)
        for s, p in zip(starts, parts, strict=True)
    )


def pairs_backward(args, dy, first=lambda a, b: a >= b):
    a, b = args[0][:, ::2], args[0][:, 1::2]
    mine = first(a, b)
    return (put(args[0].shape[1], (0, 1), (dy * mine, dy * (1 - mine))),)


def thirds(x):
    return x[:, ::3] * x[:, 1::3] - jnp.tanh(x[:, 2::3])


def thirds_backward(args, dy, sign=-1):
    a, b, c = (args[0][:, k::3] for k in range(3))
    return (put(args[0].shape[1], (0, 1, 2), (dy * b, dy * a, sign * dy * (1 - jnp.tanh(c) ** 2))),)


def rotated(x):
    """Pairs of neighbours as complex numbers, turned by a right angle."""
    return jnp.stack([-x[:, 1::2], x[:, ::2]], 2).reshape(x.shape)


def twice(x):
    return pairs(pairs(x))


RULES = {
    "the larger of neighbours": (pairs, pairs_backward, "N 6"),
    "three in a row": (thirds, thirds_backward, "N 9"),
    "a turn": (rotated, lambda a, dy: (-rotated(dy),), "N 4"),
    "a turn of rows": (
        lambda x: rotated(x.T).T, lambda a, dy: (-rotated(dy.T).T,), "4 N"
    ),
    "lax.slice": (
        lambda x: lax.slice_in_dim(x, 1, None, 2, 1), lambda a, dy: (put(6, (0, 1), (0 * dy, dy)),), "N 6"
    ),
    "of the batch's axis too": (lambda x: pairs(x) * x[:1, :1], None, "4 4"),
    "an axis that is not divided": (
        lambda x: x[:, ::2], lambda a, dy: (jnp.zeros_like(a[0]).at[:, ::2].set(dy),), "N 5"
    ),
    "slices by two and by three": (lambda x: x[:, ::2].sum(1) * x[:, ::3].sum(1), None, "N 6"),
    "slices of slices": (twice, None, "N 8"),
    "a slice of what is computed": (lambda x: jnp.tanh(jnp.cumsum(x, 1)[:, ::2]), None, "N 4"),
}  # fmt: skip
WRONG = {
    "the smaller of neighbours": (pairs, lambda a, dy: pairs_backward(a, dy, lambda a, b: a < b), "N 6"),
    "to the even ones": (pairs, lambda a, dy: pairs_backward(a, dy, lambda a, b: 1 + 0 * a), "N 6"),
    "a sign": (thirds, lambda a, dy: thirds_backward(a, dy, 1), "N 9"),
    "turned the same way": (rotated, lambda a, dy: (rotated(dy),), "N 4"),
    "the other ones": (
        lambda x: lax.slice_in_dim(x, 1, None, 2, 1), lambda a, dy: (put(6, (0, 1), (dy, 0 * dy)),), "N 6"
    ),
}  # fmt: skip


@pytest.mark.family
@pytest.mark.parametrize("name", RULES)
def test_a_right_rule_is_proved(name):
    primal, backward, shape = RULES[name]
    if backward is None:
        backward = lambda args, dy: jax.vjp(primal, *args)[1](dy)  # noqa: E731
    proof = prove_vjp(with_rule(primal, backward), primal, shape)
    assert proof.status == "proved", str(proof)


@pytest.mark.family
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_rule_is_refuted(name):
    primal, backward, shape = WRONG[name]
    assert prove_vjp(with_rule(primal, backward), primal, shape).status == "refuted"


def test_a_kink_is_named_as_python_writes_it():
    proof = prove_vjp(with_rule(pairs, pairs_backward), pairs, "N 6")
    assert proof.kinks == ("x[:,0::2][a,b] − x[:,1::2][a,b] ≠ 0",)


@pytest.mark.thorough
@pytest.mark.parametrize("shape", ["N 4 4 C", "N 2 2 3"])
def test_the_max_pool_is_proved_on_its_ties_too(shape):
    proof = prove_vjp(max_pool, max_pool_primal, shape)
    assert proof.status == "proved", str(proof)
    assert len(proof.kinks) == 6


POOLS = {
    "shared": lambda args, dy: (jnp.repeat(jnp.repeat(dy / 4, 2, 1), 2, 2),),
    "to all that are largest": lambda args, dy: (_to_the_largest(args[0], dy, lambda x, y: x == y),),
    "to the smallest": lambda args, dy: (_to_the_largest(-args[0], dy, lambda x, y: x == y),),
}


def _to_the_largest(x, dy, chosen):
    whole = jnp.repeat(jnp.repeat(max_pool_primal(x), 2, 1), 2, 2)
    return jnp.repeat(jnp.repeat(dy, 2, 1), 2, 2) * chosen(x, whole)


@pytest.mark.thorough
@pytest.mark.parametrize("name", POOLS)
def test_a_wrong_max_pool_is_not_proved(name):
    proof = prove_vjp(with_rule(max_pool_primal, POOLS[name]), max_pool_primal, "N 4 4 2")
    assert proof.status == ("conditional" if name == "to all that are largest" else "refuted"), str(proof)


@pytest.mark.parametrize(
    ("shape", "strides"),
    [
        ((3, 4), {(2, 1, "4"): 2}),
        ((4, 6), {(2, 0, "4"): 2, (2, 1, "6"): 3}),
        ((8,), {(1, 0, "8"): 2, (1, 0, "4"): 2}),
        ((2, 3), {(2, 0, "2"): 2}),
    ],
)
def test_an_array_is_its_slices_put_together(shape, strides):
    dims, cuts = cut_axes(tuple((str(size),) for size in shape), strides)
    field = Field()
    poly = in_parts(field, Atom("x"), dims, cuts)
    x = np.random.default_rng(0).normal(size=shape)
    parts = {name: eval(name, {"x": x}) for name in field.atoms if name.startswith("x[")}
    axes = tuple(size for dim in dims for size in dim)
    parts = {name: part.reshape([int(s) for s in field.atoms[name].sizes]) for name, part in parts.items()}
    np.testing.assert_array_equal(value_at(field, poly, parts, axes, {}).reshape(shape), x)
