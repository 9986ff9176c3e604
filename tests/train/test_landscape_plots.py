"""The figures of the landscape: what they say of runs made up."""

import json
import math

import pytest
from matplotlib import image

from bnjax.train import landscape_plots as plots


def point(step=0, loss=2.0, **more):
    made = {
        "step": step, "loss": loss, "losses": [loss / 2, loss, 2 * loss, None], "gradient": 4.0,
        "changes": [1.0, 2.0, 3.0, None], "dead": [0.25, 0.125], "spread": 0.5, "confidence": 0.3,
        "shifts": [0.1, 0.3, None],
    }  # fmt: skip
    return made | more


def run(norm, rate, seed=0, points=()):
    config = {"norm": norm, "learning_rate": rate, "seed": seed}
    layers = {"layers": ["conv 1", "conv 2", "dense 1"], "kernel_gradients": [1.0, 2.0 + seed, 3.0]}
    return {"config": config, **layers, "points": list(points), "losses": [2.0, 2.0] if points else [None]}


@pytest.fixture
def folder(tmp_path):
    def with_runs(*runs):
        for number, made in enumerate(runs):
            (tmp_path / f"{number}.json").write_text(json.dumps(made))
        return tmp_path

    return with_runs


def test_the_measures_of_a_point():
    assert plots.turn(point()) == 0.5
    assert plots.shift(point()) == pytest.approx(0.2)
    assert plots.dead(point()) == 25
    assert plots.losses(point()) == [2, 1, 2, 4]
    assert math.isnan(plots.turn(point(changes=[None] * 4)))
    assert math.isnan(plots.shift(point(shifts=[None])))


def test_runs_come_back_in_order(folder):
    out = folder(run("none", 0.1), run("batch", 0.1, 1), run("batch", 0.1, 0), run("none", 0.01))
    found = [tuple(made["config"].values()) for made in plots.read_runs(out)]
    assert found == [("none", 0.01, 0), ("batch", 0.1, 0), ("batch", 0.1, 1), ("none", 0.1, 0)]


@pytest.mark.parametrize("draw", [plots.draw_landscape, plots.draw_freeze])
def test_the_figures_are_drawn_with_a_seed_that_ended_early(folder, draw):
    whole = [point(0), point(5)]
    out = folder(
        *(run(norm, rate, 0, whole) for norm in ("batch", "none") for rate in (0.01, 0.1)),
        run("none", 0.1, 1, [point(0, 3.0, spread=0.0, shifts=[None])]),
        run("none", 0.1, 2),  # diverged at once
    )
    draw(out)
    name = draw.__name__.removeprefix("draw_")
    text = (out / f"{name}.svg").read_text()
    for word in (
        "batch norm",
        "no norm",
        "step",
        "learning rate 0.1" if "land" in name else "Learning rate 0.1",
    ):
        assert f">{word}</text>" in text
    assert image.imread(out / f"{name}.png").shape[1] >= 1000


@pytest.mark.thorough
def test_one_network_alone_is_drawn(folder):
    out = folder(run("batch", 0.1, 0, [point()]))
    plots.draw_landscape(out)
    plots.draw_freeze(out)
    assert "no norm" not in (out / "freeze.svg").read_text()
