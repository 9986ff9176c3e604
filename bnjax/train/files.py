"""What may be written where: new folders only, whole files, one process at a time, failures in one line.

Needs no jax: the command looks before it reads the data.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from bnjax.errors import ArgumentError, UserError

CONFIG = "config.json"
LOCK = ".lock"


class FolderInUse(ArgumentError):
    """Another process writes in the folder."""


def check_out(out: Path) -> None:
    """ArgumentError unless `out` can become a new run's directory; makes nothing.

    What exists is never written over: `out` must be absent or an empty folder.
    """
    if not out.exists():
        parent = next(p for p in out.absolute().parents if p.exists())
        if not (parent.is_dir() and os.access(parent, os.W_OK)):
            raise ArgumentError("out", f"{out}: cannot be made, {parent} is not a writable folder")
    elif not out.is_dir():
        raise ArgumentError("out", f"{out} is a file: name a folder")
    elif any(path.name not in (LOCK, f".{CONFIG}") for path in out.iterdir()):  # a killed start leaves these
        raise ArgumentError("out", f"{out} already holds {_contents(out)}: name another, or remove it")
    elif not os.access(out, os.W_OK):
        raise ArgumentError("out", f"{out} is read-only")


def _contents(out: Path) -> str:
    try:
        config = json.loads((out / CONFIG).read_text())["config"]
        if config.get("spec"):
            config["spec"] = config["spec"]["name"]
        return f"a run ({', '.join(f'{key}={value}' for key, value in config.items())})"
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return "files"


def make_folder(path: Path) -> None:
    """Make `path` and its parents, if it is not there.  ArgumentError where it cannot be."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ArgumentError("out", f"{path}: cannot be written ({error.strerror})") from error


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` make a file beside `path`, and then put it in its place: `path` is never half."""
    beside = path.with_name(f".{path.name}")
    with writing(path):
        try:
            write(beside)
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)


def replace_text(path: Path, text: str) -> None:
    """`replace` by a text."""
    replace(path, lambda beside: beside.write_text(text))


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Make one line of an operating system's failure to write `path`: a full disk, a limit, a permission."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Be the only process that writes in `folder`, which exists, as long as the context lasts.

    The system gives the lock back when a process ends, however it ends.

    Raises:
      FolderInUse: another process has it.
    """
    lock = FileLock(folder / LOCK)
    with writing(folder):
        try:
            lock.acquire(timeout=0)
        except Timeout:  # an OSError too
            raise FolderInUse("out", f"{folder} is being written by another process") from None
    try:
        yield
    finally:
        with contextlib.suppress(OSError):  # where a file cannot be removed while it is open
            os.unlink(folder / LOCK)
        lock.release()
