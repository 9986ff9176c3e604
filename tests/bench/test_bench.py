"""The benchmark runs, its numbers are finite, and its contestants compute the same; nothing is timed."""

import itertools
import json
import math
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest

from bnjax.bench import layers, memory, precision, report, steps, timing
from bnjax.train.plots import draw_steps

RESULTS = Path(__file__).parents[2] / "results"
SHAPE = (4, 4, 4, 2)
ALL = {"bnjax nnx", "bnjax linen", "flax nnx", "flax linen"}


def finite(times):
    return all(math.isfinite(t) and t > 0 for c in times.values() for t in c.values())


def test_contestants_take_turns_in_another_order_each_round():
    order = []
    names = "abcd"
    times = timing.alternate({n: lambda n=n: order.append(n) for n in names}, repeats=9)
    turns = order[::2]
    assert turns == order[1::2]  # two runs a turn
    rounds = ["".join(turns[i : i + 4]) for i in range(0, len(turns), 4)]
    assert len(rounds) == timing.WARM_UP + 9
    assert all(sorted(r) == list(names) for r in rounds)
    after_a = {later for earlier, later in itertools.pairwise(turns) if earlier == "a"}
    assert after_a >= {"b", "c", "d"}
    assert set(times) == set(names)
    assert all(t["min_ms"] <= t["median_ms"] for t in times.values())


def test_the_warm_up_is_not_counted(monkeypatch):
    clock = itertools.count()
    # a run takes 1000 s in the three rounds of warming up, 1 s after them; the clock is read twice a turn
    monkeypatch.setattr(timing.time, "perf_counter", lambda: 1000 * c if (c := next(clock)) < 6 else c)
    assert timing.alternate({"a": lambda: None}, repeats=3) == {"a": {"min_ms": 1e3, "median_ms": 1e3}}


@pytest.mark.thorough
def test_layers_are_measured():
    rows = list(layers.measure(1, (SHAPE,)))
    assert {(r["kind"], r["dtype"]) for r in rows} == {(k, d) for k in layers.KINDS for d in layers.DTYPES}
    for row in rows:
        assert set(row["times"]) >= ALL | {"copy"}
        assert finite(row["times"])
        assert "floor" in report.line(row)


@pytest.mark.parametrize("kind", layers.KINDS)
def test_every_layer_computes_the_same(kind):
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    scale, bias = np.full(2, 1.5, np.float32), np.full(2, 0.5, np.float32)
    outputs = [layer(x, scale, bias)[0] for layer in layers.layers(kind, "float32", SHAPE).values()]
    for y in outputs[1:]:
        np.testing.assert_allclose(outputs[0], y, rtol=0, atol=1e-5)  # 80 roundoffs of numbers about 3


@pytest.mark.thorough
def test_steps_are_measured():
    (row,) = steps.measure(1, 2, ("batch",))
    assert set(row["times"]) >= {"bnjax", "bnjax, no options", "flax", "flax, our options"}
    assert finite(row["times"])


@pytest.mark.thorough
@pytest.mark.parametrize(("norm", "parameters"), [("batch", 2_431_210), ("none", 2_431_018)])
def test_flaxs_network_is_the_same_size(norm, parameters):
    from flax import nnx

    from bnjax.models import parameter_count

    assert parameter_count(steps.FlaxCNN(norm, nnx.Rngs(0))) == parameters


def test_a_layer_keeps_one_activation_and_flaxs_two_or_more():
    kept = {(r["kind"], r["layer"]): r["activations"] for r in memory.kept((64, 8, 8, 2))}
    for kind in ("train", "train, relu"):
        assert kept[kind, "bnjax nnx"] < 1.01
        assert kept[kind, "flax nnx"] >= 2


@pytest.mark.thorough
def test_a_step_needs_less_memory_than_flaxs():
    rows = list(memory.needed(16, ("none",)))
    needed = {r["network"]: r["temporary_bytes"] for r in rows}
    assert 0 < needed["bnjax"] < needed["flax"]
    assert report.line(rows[0]).startswith("step  none  bnjax  needs ")


@pytest.mark.thorough
def test_the_gradient_is_as_precise_as_a_two_pass_one():
    """Nothing of a machine's speed is in these numbers."""
    for row in precision.measure():
        errors = row["errors"]
        assert errors["bnjax"] <= 2 * errors["two-pass"]
        assert row["mean/std"] < 1000 or errors["flax nnx"] > 1000 * errors["bnjax"]


@pytest.mark.thorough
def test_the_command_writes_a_file_and_says_so(bnjax_command, tmp_path):
    code, out, _ = bnjax_command("bench", "precision", "--out", tmp_path / "new")
    path = tmp_path / "new" / "bench_precision.json"
    assert code == 0
    assert out.endswith(f"written: {path}\n")
    results = json.loads(path.read_text())
    assert results["environment"]["jax"] == jax.__version__
    assert results["environment"]["memory_kept"] in (True, False)
    assert [row["mean/std"] for row in results["rows"]] == list(precision.RATIOS)
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "bench_precision.json", "bench_precision.png", "bench_precision.svg"
    ]  # fmt: skip
    assert "two-pass" in path.with_suffix(".svg").read_text()


def test_the_figure_of_the_steps_says_every_median(tmp_path):
    file = Path(shutil.copy(RESULTS / "bench_steps.json", tmp_path))
    draw_steps(file)
    drawn = file.with_suffix(".svg").read_text()
    for row in json.loads(file.read_text())["rows"]:
        assert all(f">{times['median_ms']:.0f} ms<" in drawn for times in row["times"].values())
        assert all(f">{name}<" in drawn for name in row["times"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("--repeats", 0), "--repeats must be at least 1"), (("speed",), "'speed' is not one of")],
)
def test_a_users_mistake_is_one_line(bnjax_command, monkeypatch, tmp_path, arguments, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = bnjax_command("bench", *arguments)
    assert code == 2
    assert message in err
