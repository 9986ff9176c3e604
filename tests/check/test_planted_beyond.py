"""The checker on rules from outside batch norm; and the rules themselves held to autodiff in float64."""

import jax
import numpy as np
import pytest

from bnjax.check import check_vjp
from bnjax.verify.planted.beyond import RIGHT, TOPICS, WRONG


def _wide(tree):
    wide = {"f": np.float64, "c": np.complex128}
    return jax.tree.map(lambda a: np.asarray(a, wide.get(np.asarray(a).dtype.kind)), tree)


def farthest(case, n=8, seed=0):
    """The largest difference from autodiff of the primal in float64, beside the largest cotangent."""
    with jax.enable_x64(True):
        args = _wide(case.arguments(n, seed))
        y, expected = jax.vjp(case.primal, *args)
        rng = np.random.default_rng(5)
        dy = jax.tree.map(lambda a: rng.normal(size=(2, *a.shape)), y)
        dy = jax.tree.map(lambda a, d: d[0] + 1j * d[1] if a.dtype.kind == "c" else d[0], y, dy)
        got = jax.vjp(case.op, *args)[1](dy)
        pairs = zip(jax.tree.leaves(got), jax.tree.leaves(expected(dy)), strict=True)
        floats = [(g, e) for g, e in pairs if np.asarray(e).dtype.kind in "fc"]
        return max((float(np.max(abs(g - e)) / (np.max(abs(e)) or 1)) for g, e in floats), default=0.0)


def test_the_rules_are_many_and_distinct():
    assert len(RIGHT) >= 60
    assert len(WRONG) >= 120
    assert len({c.name for c in RIGHT + WRONG}) == len(RIGHT + WRONG)
    assert len({t.name for t in TOPICS}) == len(TOPICS)


def as_called(topic):
    """Right rules agree with autodiff in float64, wrong ones differ unless they are wrong only somewhere."""
    for case in topic.right_cases():
        assert farthest(case) < 1e-9, case.name
    for case in topic.wrong_cases():
        if case.everywhere:
            assert farthest(case) > 1e-4, case.name


@pytest.mark.thorough
@pytest.mark.parametrize("topic", TOPICS[::20], ids=lambda t: t.name)
def test_the_rules_are_what_they_are_called(topic):
    as_called(topic)


@pytest.mark.slow
@pytest.mark.parametrize("topic", TOPICS, ids=lambda t: t.name)
def test_the_rules_of_every_topic_are_what_they_are_called(topic):
    as_called(topic)


def report(case, n=8):
    return check_vjp(case.op, case.primal, *case.arguments(n, 0))


@pytest.mark.thorough
@pytest.mark.parametrize("case", RIGHT[::48], ids=lambda c: c.name)
def test_a_right_rule_is_accepted(case):
    found = report(case)
    assert found.ok, str(found)


@pytest.mark.thorough
@pytest.mark.parametrize("case", WRONG[::108], ids=lambda c: c.name)
def test_a_wrong_rule_is_refused(case):
    assert report(case).verdict == "WRONG"


@pytest.mark.slow
@pytest.mark.parametrize("case", RIGHT, ids=lambda c: c.name)
def test_every_right_rule_is_accepted(case):
    found = report(case)
    assert found.ok, str(found)


@pytest.mark.slow
@pytest.mark.parametrize("case", WRONG, ids=lambda c: c.name)
def test_every_wrong_rule_is_refused(case):
    assert report(case).verdict == "WRONG"
