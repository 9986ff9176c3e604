"""Random piecewise linear functions, and random slopes on their kinks: what is proved is a derivative there.

The judge evaluates the rule at points of a lattice, where ties are many, and the function's slopes a small
step away in many directions: proved means JAX's own cotangents, or a mean of those of the sides.
"""

import itertools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import linprog  # type: ignore[import-untyped]

from bnjax.prove import prove_vjp
from tests.prove.rules import with_rule

# the shares of the cotangent that the two sides take on a tie
SHARES = ((1, 0), (0, 1), (0.5, 0.5), (1, 1), (0, 0), (2, -1))
# what those that are largest take: the first all, each its part, each all, the first its part
TIES = ("first", "mean", "all", "part")
FUNCTIONS = {"larger": 2, "smaller": 2, "plus": 2, "minus": 2, "relu": 1, "abs": 1}
SEEDS = [pytest.param(seed, marks=() if seed < 12 or seed == 92 else pytest.mark.slow) for seed in range(160)]
SEEDS_OF_MAXIMA = [pytest.param(seed, marks=() if 0 < seed < 8 else pytest.mark.slow) for seed in range(80)]


def random_tree(source, depth, arguments, functions=FUNCTIONS):
    if depth == 0 or source.random() < 0.2:
        return source.randrange(arguments)
    name = source.choice(tuple(functions))
    share = source.choice(TIES if name == "largest" else SHARES)
    operands = (random_tree(source, depth - 1, arguments, functions) for _ in range(functions[name]))
    return (name, share, *operands)


def value(tree, args, np_=jnp):
    if isinstance(tree, int):
        return args[tree]
    name, _, *operands = tree
    values = [value(operand, args, np_) for operand in operands]
    a, b = values[0], values[-1]
    match name:
        case "largest":
            return np_.stack(values).max(0)
        case "larger":
            return np_.maximum(a, b)
        case "smaller":
            return np_.minimum(a, b)
        case "plus":
            return a + b
        case "minus":
            return a - 2 * b
        case "relu":
            return np_.maximum(a, 0)
    return np_.abs(a)


def pulled_back(tree, args, dy, np_=jnp):
    """The cotangents, by the shares that the tree says for its ties."""
    if isinstance(tree, int):
        return [dy if k == tree else 0 * dy for k in range(len(args))]
    name, shares, *operands = tree
    values = [value(operand, args, np_) for operand in operands]
    a, b = (*values, 0 * values[0])[:2]
    mine, theirs = shares if name != "largest" else (0, 0)
    if name == "largest":
        slopes = of_the_largest(np_.stack(values), shares, np_)
    elif name == "plus":
        slopes = (1, 1)
    elif name == "minus":
        slopes = (1, -2)
    elif name == "abs":
        slopes = ((a > b) * 1.0 - (a < b) * 1.0 + (a == b) * (mine - theirs), 0)
    else:
        above, below = ((a > b), (a < b)) if name != "smaller" else ((a < b), (a > b))
        slopes = (above * 1.0 + (a == b) * mine, below * 1.0 + (a == b) * theirs)
    parts = [pulled_back(o, args, dy * s, np_) for o, s in zip(operands, slopes, strict=False)]
    return [sum(column) for column in zip(*parts, strict=True)]


def of_the_largest(values, shares, np_):
    """The share of each row of what the largest of a column has."""
    largest = (values == values.max(0)) * 1.0
    if shares in ("first", "part"):
        first = (np_.arange(len(values)).reshape(-1, *[1] * (values.ndim - 1)) == values.argmax(0)) * 1.0
        return first if shares == "first" else first / largest.sum(0)
    return largest / largest.sum(0) if shares == "mean" else largest


def is_a_derivative(tree, point, arguments):
    """Whether the rule's slopes at a point are JAX's, or a mean of those nearby."""
    point = np.array(point, float)
    got = np.array(pulled_back(tree, list(point), 1.0, np))
    away = np.vstack([0 * point, 1e-6 * np.random.default_rng(0).normal(size=(200, arguments))])
    slopes = jax.vmap(jax.grad(lambda args: value(tree, args)))
    with jax.enable_x64(True):
        autodiff, *sides = np.asarray(slopes(jnp.asarray(point + away)))
    if np.allclose(got, autodiff, atol=1e-12):
        return True
    corners = np.unique(sides, axis=0)
    system = np.vstack([corners.T, np.ones(len(corners))])
    return linprog(np.zeros(len(corners)), A_eq=system, b_eq=[*got, 1], bounds=(0, None)).success


def judged(tree, arguments):
    """The proof of a tree's rule, and whether the rule is a derivative at each point of the lattice."""

    def primal(*args):
        return value(tree, args)

    op = with_rule(primal, lambda args, dy: tuple(pulled_back(tree, args, dy)))
    proof = prove_vjp(op, primal, *["n"] * arguments, timeout=40.0)
    lattice = itertools.product((-2, -1, 0, 1, 2), repeat=arguments)
    return proof, all(is_a_derivative(tree, point, arguments) for point in lattice)


@pytest.mark.family
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_proved_is_a_derivative_on_the_kinks_too(seed):
    source = random.Random(seed)
    arguments = source.choice((1, 2, 2, 3))
    tree = random_tree(source, 3, arguments)
    proof, right = judged(tree, arguments)
    assert proof.status != ("refuted" if right else "proved"), f"{tree}\n{proof}"


@pytest.mark.family
@pytest.mark.parametrize("seed", SEEDS_OF_MAXIMA)
def test_so_it_is_where_several_are_the_largest(seed):
    source = random.Random(seed)
    arguments = source.choice((2, 2, 3))
    functions = {"largest": 3} | FUNCTIONS
    operands = (random_tree(source, 1, arguments, functions) for _ in range(3))
    tree = ("largest", source.choice(TIES), *operands)
    if source.random() < 0.5:
        tree = (source.choice(("relu", "abs")), source.choice(SHARES[:3]), tree)
    proof, right = judged(tree, arguments)
    assert proof.status != ("refuted" if right else "proved"), f"{tree}\n{proof}"
