"""A run's directory: `config.json`, `metrics.jsonl`, `log.txt`, `checkpoints/`."""

import dataclasses
import json
import os
import platform
from pathlib import Path
from typing import Any, Self

import jax
import numpy as np

from bnjax.errors import ArgumentError, UserError
from bnjax.train import checkpoints
from bnjax.train.config import Config
from bnjax.train.step import TrainState


def check_out(out: Path) -> None:
    """ArgumentError unless `out` can become a new run's directory; makes nothing.

    What exists is never written over: `out` must be absent or an empty folder.
    """
    if not out.exists():
        parent = next(p for p in out.absolute().parents if p.exists())
        if not (parent.is_dir() and os.access(parent, os.W_OK)):
            raise ArgumentError("out", f"{out}: cannot be made, {parent} is not a writable folder")
    elif not out.is_dir():
        raise ArgumentError("out", f"{out} is a file: name a folder")
    elif any(out.iterdir()):
        raise ArgumentError("out", f"{out} already holds {_contents(out)}: name another, or remove it")
    elif not os.access(out, os.W_OK):
        raise ArgumentError("out", f"{out} is read-only")


def _contents(out: Path) -> str:
    try:
        config = json.loads((out / "config.json").read_text())["config"]
        return f"a run ({', '.join(f'{key}={value}' for key, value in config.items())})"
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return "files"


def environment(options: dict[str, str] | None = None) -> dict[str, Any]:
    """What else the numbers depend on: versions, the machine's kind, XLA's `options`."""
    import flax
    import optax

    versions = {module.__name__: module.__version__ for module in (jax, flax, optax, np)}
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **versions,
        "backend": device.platform,
        "device": device.device_kind,
        "cpu_count": os.cpu_count(),
        "compiler_options": options or {},
    }


class RunDirectory:
    """The files of one run; every line is on disk as soon as it is known."""

    def __init__(self, path: Path, config: Config):
        self.path = path
        self.config = config

    @classmethod
    def make(cls, path: Path, config: Config, options: dict[str, str] | None = None) -> Self:
        """Make `path` and its config.json.  UserError where something is there, or nothing can be."""
        check_out(path)
        record = {"config": dataclasses.asdict(config), "environment": environment(options)}
        try:
            path.mkdir(parents=True, exist_ok=True)
            with open(path / "config.json", "x") as file:
                file.write(json.dumps(record, indent=2) + "\n")
        except OSError as error:
            raise ArgumentError("out", f"{path}: cannot be written ({error.strerror})") from error
        return cls(path, config)

    @classmethod
    def reopen(cls, path: Path, config: Config) -> Self:
        """The directory of a run that was begun.  UserError where that was of another config."""
        try:
            recorded = dict(json.loads((path / "config.json").read_text())["config"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"cannot resume: {path / 'config.json'} is not a run's") from error
        for name, value in dataclasses.asdict(config).items():
            if recorded.get(name) != value:
                raise UserError(
                    f"cannot resume: {path} was run with {name}={recorded.get(name)}, not {value}"
                )
        return cls(path, config)

    def append(self, row: dict[str, Any]) -> list[str]:
        """Write an epoch's row to metrics.jsonl and its lines to log.txt; those lines."""
        lines = log_lines(self.config.epochs, row)
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")
        with open(self.path / "log.txt", "a") as file:
            file.writelines(f"{line}\n" for line in lines)
        return lines

    def checkpoint(self, epoch: int, state: TrainState) -> None:
        """Keep the state after `epoch`, of which everything else was written."""
        checkpoints.save(self.path / "checkpoints", epoch, state)

    def restore(self, state: TrainState) -> tuple[TrainState, list[dict[str, Any]]]:
        """The state after the newest checkpoint's epoch, and the metrics up to it.

        What was written of later epochs is removed.  `state` is what a run begins with: what comes back
        where there is no checkpoint.
        """
        epoch = checkpoints.latest(self.path / "checkpoints")
        metrics = self.path / "metrics.jsonl"
        lines = metrics.read_text().splitlines()[:epoch] if metrics.exists() else []
        if len(lines) < epoch:
            raise UserError(
                f"cannot resume: {self.path} lacks lines of the epochs before its checkpoint {epoch}"
            )
        if epoch:
            state = checkpoints.restore(self.path / "checkpoints", epoch, state)
        rows = [json.loads(line) for line in lines]
        if metrics.exists():
            self._rewrite("metrics.jsonl", lines)
            self._rewrite("log.txt", [line for row in rows for line in log_lines(self.config.epochs, row)])
        return state, rows

    def _rewrite(self, name: str, lines: list[str]) -> None:
        """Replace a file by these lines, whole or not at all."""
        new = self.path / f".{name}"
        new.write_text("".join(f"{line}\n" for line in lines))
        new.replace(self.path / name)


def log_lines(epochs: int, row: dict[str, Any]) -> list[str]:
    """An epoch's row of metrics in the chapter's log format."""
    start = f"Epoch {row['epoch']}/{epochs}:"
    rate = row["learning_rate"]
    if row["outcome"] == "diverged":
        return [f"{start} loss=nan lr={rate:f}", "diverged: the loss is not finite"]
    correct, count = row["test_correct"], row["test_count"]
    return [
        f"{start} loss={row['train_loss']:f} lr={rate:f}",
        f"val accuracy: {correct}/{count} = {correct / count:.2%}",
    ]
