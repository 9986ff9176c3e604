"""What is written out by position: gates of picked elements, LSTM cells; and masks too large to be."""

import jax
import jax.numpy as jnp
import pytest

from bnjax.prove import prove_vjp
from tests.prove.rules import with_rule


def gate(z):
    return jax.nn.sigmoid(z[:, 0] + z[:, 1])


def back_through_gate(factor):
    def backward(args, dy):
        y = gate(*args)
        return (jnp.stack([dy * y * (1 - y), factor * dy * y * (1 - y)], 1),)

    return backward


def preferred(z):
    return jax.nn.softplus(z[:, 1] - z[:, 0])


def towards_the_preferred(sign):
    def backward(args, dy):
        slope = dy * jax.nn.sigmoid(args[0][:, 1] - args[0][:, 0])
        return (jnp.stack([-slope, sign * slope], 1),)

    return backward


def lstm(z, c):
    i, f, g, o = jnp.split(z, 4, axis=-1)
    new = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
    return jax.nn.sigmoid(o) * jnp.tanh(new), new


def back_through_lstm(forgets):
    def backward(args, dys):
        (z, c), (dh, dc) = args, dys
        i, f, g, o = jnp.split(z, 4, axis=-1)
        i, f, o, g = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o), jnp.tanh(g)
        t = jnp.tanh(f * c + i * g)
        dc = dc * (not forgets) + dh * o * (1 - t**2)
        gates = (dc * g * i * (1 - i), dc * c * f * (1 - f), dc * i * (1 - g**2), dh * t * o * (1 - o))
        return jnp.concatenate(gates, -1), dc * f

    return backward


CASES = {  # primal, right, wrong, shapes
    "a gate of two": (gate, back_through_gate(1), back_through_gate(-1), "B 2"),
    "an LSTM cell": (lstm, back_through_lstm(False), back_through_lstm(True), "B 4*H", "B H"),
    "a preference": (preferred, towards_the_preferred(1), towards_the_preferred(-1), "B 2"),
}


@pytest.mark.family
@pytest.mark.parametrize("name", CASES)
def test_the_right_rule_is_proved_and_the_wrong_one_refuted(name):
    primal, right, wrong, *shapes = CASES[name]
    assert prove_vjp(with_rule(primal, right), primal, *shapes).status == "proved"
    assert prove_vjp(with_rule(primal, wrong), primal, *shapes).status == "refuted"


def attention(q, k, v):
    mask = jnp.tril(jnp.ones((q.shape[0], q.shape[0]), bool))
    return jax.nn.softmax(jnp.where(mask, q @ k.T, -jnp.inf)) @ v


def back_through_attention(turned):
    def backward(args, dy):
        q, k, v = args
        mask = jnp.tril(jnp.ones((q.shape[0], q.shape[0]), bool))
        p = jax.nn.softmax(jnp.where(mask, q @ k.T, -jnp.inf))
        dp = dy @ v.T
        ds = p * (dp - jnp.sum(p * dp, -1, keepdims=True))
        return ds @ k, (ds if turned else ds.T) @ q, p.T @ dy

    return backward


@pytest.mark.thorough
def test_a_causal_mask_of_a_symbolic_size_is_not_written_out_where_it_is_large():
    proof = prove_vjp(with_rule(attention, back_through_attention(False)), attention, "T D", "T D", "T E")
    assert proof.status == "proved"
    wrong = with_rule(attention, back_through_attention(True))
    assert prove_vjp(wrong, attention, "T D", "T D", "T E").status == "refuted"
