"""Rules of batch norm that are right but in some circumstance: a dtype, an n, a transformation, a sign."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from bnjax.verify.planted.family import Mutant
from bnjax.verify.planted.vector import batch_norm

_right = batch_norm.right


def _cotangents(args: tuple[Any, ...], dy: Any) -> tuple[Any, ...]:
    """The right backward pass."""
    r = batch_norm.view(*args)
    return tuple(cotangent(r, dy) for cotangent in _right.values())


def _changed(error: str, change: Callable[[tuple[Any, ...], Any, tuple[Any, ...]], Any]) -> Mutant:
    """The right cotangents handed to `change(args, dy, cotangents)`, which returns others."""
    op = batch_norm.with_backward(lambda args, dy: change(args, dy, _cotangents(args, dy)))
    return batch_norm.of(error, op)


def _scaled_dx(error: str, factor: Callable[[tuple[Any, ...], Any], Any]) -> Mutant:
    """dx times a factor that should be 1."""
    return _changed(error, lambda args, dy, c: (c[0] * jnp.asarray(factor(args, dy), c[0].dtype), *c[1:]))


def _traced(a: Any) -> bool:
    return isinstance(a, jax.core.Tracer)


_DATA = (
    _scaled_dx("wrong only for negative γ", lambda args, dy: jnp.where(args[1] < 0, 2, 1)),
    _scaled_dx(
        "wrong only when σ² < ε", lambda args, dy: jnp.where(batch_norm.view(*args).var < args[3], 0.5, 1)
    ),
    _scaled_dx(
        "wrong only when x has an outlier", lambda args, dy: jnp.where(jnp.max(jnp.abs(args[0])) > 2, 0.9, 1)
    ),
    _scaled_dx(
        "wrong only when the mean is large",
        lambda args, dy: jnp.where(jnp.abs(batch_norm.view(*args).mean) > 30, 0, 1),
    ),
    _changed(
        "dx is NaN where x̂ < 0",
        lambda args, dy, c: (jnp.where(batch_norm.view(*args).x_hat < 0, jnp.nan, c[0]), *c[1:]),
    ),
    _changed("dx of the example before", lambda args, dy, c: (jnp.roll(c[0], 1), *c[1:])),
)

_SIZE = (
    _scaled_dx("wrong only at n = 2", lambda args, dy: 2 if args[0].shape[0] == 2 else 1),
    _changed("wrong only at n = 1", lambda args, dy, c: (dy if args[0].shape[0] == 1 else c[0], *c[1:])),
    _scaled_dx("wrong only at odd n > 3", lambda args, dy: 2 if args[0].shape[0] in (5, 7) else 1),
)

_NOT_LINEAR = (
    _changed("quadratic in dy", lambda args, dy, c: (c[0] * jnp.abs(dy), *c[1:])),
    _changed("dy clipped at 10", lambda args, dy, c: _cotangents(args, jnp.clip(dy, -10, 10))),
    _changed("a constant added", lambda args, dy, c: (c[0] + jnp.asarray(1e-3, c[0].dtype), *c[1:])),
    _changed("dy's sign only", lambda args, dy, c: _cotangents(args, jnp.sign(dy))),
    _changed(
        "dγ not homogeneous",
        lambda args, dy, c: (c[0], c[1] * jnp.minimum(1, 4 / (1 + jnp.max(jnp.abs(dy)))), *c[2:]),
    ),
)


def _second_order(freeze: str) -> Callable[..., Any]:
    """The right VJP with one thing in it detached: its own derivative is wrong."""

    def backward(args: tuple[Any, ...], dy: Any) -> tuple[Any, ...]:
        if freeze == "dy":
            return _cotangents(args, jax.lax.stop_gradient(dy))
        r = batch_norm.view(*args)
        setattr(r, freeze, jax.lax.stop_gradient(getattr(r, freeze)))
        return tuple(cotangent(r, dy) for cotangent in _right.values())

    return batch_norm.with_backward(backward)


def _stale() -> Callable[..., Any]:
    """Residuals kept outside: a backward pass after another forward pass takes the wrong ones."""
    kept: list[tuple[Any, ...]] = []

    def forward(*args: Any) -> Any:
        kept[:] = [args]
        return batch_norm.primal(*args), ()

    op = jax.custom_vjp(batch_norm.primal)
    op.defvjp(forward, lambda _, dy: _cotangents(kept[0], dy))
    return op


_TRANSFORMED = (
    _scaled_dx("wrong only under jit", lambda args, dy: 2 if _traced(dy) else 1),
    _scaled_dx("wrong only without jit", lambda args, dy: 1 if _traced(dy) else 2),
    batch_norm.of("second order: istd detached", _second_order("istd")),
    batch_norm.of("second order: x̂ detached", _second_order("x_hat")),
    batch_norm.of("second order: γ detached", _second_order("gamma")),
    batch_norm.of("second order: dy detached", _second_order("dy")),
    batch_norm.of("residuals from another iteration", _stale()),
)


def _in(dtype: Any, error: str, wrong: Callable[[tuple[Any, ...], Any, tuple[Any, ...]], Any]) -> Mutant:
    return _changed(error, lambda args, dy, c: wrong(args, dy, c) if args[0].dtype == dtype else c)


_DTYPE = (
    _in(jnp.bfloat16, "only in bfloat16: dx doubled", lambda args, dy, c: (2 * c[0], *c[1:])),
    _in(
        jnp.bfloat16,
        "only in bfloat16: dx as in evaluation mode",
        lambda args, dy, c: (args[1] * batch_norm.view(*args).istd * dy, *c[1:]),
    ),
    _in(
        jnp.bfloat16,
        "only in bfloat16: a float32 cotangent",
        lambda args, dy, c: (c[0].astype(jnp.float32), *c[1:]),
    ),
    _in(jnp.float32, "only in float32: dγ from x", lambda args, dy, c: (c[0], jnp.sum(dy * args[0]), *c[2:])),
    _in(
        jnp.float32,
        "only in float32: computed in bfloat16",
        lambda args, dy, c: (c[0].astype(jnp.bfloat16).astype(jnp.float32), *c[1:]),
    ),
    _changed("dx in float16", lambda args, dy, c: (c[0].astype(jnp.float16), *c[1:])),
    _changed("dγ in bfloat16", lambda args, dy, c: (c[0], c[1].astype(jnp.bfloat16), *c[2:])),
)


def _raises(args: tuple[Any, ...], dy: Any, c: tuple[Any, ...]) -> Any:
    raise RuntimeError("not implemented yet")


_STRUCTURE = (
    _changed("ε's cotangent left out of the tuple", lambda args, dy, c: c[:3]),
    _changed("dx in a tuple of its own", lambda args, dy, c: ((c[0],), *c[1:])),
    _changed("dx a scalar", lambda args, dy, c: (jnp.sum(c[0]), *c[1:])),
    _changed("dγ not summed", lambda args, dy, c: (c[0], dy * batch_norm.view(*args).x_hat, *c[2:])),
    _changed("dx None, that is zero", lambda args, dy, c: (None, *c[1:])),
    _changed("raises", _raises),
)

CIRCUMSTANCE: tuple[Mutant, ...] = (*_DATA, *_SIZE, *_NOT_LINEAR, *_TRANSFORMED, *_DTYPE, *_STRUCTURE)
