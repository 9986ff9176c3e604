"""The whole training step of the CIFAR networks, at a batch of 128: ours, Flax's parts, PyTorch."""

import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from bnjax.bench.timing import alternate, torch_if_installed
from bnjax.models import Norm
from bnjax.train.config import Config
from bnjax.train.step import compiler_options, create, standardization

LEARNING_RATE = 0.01
CHANNELS = (3, 32, 32, 64, 64)
WIDTHS = (4096, 512, 512, 10)


class FlaxCNN(nnx.Module):
    """`bnjax.models.CifarCNN` of Flax's own parts, as they come."""

    def __init__(self, norm: Norm, rngs: nnx.Rngs):
        bias = norm == "none"
        self.convs = nnx.List(
            [nnx.Conv(i, o, (3, 3), use_bias=bias, rngs=rngs) for i, o in itertools.pairwise(CHANNELS)]
        )
        self.norms = nnx.List(
            [nnx.BatchNorm(c, rngs=rngs) if norm == "batch" else _same for c in CHANNELS[1:]]
        )
        self.denses = nnx.List([nnx.Linear(i, o, rngs=rngs) for i, o in itertools.pairwise(WIDTHS)])

    def __call__(self, x: jax.Array) -> jax.Array:
        """The logits of standardized images."""
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = nnx.relu(norm(conv(x)))
            x = nnx.max_pool(x, (2, 2), strides=(2, 2)) if index % 2 else x
        x = x.reshape(x.shape[0], -1)
        for dense in self.denses[:-1]:
            x = nnx.relu(dense(x))
        return self.denses[-1](x)


def _same(x: jax.Array) -> jax.Array:
    return x


class Step(NamedTuple):
    """A jitted step, (state, *arrays) -> (state, loss), and what to call it with; the state is consumed."""

    function: Any
    state: Any
    arrays: tuple[jax.Array, ...]


def measure(
    repeats: int, batch_size: int = 128, norms: Sequence[Norm] = get_args(Norm)
) -> Iterator[dict[str, Any]]:
    """A row for each norm: the times of a step, taken in the same rounds, so that they can be subtracted."""
    images, labels = batch(batch_size)
    torch = torch_if_installed()
    contestants: dict[tuple[Norm, str], Callable[[], None]] = {}
    for norm in norms:
        for name, step in of_jax(norm, images, labels).items():
            contestants[norm, name] = _repeated(step)
        if torch is not None:
            contestants[norm, "torch"] = torchs(torch, norm, images, labels)
    times = alternate(contestants, repeats, f"steps, batch {batch_size}")
    for norm in norms:
        row = {"norm": norm, "batch_size": batch_size, "compiler_options": compiler_options()}
        yield row | {"times": {name: times[n, name] for n, name in times if n == norm}}


def batch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels, drawn at random."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (size, 32, 32, 3), np.uint8)
    return images, rng.integers(0, 10, size).astype(np.int32)


def of_jax(norm: Norm, images: np.ndarray, labels: np.ndarray) -> dict[str, Step]:
    """The contestants of JAX."""
    options = compiler_options()
    return {
        "bnjax": ours(norm, images, labels, options),
        "bnjax, no options": ours(norm, images, labels, {}),
        "bnjax, XLA alone": ours(norm, images, labels, options, cpu_kernels=False),
        "flax": flaxs(norm, images, labels, {}),
        "flax, our options": flaxs(norm, images, labels, options),
    }


def _repeated(step: Step) -> Callable[[], None]:
    state = step.state

    def run() -> None:
        nonlocal state
        state, loss = step.function(state, *step.arrays)
        loss.block_until_ready()

    return run


def ours(
    norm: Norm,
    images: np.ndarray,
    labels: np.ndarray,
    options: dict[str, str],
    *,
    cpu_kernels: bool | None = None,
) -> Step:
    """The step of `bnjax train`."""
    config, pixels = Config(norm=norm, learning_rate=LEARNING_RATE), standardization(images)
    state, steps = create(config, pixels, options, cpu_kernels=cpu_kernels)
    arrays = jax.device_put((images, labels, np.arange(len(images), dtype=np.int32)))
    return Step(steps.train, state, arrays)


def flaxs(norm: Norm, images: np.ndarray, labels: np.ndarray, options: dict[str, str]) -> Step:
    """The same in Flax's parts, jitted and donated as ours is."""
    model = FlaxCNN(norm, nnx.Rngs(0))
    graph = nnx.graphdef(model)
    params, stats = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    optimizer = optax.sgd(LEARNING_RATE)
    state = (params, stats, optimizer.init(params))
    pixels = standardization(images)

    def train(state: Any, images: jax.Array, labels: jax.Array) -> Any:
        params, stats, opt_state = state

        def loss(params: Any) -> Any:
            model = nnx.merge(graph, params, stats, copy=True)
            logits = model((images.astype(jnp.float32) - pixels.mean) / pixels.std)
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, labels)
            return jnp.mean(losses), nnx.state(model, nnx.BatchStat)

        (value, stats), grads = jax.value_and_grad(loss, has_aux=True)(params)
        updates, opt_state = optimizer.update(grads, opt_state, params)
        return (optax.apply_updates(params, updates), stats, opt_state), value

    compiled = jax.jit(train, donate_argnums=0, compiler_options=options)
    return Step(compiled, state, jax.device_put((images, labels)))


def torchs(torch: Any, norm: Norm, images: np.ndarray, labels: np.ndarray) -> Callable[[], None]:
    """The same in PyTorch: eager, channels last, float32."""
    nn = torch.nn
    parts: list[Any] = []
    for index, (i, o) in enumerate(itertools.pairwise(CHANNELS)):
        parts.append(nn.Conv2d(i, o, 3, padding=1, bias=norm == "none"))
        parts += [nn.BatchNorm2d(o)] if norm == "batch" else []
        parts += [nn.ReLU(), nn.MaxPool2d(2)] if index % 2 else [nn.ReLU()]
    parts.append(nn.Flatten())
    for i, o in itertools.pairwise(WIDTHS):
        parts += [nn.Linear(i, o), nn.ReLU()]
    model = nn.Sequential(*parts[:-1]).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), LEARNING_RATE)
    pixels = standardization(images)
    mean, std = (torch.from_numpy(a)[:, None, None] for a in pixels)
    x = torch.from_numpy(images).permute(0, 3, 1, 2)  # NHWC in memory: channels last
    y = torch.from_numpy(labels.astype(np.int64))

    def step() -> None:
        optimizer.zero_grad()
        nn.functional.cross_entropy(model((x.float() - mean) / std), y).backward()
        optimizer.step()

    return step
