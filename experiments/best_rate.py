"""At which learning rate is the best recipe best, with batch norm and without?  Short runs, one seed.

    python experiments/best_rate.py --data-dir DIR results/best-rate/runs             # what is not done yet
    python experiments/best_rate.py --write results/best-rate results/best-rate/runs  # what is done: summary

A run is 4 epochs of CIFAR-10 by the recipe, its schedule at its end.  The whole runs take for each network
the rate with the highest accuracy on the test images, which thereby chose one of a few rates.
"""

from pathlib import Path

from bnjax.train import queue
from bnjax.train.config import Config, Norm, folder

EPOCHS = 4
RATES: dict[Norm, tuple[float, ...]] = {
    "batch": (0.05, 0.02, 0.01, 0.005),
    "none": (0.01, 0.005, 0.02, 0.002),
}


def configs() -> dict[str, Config]:
    """The runs by name, in their order: the networks in turns."""
    turns = zip(*([(norm, rate) for rate in rates] for norm, rates in RATES.items()), strict=True)
    found = [
        Config.of(recipe="best", dataset="cifar10", epochs=EPOCHS, norm=norm, learning_rate=rate)
        for turn in turns
        for norm, rate in turn
    ]
    return {folder(config): config for config in found}


def write(runs: Path, out: Path) -> None:
    """Write what is done so far."""
    results = queue.write_summary(configs(), runs, out)
    print(f"{len(results)} of {len(configs())} runs: {out}")


if __name__ == "__main__":
    queue.command(__doc__, configs(), write)
