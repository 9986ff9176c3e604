"""Data sets as NumPy arrays, by name: the embedded ``synthetic`` one and ``cifar10``."""

import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnjax.errors import UserError

NAMES = ("synthetic", "cifar10")


class Dataset(NamedTuple):
    """Images in NHWC order with their labels; ``N`` may differ between the two splits."""

    train_images: NDArray[np.uint8]  # (N, 32, 32, 3)
    train_labels: NDArray[np.int32]  # (N,)
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int32]


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The data set called ``name``.

    Args:
      name: ``"synthetic"`` (generated, see :mod:`bnjax.data.synthetic`) or ``"cifar10"`` (read from
        disk, see :mod:`bnjax.data.cifar10`).
      data_dir: where tensorflow-datasets keeps its data; ``synthetic`` does not look at it.

    Raises:
      UserError: an unknown name, or data that is absent or broken.
    """
    # Each reader is imported when asked for, so that neither pays for the other's dependencies.
    if name == "synthetic":
        from bnjax.data import synthetic

        return synthetic.generate()
    if name == "cifar10":
        from bnjax.data import cifar10

        return cifar10.load(data_dir)
    raise UserError(f"unknown data set {name!r}; the data sets are {', '.join(NAMES)}")
