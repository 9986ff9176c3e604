"""Errors in rules on an (n, C) array: batch norm over the wrong axis, layer norm, cross-entropy, matmul."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.verify.planted.family import Family, Mutant, normal

_CHANNELS = 5
_EPS = np.float32(1e-3)


def _mean(a: Any, axis: int) -> Any:
    return jnp.expand_dims(jnp.sum(a, axis) / a.shape[axis], axis)


def _statistics(x: Any, gamma: Any, beta: Any, eps: Any, axis: int) -> SimpleNamespace:
    mean = _mean(x, axis)
    istd = jax.lax.rsqrt(_mean(jnp.square(x - mean), axis) + eps)
    return SimpleNamespace(
        x=x, gamma=gamma, beta=beta, eps=eps, mean=mean, istd=istd, x_hat=(x - mean) * istd
    )


def _three_terms(r: Any, g: Any, axis: int, mean: float = 1, variance: float = 1) -> Any:
    return r.istd * (g - mean * _mean(g, axis) - variance * r.x_hat * _mean(g * r.x_hat, axis))


def _parameters(n: int) -> tuple[Any, ...]:
    return normal(n, _CHANNELS), 1 + normal(_CHANNELS, seed=1), normal(_CHANNELS, seed=2), _EPS


def _norm(target: str, axis: int) -> Family:
    """Batch norm (axis 0) or layer norm (axis 1) of (n, C) with γ and β of (C,)."""

    def view(x: Any, gamma: Any, beta: Any, eps: Any) -> SimpleNamespace:
        return _statistics(x, gamma, beta, eps, axis)

    def primal(x: Any, gamma: Any, beta: Any, eps: Any) -> Any:
        return gamma * view(x, gamma, beta, eps).x_hat + beta

    return Family(
        target,
        primal=primal,
        view=view,
        right={
            "x": lambda r, dy: _three_terms(r, r.gamma * dy, axis),
            "gamma": lambda r, dy: jnp.sum(dy * r.x_hat, 0),
            "beta": lambda r, dy: jnp.sum(dy, 0),
            "eps": lambda r, dy: -0.5 * jnp.sum(r.istd**2 * r.gamma * dy * r.x_hat),
        },
        arguments=_parameters,
        shapes=("n C", "C", "C", ""),
        positive=(3,),
    )


_columns = _norm("batch_norm", 0)
_BATCH_NORM = (
    _columns.mutant("dx with the means of the wrong axis", x=lambda r, dy: _three_terms(r, r.gamma * dy, 1)),
    _columns.mutant(
        "dx with the statistics of the wrong axis",
        x=lambda r, dy: _three_terms(_statistics(r.x, r.gamma, r.beta, r.eps, 1), r.gamma * dy, 0),
    ),
    _columns.mutant(
        "dx with the means of both axes",
        x=lambda r, dy: (
            r.istd
            * (r.gamma * dy - _mean(_mean(r.gamma * dy, 0), 1) - r.x_hat * _mean(r.gamma * dy * r.x_hat, 0))
        ),
    ),
    _columns.mutant(
        "ε's cotangent of one channel only",
        real=False,
        eps=lambda r, dy: -0.5 * jnp.sum((r.istd**2 * r.gamma * dy * r.x_hat)[:, 0]),
    ),
)

_layer_norm = _norm("layer_norm", 1)
_LAYER_NORM = (
    _layer_norm.mutant("dx without the mean term", x=lambda r, dy: _three_terms(r, r.gamma * dy, 1, mean=0)),
    _layer_norm.mutant(
        "dx without the variance term", x=lambda r, dy: _three_terms(r, r.gamma * dy, 1, variance=0)
    ),
    _layer_norm.mutant("dx with γ outside the means", x=lambda r, dy: r.gamma * _three_terms(r, dy, 1)),
    _layer_norm.mutant("dx without γ", x=lambda r, dy: _three_terms(r, dy, 1)),
    _layer_norm.mutant("dx with the means of the batch", x=lambda r, dy: _three_terms(r, r.gamma * dy, 0)),
    _layer_norm.mutant("dγ from x not normalized", gamma=lambda r, dy: jnp.sum(dy * r.x, 0)),
    _layer_norm.mutant("dβ with γ", beta=lambda r, dy: r.gamma * jnp.sum(dy, 0)),
    _layer_norm.mutant("ε's cotangent missing", eps=lambda r, dy: jnp.zeros_like(r.eps)),
)

# --- softmax cross-entropy: a loss an example, −log softmax(logits)[label] ---------------------------------


def _cross_entropy_primal(logits: Any, labels: Any) -> Any:
    shifted = logits - jax.lax.stop_gradient(jnp.max(logits, -1, keepdims=True))
    return jnp.sum(
        _one_hot(shifted, labels) * (jnp.log(jnp.sum(jnp.exp(shifted), -1, keepdims=True)) - shifted), -1
    )


def _one_hot(logits: Any, labels: Any) -> Any:
    return jnp.asarray(labels[:, None] == jnp.arange(logits.shape[1]), logits.dtype)


def _cross_entropy_view(logits: Any, labels: Any) -> SimpleNamespace:
    return SimpleNamespace(logits=logits, p=jax.nn.softmax(logits), target=_one_hot(logits, labels))


_cross_entropy = Family(
    "softmax_cross_entropy",
    primal=_cross_entropy_primal,
    view=_cross_entropy_view,
    right={"logits": lambda r, ct: (r.p - r.target) * ct[:, None], "labels": lambda r, ct: None},
    arguments=lambda n: (
        2 * normal(n, _CHANNELS),
        np.random.default_rng(n).integers(0, _CHANNELS, n, np.int32),
    ),
    shapes=(),
)
_CROSS_ENTROPY = (
    _cross_entropy.mutant("without the target", logits=lambda r, ct: r.p * ct[:, None]),
    _cross_entropy.mutant("without the probabilities", logits=lambda r, ct: -r.target * ct[:, None]),
    _cross_entropy.mutant("with its sign flipped", logits=lambda r, ct: (r.target - r.p) * ct[:, None]),
    _cross_entropy.mutant(
        "with 1/n, as of a mean", logits=lambda r, ct: (r.p - r.target) * ct[:, None] / len(r.p)
    ),
    _cross_entropy.mutant("without the cotangent", logits=lambda r, ct: r.p - r.target),
    _cross_entropy.mutant(
        "from a sigmoid", logits=lambda r, ct: (jax.nn.sigmoid(r.logits) - r.target) * ct[:, None]
    ),
    _cross_entropy.mutant(
        "softmax over the batch", logits=lambda r, ct: (jax.nn.softmax(r.logits, 0) - r.target) * ct[:, None]
    ),
    _cross_entropy.mutant(
        "through softmax's own Jacobian once more",
        logits=lambda r, ct: r.p * (1 - r.p) * (r.p - r.target) * ct[:, None],
    ),
)

# --- matmul -----------------------------------------------------------------------------------------------

_matmul = Family(
    "matmul",
    primal=lambda a, b: a @ b,
    view=lambda a, b: SimpleNamespace(a=a, b=b),
    right={"a": lambda r, dy: dy @ r.b.T, "b": lambda r, dy: r.a.T @ dy},
    arguments=lambda n: (normal(n, 4), normal(4, 4, seed=1)),
    shapes=(),
)
_MATMUL = (
    _matmul.mutant("da without the transpose", a=lambda r, dy: dy @ r.b),
    _matmul.mutant("db transposed", b=lambda r, dy: (r.a.T @ dy).T),
    _matmul.mutant("da halved", a=lambda r, dy: 0.5 * dy @ r.b.T),
    _matmul.mutant("db a mean over the batch", b=lambda r, dy: r.a.T @ dy / len(r.a)),
    _matmul.mutant("db of one example only", b=lambda r, dy: r.a[:1].T @ dy[:1]),
    _matmul.mutant("db with its sign flipped", b=lambda r, dy: -r.a.T @ dy),
)

MATRIX: tuple[Mutant, ...] = (*_BATCH_NORM, *_LAYER_NORM, *_CROSS_ENTROPY, *_MATMUL)
