"""What arguments may mean, and what small ones made like them then are: rules from outside batch norm."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.check import check_vjp, sizes, traits
from tests.prove.rules import with_rule

RNG = np.random.default_rng(9)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def cross(a, b):
    return jnp.stack([a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]])


def axis_of_rotation(q):
    w, x, y, z = q[0], q[1], q[2], q[3]
    return jnp.stack([2 * (x * z + w * y), 2 * (y * z - w * x), w * w - x * x - y * y + z * z])


def axis_pulled_back(args, g):
    (w, x, y, z), (a, b, c) = args[0], g
    first = [a * y - b * x + c * w, a * z - b * w - c * x]
    return (2 * jnp.stack([*first, a * w + b * z - c * y, a * x + b * y + c * z]),)


@pytest.mark.thorough
def test_a_vector_of_space_has_three_elements():
    op = with_rule(cross, lambda args, g: (cross(args[1], g), cross(g, args[0])))
    assert check_vjp(op, cross, normal(3), normal(3)).ok
    wrong = with_rule(cross, lambda args, g: (cross(args[1], g), cross(args[0], g)))
    assert check_vjp(wrong, cross, normal(3), normal(3)).verdict == "WRONG"


@pytest.mark.thorough
def test_a_quaternion_has_four():
    op, q = with_rule(axis_of_rotation, axis_pulled_back), np.array([0.8, 0.2, -0.5, 0.3], np.float32)
    assert check_vjp(op, axis_of_rotation, q).ok


@pytest.mark.thorough
@pytest.mark.parametrize("largest", [3, 8, 20])
def test_a_rule_may_be_made_of_the_result_where_that_is_nearly_one(largest):
    """y(1 − y) and 1 − y² are rounded as 1 − y is; autodiff of the formula is not."""
    x = np.array([-3, -1, 0.5, 2, largest], np.float32)

    def sigmoid(x):
        return 1 / (1 + jnp.exp(-x))

    op = jax.custom_vjp(sigmoid)
    op.defvjp(lambda x: (sigmoid(x),) * 2, lambda y, g: (g * y * (1 - y),))
    assert check_vjp(op, sigmoid, x).ok
    wrong = jax.custom_vjp(sigmoid)
    wrong.defvjp(lambda x: (sigmoid(x),) * 2, lambda y, g: (g * y * (1 - y) * (1 + 1e-4 * y),))
    assert check_vjp(wrong, sigmoid, x).verdict == "WRONG"


@pytest.mark.thorough
def test_a_second_derivative_may_be_rounded_where_it_is_zero():
    def sample(mean, scale, key):
        return mean + scale * jax.random.normal(key, mean.shape, mean.dtype)

    op = jax.custom_vjp(sample)
    op.defvjp(
        lambda m, s, key: (sample(m, s, key), (sample(m, s, key), m, s)),
        lambda args, g: (g, g * (args[0] - args[1]) / args[2], None),
    )
    scale = RNG.uniform(0.2, 2, 4).astype(np.float32)
    assert check_vjp(op, sample, normal(4), scale, jax.random.key(1)).ok


@pytest.mark.thorough
def test_a_kink_may_be_a_cast_to_an_integer():
    def looked_up(table, x):
        i = jnp.clip(x.astype(jnp.int32), 0, table.size - 2)
        return table[i] * (1 - (x - i)) + table[i + 1] * (x - i)

    def to_the_left(args, g):
        table, x = args
        i = jnp.clip((jnp.ceil(x) - 1).astype(jnp.int32), 0, table.size - 2)
        shares = jnp.zeros_like(table).at[i].add(g * (1 - (x - i))).at[i + 1].add(g * (x - i))
        return shares, g * (table[i + 1] - table[i])

    x = np.array([0.5, 2.0, 3.0, 1.2], np.float32)
    assert check_vjp(with_rule(looked_up, to_the_left), looked_up, normal(5), x).ok


@pytest.mark.thorough
def test_a_rule_may_solve_where_the_primal_does_not():
    """log|det| of 2 × 2 matrices: NaN comes through a solver as it will."""

    def primal(a):
        return jnp.log(jnp.abs(a[..., 0, 0] * a[..., 1, 1] - a[..., 0, 1] * a[..., 1, 0]))

    op = with_rule(primal, lambda args, g: (g[..., None, None] * jnp.linalg.inv(args[0]).swapaxes(-1, -2),))
    assert "non-finite" not in {f.stage for f in check_vjp(op, primal, normal(4, 2, 2)).failures}


@pytest.mark.thorough
@pytest.mark.parametrize("shape", [(4, 5), (3, 7), (5, 4)])
def test_a_median_of_an_even_number_is_a_mean_of_two(shape):
    def median(x):
        return jnp.median(x, -1)

    def odd_only(args, g):
        (x,) = args
        middle = jnp.argsort(x, -1)[:, x.shape[-1] // 2]
        return (jnp.zeros_like(x).at[jnp.arange(len(x)), middle].add(g),)

    assert check_vjp(with_rule(median, odd_only), median, normal(*shape)).verdict == "WRONG"


@pytest.mark.thorough
@pytest.mark.parametrize("shape", [(2, 4, 4, 3), (4, 4, 4, 4)])
def test_height_and_width_that_came_equal_are_told_apart(shape):
    def upsampled(x):
        return jnp.repeat(jnp.repeat(x, 2, 1), 2, 2)

    def pulled(order):
        def backward(args, g):
            n, *sides, c = args[0].shape
            parts = g.reshape(n, sides[order[0]], 2, sides[order[1]], 2, c).sum((2, 4))
            return (parts.reshape(n, *sides, c),)

        return with_rule(upsampled, backward)

    assert check_vjp(pulled((0, 1)), upsampled, normal(*shape)).ok
    assert check_vjp(pulled((1, 0)), upsampled, normal(*shape)).verdict == "WRONG"


@pytest.mark.thorough
def test_a_square_matrix_stays_one_where_a_rule_is_made_for_it():
    def primal(a):
        return jnp.trace(a @ a)

    op = with_rule(primal, lambda args, g: (2 * g * args[0].T,))
    assert check_vjp(op, primal, normal(3, 3)).ok

    def trace(a):
        return jnp.trace(a)

    traced = with_rule(trace, lambda args, g: (g * jnp.eye(args[0].shape[0], dtype=args[0].dtype),))
    assert check_vjp(traced, trace, normal(3, 3)).ok


@pytest.mark.thorough
def test_an_identity_matrix_is_no_distribution():
    def layer(w, x):
        return jnp.tanh(w @ x)

    def backward(args, g):
        w, x = args
        inner = g * (1 - layer(w, x) ** 2)
        return jnp.outer(inner, x), jnp.abs(w).T @ inner

    assert (
        check_vjp(with_rule(layer, backward), layer, np.eye(3, dtype=np.float32), normal(3)).verdict
        == "WRONG"
    )
    assert not traits.is_distribution(np.eye(3))
    assert traits.is_distribution(np.eye(3)[[0, 0, 1]])


@pytest.mark.parametrize("bound", [1e6, 1e8])
def test_cotangents_are_large_too(bound):
    op = with_rule(jnp.sin, lambda args, g: (jnp.clip(g, -bound, bound) * jnp.cos(args[0]),))
    assert check_vjp(op, jnp.sin, normal(6)).verdict == "WRONG"


def test_a_mask_that_masks_nothing_is_a_mask():
    def masked(x, mask):
        return jnp.where(mask, jnp.sin(x), 0)

    def deaf(args, g):
        return g * jnp.cos(args[0]), None

    mask = np.ones(6, bool)
    assert check_vjp(with_rule(masked, deaf), masked, normal(6), mask).verdict == "WRONG"
    heard = with_rule(masked, lambda args, g: (jnp.where(args[1], g, 0) * jnp.cos(args[0]), None))
    assert check_vjp(heard, masked, normal(6), mask).ok


def test_split_sizes_change_the_later_of_two_equal_axes():
    first, other = sizes.split_sizes([(2, 4, 4, 3), (3,)])
    assert first.of((2, 4, 4, 3)) == (2, 4, 5, 3)
    assert other.of((2, 4, 4, 3)) == (2, 5, 4, 3)
    assert first.of((3,)) == (3,)
    assert first.of((4, 4, 4)) == (4, 5, 6)
    assert sizes.split_sizes([(2, 3), (3,)]) == []


@pytest.mark.thorough
def test_what_sums_to_one_is_no_excuse_for_its_own_cotangent():
    """Equal weights: a rule that forgets to divide by their sum is right of them, as they came."""

    def mean(w, x):
        return jnp.sum(w * x) / jnp.sum(w)

    def rule(args, g):
        w, x = args
        return g * (x - mean(w, x)) / jnp.sum(w), g * w / jnp.sum(w)

    args = np.full(4, 0.25, np.float32), normal(4)
    assert check_vjp(with_rule(mean, rule), mean, *args).ok
    forgotten = with_rule(mean, lambda args, g: (rule(args, g)[0] * jnp.sum(args[0]), rule(args, g)[1]))
    report = check_vjp(forgotten, mean, *args)
    assert report.verdict == "could not be checked", str(report)
    assert "right where w sums to 1" in report.worst.message


@pytest.mark.thorough
def test_targets_that_sum_to_one_may_be_relied_on_in_another_cotangent():
    def entropy(x, t):
        return -jnp.sum(t * jax.nn.log_softmax(x))

    op = with_rule(
        entropy, lambda args, g: (g * (jax.nn.softmax(args[0]) - args[1]), -g * jax.nn.log_softmax(args[0]))
    )
    assert check_vjp(op, entropy, normal(5), np.eye(5, dtype=np.float32)[2]).ok


def within(x, low, high):
    return jnp.clip(x, low, high)


def within_pulled_back(args, g):
    x, low, high = args
    between = (x >= low) & (x <= high)
    return jnp.where(between, g, 0), jnp.sum(jnp.where(x < low, g, 0)), jnp.sum(jnp.where(x > high, g, 0))


BOUNDS = (np.float32(-0.7), np.float32(0.8))


@pytest.mark.thorough
def test_a_rule_for_bounds_in_their_order_is_undecided():
    report = check_vjp(with_rule(within, within_pulled_back), within, normal(6), *BOUNDS)
    assert report.verdict == "could not be checked", str(report)
    assert "right where low ≤ high" in report.worst.message


@pytest.mark.thorough
def test_where_it_is_made_sure_of_it_is_decided():
    def ordered(f):
        return lambda x, a, b: f(x, jnp.minimum(a, b), jnp.maximum(a, b))

    assert check_vjp(ordered(with_rule(within, within_pulled_back)), ordered(within), normal(6), *BOUNDS).ok
    exchanged = with_rule(within, lambda args, g: tuple(within_pulled_back(args, g)[k] for k in (0, 2, 1)))
    assert check_vjp(exchanged, within, normal(6), *BOUNDS).verdict == "WRONG"


def interpolated_pulled_back(args, g):
    x, places, values = args
    right = jnp.clip(jnp.searchsorted(places, x, side="right"), 1, len(places) - 1)
    width = places[right] - places[right - 1]
    slope = (values[right] - values[right - 1]) / width
    inside = (x >= places[0]) & (x <= places[-1])
    share = jnp.clip((x - places[right - 1]) / width, 0, 1)
    zeros, steep = jnp.zeros_like(places), jnp.where(inside, g * slope, 0)
    by_values = zeros.at[right].add(g * share).at[right - 1].add(g * (1 - share))
    return steep, -zeros.at[right - 1].add(steep * (1 - share)).at[right].add(steep * share), by_values


@pytest.mark.thorough
@pytest.mark.parametrize("seed", [0, 1])
def test_breakpoints_increase_where_the_primal_searches_in_them(seed):
    """With the numbers of seed 1 NaN among the breakpoints was held against the rule."""
    rng = np.random.default_rng(seed)

    def primal(x, places, values):
        return jnp.interp(x, places, values)

    x, values = rng.normal(size=5).astype(np.float32), rng.normal(size=6).astype(np.float32)
    args = x, np.linspace(-1, 1, 6, dtype=np.float32), values
    report = check_vjp(with_rule(primal, interpolated_pulled_back), primal, *args)
    assert report.ok, str(report)
    assert any("places increases" in note for note in report.notes)

    def wrong(args, g):
        by_x, by_places, by_values = interpolated_pulled_back(args, g)
        return by_x, -by_places, by_values

    assert check_vjp(with_rule(primal, wrong), primal, *args).verdict == "WRONG"


@pytest.mark.thorough
def test_the_last_is_the_largest_of_an_array_that_increases():
    def primal(x):
        return jnp.max(x)

    op = with_rule(primal, lambda args, g: (jnp.zeros_like(args[0]).at[-1].set(g),))
    report = check_vjp(op, primal, np.arange(6, dtype=np.float32))
    assert report.verdict == "could not be checked", str(report)
    assert "right where x increases" in report.worst.message
    assert check_vjp(op, primal, np.array([0, 3, 1, 2], np.float32)).verdict == "WRONG"


def turned(q, v):
    across = jnp.cross(q[1:], v) + q[0] * v
    return v + 2 * jnp.cross(q[1:], across)


def turned_pulled_back(args, g):
    (w, *_), u, v = args[0], args[0][1:], args[1]
    by_u = 2 * (jnp.cross(jnp.cross(u, v) + w * v, g) + jnp.cross(v, jnp.cross(g, u)))
    by_v = g + 2 * (w * jnp.cross(g, u) + jnp.cross(jnp.cross(g, u), u))
    return jnp.concatenate([2 * jnp.dot(g, jnp.cross(u, v))[None], by_u]), by_v


@pytest.mark.thorough
def test_a_size_at_which_only_the_rule_raises_is_left_out_where_most_have_a_meaning():
    """jnp.cross takes vectors of 2 as well, so that the primal takes quaternions of 3."""
    q, v = np.array([0.8, 0.2, -0.5, 0.3], np.float32), normal(3)
    report = check_vjp(with_rule(turned, turned_pulled_back), turned, q, v)
    assert report.ok, str(report)
    exchanged = with_rule(
        turned, lambda args, g: (-turned_pulled_back(args, g)[0], turned_pulled_back(args, g)[1])
    )
    assert check_vjp(exchanged, turned, q, v).verdict == "WRONG"


def test_the_batch_changes_alone_where_a_captured_array_holds_an_equal_size():
    weights = jnp.arange(16.0).reshape(4, 4) / 9

    def primal(x):
        return jnp.mean(x @ weights, 0)

    def divided(axis):
        return lambda args, g: (jnp.broadcast_to(g @ weights.T, args[0].shape) / args[0].shape[axis],)

    assert check_vjp(with_rule(primal, divided(0)), primal, normal(4, 4)).ok
    assert check_vjp(with_rule(primal, divided(1)), primal, normal(4, 4)).verdict == "WRONG"
