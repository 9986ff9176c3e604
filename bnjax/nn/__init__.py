"""Drop-in Flax layers over the theorems: `bnjax.nn.nnx` and `bnjax.nn.linen`.

Each is imported at its first use, so that a user of one API does not load the other.
"""

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """The layers of `name`, imported now."""
    if name in {"linen", "nnx"}:
        return importlib.import_module(f"bnjax.nn.{name}")
    raise AttributeError(f"module 'bnjax.nn' has no attribute {name!r}")
