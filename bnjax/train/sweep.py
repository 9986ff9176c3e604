"""Which recipes train: the same networks over a grid of rates, momenta, initializations and seeds."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from bnjax.data import Dataset
from bnjax.train.config import Config, folder
from bnjax.train.processes import is_first
from bnjax.train.run import RunResult, run_all
from bnjax.train.sweep_plots import draw_headroom, draw_sweep


def sweep(
    configs: Sequence[Config],
    data: Dataset,
    out: Path,
    options: dict[str, str] | None = None,
    *,
    resume: bool = False,
    devices: int | None = None,
) -> Iterator[RunResult]:
    """Run every config, yielding each result, then draw the map of them and the headroom of batch norm.

    Makes a run directory for each in `out/`, named by what differs; `out/summary.json`, whose rows are those
    of `lift`, written again after each run; and at the end the figures `sweep` and `headroom`, each as `.png`
    and as `.svg`.

    Args:
      configs: as `grid` makes them.
      data: the data set all train on.
      out: the directory to make; absent or empty.
      options: XLA's, to compile with; see `bnjax.train.step.compiler_options`.
      resume: go on with what of the runs `out` holds.
      devices: how many share each batch; see `bnjax.train.devices.placement`.

    Raises:
      UserError: as `run`.
    """
    named = {folder(config): config for config in configs}
    yield from run_all(named, data, out, options, resume=resume, devices=devices)
    if is_first():
        draw_sweep(out)
        draw_headroom(out)
