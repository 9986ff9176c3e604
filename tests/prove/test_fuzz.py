"""Random pairs of programs, of the fragment and at its edge: no verdict of the prover is wrong on any.

A pair is made from its seed alone.  In half of the pairs the second program is the first one rewritten by
laws of arithmetic, in the other half an operation, an operand or an axis is changed as well (which may
leave the value as it was).  At the edge are integers that wrap, infinities behind a mask, branches on the
sizes and outputs that are integers.  The judge is NumPy in float64 at random points of many sizes, also of
those that the branches ask for, by the same trees.
"""

import functools
import random
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.prove import prove_vjp

LEAVES = ("x", "y", "g", "e", 1, 2, -3)
UNARY = ("neg", "sum0", "sum1", "mean0", "square", "cube", "var", "rsqrt", "masked", "swap", "abs", "same")
EDGE = (
    "count", "count8", "minus8", "behind", "if7", "if mod", "if equal", "if product", "if int", "if set",
)  # fmt: skip
BINARY = ("add", "sub", "mul", "mul", "div", "dot", "over")
NETWORKS = 10_000  # from this seed on, the trees have what networks are made of as well, and are less deep
PLACES = 20_000  # from this seed on, they have elements by position as well
PLACED = ("lower", "corner", "first", "hidden")
GIVEN = 30_000  # from this seed on, rows are of four elements, of which they take every other one
SLICED = ("pairs", "turn", "evens", "halves", "lower", "larger rows")
CURVED = ("bell", "logistic", "softplus", "softmax", "relu", "clip")
SHAPES = ("n m", "n m", "m", "", "bool: n m")
# the sizes, and how many points of each: all that the branches ask for, and one where eight bits wrap
SIZES = {
    (3, 4): 100,
    (1, 2): 100,
    (5, 1): 100,
    (7, 2): 9,
    (4, 8): 9,
    (3, 3): 9,
    (2, 3): 9,
    (9, 1): 9,
    (20, 18): 3,
}
FOURS = {(3, 4): 100, (1, 4): 100, (4, 4): 9, (7, 4): 9, (20, 4): 3}


def random_tree(source, depth, curved=()):
    if depth == 0 or source.random() < 0.15:
        return source.choice(LEAVES)
    if source.random() < 0.5:
        names = EDGE if source.random() < 0.08 else curved if curved and source.random() < 0.6 else UNARY
        return (source.choice(names), random_tree(source, depth - 1, curved))
    name = "larger" if curved and source.random() < 0.2 else source.choice(BINARY)
    return (name, random_tree(source, depth - 1, curved), random_tree(source, depth - 1, curved))


def value(tree, env, np_):
    """The tree's array, over the last two axes (n, m); `np_` is numpy or jax.numpy."""
    if isinstance(tree, int):
        return env["x"] * 0 + tree
    if isinstance(tree, str):
        return env["x"] * 0 + env[tree]
    name, *operands = tree
    return OPERATIONS[name](env, np_, *(value(operand, env, np_) for operand in operands))


def total(axis):
    return lambda env, np_, a: a * 0 + np_.sum(a, axis, keepdims=True)


def mean0(env, np_, a):
    return a * 0 + np_.sum(a, -2, keepdims=True) / a.shape[-2]


def kept(env, np_, dtype):
    return np_.sum(env["w"], (-1, -2), dtype=dtype, keepdims=True)


def branch(asked):
    """2·a where the sizes are such, written in two ways."""

    def plain(env, np_, a):
        return 2 * a if asked(*env["x"].shape[-2:]) else a

    def primed(env, np_, a):
        return a + a if asked(*env["x"].shape[-2:]) else 1 * a

    return plain, primed


def rows(np_, a):
    return np_.arange(a.shape[-2])[:, None]


def columns(np_, a):
    return np_.arange(a.shape[-1])[None, :]


def shown(env, np_, a):
    return env["w"] | (columns(np_, a) == 0)


def kept_softmax(kept, np_, a):
    e = kept * np_.exp(a)
    return e / np_.sum(e, -1, keepdims=True)


def softmax(env, np_, a):
    e = np_.exp(a - np_.max(a, -1, keepdims=True))
    return e / np_.sum(e, -1, keepdims=True)


def softmax_by_log(env, np_, a):
    top = np_.max(a, -1, keepdims=True)
    return np_.exp(a - (np_.log(np_.sum(np_.exp(a - top), -1, keepdims=True)) + top))


def neighbours(np_, a):
    return a[..., ::2], a[..., 1::2]


def side_by_side(np_, even, odd):
    return np_.stack([even, odd], -1).reshape((*even.shape[:-1], 4))


def by_neighbours(apply):
    def run(env, np_, a):
        return side_by_side(np_, *apply(np_, *neighbours(np_, a)))

    return run


def halves(env, np_, a):
    return a * 0 + np_.concatenate([a[..., 2:], a[..., :2]], -1)


BRANCHES = {
    "if7": lambda n, m: n == 7,
    "if mod": lambda n, m: n % 4 == 0,
    "if equal": lambda n, m: n == m,
    "if product": lambda n, m: n * m == 6,
    "if int": lambda n, m: isinstance(n, int) and n > 5,
    "if set": lambda n, m: n in {9},
}
OPERATIONS = {
    "add": lambda env, np_, a, b: a + b,
    "sub": lambda env, np_, a, b: a - b,
    "mul": lambda env, np_, a, b: a * b,
    "neg": lambda env, np_, a: -a,
    "sum0": total(-2),
    "sum1": total(-1),
    "mean0": mean0,
    "square": lambda env, np_, a: np_.square(a),
    "cube": lambda env, np_, a: a**3,
    "var": lambda env, np_, a: mean0(env, np_, np_.square(a - mean0(env, np_, a))),
    "rsqrt": lambda env, np_, a: 1 / np_.sqrt(a * a + env["e"]),
    "rsqrt'": lambda env, np_, a: np_.sqrt(a * a + env["e"]) / (a * a + env["e"]),
    "div": lambda env, np_, a, b: a / (b * b + env["e"]),
    "over": lambda env, np_, a, b: a / b,
    "over'": lambda env, np_, a, b: a * b / (b * b),
    "abs": lambda env, np_, a: np_.sqrt(a * a),
    "abs'": lambda env, np_, a: a * a / np_.sqrt(a * a),
    "same": lambda env, np_, a: a,
    "masked": lambda env, np_, a: np_.where(env["w"], a, 0 * a),
    "masked'": lambda env, np_, a: env["w"] * a,
    "count": lambda env, np_, a: (
        a * np_.sum(env["w"], (-1, -2), dtype=np_.int32, keepdims=True).astype(a.dtype)
    ),
    "count'": lambda env, np_, a: np_.sum(env["w"] * 1.0, (-1, -2), keepdims=True) * a,
    "count8": lambda env, np_, a: (
        a * np_.sum(env["w"], (-1, -2), dtype=np_.int8, keepdims=True).astype(a.dtype)
    ),
    "minus8": lambda env, np_, a: a * (-env["w"].astype(np_.uint8)).astype(a.dtype),
    "behind": lambda env, np_, a: np_.where(env["w"], a, -np_.inf) - np_.where(env["w"], 0.0, -np_.inf),
    **{name: branch(asked)[0] for name, asked in BRANCHES.items()},
    **{f"{name}'": branch(asked)[1] for name, asked in BRANCHES.items()},
    "bell": lambda env, np_, a: np_.exp(-a * a),
    "bell'": lambda env, np_, a: np_.exp(1 - np_.square(a)) / np_.exp(1 + 0 * a),
    "logistic": lambda env, np_, a: 1 / (1 + np_.exp(-a)),
    "logistic'": lambda env, np_, a: (1 + np_.tanh(a / 2)) / 2,
    "softplus": lambda env, np_, a: np_.logaddexp(a, 0),
    "softplus'": lambda env, np_, a: (a + np_.abs(a)) / 2 + np_.log(1 + np_.exp(-np_.abs(a))),
    "softmax": softmax,
    "softmax'": softmax_by_log,
    "relu": lambda env, np_, a: np_.maximum(a, 0),
    "relu'": lambda env, np_, a: np_.where(a > 0, a, 0),
    "clip": lambda env, np_, a: np_.clip(a, -1, 1),
    "clip'": lambda env, np_, a: np_.where(np_.abs(a) < 1, a, np_.sign(a)),
    "lower": lambda env, np_, a: np_.where(rows(np_, a) >= columns(np_, a), a, 0 * a),
    "lower'": lambda env, np_, a: a - np_.where(rows(np_, a) < columns(np_, a), a, 0 * a),
    "corner": lambda env, np_, a: a * (columns(np_, a) == 0) * (rows(np_, a) == 0),
    "corner'": lambda env, np_, a: np_.where((rows(np_, a) == 0) & (columns(np_, a) == 0), a, 0 * a),
    "first": lambda env, np_, a: a * 0 + a[..., :1, :],
    "first'": lambda env, np_, a: a * 0 + np_.sum(np_.where(rows(np_, a) == 0, a, 0 * a), -2, keepdims=True),
    "hidden": lambda env, np_, a: softmax(env, np_, np_.where(shown(env, np_, a), a, -np_.inf)),
    "hidden'": lambda env, np_, a: kept_softmax(shown(env, np_, a), np_, a),
    "pairs": by_neighbours(lambda np_, a, b: (np_.maximum(a, b), np_.maximum(b, a))),
    "pairs'": by_neighbours(lambda np_, a, b: (b + np_.maximum(a - b, 0), a + np_.maximum(b - a, 0))),
    "turn": by_neighbours(lambda np_, a, b: (-b, a)),
    "turn'": lambda env, np_, a: (
        side_by_side(np_, 0 * a[..., ::2], a[..., ::2]) - side_by_side(np_, a[..., 1::2], 0 * a[..., ::2])
    ),
    "evens": by_neighbours(lambda np_, a, b: (a, 0 * b)),
    "evens'": lambda env, np_, a: np_.where(columns(np_, a) % 2 == 0, a, 0 * a),
    "halves": halves,
    "halves'": lambda env, np_, a: (
        side_by_side(np_, a[..., ::2][..., ::-1], 0 * a[..., ::2])
        + side_by_side(np_, 0 * a[..., ::2], a[..., 1::2][..., ::-1])
    ),
    "larger rows": lambda env, np_, a: a * 0 + np_.max(a, -1, keepdims=True),
    "larger rows'": lambda env, np_, a: (
        a * 0 + np_.maximum(np_.maximum(a[..., :1], a[..., 1:2]), np_.maximum(a[..., 2:3], a[..., 3:]))
    ),
    "larger": lambda env, np_, a, b: np_.maximum(a, b),
    "larger'": lambda env, np_, a, b: (a + b + np_.abs(a - b)) / 2,
    "swap": lambda env, np_, a: np_.swapaxes(np_.swapaxes(a, -1, -2) * 2, -1, -2),
    "dot": lambda env, np_, a, b: np_.einsum("...ij,...kj,...kl->...il", a, b, env["y"]),
    "dot'": lambda env, np_, a, b: np_.einsum(
        "...ij,...jl->...il", a, np_.einsum("...kj,...kl->...jl", b, env["y"])
    ),
}


def rewritten(tree, source):
    """A tree of equal value, by laws of arithmetic taken at random."""
    if not isinstance(tree, tuple):
        return tree
    name, *operands = tree
    a, *rest = [rewritten(operand, source) for operand in operands]
    if source.random() < 0.3:
        return (name, a, *rest)
    match name:
        case "add" | "mul":
            if name == "mul" and isinstance(a, tuple) and a[0] in ("add", "sub"):
                return (a[0], ("mul", a[1], rest[0]), ("mul", rest[0], a[2]))
            return (name, rest[0], a)
        case "sub":
            return ("add", a, ("neg", rest[0]))
        case "neg":
            return ("mul", -1, a)
        case "square":
            return ("mul", a, a)
        case "cube":
            return ("mul", ("square", a), a)
        case "var":
            return ("sub", ("mean0", ("square", a)), ("square", ("mean0", a)))
        case "sum0" | "sum1" | "mean0" if isinstance(a, tuple) and a[0] in ("add", "sub"):
            return (a[0], (name, a[1]), (name, a[2]))
        case "sum0" if isinstance(a, tuple) and a[0] == "sum1":
            return ("sum1", ("sum0", a[1]))
        case "div":
            return ("mul", ("div", 1, rest[0]), a)
        case _ if f"{name}'" in OPERATIONS and name not in BRANCHES:
            return (f"{name}'", a, *rest)
        case _ if name in BRANCHES:
            return (f"{name}'", a)
        case "swap":
            return ("add", a, a)
    return (name, a, *rest)


def changed(tree, source):
    """The tree with one operation, operand or axis changed."""
    if not isinstance(tree, tuple):
        return source.choice([leaf for leaf in LEAVES if leaf != tree])
    name, *operands = tree
    if source.random() < 0.6:
        place = source.randrange(len(operands))
        operands[place] = changed(operands[place], source)
        return (name, *operands)
    others = (*UNARY, *EDGE) if len(operands) == 1 else ("add", "sub", "mul", "div", "over")
    if name in SLICED:
        return (source.choice([other for other in (*SLICED, "same") if other != name]), *operands)
    if name in PLACED:
        return (source.choice([other for other in (*PLACED, "same") if other != name]), *operands)
    if name in (*CURVED, "larger"):
        others = CURVED if len(operands) == 1 else ("add", "mul", "over")
    return (source.choice([other for other in others if other != name]), *operands)


# integers and truth values that a program returns: as they are, written otherwise, and wrong
OUTPUTS = {
    "nothing": (lambda x, w: (), lambda x, w: (), lambda x, w: 1),
    "count": (lambda x, w: w.sum(), lambda x, w: w.astype(jnp.int32).sum(), lambda x, w: w.sum() + 1),
    "size": (lambda x, w: x.shape[0], lambda x, w: w.shape[0], lambda x, w: x.shape[0] + (x.shape[0] == 7)),
    "sizes": (
        lambda x, w: {"n": x.shape[0], "m": x.shape[1]},
        lambda x, w: {"m": w.shape[1], "n": w.shape[0]},
        lambda x, w: {"m": x.shape[0], "n": x.shape[1]},
    ),
    "rows": (lambda x, w: w.sum(1), lambda x, w: w.astype(jnp.int32).sum(1), lambda x, w: w.T.sum(1)),
    "mask": (lambda x, w: ~w, lambda x, w: jnp.logical_not(w), lambda x, w: w),
}


class Pair(NamedTuple):
    """Two trees, the output beside them (a key of OUTPUTS), and whether the second has it wrong."""

    first: tuple
    second: tuple
    beside: str
    beside_wrong: bool


def pair(seed):
    source = random.Random(seed)
    if seed >= GIVEN:
        first = random_tree(source, 2, (*SLICED, *SLICED, "relu", "clip", "bell"))
    elif seed >= PLACES:
        first = random_tree(source, 2, (*CURVED, *PLACED))
    else:
        first = random_tree(source, 3, CURVED) if seed >= NETWORKS else random_tree(source, 4)
    second = rewritten(first, source)
    beside = source.choice(sorted(OUTPUTS)) if source.random() < 0.3 else "nothing"
    if seed % 2 and source.random() < 0.2:
        return Pair(first, second, beside, True)
    return Pair(first, changed(second, source) if seed % 2 else second, beside, False)


def as_function(tree, beside):
    def function(x, y, g, e, w):
        return value(tree, {"x": x, "y": y, "g": g, "e": e, "w": w}, jnp), beside(x, w)

    return function


def environment(source, count, n, m):
    return {
        "x": source.normal(size=(count, n, m)),
        "y": source.normal(size=(count, n, m)),
        "g": source.normal(size=(count, 1, m)),
        "e": source.uniform(0.1, 2, size=(count, 1, 1)),
        "w": source.random((count, n, m)) < 0.5,
    }


def at_points(first, second, seed):
    """Whether two trees differ at random points where both are finite; and whether both are finite at all."""
    source = np.random.default_rng(seed)
    finite = True
    for (n, m), count in (FOURS if seed >= GIVEN else SIZES).items():
        env = environment(source, count, n, m)
        with np.errstate(all="ignore"):  # 1/0 and 0/0: such a point says nothing
            a, b = value(first, env, np), value(second, env, np)
            noise = abs(a - in_higher_precision(first, env)) + abs(b - in_higher_precision(second, env))
            finite = finite and bool(np.all(np.isfinite(a)) and np.all(np.isfinite(b)))
            if np.any(abs(a - b) > 1e-7 * (1 + abs(a) + abs(b)) + 1e3 * noise):
                return True, finite
    return False, finite


def in_higher_precision(tree, env):
    """The same in 80 bits: where it moves, float64 was rounding (E[a²] − E[a]² of equal a's)."""
    return value(tree, {k: v if v.dtype == bool else v.astype(np.longdouble) for k, v in env.items()}, np)


def shows_it(found, first, second):
    """Whether the trees, in NumPy, differ at the counterexample; a cotangent is left to the prover's run."""
    if found.what != "the output":
        return found.float64[0] != found.float64[1]
    env = {name: np.asarray(v, bool if name == "w" else float) for name, v in found.point.items()}
    with np.errstate(all="ignore"):  # −∞ − (−∞), elsewhere
        a, b = (value(tree, env, np)[found.index] for tree in (first, second))
    far = abs(a - b) > 1e-9 * max(abs(a), abs(b), 1e-3)
    got = found.float64[0] if found.got is None else float_of(found.got)
    return far and abs(a - got) < 1e-6 * (1 + abs(a))


def float_of(number):
    return float(number[0]) if isinstance(number, tuple) else float(number)


@functools.cache
def judge(seed):
    """The prover's status on the pair of a seed; AssertionError if it is wrong."""
    first, second, beside, beside_wrong = pair(seed)
    plain, otherwise, wrong = OUTPUTS[beside]
    op, primal = as_function(first, plain), as_function(second, wrong if beside_wrong else otherwise)
    shapes = [shape.replace("m", "4") for shape in SHAPES] if seed >= GIVEN else SHAPES
    proof = prove_vjp(op, primal, *shapes, positive=(3,), timeout=20.0 if seed < NETWORKS else 6.0)
    differ, finite = at_points(first, second, seed)
    truth = differ or beside_wrong
    if proof.status in ("proved", "conditional"):
        assert not truth, f"seed {seed}: {proof.status}, but {pair(seed)} differ"
    if proof.status == "proved":
        assert finite, f"seed {seed}: proved, but {pair(seed)} is not finite"
    if proof.status == "refuted":
        assert truth or seed % 2, f"seed {seed}: refuted, but {second} is {first} rewritten"
        assert shows_it(proof.counterexample, first, second), f"seed {seed}: {proof.counterexample}"
    return proof.status, truth


@pytest.mark.thorough
def test_no_verdict_is_wrong_on_twelve_pairs():
    """It would be blind if all pairs were equal, or all were refused."""
    results = [judge(seed) for seed in range(12)]
    assert sum(status == "proved" for status, _ in results) >= 3
    assert sum(status == "refuted" for status, _ in results) >= 3


@pytest.mark.thorough
def test_no_verdict_is_wrong_on_six_pairs_of_what_networks_are_made_of():
    results = [judge(seed) for seed in range(NETWORKS, NETWORKS + 6)]
    assert {"proved", "refuted"} <= {status for status, _ in results}


@pytest.mark.thorough
def test_no_verdict_is_wrong_on_pairs_with_elements_by_position():
    results = [judge(seed) for seed in range(PLACES, PLACES + 6)]
    assert {"proved", "refuted"} <= {status for status, _ in results}


def test_no_verdict_is_wrong_on_pairs_that_take_every_other_element():
    results = [judge(seed) for seed in range(GIVEN, GIVEN + 6)]
    assert {"proved", "refuted"} <= {status for status, _ in results}


@pytest.mark.slow
def test_no_verdict_is_wrong_on_three_hundred_pairs_that_take_every_other_element():
    statuses = [judge(seed)[0] for seed in range(GIVEN + 6, GIVEN + 306)]
    assert statuses.count("proved") > 50
    assert statuses.count("refuted") > 50


@pytest.mark.slow
def test_no_verdict_is_wrong_on_three_hundred_pairs_with_elements_by_position():
    statuses = [judge(seed)[0] for seed in range(PLACES + 6, PLACES + 306)]
    assert statuses.count("proved") > 50
    assert statuses.count("refuted") > 50


@pytest.mark.slow
def test_no_verdict_is_wrong_on_two_thousand_pairs_of_what_networks_are_made_of():
    statuses = [judge(seed)[0] for seed in range(NETWORKS + 6, NETWORKS + 2006)]
    assert statuses.count("proved") > 300
    assert statuses.count("refuted") > 300


@pytest.mark.slow
def test_no_verdict_is_wrong_on_two_thousand_pairs():
    statuses = [judge(seed)[0] for seed in range(40, 2040)]
    assert statuses.count("proved") > 500
    assert statuses.count("refuted") > 500
