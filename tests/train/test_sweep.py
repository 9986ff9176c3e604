"""The sweep on a handful of images: its grid and its files."""

import json

import pytest

from bnjax.errors import UserError
from bnjax.train import sweep as sweep_module
from bnjax.train.config import Config, folder, grid
from bnjax.train.sweep import sweep

CONFIG = Config(epochs=1, batch_size=16)


@pytest.fixture(scope="module")
def configs():
    return grid(CONFIG, ["batch", "none"], [0.01, 1e20], [0.0], ["he"], [0])


@pytest.fixture(scope="module")
def swept(data, configs, tmp_path_factory):
    out = tmp_path_factory.mktemp("sweep") / "out"
    return out, list(sweep(configs, data, out))


def test_the_grid_is_every_combination_once():
    found = grid(CONFIG, ["batch", "none"], [0.1, 0.01], [0.0, 0.9, 0.0], ["he", "glorot"], [0, 1, 2])
    assert len(found) == len(set(found)) == 2 * 2 * 2 * 2 * 3
    assert {c.epochs for c in found} == {1}
    assert len({folder(c) for c in found}) == len(found)
    assert folder(found[0]) == "batch-he-momentum0-lr0.1-seed0"
    close = grid(CONFIG, ["none"], [0.1, 0.1000000001], [0.0], ["he"], [0])
    assert folder(close[0]) != folder(close[1])


def test_it_makes_a_run_for_each_the_summary_and_the_map(swept, configs):
    out, results = swept
    assert {path.name for path in out.iterdir()} == {
        "sweep.png", "sweep.svg", "headroom.png", "headroom.svg", "summary.json", *map(folder, configs)
    }  # fmt: skip
    rows = json.loads((out / "summary.json").read_text())["runs"]
    assert [(r["norm"], r["learning_rate"]) for r in rows] == [(c.norm, c.learning_rate) for c in configs]
    assert [r["outcome"] for r in rows] == [r.outcome for r in results]
    assert rows[3]["outcome"] == "diverged"


def test_what_is_done_is_not_done_again(swept, data, configs, monkeypatch):
    out, results = swept
    monkeypatch.setattr(sweep_module, "draw_sweep", lambda _: None)
    monkeypatch.setattr(sweep_module, "draw_headroom", lambda _: None)
    assert list(sweep(configs, data, out, resume=True)) == results
    with pytest.raises(UserError, match="already holds"):
        next(sweep(configs, data, out))
