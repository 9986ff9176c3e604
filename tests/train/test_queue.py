"""Runs worked off together: in order, once each, broken off and gone on with."""

import json

import pytest

from bnjax.errors import UserError
from bnjax.train import queue
from bnjax.train.config import Config, folder, grid
from bnjax.train.files import locked

CONFIG = Config(epochs=1, batch_size=16)


@pytest.fixture(scope="module")
def configs():
    return {folder(config): config for config in grid(CONFIG, ["none"], [0.01, 1e20], [0.0], ["he"], [0])}


@pytest.fixture(scope="module")
def worked_off(data, configs, tmp_path_factory):
    out = tmp_path_factory.mktemp("queue") / "out"
    return out, list(queue.work_off(configs, data, out))


def test_each_is_run_in_its_folder_in_order(worked_off, configs):
    out, results = worked_off
    assert [result.config for result in results] == list(configs.values())
    assert {path.name for path in out.iterdir()} == set(configs)
    assert results[1].outcome == "diverged"


def test_what_is_finished_is_not_run_again(worked_off, configs, data, monkeypatch):
    out, results = worked_off
    monkeypatch.setattr(queue, "run", lambda *_, **__: pytest.fail("it was run again"))
    assert list(queue.work_off(configs, data, out)) == []
    assert [queue.finished(out / name, config) for name, config in configs.items()] == results


def test_what_another_process_is_at_is_left_to_it(configs, data, tmp_path):
    first, second = configs
    (tmp_path / first).mkdir()
    with locked(tmp_path / first):
        assert [folder(result.config) for result in queue.work_off(configs, data, tmp_path)] == [second]
    assert queue.finished(tmp_path / first, configs[first]) is None


def test_another_error_of_a_run_is_not_passed_over(configs, data, tmp_path):
    name = next(iter(configs))
    (tmp_path / name).mkdir()
    (tmp_path / name / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="already holds files"):
        list(queue.work_off(configs, data, tmp_path))


def test_a_run_of_another_config_or_not_at_its_end_is_not_finished(worked_off, configs, tmp_path):
    out, _ = worked_off
    name, config = next(iter(configs.items()))
    assert queue.finished(out / name, config).outcome
    assert queue.finished(out / name, Config.from_json(config.as_json() | {"seed": 1})) is None
    assert queue.finished(out / name, Config.from_json(config.as_json() | {"epochs": 2})) is None
    assert queue.finished(tmp_path, config) is None


def test_the_summary_has_what_is_finished(worked_off, configs, tmp_path):
    out, results = worked_off
    more = configs | {"absent": Config(seed=7)}
    assert queue.write_summary(more, out, tmp_path / "new") == results
    summary = json.loads((tmp_path / "new" / "summary.json").read_text())
    assert summary["runs"] == [result.row() for result in results]
    assert summary["config"]["batch_size"] == 16
    assert "learning_rate" not in summary["config"]
    assert summary["environment"]["backend"] == "cpu"


def test_the_summary_of_nothing_is_empty(configs, tmp_path):
    assert queue.write_summary(configs, tmp_path, tmp_path / "new") == []
    assert json.loads((tmp_path / "new" / "summary.json").read_text())["runs"] == []
