"""Whole networks: proved piece by piece, refuted by the layer that is wrong, honest about the rest."""

import jax
import jax.numpy as jnp
import pytest
from flax import nnx
from jax.extend.core import primitives as jaxs
from jax.interpreters import ad

from bnjax.prove import prove_model, prove_vjp
from tests.prove.rules import with_rule


class MLP(nnx.Module):
    """Linear, an activation, linear."""

    def __init__(self, activation):
        self.hidden = nnx.Linear(4, 5, rngs=nnx.Rngs(0))
        self.last = nnx.Linear(5, 3, rngs=nnx.Rngs(0))
        self.activation = activation

    def __call__(self, x):
        return self.last(self.activation(self.hidden(x)))


class Scale(nnx.Module):
    """A layer with a rule of its own: x·w, its cotangent of w times `factor`."""

    def __init__(self, factor):
        self.w = nnx.Param(jnp.ones(4))
        self.rule = with_rule(
            lambda x, w: x * w, lambda args, dy: (dy * args[1], factor * (dy * args[0]).sum(0))
        )

    def __call__(self, x):
        return self.rule(x, self.w[...])


def square_loss(outputs, targets):
    return jnp.mean((outputs - targets) ** 2)


def test_a_small_network_is_proved_for_every_batch_size():
    proof = prove_model(MLP(nnx.relu), "N 4", "N 3", loss=square_loss)
    assert proof.status == "proved", str(proof)
    names = [piece.name for piece in proof.pieces]
    assert {"hidden: dot_general", "relu", "last: dot_general"} <= set(names)
    assert all(piece.where and piece.seconds > 0 for piece in proof.pieces)
    assert "for all sizes N ≥ 1" in proof.claim
    assert "hidden: dot_general" in str(proof)


def test_a_wrong_factor_in_one_layer_refutes_the_network_and_names_the_layer():
    right, wrong = Scale(1), Scale(2)
    assert prove_model(nnx.Sequential(right, right), "N 4").status == "proved"
    proof = prove_model(nnx.Sequential(right, wrong), "N 4")
    assert proof.status == "refuted", str(proof)
    assert "layers.1: " in proof.reason
    assert proof.counterexample.float64[0] != proof.counterexample.float64[1]


def centered(x):
    return x - x.mean(0)


def normalized(x):
    return centered(x) * jax.lax.rsqrt(x.var(0) + 1e-5)


def ramp(x):
    return jnp.maximum(x, 0.0)


@pytest.mark.family
@pytest.mark.parametrize(
    ("primal", "backward"),
    [
        (centered, lambda args, dy: (dy,)),
        (normalized, lambda args, dy: (centered(dy) * jax.lax.rsqrt(args[0].var(0) + 1e-5),)),
        (ramp, lambda args, dy: (jnp.where(args[0] > -1.0, dy, 0.0),)),
        (ramp, lambda args, dy: (dy * (args[0] > 0) * 2.0,)),
        (jnp.square, lambda args, dy: (3.0 * dy * args[0],)),
    ],
)
def test_a_wrong_rule_with_literals_is_refuted_in_float64_too(primal, backward):
    wrong = with_rule(primal, backward)
    hidden = nnx.Linear(4, 3, rngs=nnx.Rngs(0))
    for network in (nnx.Sequential(wrong), nnx.Sequential(hidden, wrong, nnx.tanh)):
        proof = prove_model(network, "N 4")
        assert proof.status == "refuted", str(proof)
        assert proof.counterexample.float64[0] != proof.counterexample.float64[1]


@pytest.mark.thorough
def test_a_right_rule_with_a_rounded_literal_is_not_refuted():
    third = with_rule(lambda x: x / 3.0, lambda args, dy: (dy * (1 / 3),))
    assert prove_model(nnx.Sequential(third), "N 4").status != "refuted"


@pytest.mark.thorough
def test_what_is_not_read_leaves_the_network_conditional_on_it_by_name():
    proof = prove_model(MLP(lambda x: jax.lax.sort(x, dimension=1)), "N 4")
    assert proof.status == "conditional"
    (open_one,) = proof.obligations
    assert "sort" in open_one.claim
    assert "test_model.py" in open_one.where


def test_a_network_that_asks_for_a_size_is_looked_at_there():
    class Branch(nnx.Module):
        def __init__(self):
            self.right, self.wrong = Scale(1), Scale(2)

        def __call__(self, x):
            return self.wrong(x) if x.shape[0] == 7 else self.right(x)

    proof = prove_model(Branch(), "N 4")
    assert proof.status == "refuted", str(proof)
    assert len(proof.counterexample.point["x0"]) == 7


def test_another_program_at_one_size_is_a_piece_of_its_own():
    class Branch(nnx.Module):
        def __call__(self, x):
            return jax.lax.sort(x, dimension=1) if x.shape[0] == 7 else x * x

    proof = prove_model(Branch(), "N 4")
    assert proof.status == "conditional", str(proof)
    assert [piece.name for piece in proof.pieces] == ["mul", "sort at N = 7"]


@pytest.mark.thorough
def test_labels_are_integers_below_the_number_of_classes():
    def loss(logits, labels):
        picked = jnp.take_along_axis(logits, labels[:, None], axis=-1, mode="promise_in_bounds")
        return -picked.mean()

    proof = prove_model(MLP(nnx.tanh), "N 4", loss=loss)
    assert proof.status == "proved", str(proof)
    assert "[N] of integers below 3" in proof.claim


def test_a_reshape_is_proved_in_the_factors_that_it_merges_or_splits():
    class Heads(nnx.Module):
        def __call__(self, x):
            return x.reshape(x.shape[0], 2, 6).reshape(x.shape[0], -1)

    assert prove_model(Heads(), "N 3 4").status != "refuted"
    assert prove_model(Heads(), "N 12").status == "proved"


def test_state_and_what_is_drawn_at_random_are_held_constant():
    class Noisy(nnx.Module):
        def __init__(self):
            self.norm = nnx.BatchNorm(4, rngs=nnx.Rngs(0))
            self.dropout = nnx.Dropout(0.5, rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.dropout(self.norm(x))

    proof = prove_model(Noisy(), "N 4")
    assert proof.status == "proved", str(proof)
    assert "select_n" in {piece.name for piece in proof.pieces}


def test_the_lemma_of_a_rule_divides_by_the_size_that_the_network_divides_by():
    """The rule is right for w = n only: that it gets n in this network is part of the lemma."""
    mean = with_rule(
        lambda x, n: x.sum(0) / n,
        lambda args, dy: (jnp.broadcast_to(dy / args[0].shape[0], args[0].shape), None),
    )

    class Mean(nnx.Module):
        def __init__(self, factor):
            self.factor = factor

        def __call__(self, x):
            return mean(x, self.factor * jnp.float32(1) * x.shape[0])

    assert prove_model(Mean(1.0), "N 4").status == "proved"
    wrong = prove_model(Mean(2.0), "N 4")
    assert wrong.status in ("conditional", "refuted"), str(wrong)  # never proved


@pytest.mark.thorough
def test_a_wrong_derivative_of_a_primitive_is_not_proved(monkeypatch):
    """JAX's rules are not believed: of a wrong one it is not shown that it is the derivative."""

    def wrong(primals, tangents, **_):
        y = jax.lax.tanh(primals[0])
        return y, tangents[0] * y

    network = nnx.Sequential(lambda x: jax.lax.tanh(x))
    assert prove_model(network, "N 3").status == "proved"
    monkeypatch.setitem(ad.primitive_jvps, jaxs.tanh_p, wrong)
    proof = prove_model(network, "N 3")
    assert proof.status == "conditional", str(proof)
    assert "tanh is right (⟨dy, Jv⟩ = ⟨VJP(dy), v⟩ was not shown" in proof.obligations[0].claim


def test_vjps_compose():
    """vjp_comp: with a and b the Jacobians of any two maps, the VJP of the one after that of the other."""

    def after(v, a, b):
        return (v @ a) @ b

    def backward(args, dy, order=lambda a, b: (a, b)):
        v, a, b = args
        first, second = order(a, b)
        dz = dy @ second.T
        return dz @ first.T, jnp.outer(v, dz), jnp.outer(v @ a, dy)

    right = with_rule(after, backward)
    wrong = with_rule(after, lambda args, dy: backward(args, dy, lambda a, b: (b, a)))
    assert prove_vjp(right, after, "n", "n m", "m k").status == "proved"
    assert prove_vjp(wrong, after, "n", "n n", "n n").status == "refuted"


def test_what_fails_is_refused_and_what_is_asked_wrongly_raises():
    proof = prove_model(MLP(nnx.relu), "N 5")
    assert proof.status == "refused"
    assert proof.reason
    with pytest.raises(TypeError, match="not a flax"):
        prove_model(jnp.sin, "N 4")
    with pytest.raises(ValueError, match="sizes are letters"):
        prove_model(MLP(nnx.relu), "N -4")


def attend(scores, values, softmax=jax.nn.softmax):
    """Each position looks at itself and at those before it."""
    seen = jnp.tril(jnp.ones(scores.shape[-2:], bool))
    return softmax(jnp.where(seen, scores, -jnp.inf)) @ values


class Block(nnx.Module):
    """A transformer's: causal attention of two heads, and an MLP, each behind a layer norm."""

    def __init__(self, softmax=jax.nn.softmax):
        rngs = nnx.Rngs(0)
        self.before = nnx.List([nnx.LayerNorm(8, rngs=rngs) for _ in range(2)])
        self.heads, self.out = nnx.Linear(8, 24, rngs=rngs), nnx.Linear(8, 8, rngs=rngs)
        self.up, self.down = nnx.Linear(8, 16, rngs=rngs), nnx.Linear(16, 8, rngs=rngs)
        self.softmax = softmax

    def __call__(self, x):
        n, t, d = x.shape
        parts = jnp.split(self.heads(self.before[0](x)), 3, axis=-1)
        q, k, v = (part.reshape(n, t, 2, d // 2).transpose(0, 2, 1, 3) for part in parts)
        scores = q @ k.swapaxes(-1, -2) / (d // 2) ** 0.5
        x = x + self.out(attend(scores, v, self.softmax).transpose(0, 2, 1, 3).reshape(n, t, d))
        return x + self.down(nnx.gelu(self.up(self.before[1](x))))


@pytest.mark.thorough
def test_a_transformer_block_is_proved_its_mask_of_infinities_with_the_softmax():
    proof = prove_model(Block(), "N 4 8")
    assert proof.status == "proved", str(proof)
    (masked,) = [piece for piece in proof.pieces if "select_n" in piece.name]
    assert {"reduce_max", "exp", "reduce_sum", "div"} <= set(masked.name.split(", "))


def softmax_rule(backward):
    def softmax(x):
        return jax.nn.softmax(x)

    rule = jax.custom_vjp(softmax)
    rule.defvjp(lambda x: (softmax(x), (x, softmax(x))), backward)
    return rule


def right_softmax(held, dy):
    p = held[1]
    return (p * (dy - (p * dy).sum(-1, keepdims=True)),)


SOFTMAXES = {
    "right": (right_softmax, "proved"),
    "without the sum": (lambda held, dy: (held[1] * dy,), "refuted"),
    # right for real numbers, and NaN where a mask has put −∞
    "NaN at −∞": (lambda held, dy: (right_softmax(held, dy)[0] + 0 * held[0],), "conditional"),
}


@pytest.mark.family
@pytest.mark.thorough
@pytest.mark.parametrize("name", SOFTMAXES)
def test_a_rule_behind_a_mask_is_proved_with_the_mask(name):
    backward, status = SOFTMAXES[name]
    proof = prove_model(Block(softmax_rule(backward)), "N 3 8")
    assert proof.status == status, str(proof)
    assert any("select_n, softmax" in piece.name for piece in proof.pieces)


@pytest.mark.thorough
def test_a_mask_that_is_added_is_a_piece_with_its_softmax():
    """What is masked is an input of truth values: −∞ is in what does not move."""

    class Masked(nnx.Module):
        def __init__(self, softmax):
            self.scale, self.softmax = nnx.Param(jnp.ones(3)), softmax

        def __call__(self, x, seen):
            bias = jnp.where(seen.at[:, 0].set(True), 0.0, -jnp.inf)
            return self.softmax(x * self.scale[...] + bias)

    for backward, status in SOFTMAXES.values():
        proof = prove_model(Masked(softmax_rule(backward)), "N 3", "bool: N 3")
        assert proof.status == status or (status == "proved" and proof.status == "conditional"), str(proof)
        assert any("add, softmax" in piece.name for piece in proof.pieces), str(proof)
