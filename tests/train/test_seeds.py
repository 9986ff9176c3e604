"""A sweep over its seeds: the counts, the headroom and their intervals."""

import itertools
import math
import random

import pytest
from scipy.stats import binomtest  # type: ignore[import-untyped]

from bnjax.train.seeds import Cell, headroom, recipes, wilson

RATES = (0.01, 0.02, 0.05, 0.1)


def row(norm="batch", rate=0.1, seed=0, outcome="trained", accuracy=0.5):
    recipe = {"norm": norm, "init": "he", "momentum": 0.9, "learning_rate": rate, "seed": seed}
    return recipe | {"outcome": outcome, "test_accuracy": accuracy}


def swept(*largest):
    """Rows in which the networks of each seed, (batch, none), train up to such a rate of RATES."""
    return [
        row(norm, rate, seed, "trained" if rate <= most else "frozen")
        for seed, pair in enumerate(largest)
        for norm, most in zip(("batch", "none"), pair, strict=True)
        for rate in RATES
    ]


def test_a_cell_counts_its_seeds_and_averages_those_that_trained():
    found = Cell.of([row(accuracy=0.5), row(accuracy=0.52), row(outcome="frozen", accuracy=0.1)])
    assert found.outcomes == {"trained": 2, "frozen": 1}
    assert found.accuracy == pytest.approx(51)
    assert found.spread == pytest.approx(math.sqrt(2))
    assert str(found) == "51.0 ± 1.4; 2 trained, 1 frozen"


def test_a_cell_in_words():
    assert str(Cell.of([row(accuracy=0.5)])) == "50.0"
    assert str(Cell.of([row(accuracy=0.5), row(accuracy=0.5)])) == "50.0 ± 0.0"
    lost = row(outcome="diverged", accuracy=None)
    assert str(Cell.of([lost, row(outcome="unstable", accuracy=0.1)])) == "1 unstable, 1 diverged"
    assert math.isnan(Cell.of([lost]).accuracy)


def test_the_headroom_is_the_median_ratio_of_the_largest_rates():
    found = headroom(swept((0.05, 0.01), (0.05, 0.02), (0.05, 0.01)))
    assert found.batch == (0.05, 0.05, 0.05)
    assert found.none == (0.01, 0.02, 0.01)
    assert found.ratio == 5
    # of the grid: with batch norm in [0.05, 0.1), without in [0.02, 0.05) for seed 1, in [0.01, 0.02) else
    assert (found.low, found.high) == (1, 10)
    assert found.confidence == 0.75
    assert str(found) == "5 (75 % interval 1 to 10)"


def test_a_largest_rate_that_is_the_grids_bounds_nothing_from_above():
    found = headroom(swept((0.1, 0.01)))
    assert (found.low, found.high) == (5, math.inf)
    assert str(found) == "10 (one seed, 5 or more)"


def test_where_nothing_trains_the_rate_is_below_the_grids():
    found = headroom(swept((0.05, 0.0), (0.0, 0.0)))
    assert found.none == (0, 0)
    assert found.lows == (5, 0)
    assert found.highs == (math.inf, math.inf)


def test_a_seed_counts_only_where_it_is_whole():
    rows = swept((0.05, 0.01), (0.02, 0.01))
    assert headroom(rows[:-1]).seeds == (0,)
    assert headroom(rows[:3]) is None
    assert headroom([row("batch"), row("none")]) is None  # one rate says nothing of the largest


def test_the_interval_holds_the_median_as_often_as_it_says():
    """Rates drawn from a distribution whose median ratio is known, on the grid: a simulation."""
    draw = random.Random(0)
    held = 0
    for _ in range(trials := 2000):
        pairs = [(0.012 * 2 ** draw.gauss(1, 0.5), 0.012 * 2 ** draw.gauss(0, 0.5)) for _ in range(3)]
        found = headroom(swept(*pairs))
        held += found.low <= 2 <= found.high
    assert held / trials >= found.confidence


def test_recipes_keep_their_rows():
    rows = [row() | {"momentum": momentum} for momentum in (0.0, 0.9, 0.0)]
    assert [(recipe, len(of)) for recipe, of in recipes(rows).items()] == [(("he", 0.0), 2), (("he", 0.9), 1)]


@pytest.mark.parametrize(("successes", "trials"), [(k, n) for n in (1, 3, 5, 40) for k in (0, n // 2, n)])
def test_wilson_is_scipys(successes, trials):
    interval = binomtest(successes, trials).proportion_ci(0.95, method="wilson")
    assert wilson(successes, trials) == pytest.approx((interval.low, interval.high), abs=1e-12)


def test_the_rows_of_the_helper_are_whole():
    rows = swept((0.1, 0.1))
    assert {(r["norm"], r["learning_rate"]) for r in rows} == set(itertools.product(("batch", "none"), RATES))
