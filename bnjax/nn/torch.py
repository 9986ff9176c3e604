"""A PyTorch BatchNorm's weights as our layers' state, and back: plain arrays, PyTorch is not imported.

The two libraries store the same four arrays under other names, and move them by other conventions:

|                     | Flax, bnjax                          | PyTorch                               |
|---------------------|--------------------------------------|---------------------------------------|
| γ, β                | `scale`, `bias`                      | `weight`, `bias`                      |
| running statistics  | `mean`, `var`                        | `running_mean`, `running_var`         |
| what `momentum` m   | the share kept:                      | the share of the new:                 |
| weighs              | m·running + (1 − m)·batch            | (1 − m)·running + m·batch             |
| running variance of | the biased σ² = Σ(x − μ)²/n          | the unbiased one, σ²·n/(n − 1)        |
| ε                   | `epsilon`, 1e-5                      | `eps`, 1e-5                           |

So `momentum` must be turned, `BatchNorm(..., momentum=1 - module.momentum)` (PyTorch's default 0.1 is 0.9
here, while the default here is 0.99), and ε given where it is not the default.  In evaluation mode
the layers then agree as they are; a running variance moved on here drifts to the biased one.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

_NAMES = {"scale": "weight", "bias": "bias", "mean": "running_mean", "var": "running_var"}


def batch_norm_state(state_dict: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The entries of a PyTorch BatchNorm as the state of `bnjax.nn.nnx.BatchNorm` (or Flax's).

    Args:
      state_dict: `module.state_dict()` of a BatchNorm, or of a network that holds it; values are tensors
        on the CPU or arrays.
      prefix: what the entries' names begin with in a network's, as "layer1.0.bn1."

    Returns:
      The float32 arrays `scale`, `bias`, `mean`, `var`, each of one number a channel, as far as the
      module has them (`affine=False` has neither of the first two).  An NNX layer takes them by
      `nnx.update(layer, batch_norm_state(module.state_dict()))`; for Linen, `scale` and `bias` belong in
      `params`, `mean` and `var` in `batch_stats`.

    Raises:
      KeyError: under `prefix` is no BatchNorm: nothing at all, or no running statistics
        (`track_running_stats=False` keeps none, and then there is no evaluation mode to carry over).
      ValueError: an entry is not one number a channel.

    Example:
      >>> import numpy as np
      >>> from bnjax.nn.torch import batch_norm_state
      >>> checkpoint = {"bn1.running_mean": np.array([1.0, 2.0]), "bn1.running_var": np.array([4.0, 9.0])}
      >>> batch_norm_state(checkpoint, prefix="bn1.")
      {'mean': array([1., 2.], dtype=float32), 'var': array([4., 9.], dtype=float32)}
    """
    found = {
        ours: state_dict[prefix + theirs] for ours, theirs in _NAMES.items() if prefix + theirs in state_dict
    }
    missing = [prefix + _NAMES[name] for name in ("mean", "var") if name not in found]
    if missing:
        known = ", ".join(sorted(state_dict)[:8]) or "nothing"
        raise KeyError(f"no {' and no '.join(missing)} in the state dict, which holds {known}")
    state = {name: np.asarray(value, dtype=np.float32).copy() for name, value in found.items()}
    shapes = {name: array.shape for name, array in state.items()}
    if len(set(shapes.values())) > 1 or state["mean"].ndim != 1:
        raise ValueError(f"a BatchNorm holds one number a channel, but {prefix or 'it'} has shapes {shapes}")
    return state


def batch_norm_state_dict(state: Mapping[str, Any], prefix: str = "") -> dict[str, np.ndarray]:
    """The state of `bnjax.nn.nnx.BatchNorm` as the entries of a PyTorch BatchNorm: the way back.

    Args:
      state: `scale`, `bias`, `mean`, `var` as arrays, or `nnx.state(layer)`.
      prefix: what the entries' names shall begin with.

    Returns:
      float32 arrays under PyTorch's names, and `num_batches_tracked` = 0 (it counts batches for
      `momentum=None` alone)::

          module.load_state_dict({name: torch.tensor(a) for name, a in batch_norm_state_dict(state).items()})

    Raises:
      KeyError: `mean` or `var` is missing.

    Example:
      >>> from flax import nnx
      >>> import bnjax.nn.nnx
      >>> from bnjax.nn.torch import batch_norm_state_dict
      >>> layer = bnjax.nn.nnx.BatchNorm(2, rngs=nnx.Rngs(0))
      >>> for name, array in batch_norm_state_dict(nnx.state(layer), prefix="bn1.").items():
      ...     print(name, array)
      bn1.weight [1. 1.]
      bn1.bias [0. 0.]
      bn1.running_mean [0. 0.]
      bn1.running_var [1. 1.]
      bn1.num_batches_tracked 0
    """
    missing = [name for name in ("mean", "var") if name not in state]
    if missing:
        raise KeyError(f"no {' and no '.join(missing)} in the state")
    arrays = {
        prefix + theirs: np.array(_array(state[ours]), dtype=np.float32)
        for ours, theirs in _NAMES.items()
        if ours in state and state[ours] is not None
    }
    return arrays | {prefix + "num_batches_tracked": np.asarray(0, np.int64)}


def _array(value: Any) -> Any:
    """What a variable of NNX holds; arrays as they are."""
    return value[...] if hasattr(value, "get_value") else value
