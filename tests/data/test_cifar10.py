"""Reading CIFAR-10: the arrays, the cache, and one clear line for whatever is wrong with the data.

Most tests write a small data set with tfds's own writer; those that need the real images are
skipped where there are none.
"""

import io
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from bnjax.data import Dataset, cifar10, load
from bnjax.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")
Image = pytest.importorskip("PIL.Image")

START_ENVIRONMENT = dict(os.environ)  # the fixture below hides TFDS_DATA_DIR
TRAIN_FILE = "cifar10-train.array_record-00000"


@pytest.fixture(autouse=True)
def cache_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    home = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    return home


def real_data_dir(part: str = "") -> Path:
    """The folder of the real images; skips the test where there is none."""
    beside = Path(__file__).resolve().parents[3] / "shared" / "data"
    folder = Path(START_ENVIRONMENT.get("TFDS_DATA_DIR", beside)) / part
    if not (folder / "cifar10").is_dir():
        pytest.skip(f"no CIFAR-10 in {folder}; TFDS_DATA_DIR names another folder")
    return folder


def make_arrays(train: int = 30, test: int = 20, side: int = 32) -> Dataset:
    rng = np.random.default_rng(0)
    return Dataset(
        rng.integers(0, 256, (train, side, side, 3), dtype=np.uint8),
        (np.arange(train) % 10).astype(np.int32),
        rng.integers(0, 256, (test, side, side, 3), dtype=np.uint8),
        (np.arange(test) % 10).astype(np.int32),
    )


def write_dataset(root: Path, arrays: Dataset) -> Path:
    """Write ``arrays`` in their order as tfds's cifar10, whatever their shapes and labels."""
    folder = root / "cifar10" / "3.0.2"
    folder.mkdir(parents=True)
    info = tfds.core.DatasetInfo(
        builder=tfds.core.dataset_info.DatasetIdentity(
            name="cifar10",
            version=tfds.core.Version("3.0.2"),
            data_dir=str(folder),
            module_name="tensorflow_datasets.image_classification.cifar",
        ),
        features=tfds.features.FeaturesDict(
            {
                "id": tfds.features.Text(),
                "image": tfds.features.Image(shape=(None, None, 3)),
                "label": tfds.features.ClassLabel(num_classes=99),
            }
        ),
    )
    writer = tfds.core.SequentialWriter(ds_info=info, max_examples_per_shard=1000, file_format="array_record")
    writer.initialize_splits(["train", "test"])
    writer.add_examples(
        {
            "train": examples(arrays.train_images, arrays.train_labels),
            "test": examples(arrays.test_images, arrays.test_labels),
        }
    )
    writer.close_all()
    return folder


def examples(images: np.ndarray, labels: np.ndarray) -> list[dict[str, object]]:
    rows = []
    for index, (image, label) in enumerate(zip(images, labels, strict=True)):
        png = io.BytesIO()
        Image.fromarray(image).save(png, "png")
        png.seek(0)
        rows.append({"id": str(index), "image": png, "label": int(label)})
    return rows


def assert_same(found: Dataset, expected: Dataset) -> None:
    for name, array in expected._asdict().items():
        np.testing.assert_array_equal(getattr(found, name), array, err_msg=name, strict=True)


def forbid_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("tensorflow-datasets was asked")

    monkeypatch.setattr(tfds, "data_source", refuse)


def test_arrays_come_in_record_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arrays = make_arrays()
    write_dataset(tmp_path, arrays)
    assert_same(load("cifar10", tmp_path), arrays)
    assert capsys.readouterr().err == "decoding CIFAR-10 (50 images) ...\n"


def test_images_beyond_one_chunk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cifar10, "_CHUNK", 7)
    arrays = make_arrays()
    write_dataset(tmp_path, arrays)
    assert_same(load("cifar10", tmp_path), arrays)


def test_importing_the_package_does_not_import_its_readers() -> None:
    heavy = "{'tensorflow_datasets', 'bnjax.data.cifar10', 'rich', 'PIL'}"
    code = f"import sys, bnjax.data; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Where the data is looked for


def test_argument_beats_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path / "argument", make_arrays(train=10))
    write_dataset(tmp_path / "environment", make_arrays(train=20))
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "environment"))
    assert len(load("cifar10", tmp_path / "argument").train_labels) == 10
    assert len(load("cifar10").train_labels) == 20


def test_default_is_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(UserError, match="tensorflow_datasets") as caught:
        load("cifar10")
    assert str(tmp_path / "tensorflow_datasets" / "cifar10" / "3.0.2") in str(caught.value)
    write_dataset(tmp_path / "tensorflow_datasets", make_arrays())
    assert len(load("cifar10").train_labels) == 30


def test_absent_folder_is_reported_without_asking_tfds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_decoding(monkeypatch)
    with pytest.raises(UserError) as caught:
        load("cifar10", tmp_path / "nowhere")
    message = str(caught.value)
    assert str(tmp_path / "nowhere" / "cifar10" / "3.0.2") in message
    assert f"bnjax data cifar10 --data-dir {tmp_path / 'nowhere'}" in message
    assert "TFDS_DATA_DIR" in message
    assert "\n" not in message


@pytest.mark.parametrize("package", ["tensorflow_datasets", "filelock", "platformdirs", "rich"])
def test_missing_package_is_named_with_its_extra(
    package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_dataset(tmp_path, make_arrays())
    for name in [n for n in sys.modules if n.startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf'{package}.*: pip install "bnjax\[train\]"'):
        load("cifar10", tmp_path)


# What can be wrong with it


def truncate(folder: Path) -> None:
    file = folder / TRAIN_FILE
    file.write_bytes(file.read_bytes()[:70_000])


def flip_bytes(folder: Path) -> None:
    file = folder / TRAIN_FILE
    content = bytearray(file.read_bytes())
    content[40_000:40_010] = b"0123456789"
    file.write_bytes(content)


def claim(count: str) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        info = folder / "dataset_info.json"
        text = info.read_text()
        assert '"30"' in text
        info.write_text(text.replace('"30"', f'"{count}"'))

    return rewrite


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (truncate, "is damaged: .*"),
        (flip_bytes, "is damaged: Corrupted"),
        (lambda folder: (folder / TRAIN_FILE).write_bytes(b""), "is damaged: .*64KB"),
        (lambda folder: (folder / TRAIN_FILE).unlink(), "is damaged: .*No such file"),
        (claim("29"), "holds 30 records where dataset_info.json says 29"),
        (claim("31"), "holds 30 records where dataset_info.json says 31"),
        (lambda folder: (folder / "dataset_info.json").write_text("{"), "is damaged: .*JSON"),
        (lambda folder: (folder / "dataset_info.json").write_text("{}"), "is damaged: "),
        (lambda folder: (folder / "dataset_info.json").unlink(), "dataset_info.json"),
    ],
    ids=[
        "truncated", "flipped", "empty", "missing shard", "too many", "too few",
        "no JSON", "empty JSON", "missing JSON",
    ],
)  # fmt: skip
def test_damaged_files(damage: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, make_arrays())
    damage(folder)
    with pytest.raises(UserError, match=says) as caught:
        load("cifar10", tmp_path)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__ is not None


def test_images_of_another_shape(tmp_path: Path) -> None:
    write_dataset(tmp_path, make_arrays(side=28))
    with pytest.raises(UserError, match=r"is damaged: train image 0 has shape \(28, 28, 3\)"):
        load("cifar10", tmp_path)


def test_label_out_of_range(tmp_path: Path) -> None:
    arrays = make_arrays()
    arrays.test_labels[3] = 10
    write_dataset(tmp_path, arrays)
    with pytest.raises(UserError, match="is damaged: test image 3 has label 10"):
        load("cifar10", tmp_path)


# The cache


def test_second_load_does_not_decode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path, make_arrays())
    first = load("cifar10", tmp_path)
    forbid_decoding(monkeypatch)
    assert_same(load("cifar10", tmp_path), first)


def test_nothing_is_written_into_the_data_folder(tmp_path: Path) -> None:
    folder = write_dataset(tmp_path, make_arrays())
    before = sorted(folder.iterdir())
    load("cifar10", tmp_path)
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("keep", [0, 5_000, -1])
def test_damaged_cache_is_decoded_anew(keep: int, tmp_path: Path, cache_home: Path) -> None:
    write_dataset(tmp_path, make_arrays())
    first = load("cifar10", tmp_path)
    (cache,) = cache_home.rglob("*.npz")
    content = cache.read_bytes()
    damaged = bytearray(content)
    damaged[10_000] ^= 1
    cache.write_bytes(content[:keep] if keep >= 0 else damaged)
    assert_same(load("cifar10", tmp_path), first)
    assert cache.read_bytes()[10_000] == content[10_000]


def test_changed_data_is_decoded_anew(tmp_path: Path, cache_home: Path) -> None:
    folder = write_dataset(tmp_path, make_arrays())
    load("cifar10", tmp_path)
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    write_dataset(tmp_path, make_arrays(train=40))
    assert len(load("cifar10", tmp_path).train_labels) == 40


def test_failed_decoding_leaves_no_cache(tmp_path: Path, cache_home: Path) -> None:
    truncate(write_dataset(tmp_path, make_arrays()))
    with pytest.raises(UserError):
        load("cifar10", tmp_path)
    assert [path.suffix for path in cache_home.rglob("*") if path.is_file()] in ([], [".lock"])


def test_cache_that_cannot_be_made_is_only_a_warning(
    tmp_path: Path, cache_home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    arrays = make_arrays()
    write_dataset(tmp_path, arrays)
    cache_home.write_text("a file where the cache folder should be")
    assert_same(load("cifar10", tmp_path), arrays)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert "not kept" in record.message


def test_cache_that_cannot_be_written_is_only_a_warning(
    tmp_path: Path,
    cache_home: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full_disk(path: Path, **arrays: np.ndarray) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    arrays = make_arrays()
    write_dataset(tmp_path, arrays)
    monkeypatch.setattr(np, "savez", full_disk)
    assert_same(load("cifar10", tmp_path), arrays)
    assert "No space left" in caplog.text
    assert not [path for path in cache_home.rglob("*") if path.suffix == ".npz"]


def test_two_at_once_decode_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arrays, calls = make_arrays(), []

    def slow(root: Path) -> Dataset:
        calls.append(root)
        time.sleep(0.3)  # long enough for the other to arrive, were it not held back
        return arrays

    write_dataset(tmp_path, arrays)
    monkeypatch.setattr(cifar10, "_decode", slow)
    with ThreadPoolExecutor(2) as pool:
        for found in pool.map(lambda _: load("cifar10", tmp_path), range(2)):
            assert_same(found, arrays)
    assert len(calls) == 1


# The real images


def test_real_subset() -> None:
    dataset = load("cifar10", real_data_dir("tiny"))
    assert dataset.train_images.shape == (2000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(dataset.train_labels), 200)
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), 100)


@pytest.mark.slow
def test_real_images() -> None:
    dataset = load("cifar10", real_data_dir())
    assert dataset.test_images.shape == (10_000, 32, 32, 3)
    np.testing.assert_array_equal(np.bincount(dataset.train_labels), 5000)
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), 1000)
    # The published means; a hundredth of a grey level allows for another PNG copy of the images.
    means = dataset.train_images.mean((0, 1, 2)) / 255
    np.testing.assert_allclose(means, [0.4913997, 0.4821584, 0.4465309], atol=4e-5)
