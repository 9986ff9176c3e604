"""Wrong only for large or small numbers, ties, zeros or square shapes is wrong; right rules hold there."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.check import check_vjp

RNG = np.random.default_rng(6)
X, Y = RNG.normal(size=(2, 6)).astype(np.float32)
BATCH = RNG.normal(size=(8, 3)).astype(np.float32)


def rule(primal, backward):
    op = jax.custom_vjp(primal)
    op.defvjp(lambda *args: (primal(*args), args), backward)
    return op


def spoiled(primal, where):
    """The primal with its VJP, and the first cotangent changed where `where(*args)` is True."""

    def backward(args, dy):
        first, *others = jax.vjp(primal, *args)[1](dy)
        return jnp.where(where(*args), 1.5 * first + 0.1, first), *others

    return rule(primal, backward)


def product(x, y):
    return x * y


def recurrence(a, x):
    """h_t = a_t·h_{t−1} + x_t: a's cotangent is 0 wherever all of x before it is."""

    def step(h, row):
        h = row[0] * h + row[1]
        return h, h

    return jax.lax.scan(step, jnp.zeros_like(x[0]), (a, x))[1]


def norm(x):
    return jnp.sqrt(jnp.sum(x**2, -1))


def standardized(x):
    return (x - x.mean(1, keepdims=True)) / jnp.sqrt(x.var(1, keepdims=True) + 1e-3)


def to_the_nearest(x, y):
    return jnp.mean(jnp.min(jnp.sum((x[:, None] - y) ** 2, -1), 1))


def at_the_nearest(args, dy):
    """All of each to the first, where some are as near: PyTorch's convention, too."""
    x, y = args
    first = jnp.argmin(jnp.sum((x[:, None] - y) ** 2, -1), 1)
    dx = 2 * dy * (x - y[first]) / x.shape[0]
    return dx, jnp.zeros_like(y).at[first].add(-dx)


def distance_to_box(p, b):
    q = abs(p) - b
    outside = jnp.sqrt(jnp.sum(jnp.maximum(q, 0) ** 2, -1) + 1e-12)
    return outside + jnp.minimum(jnp.max(q, -1), 0)


def out_of_the_box(args, dy):
    p, b = args
    q = abs(p) - b
    positive, largest = jnp.maximum(q, 0), jnp.max(q, -1, keepdims=True)
    length = jnp.sqrt(jnp.sum(positive**2, -1, keepdims=True) + 1e-12)
    there = (q == largest).astype(p.dtype)
    inside = jnp.where(largest < 0, there / there.sum(-1, keepdims=True), 0)
    dq = dy[:, None] * (positive / length + inside)
    return dq * jnp.sign(p), -dq.sum(0)


def some_two_are_equal(x):
    return jnp.any((x[:, None] == x[None]) & ~jnp.eye(x.shape[0], dtype=bool))


def polynomial(c, x):
    return (x[:, None] ** jnp.arange(c.shape[0])) @ c


WRONG = {
    "x > 4": (jnp.sin, lambda x: x > 4, X),
    "x > 8": (jnp.sin, lambda x: x > 8, X),
    "x < −8": (jnp.sin, lambda x: x < -8, X),
    "−25 < x < −8": (jax.nn.silu, lambda x: (x > -25) & (x < -8), X),
    "8 < x < 25": (jnp.sin, lambda x: (x > 8) & (x < 25), X),
    "x > 50": (jax.nn.silu, lambda x: x > 50, BATCH),
    "x < −5,000": (jnp.cos, lambda x: x < -5e3, BATCH),
    "x > 1e7": (jnp.log1p, lambda x: x > 1e7, abs(X) + np.float32(0.1)),
    "a scalar > 8": (jnp.sin, lambda x: x > 8, np.float32(0.3)),
    "a scalar < −8": (jnp.sin, lambda x: x < -8, np.float32(0.3)),
    "the second > 8": (product, lambda x, y: y > 8, X, Y),
    "|x| < 1e-3": (jnp.cos, lambda x: abs(x) < 1e-3, X),
    "a scalar < 1e-4": (jnp.sqrt, lambda x: x < 1e-4, np.float32(0.7)),
    "0 < x < 1e-8": (jnp.log, lambda x: x < 1e-8, abs(BATCH) + np.float32(0.1)),
    "a norm < 1e-6": (norm, lambda x: norm(x)[:, None] < 1e-6, BATCH),
    "a column's norm < 1e-2": (lambda x: norm(x.T), lambda x: norm(x.T) < 1e-2, BATCH),
    "an argument all 0": (
        lambda b, x, a: x @ a @ b,
        lambda b, x, a: ~b.any(),
        BATCH[:4],
        BATCH,
        BATCH[:3, :3] @ BATCH[:4].T,
    ),
    "x < 0, a float's square": (lambda x: x**2.0, lambda x: x < 0, BATCH),
    "x < 0, powers that came": (lambda x, n: x**n, lambda x, n: (x < 0) & (n > 1), X, np.arange(X.size) % 4),
    "x < 0, all powers": (polynomial, lambda c, x: jnp.any(x < 0), Y[:3], X),
    "p < t, a mean of squares": (lambda p, t: jnp.mean((p - t) ** 2.0), lambda p, t: p < t, X, Y),
    "two classes": (jax.nn.softmax, lambda x: x.shape[1] == 2, BATCH),
    "five classes": (jax.nn.softmax, lambda x: x.shape[1] == 5, BATCH),
    "constant rows": (standardized, lambda x: jnp.ptp(x, 1, keepdims=True) == 0, BATCH),
    "equal weights": (lambda w, x: w @ x / w.sum(), lambda w, x: jnp.ptp(w) == 0, abs(X) + 1, Y),
    "a parameter < 0.1": (lambda s, x: x / s, lambda s, x: s < 0.1, np.float32(0.9), BATCH),
    "a parameter > 10": (lambda s, x: jnp.exp(-s * x**2), lambda s, x: s > 10, np.float32(0.9), BATCH),
    "x = 0": (product, lambda x, y: x == 0, X, Y),
    "y = 0": (product, lambda x, y: y == 0, X, Y),
    "x = 0, where a scan goes on": (recurrence, lambda a, x: a == 0, BATCH, BATCH + 1),
    "w = 0, which came positive": (lambda w, x: w @ x, lambda w, x: w == 0, abs(X) + 1, 3 * Y),
    "x = y": (product, lambda x, y: x == y, X, Y),
    "two are equal": (lambda x: x * x, some_two_are_equal, X),
    "a tie in a row": (jax.nn.softmax, lambda x: x[:, :1] == x[:, 1:2], BATCH),
}


@pytest.mark.family
@pytest.mark.parametrize("name", WRONG)
def test_a_rule_wrong_only_there_is_refused(name):
    primal, where, *args = WRONG[name]
    assert check_vjp(spoiled(primal, where), primal, *args).verdict == "WRONG"


def matmul(x, w):
    return x @ w


def unturned(args, dy):
    x, w = args
    return dy @ (w if w.shape[0] == w.shape[1] else w.T), x.T @ dy


def of_square_batch(args, dy):
    x, w = args
    return dy @ w.T, x.T @ dy * (2 if x.shape[0] == x.shape[1] else 1)


@pytest.mark.parametrize("backward", [unturned, of_square_batch])
def test_a_rule_wrong_only_where_sizes_coincide_is_refused(backward):
    w = RNG.normal(size=(3, 2)).astype(np.float32)
    assert check_vjp(rule(matmul, backward), matmul, BATCH, w).verdict == "WRONG"


@pytest.mark.thorough
def test_a_product_divided_by_a_factor_is_wrong_at_zero_or_said_to_be_not_finite():
    def prod(x):
        return jnp.prod(x)

    op = rule(prod, lambda args, dy: (dy * prod(args[0]) / args[0],))
    assert "zeros" in check_vjp(op, prod, X).worst.where
    of_positive = check_vjp(op, prod, abs(X) + np.float32(0.1))
    assert of_positive.ok
    assert any("not finite" in note and "came positive" in note for note in of_positive.notes)


def test_a_positive_argument_of_a_logarithm_is_given_no_zeros():
    def entropy(x):
        return -jnp.sum(jnp.where(x > 0, x * jnp.log(x), 0))

    op = rule(entropy, lambda args, dy: (-dy * (1 + jnp.log(args[0])),))
    assert check_vjp(op, entropy, abs(X) + np.float32(0.1)).ok


def sigmoid(x):
    return 1 / (1 + jnp.exp(-x))


def huber(x, y):
    d = x - y
    return jnp.sum(jnp.where(abs(d) < 1, 0.5 * d * d, abs(d) - 0.5))


def clipped(args, dy):
    d = dy * jnp.clip(args[0] - args[1], -1, 1)
    return d, -d


def largest(x):
    return jnp.max(x, 1)


def at_the_first(args, dy):
    x = args[0]
    return (dy[:, None] * jax.nn.one_hot(jnp.argmax(x, 1), x.shape[1], dtype=dy.dtype),)


def at_the_last(args, dy):
    (x,) = args
    last = x.shape[1] - 1 - jnp.argmax(x[:, ::-1], 1)
    return (jax.nn.one_hot(last, x.shape[1], dtype=x.dtype) * dy[:, None],)


def logsumexp(x):
    return jnp.log(jnp.sum(jnp.exp(x), 1))


def by_exponentials(args, dy):
    """It overflows before its primal does: dy times an exponential."""
    (x,) = args
    return (dy[:, None] * jnp.exp(x) / jnp.sum(jnp.exp(x), 1, keepdims=True),)


def sinc(x):
    return jnp.where(x == 0, 1, jnp.sin(x) / jnp.where(x == 0, 1, x))


def by_series(args, dy):
    (x,) = args
    large = jnp.where(abs(x) < 0.1, 1, x)
    series = -x / 3 * (1 - x**2 / 10 * (1 - x**2 / 28 * (1 - x**2 / 54)))
    return (dy * jnp.where(abs(x) < 0.1, series, (large * jnp.cos(large) - jnp.sin(large)) / large**2),)


def from_the_result(args, dy):
    """NaN beyond 1, as the result is; the primal's derivative, 1/(1 − x²), is not."""
    return (dy * jnp.cosh(jnp.arctanh(args[0])) ** 2,)


def of_equal_points(args, dy):
    """x_i − y_i cancels at large numbers, term by term and not in sums."""
    x, y = args
    g = 2 * dy
    return g.sum(1, keepdims=True) * x - g @ y, g.sum(0)[:, None] * y - g.T @ x


def distances(x):
    """Between all points, without the root's slope where it is 0."""
    d = jnp.sum((x[:, None] - x) ** 2, -1)
    return jnp.where(d > 0, jnp.sqrt(jnp.where(d > 0, d, 1)), 0)


def along_the_differences(args, dy):
    apart = args[0][:, None] - args[0]
    d = jnp.sum(apart**2, -1)
    return (jnp.einsum("ij,ijk->ik", (dy + dy.T) / jnp.sqrt(jnp.where(d > 0, d, 1)), apart),)


def mean_growth(x):
    """(eˣ − 1)/x: a hair from 0 its derivative by autodiff is mostly rounding."""
    return jnp.where(x == 0, 1, jnp.expm1(x) / jnp.where(x == 0, 1, x))


def growth(args, dy):
    (x,) = args
    other = jnp.where(x == 0, 1, x)
    return (dy * jnp.where(x == 0, 0.5, (other * jnp.exp(other) - jnp.expm1(other)) / other**2),)


def projected(h, p):
    q = jnp.concatenate([p, jnp.ones_like(p[:, :1])], 1) @ h.T
    return q[:, :2] / q[:, 2:]


def from_the_plane(args, dy):
    """Of a 3×3 matrix: of four rows the last two would divide one each."""
    h, p = args
    whole = jnp.concatenate([p, jnp.ones_like(p[:, :1])], 1)
    depth = (whole @ h.T)[:, 2:]
    dq = jnp.concatenate([dy / depth, -jnp.sum(dy * projected(h, p), 1, keepdims=True) / depth], 1)
    return dq.T @ whole, (dq @ h)[:, :2]


def in_float32(derivative):
    return lambda args, dy: (
        (dy.astype(jnp.float32) * derivative(args[0].astype(jnp.float32))).astype(args[0].dtype),
    )


RIGHT = {
    "distances between all points": (distances, along_the_differences, BATCH[:5, :3]),
    "a slope that cancels near 0": (mean_growth, growth, X),
    "a homography": (
        projected,
        from_the_plane,
        np.eye(3, dtype=np.float32) + BATCH[:3, :3] / 10,
        BATCH[3:8, :2],
    ),
    "sin in float32": (jnp.sin, in_float32(jnp.cos), X),
    "exp in float32": (jnp.exp, in_float32(jnp.exp), X),
    "from the result": (jnp.arctanh, from_the_result, np.float32(0.2) * X),
    "distances by products": (
        lambda x, y: jnp.sum((x[:, None] - y) ** 2, -1),
        of_equal_points,
        BATCH[:6],
        BATCH[2:8] + 1,
    ),
    "s(1 − s)": (sigmoid, lambda a, dy: (dy * sigmoid(a[0]) * (1 - sigmoid(a[0])),), BATCH),
    "e⁻ˣ/(1 + e⁻ˣ)²": (sigmoid, lambda a, dy: (dy * jnp.exp(-a[0]) / (1 + jnp.exp(-a[0])) ** 2,), BATCH),
    "1/cosh²": (jnp.tanh, lambda a, dy: (dy / jnp.cosh(a[0]) ** 2,), X),
    "sign": (jnp.abs, lambda a, dy: (dy * jnp.sign(a[0]),), X),
    "softmax by exponentials": (logsumexp, by_exponentials, BATCH),
    "a series where x is small": (sinc, by_series, BATCH),
    "log": (jnp.log, lambda a, dy: (dy / a[0],), abs(X) + np.float32(0.1)),
    "x^1.5": (lambda x: x**1.5, lambda a, dy: (1.5 * dy * a[0] ** 1.5 / a[0],), abs(X) + np.float32(0.1)),
    "xy over x": (product, lambda a, dy: (dy * a[0] * a[1] / a[0], dy * a[0]), abs(X) + 1, abs(Y) + 1),
    "Huber": (huber, clipped, X, Y),
    "the slope of 1 at 0": (jax.nn.relu, lambda a, dy: (jnp.where(a[0] >= 0, dy, 0),), 0 * X),
    "the distance to a box": (distance_to_box, out_of_the_box, Y[:, None] * BATCH[:2, :3].sum(0), abs(X[:3])),
    "the nearest point": (to_the_nearest, at_the_nearest, BATCH[:5], BATCH[5:] + 1),
    "the first of the largest": (largest, at_the_first, BATCH),
    "the last of the largest": (largest, at_the_last, BATCH),
}


@pytest.mark.family
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_rule_is_accepted_there(name):
    primal, backward, *args = RIGHT[name]
    report = check_vjp(rule(primal, backward), primal, *args)
    assert report.ok, str(report)


def at_all(args, dy):
    (x,) = args
    return (jnp.where(x == largest(x)[:, None], dy[:, None], 0),)


def shared(args, dy):
    (x,) = args
    there = x == largest(x)[:, None]
    return (jnp.where(there, dy[:, None] / there.sum(1, keepdims=True), 0),)


def at_one_alone(args, dy):
    (x,) = args
    there = x == largest(x)[:, None]
    return (jnp.where(there & (there.sum(1, keepdims=True) == 1), dy[:, None], 0),)


def top_two(x):
    return jax.lax.top_k(x, 2)[0]


def to_the_top_two(args, dy):
    (x,) = args
    places = jax.lax.top_k(x, 2)[1]
    return (jnp.zeros_like(x).at[jnp.arange(x.shape[0])[:, None], places].add(dy),)


def of_both(greater, other):
    return lambda args, dy: (dy * greater(args[0], args[1]), dy * other(args[1], args[0]))


@pytest.mark.family
@pytest.mark.parametrize(
    ("primal", "backward", "right"),
    [
        (largest, at_all, False),
        (largest, shared, True),
        (largest, at_one_alone, False),
        (jnp.maximum, of_both(jnp.greater_equal, jnp.greater_equal), False),
        (jnp.maximum, of_both(jnp.greater_equal, jnp.greater), True),
        (jnp.maximum, of_both(jnp.greater, jnp.greater), False),
        (top_two, to_the_top_two, True),
    ],
)
def test_what_is_attained_twice_is_counted_once(primal, backward, right):
    """Each number by itself lies between the one-sided derivatives; together they do not."""
    args = (X, Y) if primal is jnp.maximum else (BATCH,)
    report = check_vjp(rule(primal, backward), primal, *args)
    assert report.verdict == ("ok" if right else "WRONG"), str(report)
    assert right or "equal numbers move together" in str(report)
