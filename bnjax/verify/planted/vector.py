"""Errors in the chapter's own rules on a vector of n, theorems 28 to 34: each a line put wrong."""

from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax import theorems
from bnjax.verify.planted.family import Family, Mutant, normal

_EPS, _GAMMA, _BETA = np.float32(1e-3), np.float32(-1.3), np.float32(0.4)


def _mean(a: Any) -> Any:
    return jnp.sum(a) / a.shape[0]


def _statistics(x: Any, eps: Any) -> SimpleNamespace:
    mean = _mean(x)
    var = _mean(jnp.square(x - mean))
    istd = jax.lax.rsqrt(var + eps)
    return SimpleNamespace(x=x, eps=eps, n=x.shape[0], mean=mean, var=var, istd=istd, x_hat=(x - mean) * istd)


# --- affine -----------------------------------------------------------------------------------------------

_affine = Family(
    "affine",
    theorem=theorems.affine,
    primal=lambda v, gamma, beta: gamma * v + beta,
    view=lambda v, gamma, beta: SimpleNamespace(v=v, gamma=gamma, beta=beta),
    right={
        "v": lambda r, dy: r.gamma * dy,
        "gamma": lambda r, dy: jnp.sum(dy * r.v),
        "beta": lambda r, dy: jnp.sum(dy),
    },
    arguments=lambda n: (normal(n), _GAMMA, _BETA),
    shapes=("n", "", ""),
)
_AFFINE = (
    _affine.mutant("dv without γ", v=lambda r, dy: dy),
    _affine.mutant("dv with γ twice", v=lambda r, dy: r.gamma**2 * dy),
    _affine.mutant("dv with its sign flipped", v=lambda r, dy: -r.gamma * dy),
    _affine.mutant("dγ without v", gamma=lambda r, dy: jnp.sum(dy)),
    _affine.mutant("dγ from the output", gamma=lambda r, dy: jnp.sum(dy * (r.gamma * r.v + r.beta))),
    _affine.mutant("dγ a mean, not a sum", real=False, gamma=lambda r, dy: _mean(dy * r.v)),
    _affine.mutant("dβ a mean, not a sum", real=False, beta=lambda r, dy: _mean(dy)),
    _affine.mutant("dβ with γ", beta=lambda r, dy: r.gamma * jnp.sum(dy)),
    _affine.mutant(
        "dγ and dβ exchanged", gamma=lambda r, dy: jnp.sum(dy), beta=lambda r, dy: jnp.sum(dy * r.v)
    ),
)

# --- center -----------------------------------------------------------------------------------------------

_center = Family(
    "center",
    theorem=theorems.center,
    primal=lambda x: x - _mean(x),
    view=lambda x: SimpleNamespace(x=x, n=x.shape[0]),
    right={"x": lambda r, dy: dy - _mean(dy)},
    arguments=lambda n: (normal(n),),
    shapes=("n",),
)
_CENTER = (
    _center.mutant("without the mean", x=lambda r, dy: dy),
    _center.mutant("the mean added", x=lambda r, dy: dy + _mean(dy)),
    _center.mutant("the mean halved", x=lambda r, dy: dy - _mean(dy) / 2),
    _center.mutant("the mean without its 1/n", real=False, x=lambda r, dy: dy - jnp.sum(dy)),
    _center.mutant("the mean over n + 1", x=lambda r, dy: dy - jnp.sum(dy) / (r.n + 1)),
    _center.mutant("the mean of x instead", x=lambda r, dy: dy - _mean(r.x)),
    _center.mutant("only the mean", x=lambda r, dy: jnp.broadcast_to(_mean(dy), r.x.shape)),
)

# --- inverse_stddev ---------------------------------------------------------------------------------------

inverse_stddev = Family(
    "inverse_stddev",
    theorem=theorems.inverse_stddev,
    primal=lambda x, eps: _statistics(x, eps).istd,
    view=_statistics,
    right={
        "x": lambda r, ct: -(r.istd**3) * (r.x - r.mean) / r.n * ct,
        "eps": lambda r, ct: -0.5 * r.istd**3 * ct,
    },
    arguments=lambda n: (normal(n), _EPS),
    shapes=("n", ""),
    positive=(1,),
)
_INVERSE_STDDEV = (
    inverse_stddev.mutant("dx with its sign flipped", x=lambda r, ct: r.istd**3 * (r.x - r.mean) / r.n * ct),
    inverse_stddev.mutant(
        "dx with istd² for istd³", x=lambda r, ct: -(r.istd**2) * (r.x - r.mean) / r.n * ct
    ),
    inverse_stddev.mutant("dx with istd for istd³", x=lambda r, ct: -r.istd * (r.x - r.mean) / r.n * ct),
    inverse_stddev.mutant("dx halved", x=lambda r, ct: -0.5 * r.istd**3 * (r.x - r.mean) / r.n * ct),
    inverse_stddev.mutant("dx doubled", x=lambda r, ct: -2 * r.istd**3 * (r.x - r.mean) / r.n * ct),
    inverse_stddev.mutant("dx without 1/n", real=False, x=lambda r, ct: -(r.istd**3) * (r.x - r.mean) * ct),
    inverse_stddev.mutant("dx from x not centered", x=lambda r, ct: -(r.istd**3) * r.x / r.n * ct),
    inverse_stddev.mutant("ε's cotangent missing", eps=lambda r, ct: jnp.zeros_like(r.eps)),
    inverse_stddev.mutant("ε's cotangent without ½", eps=lambda r, ct: -(r.istd**3) * ct),
)

# --- normalize --------------------------------------------------------------------------------------------


def _three_terms(r: Any, dy: Any, mean: float = 1, variance: float = 1) -> Any:
    """dx of normalize, with a weight on each term that comes through a statistic."""
    return r.istd * (dy - mean * _mean(dy) - variance * r.x_hat * _mean(dy * r.x_hat))


def _without_eps(x: Any, eps: Any) -> SimpleNamespace:
    """ε forgotten in the backward pass."""
    return _statistics(x, 0 * eps)


def _eps_outside(x: Any, eps: Any) -> SimpleNamespace:
    """1/(σ + ε) for 1/√(σ² + ε)."""
    r = _statistics(x, eps)
    r.istd = 1 / (jnp.sqrt(r.var) + eps)
    r.x_hat = (x - r.mean) * r.istd
    return r


def _uncentered(x: Any, eps: Any) -> SimpleNamespace:
    """x̂ without the mean taken off."""
    r = _statistics(x, eps)
    r.x_hat = x * r.istd
    return r


_normalize = Family(
    "normalize",
    theorem=theorems.normalize,
    primal=lambda x, eps: _statistics(x, eps).x_hat,
    view=_statistics,
    right={"x": _three_terms, "eps": lambda r, dy: -0.5 * r.istd**2 * jnp.sum(dy * r.x_hat)},
    arguments=lambda n: (normal(n), _EPS),
    shapes=("n", ""),
    positive=(1,),
)
_NORMALIZE = (
    _normalize.mutant("dx without the mean term", x=lambda r, dy: _three_terms(r, dy, mean=0)),
    _normalize.mutant("dx without the variance term", x=lambda r, dy: _three_terms(r, dy, variance=0)),
    _normalize.mutant("dx with neither", x=lambda r, dy: r.istd * dy),
    _normalize.mutant("dx with the mean term halved", x=lambda r, dy: _three_terms(r, dy, mean=0.5)),
    _normalize.mutant("dx with the variance term halved", x=lambda r, dy: _three_terms(r, dy, variance=0.5)),
    _normalize.mutant("dx with the variance term doubled", x=lambda r, dy: _three_terms(r, dy, variance=2)),
    _normalize.mutant("dx with the mean term's sign flipped", x=lambda r, dy: _three_terms(r, dy, mean=-1)),
    _normalize.mutant(
        "dx with the variance term's sign flipped", x=lambda r, dy: _three_terms(r, dy, variance=-1)
    ),
    _normalize.mutant("dx with ε missing", view=_without_eps),
    _normalize.mutant("dx with ε outside the root", view=_eps_outside),
    _normalize.mutant("dx with x̂ not centered", view=_uncentered),
    _normalize.mutant(
        "dx with √istd", x=lambda r, dy: jnp.sqrt(r.istd) * (dy - _mean(dy) - r.x_hat * _mean(dy * r.x_hat))
    ),
    _normalize.mutant("ε's cotangent missing", eps=lambda r, dy: jnp.zeros_like(r.eps)),
    _normalize.mutant(
        "ε's cotangent with istd for istd²", eps=lambda r, dy: -0.5 * r.istd * jnp.sum(dy * r.x_hat)
    ),
)

# --- batch_norm -------------------------------------------------------------------------------------------


def _full(x: Any, gamma: Any, beta: Any, eps: Any) -> SimpleNamespace:
    return SimpleNamespace(**vars(_statistics(x, eps)), gamma=gamma, beta=beta)


def _with_variance_over(less: int) -> Any:
    """The backward pass with Σ(x − μ)²/(n − less) for the variance."""

    def view(x: Any, gamma: Any, beta: Any, eps: Any) -> SimpleNamespace:
        r = _full(x, gamma, beta, eps)
        r.istd = jax.lax.rsqrt(jnp.sum(jnp.square(x - r.mean)) / (x.shape[0] - less) + eps)
        r.x_hat = (x - r.mean) * r.istd
        return r

    return view


def _stddev_for_variance(x: Any, gamma: Any, beta: Any, eps: Any) -> SimpleNamespace:
    r = _full(x, gamma, beta, eps)
    r.istd = 1 / (r.var + eps)
    r.x_hat = (x - r.mean) * r.istd
    return r


batch_norm = Family(
    "batch_norm",
    theorem=theorems.batch_norm,
    primal=lambda x, gamma, beta, eps: gamma * _statistics(x, eps).x_hat + beta,
    view=_full,
    right={
        "x": lambda r, dy: r.gamma * _three_terms(r, dy),
        "gamma": lambda r, dy: jnp.sum(dy * r.x_hat),
        "beta": lambda r, dy: jnp.sum(dy),
        "eps": lambda r, dy: -0.5 * r.istd**2 * r.gamma * jnp.sum(dy * r.x_hat),
    },
    arguments=lambda n: (normal(n), _GAMMA, _BETA, _EPS),
    shapes=("n", "", "", ""),
    positive=(3,),
)
_BATCH_NORM = (
    batch_norm.mutant("dx without the mean term", x=lambda r, dy: r.gamma * _three_terms(r, dy, mean=0)),
    batch_norm.mutant(
        "dx without the variance term", x=lambda r, dy: r.gamma * _three_terms(r, dy, variance=0)
    ),
    batch_norm.mutant("dx as in evaluation mode", x=lambda r, dy: r.gamma * r.istd * dy),
    batch_norm.mutant(
        "dx with the mean term halved", x=lambda r, dy: r.gamma * _three_terms(r, dy, mean=0.5)
    ),
    batch_norm.mutant(
        "dx with the variance term halved", x=lambda r, dy: r.gamma * _three_terms(r, dy, variance=0.5)
    ),
    batch_norm.mutant("dx without γ", x=_three_terms),
    batch_norm.mutant("dx with γ twice", x=lambda r, dy: r.gamma**2 * _three_terms(r, dy)),
    batch_norm.mutant("dx with √γ²", x=lambda r, dy: jnp.sqrt(r.gamma**2) * _three_terms(r, dy), real=False),
    batch_norm.mutant("dx without istd", x=lambda r, dy: r.gamma * _three_terms(r, dy) / r.istd),
    batch_norm.mutant("dx with istd²", x=lambda r, dy: r.gamma * r.istd * _three_terms(r, dy)),
    batch_norm.mutant("dx with its sign flipped", x=lambda r, dy: -r.gamma * _three_terms(r, dy)),
    batch_norm.mutant("dx 1.5 times too large", x=lambda r, dy: 1.5 * r.gamma * _three_terms(r, dy)),
    batch_norm.mutant(
        "dx with the mean without its 1/n",
        real=False,
        x=lambda r, dy: r.gamma * r.istd * (dy - jnp.sum(dy) - r.x_hat * _mean(dy * r.x_hat)),
    ),
    batch_norm.mutant(
        "dx with the variance term from x",
        x=lambda r, dy: r.gamma * r.istd * (dy - _mean(dy) - r.x_hat * _mean(dy * r.x)),
    ),
    batch_norm.mutant(
        "dx with the variance term from y",
        x=lambda r, dy: (
            r.gamma * r.istd * (dy - _mean(dy) - r.x_hat * _mean(dy * (r.gamma * r.x_hat + r.beta)))
        ),
    ),
    batch_norm.mutant(
        "dx with the statistics of dy's own n + 1",
        x=lambda r, dy: r.gamma * r.istd * (dy - (jnp.sum(dy) + r.x_hat * jnp.sum(dy * r.x_hat)) / (r.n + 1)),
    ),
    batch_norm.mutant("the variance over n − 1", real=False, view=_with_variance_over(1)),
    batch_norm.mutant("the variance over n + 1", view=_with_variance_over(-1)),
    batch_norm.mutant("the variance for the standard deviation", view=_stddev_for_variance),
    batch_norm.mutant("ε missing", view=lambda x, gamma, beta, eps: _full(x, gamma, beta, 0 * eps)),
    batch_norm.mutant("ε squared", view=lambda x, gamma, beta, eps: _full(x, gamma, beta, eps**2)),
    batch_norm.mutant("dγ from x not normalized", gamma=lambda r, dy: jnp.sum(dy * r.x)),
    batch_norm.mutant("dγ from x centered", gamma=lambda r, dy: jnp.sum(dy * (r.x - r.mean))),
    batch_norm.mutant("dγ from y", gamma=lambda r, dy: jnp.sum(dy * (r.gamma * r.x_hat + r.beta))),
    batch_norm.mutant("dγ with γ", gamma=lambda r, dy: r.gamma * jnp.sum(dy * r.x_hat)),
    batch_norm.mutant("dγ a mean, not a sum", real=False, gamma=lambda r, dy: _mean(dy * r.x_hat)),
    batch_norm.mutant("dβ from x̂", beta=lambda r, dy: jnp.sum(dy * r.x_hat)),
    batch_norm.mutant("dβ a mean, not a sum", real=False, beta=lambda r, dy: _mean(dy)),
    batch_norm.mutant("dβ missing", beta=lambda r, dy: jnp.zeros_like(r.beta)),
    batch_norm.mutant("ε's cotangent missing", eps=lambda r, dy: jnp.zeros_like(r.eps)),
    batch_norm.mutant("ε's cotangent without γ", eps=lambda r, dy: -0.5 * r.istd**2 * jnp.sum(dy * r.x_hat)),
    batch_norm.mutant(
        "ε's cotangent with its sign flipped",
        eps=lambda r, dy: 0.5 * r.istd**2 * r.gamma * jnp.sum(dy * r.x_hat),
    ),
)

VECTOR: tuple[Mutant, ...] = (*_AFFINE, *_CENTER, *_INVERSE_STDDEV, *_NORMALIZE, *_BATCH_NORM)
