"""A run over several devices of this machine: each takes a part of every batch, and keeps all the rest."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from bnjax.errors import ArgumentError


class Placement(NamedTuple):
    """Where arrays lie when there are several devices.

    Attributes:
      whole: all of it on every device, as parameters and images.
      split: its first axis over the devices, as a batch.
      number: how many devices.
    """

    whole: NamedSharding
    split: NamedSharding
    number: int


def placement(batch_size: int, devices: int | None = None) -> Placement | None:
    """The first so many local devices; None where it is one, for which nothing need be placed.

    By default that is one on CPU, and elsewhere as many as there are of which each gets the same share.

    Raises:
      ArgumentError: there are not so many, or the batch has not as many equal parts.
    """
    available = jax.local_devices()
    if devices is None:
        devices = usual(batch_size, available)
    if not 1 <= devices <= len(available):
        there = f"from 1 to the {len(available)} that JAX finds"
        hint = f" (JAX_NUM_CPU_DEVICES={devices} makes so many)" if available[0].platform == "cpu" else ""
        raise ArgumentError("devices", f"must be {there}, got {devices}{hint if devices > 1 else ''}")
    if batch_size % devices:
        raise ArgumentError("devices", f"must divide the batch of {batch_size}, got {devices}")
    if devices == 1:
        return None
    mesh = Mesh(np.array(available[:devices]), ("batch",))
    whole, split = (NamedSharding(mesh, PartitionSpec(*axes)) for axes in ((), ("batch",)))
    return Placement(whole, split, devices)


def usual(batch_size: int, available: Sequence[jax.Device]) -> int:
    """How many devices share a batch if nobody says: of CPUs one, else as many as divide it."""
    limit = 1 if available[0].platform == "cpu" else len(available)
    return max(number for number in range(1, limit + 1) if batch_size % number == 0)
