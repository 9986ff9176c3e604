"""A run that is killed, told to stop, or finds no room: at most one line, whole on disk, resumed."""

import json
import os
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

OPTIONS = (
    "--norm", "none", "--epochs", "4", "--batch-size", "32", "--train-examples", "96",
    "--learning-rate", "0.01", "--out", "run",
)  # fmt: skip
# the embedded set, smaller; and a process that ends itself within a checkpoint, if it is asked to
PROGRAM = """
import os, signal, sys
import bnjax.data
from bnjax.data import synthetic
from bnjax.train import progress
small = synthetic.generate(train=96, test=20)
bnjax.data.load = lambda *_: small
progress.PLAIN_INTERVAL_SECONDS = float("inf")  # on a slow machine too, stderr holds errors alone
if sys.argv[1] != "none":
    from bnjax.train import checkpoints
    whole, place = checkpoints._digests, int(sys.argv[1])
    def killed(path):
        if path.name == f".{place}":  # orbax has written, the digest is not
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(path)
    checkpoints._digests = killed
sys.argv[1:] = ["train", *sys.argv[2:]]
from bnjax.cli import main
main()
"""
START = 12.0  # seconds within which a run of this size has ended


def begin(folder, *more, within="none", before=(), **options):
    command = [*before, sys.executable, "-c", PROGRAM, within, *OPTIONS, *more]
    pipe = subprocess.PIPE
    root = os.pathsep.join(p for p in sys.path if p)
    # not the cache that the tests share: a killed process may leave half a file in it
    environment = os.environ | {"PYTHONPATH": root, "JAX_COMPILATION_CACHE_DIR": ""}
    options = {"env": environment, "stdout": pipe, "stderr": pipe, "text": True} | options
    return subprocess.Popen(command, cwd=folder, **options)


def rows(folder):
    """The metrics, but for the time they took."""
    found = map(json.loads, (folder / "run" / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in row.items() if k not in ("seconds", "images_per_second")} for row in found]


def resume(folder):
    with begin(folder, "--resume") as process:
        _, err = process.communicate()
    assert (process.returncode, err) == (0, "")


@pytest.fixture(scope="module")
def in_one_go(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    out, err = begin(folder).communicate()
    assert err == ""
    assert out.splitlines()[-1].endswith(": run")
    return rows(folder)


def wait_for(folder, epoch, process):
    while process.poll() is None:
        metrics = folder / "run" / "metrics.jsonl"
        if metrics.exists() and metrics.read_text().count("\n") >= epoch:
            return
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "Ctrl-C"])
def test_told_to_stop_it_ends_quietly_and_goes_on_to_the_same_numbers(tmp_path, in_one_go, how):
    process = begin(tmp_path)
    wait_for(tmp_path, 2, process)
    process.send_signal(how)
    _, err = process.communicate()
    assert process.returncode == {signal.SIGTERM: 128 + signal.SIGTERM, signal.SIGINT: 130}[how]
    assert err == {signal.SIGTERM: "", signal.SIGINT: "bnjax: interrupted\n"}[how]
    resume(tmp_path)
    assert rows(tmp_path) == in_one_go


@pytest.mark.slow
def test_a_closed_pipe_ends_it_quietly(tmp_path, in_one_go):
    process = begin(tmp_path)
    process.stdout.readline()
    process.stdout.close()
    with process.stderr:
        assert process.stderr.read() == ""
    assert process.wait() == 1
    resume(tmp_path)
    assert rows(tmp_path) == in_one_go


@pytest.mark.slow
def test_where_there_is_no_room_it_says_so_in_one_line_and_keeps_what_is_whole(tmp_path, in_one_go):
    limited = ("sh", "-c", 'ulimit -f 2048; exec "$@"', "sh")  # blocks of 512 bytes a file: less than a state
    process = begin(tmp_path, before=limited)
    _, err = process.communicate()
    assert process.returncode == 2
    assert err.startswith("bnjax: run/checkpoints/1 cannot be written: ")
    assert err.count("\n") == 1
    resume(tmp_path)
    assert rows(tmp_path) == in_one_go


@pytest.mark.slow
@pytest.mark.skipif(jax.default_backend() != "cpu", reason="there is a GPU")
@pytest.mark.parametrize("platform", ["cuda", "no_such"])
def test_a_device_that_is_not_there_is_one_line(tmp_path, platform):
    env = os.environ | {"JAX_PLATFORMS": platform, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    _, err = (process := begin(tmp_path, env=env)).communicate()
    assert process.returncode == 2
    assert err.splitlines()[-1].startswith(f"bnjax: JAX finds no device, JAX_PLATFORMS={platform}: ")
    assert "Traceback" not in err
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.parametrize("epoch", [1, 3])
def test_killed_in_the_middle_of_writing_a_checkpoint(tmp_path, in_one_go, epoch):
    process = begin(tmp_path, within=str(epoch))
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert (tmp_path / "run" / "checkpoints" / f".{epoch}").exists()
    resume(tmp_path)
    assert rows(tmp_path) == in_one_go
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["3", "4"]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(18))
def test_killed_at_a_random_moment_it_goes_on_to_the_same_numbers(tmp_path, in_one_go, seed):
    rng = np.random.default_rng(seed)
    process = begin(tmp_path)
    try:
        process.wait(timeout=rng.uniform(0, START))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM if seed % 3 == 0 else signal.SIGKILL)
        process.communicate()
    resume(tmp_path)
    assert rows(tmp_path) == in_one_go
