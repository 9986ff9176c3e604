"""How one process of several ends: by one line where another was lost, by what native code said where not."""

import subprocess
import sys

import pytest

from bnjax.train import ending

BEGIN = f"""
import importlib.util, os, signal, sys, threading, time
spec = importlib.util.spec_from_file_location("ending", {ending.__file__!r})
ending = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ending)
ending.watch(ending.LOST)
print("said")
def abort(words):
    os.write(1, b"[Gloo] Rank 0 is connected")
    os.write(2, words)
    os.abort()
"""
FATAL = "F1128 client.h:80] Terminating process because the JAX distributed service detected fatal errors."


def ended(program):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + program], capture_output=True, text=True, check=False, timeout=60
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize(
    ("program", "code", "err"),
    [
        (
            f"threading.Thread(target=abort, args=[b'{FATAL}']).start(); time.sleep(60)",
            2,
            f"bnjax: {ending.LOST}\n",
        ),
        (f"ending.watch('not all came'); abort(b'{FATAL}')", 2, "bnjax: not all came\n"),
        ("abort(b'Check failed: 1 == 2')", -6, "[Gloo] Rank 0 is connectedCheck failed: 1 == 2"),
    ],
    ids=["lost", "joining", "another reason"],
)
def test_an_abort(program, code, err):
    assert ended(program) == (code, "said\n", err)


@pytest.mark.parametrize(
    ("name", "code", "err"), [("SIGTERM", 143, ""), ("SIGINT", 130, "bnjax: interrupted\n")]
)
def test_an_abort_of_one_that_was_told_to_stop_is_quiet(name, code, err):
    told = f"signal.signal(signal.{name}, lambda *_: None); os.kill(os.getpid(), signal.{name})\n"
    told += f"abort(b'{FATAL}')"
    assert ended(told) == (code, "said\n", err)


def test_a_failure_waits_for_nobody():
    waits = "import atexit; atexit.register(time.sleep, 60)\n"
    failing = "with ending.at_once():\n    print('last', end=''); sys.exit(2)\n"
    assert ended(waits + failing) == (2, "said\nlast", "")
    code, out, err = ended(waits + "with ending.at_once():\n    1 / 0\n")
    assert (code, out, err.splitlines()[-1]) == (1, "said\n", "ZeroDivisionError: division by zero")


def test_what_ends_well_ends_as_ever():
    assert ended(
        "import atexit; atexit.register(print, 'after')\nwith ending.at_once():\n    sys.exit(0)\n"
    ) == (
        0,
        "said\nafter\n",
        "",
    )


def test_alone_nothing_is_lost():
    assert not ending.is_lost(RuntimeError("Gloo all-reduce failed"))
    ending.take_last_word()
    with pytest.raises(SystemExit), ending.at_once():
        sys.exit(2)
