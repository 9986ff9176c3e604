"""Training the chapter's networks: a config, the step, a run's directory, and grids of runs.

`load` brings back what a run has trained.
"""

from typing import Any


def __getattr__(name: str) -> Any:
    """`load`, imported at its first use: the config needs neither Flax nor optax."""
    if name == "load":
        from bnjax.train.trained import load

        return load
    raise AttributeError(f"module 'bnjax.train' has no attribute {name!r}")
