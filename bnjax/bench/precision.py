"""The error of the float32 gradient as the batch's mean moves away from zero."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from bnjax.bench.layers import of_nnx
from bnjax.ops import cpu
from bnjax.theorems import batch_norm
from bnjax.theorems.batch_norm import batch_norm_primal

RATIOS = (1, 10, 100, 1_000, 3_000, 10_000)
ROWS = 4096
CHANNELS = 16


def measure() -> Iterator[dict[str, Any]]:
    """A row for each mean/std: the largest error of dx, relative to the largest entry of dx.

    The reference is float64 autodiff at the same float32 inputs.  "two-pass" is float32 autodiff of
    Σ (x − μ)²/n.
    """
    rng = np.random.default_rng(0)
    flaxs = of_nnx(nnx.BatchNorm, CHANNELS, "float32", train=True)
    contestants: dict[str, Callable[..., Any]] = {
        "bnjax": batch_norm,
        "bnjax, CPU kernels": lambda *args: cpu.batch_norm_with_statistics(*args).y,
        "two-pass": batch_norm_primal,
        "flax nnx": lambda *args: flaxs(*args)[0],
    }
    for ratio in RATIOS:
        x = (ratio + rng.normal(size=(ROWS, CHANNELS))).astype(np.float32)
        dy = rng.normal(size=x.shape).astype(np.float32)
        scale, bias = np.ones(CHANNELS, np.float32), np.zeros(CHANNELS, np.float32)
        with jax.enable_x64(True):
            wide = [jnp.asarray(a, jnp.float64) for a in (x, scale, bias, dy)]
            reference = np.asarray(_dx(batch_norm_primal, *wide))
        errors = {
            name: float(np.max(abs(np.asarray(_dx(f, x, scale, bias, dy)) - reference)))
            / float(np.max(abs(reference)))
            for name, f in contestants.items()
        }
        yield {"mean/std": ratio, "errors": errors}


def _dx(function: Callable[..., Any], x: Any, scale: Any, bias: Any, dy: Any) -> Any:
    return jax.vjp(lambda x: function(x, scale, bias), x)[1](dy)[0]
