"""Preparing CIFAR-10 from an archive of a few made-up images, served on the loopback address."""

import hashlib
import io
import sys
import tarfile
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from bnjax.data import cifar10, load, prepare
from bnjax.data.prepare import prepare_cifar10
from bnjax.errors import UserError

tfds = pytest.importorskip("tensorflow_datasets")
pytest.importorskip("PIL")

MEMBERS = (*prepare.MEMBERS["train"], *prepare.MEMBERS["test"])
PER_FILE = 8


@pytest.fixture(autouse=True)
def cache_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data folder that does not exist yet, in a folder that holds nothing else."""
    (tmp_path / "work").mkdir()
    return tmp_path / "work" / "data"


class Server(ThreadingHTTPServer):
    """Serves ``body`` with ``status``; ``claims`` is the Content-Length it sends."""

    daemon_threads = False  # closing the server waits for the threads, and so for their sockets
    status = 200
    body = b""
    claims = 0
    requests = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/cifar-10-binary.tar.gz"

    def serve(self, body: bytes, *, status: int = 200, claims: int | None = None) -> str:
        self.body, self.status = body, status
        self.claims = len(body) if claims is None else claims
        return self.url


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(self.server.claims))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def make_records(count: int = PER_FILE * len(MEMBERS)) -> np.ndarray:
    records = np.random.default_rng(0).integers(0, 256, (count, 3073), dtype=np.uint8)
    records[:, 0] = np.arange(count) % 10
    return records


def make_members() -> dict[str, bytes]:
    blocks = make_records().reshape(len(MEMBERS), -1)
    return {name: block.tobytes() for name, block in zip(MEMBERS, blocks, strict=True)}


def make_archive(members: dict[str, bytes] | None = None) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in (make_members() if members is None else members).items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def assert_refused(data_dir: Path, url: str, digest: str, says: str) -> None:
    """Preparing says ``says`` in one line and leaves nothing behind."""
    before = sorted(data_dir.parent.rglob("*"))
    with pytest.raises(UserError, match=says) as caught:
        prepare_cifar10(data_dir, url=url, sha256=digest)
    assert "\n" not in str(caught.value)
    assert sorted(data_dir.parent.rglob("*")) == before


def hash_order(split: str, count: int) -> list[int]:
    """tfds's shuffle, written out: by md5 of the split's name and the index."""
    return sorted(range(count), key=lambda i: hashlib.md5(f"{split}{i}".encode()).hexdigest())


def test_prepared_data_is_read_back(data_dir: Path, server: Server) -> None:
    archive = make_archive()
    folder = prepare_cifar10(data_dir, url=server.serve(archive), sha256=sha256(archive))
    assert folder == data_dir / "cifar10" / "3.0.2"
    train, test = np.split(make_records(), [5 * PER_FILE])
    train, test = train[hash_order("train", len(train))], test[hash_order("test", len(test))]
    found = load("cifar10", data_dir)
    np.testing.assert_array_equal(found.train_labels, train[:, 0])
    np.testing.assert_array_equal(found.test_labels, test[:, 0])
    # The archive holds planes, the data set pixels.
    planes = found.train_images.transpose(0, 3, 1, 2).reshape(len(train), -1)
    np.testing.assert_array_equal(planes, train[:, 1:])
    assert sorted(path.name for path in data_dir.parent.iterdir()) == ["data"]


def test_ids_and_names_are_the_official_ones(data_dir: Path, server: Server) -> None:
    archive = make_archive()
    prepare_cifar10(data_dir, url=server.serve(archive), sha256=sha256(archive))
    builder = tfds.builder_from_directory(data_dir / "cifar10" / "3.0.2")
    assert builder.info.features["label"].names == list(prepare.LABELS)
    source = builder.as_data_source("train")
    with cifar10.quiet_absl():
        ids = [source[i]["id"] for i in range(3)]
    assert ids == [f"train_{i:05d}".encode() for i in hash_order("train", 5 * PER_FILE)[:3]]


def test_official_order_of_all_fifty_thousand() -> None:
    # The first ids of tfds's own cifar10, train split.
    assert hash_order("train", 50_000)[:5] == [16399, 1680, 47917, 17307, 27051]


def test_checksum_is_the_one_tfds_publishes() -> None:
    checksums = Path(tfds.__file__).parent / "url_checksums" / "cifar10.txt"
    url, _, digest, *_ = checksums.read_text().split("\t")
    assert (url, digest) == (prepare.URL, prepare.SHA256)


def test_complete_data_is_left_alone(
    data_dir: Path, server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = make_archive()
    folder = prepare_cifar10(data_dir, url=server.serve(archive), sha256=sha256(archive))
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    capsys.readouterr()
    assert prepare_cifar10(data_dir, url=server.url, sha256="") == folder
    assert f"{folder} already holds CIFAR-10" in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == before
    assert server.requests == 1


def test_damaged_data_is_neither_used_nor_overwritten(data_dir: Path, server: Server) -> None:
    archive = make_archive()
    folder = prepare_cifar10(data_dir, url=server.serve(archive), sha256=sha256(archive))
    next(folder.glob("*train*")).write_bytes(b"")
    assert_refused(data_dir, server.url, sha256(archive), f"is damaged.*; remove {folder}")


# Downloads that fail


def test_truncated_body(data_dir: Path, server: Server) -> None:
    archive = make_archive()
    url = server.serve(archive[:-100], claims=len(archive))
    assert_refused(data_dir, url, sha256(archive), "broke off after")


def test_wrong_checksum(data_dir: Path, server: Server) -> None:
    archive = make_archive()
    assert_refused(data_dir, server.serve(archive), "0" * 64, sha256(archive))


def test_not_found(data_dir: Path, server: Server) -> None:
    assert_refused(data_dir, server.serve(b"gone", status=404), "", "cannot fetch http.*404")


def test_refused_connection(data_dir: Path) -> None:
    with Server(("127.0.0.1", 0), Handler) as closed:
        url = closed.url
    assert_refused(data_dir, url, "", "cannot fetch http.*refused")


def test_no_address(data_dir: Path) -> None:
    assert_refused(data_dir, "cifar", "", "cannot fetch cifar: unknown url type")


# Archives that are not CIFAR-10


def without(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.__delitem__(name)


def replacing(name: str, content: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda members: members.__setitem__(name, content)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (without(MEMBERS[2]), "cannot unpack.*data_batch_3.bin"),
        (replacing(MEMBERS[5], b""), "test_batch.bin has 0 bytes"),
        (replacing(MEMBERS[5], bytes(3072)), "test_batch.bin has 3072 bytes"),
        (replacing(MEMBERS[0], b"\x0a" * 3073), "label 10"),
    ],
    ids=["missing member", "empty member", "broken record", "label"],
)
def test_wrong_members(
    change: Callable[[dict[str, bytes]], None], says: str, data_dir: Path, server: Server
) -> None:
    members = make_members()
    change(members)
    archive = make_archive(members)
    assert_refused(data_dir, server.serve(archive), sha256(archive), says)


@pytest.mark.parametrize("body", [b"no archive at all", make_archive()[:-500]])
def test_no_archive(body: bytes, data_dir: Path, server: Server) -> None:
    assert_refused(data_dir, server.serve(body), sha256(body), "cannot unpack")


def test_missing_package_is_found_before_downloading(
    data_dir: Path, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert_refused(data_dir, server.serve(make_archive()), "", r'PIL: pip install "bnjax\[train\]"')
    assert server.requests == 0


# Folders that cannot be written


def test_data_dir_is_a_file(data_dir: Path, server: Server) -> None:
    data_dir.write_text("a file")
    assert_refused(data_dir, server.serve(make_archive()), "", f"cannot prepare .* in {data_dir}")
    assert server.requests == 0


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("write() failed")])
def test_full_disk(error: Exception, data_dir: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(folder: Path, splits: object) -> None:
        (folder / "half").write_bytes(b"half")
        raise error

    monkeypatch.setattr(prepare, "_write", half)
    archive = make_archive()
    says = "cannot prepare CIFAR-10.*(No space left|failed)"
    assert_refused(data_dir, server.serve(archive), sha256(archive), says)


def test_interrupt_leaves_nothing(data_dir: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(record: np.ndarray) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prepare, "_image_and_label", interrupt)
    archive = make_archive()
    with pytest.raises(KeyboardInterrupt):
        prepare_cifar10(data_dir, url=server.serve(archive), sha256=sha256(archive))
    assert not list(data_dir.parent.iterdir())
