"""Processes that train as one: the numbers of one alone but for rounding; one is lost, and the others end."""

import json
import os
import signal
import socket
import subprocess
import sys

import jax
import numpy as np
import pytest

from bnjax.data import synthetic
from bnjax.errors import UserError
from bnjax.spec import NetSpec, conv_bn, dense, flatten
from bnjax.train import ending, processes
from bnjax.train import run as runs
from bnjax.train.config import Config
from bnjax.train.directory import read_rows

THIN = NetSpec("thin", [conv_bn(3, 4, 3, stride=4), flatten(), dense(256, 10)])
CONFIG = Config(spec=THIN, epochs=3, batch_size=16, learning_rate=1e-3, momentum=0.9, augment="flip-crop")
OPTIONS = (
    "--spec", "thin.py:THIN", "--batch-size", "16", "--learning-rate", "0.001", "--momentum", "0.9",
    "--augment", "flip-crop", "--out", "run",
)  # fmt: skip
RTOL = 1e-5  # sums in another order, through a few steps
# the embedded set, smaller; and a process that does something to itself within a step of its third epoch
PROGRAM = """
import os, signal, sys
import bnjax.data
from bnjax.data import synthetic
from bnjax.train import progress, step
small = synthetic.generate(train=32, test=21)
bnjax.data.load = lambda *_: small
progress.PLAIN_INTERVAL_SECONDS = float("inf")  # on a slow machine too, stderr holds errors alone
within = int(sys.argv.pop(1))
if within:
    whole = step.train_epoch
    def broken_off(steps, state, images, labels, batches, first=0, **options):
        def train(*args):
            begun = steps.train(*args)  # runs on in other threads, with the other processes
            if first == 4:
                os.kill(os.getpid(), within)
            return begun
        return whole(steps._replace(train=train), state, images, labels, batches, first=first, **options)
    step.train_epoch = broken_off
from bnjax.cli import main
main()
"""


@pytest.fixture(scope="module")
def data():
    return synthetic.generate(train=32, test=21)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, data):
    """The losses of three epochs, by one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    runs.run(CONFIG, data, folder, devices=1)
    return [row["train_loss"] for row in read_rows(folder)]


@pytest.fixture
def together(tmp_path):
    """Starts two processes in one folder: (command, options, within) -> them; what is left of them is killed.

    `within`: the signals that they send themselves, 0 for none; `own`: what each is told beside the options.
    """
    (tmp_path / "thin.py").write_text(
        "from bnjax.models import *\n"
        "THIN = NetSpec('thin', [conv_bn(3, 4, 3, stride=4), flatten(), dense(256, 10)])\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    environment = {name: value for name, value in environment.items() if "_proxy" not in name.lower()}
    started = []

    def start(*options, command="train", within=(0, 0), own=((), ())):
        at = f"127.0.0.1:{free_port()}"
        # not the cache that the tests share: the first writes it, and killed may leave half a file in it
        kept = {"JAX_COMPILATION_CACHE_DIR": ""} if within[0] else {}
        for process in (0, 1):
            place = ("--coordinator", at, "--processes", "2", "--process", str(process))
            arguments = [str(int(within[process])), command, *options, *place, *own[process]]
            started.append(
                subprocess.Popen(
                    [sys.executable, "-c", PROGRAM, *arguments],
                    cwd=tmp_path,
                    env=environment | kept,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def ended(process):
    """Its exit code, stdout and stderr."""
    out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def train_losses(folder):
    return [row["train_loss"] for row in read_rows(folder / "run")]


LOST = (2, f"bnjax: {ending.LOST}\n")


@pytest.mark.thorough
def test_two_give_the_numbers_of_one_and_one_killed_within_a_step_ends_the_other(
    together, tmp_path, alone, data
):
    first, second = together(*OPTIONS, "--epochs", "3", within=(0, signal.SIGKILL))
    assert ended(second) == (-signal.SIGKILL, "train: 3 epochs of synthetic, as process 1 of 2\n", "")
    code, out, err = ended(first)
    assert (code, err) == LOST
    assert out.splitlines()[0] == "train: 3 epochs of synthetic, in run"
    assert len(out.splitlines()) == 5
    np.testing.assert_allclose(train_losses(tmp_path), alone[:2], rtol=RTOL)
    environment = json.loads((tmp_path / "run" / "config.json").read_text())["environment"]
    assert (environment["devices"], environment["processes"]) == (2, 2)
    # and one process goes on with what the two have left
    runs.run(CONFIG, data, tmp_path / "run", devices=1, resume=True)
    np.testing.assert_allclose(train_losses(tmp_path), alone, rtol=RTOL)


@pytest.mark.slow
def test_two_go_on_with_a_run_of_one_by_the_checkpoint_of_the_first(together, tmp_path, alone, data):
    whole = tmp_path / "run"
    runs.run(Config(**vars(CONFIG) | {"epochs": 1}), data, whole, devices=1)
    elsewhere = tmp_path / "none"  # the second has no such folder
    for process in together(*OPTIONS, "--epochs", "3", "--resume", own=((), ("--out", str(elsewhere)))):
        code, out, err = ended(process)
        assert (code, err) == (0, "")
    assert out == "train: 3 epochs of synthetic, as process 1 of 2\n"
    assert not elsewhere.exists()
    np.testing.assert_allclose(train_losses(tmp_path), alone, rtol=RTOL)


@pytest.mark.slow
def test_a_sweep_of_two(together, tmp_path, alone):
    first, second = together(*OPTIONS, "--learning-rate", "0.002", "--epochs", "1", command="sweep")
    code, out, err = ended(first)
    assert (code, err, out.splitlines()[-1]) == (0, "", "map: run/sweep.png")
    assert ended(second) == (0, "sweep: 2 runs, 1 epoch of synthetic, as process 1 of 2\n", "")
    rows = json.loads((tmp_path / "run" / "summary.json").read_text())["runs"]
    assert [row["learning_rate"] for row in rows] == [0.001, 0.002]
    np.testing.assert_allclose(rows[0]["train_loss"], alone[0], rtol=RTOL)


@pytest.mark.slow
def test_the_first_killed_ends_the_other(together):
    first, second = together(*OPTIONS, "--epochs", "3", within=(signal.SIGKILL, 0))
    assert ended(first)[0] == -signal.SIGKILL
    assert ended(second)[::2] == LOST


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_one_that_hangs_ends_the_other_within_a_minute(together, stopped):
    within = [0, 0]
    within[stopped] = signal.SIGSTOP
    processes = together(*OPTIONS, "--epochs", "3", within=within)
    os.waitid(os.P_PID, processes[stopped].pid, os.WSTOPPED)
    assert processes[1 - stopped].wait(timeout=60) == 2
    assert ended(processes[1 - stopped])[::2] == LOST
    processes[stopped].send_signal(signal.SIGCONT)  # back again, it finds that it is too late
    assert ended(processes[stopped])[::2] == LOST


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
@pytest.mark.parametrize("told", [(1, 1), (1, 0), (0, 1)], ids=["both", "first", "second"])
def test_told_to_stop_they_end_quietly(together, how, told):
    quiet = {signal.SIGTERM: (143, ""), signal.SIGINT: (130, "bnjax: interrupted\n")}[how]
    found = [ended(p)[::2] for p in together(*OPTIONS, "--epochs", "3", within=[how * t for t in told])]
    assert found == [quiet if t else LOST for t in told]


@pytest.mark.slow
def test_given_another_config_the_one_that_differs_says_so(together, tmp_path):
    first, second = together(*OPTIONS, own=((), ("--learning-rate", "0.2")))
    told = "bnjax: process 1 differs from process 0 in learning_rate: 0.2, not 0.001\n"
    assert ended(second)[::2] == (2, told)
    assert ended(first)[::2] == LOST
    assert not train_losses(tmp_path)


@pytest.mark.slow
def test_what_the_first_cannot_do_ends_both(together, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").write_text("kept")
    first, second = together(*OPTIONS)
    code, out, err = ended(first)
    assert (code, out) == (2, "")
    assert err.startswith("bnjax: --out run already holds files")
    code, _, err = ended(second)
    assert (code, err.count("\n")) == (2, 1)
    assert "process 0 cannot be reached at 127.0.0.1:" in err


@pytest.mark.slow
def test_where_not_all_come_it_says_so(together):
    first, second = together(*OPTIONS)
    second.kill()
    code, _, err = ended(first)
    assert code == 2
    assert err.startswith("bnjax: not all 2 processes came to 127.0.0.1:")
    assert err.count("\n") == 1


PLACE = {"--coordinator": "127.0.0.1:1", "--processes": "2", "--process": "1"}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"--coordinator": None},
            "--coordinator is missing: --coordinator, --processes and --process go together",
        ),
        ({"--processes": None}, "--processes is missing: "),
        ({"--process": None}, "--process is missing: "),
        ({"--coordinator": None, "--process": None}, "--coordinator is missing: "),
        ({"--process": "2"}, "--process must be from 0 to 1, got 2"),
        ({"--process": "-1"}, "--process must be from 0 to 1, got -1"),
        ({"--processes": "0"}, "--processes must be at least 1, got 0"),
        ({"--coordinator": "there"}, "--coordinator must be HOST:PORT, got there"),
        ({"--coordinator": ":80"}, "--coordinator must be HOST:PORT, got :80"),
        ({"--coordinator": "there:99999"}, "--coordinator must be HOST:PORT, got there:99999"),
        ({}, "process 0 cannot be reached at 127.0.0.1:1: Connection refused"),
    ],
    ids=str,
)
def test_what_will_not_do_is_one_line(bnjax_command, tmp_path, monkeypatch, given, message):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(processes, "JOINING_SECONDS", 0)
    place = [word for pair in (PLACE | given).items() if None not in pair for word in pair]
    code, out, err = bnjax_command("train", *place)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"bnjax: {message}")
    assert not list(tmp_path.iterdir())


def test_a_port_that_is_taken_is_one_line(bnjax_command, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.create_server(("", 0)) as server:
        at = f"127.0.0.1:{server.getsockname()[1]}"
        found = bnjax_command("train", "--coordinator", at, "--processes", 2, "--process", 0)
    assert found == (2, "", f"bnjax: --coordinator {at}: Address already in use\n")


def test_a_coordinator_with_a_long_address_is_taken_apart():
    assert processes._address("[::1]:80") == ("::1", 80)
    assert processes._address("node-0.example:65535") == ("node-0.example", 65535)


def test_what_differs_from_the_first_is_named(monkeypatch):
    theirs = {"seed": 1, "spec": {"name": "thin"}, "runs": ["a"]}
    monkeypatch.setattr(processes, "from_first", lambda _: theirs)
    monkeypatch.setattr(jax, "process_index", lambda: 3)
    processes.agree(seed=1, spec={"name": "thin"}, runs=("a",))  # JSON knows no tuples
    with pytest.raises(UserError, match=r"^process 3 differs from process 0 in seed: 2, not 1$"):
        processes.agree(seed=2, spec={"name": "thin"}, runs=["a"])
    with pytest.raises(UserError, match=r"^process 3 differs from process 0 in spec$"):
        processes.agree(seed=1, spec={"name": "thick"}, runs=["a"])
    with pytest.raises(UserError, match="in runs"):
        processes.agree(seed=1, spec={"name": "thin"})
