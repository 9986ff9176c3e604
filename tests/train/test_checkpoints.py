"""Checkpoints: to the last bit, the newest two, and never half or a wrong one."""

import shutil
import signal

import jax
import numpy as np
import pytest

from bnjax.errors import UserError
from bnjax.train import checkpoints, step
from bnjax.train.config import Config


@pytest.fixture(scope="module")
def state():
    pixels = step.Standardization(np.zeros(3, np.float32), np.ones(3, np.float32))
    return step.create(Config(momentum=0.9), pixels)[0]


def changed(state):
    return jax.tree.map(lambda a: a + 0.1 if np.issubdtype(a.dtype, np.floating) else a + 1, state)


def test_what_is_restored_is_what_was_saved(tmp_path, state):
    checkpoints.save(tmp_path / "all", 1, state)
    checkpoints.save(tmp_path / "all", 2, changed(state))
    assert checkpoints.epochs(tmp_path / "all") == [2, 1]
    for epoch, saved in ((1, state), (2, changed(state))):
        restored = checkpoints.restore(tmp_path / "all", epoch, state)
        assert jax.tree.structure(restored) == jax.tree.structure(saved)
        for got, want in zip(jax.tree.leaves(restored), jax.tree.leaves(saved), strict=True):
            np.testing.assert_array_equal(got, want)
            assert got.dtype == want.dtype


def test_the_newest_two_stay(tmp_path, state):
    for epoch in (1, 2, 3):
        checkpoints.save(tmp_path / "all", epoch, state)
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == ["2", "3"]


def test_a_save_that_was_broken_off_does_not_count_and_is_written_again(tmp_path, state):
    checkpoints.save(tmp_path / "all", 1, state)
    (tmp_path / "all" / ".2").mkdir()  # what a killed process leaves
    (tmp_path / "all" / ".2" / checkpoints.DIGEST).write_bytes(b"half")
    assert checkpoints.epochs(tmp_path / "all") == [1]
    checkpoints.restore(tmp_path / "all", 1, state)
    checkpoints.save(tmp_path / "all", 2, state)
    assert checkpoints.epochs(tmp_path / "all") == [2, 1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["Ctrl-C", "SIGTERM"])
def test_told_to_stop_while_it_writes_it_stops_when_that_is_whole(tmp_path, state, monkeypatch, number):
    write = checkpoints._write

    def told_to_stop(half, state):
        signal.raise_signal(number)
        write(half, state)

    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "_write", told_to_stop)
    before = signal.signal(number, stop)
    try:
        with pytest.raises(KeyboardInterrupt):
            checkpoints.save(tmp_path / "all", 1, state)
        assert signal.getsignal(number) is stop
    finally:
        signal.signal(number, before)
    assert [path.name for path in (tmp_path / "all").iterdir()] == ["1"]
    checkpoints.restore(tmp_path / "all", 1, state)


def test_where_there_is_none_none_is_made(tmp_path):
    assert checkpoints.epochs(tmp_path / "none") == []
    assert not (tmp_path / "none").exists()


def largest(checkpoint):
    return max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)


def flip_a_bit(checkpoint):
    content = bytearray(largest(checkpoint).read_bytes())
    content[len(content) // 2] ^= 1
    largest(checkpoint).write_bytes(content)


def cut(checkpoint):
    content = largest(checkpoint).read_bytes()
    largest(checkpoint).write_bytes(content[: len(content) // 2])


def write_over(checkpoint):
    for path in checkpoint.rglob("*"):
        if path.is_file():
            path.write_bytes(b"\0" * path.stat().st_size)


def empty(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.mkdir()


def make_a_file(checkpoint):
    shutil.rmtree(checkpoint)
    checkpoint.write_text("no folder")


DAMAGES = {
    "a bit flipped": flip_a_bit,
    "the largest file cut": cut,
    "the largest file empty": lambda checkpoint: largest(checkpoint).write_bytes(b""),
    "the largest file gone": lambda checkpoint: largest(checkpoint).unlink(),
    "all bytes zero": write_over,
    "digest of something else": lambda checkpoint: (checkpoint / "sha256").write_text("0" * 64 + "\n"),
    "digest no text": lambda checkpoint: (checkpoint / "sha256").write_bytes(b"\xff\xfe"),
    "digest gone": lambda checkpoint: (checkpoint / "sha256").unlink(),
    "the folder gone": shutil.rmtree,
    "an empty folder": empty,
    "a file": make_a_file,
}


@pytest.mark.family
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_refused_in_one_line_and_can_be_written_again(tmp_path, state, capfd, damage):
    checkpoints.save(tmp_path, 1, state)
    checkpoints.save(tmp_path, 2, state)
    damage(tmp_path / "2")
    with pytest.raises(UserError, match=rf"^checkpoint {tmp_path / '2'} is damaged: [^\n]*$"):
        checkpoints.restore(tmp_path, 2, state)
    assert capfd.readouterr() == ("", "")
    checkpoints.restore(tmp_path, 1, state)
    checkpoints.save(tmp_path, 2, state)
    checkpoints.restore(tmp_path, 2, state)
    assert checkpoints.epochs(tmp_path) == [2, 1]


def test_another_networks_checkpoint_is_refused(tmp_path, state):
    checkpoints.save(tmp_path, 1, state)
    pixels = step.Standardization(np.zeros(3, np.float32), np.ones(3, np.float32))
    with pytest.raises(UserError, match="is damaged"):
        checkpoints.restore(tmp_path, 1, step.create(Config(norm="none", momentum=0.9), pixels)[0])


@pytest.mark.parametrize("seed", range(5))
def test_bits_flipped_anywhere_are_noticed(tmp_path, state, seed):
    checkpoints.save(tmp_path, 1, state)
    rng = np.random.default_rng(seed)
    for path in [p for p in (tmp_path / "1").rglob("*") if p.is_file() and p.stat().st_size]:
        whole = path.read_bytes()
        spoiled = bytearray(whole)
        spoiled[rng.integers(len(whole))] ^= 1 << rng.integers(8)
        path.write_bytes(spoiled)
        with pytest.raises(UserError, match="it is not what its digest says"):
            checkpoints.restore(tmp_path, 1, state)
        path.write_bytes(whole)
    checkpoints.restore(tmp_path, 1, state)
