r"""The seven theorems of the chapter on batch normalization, each a function with its hand-derived VJP.

A file reads as the chapter does: the public *op*, whose docstring is the theorem; the *primal*, the same
forward in plain JAX, that autodiff can differentiate; the dense *Jacobian*; the hand VJP.  Three files
go beyond the chapter: `pushforward` (forward mode, whose transpose is theorem 34), and with rules in that
form, `inference` (evaluation mode, one term) and `sync` (masked and cross-device batches).  `table` lists
the seven.  Nothing in here imports anything but jax.

Source of the numbering: *Verified Deep Learning with Lean 4*, chapter 5, "CIFAR with BatchNorm".
"""

from bnjax.theorems.affine import affine
from bnjax.theorems.batch_norm import BatchNormOutput, batch_norm, batch_norm_with_statistics
from bnjax.theorems.centering import center
from bnjax.theorems.inference import batch_norm_inference, batch_norm_inference_primal
from bnjax.theorems.inverse_stddev import gradient_norm_bound, inverse_stddev, partial_derivative_bound
from bnjax.theorems.normalize import normalize
from bnjax.theorems.pushforward import Pushforward, batch_norm_pushforward
from bnjax.theorems.sync import sync_batch_norm
from bnjax.theorems.table import THEOREMS, Theorem

__all__ = [
    "THEOREMS",
    "BatchNormOutput",
    "Pushforward",
    "Theorem",
    "affine",
    "batch_norm",
    "batch_norm_inference",
    "batch_norm_inference_primal",
    "batch_norm_pushforward",
    "batch_norm_with_statistics",
    "center",
    "gradient_norm_bound",
    "inverse_stddev",
    "normalize",
    "partial_derivative_bound",
    "sync_batch_norm",
]
