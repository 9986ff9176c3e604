"""The chapter's experiment: the same recipe with and without batch normalization, side by side."""

import dataclasses
from pathlib import Path

from bnjax.data import Dataset
from bnjax.plots import draw_lift
from bnjax.runs import Config, RunResult, check_out, run, select_examples, write_summary


def lift(
    config: Config,
    data: Dataset,
    out: Path,
    options: dict[str, str] | None = None,
    *,
    resume: bool = False,
) -> list[RunResult]:
    """Train both networks by one recipe, then draw what batch norm lifts.

    Makes `out/batch/` and `out/none/`, run directories, and from them `out/summary.json`,
    `out/lift.png` and `out/lift.svg`.

    Args:
      config: the recipe; its `norm` is not looked at.
      data: the data set both train on.
      out: the directory to make; absent or empty.
      options: XLA's, to compile with; see `bnjax.training.compiler_options`.
      resume: go on with what of the two runs `out` holds.

    Raises:
      UserError: as `run`.
    """
    if not resume:
        check_out(out)
    select_examples(data, config)
    results = [
        run(dataclasses.replace(config, norm=norm), data, out / norm, options, resume=resume)
        for norm in ("batch", "none")
    ]
    write_summary(out, results)
    draw_lift(out)
    return results
