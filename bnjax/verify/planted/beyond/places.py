"""Gather and scatter, order, windows: what depends on where an element stands."""

import jax
import jax.numpy as jnp

from bnjax.verify.planted.beyond.topic import N, Topic, integers, normal, order, positive

_ROWS = 5


def _hot(ids, size, dtype):
    return (ids[:, None] == jnp.arange(size)).astype(dtype)


EMBEDDING = Topic(
    "embedding", lambda table, ids: table[ids], (normal(_ROWS, 3), integers(N, high=_ROWS)),
    right={
        "scatter-add": lambda t, ids, y, dy: (jnp.zeros_like(t).at[ids].add(dy), None),
        "one-hot": lambda t, ids, y, dy: (_hot(ids, len(t), dy.dtype).T @ dy, None),
        "segment sum": lambda t, ids, y, dy: (jax.ops.segment_sum(dy, ids, len(t)), None),
    },
    wrong={
        "the row after": lambda t, ids, y, dy: (
            jnp.zeros_like(t).at[(ids + 1) % len(t)].add(dy), None),
        "without dy": lambda t, ids, y, dy: (jnp.zeros_like(t).at[ids].add(1.0), None),
    },
    hidden={
        "duplicates overwrite": lambda t, ids, y, dy: (jnp.zeros_like(t).at[ids].set(dy), None),
        "duplicates averaged": lambda t, ids, y, dy: (
            _hot(ids, len(t), dy.dtype).T @ dy
            / jnp.maximum(jnp.sum(_hot(ids, len(t), dy.dtype), 0), 1)[:, None], None),
    },
)  # fmt: skip
PICK = Topic(
    "pick along an axis", lambda x, ids: jnp.take_along_axis(x, ids[:, None], 1)[:, 0],
    (normal(N, _ROWS), integers(N, high=_ROWS)),
    right={
        "scatter": lambda x, ids, y, dy: (jnp.zeros_like(x).at[jnp.arange(len(x)), ids].set(dy), None),
        "one-hot": lambda x, ids, y, dy: (_hot(ids, x.shape[1], x.dtype) * dy[:, None], None),
    },
    wrong={
        "the place before": lambda x, ids, y, dy: (
            jnp.roll(_hot(ids, x.shape[1], x.dtype), -1, 1) * dy[:, None], None),
        "every place": lambda x, ids, y, dy: (dy[:, None] + 0 * x, None),
    },
)  # fmt: skip
ORDER = Topic(
    "rows in an order", lambda x, p: x[p], (normal(N, 2), order(N)),
    right={
        "the inverse order": lambda x, p, y, dy: (dy[jnp.argsort(p)], None),
        "scatter": lambda x, p, y, dy: (jnp.zeros_like(x).at[p].set(dy), None),
    },
    wrong={"without dy": lambda x, p, y, dy: (jnp.ones_like(x), None)},
    hidden={
        "the order again": lambda x, p, y, dy: (dy[p], None),
        "not moved": lambda x, p, y, dy: (dy, None),
    },
)  # fmt: skip
SEGMENTS = Topic(
    "segment sum", lambda x, ids: jax.ops.segment_sum(x, ids, 4), (normal(N, 2), integers(N, high=4)),
    right={"gather": lambda x, ids, y, dy: (dy[ids], None)},
    wrong={
        "the segment after": lambda x, ids, y, dy: (dy[(ids + 1) % 4], None),
        "all segments": lambda x, ids, y, dy: (0 * x + jnp.sum(dy, 0), None),
    },
    hidden={"that of the mean": lambda x, ids, y, dy: (
        (dy / jnp.maximum(jnp.bincount(ids, length=4), 1)[:, None])[ids], None)},
)  # fmt: skip


def _ranks(x):
    return jnp.argsort(jnp.argsort(x, -1), -1)


TOP = Topic(
    "the two largest", lambda x: jax.lax.top_k(x, 2)[0], (normal(N, _ROWS),),
    right={"scatter": lambda x, y, dy: (
        jnp.zeros_like(x).at[jnp.arange(len(x))[:, None], jax.lax.top_k(x, 2)[1]].set(dy),)},
    wrong={
        "in the other order": lambda x, y, dy: (
            jnp.zeros_like(x).at[jnp.arange(len(x))[:, None], jax.lax.top_k(x, 2)[1]].set(dy[:, ::-1]),),
        "the first only": lambda x, y, dy: (
            _hot(jnp.argmax(x, 1), x.shape[1], x.dtype) * dy[:, :1],),
        "their sum to both": lambda x, y, dy: ((x >= y[:, 1:]) * jnp.sum(dy, 1, keepdims=True),),
    },
)  # fmt: skip
SORT = Topic(
    "sort", lambda x: jnp.sort(x, -1), (normal(N, 4),),
    right={
        "the ranks": lambda x, y, dy: (jnp.take_along_axis(dy, _ranks(x), -1),),
        "scatter": lambda x, y, dy: (
            jnp.zeros_like(x).at[jnp.arange(len(x))[:, None], jnp.argsort(x, -1)].set(dy),),
    },
    wrong={
        "not moved": lambda x, y, dy: (dy,),
        "the permutation not inverted": lambda x, y, dy: (
            jnp.take_along_axis(dy, jnp.argsort(x, -1), -1),),
        "descending": lambda x, y, dy: (jnp.take_along_axis(dy[:, ::-1], _ranks(x), -1),),
    },
)  # fmt: skip


def _largest(x, y):
    return (x == y[:, None]).astype(x.dtype)


MAXIMUM = Topic(
    "row maximum", lambda x: jnp.max(x, -1), (normal(N, 4),),
    right={"shared among ties": lambda x, y, dy: (
        (m := _largest(x, y)) * (dy / jnp.sum(m, -1))[:, None],)},
    wrong={
        "the smallest": lambda x, y, dy: (_hot(jnp.argmin(x, 1), x.shape[1], x.dtype) * dy[:, None],),
        "every place": lambda x, y, dy: (0 * x + dy[:, None] / x.shape[1],),
    },
    hidden={"whole to each tie": lambda x, y, dy: (_largest(x, y) * dy[:, None],)},
)  # fmt: skip
OVERWRITE = Topic(
    "overwrite a slice",
    lambda x, v: jnp.asarray(x).at[:, 1:3].set(v),
    (normal(N, 4), normal(N, 2)),
    right={"zeros there": lambda x, v, y, dy: (dy.at[:, 1:3].set(0), dy[:, 1:3])},
    wrong={
        "x whole": lambda x, v, y, dy: (dy, dy[:, 1:3]),
        "one to the left": lambda x, v, y, dy: (dy.at[:, 1:3].set(0), dy[:, 0:2]),
        "x's zeros one further": lambda x, v, y, dy: (dy.at[:, 2:4].set(0), dy[:, 1:3]),
    },
)
ROLL = Topic(
    "roll",
    lambda x: jnp.roll(x, 1, 0),
    (normal(N, 2),),
    right={"back": lambda x, y, dy: (jnp.roll(dy, -1, 0),)},
    hidden={
        "forwards": lambda x, y, dy: (jnp.roll(dy, 1, 0),),
        "not at all": lambda x, y, dy: (dy,),
    },
)
DIFFERENCE = Topic(
    "differences",
    lambda x: x[:, 1:] - x[:, :-1],
    (normal(N, 4),),
    right={"padded": lambda x, y, dy: (jnp.pad(dy, ((0, 0), (1, 0))) - jnp.pad(dy, ((0, 0), (0, 1))),)},
    wrong={
        "one term": lambda x, y, dy: (jnp.pad(dy, ((0, 0), (1, 0))),),
        "the sign": lambda x, y, dy: (jnp.pad(dy, ((0, 0), (0, 1))) - jnp.pad(dy, ((0, 0), (1, 0))),),
        "a sum": lambda x, y, dy: (jnp.pad(dy, ((0, 0), (1, 0))) + jnp.pad(dy, ((0, 0), (0, 1))),),
    },
)


def _cell(table, t):
    i = jnp.clip(jnp.floor(t).astype(jnp.int32), 0, len(table) - 2)
    return i, t - i


def _look_up(table, t):
    i, f = _cell(table, t)
    return (1 - f) * table[i] + f * table[i + 1]


def _spread(table, i, left, right):
    return jnp.zeros_like(table).at[i].add(left).at[i + 1].add(right)


INTERPOLATION = Topic(
    "linear interpolation", _look_up, (normal(_ROWS), positive(N, low=0.1, high=3.9)),
    right={"both neighbours": lambda table, t, y, dy: (
        _spread(table, (c := _cell(table, t))[0], (1 - c[1]) * dy, c[1] * dy),
        dy * (table[c[0] + 1] - table[c[0]]))},
    wrong={
        "weights swapped": lambda table, t, y, dy: (
            _spread(table, (c := _cell(table, t))[0], c[1] * dy, (1 - c[1]) * dy),
            dy * (table[c[0] + 1] - table[c[0]])),
        "the place a constant": lambda table, t, y, dy: (
            _spread(table, (c := _cell(table, t))[0], (1 - c[1]) * dy, c[1] * dy), 0 * t),
        "the nearer only": lambda table, t, y, dy: (
            _spread(table, (c := _cell(table, t))[0], dy, 0 * dy), dy * (table[c[0] + 1] - table[c[0]])),
        "one to the left": lambda table, t, y, dy: (
            _spread(table, (c := _cell(table, t))[0] - 1, (1 - c[1]) * dy, c[1] * dy),
            dy * (table[c[0] + 1] - table[c[0]])),
    },
)  # fmt: skip


def _halves(a):
    """Pairs along the last axis; an odd one is left out."""
    return a[..., : a.shape[-1] // 2 * 2].reshape(*a.shape[:-1], -1, 2)


def _unpaired(pairs, x):
    """The transpose of `_halves`: pairs in a row, and 0 for the one left out."""
    flat = pairs.reshape(*pairs.shape[:-2], -1)
    return jnp.pad(flat, ((0, 0), (0, x.shape[-1] - flat.shape[-1])))


AVERAGE_POOL = Topic(
    "average pooling",
    lambda x: jnp.mean(_halves(x), -1),
    (normal(N, 6),),
    right={"repeat": lambda x, y, dy: (_unpaired(jnp.stack([dy, dy], -1) / 2, x),)},
    wrong={
        "not averaged": lambda x, y, dy: (_unpaired(jnp.stack([dy, dy], -1), x),),
        "tiled": lambda x, y, dy: (_unpaired(jnp.stack([dy, dy], -2) / 2, x),),
        "the first of each": lambda x, y, dy: (_unpaired(jnp.stack([dy, 0 * dy], -1), x),),
    },
)


def _pool(x):
    return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 2), (1, 2), "VALID")


def _first(x, y):
    """Whether an element is the first largest of its pair, as XLA picks it."""
    left = _halves(x)[..., :1] >= _halves(x)[..., 1:]
    return jnp.concatenate([left, ~left], -1)


MAX_POOL = Topic(
    "max pooling", _pool, (normal(N, 6),),
    right={"the first largest": lambda x, y, dy: (
        _unpaired(jnp.where(_first(x, y), dy[..., None], 0), x),)},
    wrong={
        "every element": lambda x, y, dy: (_unpaired(jnp.stack([dy, dy], -1), x),),
        "averaged": lambda x, y, dy: (_unpaired(jnp.stack([dy, dy], -1) / 2, x),),
        "the smallest": lambda x, y, dy: (_unpaired(jnp.where(_first(x, y), 0, dy[..., None]), x),),
    },
    hidden={"whole to each tie": lambda x, y, dy: (
        _unpaired(jnp.where(_halves(x) == y[..., None], dy[..., None], 0), x),)},
)  # fmt: skip

PLACES = (
    *(EMBEDDING, PICK, ORDER, SEGMENTS, TOP, SORT, MAXIMUM, OVERWRITE, ROLL, DIFFERENCE),
    *(INTERPOLATION, AVERAGE_POOL, MAX_POOL),
)
