"""What stands between the benchmark and its marks: the parts of a step that XLA on CPU decides.

Times each convolution of the CIFAR networks at batch 128, forward and both gradients, by XLA's default
(YNNPACK), by XLA's own (Eigen, the option of `bnjax train`) and by PyTorch; ways to a weight gradient that
were tried; and batch norm's reductions, with ways to two sums in one pass.  Writes
results/bench_limits.json.  `python experiments/bench_limits.py --repeats 15`
"""

import argparse
import functools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from bnjax import ops
from bnjax.bench import report
from bnjax.bench.timing import alternate, finished, torch_if_installed
from bnjax.ops.conv import conv_primal
from bnjax.train.allocator import keep_freed_memory
from bnjax.train.step import compiler_options

RESULTS = Path(__file__).resolve().parent.parent / "results" / "bench_limits.json"
BATCH = 128
CONVOLUTIONS = ((32, 3, 32), (32, 32, 32), (16, 32, 64), (16, 64, 64))  # image size, channels in and out
ALL_AXES = (0, 1, 2)

Contestants = dict[str, Callable[[], Any]]


def main() -> None:
    """Measure, print each row, write them all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    kept = keep_freed_memory()
    rows = []
    for row in measure(repeats):
        rows.append(row)
        told = ", ".join(f"{name} {t['median_ms']:.2f}" for name, t in row["times"].items())
        print(f"{row['kind']} {row['shape']}, ms: {told}", flush=True)
    report.write(RESULTS, rows, repeats, memory_kept=kept)
    print(f"written: {RESULTS}")


def measure(repeats: int) -> Iterator[dict[str, Any]]:
    """A row for each convolution, and one for the reductions."""
    rng = np.random.default_rng(0)
    for size, c, o in CONVOLUTIONS:
        x, kernel, dy = (
            rng.normal(size=s).astype(np.float32)
            for s in ((BATCH, size, size, c), (3, 3, c, o), (BATCH, size, size, o))
        )
        times = alternate(convolutions(x, kernel, dy), repeats)
        yield {"kind": "convolution", "shape": [BATCH, size, size, c, o], "times": times}
        times = alternate(weight_gradients(x, dy), repeats)
        yield {"kind": "weight gradient", "shape": [BATCH, size, size, c, o], "times": times}
    shape = (BATCH, 32, 32, 32)
    x, dy = (rng.normal(size=shape).astype(np.float32) for _ in range(2))
    yield {"kind": "reductions", "shape": list(shape), "times": alternate(reductions(x, dy), repeats)}


def jitted(
    function: Callable[..., Any], *args: Any, options: dict[str, str] | None = None
) -> Callable[[], Any]:
    """A call of `function`, compiled, on `args`, that waits for the result."""
    return finished(jax.jit(function, compiler_options=options), *jax.device_put(args))


def convolutions(x: np.ndarray, kernel: np.ndarray, dy: np.ndarray) -> Contestants:
    """Forward, the gradient of the images and that of the kernel; PyTorch's as they come, together."""

    def dx(kernel: jax.Array, dy: jax.Array) -> Any:
        return jax.linear_transpose(lambda x: conv_primal(x, kernel), x)(dy)

    def dk(x: jax.Array, dy: jax.Array) -> Any:
        return jax.linear_transpose(lambda kernel: conv_primal(x, kernel), kernel)(dy)

    found: Contestants = {}
    for name, options in (("YNNPACK", None), ("Eigen", compiler_options())):
        found[f"y {name}"] = jitted(conv_primal, x, kernel, options=options)
        found[f"dx {name}"] = jitted(dx, kernel, dy, options=options)
        found[f"dk {name}"] = jitted(dk, x, dy, options=options)
    torch = torch_if_installed()
    if torch is not None:
        images, cotangent = (torch.from_numpy(a).permute(0, 3, 1, 2) for a in (x, dy))
        weight = torch.from_numpy(kernel).permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last)
        weight.requires_grad_()
        images.requires_grad_(x.shape[-1] > 3)  # the step asks for no gradient of its pixels

        def step() -> None:
            weight.grad = images.grad = None
            torch.nn.functional.conv2d(images, weight, padding=1).backward(cotangent)

        found["y, dx, dk PyTorch"] = step
    return found


def weight_gradients(x: np.ndarray, dy: np.ndarray) -> Contestants:
    """Ways to dk: the rule's products, nine products of whole arrays, and one over patches."""
    options = compiler_options()
    kernel = np.zeros((3, 3, x.shape[-1], dy.shape[-1]), np.float32)

    def rule(x: jax.Array, dy: jax.Array) -> Any:
        return jax.vjp(lambda kernel: ops.conv(x, kernel), kernel)[1](dy)

    def nine(x: jax.Array, dy: jax.Array) -> jax.Array:
        c, o = x.shape[-1], dy.shape[-1]
        rows = [shifted(x, 1, i - 1).transpose(3, 0, 1, 2).reshape(c, -1) for i in range(3)]
        columns = [shifted(dy, 2, 1 - j).reshape(-1, o) for j in range(3)]
        return jnp.stack([jnp.stack([row @ column for column in columns]) for row in rows])

    def patches(x: jax.Array, dy: jax.Array) -> jax.Array:
        shifts = [shifted(shifted(x, 1, i - 1), 2, j - 1) for i in range(3) for j in range(3)]
        rows = jnp.concatenate([s.transpose(3, 0, 1, 2) for s in shifts]).reshape(
            kernel.size // dy.shape[-1], -1
        )
        return (rows @ dy.reshape(-1, dy.shape[-1])).reshape(kernel.shape)

    ways = {"products by blocks": rule, "nine products": nine, "patches": patches}
    images = jnp.asarray(x)
    expected = jax.linear_transpose(lambda kernel: conv_primal(images, kernel), kernel)(dy)[0]
    found: Contestants = {}
    for name, way in ways.items():
        got = jax.tree.leaves(jax.jit(way)(x, dy))[0]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-4 * float(jnp.max(abs(expected))))
        found[f"{name}, default"] = jitted(way, x, dy)
        found[f"{name}, option"] = jitted(way, x, dy, options=options)
    return found


def shifted(a: jax.Array, axis: int, by: int) -> jax.Array:
    """out[i] = a[i + by] along `axis`, zeros beyond the edges."""
    widths = [(0, 0, 0)] * a.ndim
    widths[axis] = (-by, by, 0)
    return lax.pad(a, jnp.zeros((), a.dtype), widths)


def reductions(x: np.ndarray, dy: np.ndarray) -> Contestants:
    """What batch norm sums over a batch, one at a time, and two at once in the ways that were tried."""
    mean = np.full(x.shape[-1], 0.25, np.float32)

    def total(a: jax.Array) -> jax.Array:
        return jnp.sum(a, ALL_AXES)

    def both(x: jax.Array) -> Any:
        return total(x), total(x * x)

    def variadic(x: jax.Array) -> Any:
        zero = np.float32(0)
        return lax.reduce((x, x * x), (zero, zero), lambda a, b: (a[0] + b[0], a[1] + b[1]), ALL_AXES)

    def blocks(x: jax.Array) -> Any:
        sums = jnp.zeros(x.shape[-1]), jnp.zeros(x.shape[-1])
        return lax.scan(
            lambda s, b: (jax.tree.map(jnp.add, s, both(b)), None), sums, x.reshape(-1, 2, *x.shape[1:])
        )[0]

    def slices(x: jax.Array) -> Any:
        parts = x.reshape(16, -1, x.shape[-1])
        squares = [part * part for part in parts]
        return functools.reduce(jnp.add, parts).sum(0), functools.reduce(jnp.add, squares).sum(0)

    def products(x: jax.Array) -> Any:
        rows = x.reshape(-1, x.shape[-1])
        ones = jnp.ones(rows.shape[0])
        return ones @ rows, ones @ (rows * rows)

    ways: dict[str, Callable[..., Any]] = {
        "copy": lambda x, dy: -x,
        "Σ x": lambda x, dy: total(x),
        "Σ x²": lambda x, dy: total(x * x),
        "Σ (x − μ)²": lambda x, dy: total((x - mean) ** 2),
        "Σ dy·(x − μ)": lambda x, dy: total(dy * (x - mean)),
        "Σ x, Σ x²": lambda x, dy: both(x),
        "Σ x, Σ x², one reduction": lambda x, dy: variadic(x),
        "Σ x, Σ x², blocks of 2 images": lambda x, dy: blocks(x),
        "Σ x, Σ x², 16 slices": lambda x, dy: slices(x),
        "Σ x, Σ x², products": lambda x, dy: products(x),
    }
    for name, way in ways.items():
        if name.startswith("Σ x, Σ x²"):
            for got, want in zip(jax.jit(way)(x, dy), both(jnp.asarray(x)), strict=True):
                np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * x.size)
    return {name: jitted(way, x, dy) for name, way in ways.items()}


if __name__ == "__main__":
    main()
