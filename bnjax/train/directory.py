"""A run's directory: `config.json`, `metrics.jsonl`, `log.txt`, `checkpoints/`."""

import contextlib
import dataclasses
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, Self

import jax
import numpy as np

from bnjax import ops
from bnjax.errors import UserError
from bnjax.train import checkpoints
from bnjax.train.config import Config
from bnjax.train.files import CONFIG, check_out, locked, make_folder, replace_text, writing
from bnjax.train.step import Standardization, TrainState

METRICS = "metrics.jsonl"
LOG = "log.txt"
CHECKPOINTS = "checkpoints"


class Record(NamedTuple):
    """What config.json says: the run's settings, its pixels' mean and deviation, the machine's kind."""

    config: Config
    pixels: Standardization
    environment: dict[str, Any]

    @classmethod
    def read(cls, run: Path) -> Self:
        """That of the run directory `run`.  UserError where it is none."""
        try:
            record = json.loads((run / CONFIG).read_text())
            mean, std = (np.array(record["pixels"][name], np.float32) for name in ("mean", "std"))
            config = Config.from_json(record["config"])
            return cls(config, Standardization(mean, std), record["environment"])
        except OSError as error:
            raise UserError(f"{run} is not a run directory: {CONFIG}: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, UserError) as error:
            raise UserError(f"{run / CONFIG} is not a run's") from error

    def write(self, run: Path) -> None:
        """Put it in the run directory `run`."""
        pixels = {name: array.tolist() for name, array in self.pixels._asdict().items()}
        written = {"config": self.config.as_json(), "pixels": pixels, "environment": self.environment}
        replace_text(run / CONFIG, json.dumps(written, indent=2) + "\n")


class Restored(NamedTuple):
    """Where a run goes on: the state after an epoch, the metrics up to it, and what is to be said."""

    state: TrainState
    rows: list[dict[str, Any]]
    notes: list[str]


def environment(options: dict[str, str] | None = None, devices: int = 1) -> dict[str, Any]:
    """What else the numbers depend on: versions, machine, devices, processes, XLA's `options`, kernels."""
    import flax
    import optax

    versions = {module.__name__: module.__version__ for module in (jax, flax, optax, np)}
    device = jax.devices()[0]
    return {
        "python": platform.python_version(),
        **versions,
        "backend": device.platform,
        "device": device.device_kind,
        "devices": devices,
        "processes": jax.process_count(),
        "cpu_count": os.cpu_count(),
        "compiler_options": options or {},
        "cpu_kernels": devices == 1 and ops.cpu.available(),
    }


class RunDirectory:
    """The files of one run; every line is on disk as soon as it is known."""

    def __init__(self, path: Path, config: Config):
        self.path = path
        self.config = config

    @classmethod
    @contextlib.contextmanager
    def open(
        cls,
        path: Path,
        config: Config,
        pixels: Standardization,
        options: dict[str, str],
        *,
        resume: bool,
        devices: int = 1,
    ) -> Iterator[Self]:
        """The directory `path`, new or to be resumed, written by no other process meanwhile.

        Raises:
          UserError: what is there is not such a run, or another process writes it; or nothing can be made.
        """
        reopened = resume and (path / CONFIG).exists()
        if not reopened:
            check_out(path)
        make_folder(path)
        with locked(path):
            directory = cls(path, config)
            if reopened:
                directory._reopen(pixels)
            else:
                Record(config, pixels, environment(options, devices)).write(path)
                with writing(path / CHECKPOINTS):
                    (path / CHECKPOINTS).mkdir()
            yield directory

    def _reopen(self, pixels: Standardization) -> None:
        """UserError where the run that was begun had another config or other data.

        More epochs are fine, but where the learning rate falls to 0 at the last.
        """
        record = Record.read(self.path)
        for name in (field.name for field in dataclasses.fields(self.config)):
            value, was = getattr(self.config, name), getattr(record.config, name)
            longer = name == "epochs" and value > was and self.config.schedule == "constant"
            if value != was and not longer:
                told = "another spec" if name == "spec" else f"{name}={was}, not {value}"
                raise UserError(f"cannot resume: {self.path} was run with {told}")
        if not all(map(np.array_equal, record.pixels, pixels)):
            raise UserError(f"cannot resume: {self.path} was run on other images than these")
        if self.config != record.config:
            record._replace(config=self.config).write(self.path)

    def append(self, row: dict[str, Any]) -> list[str]:
        """Write an epoch's row to metrics.jsonl and its lines to log.txt; those lines."""
        lines = log_lines(self.config.epochs, row)
        for name, text in ((METRICS, json.dumps(row, allow_nan=False)), (LOG, "\n".join(lines))):
            with writing(self.path / name), open(self.path / name, "a") as file:
                file.write(text + "\n")
        return lines

    def checkpoint(self, epoch: int, state: TrainState) -> None:
        """Keep the state after `epoch`, of which everything else was written."""
        checkpoints.save(self.path / CHECKPOINTS, epoch, state)

    def restore(self, begin: TrainState) -> Restored:
        """The state after the newest epoch of which the checkpoint and all metrics are whole.

        What was written of later epochs is removed, and log.txt written again.  `begin` is what a run begins
        with: what comes back where it was broken off before its first checkpoint.

        Raises:
          UserError: there are checkpoints and none of them will do, or there were.
        """
        rows = read_rows(self.path)
        kept = checkpoints.epochs(self.path / CHECKPOINTS)
        notes: list[str] = []
        for epoch in kept:
            if epoch > len(rows):
                notes.append(f"{self.path} lacks lines of the epochs before its checkpoint {epoch}")
                continue
            try:
                state = checkpoints.restore(self.path / CHECKPOINTS, epoch, begin)
            except UserError as error:
                notes.append(str(error))
                continue
            self._cut(rows[:epoch])
            return Restored(state, rows[:epoch], notes)
        if notes:
            raise UserError(f"cannot resume: {'; '.join(notes)}")
        # a row is written just before its checkpoint, so one row may have none
        if len(rows) > 1 or (rows and not (self.path / CHECKPOINTS).is_dir()):
            raise UserError(
                f"cannot resume: {self.path} has metrics of {len(rows)} epochs, and its checkpoints are gone"
            )
        self._cut([])
        return Restored(begin, [], ["begun again: there was no checkpoint yet"] if rows else [])

    def _cut(self, rows: list[dict[str, Any]]) -> None:
        """Leave these rows in metrics.jsonl, and their lines in log.txt."""
        if rows or (self.path / METRICS).exists():
            lines = [line for row in rows for line in log_lines(self.config.epochs, row)]
            replace_text(self.path / METRICS, "".join(json.dumps(row) + "\n" for row in rows))
            replace_text(self.path / LOG, "".join(line + "\n" for line in lines))


def read_rows(run: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl, one an epoch, up to the first that is none: a killed run may leave half."""
    rows: list[dict[str, Any]] = []
    try:
        text = (run / METRICS).read_text(errors="replace")
    except FileNotFoundError:
        return rows
    for line in text.split("\n")[:-1]:
        try:
            row = json.loads(line)
            fine = row["epoch"] == len(rows) + 1 and bool(log_lines(0, row))
        except (ValueError, KeyError, TypeError, IndexError, ZeroDivisionError):
            fine = False
        if not fine:
            break
        rows.append(row)
    return rows


def log_lines(epochs: int, row: dict[str, Any]) -> list[str]:
    """An epoch's row of metrics in the chapter's log format."""
    loss = "nan" if row["train_loss"] is None else f"{row['train_loss']:f}"
    start = f"Epoch {row['epoch']}/{epochs}: loss={loss} lr={row['learning_rate']:f}"
    correct, count = row["test_correct"], row["test_count"]
    if row["train_loss"] is None:
        return [start, "diverged: the loss is not finite"]
    if row["outcome"] == "diverged":
        return [start, f"diverged: {row['test_not_finite']} of {count} test images have logits not finite"]
    return [start, f"test accuracy: {correct}/{count} = {correct / count:.2%}"]
