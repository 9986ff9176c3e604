"""What the arrays that came may have to be, and those made like them then are."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
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


def is_symmetric(leaf: np.ndarray) -> bool:
    """Whether `leaf` may have to be a symmetric matrix, or several, as a covariance is."""
    if leaf.ndim < 2 or leaf.shape[-1] != leaf.shape[-2] or leaf.shape[-1] < 2 or leaf.size == 0:
        return False
    return bool(np.all(abs(leaf - np.swapaxes(leaf, -1, -2)) <= 1e-5 * np.max(abs(leaf))))


def symmetric(leaf: Any) -> Any:
    """The symmetric part of a matrix."""
    return (leaf + leaf.swapaxes(-1, -2)) / 2


def is_increasing(leaf: np.ndarray) -> bool:
    """Whether `leaf` may have to increase along its last axis, as breakpoints do."""
    return leaf.ndim > 0 and leaf.shape[-1] > 2 and leaf.size > 0 and bool(np.all(np.diff(leaf) > 0))


def increasing(leaf: Any, step: float) -> Any:
    """The numbers of each row in their order, and a step apart."""
    xp: Any = np if isinstance(leaf, np.ndarray) else jnp
    return xp.sort(leaf, -1) + (step * np.arange(leaf.shape[-1])).astype(leaf.dtype)


def is_below(low: np.ndarray, high: np.ndarray) -> bool:
    """Whether a `low` may have to be below a `high`, as bounds are."""
    return low.size > 0 and bool(np.all(low <= high) and np.any(low < high))


def rising(leaves: Sequence[Any], step: float) -> Sequence[Any]:
    """Arrays of one shape with the numbers at each place in their order, and a step apart."""
    xp: Any = np if all(isinstance(leaf, np.ndarray | np.generic) for leaf in leaves) else jnp
    return list(xp.moveaxis(increasing(xp.stack(leaves, -1), step), -1, 0))


def distribution(leaf: np.ndarray) -> np.ndarray:
    """The sizes of numbers, made to sum to 1 along the last axis; where all are 0, equal ones."""
    size = abs(leaf)
    size = size + (np.sum(size, -1, keepdims=True) == 0)
    return size / np.sum(size, -1, keepdims=True)
