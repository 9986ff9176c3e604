"""Three verdicts: ok, WRONG, could not be checked; and what a report says when it is none of the first."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.check import check_vjp
from bnjax.check.stages import wide

X = np.random.default_rng(7).normal(size=6).astype(np.float32)


def rule(primal, backward):
    op = jax.custom_vjp(primal)
    op.defvjp(lambda *args: (primal(*args), args), backward)
    return op


def square(x):
    return x**2


RIGHT = rule(square, lambda args, dy: (2 * dy * args[0],))
WRONG = rule(square, lambda args, dy: (dy * args[0],))


def test_the_three_verdicts_are_in_the_heading_and_in_json():
    def unseen(x, y):
        return x + 0 * y

    for args, verdict in (
        ((RIGHT, square, X), "ok"),
        ((WRONG, square, X), "WRONG"),
        ((unseen, unseen, X, X), "could not be checked"),
    ):
        report = check_vjp(*args)
        assert report.verdict == verdict
        assert report.ok is (verdict == "ok")
        assert f": {verdict} (" in str(report).splitlines()[0]
        assert report.to_json()["verdict"] == verdict


def test_what_the_check_cannot_do_is_not_held_against_the_rule(monkeypatch):
    def broken(*args):
        raise RuntimeError("the checker's own")
        yield

    monkeypatch.setattr(wide, "cases", broken)
    report = check_vjp(RIGHT, square, X)
    assert report.verdict == "could not be checked"
    assert "the checker's own" in str(report)
    assert check_vjp(WRONG, square, X).verdict == "WRONG"  # the other stages see it


@pytest.mark.parametrize("fault", [lambda x: x[0] / (1 // 0), lambda x: jnp.argmax(x)])
def test_a_primal_that_cannot_be_differentiated_is_no_fault_of_the_op(fault):
    assert check_vjp(square, fault, X).verdict == "could not be checked"


def test_no_evidence_says_what_to_bind():
    report = check_vjp(lambda x, scale: x + 0, lambda x, scale: x + 0, X, X)
    assert "scale=" in str(report)
    assert "scale" in {f.argument for f in report.failures}


def test_where_some_numbers_have_no_bound_it_says_so():
    """A rule that is wrong there alone would pass."""

    def primal(x):
        cancelled = (x + 1e6) - 1e6 - x  # rounding, and nothing else
        return x / jnp.where(jnp.arange(x.shape[0]) == 0, cancelled, 1)

    report = check_vjp(primal, primal, jnp.asarray([0.3, 0.7, 0.2]))
    assert report.verdict == "could not be checked", str(report)
    assert "numbers have no bound" in str(report)


def test_an_argument_of_a_primal_without_names_has_the_ops():
    def op(speed, mass):
        return speed * mass

    wrong = rule(op, lambda args, dy: (dy, dy * args[0]))
    report = check_vjp(wrong, lambda *args: args[0] * args[1], X, X[::-1].copy())
    assert {f.argument for f in report.failures if f.stage == "value"} == {"speed"}


def test_a_long_message_keeps_its_end_and_a_ratio_to_nothing_is_not_given():
    def backward(args, dy):
        return (jnp.ones((7, 9)),)

    text = str(check_vjp(rule(square, backward), square, X))
    assert "7" in text
    zero = rule(lambda x: 0 * x + jnp.sum(x) * 0, lambda args, dy: (1e-3 * dy,))
    assert "e+30" not in str(check_vjp(zero, lambda x: 0 * x + jnp.sum(x) * 0, X))


def masked(x, mask):
    return jnp.sum(mask * x * x)


@pytest.mark.thorough
def test_a_mask_that_selects_may_be_finite_where_autodiff_multiplies_by_zero():
    mask = np.array([0, 1, 1, 0, 1, 1])
    selects = rule(masked, lambda a, dy: (jnp.where(a[1] > 0, 2 * dy * a[0], 0), None))
    holds_nan = np.where(mask, X, np.nan).astype(np.float32)
    for x in (X, holds_nan):
        report = check_vjp(selects, masked, x, mask)
        assert report.ok, str(report)
    swallows = rule(masked, lambda a, dy: (jnp.nan_to_num(2 * dy * a[0] * a[1]), None))
    assert check_vjp(swallows, masked, X, np.ones(6, int)).verdict == "WRONG"


def length(x):
    """The norm, differentiable where it is 0: what is NaN is not greater than 0, and is selected away."""
    square = jnp.sum(x * x)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


def direction(args, dy):
    (x,), y = args, length(args[0])
    return (x * jnp.where(y > 0, dy / jnp.where(y > 0, y, 1), 0),)


@pytest.mark.thorough
def test_where_the_primal_selects_nan_away_the_rule_may_too():
    report = check_vjp(rule(length, direction), length, X)
    assert report.ok, str(report)
    nan_at_zero = rule(length, lambda args, dy: (dy * args[0] / length(args[0]),))
    assert check_vjp(nan_at_zero, length, X).verdict == "WRONG"


def test_a_kernel_that_xla_has_not_in_a_dtype_that_nobody_gave_is_no_fault():
    def backward(args, dy):
        if dy.dtype == jnp.bfloat16:
            raise NotImplementedError("no such kernel in bfloat16")
        return (2 * dy * args[0],)

    report = check_vjp(rule(square, backward), square, X)
    assert report.ok, str(report)
    assert any(s.name == "bfloat16" and "no such kernel" in s.skipped for s in report.stages)
    assert check_vjp(rule(square, backward), square, X.astype(jnp.bfloat16)).verdict == "WRONG"


@pytest.mark.parametrize("labels", [[5, 3, 3, 1, 0, 2], [-1, 3, -1, 5, 0, 2], [-3, 4, 4, 4, 0, -1]])
def test_indices_stay_in_range_on_small_sizes(labels):
    table = np.random.default_rng(8).normal(size=(7, 3)).astype(np.float32)

    def looked_up(table, ids):
        return table[ids]

    def backward(args, dy):
        rows = jnp.where(args[1] < 0, args[1] + len(args[0]), args[1])
        return jax.nn.one_hot(rows, len(args[0]), dtype=dy.dtype).T @ dy, None

    report = check_vjp(rule(looked_up, backward), looked_up, table, np.array(labels))
    assert report.ok, str(report)


@pytest.mark.thorough
@pytest.mark.parametrize("labels", [[1, -100, 4, 0], [4, 255, 1, 0]])
def test_a_mark_that_is_no_label_stays_one_on_small_sizes(labels):
    mark = max(labels, key=abs)

    def cross_entropy(logits, labels):
        kept = labels != mark
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), jnp.where(kept, labels, 0)[:, None], 1)[:, 0]
        return -jnp.sum(jnp.where(kept, picked, 0)) / jnp.maximum(kept.sum(), 1)

    def backward(args, dy, masked=True):
        logits, labels = args
        kept = labels != mark
        hot = jax.nn.one_hot(jnp.where(kept, labels, 0), logits.shape[1], dtype=logits.dtype)
        dx = dy * (jax.nn.softmax(logits) - hot) / jnp.maximum(kept.sum(), 1)
        return jnp.where(kept[:, None] | (not masked), dx, 0), None

    logits = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
    report = check_vjp(rule(cross_entropy, backward), cross_entropy, logits, np.array(labels))
    assert report.ok, str(report)
    wrong = rule(cross_entropy, lambda args, dy: backward(args, dy, masked=False))
    assert check_vjp(wrong, cross_entropy, logits, np.array(labels)).verdict == "WRONG"


@pytest.mark.thorough
def test_sizes_that_the_primal_does_not_mean_are_left_out():
    points = np.random.default_rng(9).normal(size=(8, 2)).astype(np.float32)

    def area(p):
        return p[:, 0] * p[:, 1]

    def scattered(args, dy):
        p = args[0]
        return (jnp.zeros_like(p).at[:, 0].set(dy * p[:, 1]).at[:, 1].set(dy * p[:, 0]),)

    report = check_vjp(rule(area, scattered), area, points)
    assert report.ok, str(report)
    assert any("does not mean" in note for note in report.notes)
    stacked = rule(area, lambda a, dy: (jnp.stack([dy * a[0][:, 1], dy * a[0][:, 0]], 1),))  # of 2 columns
    report = check_vjp(stacked, area, points)
    assert report.ok, str(report)


@pytest.mark.thorough
def test_sizes_at_which_the_primal_is_another_program_are_left_out():
    """Of 4 columns the last two would be depths; of two components a cross product is a number."""
    rng = np.random.default_rng(10)
    points = (rng.normal(size=(5, 3)) + np.array([0, 0, 4])).astype(np.float32)
    a, b = rng.normal(size=(2, 5, 3)).astype(np.float32)

    def seen(p):
        return p[:, :2] / p[:, 2:]

    def unseen(args, dy):
        depth = args[0][:, 2:]
        return (jnp.concatenate([dy / depth, -jnp.sum(dy * seen(*args), 1, keepdims=True) / depth], 1),)

    def turned(a, b):
        return jnp.cross(a, jnp.cross(a, b)) + b

    def back(args, dy):
        a, b = args
        inner, g = jnp.cross(a, b), jnp.cross(dy, a)
        return jnp.cross(inner, dy) + jnp.cross(b, g), jnp.cross(g, a) + dy

    for primal, backward, *args in ((seen, unseen, points), (turned, back, a, b)):
        report = check_vjp(rule(primal, backward), primal, *args)
        assert report.ok, str(report)
        assert any("left out" in note for note in report.notes)


def test_nan_is_in_no_order():
    """where(n > 1, …) is its other branch of NaN, whose derivative is finite; autodiff's is 0·NaN."""

    def clipped(x):
        norm = jnp.sqrt(jnp.sum(x**2))
        return jnp.where(norm > 1, x / norm, x)

    def backward(args, dy):
        (x,) = args
        norm = jnp.sqrt(jnp.sum(x**2))
        y = x / norm
        return (jnp.where(norm > 1, (dy - y * jnp.sum(y * dy)) / norm, dy),)

    vector = np.random.default_rng(1).normal(size=6).astype(np.float32)
    report = check_vjp(rule(clipped, backward), clipped, vector)
    assert report.ok, str(report)
    assert any("NaN is in no order" in note for note in report.notes)


def test_a_size_at_which_the_primal_writes_outside_is_left_out():
    def overwritten(x, value):
        return x.at[1].set(value)

    op = rule(overwritten, lambda args, dy: (dy.at[1].set(0), dy[1]))
    report = check_vjp(op, overwritten, X, X[0])
    assert report.ok, str(report)
    leaks = rule(overwritten, lambda args, dy: (dy, dy[1]))
    assert check_vjp(leaks, overwritten, X, X[0]).verdict == "WRONG"


def test_what_the_bounds_do_not_follow_is_named():
    mesh = jax.make_mesh((1,), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    of_devices = jax.shard_map(square, mesh=mesh, in_specs=jax.P("d"), out_specs=jax.P("d"))
    report = check_vjp(of_devices, of_devices, X)
    assert report.verdict == "could not be checked"
    assert "shard_map holds a program" in str(report)
