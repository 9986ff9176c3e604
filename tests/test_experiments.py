"""The lists of runs that the experiments work off."""

import dataclasses
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from bnjax.train.config import Config, folder
from bnjax.train.directory import Record
from bnjax.train.step import Standardization
from experiments import best_rate, whole_runs
from experiments import map as whole_map

ROOT = Path(__file__).resolve().parent.parent


def test_the_map_is_whole_seed_by_seed():
    blocks = whole_map.blocks()
    names = [name for block in blocks for name in block]
    assert len(names) == len(set(names)) == 288
    for block in blocks:
        assert {(c.norm, c.learning_rate) for c in block.values()} == {
            (norm, rate) for norm in ("batch", "none") for rate in whole_map.RATES
        }
        assert len({(c.init, c.momentum, c.seed) for c in block.values()}) == 1
        assert all(folder(config) == name for name, config in block.items())
    firsts = [next(iter(block.values())) for block in blocks]
    assert Counter((c.init, c.momentum) for c in firsts) == {
        ("he", 0.9): 5, ("he", 0.0): 5, ("glorot", 0.9): 3, ("glorot", 0.0): 3
    }  # fmt: skip


def test_a_run_of_the_map_is_200_steps():
    assert whole_map.CONFIG.train_examples == 200 * whole_map.CONFIG.batch_size
    assert whole_map.CONFIG.epochs == 1


def test_the_whole_runs_are_both_networks_30_epochs_each_once_seed_by_seed():
    configs = whole_runs.configs()
    assert len(set(configs.values())) == len(configs)
    assert {config.epochs for config in configs.values()} == {30}
    assert Counter(config.norm for config in configs.values()) == {"batch": 11, "none": 11}
    assert list(configs)[:2] == [f"chapter-{norm}-he-momentum0.9-lr0.1-seed0" for norm in ("batch", "none")]
    seeds = [config.seed for config in configs.values()]
    assert seeds == sorted(seeds)


def test_the_best_recipes_rates_are_tried_by_short_runs_of_it():
    configs = best_rate.configs()
    assert len(set(configs.values())) == len(configs) == 18
    for name, config in configs.items():
        assert name.startswith(config.schedule)
        whole = Config.of(
            recipe="best", dataset="cifar10", norm=config.norm, learning_rate=config.learning_rate
        )
        assert dataclasses.replace(config, epochs=30, schedule="one-cycle") == whole


def test_the_best_recipe_runs_at_the_rates_that_were_best():
    """Neither at an end of those that were tried."""
    rows = json.loads((ROOT / "results" / "best-rate" / "one-cycle" / "summary.json").read_text())["runs"]
    best = {}
    for norm in ("batch", "none"):
        accuracies = {r["learning_rate"]: r["test_accuracy"] or 0.0 for r in rows if r["norm"] == norm}
        assert set(accuracies) == set(best_rate.RATES["one-cycle"][norm])
        best[norm] = max(accuracies, key=accuracies.get)
        assert min(accuracies) < best[norm] < max(accuracies)
    (plan,) = (plan for plan in whole_runs.PLANS if plan.recipe == "best")
    assert plan.rates == best


def test_the_summary_of_whole_runs_has_those_that_have_begun(tmp_path):
    configs = whole_runs.configs()
    (begun, config), (other, _), *_ = configs.items()
    pixels = Standardization(np.zeros(3, np.float32), np.ones(3, np.float32))
    for name in (begun, other):  # the second's settings are not its own
        (tmp_path / name).mkdir()
        Record(config, pixels, {}).write(tmp_path / name)
        counts = {"test_correct": 25, "test_count": 100, "learning_rate": 0.1}
        epochs = [
            {"epoch": 1, "train_loss": 2.0, "test_accuracy": 0.25, "outcome": "trained"} | counts,
            {"epoch": 2, "train_loss": None, "test_accuracy": None, "outcome": "diverged"} | counts,
        ]
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in epochs))
    (row,) = whole_runs.summary(tmp_path)
    assert (row["recipe"], row["norm"], row["seed"]) == ("chapter", config.norm, 0)
    assert (row["losses"], row["accuracies"], row["outcome"]) == ([2.0, None], [0.25, None], "diverged")


def test_where_no_run_has_begun_nothing_is_written(tmp_path):
    with pytest.raises(SystemExit, match="no run has an epoch behind it"):
        whole_runs.write(tmp_path / "runs", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_published_runs_are_the_chapters():
    published = json.loads(whole_runs.PUBLISHED.read_text())["runs"]
    networks = {(r["recipe"], r["learning_rate"], r["norm"]) for r in published}
    assert networks == {("chapter", rate, norm) for rate in (0.1, 0.002) for norm in ("batch", "none")}
