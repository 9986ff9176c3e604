"""Random pairs of programs of the fragment: no verdict of the prover is wrong on any of them.

A pair is made from its seed alone.  In half of the pairs the second program is the first one rewritten by
laws of arithmetic, in the other half an operation, an operand or an axis is changed as well (which may
leave the value as it was).  The judge is NumPy in float64 at 100 random points, by the same trees.
"""

import functools
import random

import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.prove import prove_vjp

LEAVES = ("x", "y", "g", "e", 1, 2, -3)
UNARY = ("neg", "sum0", "sum1", "mean0", "square", "cube", "var", "rsqrt", "masked", "swap", "abs", "same")
BINARY = ("add", "sub", "mul", "mul", "div", "dot", "over")
SHAPES = ("n m", "n m", "m", "", "bool: n m")
SIZES = ((3, 4), (1, 2), (5, 1))


def random_tree(source, depth):
    if depth == 0 or source.random() < 0.15:
        return source.choice(LEAVES)
    if source.random() < 0.5:
        return (source.choice(UNARY), random_tree(source, depth - 1))
    return (source.choice(BINARY), random_tree(source, depth - 1), random_tree(source, depth - 1))


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
        case "rsqrt" | "masked" | "dot" | "abs" | "over":
            return (f"{name}'", a, *rest)
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
    others = UNARY if len(operands) == 1 else ("add", "sub", "mul", "div", "over")
    return (source.choice([other for other in others if other != name]), *operands)


def pair(seed):
    source = random.Random(seed)
    first = random_tree(source, 4)
    second = rewritten(first, source)
    return first, changed(second, source) if seed % 2 else second


def as_function(tree):
    def function(x, y, g, e, w):
        return value(tree, {"x": x, "y": y, "g": g, "e": e, "w": w}, jnp)

    return function


def differ_at_points(first, second, seed):
    """Whether two trees differ at any of 100 random points of three sizes, where both are finite."""
    source = np.random.default_rng(seed)
    for n, m in SIZES:
        env = {
            "x": source.normal(size=(100, n, m)),
            "y": source.normal(size=(100, n, m)),
            "g": source.normal(size=(100, 1, m)),
            "e": source.uniform(0.1, 2, size=(100, 1, 1)),
            "w": source.random((100, n, m)) < 0.5,
        }
        with np.errstate(all="ignore"):  # 1/0 and 0/0: such a point says nothing
            a, b = value(first, env, np), value(second, env, np)
            noise = abs(a - in_higher_precision(first, env)) + abs(b - in_higher_precision(second, env))
            if np.any(abs(a - b) > 1e-7 * (1 + abs(a) + abs(b)) + 1e3 * noise):
                return True
    return False


def in_higher_precision(tree, env):
    """The same in 80 bits: where it moves, float64 was rounding (E[a²] − E[a]² of equal a's)."""
    return value(tree, {k: v if v.dtype == bool else v.astype(np.longdouble) for k, v in env.items()}, np)


def shows_it(found, first, second):
    """Whether the trees, in NumPy, differ at the counterexample; a cotangent is left to the prover's run."""
    if found.what != "the output":
        return found.float64[0] != found.float64[1]
    env = {name: np.asarray(v, bool if name == "w" else float) for name, v in found.point.items()}
    a, b = (value(tree, env, np)[found.index] for tree in (first, second))
    far = abs(a - b) > 1e-9 * max(abs(a), abs(b), 1e-3)
    return far and abs(a - float_of(found.got)) < 1e-6 * (1 + abs(a))


def float_of(number):
    return float(number[0]) if isinstance(number, tuple) else float(number)


@functools.cache
def judge(seed):
    """The prover's status on the pair of a seed; AssertionError if it is wrong."""
    first, second = pair(seed)
    proof = prove_vjp(as_function(first), as_function(second), *SHAPES, positive=(3,), timeout=10.0)
    truth = differ_at_points(first, second, seed)
    if proof.status in ("proved", "conditional"):
        assert not truth, f"seed {seed}: {proof.status}, but {first} and {second} differ"
    if proof.status == "refuted":
        assert truth or seed % 2, f"seed {seed}: refuted, but {second} is {first} rewritten"
        assert shows_it(proof.counterexample, first, second), f"seed {seed}: {proof.counterexample}"
    return proof.status, truth


@pytest.mark.parametrize("seed", range(20))
def test_no_verdict_is_wrong(seed):
    judge(seed)


def test_the_fuzzer_makes_both_kinds_of_pairs():
    """It would be blind if all pairs were equal, or all were refused."""
    results = [judge(seed) for seed in range(40)]
    assert sum(status == "proved" for status, _ in results) >= 10
    assert sum(status == "refuted" for status, _ in results) >= 10


@pytest.mark.slow
def test_no_verdict_is_wrong_on_two_thousand_pairs():
    statuses = [judge(seed)[0] for seed in range(20, 2020)]
    assert statuses.count("proved") > 500
    assert statuses.count("refuted") > 500
