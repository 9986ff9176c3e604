"""Which comparisons exclude each other: by linear arithmetic, and never where a point satisfies them."""

import numpy as np
import pytest

from bnjax.prove.algebra import Atom
from bnjax.prove.field import Field
from bnjax.prove.inequalities import exclude_each_other


@pytest.fixture
def field():
    made = Field()
    for name in "xyz":
        made.atom(Atom(name))
    made.atom(Atom("p", positive=True))
    return made


def polys(field, words):
    names = {name: field.entry(name) for name in "xyzp"} | {"one": field.constant(1)}
    return [eval(word, {}, names) for word in words]


@pytest.mark.parametrize(
    ("positive", "null"),
    [
        (["x - y", "y - z", "z - x"], []),
        (["x - y"], ["x - y"]),
        (["x - z"], ["x - y", "y - z"]),
        (["x - y", "y - x"], []),
        (["x - one", "-x"], []),
        (["-p"], []),
        (["x - p", "-x - p"], []),
        ([], ["one"]),
        ([], ["p"]),
        ([], ["x - y", "x - y - one"]),
        (["y - x * x", "-y - x * x"], []),
    ],
)
def test_they_exclude_each_other(field, positive, null):
    assert exclude_each_other(field, polys(field, positive), polys(field, null))


@pytest.mark.parametrize(
    ("positive", "null"),
    [
        (["x - y", "y - z", "x - z"], []),
        (["x - z"], ["x - y"]),
        (["x - one", "y - x"], ["z"]),
        (["p - x", "x"], []),
        ([], ["x - y", "y - z"]),
        ([], []),
    ],
)
def test_they_do_not(field, positive, null):
    assert not exclude_each_other(field, polys(field, positive), polys(field, null))


@pytest.mark.parametrize("seed", range(20))
def test_what_holds_at_a_point_is_not_excluded(field, seed):
    source = np.random.default_rng(seed)
    point = dict(zip("xyz", source.integers(-4, 5, 3).tolist(), strict=True))
    positive, null = [], []
    for a, b, c, d in source.integers(-3, 4, (8, 4)).tolist():
        value = a * point["x"] + b * point["y"] + c * point["z"] + d
        poly = sum(
            (field.entry(n) * field.constant(k) for n, k in zip("xyz", (a, b, c), strict=True)),
            field.constant(d),
        )
        if value:
            positive.append(poly if value > 0 else -poly)
        else:
            null.append(poly)
    assert not exclude_each_other(field, positive, null)
