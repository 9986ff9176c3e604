"""What a rule returns on a kink is looked at place by place: what cancels over all is seen at one."""

import jax
import jax.numpy as jnp
import pytest

from bnjax.prove import prove_vjp
from tests.prove.rules import with_rule


def status(primal, backward, *shapes):
    return prove_vjp(with_rule(primal, backward), primal, *shapes).status


def rectified(x, y):
    return jnp.sum(jax.nn.relu(y)) + 0 * jnp.sum(x)


@pytest.mark.parametrize("shape", ["n", "4"])
def test_what_is_zero_over_all_kinks_together_is_seen_at_one(shape):
    """Σ_i [y_i = 0]·(x_i − mean x) is 0 where all y_i are 0, and not where one is."""

    def rule(args, dy):
        x, y = args
        return 0 * x + dy * jnp.sum((y == 0) * (x - jnp.mean(x))), dy * (y > 0)

    assert status(rectified, rule, shape, shape) == "conditional"


@pytest.mark.parametrize("shape", ["n", "4"])
def test_what_is_zero_at_one_kink_is_seen_at_two(shape):
    def rule(args, dy):
        x, y = args
        kinks = (y == 0) * 1.0
        return 0 * x + dy * (jnp.sum(kinks) ** 2 - jnp.sum(kinks)), dy * (y > 0)

    assert status(rectified, rule, shape, shape) == "conditional"


@pytest.mark.family
@pytest.mark.parametrize("shape", ["n", "4"])
@pytest.mark.parametrize("slope", [0, 0.5, 1, 2])
def test_a_slope_at_each_place(shape, slope):
    def rule(args, dy):
        x, y = args
        return 0 * x, dy * jnp.where(y > 0, 1, jnp.where(y == 0, slope, 0))

    assert status(rectified, rule, shape, shape) == ("conditional" if slope == 2 else "proved")


def squared(x):
    return jnp.sum(jax.nn.relu(x)) ** 2


@pytest.mark.family
@pytest.mark.parametrize("slope", [0, 0.5, 1, -1])
def test_kinks_that_are_multiplied_with_each_other(slope):
    def rule(args, dy):
        (x,) = args
        slopes = jnp.where(x > 0, 1, jnp.where(x == 0, slope, 0))
        return (2 * dy * slopes * jnp.sum(jax.nn.relu(x)),)

    assert status(squared, rule, "n") == ("conditional" if slope == -1 else "proved")


@pytest.mark.family
@pytest.mark.parametrize("slope", [0, 0.5, 1, 3])
def test_a_kink_that_lies_at_two_places(slope):
    """x_i·x_j = 1 at (i, j) and at (j, i)."""

    def primal(x):
        return jnp.sum(jax.nn.relu(x[:, None] * x - 1))

    def rule(args, dy):
        (x,) = args
        p = x[:, None] * x
        return (2 * dy * jnp.sum(jnp.where(p > 1, 1, jnp.where(p == 1, slope, 0)) * x, 1),)

    assert status(primal, rule, "n") == ("conditional" if slope == 3 else "proved")


@pytest.mark.parametrize("shape", ["", "2", "n"])
def test_sides_that_no_point_has_together(shape):
    """Of x > y, y > z and z > x two at most hold."""

    def primal(x, y, z):
        return jax.nn.relu(x - y) + 2 * jax.nn.relu(y - z) + 4 * jax.nn.relu(z - x)

    def rule(args, dy):
        x, y, z = args
        a, b, c = dy * (x >= y), 2 * dy * (y >= z), 4 * dy * (z >= x)
        return a - c, b - a, c - b

    assert status(primal, rule, shape, shape, shape) == "conditional"
