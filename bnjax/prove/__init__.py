"""A proof for every batch size that a hand VJP is the true one, of the program that runs."""

from bnjax.prove.model import ModelProof, prove_model
from bnjax.prove.proof import Proof
from bnjax.prove.prover import prove_vjp

__all__ = ["ModelProof", "Proof", "prove_model", "prove_vjp"]
