"""What training looks like from where it is: the loss around, the inputs of layers, units that are dead.

Two explanations of batch norm are measured along the same run.  Santurkar et al. 2018 ("How does batch
normalization help optimization?", section 3): the loss and the gradient vary less along a step.  Ioffe &
Szegedy 2015: the inputs of a layer shift less from step to step.
"""

import math
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from bnjax import ops
from bnjax.data import Dataset
from bnjax.models import CIFAR_CNN_BN, CIFAR_CNN_NO_BN
from bnjax.spec import NetSpec, conv2d, conv_bn, dense
from bnjax.train import step
from bnjax.train.config import Config, select_examples

SPECS: dict[str, NetSpec] = {"batch": CIFAR_CNN_BN, "none": CIFAR_CNN_NO_BN}
LENGTHS = (0.5, 1.0, 2.0, 4.0)  # of the step looked along, in learning rates
IMAGES = 500  # of the test set, through which the layers are looked at


class Looks(NamedTuple):
    """The compiled functions of one network in training mode.

    Attributes:
      gradient: (params, batch_stats, images, labels) -> (loss, gradient), of one batch.
      layers: (params, batch_stats, images) -> a `Layer` for each that has parameters, from the image on.
    """

    gradient: Callable[..., tuple[jax.Array, nnx.State]]
    layers: Callable[..., list["Layer"]]


class Layer(NamedTuple):
    """A layer on a batch of images.

    Attributes:
      mean, std: of each channel of its inputs.
      dead: the share of its outputs' channels that are 0 on every image (and everywhere in it).
      outputs: of a layer of vectors, its outputs (N, C); None of a convolution.
    """

    mean: jax.Array
    std: jax.Array
    dead: jax.Array
    outputs: jax.Array | None


def names(spec: NetSpec) -> list[str]:
    """Those of the layers that have parameters, as ["conv 1", ..., "dense 3"]."""
    found: list[str] = []
    for layer in spec.layers:
        kind = "dense" if isinstance(layer, dense) else "conv"
        if isinstance(layer, conv2d | conv_bn | dense):
            found.append(f"{kind} {1 + sum(name.startswith(kind) for name in found)}")
    return found


def looks(config: Config, pixels: step.Standardization, options: dict[str, str] | None = None) -> Looks:
    """The functions that look at the network of `config`, which has a spec; arguments as of `step.create`."""
    model = step.network(config, options, cpu_kernels=ops.cpu.available())
    graphdef = nnx.graphdef(model)

    def outputs(params, batch_stats, images) -> list[jax.Array]:
        model = nnx.merge(graphdef, params, batch_stats, copy=True)
        model.train()
        passed = [(images.astype(jnp.float32) - pixels.mean) / pixels.std]
        for layer in model.layers:
            passed.append(layer(passed[-1]))
        return passed

    def loss(params, batch_stats, images, labels) -> jax.Array:
        logits = outputs(params, batch_stats, images)[-1]
        return jnp.mean(step.cross_entropy(logits, labels, config.label_smoothing))

    def layers(params, batch_stats, images) -> list[Layer]:
        passed = outputs(params, batch_stats, images)
        assert config.spec is not None
        found = []
        for layer, before, after in zip(config.spec.layers, passed, passed[1:], strict=False):
            if isinstance(layer, conv2d | conv_bn | dense):
                axes, zero = tuple(range(before.ndim - 1)), jnp.all(after == 0, tuple(range(after.ndim - 1)))
                vectors = after if after.ndim == 2 else None
                found.append(Layer(before.mean(axes), before.std(axes), jnp.mean(zero), vectors))
        return found

    return Looks(
        jax.jit(jax.value_and_grad(loss), compiler_options=options),
        jax.jit(layers, compiler_options=options),
    )


@jax.jit
def moved(params: nnx.State, gradient: nnx.State, length: float) -> nnx.State:
    """The parameters, `length` times the gradient further down."""
    return jax.tree.map(lambda p, g: p - length * g, params, gradient)


def along(look: Looks, state: step.TrainState, images: Any, labels: Any, rate: float) -> dict[str, Any]:
    """The loss and the gradient at steps of `LENGTHS` learning rates along the gradient of this batch.

    Returns:
      loss: here. losses: there. gradient: its norm here. changes: the norm of its difference, there.
    """
    here = (state.batch_stats, images, labels)
    loss, gradient = look.gradient(state.params, *here)
    losses, changes = [], []
    for length in LENGTHS:
        there, other = look.gradient(moved(state.params, gradient, length * rate), *here)
        losses.append(_number(there))
        changes.append(_number(_distance(gradient, other)))
    norm = _number(optax.tree.norm(gradient))
    return {"loss": _number(loss), "losses": losses, "gradient": norm, "changes": changes}


@jax.jit
def _distance(one: nnx.State, other: nnx.State) -> jax.Array:
    return optax.tree.norm(jax.tree.map(jnp.subtract, one, other))


def shift(before: Layer, after: Layer) -> float | None:
    """How far a layer's inputs have moved: ‖μ' − μ‖/‖σ‖ over their channels; None where all are constant."""
    spread = float(jnp.linalg.norm(before.std))
    return _number(jnp.linalg.norm(after.mean - before.mean) / spread) if spread else None


def standing(layers: list[Layer]) -> dict[str, Any]:
    """What has become of the network's units and of its answer.

    Returns:
      dead: of each hidden layer, the share of units (of a convolution, channels) that are 0 on every image.
      spread: the root mean square over classes of a logit's standard deviation over the images.
      confidence: the mean over the images of the probability of the class it says.
    """
    logits = layers[-1].outputs
    assert logits is not None
    return {
        "dead": [float(layer.dead) for layer in layers[:-1]],
        "spread": _number(jnp.sqrt(jnp.mean(jnp.var(logits, 0)))),
        "confidence": _number(jnp.mean(jnp.max(jax.nn.softmax(logits), -1))),
    }


def kernel_gradients(gradient: nnx.State) -> list[float]:
    """The norm of the loss's gradient in each layer's kernel, from the image on."""
    leaves = [leaf for leaf in jax.tree.leaves(gradient) if leaf.ndim > 1]
    return [float(jnp.linalg.norm(leaf.ravel())) for leaf in leaves]


def watch(
    config: Config, data: Dataset, at: Collection[int], options: dict[str, str] | None = None
) -> dict[str, Any]:
    """Train the first epoch of `config`, looking around before and after the steps `at`, counted from 0.

    The network is that of `config.spec`, whose last layer is dense.  Ends at a loss that is not finite.

    Returns:
      What a JSON file takes: `layers`, their names; `kernel_gradients` at initialization, of the first batch;
      `points`, of each its `step`, what `along` and `standing` say there, and `shifts`, of the inputs of each
      layer but the first by the step that follows; `losses` of all steps.
    """
    assert config.spec is not None
    data = select_examples(data, config)
    pixels = step.standardization(data.train_images)
    look = looks(config, pixels, options)
    total = len(data.train_images) // config.batch_size
    state, steps = step.create(config, pixels, options, total_steps=total)
    images, labels, seen = jax.device_put((data.train_images, data.train_labels, data.test_images[:IMAGES]))
    points: list[dict[str, Any]] = []
    losses: list[float | None] = []
    batches = step.epoch_indices(config.seed, 1, len(images), config.batch_size)
    _, begins = look.gradient(state.params, state.batch_stats, images[batches[0]], labels[batches[0]])
    begin = kernel_gradients(begins)
    for number, batch in enumerate(batches):
        if number in at:
            point = along(look, state, images[batch], labels[batch], config.learning_rate)
            before = look.layers(state.params, state.batch_stats, seen)
        state, loss = steps.train(state, images, labels, batch, number)
        losses.append(_number(loss))
        if losses[-1] is None:
            break
        if number in at:
            after = look.layers(state.params, state.batch_stats, seen)
            shifts = [shift(*pair) for pair in zip(before[1:], after[1:], strict=True)]
            points.append({"step": number, **point, **standing(before), "shifts": shifts})
    return {"layers": names(config.spec), "kernel_gradients": begin, "losses": losses, "points": points}


def _number(value: Any) -> float | None:
    """As JSON takes it: None where it is not finite."""
    number = float(value)
    return number if math.isfinite(number) else None
