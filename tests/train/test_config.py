"""The settings: one table for Python and the command, and each limit named by the field."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

import bnjax
from bnjax import models
from bnjax.errors import ArgumentError
from bnjax.models import CIFAR_CNN_BN, CIFAR_CNN_NO_BN, NetSpec, dense, flatten
from bnjax.train import config
from bnjax.train.config import Config, settings

RESULTS = Path(__file__).parents[2] / "results"


def test_the_choices_are_the_networks():
    assert get_args(config.Norm) == get_args(models.Norm)
    assert get_args(config.Init) == get_args(models.Init)
    assert get_args(config.DatasetName) == bnjax.data.NAMES == tuple(config.DEFAULT_EPOCHS)


@pytest.mark.parametrize("name", ["norm", "init", "dataset"])
def test_a_choice_that_is_none_names_the_field_and_the_choices(name):
    with pytest.raises(ArgumentError, match=rf"^{name} must be one of \w+, \w+, got other$") as caught:
        Config(**{name: "other"})
    assert caught.value.name == name


def test_none_is_what_is_usual():
    assert Config.of() == Config()
    assert Config.of(dataset="cifar10", epochs=None).epochs == 30
    assert Config.of(dataset="cifar10", epochs=2, train_examples=None) == Config(dataset="cifar10", epochs=2)


def test_a_recipe_is_what_is_usual_and_what_is_given_wins():
    assert Config.of(recipe="chapter") == Config(momentum=0.9, epochs=30)
    assert Config.of(recipe="chapter", epochs=2, momentum=0.0) == Config(epochs=2)
    assert Config.of(recipe="plain", dataset="cifar10") == Config(dataset="cifar10", epochs=30)
    best = Config.of(recipe="best", learning_rate=0.1, label_smoothing=0.0)
    assert (best.schedule, best.augment, best.label_smoothing) == ("one-cycle", "flip-crop", 0.0)
    assert best.learning_rate == 0.1
    assert set(config.RECIPES) == set(get_args(config.Recipe))
    with pytest.raises(ArgumentError, match=r"^recipe must be one of chapter, plain, best, got worst$"):
        Config.of(recipe="worst")


def test_a_spec_says_its_norm_and_must_be_of_images_and_classes():
    for spec, norm, other in ((CIFAR_CNN_BN, "batch", "none"), (CIFAR_CNN_NO_BN, "none", "batch")):
        assert Config.of(spec=spec).norm == norm
        with pytest.raises(ArgumentError, match=f"norm must be {norm}, as in the spec cifarCnn"):
            Config.of(spec=spec, norm=other)
    for layers, shape, message in [
        ([flatten(), dense(3072, 9)], (32, 32, 3), r"and odd makes \(9,\) of \(32, 32, 3\)"),
        ([flatten(), dense(12, 10)], (2, 2, 3), r"and odd makes \(10,\) of \(2, 2, 3\)"),
        ([], (32, 32, 3), "and odd makes"),
    ]:
        with pytest.raises(ArgumentError, match=rf"^spec must make \(10,\) of an image .*{message}"):
            Config.of(spec=NetSpec("odd", layers, shape))


def test_a_config_there_and_back():
    for one in (Config(), Config.of(spec=CIFAR_CNN_NO_BN, recipe="best")):
        assert Config.from_json(json.loads(json.dumps(one.as_json()))) == one
    assert Config.from_json({"norm": "none", "momentum": 0.9}) == Config(norm="none", momentum=0.9)


def test_configs_of_earlier_runs_can_be_read():
    files = sorted(RESULTS.rglob("config.json"))
    assert len(files) > 20
    for file in files:
        written = json.loads(file.read_text())["config"]
        assert written.items() <= Config.from_json(written).as_json().items()


@pytest.mark.parametrize("command", ["train", "lift", "sweep"])
def test_every_field_is_an_option_with_its_help(bnjax_command, command):
    code, out, _ = bnjax_command(command, "--help")
    told = " ".join(out.split())
    assert [setting.name for setting in settings()] == [field.name for field in dataclasses.fields(Config)]
    for setting in settings():
        expected = not (command == "lift" and setting.name in ("norm", "spec"))
        assert (f"--{setting.name.replace('_', '-')} <" in told) == expected
        assert (setting.about.help in told) == expected
    assert code == 0


def test_the_config_needs_neither_flax_nor_orbax():
    code = "import bnjax.train.config, sys; print({'flax', 'optax', 'orbax'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"


def test_rooms_open_when_first_touched():
    code = "import bnjax; print(bnjax.nn.nnx.BatchNorm, bnjax.models.CifarCNN, bnjax.nn.linen.BatchNorm)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.count("bnjax.") == 3
    with pytest.raises(AttributeError, match="has no attribute 'batchnorm'"):
        _ = bnjax.batchnorm
