"""Sines, inverse tangents and powers with a real exponent: right rules are proved, wrong ones refuted."""

import jax.numpy as jnp
import pytest

from bnjax.prove import prove_vjp
from tests.prove.rules import with_rule


def wave(x, y):  # the example of JAX's own documentation
    return jnp.sin(x) * y


def snake(x, a):
    return x + jnp.sin(a * x) ** 2 / a


def turned(x, t):
    c, s = jnp.cos(t), jnp.sin(t)
    return jnp.stack([x[:, 0] * c - x[:, 1] * s, x[:, 0] * s + x[:, 1] * c], 1)


def turned_back(sign):
    def backward(args, dy):
        x, t = args
        c, s = jnp.cos(t), jnp.sin(t)
        y = turned(x, t)
        dx = jnp.stack([dy[:, 0] * c + sign * dy[:, 1] * s, -dy[:, 0] * s + dy[:, 1] * c], 1)
        return dx, dy[:, 1] * y[:, 0] - dy[:, 0] * y[:, 1]

    return backward


def of_snake(factor):
    def backward(args, dy):
        x, a = args
        s, c = jnp.sin(a * x), jnp.cos(a * x)
        return dy * (1 + factor * s * c), jnp.sum(dy * (2 * s * c * x / a - s**2 / a**2), 0)

    return backward


CASES = {  # primal, right, wrong, shapes, positive
    "the documentation's": (
        wave,
        lambda a, dy: (jnp.cos(a[0]) * dy * a[1], jnp.sin(a[0]) * dy),
        lambda a, dy: (-jnp.cos(a[0]) * dy * a[1], jnp.sin(a[0]) * dy),
        ("n", "n"),
        (),
    ),
    "snake": (snake, of_snake(2), of_snake(1), ("N C", "C"), (1,)),
    "rotary": (turned, turned_back(1), turned_back(-1), ("N 2", "N"), ()),
    "atan": (
        lambda x: jnp.arctan(x),
        lambda a, dy: (dy / (1 + a[0] ** 2),),
        lambda a, dy: (dy / (1 - a[0] ** 2),),
        ("n",),
        (),
    ),
    "asinh": (
        lambda x: jnp.arcsinh(x),
        lambda a, dy: (dy / jnp.sqrt(1 + a[0] ** 2),),
        lambda a, dy: (dy / (1 + a[0] ** 2),),
        ("n",),
        (),
    ),
    "x^p": (
        lambda x, p: x**p,
        lambda a, dy: (dy * a[1] * a[0] ** (a[1] - 1), dy * jnp.log(a[0]) * a[0] ** a[1]),
        lambda a, dy: (dy * a[1] * a[0] ** (a[1] - 1), dy * a[0] ** a[1]),
        ("n", "n"),
        (0,),
    ),
}


@pytest.mark.family
@pytest.mark.parametrize("name", CASES)
def test_the_right_rule_is_proved_and_the_wrong_one_refuted(name):
    primal, right, wrong, shapes, positive = CASES[name]
    assert prove_vjp(with_rule(primal, right), primal, *shapes, positive=positive).status == "proved"
    proof = prove_vjp(with_rule(primal, wrong), primal, *shapes, positive=positive)
    assert proof.status == "refuted"


def test_a_tangent_is_proved_where_the_cosine_is_not_zero():
    op = with_rule(lambda x: jnp.tan(x), lambda a, dy: (dy / jnp.cos(a[0]) ** 2,))
    proof = prove_vjp(op, lambda x: jnp.tan(x), "n")
    assert proof.status == "conditional"
    assert [o.claim for o in proof.obligations if not o.discharged] == [
        "cos.1[a] ≠ 0, where cos.1 = cos(x[a])"
    ]


def test_an_identity_of_two_angles_is_no_kink():
    """sin 2x = 2·sin x·cos x is not known, and then it must not be taken for a thin set either."""

    def primal(x):
        return jnp.where(jnp.sin(2 * x) - 2 * jnp.sin(x) * jnp.cos(x) == 0, x, 2 * x)

    assert prove_vjp(with_rule(primal, lambda a, dy: (2 * dy,)), primal, "n").status != "proved"


@pytest.mark.parametrize("right", [True, False])
def test_the_larger_of_sine_and_cosine_has_kinks_where_they_are_equal(right):
    def primal(x):
        return jnp.maximum(jnp.sin(x), jnp.cos(x))

    def backward(args, dy):
        s, c = jnp.sin(args[0]), jnp.cos(args[0])
        return (dy * jnp.where(s > c if right else s < c, c, -s),)

    proof = prove_vjp(with_rule(primal, backward), primal, "n")
    assert proof.status == ("proved" if right else "refuted")
    assert not right or proof.kinks
