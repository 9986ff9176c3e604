"""A training run's checkpoints: orbax's, one an epoch, of which the newest stays."""

from pathlib import Path

import jax
import orbax.checkpoint as ocp

from bnjax.train.step import TrainState


def save(folder: Path, epoch: int, state: TrainState) -> None:
    """Write `folder/EPOCH/`, whole or not at all, then remove the one before.

    Its arrays are named by where they are in the state, as "params.convs.0.kernel.value".
    """
    options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
    with ocp.CheckpointManager(folder.absolute(), options=options) as manager:
        manager.save(epoch, args=ocp.args.StandardSave(_named(state)))


def latest(folder: Path) -> int:
    """The epoch of the newest whole checkpoint; 0 where there is none."""
    if not folder.is_dir():
        return 0
    with ocp.CheckpointManager(folder.absolute()) as manager:
        return manager.latest_step() or 0


def restore(folder: Path, epoch: int, like: TrainState) -> TrainState:
    """The state that `save` was given, whose shapes and dtypes are those of `like`."""
    named = _named(like)
    with ocp.CheckpointManager(folder.absolute()) as manager:
        arrays = manager.restore(epoch, args=ocp.args.StandardRestore(named))
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in named])


def _named(state: TrainState) -> dict[str, jax.Array]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
