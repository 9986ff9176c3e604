"""Recurrences and running sums: what is carried from one step to the next."""

import jax
import jax.numpy as jnp

from bnjax.verify.planted.beyond.topic import N, Topic, normal, positive, where


def _rnn(x, w, h0):
    def step(h, row):
        h = jnp.tanh(h @ w + row)
        return h, h

    return jax.lax.scan(step, h0, x)[1]


def _through_time(transposed=True, carried=True, before=True, slope=True, last=True):
    """The recurrence's backward pass, step by step from the last; the keywords put one thing wrong."""

    def backward(x, w, h0, y, dy):
        states = jnp.concatenate([h0[None], y])
        carry, dw, dx = jnp.zeros_like(h0), jnp.zeros_like(w), []
        for t in reversed(range(len(x))):
            dh = dy[t] + (carry if carried else 0 * carry)
            dz = dh * (1 - y[t] ** 2) if slope else dh
            dw = dw + jnp.outer(states[t if before else t + 1], dz)
            dx.append(dz)
            carry = dz @ (w.T if transposed else w)
        return jnp.stack(dx[::-1]) if dx else 0 * x, dw, carry if last else 0 * carry

    return backward


RNN = Topic(
    "recurrent network", _rnn, (normal(N, 3), normal(3, 3), normal(3)),
    right={"step by step": _through_time()},
    wrong={
        "w not transposed": _through_time(transposed=False),
        "truncated to one step": _through_time(carried=False),
        "the state after": _through_time(before=False),
        "without tanh's slope": _through_time(slope=False),
        "the first state a constant": _through_time(last=False),
    },
)  # fmt: skip


def _suffix(a):
    return jnp.flip(jnp.cumsum(jnp.flip(a, 0), 0), 0)


CUMSUM = Topic(
    "cumsum", lambda x: jnp.cumsum(x, 0), (normal(N, 2),),
    right={
        "flipped": lambda x, y, dy: (_suffix(dy),),
        "the total less what came": lambda x, y, dy: (jnp.sum(dy, 0) - jnp.cumsum(dy, 0) + dy,),
        "a triangle": lambda x, y, dy: (jnp.tri(len(dy), dtype=dy.dtype).T @ dy,),
    },
    wrong={
        "forwards": lambda x, y, dy: (jnp.cumsum(dy, 0),),
        "exclusive": lambda x, y, dy: (_suffix(dy) - dy,),
        "the wrong axis": lambda x, y, dy: (jnp.flip(jnp.cumsum(jnp.flip(dy, 1), 1), 1),),
        "the total": lambda x, y, dy: (jnp.sum(dy, 0, keepdims=True) + 0 * dy,),
    },
)  # fmt: skip


def _without(x, change=1.0):
    """[i, j]: the product of x up to j with x_i left out, where i ≤ j."""
    left_out = jnp.where(jnp.eye(len(x), dtype=bool), change, x[None, :])
    return jnp.triu(jnp.cumprod(left_out, 1))


CUMPROD = Topic(
    "cumprod", lambda x: jnp.cumprod(x), (normal(N),),
    right={"the others' product": lambda x, y, dy: (_without(x) @ dy,)},
    wrong={
        "without the division": lambda x, y, dy: (_suffix(dy * y),),
        "its own step only": lambda x, y, dy: (dy * y / x,),
    },
    hidden={"a division: NaN at 0": lambda x, y, dy: (_suffix(dy * y) / x,)},
)  # fmt: skip


def _ema(x, a):
    def step(m, row):
        m = a * m + (1 - a) * row
        return m, m

    return jax.lax.scan(step, jnp.zeros_like(x[0]), x)[1]


def _ema_backward(weight=lambda a: 1 - a, keep=lambda a: a, lag=1, of_x=True):
    def backward(x, a, y, dy):
        before = jnp.concatenate([jnp.zeros_like(y[:1]), y])[1 - lag :][: len(x)]
        carry, da, dx = jnp.zeros_like(x[0]), jnp.zeros_like(a), []
        for t in reversed(range(len(x))):
            dm = dy[t] + carry
            dx.append(weight(a) * dm)
            da = da + jnp.sum(dm * (before[t] - (x[t] if of_x else 0 * x[t])))
            carry = keep(a) * dm
        return jnp.stack(dx[::-1]) if dx else 0 * x, da

    return backward


EMA = Topic(
    "moving average", _ema, (normal(N, 2), positive(low=0.2, high=0.9)),
    right={"step by step": _ema_backward()},
    wrong={
        "without 1 − a": _ema_backward(weight=lambda a: a**0),
        "a for 1 − a": _ema_backward(weight=lambda a: a),
        "carried by 1 − a": _ema_backward(keep=lambda a: 1 - a),
        "the average after": _ema_backward(lag=0),
        "a's second term": _ema_backward(of_x=False),
    },
)  # fmt: skip


def _linear(a, x):
    def step(h, row):
        h = row[0] * h + row[1]
        return h, h

    return jax.lax.scan(step, jnp.zeros_like(x[0]), (a, x))[1]


def _lanes(a, dy):
    """λ_t = dy_t + a_{t+1}·λ_{t+1}."""
    found, carry = [], jnp.zeros_like(dy[0])
    for t in reversed(range(len(dy))):
        carry = dy[t] + carry
        found.append(carry)
        carry = a[t] * carry
    return jnp.stack(found[::-1])


def _before(y):
    return jnp.concatenate([jnp.zeros_like(y[:1]), y[:-1]])


LINEAR = Topic(
    "linear recurrence", _linear, (normal(N, 2), normal(N, 2)),
    right={"its adjoint": lambda a, x, y, dy: ((lam := _lanes(a, dy)) * _before(y), lam)},
    wrong={
        "the state after": lambda a, x, y, dy: ((lam := _lanes(a, dy)) * y, lam),
        "a of the same step": lambda a, x, y, dy: (
            (lam := _lanes(jnp.roll(a, -1, 0), dy)) * _before(y), lam),
        "not carried": lambda a, x, y, dy: (dy * _before(y), dy),
        "the input for the state": lambda a, x, y, dy: ((lam := _lanes(a, dy)) * _before(x), lam),
    },
    hidden={"wrong where a = 0": where(
        lambda a, x, y, dy: a == 0, lambda a, x, y, dy: ((lam := _lanes(a, dy)) * _before(y), lam), 0.0)},
)  # fmt: skip

RECURRENCES = (RNN, CUMSUM, CUMPROD, EMA, LINEAR)
