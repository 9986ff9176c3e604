"""Why does batch norm lift, and what freezes?  Both networks by the same recipes, looked at as they train.

    python experiments/landscape.py --data-dir DIR     # writes results/landscape/
    python experiments/landscape.py --draw             # its figures again, from the numbers there

Learning rate 0.01, at which both train, and the chapter's 0.1; momentum 0.9, He; the first 100 steps.  What
is measured is told in bnjax/train/landscape.py.  A file a run; what is there is not run again.
"""

import argparse
import dataclasses
import json
from pathlib import Path

from bnjax.train.allocator import keep_freed_memory
from bnjax.train.config import Config, folder, grid

RESULTS = Path(__file__).resolve().parent.parent / "results" / "landscape"
CONFIG = Config(dataset="cifar10", epochs=1, batch_size=128, train_examples=12_800)
RATES = (0.01, 0.1)
SEEDS = (0, 1, 2)
STEPS = (0, 1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 99)


def measure(data_dir: Path | None) -> None:
    """Run what is not there yet, seed by seed."""
    keep_freed_memory()
    from bnjax import data
    from bnjax.train import step
    from bnjax.train.directory import environment
    from bnjax.train.files import replace_text
    from bnjax.train.landscape import SPECS, watch

    loaded, options = data.load("cifar10", data_dir), step.compiler_options()
    RESULTS.mkdir(parents=True, exist_ok=True)
    configs = [c for seed in SEEDS for c in grid(CONFIG, ["none", "batch"], RATES, [0.9], ["he"], [seed])]
    for config in configs:
        path = RESULTS / f"{folder(config)}.json"
        if not path.exists():
            seen = watch(dataclasses.replace(config, spec=SPECS[config.norm]), loaded, STEPS, options)
            told = {"config": config.as_json(), "environment": environment(options), **seen}
            replace_text(path, json.dumps(told, allow_nan=False) + "\n")
            print(path, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data-dir", type=Path, help="where CIFAR-10 lies; by default TFDS_DATA_DIR")
    parser.add_argument("--draw", action="store_true", help="only draw the figures again")
    arguments = parser.parse_args()
    if not arguments.draw:
        measure(arguments.data_dir)
    from bnjax.train.landscape_plots import draw_freeze, draw_landscape

    draw_landscape(RESULTS)
    draw_freeze(RESULTS)
