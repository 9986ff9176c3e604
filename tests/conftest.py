"""Two CPU devices, so that the cross-device tests have a mesh; float64 is asked for test by test."""

import os
import sys
import tempfile
from collections import defaultdict

# the same network is compiled by many tests: once, for all of this run's processes
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _COMPILED = tempfile.TemporaryDirectory(prefix="bnjax-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = _COMPILED.name
    os.environ["JAX_COMPILATION_CACHE_MAX_SIZE"] = str(2**30)  # only a bounded one is locked
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)


CASES = 2  # that the default run takes of a family: the first and the last


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """The other cases of a family are `thorough`; after this, marks choose what runs."""
    families = defaultdict(list)
    for item in items:
        if item.get_closest_marker("family") and not item.get_closest_marker("slow"):
            families[item.parent, item.originalname].append(item)
    for cases in families.values():
        taken = {i * (len(cases) - 1) // (CASES - 1) for i in range(CASES)}
        for i, item in enumerate(cases):
            if i not in taken:
                item.add_marker("thorough")


@pytest.fixture
def bnjax_command(monkeypatch, capsys):
    """Runs the command line: (arguments) -> exit code, stdout, stderr."""
    from bnjax import cli

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["bnjax", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            cli.main()
        captured = capsys.readouterr()
        return exit_.value.code or 0, captured.out, captured.err

    return run
