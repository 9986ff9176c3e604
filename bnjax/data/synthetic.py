"""The embedded data set: ten kinds of pattern that a person can name, painted from a seed.

======  ==================  ================================================
label   name                what is painted
======  ==================  ================================================
0       horizontal stripes  parallel bars, within 10 degrees of level
1       vertical stripes    parallel bars, within 10 degrees of upright
2       rising stripes      parallel bars along ``/``, within 10 degrees
3       falling stripes     parallel bars along the other diagonal
4       checkerboard        alternating squares, slightly turned
5       dots                a square lattice of discs, slightly turned
6       target              circles about one centre, to the image's edge
7       ring                one circle, not filled
8       cross               two equal bars at right angles, at any angle
9       triangle            one filled equilateral triangle, at any angle
======  ==================  ================================================

Position, size, period, the two colours, lighting and noise are drawn anew for each image, so one
pixel says little about the class: a linear classifier gets under four test images in ten right,
while edges and corners, which convolutions find, decide.

Every step is an elementwise ``+ - * /``, ``sqrt``, ``floor`` or comparison in float32, which
IEEE 754 rounds alike on every machine, so a seed gives the same bytes everywhere.  (``sin``,
``exp`` and sums over an axis are rounded differently here and there, and a byte would flip.)
"""

from collections.abc import Callable

import numpy as np
from numpy.random import PCG64, Generator
from numpy.typing import NDArray

from bnjax.data.dataset import Dataset

Floats = NDArray[np.float32]

SIDE = 32
_TAN_5 = 0.0875  # tan(5 degrees): half of the largest turn of a "slightly turned" pattern
_TAN_22 = 0.4142  # tan(22.5 degrees): half of 45 degrees


def generate(seed: int = 0, train: int = 10_000, test: int = 2_000) -> Dataset:
    """Paint ``train`` and ``test`` images, as near to equally many of each class as can be.

    Args:
      seed: a seed gives the same bytes on every machine; the two splits draw from separate streams.
      train: how many training images.
      test: how many test images.

    Returns:
      Shuffled uint8 images (N, 32, 32, 3) and int32 labels (N,) for both splits.

    Example:
      >>> from bnjax.data import synthetic
      >>> data = synthetic.generate(seed=0, train=20, test=10)
      >>> sorted(data.test_labels.tolist())
      [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]

    Source: generated; no image is taken from anywhere.
    """
    return Dataset(
        *_paint_split(Generator(PCG64([seed, 0])), train),
        *_paint_split(Generator(PCG64([seed, 1])), test),
    )


def _paint_split(rng: Generator, count: int) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    # Sorting random numbers shuffles without Generator.shuffle, whose stream may change with NumPy.
    order = np.argsort(rng.random(count), kind="stable")
    labels = (order % len(PATTERNS)).astype(np.int32)
    images = np.empty((count, SIDE, SIDE, 3), np.uint8)
    for label, (_, pattern) in enumerate(PATTERNS):
        members = np.flatnonzero(labels == label)
        images[members] = _colour(rng, pattern(rng, len(members)))
    return images, labels


def _colour(rng: Generator, mask: Floats) -> NDArray[np.uint8]:
    """Images (N, 32, 32, 3) of the pattern ``mask`` (N, 32, 32), 0 outside the figure and 1 within.

    image = level + (mask - mean of mask) * contrast + slope * (x, y) + noise, so that the mean
    brightness does not tell a sparse pattern from a dense one.
    """
    n = len(mask)
    level = _uniform(rng, 0.25, 0.5, (n, 1, 1, 3))
    contrast = _uniform(rng, 0.35, 0.7, (n, 1, 1, 1)) * _uniform(rng, 0.5, 1, (n, 1, 1, 3))
    # Summed as integers: the order in which floats are added differs from machine to machine.
    covered = np.rint(mask * 255).astype(np.int64).sum((1, 2), keepdims=True)
    balanced = mask - (covered / (255 * SIDE * SIDE)).astype(np.float32)
    x, y = _grid()
    slope_x, slope_y = _uniform(rng, -0.005, 0.005, (2, n, 1, 1))
    light = slope_x * x + slope_y * y
    image = level + balanced[..., None] * contrast + light[..., None]
    image += _uniform(rng, -0.16, 0.16, image.shape)
    return np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8)


def _stripes(slope: tuple[float, float]) -> Callable[[Generator, int], Floats]:
    """Bars whose normal is the direction ``slope``, give or take 10 degrees."""

    def paint(rng: Generator, n: int) -> Floats:
        u, v = _turned(rng, n, _TAN_5)
        across = slope[0] * u + slope[1] * v
        return _ink(_wave(across, *_period_and_phase(rng, n)))

    return paint


def _checkerboard(rng: Generator, n: int) -> Floats:
    u, v = _turned(rng, n, _TAN_5)
    period, phase = _period_and_phase(rng, n)
    across, along = _wave(u, period, phase), _wave(v, period, _uniform(rng, 0, 1, (n, 1, 1)))
    # Inside where both waves have one sign; the smaller of the two is the distance to the edge.
    same = np.minimum(np.abs(across), np.abs(along))
    return _ink(np.where(across * along > 0, same, -same))


def _dots(rng: Generator, n: int) -> Floats:
    u, v = _turned(rng, n, _TAN_5)
    period, phase = _period_and_phase(rng, n)
    to_column = period * (_fraction(u / period + phase) - 0.5)
    to_row = period * (_fraction(v / period + _uniform(rng, 0, 1, (n, 1, 1))) - 0.5)
    return _ink(0.3 * period - _length(to_column, to_row))


def _target(rng: Generator, n: int) -> Floats:
    return _ink(_wave(_length(*_placed(rng, n)), *_period_and_phase(rng, n)))


def _ring(rng: Generator, n: int) -> Floats:
    radius = _radius(rng, n)
    half_width = _uniform(rng, 0.1, 0.2, (n, 1, 1)) * radius
    return _ink(half_width - np.abs(0.85 * radius - _length(*_placed(rng, n))))


def _cross(rng: Generator, n: int) -> Floats:
    u, v = _turned(rng, n, _TAN_22, _placed(rng, n))
    arm = _radius(rng, n)
    half_width = _uniform(rng, 0.15, 0.3, (n, 1, 1)) * arm
    upright = np.minimum(half_width - np.abs(u), arm - np.abs(v))
    level = np.minimum(half_width - np.abs(v), arm - np.abs(u))
    return _ink(np.maximum(upright, level))


def _triangle(rng: Generator, n: int) -> Floats:
    u, v = _turned(rng, n, 1, _placed(rng, n))
    half_root_3 = 0.8660254
    farthest = np.maximum(u, np.maximum(-0.5 * u + half_root_3 * v, -0.5 * u - half_root_3 * v))
    return _ink(0.65 * _radius(rng, n) - farthest)


PATTERNS: tuple[tuple[str, Callable[[Generator, int], Floats]], ...] = (
    ("horizontal stripes", _stripes((0, 1))),
    ("vertical stripes", _stripes((1, 0))),
    ("rising stripes", _stripes((0.70710678, 0.70710678))),
    ("falling stripes", _stripes((0.70710678, -0.70710678))),
    ("checkerboard", _checkerboard),
    ("dots", _dots),
    ("target", _target),
    ("ring", _ring),
    ("cross", _cross),
    ("triangle", _triangle),
)


def _grid() -> tuple[Floats, Floats]:
    """Coordinates (x, y) of the pixels from the centre of the image, each of shape (32, 32)."""
    y, x = np.indices((SIDE, SIDE)) - (SIDE - 1) / 2
    return x.astype(np.float32), y.astype(np.float32)


def _placed(rng: Generator, n: int) -> tuple[Floats, Floats]:
    """Coordinates (x, y) from a random centre per image, each of shape (N, 32, 32)."""
    x, y = _grid()
    return x - _uniform(rng, -6, 6, (n, 1, 1)), y - _uniform(rng, -6, 6, (n, 1, 1))


def _turned(
    rng: Generator, n: int, most: float, at: tuple[Floats, Floats] | None = None
) -> tuple[Floats, Floats]:
    """The coordinates ``at`` turned by a random angle per image, at most 2 arctan ``most``.

    With t = tan(angle / 2) the cosine is (1 - t^2) / (1 + t^2) and the sine 2t / (1 + t^2).
    """
    x, y = _grid() if at is None else at
    t = _uniform(rng, -most, most, (n, 1, 1))
    cosine, sine = np.divide([1 - t * t, 2 * t], 1 + t * t)
    return cosine * x + sine * y, cosine * y - sine * x


def _period_and_phase(rng: Generator, n: int) -> tuple[Floats, Floats]:
    return _uniform(rng, 5, 11, (n, 1, 1)), _uniform(rng, 0, 1, (n, 1, 1))


def _radius(rng: Generator, n: int) -> Floats:
    return _uniform(rng, 7, 13, (n, 1, 1))


def _wave(u: Floats, period: Floats, phase: Floats) -> Floats:
    """Signed distance, in pixels, to the nearest edge of bars half a ``period`` wide."""
    return period * (np.abs(_fraction(u / period + phase) - 0.5) - 0.25)


def _ink(depth: Floats) -> Floats:
    """Coverage of a pixel whose centre lies ``depth`` pixels within the figure's edge."""
    return np.clip(depth + 0.5, 0, 1)


def _fraction(u: Floats) -> Floats:
    return u - np.floor(u)


def _length(u: Floats, v: Floats) -> Floats:
    return np.sqrt(u * u + v * v)


def _uniform(rng: Generator, low: float, high: float, shape: tuple[int, ...]) -> Floats:
    return low + (high - low) * rng.random(shape, dtype=np.float32)
