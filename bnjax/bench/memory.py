"""What a layer keeps between its forward and its backward pass, and what a step needs while it runs."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp

from bnjax.bench import steps
from bnjax.bench.layers import layers
from bnjax.models import Norm

SHAPE = (128, 32, 32, 32)


def measure(shape: tuple[int, ...] = SHAPE) -> Iterator[dict[str, Any]]:
    """The rows of `kept` at `shape`, then those of `needed` at its batch size."""
    yield from kept(shape)
    yield from needed(shape[0])


def needed(batch_size: int, norms: Sequence[Norm] = get_args(Norm)) -> Iterator[dict[str, Any]]:
    """A row for each network: the temporary memory of the compiled step, as XLA plans it.

    Parameters and images come on top.
    """
    images, labels = steps.batch(batch_size)
    for norm in norms:
        for name, step in steps.of_jax(norm, images, labels).items():
            print(f"compiling {name}, norm {norm}", file=sys.stderr, flush=True)
            compiled = step.function.lower(step.state, *step.arrays).compile()
            temporary = compiled.memory_analysis().temp_size_in_bytes
            yield {"kind": "step", "norm": norm, "network": name, "temporary_bytes": temporary}


def kept(shape: tuple[int, ...]) -> Iterator[dict[str, Any]]:
    """A row for each layer and kind: the bytes kept, in units of one activation."""
    for kind in ("train", "train, relu"):
        for name, layer in layers(kind, "float32", shape).items():
            x, channels = jnp.ones(shape), jnp.ones(shape[-1])

            def residuals(x: jax.Array, channels: jax.Array, layer: Any = layer) -> Any:
                return jax.vjp(layer, x, channels, channels, has_aux=True)[1]

            leaves = jax.tree.leaves(jax.eval_shape(residuals, x, channels))
            total = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
            yield {"kind": kind, "layer": name, "bytes": total, "activations": round(total / x.nbytes, 3)}
