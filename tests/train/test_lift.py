"""The experiment on a handful of images: its files, its summary, its figure."""

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
from matplotlib import image
from matplotlib.figure import Figure

from bnjax.data import load
from bnjax.errors import UserError
from bnjax.train import plots
from bnjax.train.config import Config
from bnjax.train.lift import lift
from bnjax.train.plots import draw_lift

RESULTS = Path(__file__).parents[2] / "results"


@pytest.fixture(scope="module")
def lifted(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("lift") / "out"
    config = Config(epochs=2, batch_size=16, learning_rate=0.01, init="glorot")
    return out, lift(config, data, out)


def test_it_makes_both_runs_the_figure_and_the_summary(lifted):
    out, _ = lifted
    assert sorted(path.name for path in out.iterdir()) == [
        "batch", "lift.png", "lift.svg", "none", "summary.json"
    ]  # fmt: skip
    for norm in ("batch", "none"):
        assert json.loads((out / norm / "config.json").read_text())["config"]["norm"] == norm


def test_the_summary_is_the_results(lifted):
    out, results = lifted
    summary = json.loads((out / "summary.json").read_text())
    assert summary == {"runs": [result.row() for result in results]}
    for row, norm in zip(summary["runs"], ("batch", "none"), strict=True):
        assert list(row) == [
            "norm", "learning_rate", "momentum", "init", "seed", "epochs", "train_loss", "test_accuracy",
            "outcome",
        ]  # fmt: skip
        assert row["norm"] == norm
        last = json.loads((out / norm / "metrics.jsonl").read_text().splitlines()[-1])
        assert (row["train_loss"], row["test_accuracy"]) == (last["train_loss"], last["test_accuracy"])


def test_what_is_done_is_not_done_again(lifted, data):
    out, results = lifted
    config = Config(epochs=2, batch_size=16, learning_rate=0.01, init="glorot")
    before = (out / "batch" / "metrics.jsonl").read_bytes()
    assert lift(config, data, out, resume=True) == results
    assert (out / "batch" / "metrics.jsonl").read_bytes() == before
    with pytest.raises(UserError, match="already holds"):
        lift(config, data, out)


def test_the_figure_is_legible_at_readme_width(lifted):
    out, results = lifted
    pixels = image.imread(out / "lift.png")
    assert pixels.shape[1] >= 1200
    assert np.ptp(pixels) > 0.5
    text = figure_text(out)
    assert "Synthetic images: SGD, learning rate 0.01, momentum 0, Glorot initialization" in text
    assert f"batch norm: {results[0].test_accuracy:.2%}".replace("%", " %") in text
    assert "log 10 (chance)" in text


@pytest.mark.thorough
def test_the_figure_shows_a_run_that_diverged(data, tmp_path):
    hot = lift(Config(epochs=2, batch_size=16, learning_rate=1e20), data, tmp_path / "hot")
    assert hot[1].outcome == "diverged"
    assert "no norm: diverged in epoch 1" in figure_text(tmp_path / "hot")


def test_a_run_that_diverged_has_no_point_at_chance():
    """It has neither a loss nor an accuracy: its cross is on the upper edge, in the axes' own units."""
    row = {"epoch": 1, "train_loss": 1.0, "test_accuracy": 0.5, "outcome": "trained"}
    gone = {"epoch": 2, "train_loss": None, "test_accuracy": None, "outcome": "diverged"}
    figure = Figure()
    axes = figure.subplots(1, 2)
    plots.draw_run(*axes, "none", [row, gone])
    for panel in axes:
        curve, cross = panel.lines
        assert list(curve.get_xdata()) == [1]
        assert (list(cross.get_xdata()), list(cross.get_ydata())) == ([2], [1])
        assert cross.get_transform() == panel.get_xaxis_transform()


@pytest.mark.parametrize("folder", sorted(RESULTS.glob("lift-*")), ids=lambda p: p.name)
def test_earlier_results_can_still_be_drawn(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    draw_lift(tmp_path / "copy")


def test_the_title_says_all_of_the_recipe(tmp_path):
    out = shutil.copytree(RESULTS / "lift-cifar10", tmp_path / "copy")
    draw_lift(out)
    assert "schedule" not in figure_text(out)
    file = out / "batch" / "config.json"
    record = json.loads(file.read_text())
    record["config"] |= {
        "schedule": "cosine",
        "weight_decay": 5e-4,
        "augment": "none",
        "label_smoothing": 0.0,
    }
    file.write_text(json.dumps(record))
    draw_lift(out)
    assert "cosine schedule, weight decay 0.0005" in figure_text(out)
    assert "smoothing" not in figure_text(out)


def test_the_same_numbers_draw_the_same_svg(lifted):
    out, _ = lifted
    before = (out / "lift.svg").read_bytes()
    draw_lift(out)
    assert (out / "lift.svg").read_bytes() == before


def figure_text(out):
    return " ".join(ElementTree.parse(out / "lift.svg").getroot().itertext())


def test_what_is_there_is_kept(lifted, data):
    out, _ = lifted
    before = (out / "summary.json").read_bytes()
    with pytest.raises(UserError, match="already holds files"):
        lift(Config(), data, out)
    assert (out / "summary.json").read_bytes() == before


def test_data_that_do_not_fit_leave_nothing_behind(data, tmp_path):
    with pytest.raises(UserError, match="batch_size must be at most the 32"):
        lift(Config(batch_size=64), data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_embedded_set_shows_the_lift(tmp_path):
    """Batch norm passes 85 % in 3 epochs where a linear classifier stays under 45 %; without it, less."""
    batch, none = lift(Config(epochs=3), load("synthetic"), tmp_path / "out")
    assert batch.test_accuracy is not None
    assert batch.test_accuracy > 0.85
    assert none.outcome != "trained" or none.test_accuracy < batch.test_accuracy
