"""Softmax in its uses, attention, and the normalizations that are not batch norm."""

import jax
import jax.numpy as jnp

from bnjax.verify.planted.beyond.topic import N, Topic, detached, narrowed, normal, positive, truths, where


def _dot(a, b, axis=-1):
    return jnp.sum(a * b, axis, keepdims=True)


def _through(p, dp, axis=-1):
    """Softmax's backward pass from its output."""
    return p * (dp - _dot(p, dp, axis))


def _softmax(x, axis=-1):
    e = jnp.exp(x - jnp.max(x, axis, keepdims=True))
    return e / jnp.sum(e, axis, keepdims=True)


TEMPERATURE = Topic(
    "softmax with a temperature",
    lambda x, tau: jax.nn.softmax(x / tau, -1),
    (normal(N, 4), positive()),
    right={"both": lambda x, tau, y, dy: ((g := _through(y, dy) / tau), -jnp.sum(x * g) / tau)},
    wrong={
        "x without 1/τ": lambda x, tau, y, dy: ((g := _through(y, dy)), -jnp.sum(x * g) / tau**2),
        "τ's sign": lambda x, tau, y, dy: ((g := _through(y, dy) / tau), jnp.sum(x * g) / tau),
        "τ's 1/τ": lambda x, tau, y, dy: ((g := _through(y, dy) / tau), -jnp.sum(x * g)),
        "the wrong axis": lambda x, tau, y, dy: ((g := _through(y, dy, 0) / tau), -jnp.sum(x * g) / tau),
        "without the second term": lambda x, tau, y, dy: ((g := y * dy / tau), -jnp.sum(x * g) / tau),
        "the diagonal only": lambda x, tau, y, dy: ((g := y * (1 - y) * dy / tau), -jnp.sum(x * g) / tau),
        "τ a constant": lambda x, tau, y, dy: (_through(y, dy) / tau, 0 * tau),
    },
    hidden={"second order: p detached": detached(
        lambda x, tau, y, dy: ((g := _through(y, dy) / tau), -jnp.sum(x * g) / tau))},
)  # fmt: skip
LOG_SOFTMAX = Topic(
    "log-softmax", lambda x: jax.nn.log_softmax(x, -1), (normal(N, 4),),
    right={
        "dy − p·Σ dy": lambda x, y, dy: (dy - jnp.exp(y) * jnp.sum(dy, -1, keepdims=True),),
        "p from x": lambda x, y, dy: (dy - _softmax(x) * jnp.sum(dy, -1, keepdims=True),),
    },
    wrong={
        "without the second term": lambda x, y, dy: (dy,),
        "the sum over the batch": lambda x, y, dy: (dy - jnp.exp(y) * jnp.sum(dy, 0, keepdims=True),),
        "dy not summed": lambda x, y, dy: (dy * (1 - jnp.exp(y)),),
        "that of softmax": lambda x, y, dy: (_through(jnp.exp(y), dy),),
    },
)  # fmt: skip
LOG_SUM_EXP = Topic(
    "log-sum-exp", lambda x: jax.nn.logsumexp(x, -1), (normal(N, 4),),
    right={
        "softmax": lambda x, y, dy: (_softmax(x) * dy[:, None],),
        "exp(x − y)": lambda x, y, dy: (jnp.exp(x - y[:, None]) * dy[:, None],),
    },
    wrong={
        "over the batch": lambda x, y, dy: (_softmax(x, 0) * dy[:, None],),
        "the largest only": lambda x, y, dy: (
            (x == jnp.max(x, -1, keepdims=True)) * dy[:, None] / 1.0,),
        "not normalized": lambda x, y, dy: (jnp.exp(x) * dy[:, None],),
    },
    hidden={"NaN at large x": lambda x, y, dy: (
        jnp.exp(x) / jnp.sum(jnp.exp(x), -1, keepdims=True) * dy[:, None],)},
)  # fmt: skip


def _masked(x, mask):
    return jax.nn.softmax(jnp.where(mask, x, -1e9), -1)


MASKED = Topic(
    "masked softmax",
    _masked,
    (normal(N, 4), truths(N, 4)),
    right={"the mask again": lambda x, m, y, dy: (jnp.where(m, _through(y, dy), 0), None)},
    wrong={
        "the mask inverted": lambda x, m, y, dy: (jnp.where(m, 0, _through(y, dy)), None),
        "p without the mask": lambda x, m, y, dy: (jnp.where(m, _through(_softmax(x), dy), 0), None),
        "without the second term": lambda x, m, y, dy: (jnp.where(m, y * dy, 0), None),
    },
    hidden={"rows without any": lambda x, m, y, dy: (_through(y, dy), None)},
)


def _log_sum_of_some(x, mask):
    """log Σ exp x over what the mask keeps; −∞ where that is nothing."""
    return jax.scipy.special.logsumexp(jnp.where(mask, x, -jnp.inf), -1)


SOME = Topic(
    "logsumexp behind a mask",
    _log_sum_of_some,
    (normal(N, 4), truths(N, 4)),
    right={"selected": lambda x, m, y, dy: (
        jnp.where(m, jnp.exp(x - y[:, None]) * dy[:, None], 0), None)},
    wrong={
        "all of them": lambda x, m, y, dy: (
            _softmax(x) * dy[:, None], None),
        "not normalized": lambda x, m, y, dy: (jnp.where(m, jnp.exp(x) * dy[:, None], 0), None),
    },
    hidden={"NaN in a row without any": lambda x, m, y, dy: (
        jnp.exp(jnp.where(m, x, -jnp.inf) - y[:, None]) * dy[:, None], None)},
)  # fmt: skip


def _past(s, shift=0):
    """The scores, −∞ where a key comes after its query."""
    return jnp.where(jnp.tri(s.shape[0], s.shape[1], shift, dtype=bool), s, -jnp.inf)


def _scores(q, k, causal):
    s = q @ k.T / q.shape[-1] ** 0.5
    return _past(s) if causal else s


def _attend(q, k, v, causal=False):
    return jax.nn.softmax(_scores(q, k, causal), -1) @ v


def _attention(causal=False, scale=0.5, through=_through, mask=True, shift=0, swap=False, of_v=None):
    """Attention's backward pass by hand; the keywords put one thing wrong."""

    def backward(q, k, v, y, dy):
        s = q @ k.T / q.shape[-1] ** 0.5
        if causal and mask:
            s = _past(s, shift)
        p = _softmax(s)
        ds = through(p, dy @ v.T) / q.shape[-1] ** scale
        dq, dk = (ds.T @ k, ds @ q) if swap else (ds @ k, ds.T @ q)
        return dq, dk, (p if of_v is None else of_v(p)).T @ dy

    return backward


ATTENTION = Topic(
    "attention", lambda q, k, v: _attend(q, k, v), (normal(N, 3), normal(4, 3), normal(4, 2)),
    right={
        "by the scores": _attention(),
        "the sum as dy·y": lambda q, k, v, y, dy: (
            (ds := (p := _softmax(_scores(q, k, False))) * (dy @ v.T - _dot(dy, y)) / q.shape[-1] ** 0.5) @ k,
            ds.T @ q, p.T @ dy),
    },
    wrong={
        "not scaled": _attention(scale=0.0),
        "scaled twice": _attention(scale=1.0),
        "the scores' row sums": _attention(through=lambda p, dp: p * dp),
        "the sum over the queries": _attention(through=lambda p, dp: _through(p, dp, 0)),
        "v by the scores": _attention(of_v=jnp.log),
    },
)  # fmt: skip
CAUSAL = Topic(
    "causal attention",
    lambda q, k, v: _attend(q, k, v, True),
    (normal(N, 3), normal(N, 3), normal(N, 3)),
    right={"the mask again": _attention(causal=True)},
    wrong={
        "without the mask": _attention(causal=True, mask=False),
        "the mask one further": _attention(causal=True, shift=1),
        "q and k swapped": _attention(causal=True, swap=True),
        "the scores' row sums": _attention(causal=True, through=lambda p, dp: p * dp),
    },
)

# --- normalizations ---------------------------------------------------------------------------------------

_EPS = 1e-3


def _mean(a, axis=-1):
    return jnp.mean(a, axis, keepdims=True)


def _rms(x, axis=-1):
    return 1 / jnp.sqrt(_mean(x * x, axis) + _EPS)


def _rms_x(x, g, first=1.0, second=1.0, axis=-1):
    r = _rms(x, axis)
    return r * (first * g - second * x * r * _mean(g * x * r, axis))


RMS = Topic(
    "RMS norm", lambda x, gamma: gamma * x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + _EPS),
    (normal(N, 4), normal(4)),
    right={"two terms": lambda x, c, y, dy: (_rms_x(x, c * dy), jnp.sum(dy * x * _rms(x), 0))},
    wrong={
        "r a constant": lambda x, c, y, dy: (_rms(x) * c * dy, jnp.sum(dy * x * _rms(x), 0)),
        "a sum for the mean": lambda x, c, y, dy: (
            _rms_x(x, c * dy, second=4), jnp.sum(dy * x * _rms(x), 0)),
        "γ outside": lambda x, c, y, dy: (c * _rms_x(x, dy), jnp.sum(dy * x * _rms(x), 0)),
        "γ from x": lambda x, c, y, dy: (_rms_x(x, c * dy), jnp.sum(dy * x, 0)),
        "over the batch": lambda x, c, y, dy: (
            _rms_x(x, c * dy, axis=0), jnp.sum(dy * x * _rms(x), 0)),
        "layer norm's": lambda x, c, y, dy: (
            (g := _rms_x(x, c * dy)) - _mean(g), jnp.sum(dy * x * _rms(x), 0)),
    },
    hidden={
        "γ averaged": lambda x, c, y, dy: (_rms_x(x, c * dy), jnp.mean(dy * x * _rms(x), 0)),
        "wrong where x is small": where(
            lambda x, c, y, dy: jnp.max(jnp.abs(x)) < 0.1,
            lambda x, c, y, dy: (_rms_x(x, c * dy), jnp.sum(dy * x * _rms(x), 0))),
    },
    raw={"γ not summed": lambda x, c, y, dy: (
        _rms_x(x, c * dy).astype(x.dtype), (dy * x * _rms(x)).astype(c.dtype)),
         "in float16": narrowed(
             lambda x, c, y, dy: (_rms_x(x, c * dy), jnp.sum(dy * x * _rms(x), 0)), jnp.float16)},
)  # fmt: skip


def _grouped(x):
    return x.reshape(*x.shape[:-1], 2, -1)


def _standard(g):
    return (g - _mean(g)) / jnp.sqrt(_mean((g - _mean(g)) ** 2) + _EPS)


def _standard_x(g, dg, mean=1.0):
    h, r = _standard(g), 1 / jnp.sqrt(_mean((g - _mean(g)) ** 2) + _EPS)
    return r * (dg - mean * _mean(dg) - h * _mean(dg * h))


def _turned(a):
    """The channels dealt to two groups in turn; and back."""
    return jnp.swapaxes(a.reshape(len(a), 4, 2) if a.ndim == 2 else a, 1, 2)


GROUP = Topic(
    "group norm", lambda x: _standard(_grouped(x)).reshape(x.shape), (normal(N, 8),),
    right={"by groups": lambda x, y, dy: (_standard_x(_grouped(x), _grouped(dy)).reshape(x.shape),)},
    wrong={
        "over all channels": lambda x, y, dy: (_standard_x(x, dy),),
        "interleaved": lambda x, y, dy: (_turned(_standard_x(_turned(x), _turned(dy))).reshape(x.shape),),
        "without the mean": lambda x, y, dy: (
            _standard_x(_grouped(x), _grouped(dy), 0.0).reshape(x.shape),),
    },
)  # fmt: skip


def _norm(v, axis=0):
    return jnp.sqrt(jnp.sum(v * v, axis, keepdims=True))


def _across(v, dy):
    """dy less its part along v, column by column."""
    u = v / _norm(v)
    return dy - u * _dot(u, dy, 0)


WEIGHT = Topic(
    "weight norm", lambda v, g: g * v / jnp.sqrt(jnp.sum(v * v, 0)), (normal(N, 3), positive(3)),
    right={"a projection": lambda v, g, y, dy: (
        g / _norm(v) * _across(v, dy), jnp.sum(v / _norm(v) * dy, 0))},
    wrong={
        "without the projection": lambda v, g, y, dy: (g / _norm(v) * dy, jnp.sum(v / _norm(v) * dy, 0)),
        "without g": lambda v, g, y, dy: (
            _across(v, dy) / _norm(v), jnp.sum(v / _norm(v) * dy, 0)),
        "g not normalized": lambda v, g, y, dy: (
            g / _norm(v) * _across(v, dy), jnp.sum(v * dy, 0)),
        "the projection not normalized": lambda v, g, y, dy: (
            g / _norm(v) * (dy - v * _dot(v, dy, 0)), jnp.sum(v / _norm(v) * dy, 0)),
    },
)  # fmt: skip
UNIT = Topic(
    "l2 normalize", lambda x: x / jnp.sqrt(jnp.sum(x * x, -1, keepdims=True) + _EPS), (normal(N, 3),),
    right={"by the output": lambda x, y, dy: (
        (dy - y * _dot(y, dy)) / jnp.sqrt(_dot(x, x) + _EPS),)},
    wrong={
        "without the projection": lambda x, y, dy: (dy / jnp.sqrt(_dot(x, x) + _EPS),),
        "over the batch": lambda x, y, dy: ((dy - y * _dot(y, dy, 0)) / jnp.sqrt(_dot(x, x) + _EPS),),
        "the square": lambda x, y, dy: ((dy - y * _dot(y, dy)) / (_dot(x, x) + _EPS),),
    },
    hidden={"without ε": lambda x, y, dy: (
        (dy - x * _dot(x, dy) / _dot(x, x)) / jnp.sqrt(_dot(x, x)),)},
)  # fmt: skip


def _length(x):
    """The norm of each row, differentiable where it is 0."""
    square = jnp.sum(x * x, -1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


LENGTH = Topic(
    "length", _length, (normal(N, 3),),
    right={"0 at 0": lambda x, y, dy: (
        x * jnp.where(y > 0, dy / jnp.where(y > 0, y, 1), 0)[:, None],)},
    wrong={
        "the square's": lambda x, y, dy: (2 * x * dy[:, None],),
        "over the square": lambda x, y, dy: (
            x * jnp.where(y > 0, dy / jnp.where(y > 0, y * y, 1), 0)[:, None],),
    },
    hidden={
        "NaN at 0": lambda x, y, dy: (x * (dy / y)[:, None],),
        "the mean direction at 0": lambda x, y, dy: (jnp.where(
            (y > 0)[:, None], x / jnp.where(y > 0, y, 1)[:, None], 3**-0.5) * dy[:, None],),
    },
)  # fmt: skip

SOFTMAXES = (TEMPERATURE, LOG_SOFTMAX, LOG_SUM_EXP, MASKED, SOME, ATTENTION, CAUSAL)
NORMALIZATIONS = (RMS, GROUP, WEIGHT, UNIT, LENGTH)
