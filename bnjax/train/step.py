"""Training and evaluating a network: optax SGD, softmax cross-entropy, one jitted step.

Everything here is a function of arrays; files, logs and the terminal are `bnjax.train.run`'s.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx

from bnjax import ops
from bnjax.models import CifarCNN
from bnjax.nn.nnx import BatchNorm
from bnjax.train.augment import flip_crop
from bnjax.train.config import Config
from bnjax.train.devices import Placement
from bnjax.train.outcome import Evaluation

_CPU_OPTIONS = {"xla_cpu_experimental_ynn_fusion_type": "LIBRARY_FUSION_TYPE_DOT,LIBRARY_FUSION_TYPE_REDUCE"}


class TrainState(NamedTuple):
    """What a step changes: parameters, running statistics and the optimizer's buffers."""

    params: nnx.State
    batch_stats: nnx.State
    opt_state: optax.OptState


class Standardization(NamedTuple):
    """The train set's mean and standard deviation a colour channel, in units of a pixel value (0–255)."""

    mean: np.ndarray
    std: np.ndarray


class Steps(NamedTuple):
    """The compiled functions of one network.

    train: (state, images, labels, indices (batch,), number) -> (state, loss); the state given is consumed.
      The augmentation is drawn by the step's number within the run, 0 if not given.
    train_scanned: the same over indices (steps, batch), one loss a step, as one compiled loop; the number
      is that of its first step.
    evaluate: (state, images, labels) -> what the network says of them, a `Tally`.
    """

    train: Callable[..., tuple[TrainState, jax.Array]]
    train_scanned: Callable[..., tuple[TrainState, jax.Array]]
    evaluate: Callable[..., "Tally"]


class Tally(NamedTuple):
    """A batch evaluated: right ones, images given each class, images with a logit not finite, summed loss."""

    correct: jax.Array
    predicted: jax.Array
    not_finite: jax.Array
    loss: jax.Array


def standardization(images: np.ndarray) -> Standardization:
    """Per-channel mean and standard deviation of uint8 images (N, H, W, C), from their histograms.

    A channel of one constant value gets standard deviation 1, so that it becomes 0, not NaN.
    """
    values = np.arange(256)
    means, stds = [], []
    for channel in np.moveaxis(images, -1, 0):
        share = np.bincount(channel.ravel(), minlength=256) / channel.size
        means.append(share @ values)
        stds.append(np.sqrt(share @ (values - means[-1]) ** 2) or 1.0)
    return Standardization(np.array(means, np.float32), np.array(stds, np.float32))


def compiler_options() -> dict[str, str]:
    """The options of XLA with which a step was measured to be faster on this backend; {} where none was.

    On CPU, XLA's own convolutions for YNNPACK's, whose weight gradients take several times as long.  An
    XLA that does not know the option goes without.
    """
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=_CPU_OPTIONS)(0.0)
    except jax.errors.JaxRuntimeError:
        return {}
    return _CPU_OPTIONS


def network(
    config: Config, options: dict[str, str] | None = None, *, cpu_kernels: bool = False
) -> CifarCNN | nnx.Sequential:
    """The config's network as it begins, its weights drawn from the seed; arguments as of `create`."""
    conv = ops.cpu.conv if cpu_kernels else ops.conv
    convolve = functools.partial(conv, weight_gradient="convolution" if options else "products")
    rngs = nnx.Rngs(config.seed)
    if config.spec is None:
        return CifarCNN(config.norm, config.init, convolve=convolve, cpu_kernels=cpu_kernels, rngs=rngs)
    model = config.spec.build(config.init, convolve=convolve, rngs=rngs)
    for _, layer in nnx.iter_modules(model):
        if isinstance(layer, BatchNorm):
            layer.cpu_kernels = cpu_kernels
    return model


def learning_rate(config: Config, total_steps: int | None) -> optax.Schedule:
    """The learning rate as a function of the steps done, of so many in the whole run.

    Without `total_steps` there is no schedule but the constant one: ValueError where another is asked.
    """
    if config.schedule == "constant":
        return optax.constant_schedule(config.learning_rate)
    if total_steps is None:
        return _no_schedule
    if config.schedule == "one-cycle":  # from 1/25 of the rate
        return optax.cosine_onecycle_schedule(total_steps, config.learning_rate)
    return optax.cosine_decay_schedule(config.learning_rate, total_steps)


def _no_schedule(count: jax.Array) -> jax.Array:
    raise ValueError("a schedule needs total_steps, the steps of the whole run")


def optimizer(config: Config, total_steps: int | None) -> optax.GradientTransformation:
    """SGD: kernels decay; biases, γ and β, which are vectors, do not.  Momentum 0 keeps no buffer."""
    constant = config.schedule == "constant"
    rate = config.learning_rate if constant else learning_rate(config, total_steps)
    sgd = optax.sgd(rate, momentum=config.momentum or None)
    if not config.weight_decay:
        return sgd
    decay = optax.add_decayed_weights(
        config.weight_decay, mask=lambda params: jax.tree.map(lambda leaf: leaf.ndim > 1, params)
    )
    return optax.chain(decay, sgd)


def cross_entropy(logits: jax.Array, labels: jax.Array, smoothing: float) -> jax.Array:
    """Softmax cross-entropy of a batch; of each label a share `smoothing` is spread over all classes."""
    if not smoothing:
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels)
    targets = optax.smooth_labels(jax.nn.one_hot(labels, logits.shape[-1]), smoothing)
    return optax.softmax_cross_entropy(logits, targets)


def create(
    config: Config,
    pixels: Standardization,
    options: dict[str, str] | None = None,
    *,
    total_steps: int | None = None,
    place: Placement | None = None,
    cpu_kernels: bool | None = None,
) -> tuple[TrainState, Steps]:
    """A network initialized from the config's seed, and the functions that train and evaluate it.

    Args:
      config: its network and its optimizer are made.
      pixels: what images are standardized by, inside the compiled functions.
      options: XLA's, to compile with, as `compiler_options` returns them.  With these a convolution's
        weight gradient is XLA's convolution, without them products.
      total_steps: of the whole run; training by a schedule needs it.
      place: the devices, where they are several.  Each computes its part of a batch; the statistics, the loss
        and the gradient are those of the whole batch, by sums in another order.
      cpu_kernels: whether the kernels of `bnjax.ops.cpu` run where they apply; if None, on one device
        where they are `available`.
    """
    if cpu_kernels is None:
        cpu_kernels = place is None and ops.cpu.available()
    model = network(config, options, cpu_kernels=cpu_kernels)
    graphdef = nnx.graphdef(model)
    params, batch_stats = nnx.state(model, nnx.Param), nnx.state(model, nnx.BatchStat)
    descent = optimizer(config, total_steps)

    def logits(params, batch_stats, images, *, train: bool):
        model = nnx.merge(graphdef, params, batch_stats, copy=True)
        model.train() if train else model.eval()
        outputs = model((images.astype(jnp.float32) - pixels.mean) / pixels.std)
        return outputs, nnx.state(model, nnx.BatchStat)

    def train(state: TrainState, images, labels, indices, number=0):
        batch, targets = _split(images[indices], place), labels[indices]
        if config.augment == "flip-crop":
            batch = flip_crop(_augmentation_key(config.seed, number), batch)

        def loss(params):
            outputs, batch_stats = logits(params, state.batch_stats, batch, train=True)
            losses = cross_entropy(outputs, targets, config.label_smoothing)
            return jnp.mean(losses), batch_stats

        (value, batch_stats), grads = jax.value_and_grad(loss, has_aux=True)(state.params)
        updates, opt_state = descent.update(grads, state.opt_state, state.params)
        params = optax.apply_updates(state.params, updates)
        return TrainState(params, batch_stats, opt_state), value

    def train_scanned(state: TrainState, images, labels, indices, number=0):
        numbers = number + jnp.arange(len(indices))
        return jax.lax.scan(lambda s, x: train(s, images, labels, *x), state, (indices, numbers))

    def evaluate(state: TrainState, images, labels):
        outputs, _ = logits(state.params, state.batch_stats, _split(images, place), train=False)
        classes = jnp.argmax(outputs, -1)
        losses = optax.softmax_cross_entropy_with_integer_labels(outputs, labels)
        return Tally(
            jnp.sum(classes == labels),
            jnp.bincount(classes, length=outputs.shape[-1]),
            jnp.sum(~jnp.all(jnp.isfinite(outputs), -1)),
            jnp.sum(losses),
        )

    whole: dict[str, Any] = {"compiler_options": options} | ({"out_shardings": place.whole} if place else {})
    steps = Steps(
        jax.jit(train, donate_argnums=0, **whole),
        jax.jit(train_scanned, donate_argnums=0, **whole),
        jax.jit(evaluate, **whole),
    )
    return TrainState(params, batch_stats, descent.init(params)), steps


def _split(images: jax.Array, place: Placement | None) -> jax.Array:
    """The images over the devices, if there are several and each gets as many."""
    if place is None or len(images) % place.number:
        return images
    return jax.lax.with_sharding_constraint(images, place.split)


def _augmentation_key(seed: int, number: int | jax.Array) -> jax.Array:
    """A step's, from a stream that no kernel is drawn from."""
    return jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), 2**32 - 1), number)


def epoch_indices(seed: int, epoch: int, examples: int, batch_size: int) -> np.ndarray:
    """The batches of an epoch: a permutation drawn from (seed, epoch), (steps, batch_size) int32.

    The examples that do not fill a batch are left out; another epoch leaves out others.
    """
    order = np.random.default_rng([seed, epoch]).permutation(examples)
    steps = examples // batch_size
    return order[: steps * batch_size].reshape(steps, batch_size).astype(np.int32)


def train_epoch(
    steps: Steps,
    state: TrainState,
    images: jax.Array | np.ndarray,
    labels: jax.Array | np.ndarray,
    indices: np.ndarray,
    *,
    first: int = 0,
    scan: bool,
    report: Callable[[int, float], None],
) -> tuple[TrainState, np.ndarray]:
    """Train on the batches `indices`, up to the first loss that is not finite.

    Args:
      steps, state: as `create` returns them; the state is consumed.
      images, labels: the training set, on the device.
      indices: (steps, batch_size), as `epoch_indices` returns them.
      first: how many steps the run has done before.
      scan: compile the epoch into one loop: best on GPU and TPU, which are faster than Python can feed
        them.  On CPU a convolution inside `lax.scan` is up to 26 times slower than outside.
      report: called with how many steps were done since the last call, and the newest loss.

    Returns:
      The new state, and the losses of the steps done.
    """
    if scan:
        state, scanned = steps.train_scanned(state, images, labels, indices, first)
        losses = np.asarray(scanned)
        report(len(losses), float(losses[-1]))
        return state, losses
    losses = np.empty(len(indices), np.float32)
    for step, batch in enumerate(indices):
        state, loss = steps.train(state, images, labels, batch, first + step)
        losses[step] = value = float(loss)
        report(1, value)
        if not np.isfinite(losses[step]):
            return state, losses[: step + 1]
    return state, losses


def evaluate(
    steps: Steps,
    state: TrainState,
    images: jax.Array | np.ndarray,
    labels: jax.Array | np.ndarray,
    batch_size: int = 500,
) -> Evaluation:
    """The network on all the images, by sums over batches."""
    count = len(images)
    starts = range(0, count, batch_size)
    batches = [slice(start, start + batch_size) for start in starts]
    tallies = [steps.evaluate(state, images[batch], labels[batch]) for batch in batches]
    total = jax.tree.map(lambda *parts: np.sum(parts, axis=0, dtype=np.float64), *tallies)
    return Evaluation(
        correct=int(total.correct),
        images=count,
        predicted=tuple(int(number) for number in total.predicted),
        chance=int(np.bincount(np.asarray(labels)).max()),
        not_finite=int(total.not_finite),
        loss=float(total.loss / count),
    )
