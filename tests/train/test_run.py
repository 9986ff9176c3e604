"""A run directory: what it holds, when it is refused, and how a run is judged."""

import dataclasses
import json
import math
import os
import re

import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import ops
from bnjax.errors import UserError
from bnjax.spec import NetSpec, conv_bn, dense, flatten, max_pool
from bnjax.train import checkpoints, files, step
from bnjax.train import run as runs
from bnjax.train.config import Config, select_examples
from bnjax.train.files import check_out
from bnjax.train.trained import load


def small(**options):
    return Config(**({"epochs": 2, "batch_size": 16, "learning_rate": 0.01, "init": "glorot"} | options))


def rows(directory):
    return [json.loads(line) for line in (directory / "metrics.jsonl").read_text().splitlines()]


def contents(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_a_run_leaves_its_config_metrics_and_log(tmp_path, data, capsys):
    out = tmp_path / "deep" / "run"
    result = runs.run(small(), data, out)
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoints", "config.json", "log.txt", "metrics.jsonl"
    ]  # fmt: skip
    record = json.loads((out / "config.json").read_text())
    assert record["config"]["learning_rate"] == 0.01
    assert set(record["environment"]) >= {"python", "jax", "flax", "optax", "backend"}
    assert record["environment"]["cpu_kernels"] == ops.cpu.available()  # whose numbers these are
    first, last = rows(out)
    assert list(first) == [
        "epoch", "train_loss", "test_accuracy", "test_correct", "test_count", "test_loss", "test_predicted",
        "test_chance", "test_not_finite", "learning_rate", "seconds", "images_per_second", "outcome",
    ]  # fmt: skip
    assert (first["epoch"], last["epoch"], last["test_count"]) == (1, 2, 20)
    assert last["test_accuracy"] == last["test_correct"] / 20
    assert (sum(last["test_predicted"]), last["test_chance"], last["test_not_finite"]) == (20, 2, 0)
    assert (result.train_loss, result.test_accuracy) == (last["train_loss"], last["test_accuracy"])
    log = (out / "log.txt").read_text()
    assert re.fullmatch(
        r"(Epoch \d/2: loss=\d+\.\d{6} lr=0\.010000\ntest accuracy: \d+/20 = \d+\.\d\d%\n){2}", log
    )
    assert capsys.readouterr().out == log


def test_same_config_same_numbers(tmp_path, data):
    results = [runs.run(small(), data, tmp_path / name) for name in "ab"]
    assert results[0] == results[1]


def test_a_run_whose_loss_is_not_finite_stops_at_once_and_says_so(tmp_path, data):
    result = runs.run(small(norm="none", learning_rate=1e20, epochs=5), data, tmp_path / "run")
    assert (result.outcome, result.train_loss, result.test_accuracy) == ("diverged", None, None)
    (row,) = rows(tmp_path / "run")
    assert row["outcome"] == "diverged"
    assert (tmp_path / "run" / "log.txt").read_text() == (
        "Epoch 1/5: loss=nan lr=100000000000000000000.000000\ndiverged: the loss is not finite\n"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 0}, "epochs must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be a positive number, got 0.0"),
        ({"learning_rate": math.nan}, "learning_rate must be a positive number, got nan"),
        ({"momentum": 1.0}, "momentum must be at least 0 and less than 1, got 1.0"),
        ({"weight_decay": -1e-4}, "weight_decay must be 0 or a positive number, got -0.0001"),
        ({"weight_decay": math.nan}, "weight_decay must be 0 or a positive number, got nan"),
        ({"label_smoothing": 1.0}, "label_smoothing must be at least 0 and less than 1, got 1.0"),
        ({"schedule": "linear"}, "schedule must be one of constant, cosine, one-cycle, got linear"),
        ({"augment": "cutout"}, "augment must be one of none, flip-crop, got cutout"),
        ({"momentum": math.nan}, "momentum must be at least 0 and less than 1, got nan"),
        ({"seed": -1}, "seed must be from 0 to 4294967295, got -1"),
        ({"train_examples": 0}, "train_examples must be at least 1, got 0"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Config(**options)


def test_options_that_do_not_fit_the_data(tmp_path, data):
    for options, message in [
        ({"train_examples": 33}, "train_examples must be at most 32, got 33"),
        ({"batch_size": 33}, "batch_size must be at most the 32 training images, got 33"),
        (
            {"batch_size": 16, "train_examples": 9},
            "batch_size must be at most the 9 training images, got 16",
        ),
    ]:
        with pytest.raises(UserError, match=re.escape(message)):
            runs.run(small(**options), data, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_train_examples_are_the_first(data):
    chosen = select_examples(data, small(train_examples=20))
    assert len(chosen.train_images) == len(chosen.train_labels) == 20
    assert (chosen.train_labels == data.train_labels[:20]).all()
    assert len(chosen.test_images) == 20


def test_out_that_holds_a_run_is_refused_and_kept(tmp_path, data):
    out = tmp_path / "run"
    runs.run(small(epochs=1), data, out)
    before = contents(out)
    for config in (small(epochs=1), small(epochs=1, seed=5)):
        with pytest.raises(
            UserError, match=r"already holds a run \(norm=batch, dataset=synthetic.*remove it"
        ):
            runs.run(config, data, out)
    assert contents(out) == before


def test_out_that_holds_other_files_is_refused_and_kept(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="already holds files"):
        check_out(tmp_path)
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(UserError, match="already holds files"):
        check_out(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_out_that_is_a_file_or_below_one(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    with pytest.raises(UserError, match="is a file: name a folder"):
        check_out(path)
    with pytest.raises(UserError, match="cannot be made"):
        check_out(path / "run")


def test_an_empty_folder_will_do(tmp_path, data):
    runs.run(small(epochs=1), data, tmp_path)
    assert (tmp_path / "config.json").exists()


def test_read_only_out(tmp_path, data, monkeypatch):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):  # root writes everywhere: let the system say what it says to others
        monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UserError, match="is read-only"):
        check_out(tmp_path)
    with pytest.raises(UserError, match=r"cannot be made, .* is not a writable folder"):
        runs.run(small(), data, tmp_path / "run")
    tmp_path.chmod(0o700)


def test_out_that_cannot_be_written_after_all(tmp_path, data, monkeypatch):
    """A full disk, say: what the check could not see is still one clear line."""

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.Path, "mkdir", full)
    with pytest.raises(UserError, match=r"cannot be written \(No space left on device\)"):
        runs.run(small(), data, tmp_path / "run")


def untimed(directory):
    return [
        {k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in rows(directory)
    ]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory, data):
    out = tmp_path_factory.mktemp("unbroken") / "run"
    return out, runs.run(small(momentum=0.5), data, out)


def break_off(monkeypatch, module, name, call):
    """Interrupt a run at the `call`-th call of a function, before it does anything."""
    calls = iter(range(1, 100))
    whole = getattr(module, name)

    def broken(*args, **kwargs):
        if next(calls) == call:
            raise KeyboardInterrupt
        return whole(*args, **kwargs)

    monkeypatch.setattr(module, name, broken)


@pytest.mark.family
@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (step, "train_epoch", 1),  # before any checkpoint
        (step, "evaluate", 2),  # within an epoch
        (checkpoints, "save", 2),  # after an epoch was written and before it was kept
    ],
)
def test_a_resumed_run_is_the_run_in_one_go(
    tmp_path, data, unbroken, monkeypatch, capsys, module, name, call
):
    config, out = small(momentum=0.5), tmp_path / "run"
    with monkeypatch.context() as patch:
        break_off(patch, module, name, call)
        with pytest.raises(KeyboardInterrupt):
            runs.run(config, data, out)
    capsys.readouterr()
    result = runs.run(config, data, out, resume=True)
    assert ("resumed after epoch" in capsys.readouterr().out) == (call > 1)
    assert result == unbroken[1]
    assert untimed(out) == untimed(unbroken[0])
    assert (out / "log.txt").read_text() == (unbroken[0] / "log.txt").read_text()
    assert sorted(p.name for p in out.iterdir()) == sorted(p.name for p in unbroken[0].iterdir())


SPEC = NetSpec("thin", [conv_bn(3, 4, 3, stride=2), max_pool(4, 4), flatten(), dense(64, 10)])


@pytest.mark.thorough
def test_a_run_of_every_option_and_a_spec_resumed_is_the_run_in_one_go(tmp_path, data, monkeypatch):
    config = Config.of(recipe="best", epochs=3, batch_size=8, spec=SPEC)
    whole = runs.run(config, data, tmp_path / "whole")
    with monkeypatch.context() as patch:
        break_off(patch, step, "train_epoch", 3)
        with pytest.raises(KeyboardInterrupt):
            runs.run(config, data, tmp_path / "run")
    assert runs.run(config, data, tmp_path / "run", resume=True) == whole
    assert untimed(tmp_path / "run") == untimed(tmp_path / "whole")
    rates = [row["learning_rate"] for row in rows(tmp_path / "run")]
    steps = len(data.train_images) // 8  # of an epoch
    schedule = step.learning_rate(config, 3 * steps)
    np.testing.assert_allclose(rates, [schedule(0), schedule(steps), schedule(2 * steps)], rtol=1e-5)
    record = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert record["spec"]["layers"][0] == {
        "layer": "conv_bn", "inputs": 3, "outputs": 4, "kernel": 3, "stride": 1 + 1
    }  # fmt: skip
    images = jnp.asarray(data.test_images)
    assert load(tmp_path / "run")(images).tolist() == load(tmp_path / "whole")(images).tolist()
    for change, message in [
        ({"epochs": 4}, "was run with epochs=3, not 4"),  # the schedule would be another from the start
        ({"spec": dataclasses.replace(SPEC, name="other")}, "was run with another spec"),
        ({"augment": "none"}, "was run with augment=flip-crop, not none"),
    ]:
        with pytest.raises(UserError, match=message):
            runs.run(dataclasses.replace(config, **change), data, tmp_path / "run", resume=True)
    with pytest.raises(UserError, match=r"already holds a run \(norm=batch, .*spec=thin\)"):
        runs.run(config, data, tmp_path / "run")


@pytest.mark.parametrize(
    "options", [{}, {"norm": "none", "learning_rate": 1e20}], ids=["trained", "diverged"]
)
def test_a_run_that_has_ended_is_not_trained_again(tmp_path, data, monkeypatch, options):
    result = runs.run(small(**options), data, tmp_path / "run")
    before = contents(tmp_path / "run")
    break_off(monkeypatch, step, "train_epoch", 1)
    assert runs.run(small(**options), data, tmp_path / "run", resume=True) == result
    assert contents(tmp_path / "run") == before


def test_a_run_of_another_config_is_not_resumed(tmp_path, data):
    out = tmp_path / "run"
    runs.run(small(epochs=1), data, out)
    before = contents(out)
    with pytest.raises(UserError, match=r"cannot resume: .*run was run with learning_rate=0.01, not 0.02"):
        runs.run(small(epochs=1, learning_rate=0.02), data, out, resume=True)
    assert contents(out) == before


def test_resume_begins_a_run_where_there_is_none(tmp_path, data):
    runs.run(small(epochs=1), data, tmp_path / "run", resume=True)
    assert len(rows(tmp_path / "run")) == 1


@pytest.mark.parametrize("damage", ["", "Epoch 1/1: loss=9", None])
def test_the_log_is_written_again_from_the_metrics(tmp_path, data, damage):
    log = tmp_path / "run" / "log.txt"
    runs.run(small(epochs=1), data, tmp_path / "run")
    before = log.read_text()
    log.unlink() if damage is None else log.write_text(damage)
    runs.run(small(epochs=1), data, tmp_path / "run", resume=True)
    assert log.read_text() == before


def test_a_run_that_lost_lines_is_not_resumed(tmp_path, data):
    runs.run(small(epochs=1), data, tmp_path / "run")
    (tmp_path / "run" / "metrics.jsonl").write_text("")
    with pytest.raises(UserError, match="lacks lines of the epochs before its checkpoint 1"):
        runs.run(small(epochs=1), data, tmp_path / "run", resume=True)


def test_a_run_goes_on_to_more_epochs_and_is_the_run_of_so_many(tmp_path, data, unbroken):
    runs.run(small(momentum=0.5, epochs=1), data, tmp_path / "run")
    assert runs.run(small(momentum=0.5), data, tmp_path / "run", resume=True) == unbroken[1]
    assert untimed(tmp_path / "run") == untimed(unbroken[0])
    for name in ("config.json", "log.txt"):
        assert (tmp_path / "run" / name).read_text() == (unbroken[0] / name).read_text()
    with pytest.raises(UserError, match="was run with epochs=2, not 1"):
        runs.run(small(momentum=0.5, epochs=1), data, tmp_path / "run", resume=True)


def test_a_run_on_other_images_is_not_resumed(tmp_path, data):
    runs.run(small(epochs=1), data, tmp_path / "run")
    other = data._replace(train_images=255 - data.train_images)
    with pytest.raises(UserError, match="was run on other images"):
        runs.run(small(epochs=1), other, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train_labels": np.full(32, 10, np.int32)}, "train_labels must be from 0 to 9, got 10 to 10"),
        ({"test_labels": np.full(20, -1, np.int32)}, "test_labels must be from 0 to 9, got -1 to -1"),
        ({"test_labels": np.zeros(20, np.float32)}, "test_labels must be integers"),
        ({"train_labels": np.zeros(31, np.int32)}, "train_labels must be integers of shape (32,)"),
        ({"train_images": np.zeros((32, 28, 28, 1), np.uint8)}, "train_images must be uint8 of shape (N, 32"),
        ({"test_images": np.zeros((20, 3, 32, 32), np.uint8)}, "got uint8 of shape (20, 3, 32, 32)"),
        ({"train_images": np.zeros((32, 32, 32, 3), np.float32)}, "train_images must be uint8"),
        ({"test_images": np.zeros((0, 32, 32, 3), np.uint8)}, "test_images must be uint8"),
    ],
)
def test_data_that_the_networks_do_not_take_are_refused_by_name(tmp_path, data, change, message):
    with pytest.raises(UserError, match=re.escape(message)):
        runs.run(small(), data._replace(**change), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_label_begins_every_line_printed_and_none_of_the_log(tmp_path, data, capsys):
    runs.run(small(epochs=1), data, tmp_path / "run", label="norm batch")
    log = (tmp_path / "run" / "log.txt").read_text().splitlines()
    assert capsys.readouterr().out.splitlines() == [f"norm batch: {line}" for line in log]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"config": 1}'])
def test_what_is_no_run_is_not_resumed(tmp_path, data, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config.json is not a run's"):
        runs.run(small(), data, tmp_path, resume=True)
