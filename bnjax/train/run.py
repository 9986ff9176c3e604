"""A training run: from a config and data to a directory and a result; and several, one after the other."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from bnjax.data import Dataset
from bnjax.train import step
from bnjax.train.config import Config, select_examples
from bnjax.train.directory import RunDirectory, check_out
from bnjax.train.outcome import Outcome, outcome
from bnjax.train.progress import TrainingProgress

SUMMARY = ("norm", "learning_rate", "momentum", "init", "seed", "epochs")  # of the config


@dataclass(frozen=True)
class RunResult:
    """How a run ended.  The two numbers are None where it diverged."""

    config: Config
    train_loss: float | None
    test_accuracy: float | None
    outcome: Outcome

    def row(self) -> dict[str, Any]:
        """The run's row of a `summary.json`."""
        ended = dataclasses.asdict(self)
        recipe = ended.pop("config")
        return {name: recipe[name] for name in SUMMARY} | ended


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
    state, steps = step.create(config, step.standardization(data.train_images), options)
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
            for line in directory.append(row):
                progress.print(line)
            directory.checkpoint(epoch, state)
            rows.append(row)
    last = rows[-1]
    return RunResult(config, last["train_loss"], last["test_accuracy"], last["outcome"])


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
        rows.append(result.row())
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
