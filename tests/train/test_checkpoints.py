"""Checkpoints: to the last bit, the newest only, and never half of one."""

import jax
import numpy as np
import pytest

from bnjax.train import checkpoints, step
from bnjax.train.config import Config


@pytest.fixture(scope="module")
def state():
    pixels = step.Standardization(np.zeros(3, np.float32), np.ones(3, np.float32))
    return step.create(Config(momentum=0.9), pixels)[0]


def test_what_is_restored_is_what_was_saved(tmp_path, state):
    changed = jax.tree.map(lambda a: a + 0.1 if np.issubdtype(a.dtype, np.floating) else a + 1, state)
    checkpoints.save(tmp_path / "all", 1, state)
    checkpoints.save(tmp_path / "all", 2, changed)
    assert checkpoints.latest(tmp_path / "all") == 2
    restored = checkpoints.restore(tmp_path / "all", 2, state)
    assert jax.tree.structure(restored) == jax.tree.structure(changed)
    for got, want in zip(jax.tree.leaves(restored), jax.tree.leaves(changed), strict=True):
        np.testing.assert_array_equal(got, want)
        assert got.dtype == want.dtype


def test_the_newest_stays(tmp_path, state):
    for epoch in (1, 2, 3):
        checkpoints.save(tmp_path / "all", epoch, state)
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["3"]


def test_a_save_that_was_broken_off_does_not_count_and_is_written_again(tmp_path, state):
    checkpoints.save(tmp_path / "all", 1, state)
    (tmp_path / "all" / "2.orbax-checkpoint-tmp").mkdir()  # what a killed process leaves
    assert checkpoints.latest(tmp_path / "all") == 1
    checkpoints.restore(tmp_path / "all", 1, state)
    checkpoints.save(tmp_path / "all", 2, state)
    assert checkpoints.latest(tmp_path / "all") == 2


def test_where_there_is_none_none_is_made(tmp_path):
    assert checkpoints.latest(tmp_path / "none") == 0
    assert not (tmp_path / "none").exists()
