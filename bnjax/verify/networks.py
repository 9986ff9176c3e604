"""The chapter's two networks, whole: their gradient proved piece by piece, and refuted with a wrong layer."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from bnjax.models import CifarCNN
from bnjax.prove import prove_model

# the lemma about a piece, by what is in the piece's name
_LEMMAS = {
    "_batch_norm_relu": "batch norm and ReLU",
    "_conv": "3×3 convolution",
    "max_pool_primal": "2×2 max pool",
}


@dataclass(frozen=True)
class NetworkVerdict:
    """What `prove_model` says of a network and its training loss.

    Attributes:
      name: the network's.
      proof, claim, reason, open: as of a theorem's `bnjax.verify.verdicts.Verdict`.
      pieces: the name, the source line and the status of each.
      rests_on: the lemmas that are pieces of it, by name.
      planted: what it says of the same network whose convolution 2 returns twice the cotangent of its input.
    """

    name: str
    proof: str
    claim: str
    reason: str
    open: tuple[str, ...]
    pieces: tuple[dict[str, str], ...]
    rests_on: tuple[str, ...]
    planted: dict[str, str]

    @property
    def ok(self) -> bool:
        """Whether nothing speaks against the network, and the wrong layer is found."""
        return self.proof != "refuted" and self.planted["proof"] == "refuted"


def networks() -> dict[str, Any]:
    """The chapter's, by name."""
    return {
        "network with batch norm": CifarCNN("batch", rngs=nnx.Rngs(0)),
        "network without": CifarCNN("none", rngs=nnx.Rngs(0)),
    }


def loss(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The mean cross-entropy of softmax, which training goes down."""
    return jnp.mean(optax.softmax_cross_entropy_with_integer_labels(logits, labels))


def network_verdicts(models: Mapping[str, Any] | None = None, *shapes: str) -> Iterator[NetworkVerdict]:
    """The verdict on each network, as soon as it is known.

    Args:
      models: networks with a list `convs` of layers; if None, the chapter's, for images "N 32 32 3".
      shapes: what `prove_model` is given of each.
    """
    shapes = shapes or ("N 32 32 3",)
    for name, model in (networks() if models is None else models).items():
        proof = prove_model(model, *shapes, loss=loss)
        planted = nnx.clone(model)
        planted.convs[2] = DoubledCotangent(planted.convs[2])
        wrong = prove_model(planted, *shapes, loss=loss)
        yield NetworkVerdict(
            name,
            proof.status,
            proof.claim,
            proof.reason,
            tuple(o.claim for o in proof.obligations if not o.discharged),
            tuple({"piece": p.name, "where": p.where, "for every N": p.status} for p in proof.pieces),
            tuple(lemma for rule, lemma in _LEMMAS.items() if any(rule in p.name for p in proof.pieces)),
            {"proof": wrong.status, "reason": wrong.reason, "seen": str(wrong.counterexample or "")},
        )


def row(verdict: NetworkVerdict) -> tuple[str, ...]:
    """A verdict as the cells under `bnjax.verify.verdicts.HEADER`; the checker is not given a network."""
    fallen = f"{verdict.planted['proof'] == 'refuted':d}/1"
    return (verdict.name, "–", verdict.proof, "–", fallen, "no bound")


class DoubledCotangent(nnx.Module):
    """A layer with a rule by hand that is right, but for a factor 2 in the cotangent of its input."""

    def __init__(self, layer: nnx.Module):
        self.layer = layer

    def __call__(self, x: jax.Array) -> jax.Array:
        """What the layer returns."""
        graph, params = nnx.split(self.layer)
        return _doubled(lambda x, params: nnx.merge(graph, params)(x))(x, params)


def _doubled(layer: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
    def backward(args, dy):
        dx, others = jax.vjp(layer, *args)[1](dy)
        return 2 * dx, others

    rule = jax.custom_vjp(layer)
    rule.defvjp(lambda *args: (layer(*args), args), backward)
    return rule
