"""What a data set is: images and labels, a training and a test split."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Dataset(NamedTuple):
    """Images in NHWC order with their labels; ``N`` may differ between the two splits."""

    train_images: NDArray[np.uint8]  # (N, 32, 32, 3)
    train_labels: NDArray[np.int32]  # (N,)
    test_images: NDArray[np.uint8]
    test_labels: NDArray[np.int32]
