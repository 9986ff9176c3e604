"""What a data set is: images and labels, a training and a test split."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bnjax.errors import UserError

IMAGE_SHAPE = (32, 32, 3)
CLASSES = 10


class Dataset(NamedTuple):
    """Images in NHWC order with their labels; ``N`` may differ between the two splits.

    Attributes:
      train_images, test_images: uint8 (N, 32, 32, 3), pixel values from 0 to 255.
      train_labels, test_labels: int32 (N,), from 0 to 9.

    Example:
      >>> from bnjax.data import synthetic
      >>> data = synthetic.generate(train=20, test=10)
      >>> data.train_images.shape, data.test_labels.shape
      ((20, 32, 32, 3), (10,))
    """

    train_images: NDArray[np.uint8]  # (N, 32, 32, 3)
    train_labels: NDArray[np.int32]  # (N,)
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int32]


def check(data: Dataset) -> None:
    """UserError unless these are images and labels that the networks take: uint8 NHWC, and ten classes.

    Example:
      >>> from bnjax.data import check, synthetic
      >>> data = synthetic.generate(train=20, test=10)
      >>> check(data)
      >>> check(data._replace(test_labels=data.test_labels + 1))
      Traceback (most recent call last):
      bnjax.errors.UserError: test_labels must be from 0 to 9, got 1 to 10
    """
    for split in ("train", "test"):
        images, labels = getattr(data, f"{split}_images"), getattr(data, f"{split}_labels")
        if images.dtype != np.uint8 or images.shape[1:] != IMAGE_SHAPE or not len(images):
            got = f"{images.dtype.name} of shape {images.shape}"
            raise UserError(f"{split}_images must be uint8 of shape (N, 32, 32, 3), N at least 1, got {got}")
        if labels.shape != images.shape[:1] or not np.issubdtype(labels.dtype, np.integer):
            got = f"{labels.dtype.name} of shape {labels.shape}"
            raise UserError(f"{split}_labels must be integers of shape ({len(images)},), got {got}")
        if not (labels.min() >= 0 and labels.max() < CLASSES):
            raise UserError(f"{split}_labels must be from 0 to 9, got {labels.min()} to {labels.max()}")
