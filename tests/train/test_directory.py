"""Resuming from what is left: the newest whole epoch, said where it is not the last, or one clear line."""

import json
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from bnjax.errors import ArgumentError, UserError
from bnjax.train import checkpoints, files, step
from bnjax.train import run as runs
from bnjax.train.config import Config
from bnjax.train.directory import RunDirectory

CONFIG = Config(epochs=3, batch_size=16, learning_rate=0.01, norm="none")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    runs.run(CONFIG, data, out)
    return out


@pytest.fixture
def copy(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture(scope="module")
def begin(data):
    return step.create(CONFIG, step.standardization(data.train_images))[0]


def restored(path, begin, data):
    with RunDirectory.open(
        path, CONFIG, step.standardization(data.train_images), {}, resume=True
    ) as directory:
        return directory.restore(begin)


def lines(path):
    return (path / "metrics.jsonl").read_text().splitlines()


def empty(folder):
    for path in folder.iterdir():
        shutil.rmtree(path)


def damage(checkpoint):
    largest = max((p for p in checkpoint.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    largest.write_bytes(b"half")


def test_a_damaged_newest_checkpoint_falls_back_to_the_one_before_and_says_so(copy, begin, data):
    before = lines(copy)
    damage(copy / "checkpoints" / "3")
    state, rows, notes = restored(copy, begin, data)
    assert [row["epoch"] for row in rows] == [1, 2]
    assert lines(copy) == before[:2]
    assert len((copy / "log.txt").read_text().splitlines()) == 4
    assert notes == [f"checkpoint {copy / 'checkpoints' / '3'} is damaged: it is not what its digest says"]
    moved = [np.array_equal(a, b) for a, b in zip(*map(jax.tree.leaves, (state, begin)), strict=True)]
    assert not all(moved)


@pytest.mark.thorough
def test_the_run_that_fell_back_is_the_run_in_one_go(copy, finished, begin, data, capsys):
    def untimed(row):
        return {k: v for k, v in json.loads(row).items() if k not in ("seconds", "images_per_second")}

    damage(copy / "checkpoints" / "3")
    runs.run(CONFIG, data, copy, resume=True)
    said = capsys.readouterr().out.splitlines()
    assert "is damaged" in said[0]
    assert said[1] == "resumed after epoch 2"
    assert [untimed(row) for row in lines(copy)] == [untimed(row) for row in lines(finished)]
    for epoch in (2, 3):
        states = [checkpoints.restore(run / "checkpoints", epoch, begin) for run in (copy, finished)]
        jax.tree.map(np.testing.assert_array_equal, *states)


def test_with_no_whole_checkpoint_it_is_refused_and_all_is_kept(copy, begin, data):
    for epoch in ("2", "3"):
        damage(copy / "checkpoints" / epoch)
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with pytest.raises(
        UserError, match=r"^cannot resume: checkpoint \S+3 is damaged: .*; checkpoint \S+2 is"
    ):
        restored(copy, begin, data)
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("how", [shutil.rmtree, empty])
def test_checkpoints_that_are_gone_are_said_not_retrained(copy, begin, data, how):
    how(copy / "checkpoints")
    with pytest.raises(UserError, match="has metrics of 3 epochs, and its checkpoints are gone"):
        restored(copy, begin, data)
    assert len(lines(copy)) == 3


def test_a_run_killed_in_its_first_checkpoint_begins_again(copy, begin, data):
    (copy / "metrics.jsonl").write_text(lines(copy)[0] + "\n")
    for checkpoint in (copy / "checkpoints").iterdir():
        shutil.rmtree(checkpoint)
    (copy / "checkpoints" / ".1").mkdir()
    state, rows, notes = restored(copy, begin, data)
    assert (state, rows) == (begin, [])
    assert notes == ["begun again: there was no checkpoint yet"]
    assert lines(copy) == []


@pytest.mark.parametrize(
    "cut", [lambda text: text[:-40], lambda text: text[:-1], lambda text: text.rsplit("{", 1)[0] + "null\n"]
)
def test_a_cut_last_line_of_metrics_falls_back_to_the_epoch_before(copy, begin, data, cut):
    metrics = copy / "metrics.jsonl"
    metrics.write_text(cut(metrics.read_text()))
    _, rows, notes = restored(copy, begin, data)
    assert len(rows) == len(lines(copy)) == 2
    assert notes == [f"{copy} lacks lines of the epochs before its checkpoint 3"]


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\n", b"[]\n{}\n3\n", b'{"epoch": 1}\n'])
def test_metrics_that_are_none_are_refused_in_one_line(copy, begin, data, content):
    (copy / "metrics.jsonl").write_bytes(content)
    with pytest.raises(UserError, match="lacks lines of the epochs before its checkpoint 3") as caught:
        restored(copy, begin, data)
    assert "\n" not in str(caught.value)
    assert (copy / "metrics.jsonl").read_bytes() == content


def test_a_run_that_another_process_writes_is_left_alone(copy, data):
    hold = "import sys, pathlib; from bnjax.train.files import locked\n"
    hold += "with locked(pathlib.Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    process = subprocess.Popen(
        [sys.executable, "-c", hold, str(copy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()}
    with process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ArgumentError, match=f"^out {copy} is being written by another process$"):
            runs.run(CONFIG, data, copy, resume=True)
        assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file()} == before | {
            copy / ".lock": b""
        }
        process.kill()
    runs.run(CONFIG, data, copy, resume=True)  # the system gave the lock back
    assert not (copy / ".lock").exists()


def test_two_in_one_process_do_not_share_a_folder_either(tmp_path):
    with files.locked(tmp_path):
        with pytest.raises(ArgumentError, match="is being written"), files.locked(tmp_path):
            pass
        assert (tmp_path / ".lock").exists()
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "file"
    path.write_text("old")

    def half(beside):
        beside.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=rf"^{path} cannot be written: No space left on device$"):
        files.replace(path, half)
    assert (path.read_text(), list(tmp_path.iterdir())) == ("old", [path])
