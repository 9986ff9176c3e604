"""The map and the headroom: what their figures say."""

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest
from matplotlib import image

from bnjax.train.sweep_plots import draw_headroom, draw_sweep

RESULTS = Path(__file__).parents[2] / "results"
HATCHED = "fill: url(#"  # how SVG fills by a pattern


def row(norm="none", rate=0.1, seed=0, outcome="trained", accuracy: float | None = 0.5):
    recipe = {"norm": norm, "init": "glorot", "momentum": 0.9, "learning_rate": rate, "seed": seed}
    return recipe | {"outcome": outcome, "test_accuracy": accuracy}


def words(svg):
    """The figure's words, a line a text, in order."""
    texts = ElementTree.parse(svg).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(e.itertext()).strip() for e in texts]


@pytest.fixture
def draw(tmp_path):
    def drawn(figure, rows):
        (tmp_path / "summary.json").write_text(json.dumps({"runs": rows}))
        figure(tmp_path)
        name = figure.__name__.removeprefix("draw_")
        return words(tmp_path / f"{name}.svg"), (tmp_path / f"{name}.svg").read_text()

    return drawn


def test_the_map_names_what_it_shows(draw, tmp_path):
    told, _ = draw(draw_sweep, [row(), row("batch", 0.01), row("batch", outcome="frozen", accuracy=0.1)])
    for word in ("batch norm", "no norm", "Glorot, momentum 0.9", "learning rate", "0.01", "0.1", "frozen"):
        assert word in told
    assert told.count("50.0") == 2
    assert image.imread(tmp_path / "sweep.png").shape[1] >= 1000


def test_a_cell_of_many_seeds_counts_their_outcomes(draw):
    outcomes = [("trained", 0.5), ("trained", 0.514), ("frozen", 0.1), ("diverged", None)]
    told, svg = draw(draw_sweep, [row(seed=s, outcome=o, accuracy=a) for s, (o, a) in enumerate(outcomes)])
    for word in ("50.7 ± 1.0", "2 trained", "1 frozen", "1 diverged"):
        assert word in told
    assert svg.count(HATCHED) == 1  # the strip of the one that diverged


def test_only_what_diverged_is_hatched(draw):
    _, svg = draw(draw_sweep, [row(outcome="unstable", accuracy=0.1)])
    assert HATCHED not in svg


@pytest.mark.thorough
def test_the_headroom_is_in_the_panels_title(draw):
    rows = [
        row(norm, rate, seed, *(("trained", 0.4) if rate <= most else ("diverged", None)))
        for norm, most in (("batch", 0.05), ("none", 0.01))
        for rate in (0.01, 0.02, 0.05, 0.1)
        for seed in range(3)
    ]
    told, _ = draw(draw_headroom, rows)
    assert "headroom 5 (75 % interval 2.5 to 10)" in told
    assert "Glorot, momentum 0.9" in told
    assert "no norm, diverged" in told


@pytest.mark.parametrize("norms", [("batch",), ("none",), ("batch", "none")])
def test_a_sweep_of_one_network_or_one_rate_is_drawn_without_a_headroom(draw, norms):
    told, _ = draw(draw_headroom, [row(norm) for norm in norms])
    assert not any("headroom" in word for word in told)
    assert ("batch norm" in told, "no norm" in told) == ("batch" in norms, "none" in norms)


def test_where_all_diverged_there_is_still_a_figure(draw):
    told, _ = draw(draw_headroom, [row(rate=rate, outcome="diverged", accuracy=None) for rate in (0.1, 1)])
    assert "no norm, diverged" in told


@pytest.mark.thorough
def test_the_results_can_be_drawn_again(tmp_path):
    shutil.copy(RESULTS / "map" / "summary.json", tmp_path)
    draw_sweep(tmp_path)
    draw_headroom(tmp_path)
    for name in ("sweep", "headroom"):
        assert "batch norm" in words(tmp_path / f"{name}.svg")
