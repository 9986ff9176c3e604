"""A proof for every batch size that a hand VJP is the true one, of the program that runs."""

from bnjax.prove.proof import Proof
from bnjax.prove.prover import prove_vjp

__all__ = ["Proof", "prove_vjp"]
