"""What a run has trained, brought back: the same network, in evaluation mode, with its pixel mean and std."""

import shutil

import jax.numpy as jnp
import numpy as np
import pytest

import bnjax.train
from bnjax.data import synthetic
from bnjax.errors import UserError
from bnjax.train import checkpoints, step, trained
from bnjax.train import run as runs
from bnjax.train.config import Config
from bnjax.train.directory import read_rows


@pytest.fixture(scope="module")
def data():
    return synthetic.generate(train=64, test=40)


@pytest.fixture(scope="module", params=["batch", "none"])
def run(request, data, tmp_path_factory):
    out = tmp_path_factory.mktemp("trained") / "run"
    runs.run(Config(epochs=2, batch_size=16, learning_rate=0.01, norm=request.param, seed=3), data, out)
    return out


@pytest.mark.thorough
def test_the_evaluation_is_that_of_the_run(run, data):
    last = read_rows(run)[-1]
    found = trained.evaluate(trained.newest(run), data)
    assert found == {k: v for k, v in last.items() if k == "epoch" or k.startswith("test_")}


@pytest.mark.thorough
def test_the_network_says_what_the_run_said(run, data):
    network = bnjax.train.load(run)
    classes = np.argmax(network(jnp.asarray(data.test_images)), -1)
    assert np.bincount(classes, minlength=10).tolist() == read_rows(run)[-1]["test_predicted"]


@pytest.mark.thorough
def test_pixels_and_standardized_images_give_the_same(run, data):
    network = bnjax.train.load(str(run))
    pixels = step.standardization(data.train_images)
    np.testing.assert_array_equal(network.mean, pixels.mean)
    np.testing.assert_array_equal(network.std, pixels.std)
    standardized = (data.test_images.astype(np.float32) - pixels.mean) / pixels.std
    raw = network(jnp.asarray(data.test_images))
    np.testing.assert_allclose(network(jnp.asarray(standardized)), raw, rtol=1e-5, atol=1e-5)


@pytest.mark.family
def test_it_is_in_evaluation_mode(run, data):
    network = bnjax.train.load(run)
    one, many = network(jnp.asarray(data.test_images[:1])), network(jnp.asarray(data.test_images))
    np.testing.assert_allclose(one[0], many[0], rtol=1e-4, atol=1e-5)  # by its own statistics it would say β


def test_a_damaged_newest_checkpoint_is_warned_of(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "copy")
    (copy / "checkpoints" / "2" / checkpoints.DIGEST).write_bytes(b"")
    with pytest.warns(UserWarning, match="2 is damaged"):
        bnjax.train.load(copy)
    assert trained.newest(copy).epoch == 1
    shutil.rmtree(copy / "checkpoints" / "1")
    with pytest.raises(UserError, match="2 is damaged"):
        bnjax.train.load(copy)
    shutil.rmtree(copy / "checkpoints")
    with pytest.raises(UserError, match="holds no checkpoint"):
        bnjax.train.load(copy)


def test_what_is_no_run_is_said(tmp_path):
    with pytest.raises(UserError, match=r"is not a run directory: config\.json: No such file"):
        bnjax.train.load(tmp_path)
    (tmp_path / "config.json").write_text('{"config": {"norm": "other"}, "pixels": {"mean": 0, "std": 1}}')
    with pytest.raises(UserError, match="is not a run's"):
        bnjax.train.load(tmp_path)


def test_a_name_that_is_none():
    with pytest.raises(AttributeError, match="no attribute 'lode'"):
        _ = bnjax.train.lode
