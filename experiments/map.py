"""When does batch norm lift?  Both networks over learning rates, momenta, initializations and seeds.

    python experiments/map.py --data-dir DIR results/map/runs          # runs what is not done yet
    python experiments/map.py --write results/map results/map/runs     # what is done: summary and figures

A run is 200 steps of batch 128, one epoch of 25,600 images of CIFAR-10, and the whole test set.  Whenever it
is broken off, the map is whole for some seeds; started again it goes on.  Several processes may share the
folder.
"""

from pathlib import Path

from bnjax.train import queue
from bnjax.train.config import Config, Init, folder, grid
from bnjax.train.sweep_plots import draw_headroom, draw_sweep

RATES = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
CONFIG = Config(dataset="cifar10", epochs=1, batch_size=128, train_examples=25_600)


def blocks() -> list[dict[str, Config]]:
    """The runs by name, in their order: a block is one seed of one recipe, both networks at every rate."""
    recipes: list[tuple[Init, float, int]] = [
        *(("he", momentum, seed) for momentum in (0.9, 0.0) for seed in range(3)),
        *(("he", momentum, seed) for seed in (3, 4) for momentum in (0.9, 0.0)),
        *(("glorot", momentum, seed) for seed in range(3) for momentum in (0.9, 0.0)),
    ]
    grids = (grid(CONFIG, ["none", "batch"], RATES, [m], [init], [seed]) for init, m, seed in recipes)
    return [{folder(config): config for config in block} for block in grids]


def write(runs: Path, out: Path) -> None:
    """Write what is done so far, of the blocks that are whole."""
    whole: dict[str, Config] = {}
    for block in blocks():
        if all(queue.finished(runs / name, config) for name, config in block.items()):
            whole |= block
    queue.write_summary(whole, runs, out)
    draw_sweep(out)
    draw_headroom(out)
    print(f"{len(whole)} of {sum(map(len, blocks()))} runs: {out}")


if __name__ == "__main__":
    queue.command(__doc__, {name: config for block in blocks() for name, config in block.items()}, write)
