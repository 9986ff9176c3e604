"""The sweep on a handful of images: its grid, its files, its map."""

import json
import math
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from matplotlib import image

from bnjax.data import synthetic
from bnjax.errors import UserError
from bnjax.train import plots
from bnjax.train import sweep as sweep_module
from bnjax.train.config import Config, folder, grid
from bnjax.train.plots import draw_sweep
from bnjax.train.sweep import sweep

RESULTS = Path(__file__).parents[2] / "results"
CONFIG = Config(epochs=1, batch_size=16)


@pytest.fixture(scope="module")
def data():
    return synthetic.generate(train=32, test=20)


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
        "sweep.png", "sweep.svg", "summary.json", *map(folder, configs)
    }  # fmt: skip
    rows = json.loads((out / "summary.json").read_text())["runs"]
    assert [(r["norm"], r["learning_rate"]) for r in rows] == [(c.norm, c.learning_rate) for c in configs]
    assert [r["outcome"] for r in rows] == [r.outcome for r in results]
    assert rows[3]["outcome"] == "diverged"


def words(svg):
    return " ".join(
        "".join(e.itertext()) for e in ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    )


def test_the_map_says_what_came_of_each_recipe(swept):
    out, results = swept
    assert image.imread(out / "sweep.png").shape[1] >= 1000
    told = words(out / "sweep.svg")
    for word in ("batch norm", "no norm", "He, momentum 0", "learning rate", "0.01", "1e+20", "diverged"):
        assert word in told
    assert results[0].outcome in told


def test_a_cell_that_trained_says_its_accuracy(tmp_path):
    row = {"norm": "none", "init": "glorot", "momentum": 0.9, "learning_rate": 0.1, "outcome": "trained"}
    rows = [row | {"test_accuracy": accuracy} for accuracy in (0.5, 0.514)]
    (tmp_path / "summary.json").write_text(json.dumps({"runs": rows}))
    draw_sweep(tmp_path)
    assert "50.7" in words(tmp_path / "sweep.svg")


def test_a_cell_of_many_seeds_counts_their_outcomes(tmp_path):
    row = {"norm": "none", "init": "glorot", "momentum": 0.9, "learning_rate": 0.1, "test_accuracy": 0.5}
    rows = [row | {"outcome": o} for o in ("trained", "trained", "frozen")]
    (tmp_path / "summary.json").write_text(json.dumps({"runs": rows}))
    draw_sweep(tmp_path)
    told = words(tmp_path / "sweep.svg")
    assert "2 trained" in told
    assert "1 frozen" in told


def test_what_is_done_is_not_done_again(swept, data, configs, monkeypatch):
    out, results = swept
    monkeypatch.setattr(sweep_module, "draw_sweep", lambda _: None)
    assert list(sweep(configs, data, out, resume=True)) == results
    with pytest.raises(UserError, match="already holds"):
        next(sweep(configs, data, out))


def test_a_cell_that_diverged_is_grey_and_others_keep_their_accuracy():
    trained, frozen = (
        {"test_accuracy": 0.5, "outcome": "trained"},
        {"test_accuracy": 0.1, "outcome": "frozen"},
    )
    diverged = {"test_accuracy": None, "outcome": "diverged"}
    assert math.isnan(plots.mean_accuracy([diverged, diverged]))
    assert plots.mean_accuracy([trained, diverged]) == 50
    assert plots.mean_accuracy([trained, frozen]) == 30


def test_earlier_results_can_still_be_drawn(tmp_path):
    shutil.copytree(RESULTS / "sweep-cifar10", tmp_path / "copy")
    draw_sweep(tmp_path / "copy")
    assert "frozen" in words(tmp_path / "copy" / "sweep.svg")
