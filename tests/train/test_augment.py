"""Random flips and crops: each is one of the 162 there are, all come, and a key says which."""

import jax
import numpy as np
import pytest

from bnjax.train.augment import flip_crop

IMAGES = np.random.default_rng(0).integers(1, 256, (600, 6, 5, 3), np.uint8)


def every_one(image):
    """All flips and crops of an image by plain indexing: (162, H, W, C)."""
    h, w, _ = image.shape
    found = []
    for flipped in (image, image[:, ::-1]):
        padded = np.pad(flipped, ((4, 4), (4, 4), (0, 0)))
        found += [padded[i : i + h, j : j + w] for i in range(9) for j in range(9)]
    return np.array(found)


def test_each_is_a_flip_and_a_crop_and_all_come():
    images = np.repeat(IMAGES[:1], 2000, 0)
    changed = np.asarray(flip_crop(jax.random.key(0), images))
    assert (changed.shape, changed.dtype) == (images.shape, np.uint8)
    equal = (changed[:, None] == every_one(IMAGES[0])).all((2, 3, 4))  # all 162 are different
    np.testing.assert_array_equal(equal.sum(1), 1)
    counts = equal.sum(0)
    assert counts.min() >= 1  # each is missing with probability (161/162)^2000 = 4e-6
    assert abs(counts[:81].sum() - 1000) < 4 * np.sqrt(500)
    middle = counts.reshape(2, 9, 9)[:, 4, 4].sum()
    assert middle < 60  # 25 are expected to stay where they are


@pytest.mark.thorough
def test_each_image_has_a_change_of_its_own():
    changed = np.asarray(flip_crop(jax.random.key(1), IMAGES))
    moved = [np.flatnonzero((every_one(i) == c).all((1, 2, 3))) for i, c in zip(IMAGES, changed, strict=True)]
    assert {len(m) for m in moved} == {1}
    assert len({int(m[0]) for m in moved}) > 100


@pytest.mark.thorough
def test_the_key_says_it_all_compiled_or_not_with_x64_or_without():
    once = np.asarray(flip_crop(jax.random.key(2), IMAGES))
    np.testing.assert_array_equal(jax.jit(flip_crop)(jax.random.key(2), IMAGES), once)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(flip_crop(jax.random.key(2), IMAGES), once)
    assert (np.asarray(flip_crop(jax.random.key(3), IMAGES)) != once).any()
