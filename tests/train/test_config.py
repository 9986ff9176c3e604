"""The settings: one table for Python and the command, and each limit named by the field."""

import dataclasses
import subprocess
import sys
from typing import get_args

import pytest

import bnjax
from bnjax import models
from bnjax.errors import ArgumentError
from bnjax.train import config
from bnjax.train.config import Config, settings


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


@pytest.mark.parametrize("command", ["train", "lift", "sweep"])
def test_every_field_is_an_option_with_its_help(bnjax_command, command):
    code, out, _ = bnjax_command(command, "--help")
    told = " ".join(out.split())
    assert [setting.name for setting in settings()] == [field.name for field in dataclasses.fields(Config)]
    for setting in settings():
        expected = not (command == "lift" and setting.name == "norm")
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
