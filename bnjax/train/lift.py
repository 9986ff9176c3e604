"""The chapter's experiment: the same recipe with and without batch normalization, side by side."""

import dataclasses
from pathlib import Path
from typing import get_args

from bnjax.data import Dataset
from bnjax.train.config import Config, Norm
from bnjax.train.plots import draw_lift
from bnjax.train.processes import is_first
from bnjax.train.run import RunResult, run_all


def lift(
    config: Config,
    data: Dataset,
    out: Path,
    options: dict[str, str] | None = None,
    *,
    resume: bool = False,
    devices: int | None = None,
) -> list[RunResult]:
    """Train both networks by one recipe, then draw what batch norm lifts.

    Makes `out/batch/` and `out/none/`, run directories, and from them `out/summary.json`,
    `out/lift.png` and `out/lift.svg`.

    Args:
      config: the recipe; its `norm` is not looked at.
      data: the data set both train on.
      out: the directory to make; absent or empty.
      options: XLA's, to compile with; see `bnjax.train.step.compiler_options`.
      resume: go on with what of the two runs `out` holds.
      devices: how many share each batch; see `bnjax.train.devices.placement`.

    Raises:
      UserError: as `run`.
    """
    configs = {norm: dataclasses.replace(config, norm=norm) for norm in get_args(Norm)}
    results = list(run_all(configs, data, out, options, resume=resume, prefix="norm ", devices=devices))
    if is_first():
        draw_lift(out)
    return results
