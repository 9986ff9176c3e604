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
SEEDS = [pytest.param(seed, marks=() if seed < 12 or seed == 92 else pytest.mark.slow) for seed in range(160)]


def random_tree(source, depth, arguments):
    if depth == 0 or source.random() < 0.2:
        return source.randrange(arguments)
    name = source.choice(("larger", "smaller", "plus", "minus", "relu", "abs"))
    count = 1 if name in ("relu", "abs") else 2
    return (name, source.choice(SHARES), *(random_tree(source, depth - 1, arguments) for _ in range(count)))


def value(tree, args, np_=jnp):
    if isinstance(tree, int):
        return args[tree]
    name, _, a, *rest = tree
    a, b = value(a, args, np_), value(rest[0], args, np_) if rest else None
    match name:
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
    name, (mine, theirs), *operands = tree
    values = [value(operand, args, np_) for operand in operands]
    a, b = (*values, 0 * values[0])[:2]
    if name == "plus":
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


@pytest.mark.family
@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_proved_is_a_derivative_on_the_kinks_too(seed):
    source = random.Random(seed)
    arguments = source.choice((1, 2, 2, 3))
    tree = random_tree(source, 3, arguments)

    def primal(*args):
        return value(tree, args)

    op = with_rule(primal, lambda args, dy: tuple(pulled_back(tree, args, dy)))
    proof = prove_vjp(op, primal, *["n"] * arguments, timeout=40.0)
    lattice = itertools.product((-2, -1, 0, 1, 2), repeat=arguments)
    right = all(is_a_derivative(tree, point, arguments) for point in lattice)
    assert proof.status != ("refuted" if right else "proved"), f"{tree}\n{proof}"
