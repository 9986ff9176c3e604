"""Batch norm alone: training forward and backward, with ReLU, and the evaluation forward."""

from collections.abc import Callable, Iterator
from typing import Any

import flax.linen
import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import bnjax.nn.linen
import bnjax.nn.nnx
from bnjax.bench.timing import alternate, finished, torch_if_installed
from bnjax.ops.cpu import available
from bnjax.theorems.batch_norm import batch_norm_primal

SHAPES = ((128, 32, 32, 32), (128, 16, 16, 64), (32, 56, 56, 64), (32, 14, 14, 256), (4096, 512))
KINDS = ("train", "train, relu", "evaluate")
DTYPES = ("float32", "bfloat16")
# passes over an activation-sized array, larger than a cache, that no order of the work avoids: to take
# statistics x is read before it is normalized, and read again, as is dy, on the way back
PASSES = {"train": 8, "train, relu": 8, "evaluate": 2}

Layer = Callable[..., tuple[jax.Array, Any]]  # (x, scale, bias) -> y, running statistics


def of_nnx(cls: type[nnx.BatchNorm], channels: int, dtype: str, train: bool) -> Layer:
    """An NNX layer as a function."""
    layer = cls(channels, dtype=jnp.dtype(dtype), use_running_average=not train, rngs=nnx.Rngs(0))
    graph, state = nnx.split(layer)

    def apply(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, Any]:
        merged = nnx.merge(graph, state, copy=True)
        assert merged.scale is not None
        assert merged.bias is not None
        merged.scale[...], merged.bias[...] = scale, bias
        y = merged(x)
        return y, nnx.state(merged, nnx.BatchStat)

    return apply


def of_linen(cls: type[flax.linen.BatchNorm], channels: int, dtype: str, train: bool) -> Layer:
    """A Linen layer as a function."""
    layer = cls(dtype=jnp.dtype(dtype), use_running_average=not train)
    stats = {"mean": jnp.zeros(channels), "var": jnp.ones(channels)}

    def apply(x: jax.Array, scale: jax.Array, bias: jax.Array) -> tuple[jax.Array, Any]:
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": stats}
        y, updates = layer.apply(variables, x, mutable=["batch_stats"])
        return y, updates

    return apply


def layers(kind: str, dtype: str, shape: tuple[int, ...]) -> dict[str, Layer]:
    """The contestants of JAX."""
    train, relu = kind != "evaluate", kind == "train, relu"
    axes, channels = tuple(range(len(shape) - 1)), shape[-1]

    def then_relu(layer: Layer) -> Layer:
        def apply(*args: jax.Array) -> tuple[jax.Array, Any]:
            y, stats = layer(*args)
            return nnx.relu(y), stats

        return apply if relu else layer

    ours = bnjax.nn.nnx.BatchNormRelu if relu else bnjax.nn.nnx.BatchNorm
    by_kernels = type("ByKernels", (ours,), {"cpu_kernels": available()})
    found = {
        "bnjax nnx": of_nnx(by_kernels, channels, dtype, train),
        "bnjax nnx, XLA alone": of_nnx(ours, channels, dtype, train),
        "bnjax linen": then_relu(of_linen(bnjax.nn.linen.BatchNorm, channels, dtype, train)),
        "flax nnx": then_relu(of_nnx(nnx.BatchNorm, channels, dtype, train)),
        "flax linen": then_relu(of_linen(flax.linen.BatchNorm, channels, dtype, train)),
    }
    if train:
        found["autodiff"] = then_relu(lambda *args: (batch_norm_primal(*args, axis=axes), ()))
    return found


def measure(repeats: int, shapes: tuple[tuple[int, ...], ...] = SHAPES) -> Iterator[dict[str, Any]]:
    """A row for each kind, dtype and shape: the times, and that of one pass that reads and writes x."""
    for kind in KINDS:
        for dtype in DTYPES:
            for shape in shapes:
                times = alternate(_contestants(kind, dtype, shape), repeats, f"{kind}, {dtype}, {shape}")
                row = {"kind": kind, "dtype": dtype, "shape": list(shape), "passes": PASSES[kind]}
                yield row | {"times": times}


def _contestants(kind: str, dtype: str, shape: tuple[int, ...]) -> dict[str, Callable[[], Any]]:
    rng = np.random.default_rng(0)
    x, dy = (jnp.asarray(rng.normal(size=shape), dtype) for _ in range(2))
    scale, bias = jnp.ones(shape[-1]), jnp.zeros(shape[-1])
    found: dict[str, Callable[[], Any]] = {"copy": finished(jax.jit(jnp.negative), x)}
    for name, layer in layers(kind, dtype, shape).items():
        if kind == "evaluate":
            found[name] = finished(jax.jit(layer), x, scale, bias)
        else:
            found[name] = finished(jax.jit(_forward_and_backward(layer)), x, scale, bias, dy)
    torch = torch_if_installed()
    if torch is not None:
        found["torch"] = _torch(torch, kind, dtype, np.asarray(x, np.float32), np.asarray(dy, np.float32))
    return found


def _forward_and_backward(layer: Layer) -> Callable[..., Any]:
    def run(x: jax.Array, scale: jax.Array, bias: jax.Array, dy: jax.Array) -> Any:
        y, vjp, stats = jax.vjp(layer, x, scale, bias, has_aux=True)
        return y, stats, vjp(dy)

    return run


def _torch(torch: Any, kind: str, dtype: str, x: np.ndarray, dy: np.ndarray) -> Callable[[], Any]:
    """PyTorch's layer, eager, channels last."""
    images = x.ndim == 4

    def tensor(a: np.ndarray) -> Any:
        moved = torch.tensor(a, dtype=getattr(torch, dtype))
        return moved.permute(0, 3, 1, 2) if images else moved  # NHWC in memory: channels last

    layer = (torch.nn.BatchNorm2d if images else torch.nn.BatchNorm1d)(x.shape[-1])
    moved, cotangent = tensor(x), tensor(dy)

    def evaluate() -> None:
        with torch.no_grad():
            layer(moved)

    def train() -> None:
        moved.grad = None
        y = layer(moved)
        (torch.relu(y) if kind == "train, relu" else y).backward(cotangent)

    if kind == "evaluate":
        layer.eval()
        return evaluate
    moved.requires_grad_()
    return train
