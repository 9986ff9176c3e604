"""CIFAR-10 from the folder that tensorflow-datasets keeps, read without TensorFlow.

Decoding 60,000 PNG images takes some ten seconds, so the arrays are kept in the user's cache
folder (never in the data folder, which is often read-only) and later loads take a moment.

Source: Alex Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009.
"""

import contextlib
import hashlib
import logging
import os
import shutil
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnjax.data.dataset import CLASSES, IMAGE_SHAPE, Dataset
from bnjax.errors import UserError

VERSION = "3.0.2"
SCRATCH = "cifar10-half-"

_log = logging.getLogger(__name__)
_CHUNK = 1000  # records asked for at once: a quarter faster than one by one


def load(data_dir: str | os.PathLike[str] | None = None) -> Dataset:
    """CIFAR-10 in the record order of tensorflow-datasets.

    Args:
      data_dir: the folder that holds ``cifar10/3.0.2``; by default the environment variable
        ``TFDS_DATA_DIR``, and without it ``~/tensorflow_datasets``.

    Returns:
      uint8 images (N, 32, 32, 3) and int32 labels (N,): 50,000 for training and 10,000 for testing.

    Raises:
      UserError: the data is absent, incomplete or corrupt, or a package to read it is missing.
    """
    chosen = data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    root = Path(os.path.expanduser(chosen))
    folder = dataset_folder(root)
    # tensorflow-datasets would look for an absent folder on the network, for minutes.
    if not os.path.isdir(folder):
        raise UserError(
            f"no CIFAR-10 in {folder}: `bnjax data cifar10 --data-dir {root}` prepares it, or pass "
            "--data-dir (or set TFDS_DATA_DIR) to the folder that holds cifar10"
        )
    with needs_train_extra():
        from filelock import FileLock
        from platformdirs import user_cache_path

    cache = user_cache_path("bnjax") / f"cifar10-{_fingerprint(folder)}.npz"
    with contextlib.ExitStack() as stack:
        if (cached := _read_cache(cache)) is not None:
            return cached
        try:
            cache.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(FileLock(cache.with_name("cifar10.lock")))
        except (OSError, NotImplementedError) as error:  # the latter: a file system without locks
            _log.warning("the decoded CIFAR-10 is not kept for next time: %s", error)
            return _decode(root)
        # Another process may have decoded while this one waited for the lock.
        if (cached := _read_cache(cache)) is None:
            cached = _decode(root)
            _write_cache(cache, cached)
        return cached


def dataset_folder(root: Path) -> Path:
    """Where tensorflow-datasets keeps CIFAR-10 below its data folder ``root``."""
    return root / "cifar10" / VERSION


@contextlib.contextmanager
def needs_train_extra() -> Iterator[None]:
    """Turn the absence of a package that only the ``train`` extra brings into a UserError."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise UserError(f'CIFAR-10 needs the package {error.name}: pip install "bnjax[train]"') from error


@contextlib.contextmanager
def progress(description: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show on stderr that something takes a while; yields the function to report steps to.

    A bar where stderr is a terminal, one plain line where it is not; ``total`` None is unknown.
    """
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        print(f"{description} ...", file=sys.stderr, flush=True)
        yield lambda steps: None
        return
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task(description, total=total)
        yield lambda steps: bar.advance(task, steps)


def one_line(error: BaseException) -> str:
    """An exception of any library as part of a one-line message."""
    return textwrap.shorten(str(error), 300) or type(error).__name__


def _decode(root: Path) -> Dataset:
    folder = dataset_folder(root)
    try:
        with needs_train_extra(), quiet_absl():
            import tensorflow_datasets as tfds

            train, test = (
                tfds.data_source(f"cifar10:{VERSION}", split=split, data_dir=os.fspath(root), download=False)
                for split in ("train", "test")
            )
            total = len(train) + len(test)
            with progress(f"decoding CIFAR-10 ({total:,} images)", total) as advance:
                return Dataset(*_decode_split(train, advance), *_decode_split(test, advance))
    except UserError:
        raise
    # tfds, protobuf, Pillow and array_record share no base class for what a damaged file raises.
    except Exception as error:
        raise UserError(f"the CIFAR-10 in {folder} is damaged: {one_line(error)}") from error


def _decode_split(source: Any, advance: Callable[[int], None]) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """All images and labels of a tfds data source; ValueError where one is not CIFAR-10's."""
    _check_shards(source)
    images = np.empty((len(source), *IMAGE_SHAPE), np.uint8)
    labels = np.empty(len(source), np.int32)
    for start in range(0, len(source), _CHUNK):
        keys = range(start, min(start + _CHUNK, len(source)))
        for key, example in zip(keys, source.__getitems__(keys), strict=True):
            image, label = example["image"], example["label"]
            if image.shape != IMAGE_SHAPE:
                raise ValueError(f"{source.split} image {key} has shape {image.shape}")
            if not 0 <= label < CLASSES:
                raise ValueError(f"{source.split} image {key} has label {label}")
            images[key], labels[key] = image, label
        advance(len(keys))
    return images, labels


def _check_shards(source: Any) -> None:
    """ValueError unless each file holds as many records as dataset_info.json says."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    # tfds reads as many as dataset_info.json says and does not notice that a file holds more.
    split = source.dataset_info.splits[source.split]
    for path, expected in zip(split.filepaths, split.shard_lengths, strict=True):
        found = len(ArrayRecordDataSource([os.fspath(path)]))
        if found != expected:
            raise ValueError(f"{path.name} holds {found} records where dataset_info.json says {expected}")


@contextlib.contextmanager
def quiet_absl() -> Iterator[None]:
    """Hold back what tfds logs below an error, such as that OpenCV is not installed."""
    logger = logging.getLogger("absl")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _fingerprint(folder: Path) -> str:
    """sha256 over what changes when the data does; UserError where the folder cannot be read."""
    digest = hashlib.sha256(os.fsencode(folder.resolve()))
    try:
        digest.update((folder / "dataset_info.json").read_bytes())
        for path in sorted(folder.glob("*.array_record*")):
            status = path.stat()
            digest.update(f"{path.name} {status.st_size} {status.st_mtime_ns}\n".encode())
    except OSError as error:
        raise UserError(f"cannot read the CIFAR-10 in {folder}: {one_line(error)}") from error
    return digest.hexdigest()


def _read_cache(path: Path) -> Dataset | None:
    """The arrays kept in ``path``; None if there are none or they are damaged (zip holds a CRC)."""
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            return Dataset(**arrays)
    except FileNotFoundError:
        return None
    except Exception:  # zipfile and NumPy raise what they like
        _log.info("the cache %s is damaged and made anew", path, exc_info=True)
        return None


def _write_cache(path: Path, dataset: Dataset) -> None:
    """Keep the arrays in ``path``, whole or not at all; a full disk is worth a warning, no more."""
    try:
        for left in path.parent.glob(f"{SCRATCH}*"):  # by a process that was killed: this one has the lock
            shutil.rmtree(left, ignore_errors=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=SCRATCH) as folder:
            partial = Path(folder) / path.name
            np.savez(partial, **dataset._asdict())
            os.replace(partial, path)
    except OSError as error:
        _log.warning("the decoded CIFAR-10 is not kept for next time: %s", error)
