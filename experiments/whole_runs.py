"""Whole runs: 30 epochs of CIFAR-10 by the chapter's recipe, by the best one and by plain SGD, with seeds.

    python experiments/whole_runs.py --data-dir DIR runs/whole

In the order in which they are wanted; started again it goes on after the last whole epoch, and several
processes may share the folder.
"""

import argparse
from pathlib import Path
from typing import get_args

from bnjax.train.allocator import keep_freed_memory
from bnjax.train.config import Config, Norm, Recipe, folder

# recipe, learning rate, seeds
ORDER: list[tuple[Recipe, float, range]] = [
    ("chapter", 0.1, range(3)),
    ("chapter", 0.002, range(3)),
    ("best", 0.05, range(3)),
    ("plain", 0.1, range(1)),
    ("plain", 0.02, range(1)),
]


def configs() -> dict[str, Config]:
    """The runs by name, in their order."""
    found = {}
    for recipe, rate, seeds in ORDER:
        for seed in seeds:
            for norm in get_args(Norm):
                config = Config.of(recipe=recipe, dataset="cifar10", norm=norm, learning_rate=rate, seed=seed)
                found[f"{recipe}-{folder(config)}"] = config
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", type=Path, help="the folder of the run directories")
    parser.add_argument("--data-dir", type=Path, help="where CIFAR-10 lies; by default TFDS_DATA_DIR")
    arguments = parser.parse_args()
    keep_freed_memory()
    from bnjax import data
    from bnjax.train import queue, step

    loaded, options = data.load("cifar10", arguments.data_dir), step.compiler_options()
    for result in queue.work_off(configs(), loaded, arguments.runs, options):
        print(f"{folder(result.config)}: {result.outcome}", flush=True)
