"""Two CPU devices, so that the cross-device tests have a mesh; float64 is asked for test by test."""

import sys

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 2)


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
