"""A batch shared among devices: the numbers of one device but for rounding, resumed on any number."""

import dataclasses
import functools
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.data import synthetic
from bnjax.errors import ArgumentError, UserError
from bnjax.spec import NetSpec, conv_bn, dense, flatten
from bnjax.train import run as runs
from bnjax.train import step
from bnjax.train.config import Config
from bnjax.train.devices import placement, put, spread, usual
from bnjax.train.directory import read_rows

THIN = NetSpec("thin", [conv_bn(3, 4, 3, stride=4), flatten(), dense(256, 10)])
CONFIG = Config(spec=THIN, epochs=2, batch_size=16, learning_rate=1e-3, momentum=0.9, augment="flip-crop")
RTOL = 1e-5  # sums in another order, through a few steps


@pytest.fixture(scope="module")
def data():
    return synthetic.generate(train=32, test=21)


@functools.cache
def created(batch_size, devices):
    """The state, the compiled functions and the data, where they belong."""
    data, place = synthetic.generate(train=32, test=21), placement(batch_size, devices)
    state, steps = step.create(CONFIG, step.standardization(data.train_images), place=place)
    return put(state, place.whole) if place else state, steps, spread(data, place)


def trained(indices, devices, scan=False):
    """The state after the batches, and their losses."""
    state, steps, data = created(len(indices[0]), devices)
    state = jax.tree.map(jnp.copy, state)  # the step consumes it
    images, labels = data.train_images, data.train_labels
    return step.train_epoch(steps, state, images, labels, indices, scan=scan, report=lambda *_: None)


@pytest.mark.parametrize("scan", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_two_devices_give_the_numbers_of_one(scan):
    indices = np.arange(32).reshape(2, 16)
    (state, one), (shared, two) = (trained(indices, devices, scan) for devices in (1, 2))
    np.testing.assert_allclose(two, one, rtol=RTOL)
    for ours, theirs in zip(*map(jax.tree.leaves, (state, shared)), strict=True):
        assert theirs.sharding.is_fully_replicated
        assert len(theirs.devices()) == 2
        np.testing.assert_allclose(theirs, ours, rtol=RTOL, atol=1e-6)


@pytest.mark.thorough
def test_an_evaluation_on_two_devices_counts_every_image():
    found = []
    for devices in (1, 2):
        state, steps, data = created(16, devices)
        found.append(step.evaluate(steps, state, data.test_images, data.test_labels, 20))  # 20, and 1
    assert found[0]._replace(loss=0) == found[1]._replace(loss=0)
    np.testing.assert_allclose(found[1].loss, found[0].loss, rtol=RTOL)


def test_the_statistics_are_those_of_the_whole_batch():
    """By a device's own the loss would be another one, far beyond rounding."""
    whole, halves = np.arange(16)[None], np.arange(16).reshape(2, 1, 8)
    own = np.mean([trained(half, 1)[1] for half in halves])
    (one,), (two,) = (trained(whole, devices)[1] for devices in (1, 2))
    assert abs(own - one) > 100 * RTOL * one
    np.testing.assert_allclose(two, one, rtol=RTOL)


def test_each_device_computes_its_part():
    state, steps, data = created(16, 2)
    lowered = steps.train.lower(state, data.train_images, data.train_labels, jnp.arange(16), 0)
    text = lowered.compile().as_text()
    assert "all-reduce" in text
    assert "f32[8,8,8,4]" in text  # what the convolution gives for half a batch
    assert "f32[16,8,8,4]" not in text
    assert "u8[16,32,32,3]" in text  # its own images, of which the batch takes what it needs
    assert "u8[32,32,32,3]" not in text


def test_each_device_keeps_its_share_of_the_images_if_there_are_equal_ones(data):
    place = placement(16, 2)
    images = spread(data, place).train_images
    shares = [np.asarray(shard.data) for shard in images.addressable_shards]
    np.testing.assert_array_equal(np.concatenate(shares), data.train_images)
    assert len(shares[0]) == len(shares[1]) == 16
    odd = data._replace(train_images=data.train_images[1:], train_labels=data.train_labels[1:])
    assert spread(odd, place).train_images.sharding.is_fully_replicated
    assert spread(data, place).test_images.sharding.is_fully_replicated


@pytest.mark.thorough
def test_a_run_on_two_devices_goes_on_on_one(tmp_path, data):
    whole = runs.run(CONFIG, data, tmp_path / "one", devices=1)
    short = dataclasses.replace(CONFIG, epochs=1)
    runs.run(short, data, tmp_path / "two", devices=2)
    mixed = runs.run(CONFIG, data, tmp_path / "two", devices=1, resume=True)
    np.testing.assert_allclose(mixed.train_loss, whole.train_loss, rtol=RTOL)
    assert (mixed.test_accuracy, mixed.outcome) == (whole.test_accuracy, whole.outcome)
    for name, number in (("one", 1), ("two", 2)):
        assert json.loads((tmp_path / name / "config.json").read_text())["environment"]["devices"] == number


def test_the_usual_number_is_one_on_cpu_and_elsewhere_as_many_as_divide_the_batch():
    assert placement(16) is placement(16, 1) is None
    assert placement(16, 2).number == 2
    cpus, gpus = ([SimpleNamespace(platform=name)] * 6 for name in ("cpu", "gpu"))
    assert [usual(batch_size, gpus) for batch_size in (24, 16, 7, 1)] == [6, 4, 1, 1]
    assert usual(24, cpus) == 1


@pytest.mark.parametrize(
    ("batch_size", "devices", "message"),
    [
        (16, 3, r"must be from 1 to the 2 that JAX finds, got 3 \(JAX_NUM_CPU_DEVICES=3 makes so many\)"),
        (16, 0, "must be from 1 to the 2 that JAX finds, got 0$"),
        (15, 2, "must divide the batch of 15, got 2"),
    ],
)
def test_a_number_that_will_not_do_is_refused(batch_size, devices, message):
    with pytest.raises(ArgumentError, match=f"^devices {message}"):
        placement(batch_size, devices)


def test_of_several_processes_each_has_its_part_of_the_batch(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(jax, "device_count", lambda: 4)
    with pytest.raises(ArgumentError, match=r"^processes must divide the batch of 15, got 2$"):
        placement(15)
    with pytest.raises(ArgumentError, match=r"^devices must divide the 5 images of a process, got 2$"):
        placement(10, 2)
    monkeypatch.setattr(jax, "device_count", lambda: 3)
    with pytest.raises(UserError, match=r"^process 0 has not as many devices as the others$"):
        placement(16)


def test_at_the_command(bnjax_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bnjax.data.load", lambda *_: synthetic.generate(train=32, test=20))
    code, out, err = bnjax_command("train", "--batch-size", 16, "--devices", 3)
    assert (code, out) == (2, "")
    assert err.startswith("bnjax: --devices must be from 1 to the 2 that JAX finds, got 3")
    assert list(tmp_path.iterdir()) == []


PROGRAM = """
import sys
from pathlib import Path
from bnjax.data import synthetic
from bnjax.train import run as runs
from bnjax.train.config import Config
data = synthetic.generate(train=64, test=20)
name, devices, epochs = sys.argv[1:]
config = Config(epochs=int(epochs), batch_size=32, learning_rate=1e-3, momentum=0.9)
runs.run(config, data, Path(name), devices=int(devices), resume=True)
"""


@pytest.mark.slow
def test_eight_devices_and_resumed_give_the_numbers_of_one(tmp_path):
    """The chapter's network; broken off and resumed on eight, to the last bit."""
    environment = os.environ | {
        "JAX_NUM_CPU_DEVICES": "8",
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    for name, devices, epochs in (("one", 1, 2), ("eight", 8, 2), ("resumed", 8, 1), ("resumed", 8, 2)):
        command = [sys.executable, "-c", PROGRAM, name, str(devices), str(epochs)]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True, capture_output=True)
    one, eight, resumed = (
        [row["train_loss"] for row in read_rows(tmp_path / name)] for name in ("one", "eight", "resumed")
    )
    assert len(one) == 2
    np.testing.assert_allclose(eight, one, rtol=RTOL)
    assert resumed == eight
