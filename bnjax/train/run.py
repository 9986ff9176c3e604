"""A training run: from a config and data to a directory and a result; and several, one after the other."""

import contextlib
import dataclasses
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from bnjax.data import Dataset
from bnjax.train import step
from bnjax.train.config import Config, select_examples
from bnjax.train.devices import Placement, placement, put, spread
from bnjax.train.directory import Restored, RunDirectory
from bnjax.train.files import check_out, locked, make_folder, replace_text
from bnjax.train.outcome import Evaluation, Outcome, outcome
from bnjax.train.processes import agree, from_first, is_first
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
    label: str = "",
    devices: int | None = None,
) -> RunResult:
    """Train and evaluate one network, writing the run directory `out` as it goes.

    A loss that is not finite ends the run at once.  The same config on the same machine and as many devices
    gives the same numbers to the last bit, in one go or resumed.  Of several processes all call it alike; the
    first writes `out`, and reads it to resume.

    Args:
      config: the run's.
      data: all of it; the run takes its `train_examples`.
      out: the directory to make; absent or empty.
      options: XLA's, to compile with; see `bnjax.train.step.compiler_options`.
      resume: if `out` holds a run of this config, go on after its last whole epoch; it may have had fewer
        epochs, and then goes on to these.
      label: what the lines printed begin with, where several runs print.
      devices: how many of a process share each batch; see `bnjax.train.devices.placement`.

    Returns:
      The final training loss and test accuracy, and the outcome.

    Raises:
      UserError: `out` cannot be made or already holds something, or a run of another config, or another
        process writes it; its checkpoints are damaged; the data do not fit the config; the disk is full;
        of several processes, this one was given another config or other data than the first.
    """
    data = select_examples(data, config)
    pixels = step.standardization(data.train_images)
    place = placement(config.batch_size, devices)
    count = place.number if place else 1
    agree(**config.as_json(), devices=count, images=[array.tolist() for array in pixels])
    opened = RunDirectory.open(out, config, pixels, options or {}, resume=resume, devices=count)
    with opened if is_first() else contextlib.nullcontext() as directory:
        total = config.epochs * (len(data.train_images) // config.batch_size)
        begin, steps = step.create(config, pixels, options, total_steps=total, place=place)
        restored = directory.restore(begin) if directory else Restored(begin, [], [])
        state, rows, notes = _everywhere(restored, place)
        arrays = spread(data, place)
        left = total - total * len(rows) // config.epochs
        with TrainingProgress(label or _title(config), left, config.batch_size, is_first()) as progress:

            def say(lines: list[str]) -> None:
                for line in lines:
                    progress.print(f"{label}: {line}" if label else line)

            say(notes + ([f"resumed after epoch {len(rows)}"] if rows else []))
            while len(rows) < config.epochs and not (rows and rows[-1]["outcome"] == "diverged"):
                epoch = len(rows) + 1
                state, row = _epoch(config, epoch, state, steps, arrays, progress.advance, place)
                if directory:
                    say(directory.append(row))
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
    prefix: str = "",
    devices: int | None = None,
) -> Iterator[RunResult]:
    """`run` every config in the folder of its name within `out`, yielding each result.

    `out/summary.json`, a row a run, is written again after each.  A line printed begins with `prefix` and the
    run's name.  Arguments and errors are otherwise those of `run`.
    """
    first = is_first()
    if first and not resume:
        check_out(out)
    for config in configs.values():
        select_examples(data, config)
    agree(runs=list(configs))
    if first:
        make_folder(out)
    rows = []
    with locked(out) if first else contextlib.nullcontext():
        for name, config in configs.items():
            told = prefix + name
            result = run(config, data, out / name, options, resume=resume, label=told, devices=devices)
            rows.append(result.row())
            if first:
                replace_text(out / "summary.json", json.dumps({"runs": rows}, indent=2) + "\n")
            yield result


def _everywhere(restored: Restored, place: Placement | None) -> Restored:
    """What process 0 has restored, in all of them, and the state on the devices."""
    state, rows, notes = restored
    if place is None:
        return Restored(jax.device_put(state), rows, notes)
    return Restored(put(multihost_utils.broadcast_one_to_all(state), place.whole), from_first(rows), notes)


def _title(config: Config) -> str:
    """The network in a word or two."""
    if config.spec is not None:
        return config.spec.name
    return "batch norm" if config.norm == "batch" else "no norm"


def _epoch(
    config: Config,
    epoch: int,
    state: step.TrainState,
    steps: step.Steps,
    data: Dataset,
    report: Callable[[int, float], None],
    place: Placement | None,
) -> tuple[step.TrainState, dict[str, Any]]:
    """Train one epoch and evaluate; the new state and the epoch's line of metrics."""
    start = time.perf_counter()
    indices = step.epoch_indices(config.seed, epoch, len(data.train_images), config.batch_size)
    first = (epoch - 1) * len(indices)
    state, losses = step.train_epoch(
        steps,
        state,
        data.train_images,
        data.train_labels,
        indices,
        first=first,
        scan=jax.default_backend() != "cpu",
        report=report,
    )
    seconds = time.perf_counter() - start
    loss = float(np.mean(losses, dtype=np.float64))
    test = None
    if math.isfinite(loss):
        number = place.number if place else 1
        at_once = max(500 // number, 1) * number
        test = step.evaluate(steps, state, data.test_images, data.test_labels, at_once)
    return state, {
        "epoch": epoch,
        "train_loss": loss if math.isfinite(loss) else None,
        **evaluated(test, len(data.test_images)),
        "learning_rate": float(step.learning_rate(config, config.epochs * len(indices))(first)),
        "seconds": round(seconds, 3),
        "images_per_second": round(len(losses) * config.batch_size / seconds, 1),
        "outcome": outcome(loss, test),
    }


def evaluated(test: Evaluation | None, count: int) -> dict[str, Any]:
    """An evaluation as metrics; None where there was none, or where not all of it is finite."""
    finite = test is not None and not test.not_finite and math.isfinite(test.loss)
    return {
        "test_accuracy": test.correct / count if test and finite else None,
        "test_correct": test.correct if test and finite else None,
        "test_count": count,
        "test_loss": test.loss if test and finite else None,
        "test_predicted": list(test.predicted) if test and finite else None,
        "test_chance": test.chance if test else None,
        "test_not_finite": test.not_finite if test else None,
    }
