"""A training run and its directory: `config.json`, `metrics.jsonl`, `log.txt`, `checkpoints/`."""

import dataclasses
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import jax
import numpy as np

from bnjax.data import Dataset
from bnjax.errors import UserError
from bnjax.models import Init, Norm
from bnjax.train import checkpoints, step
from bnjax.train.progress import TrainingProgress

Outcome = Literal["trained", "frozen", "diverged"]

FROZEN_LOSS = math.log(10)  # what a network that says 1/10 to every class loses
FROZEN_MARGIN = 0.02
LOG_LINES = 2  # an epoch, in log.txt
DEFAULT_EPOCHS = {"synthetic": 3, "cifar10": 30}


@dataclass(frozen=True)
class Config:
    """What determines a run's numbers; where its data and its output lie does not.

    Attributes:
      norm, init: the network, see `bnjax.models.CifarCNN`.
      dataset: "synthetic" or "cifar10".
      epochs: passes over the training set, ≥ 1.
      batch_size: images a step, ≥ 1; what does not fill a batch is left out of an epoch.
      learning_rate: SGD's, > 0, constant.
      momentum: SGD's, in [0, 1).
      seed: of the initial kernels and of the shuffling, ≥ 0.
      train_examples: use only the first so many training images; None for all.
    """

    norm: Norm = "batch"
    dataset: str = "synthetic"
    epochs: int = 3
    batch_size: int = 128
    learning_rate: float = 0.1
    momentum: float = 0.0
    init: Init = "he"
    seed: int = 0
    train_examples: int | None = None

    def __post_init__(self) -> None:
        """UserError naming the option, what came and what is allowed."""

        def require(fine: bool, option: str, value: object, allowed: str) -> None:
            if not fine:
                raise UserError(f"{option} must be {allowed}, got {value}")

        require(self.epochs >= 1, "--epochs", self.epochs, "at least 1")
        require(self.batch_size >= 1, "--batch-size", self.batch_size, "at least 1")
        rate = self.learning_rate
        require(math.isfinite(rate) and rate > 0, "--learning-rate", rate, "a positive number")
        require(0 <= self.momentum < 1, "--momentum", self.momentum, "at least 0 and less than 1")
        require(0 <= self.seed < 2**32, "--seed", self.seed, "from 0 to 4294967295")
        if self.train_examples is not None:
            require(self.train_examples >= 1, "--train-examples", self.train_examples, "at least 1")


@dataclass(frozen=True)
class RunResult:
    """How a run ended: a row of a `summary.json`.  The two numbers are None where it diverged."""

    norm: Norm
    learning_rate: float
    momentum: float
    init: Init
    seed: int
    epochs: int
    train_loss: float | None
    test_accuracy: float | None
    outcome: Outcome


def outcome(train_loss: float) -> Outcome:
    """diverged: the loss is not finite; frozen: within 0.02 of log 10; else trained."""
    if not math.isfinite(train_loss):
        return "diverged"
    return "frozen" if abs(train_loss - FROZEN_LOSS) <= FROZEN_MARGIN else "trained"


def select_examples(data: Dataset, config: Config) -> Dataset:
    """The data a run trains on: the first `train_examples`, all if that is None.

    Raises:
      UserError: there are not so many, or too few for one batch.
    """
    available = len(data.train_images)
    examples = config.train_examples or available
    if examples > available:
        raise UserError(f"--train-examples must be at most {available:,}, got {examples:,}")
    if config.batch_size > examples:
        raise UserError(
            f"--batch-size must be at most the {examples:,} training images, got {config.batch_size:,}"
        )
    return data._replace(train_images=data.train_images[:examples], train_labels=data.train_labels[:examples])


def check_out(out: Path) -> None:
    """UserError unless `out` can become a new run's directory; makes nothing.

    What exists is never written over: `out` must be absent or an empty folder.
    """
    if not out.exists():
        parent = next(p for p in out.absolute().parents if p.exists())
        if not (parent.is_dir() and os.access(parent, os.W_OK)):
            raise UserError(f"--out {out}: cannot be made, {parent} is not a writable folder")
    elif not out.is_dir():
        raise UserError(f"--out {out} is a file: name a folder")
    elif any(out.iterdir()):
        raise UserError(f"--out {out} already holds {_contents(out)}: name another, or remove it")
    elif not os.access(out, os.W_OK):
        raise UserError(f"--out {out} is read-only")


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

    def __init__(self, path: Path):
        self.path = path

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
            raise UserError(f"--out {path}: cannot be written ({error.strerror})") from error
        return cls(path)

    @classmethod
    def reopen(cls, path: Path, config: Config) -> Self:
        """The directory of a run that was begun.  UserError where that was of another config."""
        try:
            recorded = dict(json.loads((path / "config.json").read_text())["config"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"--resume: {path / 'config.json'} is not a run's") from error
        for name, value in dataclasses.asdict(config).items():
            if recorded.get(name) != value:
                raise UserError(f"--resume: {path} was run with {name}={recorded.get(name)}, not {value}")
        return cls(path)

    def metrics(self, **row: Any) -> None:
        """Append a line to metrics.jsonl."""
        with open(self.path / "metrics.jsonl", "a") as file:
            file.write(json.dumps(row, allow_nan=False) + "\n")

    def log(self, line: str) -> None:
        """Append a line to log.txt."""
        with open(self.path / "log.txt", "a") as file:
            file.write(line + "\n")

    def checkpoint(self, epoch: int, state: step.TrainState) -> None:
        """Keep the state after `epoch`, of which everything else was written."""
        checkpoints.save(self.path / "checkpoints", epoch, state)

    def restore(self, state: step.TrainState) -> tuple[step.TrainState, list[dict[str, Any]]]:
        """The state after the newest checkpoint's epoch, and the metrics up to it.

        What was written of later epochs is removed.  `state` is what a run begins with: what comes back
        where there is no checkpoint.
        """
        epoch = checkpoints.latest(self.path / "checkpoints")
        lines = self._cut("metrics.jsonl", epoch)
        if len(lines) < epoch or len(self._cut("log.txt", epoch * LOG_LINES)) < epoch * LOG_LINES:
            raise UserError(f"--resume: {self.path} lacks lines of the epochs before its checkpoint {epoch}")
        if epoch:
            state = checkpoints.restore(self.path / "checkpoints", epoch, state)
        return state, [json.loads(line) for line in lines]

    def _cut(self, name: str, count: int) -> list[str]:
        """Leave the first `count` lines of a file, and return them."""
        path, shorter = self.path / name, self.path / f".{name}"
        if not path.exists():
            return []
        lines = path.read_text().splitlines(keepends=True)[:count]
        shorter.write_text("".join(lines))
        shorter.replace(path)
        return lines


def run(
    config: Config,
    data: Dataset,
    out: Path,
    options: dict[str, str] | None = None,
    *,
    resume: bool = False,
) -> RunResult:
    """Train and evaluate one network, writing the run directory `out` as it goes.

    A loss that is not finite ends the run at once.  The same config on the same machine gives the same
    numbers to the last bit, in one go or resumed.

    Args:
      config: the run's.
      data: all of it; the run takes its `train_examples`.
      out: the directory to make; absent or empty.
      options: XLA's, to compile with; see `bnjax.train.step.compiler_options`.
      resume: if `out` holds a run of this config, go on after its last whole epoch.

    Returns:
      The final training loss and test accuracy, and the outcome.

    Raises:
      UserError: `out` cannot be made or already holds something, or a run of another config; the data do
        not fit the config.
    """
    data = select_examples(data, config)
    if resume and (out / "config.json").exists():
        directory = RunDirectory.reopen(out, config)
    else:
        directory = RunDirectory.make(out, config, options)
    state, steps = step.create(
        config.norm,
        config.init,
        config.learning_rate,
        config.momentum,
        config.seed,
        step.standardization(data.train_images),
        options,
    )
    state, rows = directory.restore(state)
    arrays = jax.device_put(data)
    total = (config.epochs - len(rows)) * (len(data.train_images) // config.batch_size)
    label = "batch norm" if config.norm == "batch" else "no norm"
    with TrainingProgress(label, total, config.batch_size) as progress:
        if rows:
            progress.print(f"resumed after epoch {len(rows)}")
        while len(rows) < config.epochs and not (rows and rows[-1]["outcome"] == "diverged"):
            epoch = len(rows) + 1
            state, row = _epoch(config, epoch, state, steps, arrays, progress.advance)
            directory.metrics(**row)
            for line in _log_lines(config, row):
                directory.log(line)
                progress.print(line)
            directory.checkpoint(epoch, state)
            rows.append(row)
    return RunResult(
        config.norm,
        config.learning_rate,
        config.momentum,
        config.init,
        config.seed,
        config.epochs,
        rows[-1]["train_loss"],
        rows[-1]["test_accuracy"],
        rows[-1]["outcome"],
    )


def run_all(
    configs: Mapping[str, Config],
    data: Dataset,
    out: Path,
    options: dict[str, str] | None = None,
    *,
    resume: bool = False,
) -> Iterator[RunResult]:
    """`run` every config in the folder of its name within `out`, yielding each result.

    `out/summary.json`, a row a run, is written again after each.  Arguments and errors are those of `run`.
    """
    if not resume:
        check_out(out)
    for config in configs.values():
        select_examples(data, config)
    rows = []
    for name, config in configs.items():
        result = run(config, data, out / name, options, resume=resume)
        rows.append(dataclasses.asdict(result))
        (out / "summary.json").write_text(json.dumps({"runs": rows}, indent=2) + "\n")
        yield result


def _epoch(
    config: Config,
    epoch: int,
    state: step.TrainState,
    steps: step.Steps,
    data: Dataset,
    report: Callable[[int, float], None],
) -> tuple[step.TrainState, dict[str, Any]]:
    """Train one epoch and evaluate; the new state and the epoch's line of metrics."""
    start = time.perf_counter()
    state, losses = step.train_epoch(
        steps,
        state,
        data.train_images,
        data.train_labels,
        step.epoch_indices(config.seed, epoch, len(data.train_images), config.batch_size),
        scan=jax.default_backend() != "cpu",
        report=report,
    )
    seconds = time.perf_counter() - start
    loss = float(np.mean(losses, dtype=np.float64))
    ended = outcome(loss)
    correct = accuracy = None
    if ended != "diverged":
        correct = step.count_correct(steps, state, data.test_images, data.test_labels)
        accuracy = correct / len(data.test_images)
    return state, {
        "epoch": epoch,
        "train_loss": None if ended == "diverged" else loss,
        "test_accuracy": accuracy,
        "test_correct": correct,
        "test_count": len(data.test_images),
        "learning_rate": config.learning_rate,
        "seconds": round(seconds, 3),
        "images_per_second": round(len(losses) * config.batch_size / seconds, 1),
        "outcome": ended,
    }


def _log_lines(config: Config, row: dict[str, Any]) -> list[str]:
    """The epoch in the chapter's log format."""
    start = f"Epoch {row['epoch']}/{config.epochs}:"
    if row["outcome"] == "diverged":
        return [f"{start} loss=nan lr={config.learning_rate:f}", "diverged: the loss is not finite"]
    correct, count = row["test_correct"], row["test_count"]
    return [
        f"{start} loss={row['train_loss']:f} lr={config.learning_rate:f}",
        f"val accuracy: {correct}/{count} = {correct / count:.2%}",
    ]
