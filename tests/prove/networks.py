"""Functions that networks are made of, with right hand VJPs and with wrong ones of the same kind.

A row is the primal, a right backward pass, wrong ones, the shapes, and which arguments are positive.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

sigmoid, softplus, relu, softmax = jax.nn.sigmoid, jax.nn.softplus, jax.nn.relu, jax.nn.softmax
log_softmax = jax.nn.log_softmax


class Row(NamedTuple):
    """A primal, its right backward pass and wrong ones, and the shapes of the arguments."""

    primal: Callable
    right: Callable
    wrong: tuple[Callable, ...]
    shapes: tuple[str, ...]
    positive: tuple[int, ...] = ()


def softmax_back(s, dy, axis=-1):
    return s * (dy - (s * dy).sum(axis, keepdims=True))


def silu_slope(x):
    return sigmoid(x) * (1 + x * (1 - sigmoid(x)))


def gelu_tanh(x):
    return 0.5 * x * (1 + jnp.tanh(0.7978846 * (x + 0.044715 * x**3)))


def gelu_back(args, dy, cube=3.0):
    (x,) = args
    t = jnp.tanh(0.7978846 * (x + 0.044715 * x**3))
    inner = 0.7978846 * (1 + cube * jnp.float32(0.044715) * x * x)
    return (dy * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * inner),)


def attention(q, k, v, w):
    return softmax(jnp.where(w, q @ k.T * lax.rsqrt(1.0 * q.shape[1]), -1e9)) @ v


def attention_back(args, dy, back=softmax_back):
    q, k, v, w = args
    c = lax.rsqrt(1.0 * q.shape[1])
    p = softmax(jnp.where(w, q @ k.T * c, -1e9))
    ds = jnp.where(w, back(p, dy @ v.T), 0) * c
    return ds @ k, ds.T @ q, p.T @ dy, None


def mlp(x, w, b, v):
    return relu(x @ w + b) @ v


def mlp_back(args, dy, slope=lambda z: z > 0):
    x, w, b, v = args
    z = x @ w + b
    d = (dy @ v.T) * slope(z)
    return d @ w.T, x.T @ d, d.sum(0), relu(z).T @ dy


def cross_entropy(x, t):
    return -((0.9 * t + 0.1 / x.shape[1]) * log_softmax(x)).sum(-1)


def cross_entropy_back(args, dy, total=True):
    x, t = args
    t = 0.9 * t + 0.1 / x.shape[1]
    mass = t.sum(-1, keepdims=True) if total else 1
    return dy[:, None] * (softmax(x) * mass - t), -0.9 * dy[:, None] * log_softmax(x)


SMOOTH = {
    "exp": Row(jnp.exp, lambda a, dy: (dy * jnp.exp(a[0]),), (lambda a, dy: (dy * jnp.exp(-a[0]),),), ("n",)),
    "log": Row(jnp.log, lambda a, dy: (dy / a[0],), (lambda a, dy: (dy / (2 * a[0]),),), ("n",), (0,)),
    "sigmoid": Row(
        lambda x: sigmoid(x),
        lambda a, dy: (dy * jnp.exp(a[0]) / (1 + jnp.exp(a[0])) ** 2,),
        (lambda a, dy: (dy * sigmoid(a[0]),), lambda a, dy: (dy * sigmoid(a[0]) * (1 + sigmoid(a[0])),)),
        ("n m",),
    ),
    "tanh": Row(
        jnp.tanh,
        lambda a, dy: (dy / jnp.cosh(a[0]) ** 2,),
        (lambda a, dy: (dy * (1 - jnp.tanh(a[0])),),),
        ("n",),
    ),
    "softplus": Row(
        lambda x: softplus(x),
        lambda a, dy: (dy * sigmoid(a[0]),),
        (lambda a, dy: (dy * sigmoid(-a[0]),),),
        ("n",),
    ),
    "logsumexp": Row(
        lambda x: jax.nn.logsumexp(x, 1),
        lambda a, dy: (dy[:, None] * softmax(a[0]),),
        (lambda a, dy: (dy[:, None] * softmax(a[0], 0),), lambda a, dy: (dy[:, None] * jnp.exp(a[0]),)),
        ("n m",),
    ),
    "logsumexp without stop_gradient": Row(
        lambda x: jnp.log(jnp.exp(x - x.max(1, keepdims=True)).sum(1)) + x.max(1),
        lambda a, dy: (dy[:, None] * softmax(a[0]),),
        (lambda a, dy: (dy[:, None] * softmax(a[0]) * 2,),),
        ("n m",),
    ),
    "softmax": Row(
        lambda x: softmax(x),
        lambda a, dy: (softmax_back(softmax(a[0]), dy),),
        (
            lambda a, dy: (softmax(a[0]) * dy,),
            lambda a, dy: (softmax_back(softmax(a[0]), dy, 0),),
            lambda a, dy: (softmax(a[0]) * (dy - (softmax(a[0]) * dy).mean(-1, keepdims=True)),),
        ),
        ("n m",),
    ),
    "cross entropy, smoothed": Row(
        cross_entropy,
        cross_entropy_back,
        (lambda a, dy: cross_entropy_back(a, dy, total=False),),
        ("n m", "n m"),
    ),
    "binary cross entropy": Row(
        lambda x, t: jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-abs(x))),
        lambda a, dy: (dy * (sigmoid(a[0]) - a[1]), -dy * a[0]),
        (lambda a, dy: (dy * (a[1] - sigmoid(a[0])), -dy * a[0]),),
        ("n", "n"),
    ),
    "silu": Row(
        lambda x: jax.nn.silu(x),
        lambda a, dy: (dy * silu_slope(a[0]),),
        (lambda a, dy: (dy * sigmoid(a[0]),),),
        ("n",),
    ),
    "gelu by tanh": Row(gelu_tanh, gelu_back, (lambda a, dy: gelu_back(a, dy, cube=2.0),), ("n",)),
    "erf": Row(
        lax.erf,
        lambda a, dy: (dy * jnp.float32(1.1283791670955126) * jnp.exp(-(a[0] ** 2)),),
        (lambda a, dy: (dy * jnp.float32(1.1283791670955126) * jnp.exp(-(a[0] ** 2) / 2),),),
        ("n",),
    ),
    "focal": Row(
        lambda x: -((1 - sigmoid(x)) ** 2) * jax.nn.log_sigmoid(x),
        lambda a, dy: (
            dy
            * (1 - sigmoid(a[0])) ** 2
            * (2 * sigmoid(a[0]) * jax.nn.log_sigmoid(a[0]) - (1 - sigmoid(a[0]))),
        ),
        (lambda a, dy: (-dy * (1 - sigmoid(a[0])) ** 3,),),
        ("n",),
    ),
    "x log x": Row(
        lambda x: x * jnp.log(x),
        lambda a, dy: (dy * (jnp.log(a[0]) + 1),),
        (lambda a, dy: (dy * jnp.log(a[0]),),),
        ("n",),
        (0,),
    ),
    "power": Row(
        lambda x: x**2.25,
        lambda a, dy: (2.25 * dy * a[0] ** 1.25,),
        (lambda a, dy: (2.25 * dy * a[0] ** 2.25,),),
        ("n",),
        (0,),
    ),
    "masked attention": Row(
        attention,
        attention_back,
        (lambda a, dy: attention_back(a, dy, back=lambda p, d: p * d),),
        ("n d", "m d", "m e", "bool: n m"),
    ),
}

KINKED = {
    "relu": Row(
        lambda x: relu(x),
        lambda a, dy: (dy * (a[0] > 0),),
        (lambda a, dy: (dy * (a[0] < 0),), lambda a, dy: (dy,)),
        ("n",),
    ),
    "relu, the other side's value": Row(
        lambda x: jnp.maximum(x, 0.0),
        lambda a, dy: (jnp.where(a[0] >= 0, dy, 0),),
        (lambda a, dy: (jnp.where(a[0] >= -1, dy, 0),),),
        ("n m",),
    ),
    "relu of relu": Row(
        lambda x: relu(relu(x)),
        lambda a, dy: (dy * (relu(a[0]) > 0),),
        (lambda a, dy: (dy * (relu(a[0]) >= 0),),),
        ("n",),
    ),
    "leaky relu": Row(
        lambda x: jax.nn.leaky_relu(x),
        lambda a, dy: (jnp.where(a[0] > 0, dy, 0.01 * dy),),
        (lambda a, dy: (jnp.where(a[0] > 0, 0.01 * dy, dy),),),
        ("n",),
    ),
    "abs": Row(
        abs,
        lambda a, dy: (dy * jnp.sign(a[0]),),
        (lambda a, dy: (dy,), lambda a, dy: (dy * abs(a[0]),)),
        ("n",),
    ),
    "maximum": Row(
        lambda x, y: jnp.maximum(x, y),
        lambda a, dy: (jnp.where(a[0] > a[1], dy, 0), jnp.where(a[0] > a[1], 0, dy)),
        (lambda a, dy: (jnp.where(a[0] > a[1], dy, 0), jnp.where(a[0] < a[1], 0, dy)),),
        ("n", "n"),
    ),
    "clip": Row(
        lambda x: jnp.clip(x, -1, 1),
        lambda a, dy: (dy * (abs(a[0]) < 1),),
        (lambda a, dy: (dy * ((a[0] > -1) | (a[0] < 1)),), lambda a, dy: (dy * (abs(a[0]) > 1),)),
        ("n",),
    ),
    "hinge": Row(
        lambda x, y: jnp.maximum(0, 1 - x * y),
        lambda a, dy: (jnp.where(a[0] * a[1] < 1, -a[1] * dy, 0), jnp.where(a[0] * a[1] < 1, -a[0] * dy, 0)),
        (lambda a, dy: (jnp.where(a[0] < 1, -a[1] * dy, 0), jnp.where(a[0] < 1, -a[0] * dy, 0)),),
        ("n", "n"),
    ),
    "huber": Row(
        lambda x: jnp.where(abs(x) < 1, 0.5 * x * x, abs(x) - 0.5),
        lambda a, dy: (dy * jnp.clip(a[0], -1, 1),),
        (lambda a, dy: (dy * jnp.clip(a[0], -2, 2),),),
        ("n",),
    ),
    "hard sigmoid": Row(
        lambda x: jax.nn.hard_sigmoid(x),
        lambda a, dy: (dy * ((a[0] > -3) & (a[0] < 3)) / 6,),
        (lambda a, dy: (dy * (a[0] < 3) / 6,),),
        ("n",),
    ),
    "elu": Row(
        lambda x: jax.nn.elu(x),
        lambda a, dy: (jnp.where(a[0] > 0, dy, dy * jnp.exp(a[0])),),
        (lambda a, dy: (dy * jnp.exp(a[0]),),),
        ("n",),
    ),
    "two layers": Row(
        mlp, mlp_back, (lambda a, dy: mlp_back(a, dy, slope=relu),), ("n m", "m k", "k", "k p")
    ),
}


def one_hot(labels, x):
    return jax.nn.one_hot(labels, x.shape[1])


def entropy_back(args, dy, sign=-1):
    x, labels = args
    return dy[:, None] * (softmax(x) + sign * one_hot(labels, x)), None


def by_scatter(args, dy, sign=-1):
    x, labels = args
    return (softmax(x) * dy[:, None]).at[jnp.arange(x.shape[0]), labels].add(sign * dy), None


def focal(x, labels):
    logp = jnp.take_along_axis(log_softmax(x), labels[:, None], axis=1)
    return -((1 - jnp.exp(logp)) ** 2) * logp


def focal_back(args, dy, sign=1):
    x, labels = args
    p, chosen = softmax(x), one_hot(labels, x)
    p_of, logp = (p * chosen).sum(1, keepdims=True), (log_softmax(x) * chosen).sum(1, keepdims=True)
    return dy * (2 * (1 - p_of) * p_of * logp - sign * (1 - p_of) ** 2) * (chosen - p), None


def lookup_back(args, dy):
    table, ids = args
    return jnp.zeros_like(table).at[ids].add(2 * dy * table[ids]), None


def lookup_replaced(args, dy):
    table, ids = args
    return jnp.zeros_like(table).at[ids].set(2 * dy * table[ids]), None


def interleaved(x, cos, sin):
    first, second = x[:, ::2], x[:, 1::2]
    return jnp.stack([first * cos - second * sin, first * sin + second * cos], -1).reshape(x.shape)


def interleaved_back(args, dy, sign=1):
    x, cos, sin = args
    first, second, a, b = x[:, ::2], x[:, 1::2], dy[:, ::2], dy[:, 1::2]
    dx = jnp.stack([a * cos + sign * b * sin, b * cos - a * sin], -1).reshape(x.shape)
    return dx, (a * first + b * second).sum(0), (b * first - a * second).sum(0)


def causal(scores):
    return softmax(jnp.where(jnp.tril(jnp.ones(scores.shape, bool)), scores, -jnp.inf))


def windows(x, pool, initial=0.0, by=1):
    return lax.reduce_window(x, initial, pool, (1, 2, 2, 1), (1, 2, 2, 1), "VALID") / by


def spread(y):
    return jnp.repeat(jnp.repeat(y, 2, 1), 2, 2)


def largest(x):
    return windows(x, lax.max, -jnp.inf)


# elements by labels and positions: labels are "int C: n", integers from 0 to C - 1
INDEXED = {
    "cross entropy by take_along_axis": Row(
        lambda x, labels: -jnp.take_along_axis(log_softmax(x), labels[:, None], axis=1)[:, 0],
        entropy_back,
        (lambda a, dy: entropy_back(a, dy, 1),),
        ("n C", "int C: n"),
    ),
    "cross entropy by indexing": Row(
        lambda x, labels: -log_softmax(x)[jnp.arange(x.shape[0]), labels],
        by_scatter,
        (lambda a, dy: by_scatter(a, dy, 1),),
        ("n 5", "int 5: n"),
    ),
    "cross entropy by comparison": Row(
        lambda x, labels: -jnp.where(labels[:, None] == jnp.arange(x.shape[1]), log_softmax(x), 0).sum(1),
        entropy_back,
        (by_scatter, lambda a, dy: entropy_back((a[0], a[1][::-1]), dy))[1:],
        ("3 4", "int 4: 3"),
    ),
    "focal loss of labels": Row(
        focal, focal_back, (lambda a, dy: focal_back(a, dy, -1),), ("n C", "int C: n")
    ),
    "lookup": Row(
        lambda table, ids: table[ids] ** 2,
        lookup_back,
        (lookup_replaced, lambda a, dy: lookup_back((a[0], a[1][::-1]), dy)),
        ("V d", "int V: n"),
    ),
    "segment sum": Row(
        lambda x, ids: jax.ops.segment_sum(x, ids, num_segments=4),
        lambda a, dy: (dy[a[1]], None),
        (lambda a, dy: (dy[3 - a[1]], None),),
        ("n d", "int 4: n"),
    ),
    "first token": Row(
        lambda x: x[:, 0],
        lambda a, dy: (jnp.zeros_like(a[0]).at[:, 0].set(dy),),
        (lambda a, dy: (jnp.zeros_like(a[0]).at[:, -1].set(dy),),),
        ("n t d",),
    ),
    "repeated columns": Row(
        lambda x: x[:, jnp.array([0, 0, 3])],
        lambda a, dy: (jnp.zeros_like(a[0]).at[:, jnp.array([0, 0, 3])].add(dy),),
        (lambda a, dy: (jnp.zeros_like(a[0]).at[:, jnp.array([0, 3])].set(dy[:, 1:]),),),
        ("n 4",),
    ),
    "softmax of permuted columns": Row(
        lambda x: softmax(x[:, jnp.array([2, 0, 3, 1])]),
        lambda a, dy: (softmax_back(softmax(a[0]), dy[:, jnp.array([1, 3, 0, 2])]),),
        (lambda a, dy: (softmax_back(softmax(a[0]), dy[:, jnp.array([2, 0, 3, 1])]),),),
        ("n 4",),
    ),
    "flatten, then dense": Row(
        lambda x, w: x.reshape(x.shape[0], -1) @ w,
        lambda a, dy: ((dy @ a[1].T).reshape(a[0].shape), a[0].reshape(a[0].shape[0], -1).T @ dy),
        (
            lambda a, dy: (
                (dy @ a[1].T).reshape(a[0].shape[0], 3, 2).transpose(0, 2, 1),
                a[0].reshape(a[0].shape[0], -1).T @ dy,
            ),
        ),
        ("n 2 3", "6 k"),
    ),
    "rotary, interleaved": Row(
        interleaved, interleaved_back, (lambda a, dy: interleaved_back(a, dy, -1),), ("n 4", "2", "2")
    ),
    "lower triangle": Row(
        lambda x: jnp.tril(x) ** 2,
        lambda a, dy: (2 * dy * jnp.tril(a[0]),),
        (lambda a, dy: (2 * dy * jnp.triu(a[0]),), lambda a, dy: (2 * dy * jnp.tril(a[0], -1),)),
        ("n n",),
    ),
    "causal softmax": Row(
        lambda x: causal(x),
        lambda a, dy: (softmax_back(causal(a[0]), dy),),
        (lambda a, dy: (softmax_back(softmax(a[0]), dy),), lambda a, dy: (causal(a[0]) * dy,)),
        ("4 4",),
    ),
    "mean of windows": Row(
        lambda x: windows(x, lax.add, by=4),
        lambda a, dy: (spread(dy) / 4,),
        (lambda a, dy: (spread(dy),),),
        ("n 4 4 c",),
    ),
    "largest of windows": Row(
        lambda x: largest(x),
        lambda a, dy: jax.vjp(largest, a[0])[1](dy),
        (lambda a, dy: (spread(dy) / 4,), lambda a, dy: (spread(dy) * (a[0] > 0),)),
        ("n 2 4 c",),
    ),
}

# the primal has a slope of 0 between its steps: a hand VJP that says otherwise is wrong of this primal
STRAIGHT_THROUGH = {
    "sign": jnp.sign,
    "a step": lambda x: jnp.where(x > 0, 1.0, 0.0),
    "round": lambda x: jnp.round(x),
    "floor": jnp.floor,
}
