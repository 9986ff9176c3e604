"""At which learning rate is the best recipe best, with batch norm and without?  Short runs, one seed.

    python experiments/best_rate.py --data-dir DIR results/best-rate/runs            # what is not done yet
    python experiments/best_rate.py --write results/best-rate results/best-rate/runs # what is done: summaries

A run is 4 epochs of CIFAR-10 by the recipe, its schedule at its end; beside the recipe's own schedule by half
a cosine, which begins at the highest rate.  The whole runs take for each network the rate with the highest
accuracy on the test images, which thereby chose one of a few rates.
"""

from collections.abc import Mapping
from pathlib import Path

from bnjax.train import queue
from bnjax.train.config import Config, Norm, Schedule, folder

EPOCHS = 4
RATES: Mapping[Schedule, Mapping[Norm, tuple[float, ...]]] = {
    "one-cycle": {"batch": (0.05, 0.1, 0.02, 0.2, 0.4), "none": (0.02, 0.05, 0.01, 0.1, 0.2)},
    "cosine": {"batch": (0.05, 0.02, 0.01, 0.005), "none": (0.01, 0.005, 0.02, 0.002)},
}


def configs() -> dict[str, Config]:
    """The runs by name, in their order: a schedule, then the networks in turns."""
    found = {}
    for schedule, rates in RATES.items():
        for turn in zip(*([(norm, rate) for rate in tried] for norm, tried in rates.items()), strict=True):
            for norm, rate in turn:
                config = Config.of(
                    recipe="best",
                    dataset="cifar10",
                    epochs=EPOCHS,
                    schedule=schedule,
                    norm=norm,
                    learning_rate=rate,
                )
                found[f"{schedule}/{folder(config)}"] = config
    return found


def write(runs: Path, out: Path) -> None:
    """Write what is done so far, a summary for each schedule."""
    for schedule in RATES:
        tried = {name: config for name, config in configs().items() if config.schedule == schedule}
        results = queue.write_summary(tried, runs, out / schedule)
        print(f"{len(results)} of {len(tried)} runs: {out / schedule}")


if __name__ == "__main__":
    queue.command(__doc__, configs(), write)
