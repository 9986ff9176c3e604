"""Activations: pointwise functions, gated products, clips."""

import jax
import jax.numpy as jnp

from bnjax.verify.planted.beyond.topic import (
    N,
    Topic,
    detached,
    lanes_reversed,
    narrowed,
    normal,
    stale,
    traced,
    where,
)


def _cdf(x):
    return 0.5 * (1 + jax.scipy.special.erf(x / 2**0.5))


def _pdf(x):
    return jnp.exp(-x * x / 2) / (2 * jnp.pi) ** 0.5


def _inner(x):
    return (2 / jnp.pi) ** 0.5 * (x + 0.044715 * x**3)


def _tanh_gelu_slope(x, cubic=3.0):
    t = jnp.tanh(_inner(x))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (2 / jnp.pi) ** 0.5 * (1 + cubic * 0.044715 * x * x)


_s = jax.nn.sigmoid


def _leaky(x):
    return jnp.where(x > 0, x, 0.1 * x)


LEAKY = Topic(
    "leaky relu", _leaky, (normal(N),),
    right={
        "where": lambda x, y, dy: (jnp.where(x > 0, dy, 0.1 * dy),),
        "by the output's sign": lambda x, y, dy: (dy * (0.1 + 0.9 * (y > 0)),),
    },
    wrong={
        "as relu": lambda x, y, dy: (jnp.where(x > 0, dy, 0),),
        "the slope for all": lambda x, y, dy: (0.1 * dy,),
        "the slope's sign": lambda x, y, dy: (jnp.where(x > 0, dy, -0.1 * dy),),
        "sides swapped": lambda x, y, dy: (jnp.where(x > 0, 0.1 * dy, dy),),
    },
    hidden={
        "only traced": traced(lambda x, y, dy: (jnp.where(x > 0, dy, 0.1 * dy),)),
        "only under vmap": lanes_reversed(lambda x, y, dy: (jnp.where(x > 0, dy, 0.1 * dy),)),
        "only under vmap over x": lanes_reversed(
            lambda x, y, dy: (jnp.where(x > 0, dy, 0.1 * dy),), by_argument=True),
        "wrong for x > 4": where(lambda x, y, dy: x > 4, lambda x, y, dy: (jnp.where(x > 0, dy, 0.1 * dy),)),
    },
)  # fmt: skip
ELU = Topic(
    "elu", lambda x: jnp.where(x > 0, x, jnp.expm1(jnp.minimum(x, 0))), (normal(N),),
    right={
        "the output + 1": lambda x, y, dy: (jnp.where(x > 0, dy, dy * (y + 1)),),
        "exp": lambda x, y, dy: (dy * jnp.exp(jnp.minimum(x, 0)),),
    },
    wrong={
        "the output": lambda x, y, dy: (jnp.where(x > 0, dy, dy * y),),
        "exp everywhere": lambda x, y, dy: (dy * jnp.exp(x),),
        "exp of |x|": lambda x, y, dy: (jnp.where(x > 0, dy, dy * jnp.exp(-x)),),
    },
    hidden={"the residual of the call before": stale(
        lambda x, y, dy: (jnp.where(y > 0, dy, dy * (y + 1)),))},
)  # fmt: skip
GELU = Topic(
    "gelu", lambda x: jax.nn.gelu(x, approximate=False), (normal(N),),
    right={"Φ + x·φ": lambda x, y, dy: (dy * (_cdf(x) + x * _pdf(x)),)},
    wrong={
        "Φ only": lambda x, y, dy: (dy * _cdf(x),),
        "that of the tanh form": lambda x, y, dy: (dy * _tanh_gelu_slope(x),),
        "φ not normalized": lambda x, y, dy: (dy * (_cdf(x) + x * jnp.exp(-x * x / 2)),),
    },
)  # fmt: skip
TANH_GELU = Topic(
    "gelu by tanh", lambda x: jax.nn.gelu(x, approximate=True), (normal(N),),
    right={"by hand": lambda x, y, dy: (dy * _tanh_gelu_slope(x),)},
    wrong={
        "that of the exact form": lambda x, y, dy: (dy * (_cdf(x) + x * _pdf(x)),),
        "the cubic term's 3": lambda x, y, dy: (dy * _tanh_gelu_slope(x, 1.0),),
        "the cubic term": lambda x, y, dy: (dy * _tanh_gelu_slope(x, 0.0),),
    },
)  # fmt: skip
SILU = Topic(
    "silu", lambda x: x * _s(x), (normal(N),),
    right={
        "σ + y·(1 − σ)": lambda x, y, dy: (dy * (_s(x) + y * (1 - _s(x))),),
        "σ·(1 + x·σ(−x))": lambda x, y, dy: (dy * _s(x) * (1 + x * _s(-x)),),
    },
    wrong={
        "σ only": lambda x, y, dy: (dy * _s(x),),
        "without σ": lambda x, y, dy: (dy * y * (1 - _s(x)),),
        "x for y": lambda x, y, dy: (dy * (_s(x) + x * (1 - _s(x))),),
    },
    hidden={"wrong for x < −8": where(
        lambda x, y, dy: x < -8, lambda x, y, dy: (dy * (_s(x) + y * (1 - _s(x))),), 0.0)},
    raw={
        "in bfloat16": narrowed(lambda x, y, dy: (dy * (_s(x) + y * (1 - _s(x))),), jnp.bfloat16),
        "in float32, whatever came": narrowed(
            lambda x, y, dy: (dy * (_s(x) + y * (1 - _s(x))),), jnp.float32),
    },
)  # fmt: skip
SOFTPLUS = Topic(
    "softplus",
    lambda x: jnp.logaddexp(x, 0.0),
    (normal(N, scale=3),),
    right={
        "σ": lambda x, y, dy: (dy * _s(x),),
        "1 − exp(−y)": lambda x, y, dy: (-dy * jnp.expm1(-y),),
    },
    wrong={"1 − σ": lambda x, y, dy: (dy * (1 - _s(x)),), "the output": lambda x, y, dy: (dy * y,)},
    hidden={"NaN at large x": lambda x, y, dy: (dy * jnp.exp(x) / (1 + jnp.exp(x)),)},
)
TANH = Topic(
    "tanh",
    jnp.tanh,
    (normal(N),),
    right={
        "1 − y²": lambda x, y, dy: (dy * (1 - y * y),),
        "1/cosh²": lambda x, y, dy: (dy / jnp.cosh(x) ** 2,),
    },
    wrong={
        "1 − y": lambda x, y, dy: (dy * (1 - y),),
        "1 + y²": lambda x, y, dy: (dy * (1 + y * y),),
        "1 − x²": lambda x, y, dy: (dy * (1 - x * x),),
    },
    hidden={"second order: y detached": detached(lambda x, y, dy: (dy * (1 - y * y),))},
)
SOFTSIGN = Topic(
    "softsign", lambda x: x / (1 + jnp.abs(x)), (normal(N),),
    right={
        "1/(1 + |x|)²": lambda x, y, dy: (dy / (1 + jnp.abs(x)) ** 2,),
        "(1 − |y|)²": lambda x, y, dy: (dy * (1 - jnp.abs(y)) ** 2,),
    },
    wrong={
        "not squared": lambda x, y, dy: (dy / (1 + jnp.abs(x)),),
        "right for positive x only": lambda x, y, dy: (dy / (1 + x) ** 2,),
    },
)  # fmt: skip
GLU = Topic(
    "glu",
    lambda a, b: a * _s(b),
    (normal(N, 3), normal(N, 3)),
    right={"both": lambda a, b, y, dy: (dy * _s(b), dy * y * (1 - _s(b)))},
    wrong={
        "b without a": lambda a, b, y, dy: (dy * _s(b), dy * _s(b) * (1 - _s(b))),
        "b without 1 − σ": lambda a, b, y, dy: (dy * _s(b), dy * y),
        "swapped": lambda a, b, y, dy: (dy * y * (1 - _s(b)), dy * _s(b)),
        "the gate detached": lambda a, b, y, dy: (dy * _s(b), 0 * b),
    },
)


def _swiglu(x, w, v):
    return jax.nn.silu(x @ w) * (x @ v)


def _swiglu_parts(x, w, v, dy):
    h, u = x @ w, x @ v
    return dy * u * _s(h) * (1 + h * (1 - _s(h))), dy * h * _s(h)


def _swiglu_right(x, w, v, y, dy):
    dh, du = _swiglu_parts(x, w, v, dy)
    return dh @ w.T + du @ v.T, x.T @ dh, x.T @ du


def _swiglu_gate_only(x, w, v, y, dy):
    dh, du = _swiglu_parts(x, w, v, dy)
    return dh @ w.T, x.T @ dh, x.T @ du


def _swiglu_not_transposed(x, w, v, y, dy):
    dh, du = _swiglu_parts(x, w, v, dy)
    return dh @ w + du @ v, x.T @ dh, x.T @ du


def _swiglu_sigmoid(x, w, v, y, dy):
    h, u = x @ w, x @ v
    dh, du = dy * u * _s(h), dy * h * _s(h)
    return dh @ w.T + du @ v.T, x.T @ dh, x.T @ du


SWIGLU = Topic(
    "swiglu", _swiglu, (normal(N, 3), normal(3, 3), normal(3, 3)),
    right={"both branches": _swiglu_right},
    wrong={
        "x by one branch": _swiglu_gate_only,
        "w not transposed": _swiglu_not_transposed,
        "silu as σ": _swiglu_sigmoid,
    },
)  # fmt: skip
CLIP = Topic(
    "clip", lambda x: jnp.clip(x, -0.75, 0.75), (normal(N),),
    right={
        "inside": lambda x, y, dy: (dy * ((x > -0.75) & (x < 0.75)),),
        "where the output is the input": lambda x, y, dy: (jnp.where(x == y, dy, 0),),
    },
    wrong={
        "dy clipped": lambda x, y, dy: (jnp.clip(dy, -0.75, 0.75),),
        "outside": lambda x, y, dy: (dy * ((x < -0.75) | (x > 0.75)),),
    },
    hidden={
        "straight through": lambda x, y, dy: (dy,),
        "one side": lambda x, y, dy: (dy * (x < 0.75),),
    },
)  # fmt: skip
STRAIGHT = Topic(
    "straight-through round", lambda x: x + jax.lax.stop_gradient(jnp.round(x) - x), (normal(N, scale=3),),
    right={"dy": lambda x, y, dy: (dy,)},
    wrong={
        "the true zero": lambda x, y, dy: (0 * dy,),
        "times the output": lambda x, y, dy: (dy * y,),
    },
)  # fmt: skip


def _swish(x, beta):
    return x * _s(beta * x)


def _swish_x(x, beta, dy):
    return dy * (_s(beta * x) + beta * x * _s(beta * x) * _s(-beta * x))


SWISH = Topic(
    "swish with β", _swish, (normal(N), normal()),
    right={"both": lambda x, b, y, dy: (
        _swish_x(x, b, dy), jnp.sum(dy * x * x * _s(b * x) * _s(-b * x)))},
    wrong={
        "x for x²": lambda x, b, y, dy: (_swish_x(x, b, dy), jnp.sum(dy * x * _s(b * x) * _s(-b * x))),
        "β's mean": lambda x, b, y, dy: (
            _swish_x(x, b, dy), jnp.mean(dy * x * x * _s(b * x) * _s(-b * x)) / 2),
        "β left out of x": lambda x, b, y, dy: (
            _swish_x(x, 0 * b + 1, dy), jnp.sum(dy * x * x * _s(b * x) * _s(-b * x))),
    },
    hidden={"β of the first example": lambda x, b, y, dy: (
        _swish_x(x, b, dy), (dy * x * x * _s(b * x) * _s(-b * x))[0])},
)  # fmt: skip

ACTIVATIONS = (
    *(LEAKY, ELU, GELU, TANH_GELU, SILU, SOFTPLUS, TANH, SOFTSIGN, GLU, SWIGLU, CLIP, STRAIGHT, SWISH),
)
