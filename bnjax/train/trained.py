"""What a run has trained: its network for use, and how that does on a test set."""

import warnings
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from bnjax.data import Dataset, check
from bnjax.errors import UserError
from bnjax.models import CifarCNN
from bnjax.train import checkpoints, step
from bnjax.train.directory import CHECKPOINTS, Record
from bnjax.train.run import evaluated


class TrainedNetwork(nnx.Module):
    """A run's network together with the pixel mean and standard deviation it was trained with.

    Attributes:
      network: the `CifarCNN`, or what the run's spec builds, in evaluation mode.
      mean, std: a colour channel's, in units of a pixel value (0–255).
    """

    def __init__(self, network: CifarCNN | nnx.Sequential, pixels: step.Standardization):
        self.network = network
        self.mean = tuple(pixels.mean.tolist())
        self.std = tuple(pixels.std.tolist())

    def __call__(self, images: jax.Array) -> jax.Array:
        """The logits (N, 10) of images (N, 32, 32, 3).

        uint8 images are pixels, and are standardized here; floating-point ones are taken as standardized.
        """
        if images.dtype == jnp.uint8:
            images = (images.astype(jnp.float32) - jnp.array(self.mean)) / jnp.array(self.std)
        return self.network(images)


class Newest(NamedTuple):
    """A run's newest whole checkpoint, and what is wrong with newer ones."""

    record: Record
    epoch: int
    state: step.TrainState
    notes: list[str]


def newest(run: Path) -> Newest:
    """What the run directory `run` holds; nothing there is changed.

    Raises:
      UserError: it is no run directory, or has no checkpoint that is whole.
    """
    record = Record.read(run)
    begin, _ = step.create(record.config, record.pixels)
    notes: list[str] = []
    for epoch in checkpoints.epochs(run / CHECKPOINTS):
        try:
            return Newest(record, epoch, checkpoints.restore(run / CHECKPOINTS, epoch, begin), notes)
        except UserError as error:
            notes.append(str(error))
    raise UserError("; ".join(notes) or f"{run} holds no checkpoint")


def load(run: str | Path) -> TrainedNetwork:
    """The network of a run directory after its newest epoch, in evaluation mode.

    `network(images)` are its logits (N, 10): of uint8 images (N, 32, 32, 3) as they are, of floating-point
    ones taken as standardized.

    Args:
      run: a folder that `bnjax train` made, or `batch/` and `none/` in one of `bnjax lift`.

    Raises:
      UserError: it is no run directory, or has no checkpoint that is whole.  That a newer one is damaged is
        a warning.

    Example:
      >>> import bnjax
      >>> bnjax.train.load("runs/not-there")
      Traceback (most recent call last):
      bnjax.errors.UserError: runs/not-there is not a run directory: config.json: No such file or directory
    """
    record, _, state, notes = newest(Path(run))
    for note in notes:
        warnings.warn(note, stacklevel=2)
    network = step.network(record.config)
    nnx.update(network, state.params, state.batch_stats)
    network.eval()
    return TrainedNetwork(network, record.pixels)


def evaluate(found: Newest, data: Dataset, options: dict[str, str] | None = None) -> dict[str, Any]:
    """The run's network on the test images of `data`, as metrics.

    Where the data are the run's, these are the metrics of that epoch.  `options` are XLA's, to compile with.
    """
    check(data)
    record, epoch, state, _ = found
    _, steps = step.create(record.config, record.pixels, options)
    images, labels = jax.device_put((data.test_images, data.test_labels))
    test = step.evaluate(steps, state, images, labels)
    return {"epoch": epoch, **evaluated(test, len(images))}
