"""Kernels for CPU, of the extra `fast`: what takes most of a training step there, twice as fast as XLA's.

numba compiles them, once, and XLA calls them through its foreign function interface, on its own threads.
They are asked for by name, `bnjax.ops.cpu.conv` for `bnjax.ops.conv`, or by the attribute `cpu_kernels` of a
layer, the argument of a network, as `bnjax train` does: the functions that the theorems, the checker and the
prover are about never come to a kernel by themselves.  So a verdict is about the program that it names; what
runs in its stead here is held to that program by the tests, by `check_vjp`, and in each process before its
first use.  `prove_vjp` refuses a program with kernels in it, by the name of their primitive.

Bottom up: `layout` and `frame`, XLA's call frame; `vectors` and `microkernel`, the arithmetic; `pool`, the
threads; `winograd`, `direct` and `convolution`, the convolution; `moments` and `normalization`, batch norm;
`call`, a kernel as an op of JAX's; `probe` and `trial`, whether the kernels are used.
"""

from bnjax.ops.cpu.batch_norm import batch_norm_with_statistics
from bnjax.ops.cpu.conv import conv
from bnjax.ops.cpu.trial import available

__all__ = ["available", "batch_norm_with_statistics", "conv"]
