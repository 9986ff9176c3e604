"""Hand VJPs for what else a training step spends its time on, in the form of the theorems.

Each file reads as a theorem's does: the public *op*, whose docstring is the formula; the *primal*, plain
JAX; the hand VJP.  What an op's rule was not written for, it passes to XLA.
"""

from bnjax.ops import cpu
from bnjax.ops.batch_norm_relu import batch_norm_relu, batch_norm_relu_with_statistics
from bnjax.ops.conv import conv
from bnjax.ops.max_pool import max_pool

__all__ = ["batch_norm_relu", "batch_norm_relu_with_statistics", "conv", "cpu", "max_pool"]
