"""The command: what it runs, and that every failure a user can cause is one line and exit code 2."""

import io
import json
import math
import os
import re
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

import bnjax.data
from bnjax import cli
from bnjax.data import synthetic


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Run in an empty folder, with a data set of a few images in the place of the embedded one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    small = synthetic.generate(train=32, test=20)
    real = bnjax.data.load
    monkeypatch.setattr("bnjax.cli.COMPILING_SECONDS", 1e6)  # also where the kernels are to be compiled
    monkeypatch.setattr("bnjax.train.progress.PLAIN_INTERVAL_SECONDS", math.inf)  # on a slow machine too
    monkeypatch.setattr(
        bnjax.data, "load", lambda name, *rest: small if name == "synthetic" else real(name, *rest)
    )


SMALL = ("--epochs", 1, "--batch-size", 16, "--learning-rate", 0.01)


def test_train(bnjax_command, tmp_path):
    code, out, err = bnjax_command("train", "--norm", "none", *SMALL, "--momentum", 0.5, "--out", "run")
    assert (code, err) == (0, "")
    assert re.match(
        r"train: 1 epoch of synthetic, in run\n"
        r"Epoch 1/1: loss=\d+\.\d{6} lr=0\.010000\ntest accuracy: \d+/20 = .*%\nunstable: run\n",
        out,
    )
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config == {
        "norm": "none", "dataset": "synthetic", "epochs": 1, "batch_size": 16, "learning_rate": 0.01,
        "momentum": 0.5, "init": "he", "seed": 0, "train_examples": None, "schedule": "constant",
        "weight_decay": 0.0, "augment": "none", "label_smoothing": 0.0, "spec": None,
    }  # fmt: skip


def test_lift(bnjax_command, tmp_path):
    code, out, _ = bnjax_command("lift", *SMALL, "--init", "glorot", "--seed", 3, "--out", "lifted")
    assert code == 0
    assert out.splitlines()[-1] == f"figure: {os.path.join('lifted', 'lift.png')}"
    assert {p.name for p in (tmp_path / "lifted").iterdir()} >= {"lift.png", "lift.svg", "summary.json"}


def test_without_out_a_new_folder_is_made(bnjax_command, tmp_path):
    assert bnjax_command("train", *SMALL)[0] == 0
    (made,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"train-synthetic-\d{8}-\d{6}", made.name)


@pytest.mark.thorough
def test_epochs_are_3_on_synthetic_unless_said(bnjax_command, tmp_path):
    bnjax_command("train", "--batch-size", 32, "--learning-rate", 0.01, "--out", "run")
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("command", ["train", "lift"])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--epochs", 0), "--epochs must be at least 1, got 0"),
        (("--epochs", "many"), "--epochs"),
        (("--batch-size", 64), "--batch-size must be at most the 32 training images, got 64"),
        (("--train-examples", 99), "--train-examples must be at most 32, got 99"),
        (("--learning-rate", -1), "--learning-rate must be a positive number, got -1.0"),
        (("--dataset", "mnist"), "'mnist' is not one of 'synthetic', 'cifar10'"),
        (("--init", "zero"), "'zero' is not one of 'he', 'glorot'"),
        (("--dataset", "cifar10", "--data-dir", "nowhere"), "no CIFAR-10 in nowhere"),
        (("--data-dir", "nowhere"), "--data-dir is for cifar10, and the data set is synthetic: give"),
        (("--data-dir", ""), "'' names nothing"),
        (("--out", "there"), "--out there is a file: name a folder"),
        (("--out", "full"), "--out full already holds files"),
        (("--resum",), "No such option"),
        (("extra",), "extra"),
    ],
    ids=str,
)
def test_a_users_mistake_is_one_line_and_code_2(bnjax_command, tmp_path, command, arguments, message):
    (tmp_path / "there").write_text("kept")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("kept")
    code, out, err = bnjax_command(command, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("bnjax: ")
    assert message in err
    assert len(err.splitlines()) == 1
    assert (tmp_path / "there").read_text() == (tmp_path / "full" / "file").read_text() == "kept"
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    "arguments", [("tarin",), ("data",), ("data", "mnist", "--data-dir", "d"), ("data", "cifar10")]
)
def test_a_command_that_does_not_exist_or_lacks_something(bnjax_command, arguments):
    code, out, err = bnjax_command(*arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


def test_data_dir_from_the_environment(bnjax_command, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", "elsewhere")
    assert "no CIFAR-10 in elsewhere" in bnjax_command("train", "--dataset", "cifar10")[2]


@pytest.mark.parametrize("package", ["optax", "orbax", "filelock", "matplotlib", "rich"])
def test_a_missing_package_names_the_extra(bnjax_command, monkeypatch, package):
    _forget(monkeypatch, package)
    code, _, err = bnjax_command("lift", *SMALL)
    assert code == 2
    assert re.fullmatch(rf'bnjax: {package}(\.\w+)? is not installed: pip install "bnjax\[train\]"\n', err)


def test_with_the_core_alone_it_names_the_extra(monkeypatch, capsys):
    from bnjax import __main__

    _forget(monkeypatch, "typer")
    monkeypatch.delitem(sys.modules, "bnjax.cli", raising=False)
    with pytest.raises(SystemExit) as exit_:
        __main__.main()
    told = capsys.readouterr()
    assert exit_.value.code == 2
    assert (told.out, told.err) == ("", 'bnjax: typer is not installed: pip install "bnjax[train]"\n')


def _forget(monkeypatch, package):
    """As if the package were not installed: no import of it succeeds."""
    for module in [m for m in sys.modules if m.split(".")[0] == package or m.startswith("bnjax.train.")]:
        parent, _, name = module.rpartition(".")
        monkeypatch.delitem(sys.modules, module)
        monkeypatch.delattr(sys.modules.get(parent), name, raising=False)  # or it would keep a second one
    monkeypatch.setitem(sys.modules, package, None)


def _interrupt(*args, **options):
    raise KeyboardInterrupt


def test_interrupted_is_one_line(bnjax_command, monkeypatch):
    monkeypatch.setattr(bnjax.data, "load", _interrupt)
    assert bnjax_command("train")[::2] == (130, "bnjax: interrupted\n")


@pytest.mark.parametrize("command", ["train", "lift", "sweep", "evaluate", "data", "verify", "page", "bench"])
def test_help_has_an_example_its_files_and_exit_codes(bnjax_command, command):
    code, out, _ = bnjax_command(command, "--help")
    assert code == 0
    assert f"Example: bnjax {command}" in out
    assert "Files: " in out
    assert "Exit codes: 0 done" in out


def test_help_of_all_has_them_too_and_how_to_complete(bnjax_command):
    code, out, _ = bnjax_command("--help")
    assert code == 0
    for told in ("Example: bnjax lift", "Files: ", "Exit codes: 0 done", "--install-completion"):
        assert told in out
    assert "..." not in out[out.index("Commands:") :]  # what a command does is said whole


def test_a_shell_completes_commands(bnjax_command, monkeypatch):
    monkeypatch.setenv("_BNJAX_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "bnjax ev")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert bnjax_command() == (0, "evaluate\n", "")


def test_as_a_module_in_a_process_of_its_own():
    done = subprocess.run(
        [sys.executable, "-m", "bnjax", "train", "--epochs", "0"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "bnjax: --epochs must be at least 1, got 0\n"


def test_import_bnjax_pulls_in_nothing_heavier_than_jax():
    heavy = ["flax", "optax", "tensorflow_datasets", "matplotlib", "rich", "typer"]
    code = f"import bnjax, sys; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "runs"), "bnjax: runs: Permission denied\n"),
        (OSError("no space left"), "bnjax: no space left\n"),
    ],
    ids=["named", "unnamed"],
)
def test_an_operating_system_error_is_one_line(bnjax_command, monkeypatch, error, line):
    def fail(*_):
        raise error

    monkeypatch.setattr(bnjax.data, "load", fail)
    assert bnjax_command("train", "--out", "run") == (2, "", line)


@pytest.mark.thorough
def test_resume(bnjax_command, tmp_path):
    run = ("train", *SMALL, "--out", "run", "--resume")
    assert bnjax_command(*run, "--norm", "none")[0] == 0
    before = (tmp_path / "run" / "metrics.jsonl").read_text()
    code, out, _ = bnjax_command(*run, "--norm", "none")
    assert (code, out) == (0, "train: 1 epoch of synthetic, in run\nresumed after epoch 1\nunstable: run\n")
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == before
    code, _, err = bnjax_command(*run, "--norm", "batch")
    assert (code, err.count("\n")) == (2, 1)
    assert "was run with norm=none, not batch" in err


def test_resume_needs_a_folder(bnjax_command):
    assert bnjax_command("train", "--resume") == (
        2,
        "",
        "bnjax: --resume needs --out: the folder of the run\n",
    )


@pytest.fixture
def tiny(tmp_path):
    """Options: a network that is compiled in a second."""
    (tmp_path / "net.py").write_text(
        "from bnjax.models import *\n"
        "TINY = NetSpec('tiny', [conv2d(3, 4, 3, relu, stride=4), flatten(), dense(256, 10)])\n"
    )
    return ("--spec", "net.py:TINY")


@pytest.mark.thorough
def test_a_spec_of_ones_own_and_a_recipe(bnjax_command, tmp_path, tiny):
    arguments = ("train", *tiny, "--recipe", "best", *SMALL, "--out", "run")
    assert bnjax_command(*arguments)[::2] == (0, "")
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert (config["norm"], config["spec"]["name"], config["augment"]) == ("none", "tiny", "flip-crop")
    assert (config["epochs"], config["learning_rate"], config["schedule"]) == (1, 0.01, "one-cycle")
    assert json.loads(bnjax_command("evaluate", "run")[1])["epoch"] == 1
    code, out, err = bnjax_command("train", *tiny, "--norm", "batch")
    assert (code, out) == (2, "")
    assert err == "bnjax: --norm must be none, as in the spec tiny, got batch\n"
    assert bnjax_command("train", "--spec", "net.py:NO")[2].startswith("bnjax: --spec net.py:NO: there is")
    assert bnjax_command("train", "--recipe", "worst")[0] == 2


def test_a_sweep_takes_what_the_recipe_says_where_nothing_is_given(bnjax_command, monkeypatch):
    from bnjax.train import sweep

    found = []

    def remember(configs, *_, **__):
        found.extend(configs)
        return [SimpleNamespace(outcome="trained", test_accuracy=None)] * len(configs)

    monkeypatch.setattr(sweep, "sweep", remember)
    bnjax_command("sweep", "--recipe", "chapter", "--seed", 1, "--seed", 2, "--batch-size", 16)
    assert [(c.norm, c.seed) for c in found] == [("batch", 1), ("batch", 2), ("none", 1), ("none", 2)]
    assert {(c.momentum, c.learning_rate, c.init, c.epochs) for c in found} == {(0.9, 0.1, "he", 30)}


def test_evaluate(bnjax_command, tmp_path, tiny):
    bnjax_command("train", *tiny, *SMALL, "--out", "run")
    metrics = json.loads((tmp_path / "run" / "metrics.jsonl").read_text())
    code, out, err = bnjax_command("evaluate", "run")
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert (found.pop("run"), found.pop("dataset")) == ("run", "synthetic")
    assert found == {name: metrics[name] for name in found}
    assert set(found) > {"epoch", "test_accuracy", "test_predicted"}


def test_evaluate_takes_a_run_that_was_broken_off_after_an_epoch(bnjax_command, monkeypatch, tiny):
    from bnjax.train import step

    whole, calls = step.train_epoch, iter(range(9))

    def broken(*args, **options):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return whole(*args, **options)

    monkeypatch.setattr(step, "train_epoch", broken)
    assert bnjax_command("train", *tiny, *SMALL, "--epochs", 2, "--out", "run")[0] == 130
    code, out, _ = bnjax_command("evaluate", "run")
    assert (code, json.loads(out)["epoch"]) == (0, 1)


@pytest.mark.thorough
@pytest.mark.parametrize("what", ["absent", "empty", "begun"])
def test_evaluate_of_what_holds_no_network_is_one_line(bnjax_command, tmp_path, what, monkeypatch):
    if what == "empty":
        (tmp_path / "run").mkdir()
    if what == "begun":
        with monkeypatch.context() as patch:
            patch.setattr("bnjax.train.step.train_epoch", _interrupt)
            bnjax_command("train", *SMALL, "--out", "run")
    code, out, err = bnjax_command("evaluate", "run")
    told = "holds no checkpoint" if what == "begun" else "is not a run directory: config.json: No such file"
    assert (code, out) == (2, "")
    assert err.startswith(f"bnjax: run {told}")
    assert err.count("\n") == 1


@pytest.mark.thorough
def test_sweep(bnjax_command, tmp_path):
    code, out, _ = bnjax_command(
        "sweep", "--norm", "none", "--learning-rate", 0.01, "--learning-rate", 1e20, "--epochs", 1,
        "--batch-size", 16, "--out", "swept",
    )  # fmt: skip
    assert code == 0
    assert re.search(r"1/2 none-he-momentum0-lr0.01-seed0: unstable, test accuracy \d+\.\d\d%\n", out)
    assert "2/2 none-he-momentum0-lr1e+20-seed0: diverged\n" in out
    figures = [os.path.join("swept", name) for name in ("sweep.png", "headroom.png")]
    assert out.endswith("map: {}\nheadroom: {}\n".format(*figures))
    assert len(json.loads((tmp_path / "swept" / "summary.json").read_text())["runs"]) == 2


def test_what_takes_long_is_said_to_be_at_work():
    said = io.StringIO()
    with cli._said_after(0.0, "at work", said):
        while not said.getvalue():
            time.sleep(0.01)
    assert said.getvalue() == "at work\n"


def test_what_does_not_take_long_says_nothing():
    said = io.StringIO()
    with cli._said_after(1000.0, "at work", said):
        pass
    assert said.getvalue() == ""
