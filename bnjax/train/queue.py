"""A list of runs that several processes work off together, in its order, as often broken off as it may be."""

import argparse
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from bnjax.data import Dataset, load
from bnjax.errors import UserError
from bnjax.train.allocator import keep_freed_memory
from bnjax.train.config import Config, folder
from bnjax.train.directory import Record, read_rows
from bnjax.train.files import FolderInUse, make_folder, replace_text
from bnjax.train.run import RunResult, run
from bnjax.train.step import compiler_options


def work_off(
    configs: Mapping[str, Config], data: Dataset, out: Path, options: dict[str, str] | None = None
) -> Iterator[RunResult]:
    """`run` what no process has finished or is at, each in the folder of its name within `out`.

    Yields the results of this process's runs.  A run that was broken off is resumed.

    Raises:
      UserError: as `run`.
    """
    make_folder(out)
    for name, config in configs.items():
        if finished(out / name, config) is None:
            try:
                result = run(config, data, out / name, options, resume=True, label=name)
            except FolderInUse:
                continue
            yield result


def epochs(path: Path, config: Config) -> list[dict[str, Any]]:
    """The epochs behind the run directory `path`; none where it is no run, or one of another config."""
    try:
        return read_rows(path) if Record.read(path).config == config else []
    except UserError:
        return []


def finished(path: Path, config: Config) -> RunResult | None:
    """The result of the run directory `path`; None where it is none, of another config, or not at its end."""
    rows = epochs(path, config)
    if not rows or (len(rows) < config.epochs and rows[-1]["outcome"] != "diverged"):
        return None
    return RunResult(config, rows[-1]["train_loss"], rows[-1]["test_accuracy"], rows[-1]["outcome"])


def write_summary(configs: Mapping[str, Config], runs: Path, out: Path) -> list[RunResult]:
    """Write `out/summary.json` of the runs that are finished in `runs`; their results.

    Its rows are those of `run_all`; beside them what all these runs have in common: settings, environment.
    """
    results = {name: finished(runs / name, config) for name, config in configs.items()}
    found = {name: result for name, result in results.items() if result is not None}
    summary = {
        "config": _common([result.config.as_json() for result in found.values()]),
        "environment": _common([Record.read(runs / name).environment for name in found]),
        "runs": [result.row() for result in found.values()],
    }
    make_folder(out)
    replace_text(out / "summary.json", json.dumps(summary, indent=2) + "\n")
    return list(found.values())


def _common(every: list[dict[str, Any]]) -> dict[str, Any]:
    """What has the same value in all; nothing where there are none."""
    first = every[0] if every else {}
    return {key: value for key, value in first.items() if all(e.get(key) == value for e in every)}


def command(told: str | None, configs: Mapping[str, Config], write: Callable[[Path, Path], None]) -> None:
    """The command line of a list of runs of CIFAR-10: work it off, or with --write `write(runs, out)`."""
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="the folder of the run directories")
    parser.add_argument("--data-dir", type=Path, help="where CIFAR-10 lies; by default TFDS_DATA_DIR")
    parser.add_argument("--write", type=Path, metavar="OUT", help="write what is done into OUT")
    arguments = parser.parse_args()
    if arguments.write:
        return write(arguments.runs, arguments.write)
    keep_freed_memory()
    loaded = load("cifar10", arguments.data_dir)
    for result in work_off(configs, loaded, arguments.runs, compiler_options()):
        print(f"{folder(result.config)}: {result.outcome}", flush=True)
