"""A training run's checkpoints: orbax's, a folder an epoch; the newest two stay, each with its digest.

Orbax is given nothing to read that is not what it wrote, and no disk that is full: of either it makes an
error in a thread of its own, with a traceback that cannot be caught here.
"""

import contextlib
import hashlib
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import jax
import orbax.checkpoint as ocp

from bnjax.errors import UserError, one_line
from bnjax.train.files import writing
from bnjax.train.step import TrainState

STATE = "state"  # what orbax writes
DIGEST = "sha256"  # of every file of it, as sha256sum writes and checks them
KEPT = 2
SPARE = 1 << 20  # bytes, more than orbax adds to what the arrays take


def save(folder: Path, epoch: int, state: TrainState) -> None:
    """Write `folder/EPOCH/`, whole or not at all, then remove all but it and the one before.

    Its arrays are named by where they are in the state, as "params.convs.0.kernel.value".  What is there of
    that epoch, a damaged one, is written over.  Ctrl-C and SIGTERM wait until it is done.

    Raises:
      UserError: it cannot be written, for instance where the disk is full.
    """
    path, half = folder / str(epoch), folder / f".{epoch}"
    with writing(path), _signals_later():
        _remove(half)
        half.mkdir(parents=True)
        try:
            _need_room(half, state)
            _write(half, state)
            _remove(path)
            half.rename(path)
        finally:
            shutil.rmtree(half, ignore_errors=True)
        for old in epochs(folder)[KEPT:]:
            _remove(folder / str(old))


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Ctrl-C and SIGTERM wait: orbax's threads, broken off, print tracebacks."""
    came: list[int] = []
    handled = threading.current_thread() is threading.main_thread()
    before = {
        int(number): signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
        if handled
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in came[:1]:
            signal.raise_signal(number)


def epochs(folder: Path) -> list[int]:
    """The epochs of which `folder` holds a checkpoint, whole or damaged, the newest first."""
    if not folder.is_dir():
        return []
    return sorted((int(path.name) for path in folder.iterdir() if path.name.isdecimal()), reverse=True)


def restore(folder: Path, epoch: int, like: TrainState) -> TrainState:
    """The state that `save` was given, whose shapes and dtypes are those of `like`.

    Raises:
      UserError: the checkpoint is damaged: it cannot be read, is not what its digest says, or is of another
        network.
    """
    path, named = folder / str(epoch), _named(like)
    try:
        whole = (path / DIGEST).read_bytes() == _digests(path).encode()
    except OSError as error:
        raise UserError(f"checkpoint {path} is damaged: {error.strerror}") from error
    if not whole:
        raise UserError(f"checkpoint {path} is damaged: it is not what its digest says")
    with _checkpointer() as checkpointer:
        try:
            arrays = checkpointer.restore((path / STATE).absolute(), args=ocp.args.StandardRestore(named))
        except (ValueError, KeyError) as error:
            raise UserError(f"checkpoint {path} is damaged: it is of another network") from error
    return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in named])


def _checkpointer() -> ocp.Checkpointer:
    """Orbax's, which waits for no other process: of several, one writes."""
    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(primary_host=this, active_processes={this})
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=alone)
    return ocp.Checkpointer(handler, multiprocessing_options=alone)


def _write(half: Path, state: TrainState) -> None:
    arrays = jax.device_get(_named(state))  # whole, of however many processes
    with _checkpointer() as checkpointer:
        try:
            checkpointer.save((half / STATE).absolute(), args=ocp.args.StandardSave(arrays))
        except ValueError as error:  # as tensorstore says it
            raise OSError(one_line(error)) from error
    (half / DIGEST).write_text(_digests(half))


def _need_room(half: Path, state: TrainState) -> None:
    """OSError unless the disk takes what `state` may come to."""
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
    room = half / "room"
    room.write_bytes(bytes(size + SPARE))
    room.unlink()


def _named(state: TrainState) -> dict[str, jax.Array]:
    leaves = jax.tree_util.tree_leaves_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}


def _digests(checkpoint: Path) -> str:
    """A line for each file of the state: its sha256 and its path within `checkpoint`, sorted."""
    files = [path for path in (checkpoint / STATE).rglob("*") if path.is_file()]
    lines = {path.relative_to(checkpoint).as_posix(): hashlib.sha256(path.read_bytes()) for path in files}
    return "".join(f"{digest.hexdigest()}  {name}\n" for name, digest in sorted(lines.items()))


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
