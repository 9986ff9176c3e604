"""Fetch CIFAR-10 and write it as tensorflow-datasets would, without TensorFlow.

The ``cifar10`` builder of tensorflow-datasets needs TensorFlow to prepare what it can read without.
The files made here hold the same records in the same order: its features, its serializer, its hash
shuffle over the official index, one ArrayRecord shard a split.
"""

import contextlib
import hashlib
import http.client
import importlib
import io
import os
import shutil
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bnjax.data import IMAGE_SHAPE, cifar10
from bnjax.errors import UserError

# The archive of tensorflow-datasets' builder and the sha256 of its url_checksums/cifar10.txt.
URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"

LABELS = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
MEMBERS = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{i}.bin" for i in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}
_RECORD = 1 + 3 * 32 * 32  # a label, then a red, a green and a blue plane
_BLOCK = 1 << 20
SCRATCH = ".cifar10-"
LOCK = "lock"


def prepare_cifar10(data_dir: str | os.PathLike[str], *, url: str = URL, sha256: str = SHA256) -> Path:
    """Make ``data_dir`` a folder that :func:`bnjax.data.cifar10.load` and tfds can read.

    A complete data set that is there already is left alone, and nothing is downloaded; whatever
    fails, and when interrupted, nothing half-written stays behind.

    Args:
      data_dir: the folder to hold ``cifar10/3.0.2``; made if it is absent.
      url: where the archive of the binary version is.
      sha256: what the archive must hash to, in hexadecimal.

    Returns:
      The folder ``data_dir/cifar10/3.0.2``.

    Raises:
      UserError: the download failed or is not the archive expected, the folder cannot be written,
        or it holds a damaged data set.

    Source: https://www.cs.toronto.edu/~kriz/cifar.html, "binary version".
    """
    root = Path(os.path.expanduser(data_dir)).absolute()
    folder = cifar10.dataset_folder(root)
    with cifar10.needs_train_extra():  # before a long download, not after it
        for package in ("array_record", "filelock", "PIL", "rich", "tensorflow_datasets"):
            importlib.import_module(package)
    try:
        for parent in folder.parents:
            _clear_scratch(parent)
        if folder.exists():
            _check_existing(root, folder)
            return folder
        # Made within the nearest folder there is, the same file system, so that moving is atomic.
        anchor = next(parent for parent in folder.parents if parent.exists())
        with _scratch(anchor) as scratch:
            archive, made = scratch / "archive", scratch / cifar10.VERSION
            _download(url, sha256, archive)
            splits = {split: _read_members(archive, names) for split, names in MEMBERS.items()}
            made.mkdir()
            _write(made, splits)
            folder.parent.mkdir(parents=True, exist_ok=True)
            os.replace(made, folder)
    except (OSError, RuntimeError) as error:  # the latter is array_record's, for a full disk
        raise UserError(f"cannot prepare CIFAR-10 in {root}: {cifar10.one_line(error)}") from error
    return folder


@contextlib.contextmanager
def _scratch(anchor: Path) -> Iterator[Path]:
    """A folder within `anchor` for what is not finished, locked as long as it is used, and removed then."""
    from filelock import FileLock

    with tempfile.TemporaryDirectory(dir=anchor, prefix=SCRATCH) as name, FileLock(Path(name, LOCK)):
        yield Path(name)


def _clear_scratch(anchor: Path) -> None:
    """Remove the scratch folders that killed processes left in `anchor`: those that nobody has locked."""
    from filelock import FileLock, Timeout

    for left in anchor.glob(f"{SCRATCH}*"):
        lock = left / LOCK
        if not lock.exists() and time.time() - left.stat().st_mtime < 60:
            continue  # just made, and about to be locked
        with contextlib.suppress(Timeout, OSError), FileLock(lock, timeout=0):
            shutil.rmtree(left)


def _check_existing(root: Path, folder: Path) -> None:
    try:
        cifar10.load(root)
    except UserError as error:
        raise UserError(f"{error}; remove {folder} to have it prepared anew") from error
    print(f"{folder} already holds CIFAR-10", file=sys.stderr)


def _download(url: str, sha256: str, archive: Path) -> None:
    """Fetch ``url`` to the file ``archive``; UserError unless all of it came and hashes right."""
    digest, received = hashlib.sha256(), 0
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            length = int(response.headers.get("Content-Length") or 0)
            with (
                archive.open("wb") as file,
                cifar10.progress(f"fetching {url}", length or None) as advance,
            ):
                while block := response.read(_BLOCK):
                    received += file.write(block)
                    digest.update(block)
                    advance(len(block))
    except urllib.error.HTTPError as error:
        error.close()  # it is the response as well, and holds the connection
        raise UserError(f"cannot fetch {url}: {cifar10.one_line(error)}") from error
    # ValueError: not an address.  A full disk ends here as well, and its message says so.
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise UserError(f"cannot fetch {url}: {cifar10.one_line(error)}") from error
    if received < length:
        raise UserError(f"cannot fetch {url}: it broke off after {received} of {length} bytes")
    if digest.hexdigest() != sha256:
        raise UserError(f"{url} is not the archive expected: its sha256 is {digest.hexdigest()}")


def _read_members(archive: Path, names: tuple[str, ...]) -> NDArray[np.uint8]:
    """The records (N, 3073) of the files ``names`` in the archive, one after another."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            contents = [_read_member(tar, name) for name in names]
    except (tarfile.TarError, EOFError, OSError, zlib.error, KeyError) as error:
        raise UserError(f"cannot unpack CIFAR-10: {cifar10.one_line(error)}") from error
    for name, content in zip(names, contents, strict=True):
        if not content or len(content) % _RECORD:
            raise UserError(f"{name} has {len(content)} bytes, no multiple of {_RECORD}")
    records = np.frombuffer(b"".join(contents), np.uint8).reshape(-1, _RECORD)
    if (highest := records[:, 0].max()) >= len(LABELS):
        raise UserError(f"the CIFAR-10 archive holds the label {highest}, over {len(LABELS) - 1}")
    return records


def _read_member(tar: tarfile.TarFile, name: str) -> bytes:
    file = tar.extractfile(name)
    if file is None:
        raise tarfile.TarError(f"{name} is not a file")
    with file:
        return file.read()


def _write(folder: Path, splits: dict[str, NDArray[np.uint8]]) -> None:
    """Write record files, dataset_info.json and features.json as tensorflow-datasets does."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.dataset_info import DatasetIdentity

    info = tfds.core.DatasetInfo(
        builder=DatasetIdentity(
            name="cifar10",
            version=tfds.core.Version(cifar10.VERSION),
            data_dir=os.fspath(folder),
            module_name="tensorflow_datasets.image_classification.cifar",
        ),
        features=tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=IMAGE_SHAPE),
                "label": tfds.features.ClassLabel(names=LABELS),
            }
        ),
        supervised_keys=("image", "label"),
        homepage="https://www.cs.toronto.edu/~kriz/cifar.html",
        citation="Alex Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009",
    )
    info.set_file_format("array_record")
    total = sum(map(len, splits.values()))
    with cifar10.progress(f"writing CIFAR-10 ({total:,} images)", total) as advance:
        written = [
            _write_split(folder, split, records, info.features, advance) for split, records in splits.items()
        ]
    info.set_splits(tfds.core.splits.SplitDict(written))
    info.write_to_directory(folder)


def _write_split(
    folder: Path,
    split: str,
    records: NDArray[np.uint8],
    features: Any,
    advance: Callable[[int], None],
) -> Any:
    """Write one record file, in the order of tfds's hash of the official index; its SplitInfo."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import example_serializer, file_adapters, hashing, naming

    file_format = file_adapters.FileFormat.ARRAY_RECORD
    template = naming.ShardedFileTemplate(
        dataset_name="cifar10",
        data_dir=folder,
        split=split,
        filetype_suffix=file_format.file_suffix,
    )
    serializer = example_serializer.ExampleSerializer(features.get_serialized_info())
    sizes = []

    def serialized() -> Iterator[tuple[int, bytes]]:
        for index in sorted(range(len(records)), key=hashing.Hasher(split).hash_key):
            example = {"id": f"{split}_{index:05d}", **_image_and_label(records[index])}
            data = serializer.serialize_example(features.encode_example(example))
            sizes.append(len(data))
            advance(1)
            yield index, data

    file_adapters.ADAPTER_FOR_FORMAT[file_format].write_examples(
        template.sharded_filepath(shard_index=0, num_shards=1), serialized()
    )
    return tfds.core.SplitInfo(
        name=split,
        shard_lengths=[len(records)],
        num_bytes=sum(sizes),
        filename_template=template,
    )


def _image_and_label(record: NDArray[np.uint8]) -> dict[str, Any]:
    """A PNG file in memory (tfds would need TensorFlow to compress an array) and its label."""
    from PIL import Image

    png = io.BytesIO()
    Image.fromarray(record[1:].reshape(3, 32, 32).transpose(1, 2, 0)).save(png, "png")
    png.seek(0)
    return {"image": png, "label": int(record[0])}
