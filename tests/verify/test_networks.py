"""The networks' rows: proved whole, and refuted with one wrong layer in them."""

import json

import jax.numpy as jnp
import pytest
from flax import nnx

import bnjax.ops
from bnjax.nn.nnx import BatchNormRelu
from bnjax.verify import networks, verdicts
from bnjax.verify.lemmas import LEMMAS


class Small(nnx.Module):
    """The chapter's in small: three convolutions, batch norm, a pool, a dense layer."""

    def __init__(self):
        rngs = nnx.Rngs(0)
        self.convs = nnx.List([nnx.Conv(2, 2, (3, 3), rngs=rngs) for _ in range(3)])
        self.norm = BatchNormRelu(2, rngs=rngs)
        self.dense = nnx.Linear(8, 3, rngs=rngs)

    def __call__(self, x):
        x = self.norm(self.convs[1](self.convs[0](x)))
        x = bnjax.ops.max_pool(self.convs[2](x))
        return self.dense(x.reshape(x.shape[0], -1))


class Linear(nnx.Module):
    """Three linear layers."""

    def __init__(self):
        self.convs = nnx.List([nnx.Linear(3, 3, rngs=nnx.Rngs(0)) for _ in range(3)])

    def __call__(self, x):
        return self.convs[2](self.convs[1](self.convs[0](x)))


@pytest.mark.thorough
def test_a_network_is_proved_and_refuted_with_a_wrong_layer():
    (verdict,) = networks.network_verdicts({"small": Small()}, "N 4 4 2")
    assert (verdict.proof, verdict.open) == ("proved", ()), verdict
    assert {"max_pool_primal", "norm: _batch_norm_relu"} <= {piece["piece"] for piece in verdict.pieces}
    assert verdict.rests_on == ("batch norm and ReLU", "2×2 max pool")  # its convolutions are JAX's
    assert set(networks._LEMMAS.values()) <= {lemma.name for lemma in LEMMAS}
    assert verdict.planted["proof"] == "refuted"
    assert "convs.2.layer" in verdict.planted["reason"]
    assert "counterexample" in verdict.planted["seen"]
    assert verdict.ok
    assert networks.row(verdict)[2:5] == ("proved", "–", "1/1")
    (row,) = json.loads(verdicts.as_json((), (), [verdict]))["networks"]
    assert row["ok"]
    assert row["pieces"][0]["for every N"] == "proved"


@pytest.mark.thorough
def test_a_prover_that_lets_the_wrong_layer_live_is_noticed(monkeypatch):
    monkeypatch.setattr(networks, "DoubledCotangent", lambda layer: layer)
    (verdict,) = networks.network_verdicts({"linear": Linear()}, "N 3")
    assert not verdict.ok
    assert networks.row(verdict)[4] == "0/1"


def test_the_loss_is_the_mean_cross_entropy():
    assert networks.loss(jnp.zeros((4, 10)), jnp.arange(4)) == pytest.approx(jnp.log(10.0))


@pytest.mark.slow
def test_the_networks_of_the_chapter_are_proved():
    for verdict in networks.network_verdicts():
        assert verdict.ok, verdict
        assert verdict.proof == "proved"
