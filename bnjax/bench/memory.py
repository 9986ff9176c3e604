"""What a layer keeps between its forward and its backward pass."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from bnjax.bench.layers import layers

SHAPE = (128, 32, 32, 32)


def measure(shape: tuple[int, ...] = SHAPE) -> Iterator[dict[str, Any]]:
    """A row for each layer and kind: the bytes kept, in units of one activation."""
    for kind in ("train", "train, relu"):
        for name, layer in layers(kind, shape[-1], tuple(range(len(shape) - 1))).items():
            x, channels = jnp.ones(shape), jnp.ones(shape[-1])

            def kept(x: jax.Array, channels: jax.Array, layer: Any = layer) -> Any:
                return jax.vjp(layer, x, channels, channels, has_aux=True)[1]

            leaves = jax.tree.leaves(jax.eval_shape(kept, x, channels))
            total = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
            yield {"kind": kind, "layer": name, "bytes": total, "activations": round(total / x.nbytes, 3)}
