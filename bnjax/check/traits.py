"""What the arrays that came may have to be, and those made like them then are."""

import numpy as np


def is_positive(leaf: np.ndarray) -> bool:
    """Whether `leaf` may have to be positive, as ε is: every element of it is."""
    return leaf.size > 0 and bool(np.all(leaf > 0))


def is_order(leaf: np.ndarray) -> bool:
    """Whether `leaf` may have to hold every place of an axis once: as an index that a rule inverts does."""
    count = leaf.size
    if leaf.ndim != 1 or leaf.dtype.kind not in "iu" or count < 2:
        return False
    return bool(
        np.min(leaf) >= 0 and np.max(leaf) < count and np.all(np.bincount(leaf, minlength=count) == 1)
    )


def is_distribution(leaf: np.ndarray) -> bool:
    """Whether `leaf` may have to sum to 1 along its last axis, as probabilities and one-hot labels do."""
    if leaf.ndim == 0 or leaf.size == 0 or leaf.shape[-1] < 2 or not np.all(leaf >= 0):
        return False
    if leaf.shape == (len(leaf),) * 2 and np.array_equal(leaf, np.eye(len(leaf))):
        return False  # a matrix that changes nothing
    return bool(np.all(abs(np.sum(leaf, -1) - 1) < 1e-3))


def distribution(leaf: np.ndarray) -> np.ndarray:
    """The sizes of numbers, made to sum to 1 along the last axis; where all are 0, equal ones."""
    size = abs(leaf)
    size = size + (np.sum(size, -1, keepdims=True) == 0)
    return size / np.sum(size, -1, keepdims=True)
