"""Losses: cross entropy and its kin, regression, divergences."""

import jax
import jax.numpy as jnp

from bnjax.verify.planted.beyond.topic import N, Topic, detached, integers, normal, one_hot, positive, where

K = 5


def _safe(labels):
    return jnp.where(labels >= 0, labels, 0)


def _one_hot(labels, like):
    return (labels[:, None] == jnp.arange(like.shape[1])).astype(like.dtype)


def _cross_entropy(logits, labels):
    """Mean over the rows whose label is not negative."""
    valid = labels >= 0
    nll = -jnp.take_along_axis(jax.nn.log_softmax(logits), _safe(labels)[:, None], 1)[:, 0]
    return jnp.sum(jnp.where(valid, nll, 0)) / jnp.maximum(jnp.sum(valid), 1)


def _rows(logits, labels, per_row):
    """`per_row` at the rows that count, over their number."""
    valid = (labels >= 0)[:, None]
    return jnp.where(valid, per_row, 0) / jnp.maximum(jnp.sum(labels >= 0), 1)


def _p(logits):
    e = jnp.exp(logits - jnp.max(logits, -1, keepdims=True))
    return e / jnp.sum(e, -1, keepdims=True)


def _p_minus_target(logits, labels):
    return _p(logits) - _one_hot(_safe(labels), logits)


def _in_place(logits, labels):
    return _p(logits).at[jnp.arange(len(labels)), _safe(labels)].add(-1)


CROSS_ENTROPY = Topic(
    "cross entropy with ignored labels",
    _cross_entropy,
    (normal(N, K, scale=2), integers(N, low=-1, high=K)),
    right={
        "p − one-hot": lambda x, t, y, dy: (dy * _rows(x, t, _p_minus_target(x, t)), None),
        "in place": lambda x, t, y, dy: (dy * _rows(x, t, _in_place(x, t)), None),
    },
    wrong={
        "ignored rows too": lambda x, t, y, dy: (
            dy * _p_minus_target(x, t) / jnp.maximum(jnp.sum(t >= 0), 1), None),
        "a sum, not a mean": lambda x, t, y, dy: (
            dy * jnp.where((t >= 0)[:, None], _p_minus_target(x, t), 0), None),
        "without the target": lambda x, t, y, dy: (dy * _rows(x, t, _p(x)), None),
        "without the probabilities": lambda x, t, y, dy: (
            -dy * _rows(x, t, _one_hot(_safe(t), x)), None),
        "the label after": lambda x, t, y, dy: (
            dy * _rows(x, t, _p(x) - jnp.roll(_one_hot(_safe(t), x), 1, 1)), None),
        "the sign": lambda x, t, y, dy: (-dy * _rows(x, t, _p_minus_target(x, t)), None),
        "without dy": lambda x, t, y, dy: (_rows(x, t, _p_minus_target(x, t)), None),
    },
    hidden={
        "mean over all rows": lambda x, t, y, dy: (
            dy * jnp.where((t >= 0)[:, None], _p_minus_target(x, t), 0) / len(t), None),
        "p not shifted: NaN at large logits": lambda x, t, y, dy: (
            dy * _rows(x, t, jnp.exp(x) / jnp.sum(jnp.exp(x), -1, keepdims=True) - _one_hot(_safe(t), x)),
            None),
        "second order: detached": detached(
            lambda x, t, y, dy: (dy * _rows(x, t, _p_minus_target(x, t)), None)),
    },
)  # fmt: skip


def _smoothed(labels, like):
    return 0.9 * _one_hot(labels, like) + 0.1 / like.shape[1]


def _label_smoothing(logits, labels):
    return -jnp.sum(_smoothed(labels, logits) * jax.nn.log_softmax(logits), -1)


SMOOTHING = Topic(
    "label smoothing",
    _label_smoothing,
    (normal(N, K), integers(N, high=K)),
    right={"p − target": lambda x, t, y, dy: ((_p(x) - _smoothed(t, x)) * dy[:, None], None)},
    wrong={
        "the hard target": lambda x, t, y, dy: ((_p(x) - _one_hot(t, x)) * dy[:, None], None),
        "1/(K + 1)": lambda x, t, y, dy: (
            (_p(x) - (0.9 * _one_hot(t, x) + 0.1 / (x.shape[1] + 1))) * dy[:, None], None),
        "the uniform part": lambda x, t, y, dy: ((_p(x) - 0.9 * _one_hot(t, x)) * dy[:, None], None),
    },
)  # fmt: skip


def _huber(x, t):
    r = jnp.abs(x - t)
    return jnp.where(r < 1, 0.5 * r * r, r - 0.5)


HUBER = Topic(
    "Huber",
    _huber,
    (normal(N, scale=2), normal(N)),
    right={
        "clip": lambda x, t, y, dy: ((g := dy * jnp.clip(x - t, -1, 1)), -g),
        "where": lambda x, t, y, dy: (
            (g := jnp.where(jnp.abs(x - t) < 1, x - t, jnp.sign(x - t)) * dy), -g),
    },
    wrong={
        "t's sign": lambda x, t, y, dy: ((g := dy * jnp.clip(x - t, -1, 1)), g),
        "its absolute value": lambda x, t, y, dy: ((g := dy * jnp.clip(jnp.abs(x - t), -1, 1)), -g),
    },
    hidden={
        "not clipped": lambda x, t, y, dy: ((g := dy * (x - t)), -g),
        "clipped on one side": lambda x, t, y, dy: ((g := dy * jnp.minimum(x - t, 1)), -g),
    },
)  # fmt: skip


def _sign(labels):
    return 2 * (labels % 2) - 1


HINGE = Topic(
    "hinge",
    lambda s, t: jnp.maximum(1 - _sign(t) * s, 0),
    (normal(N), integers(N, high=2)),
    right={"a mask": lambda s, t, y, dy: (-_sign(t) * dy * (y > 0), None)},
    wrong={
        "without the label": lambda s, t, y, dy: (-dy * (y > 0), None),
        "the sign": lambda s, t, y, dy: (_sign(t) * dy * (y > 0), None),
        "the loss for the mask": lambda s, t, y, dy: (-_sign(t) * dy * y, None),
    },
    hidden={"without the mask": lambda s, t, y, dy: (-_sign(t) * dy, None)},
)


def _pt(x, t):
    return jax.nn.sigmoid(_sign(t) * x)


def _log_pt(x, t):
    return jax.nn.log_sigmoid(_sign(t) * x)


def _focal(x, t):
    return -((1 - _pt(x, t)) ** 2) * _log_pt(x, t)


FOCAL = Topic(
    "focal",
    _focal,
    (normal(N), integers(N, high=2)),
    right={
        "both terms": lambda x, t, y, dy: (
            _sign(t) * dy * (1 - (p := _pt(x, t))) ** 2 * (2 * p * _log_pt(x, t) - (1 - p)), None),
    },
    wrong={
        "the modulating factor detached": lambda x, t, y, dy: (-_sign(t) * dy * (1 - _pt(x, t)) ** 3, None),
        "γ forgotten": lambda x, t, y, dy: (
            _sign(t) * dy * (1 - (p := _pt(x, t))) ** 2 * (p * _log_pt(x, t) - (1 - p)), None),
        "one label's sign": lambda x, t, y, dy: (
            dy * (1 - (p := _pt(x, t))) ** 2 * (2 * p * _log_pt(x, t) - (1 - p)), None),
    },
    hidden={"0·log 0: NaN at large −x": lambda x, t, y, dy: (
        _sign(t) * dy * (1 - (p := _pt(x, t))) ** 2 * (2 * p * jnp.log(p) - (1 - p)), None)},
)  # fmt: skip


def _kl(a, b):
    p = jax.nn.softmax(a)
    return jnp.sum(p * (jax.nn.log_softmax(a) - jax.nn.log_softmax(b)), -1)


def _log_ratio(a, b):
    return jnp.log(_p(a)) - jnp.log(_p(b))


KL = Topic(
    "KL divergence of logits",
    _kl,
    (normal(N, 4), normal(N, 4)),
    right={
        "in both": lambda a, b, y, dy: (
            _p(a) * (_log_ratio(a, b) - y[:, None]) * dy[:, None], (_p(b) - _p(a)) * dy[:, None]),
    },
    wrong={
        "p a constant": lambda a, b, y, dy: (0 * a, (_p(b) - _p(a)) * dy[:, None]),
        "a without the mean": lambda a, b, y, dy: (
            _p(a) * _log_ratio(a, b) * dy[:, None], (_p(b) - _p(a)) * dy[:, None]),
        "b's sign": lambda a, b, y, dy: (
            _p(a) * (_log_ratio(a, b) - y[:, None]) * dy[:, None], (_p(a) - _p(b)) * dy[:, None]),
        "the other direction": lambda a, b, y, dy: (
            (_p(a) - _p(b)) * dy[:, None], _p(b) * (_log_ratio(b, a) - y[:, None]) * dy[:, None]),
    },
)  # fmt: skip


def _mse(x, t, w):
    return jnp.sum(w * jnp.square(x - t)) / jnp.sum(w)


MSE = Topic(
    "weighted mean square",
    _mse,
    (normal(N), normal(N), positive(N)),
    right={
        "in all three": lambda x, t, w, y, dy: (
            (g := 2 * dy * w * (x - t) / jnp.sum(w)), -g, dy * (jnp.square(x - t) - y) / jnp.sum(w)),
    },
    wrong={
        "without the 2": lambda x, t, w, y, dy: (
            (g := dy * w * (x - t) / jnp.sum(w)), -g, dy * (jnp.square(x - t) - y) / jnp.sum(w)),
        "w's second term": lambda x, t, w, y, dy: (
            (g := 2 * dy * w * (x - t) / jnp.sum(w)), -g, dy * jnp.square(x - t) / jnp.sum(w)),
        "over n": lambda x, t, w, y, dy: (
            (g := 2 * dy * w * (x - t) / len(w)), -g, dy * (jnp.square(x - t) - y) / jnp.sum(w)),
        "without the weights": lambda x, t, w, y, dy: (
            (g := 2 * dy * (x - t) / jnp.sum(w)), -g, dy * (jnp.square(x - t) - y) / jnp.sum(w)),
    },
)  # fmt: skip

BINARY = Topic(
    "binary cross entropy",
    lambda x, t: jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x))),
    (normal(N, scale=2), positive(N, low=0, high=1)),
    right={
        "σ − t": lambda x, t, y, dy: (dy * (jax.nn.sigmoid(x) - t), -x * dy),
        "by tanh": lambda x, t, y, dy: (dy * (0.5 + 0.5 * jnp.tanh(x / 2) - t), -x * dy),
    },
    wrong={
        "t a constant": lambda x, t, y, dy: (dy * (jax.nn.sigmoid(x) - t), 0 * t),
        "t − σ": lambda x, t, y, dy: (dy * (t - jax.nn.sigmoid(x)), -x * dy),
    },
    hidden={
        "NaN at large x": lambda x, t, y, dy: (dy * (jnp.exp(x) / (1 + jnp.exp(x)) - t), -x * dy),
        "wrong for x > 8": where(
            lambda x, t, y, dy: x > 8, lambda x, t, y, dy: (dy * (jax.nn.sigmoid(x) - t), -x * dy)),
    },
)  # fmt: skip

POISSON = Topic(
    "Poisson",
    lambda x, t: jnp.sum(jnp.exp(x) - t * x),
    (normal(N), positive(N)),
    right={"exp(x) − t": lambda x, t, y, dy: (dy * (jnp.exp(x) - t), -dy * x)},
    wrong={
        "without t": lambda x, t, y, dy: (dy * jnp.exp(x), -dy * x),
        "x for exp(x)": lambda x, t, y, dy: (dy * (x - t), -dy * x),
    },
)

ONE_HOT = Topic(
    "cross entropy with one-hot labels",
    lambda x, t: -jnp.mean(jnp.sum(t * jax.nn.log_softmax(x), -1)),
    (normal(N, 4), one_hot(4)),
    right={
        "p − t": lambda x, t, y, dy: (
            dy * (jax.nn.softmax(x) - t) / len(x), -dy * jax.nn.log_softmax(x) / len(x)),
        "p·Σt − t": lambda x, t, y, dy: (
            dy * (jax.nn.softmax(x) * jnp.sum(t, -1, keepdims=True) - t) / len(x),
            -dy * jax.nn.log_softmax(x) / len(x)),
    },
    wrong={
        "t − p": lambda x, t, y, dy: (
            dy * (t - jax.nn.softmax(x)) / len(x), -dy * jax.nn.log_softmax(x) / len(x)),
        "t by p": lambda x, t, y, dy: (
            dy * (jax.nn.softmax(x) - t) / len(x), -dy * jax.nn.softmax(x) / len(x)),
        "the label only": lambda x, t, y, dy: (
            dy * t * (jax.nn.softmax(x) - t) / len(x), -dy * jax.nn.log_softmax(x) / len(x)),
    },
    hidden={"a sum, not a mean": lambda x, t, y, dy: (
        dy * (jax.nn.softmax(x) - t), -dy * jax.nn.log_softmax(x))},
)  # fmt: skip
TARGET = Topic(
    "distance to a detached target",
    lambda x, t: jnp.sum(jnp.square(x - jax.lax.stop_gradient(t))),
    (normal(N, 3), normal(N, 3)),
    right={
        "zeros": lambda x, t, y, dy: (2 * dy * (x - t), 0 * t),
        "None": lambda x, t, y, dy: (2 * dy * (x - t), None),
    },
    wrong={
        "not detached": lambda x, t, y, dy: (2 * dy * (x - t), 2 * dy * (t - x)),
        "x detached": lambda x, t, y, dy: (0 * x, 2 * dy * (t - x)),
    },
)

LOSSES = (CROSS_ENTROPY, SMOOTHING, HUBER, HINGE, FOCAL, KL, MSE, BINARY, POISSON, ONE_HOT, TARGET)
