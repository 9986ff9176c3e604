"""Batch normalization in JAX whose backward pass can be trusted.

Each theorem of the chapter is a function with a hand-derived VJP; `THEOREMS` is the table of them.
`check_vjp` tries a hand VJP of your own at points, and `prove_vjp` decides it for every size.
The layers are in `bnjax.nn.nnx` and `bnjax.nn.linen`, the networks in `bnjax.models`, training in
`bnjax.train`: imported when first touched, as they need the extra `train`.
"""

import importlib
from types import ModuleType

from bnjax.check import CheckReport, assert_vjp, check_vjp
from bnjax.prove import ModelProof, Proof, prove_model, prove_vjp
from bnjax.theorems import (
    THEOREMS,
    Theorem,
    affine,
    batch_norm,
    center,
    inverse_stddev,
    normalize,
)

__all__ = [
    "THEOREMS",
    "CheckReport",
    "ModelProof",
    "Proof",
    "Theorem",
    "affine",
    "assert_vjp",
    "batch_norm",
    "center",
    "check_vjp",
    "inverse_stddev",
    "normalize",
    "prove_model",
    "prove_vjp",
]
__version__ = "0.2.0"


def __getattr__(name: str) -> ModuleType:
    """`bnjax.nn`, `bnjax.models`, …, imported at their first use: they need Flax and what is beyond it."""
    if name in {"data", "models", "nn", "ops", "train"}:
        return importlib.import_module(f"bnjax.{name}")
    raise AttributeError(f"module 'bnjax' has no attribute {name!r}")
