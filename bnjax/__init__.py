"""Batch normalization in JAX whose backward pass can be trusted.

Each theorem of the chapter is a function with a hand-derived VJP; `THEOREMS` is the table of them.
The layers are in `bnjax.nn.nnx` and `bnjax.nn.linen`, the networks in `bnjax.models`.
"""

from bnjax.theorems import (
    THEOREMS,
    Theorem,
    affine,
    batch_norm,
    center,
    inverse_stddev,
    normalize,
)

__all__ = ["THEOREMS", "Theorem", "affine", "batch_norm", "center", "inverse_stddev", "normalize"]
__version__ = "0.1.0"
