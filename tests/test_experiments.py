"""The lists of runs that the experiments work off."""

from collections import Counter

from bnjax.train.config import folder
from experiments import map as whole_map
from experiments import whole_runs


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


def test_the_whole_runs_are_both_networks_30_epochs_each_once():
    configs = whole_runs.configs()
    assert len(set(configs.values())) == len(configs)
    assert {config.epochs for config in configs.values()} == {30}
    assert Counter(config.norm for config in configs.values()) == {"batch": 11, "none": 11}
    assert list(configs)[:2] == [f"chapter-{norm}-he-momentum0.9-lr0.1-seed0" for norm in ("batch", "none")]
