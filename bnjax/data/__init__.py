"""Data sets as NumPy arrays, by name: the embedded ``synthetic`` one and ``cifar10``."""

import os

from bnjax.data.dataset import CLASSES, IMAGE_SHAPE, Dataset, check
from bnjax.errors import UserError

__all__ = ["CLASSES", "IMAGE_SHAPE", "NAMES", "Dataset", "check", "load"]

NAMES = ("synthetic", "cifar10")


def load(name: str, data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """The data set called ``name``.

    Args:
      name: ``"synthetic"`` (generated, see :mod:`bnjax.data.synthetic`) or ``"cifar10"`` (read from
        disk, see :mod:`bnjax.data.cifar10`).
      data_dir: where tensorflow-datasets keeps its data; ``synthetic`` does not look at it.

    Returns:
      uint8 images (N, 32, 32, 3) and int32 labels (N,) from 0 to 9, for training and for testing.

    Raises:
      UserError: an unknown name, or data that is absent or broken.

    Example:
      >>> import bnjax
      >>> bnjax.data.load("cifar100")
      Traceback (most recent call last):
      bnjax.errors.UserError: unknown data set 'cifar100'; the data sets are synthetic, cifar10
    """
    # Each reader is imported when asked for, so that neither pays for the other's dependencies.
    if name == "synthetic":
        from bnjax.data import synthetic

        return synthetic.generate()
    if name == "cifar10":
        from bnjax.data import cifar10

        return cifar10.load(data_dir)
    raise UserError(f"unknown data set {name!r}; the data sets are {', '.join(NAMES)}")
