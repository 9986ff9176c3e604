"""A run over several devices: each takes a part of every batch, and its share of the training images.

They are devices of this process, or of several (`bnjax.train.processes`), as many of each.  All else,
parameters and test images, is on all of them.  A batch is drawn from the whole training set, as on one
device: each device hands out the images that it has, and computes its part.

What is planned beyond: each process decodes the whole data set before it copies its share, which is fine for
the 184 MB of CIFAR-10; a larger set needs a reader of its share alone.  Parameters and optimizer are whole
on every device, so they must fit on one.  A lost process ends the run, which goes on by `--resume`; to go on
with those that are left, JAX's recovery is experimental.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bnjax.data import Dataset
from bnjax.errors import ArgumentError, UserError


class Placement(NamedTuple):
    """Where arrays lie when there are several devices.

    Attributes:
      whole: all of it on every device, as parameters.
      split: its first axis over the devices, as a batch.
      number: how many devices, of all processes together.
    """

    whole: NamedSharding
    split: NamedSharding
    number: int


def placement(batch_size: int, devices: int | None = None) -> Placement | None:
    """The first so many devices of each process; None where it is one, for which nothing need be placed.

    By default that is one on CPU, and elsewhere as many as there are of which each gets the same share.

    Raises:
      ArgumentError: there are not so many, or the batch has not as many equal parts.
      UserError: the processes have not as many devices each.
    """
    available, processes = jax.local_devices(), jax.process_count()
    if jax.device_count() != processes * len(available):
        raise UserError(f"process {jax.process_index()} has not as many devices as the others")
    if batch_size % processes:
        raise ArgumentError("processes", f"must divide the batch of {batch_size}, got {processes}")
    if devices is None:
        devices = usual(batch_size // processes, available)
    if not 1 <= devices <= len(available):
        there = f"from 1 to the {len(available)} that JAX finds"
        hint = f" (JAX_NUM_CPU_DEVICES={devices} makes so many)" if available[0].platform == "cpu" else ""
        raise ArgumentError("devices", f"must be {there}, got {devices}{hint if devices > 1 else ''}")
    if batch_size // processes % devices:
        part = (
            f"batch of {batch_size}" if processes == 1 else f"{batch_size // processes} images of a process"
        )
        raise ArgumentError("devices", f"must divide the {part}, got {devices}")
    number = devices * processes
    if number == 1:
        return None
    chosen = [device for process in range(processes) for device in jax.local_devices(process)[:devices]]
    mesh = Mesh(np.array(chosen), ("batch",))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("batch",)))
    return Placement(whole, split, number)


def usual(batch_size: int, available: Sequence[jax.Device]) -> int:
    """How many devices share a batch if nobody says: of CPUs one, else as many as divide it."""
    limit = 1 if available[0].platform == "cpu" else len(available)
    return max(number for number in range(1, limit + 1) if batch_size % number == 0)


def spread(data: Dataset, place: Placement | None) -> Dataset:
    """The data on the devices: of the training images each has its share, where they have equal ones."""
    if place is None:
        return jax.device_put(data)
    equal = len(data.train_images) % place.number == 0
    images = put(data.train_images, place.split if equal else place.whole)
    return Dataset(images, *put(data[1:], place.whole))


def put(tree: Any, sharding: NamedSharding) -> Any:
    """Arrays that every process has, on the devices of all; each copies only what its own are to have."""

    def placed(array):
        return jax.make_array_from_callback(array.shape, sharding, np.asarray(array).__getitem__)

    return jax.tree.map(placed, tree)
