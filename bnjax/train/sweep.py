"""Which recipes train: the same networks over a grid of rates, momenta, initializations and seeds."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from bnjax.data import Dataset
from bnjax.train.config import Config, Init, Norm
from bnjax.train.plots import draw_sweep
from bnjax.train.run import RunResult, run_all


def grid(
    config: Config,
    norms: Sequence[Norm],
    learning_rates: Sequence[float],
    momenta: Sequence[float],
    inits: Sequence[Init],
    seeds: Sequence[int],
) -> list[Config]:
    """`config` with every combination of the values given, each once, seeds last and fastest."""
    configs = [
        dataclasses.replace(config, norm=norm, init=init, momentum=momentum, learning_rate=rate, seed=seed)
        for norm in norms
        for init in inits
        for momentum in momenta
        for rate in learning_rates
        for seed in seeds
    ]
    return list(dict.fromkeys(configs))


def sweep(
    configs: Sequence[Config],
    data: Dataset,
    out: Path,
    options: dict[str, str] | None = None,
    *,
    resume: bool = False,
) -> Iterator[RunResult]:
    """Run every config, yielding each result, then draw the map of them.

    Makes a run directory for each in `out/`, named by what differs; `out/summary.json`, whose rows are those
    of `lift`, written again after each run; and at the end `out/sweep.png` and `out/sweep.svg`.

    Args:
      configs: as `grid` makes them.
      data: the data set all train on.
      out: the directory to make; absent or empty.
      options: XLA's, to compile with; see `bnjax.train.step.compiler_options`.
      resume: go on with what of the runs `out` holds.

    Raises:
      UserError: as `run`.
    """
    named = {folder(config): config for config in configs}
    yield from run_all(named, data, out, options, resume=resume)
    draw_sweep(out)


def folder(config: Config) -> str:
    """What the run of `config` is called within a sweep, as "batch-he-momentum0-lr0.1-seed0"."""
    momentum, rate = (str(value).removesuffix(".0") for value in (config.momentum, config.learning_rate))
    return f"{config.norm}-{config.init}-momentum{momentum}-lr{rate}-seed{config.seed}"
