"""Errors in what the project claims beyond the chapter, by the name of the lemma."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from bnjax.theorems import batch_norm
from bnjax.theorems.batch_norm import batch_norm_primal
from bnjax.verify.lemmas import LEMMAS, Lemma, example
from bnjax.verify.planted.family import Mutant
from bnjax.verify.planted.vector import VECTOR

# (arguments, dy, the right cotangents) ↦ those of the wrong rule
Change = Callable[[tuple[Any, ...], Any, tuple[Any, ...]], tuple[Any, ...]]

_SIZES = {"N": 2, "C": 3}  # of the letters that are not the batch's
_LEMMAS = {lemma.name: lemma for lemma in LEMMAS}


def _mutant(lemma: Lemma, error: str, op: Callable[..., Any]) -> Mutant:
    def arguments(n: int) -> tuple[Any, ...]:
        return tuple(example(lemma, {**_SIZES, "n": n}))

    name = f"{lemma.name}/{error}"
    return Mutant(name, lemma.name, op, lemma.primal, arguments, True, lemma.shapes, lemma.positive)


def _of(name: str, errors: Mapping[str, Change]) -> tuple[Mutant, ...]:
    """The lemma's primal with its right cotangents, but for what is changed in them."""
    lemma = _LEMMAS[name]

    def rule(change: Change) -> Callable[..., Any]:
        def backward(args: tuple[Any, ...], dy: Any) -> tuple[Any, ...]:
            floats = [a for a in args if jnp.issubdtype(a.dtype, jnp.floating)]
            masks = args[len(floats) :]  # they come last, and have no cotangent
            right = jax.vjp(lambda *floats: lemma.primal(*floats, *masks), *floats)[1](dy)
            return *change(args, dy, right), *(None for _ in masks)

        op = jax.custom_vjp(lambda *args: lemma.primal(*args))
        op.defvjp(lambda *args: (lemma.primal(*args), args), backward)
        return op

    return tuple(_mutant(lemma, error, rule(change)) for error, change in errors.items())


def _vjp(function: Callable[..., Any], args: tuple[Any, ...], dy: Any) -> tuple[Any, ...]:
    return jax.vjp(function, *args)[1](dy)


def _x_hat(x: Any, mean: Any, var: Any, eps: Any) -> Any:
    return (x - mean) * jax.lax.rsqrt(var + eps)


def _shard_by_shard(x: Any, gamma: Any, beta: Any, eps: Any) -> Any:
    return jax.vmap(lambda shard: batch_norm_primal(shard, gamma, beta, eps))(x)


def _batch_x_hat(x: Any, eps: Any) -> Any:
    mean = jnp.mean(x)
    return _x_hat(x, mean, jnp.mean(jnp.square(x - mean)), eps)


def _wrong_pushforward(wrong: Callable[..., Any]) -> Callable[..., Any]:
    """The pushforward plus what `wrong` says of (x̂, istd, γ, the tangents)."""

    def op(x, gamma, eps, x_dot, gamma_dot, beta_dot, eps_dot):
        mean = jnp.mean(x)
        istd = jax.lax.rsqrt(jnp.mean(jnp.square(x - mean)) + eps)
        right = _LEMMAS["pushforward"].primal(x, gamma, eps, x_dot, gamma_dot, beta_dot, eps_dot)
        return right + wrong((x - mean) * istd, istd, gamma, x_dot, gamma_dot, eps_dot)

    return op


_PUSHFORWARD = tuple(
    _mutant(_LEMMAS["pushforward"], error, _wrong_pushforward(wrong))
    for error, wrong in {
        "without the mean of ẋ": lambda x_hat, istd, gamma, x_dot, *_: gamma * istd * jnp.mean(x_dot),
        "without the term along x̂": lambda x_hat, istd, gamma, x_dot, *_: (
            gamma * istd * x_hat * jnp.mean(x_dot * x_hat)
        ),
        "ε̇ without ½": lambda x_hat, istd, gamma, x_dot, gamma_dot, eps_dot: (
            -0.5 * gamma * istd**2 * x_hat * eps_dot
        ),
    }.items()
)

_EVALUATION = _of(
    "evaluation mode",
    {
        "dx as in training": lambda args, dy, c: (
            _vjp(batch_norm_primal, (*args[:3], args[5]), dy)[0],
            *c[1:],
        ),
        "dγ from x": lambda args, dy, c: (c[0], jnp.sum(dy * args[0]), *c[2:]),
        "no cotangent of the mean": lambda args, dy, c: (*c[:3], jnp.zeros_like(c[3]), *c[4:]),
        "the variance's cotangent without ½": lambda args, dy, c: (*c[:4], 2 * c[4], c[5]),
    },
)

_MASKED = _of(
    "masked batch",
    {
        "dx of the batch without its mask": lambda args, dy, c: (
            _vjp(batch_norm_primal, args[:4], dy)[0],
            *c[1:],
        ),
        "dx 0 where masked": lambda args, dy, c: (c[0] * args[4], *c[1:]),
        "dβ over what counts": lambda args, dy, c: (*c[:2], jnp.sum(dy * args[4]), *c[3:]),
    },
)

_DEVICES = _of(
    "batch over 8 devices",
    {
        "dx with each device's own sums": lambda args, dy, c: (_vjp(_shard_by_shard, args, dy)[0], *c[1:]),
        "dx as with fixed statistics": lambda args, dy, c: (
            args[1] * jax.lax.rsqrt(jnp.var(args[0]) + args[3]) * dy,
            *c[1:],
        ),
        "dγ summed over devices twice": lambda args, dy, c: (c[0], args[0].shape[0] * c[1], *c[2:]),
    },
)

_RELU = _of(
    "batch norm and ReLU",
    {
        "ReLU forgotten": lambda args, dy, c: _vjp(batch_norm_primal, args, dy),
        "dy stopped behind the sums": lambda args, dy, c: (
            _vjp(batch_norm_primal, args, dy)[0] * (batch_norm_primal(*args) > 0),
            *c[1:],
        ),
        "x̂ > 0 for z > 0": lambda args, dy, c: _vjp(
            batch_norm_primal, args, dy * (_batch_x_hat(args[0], args[3]) > 0)
        ),
    },
)

_CONVOLUTION = _of(
    "3×3 convolution",
    {
        "dx by the kernel as it is": lambda args, dy, c: (
            _LEMMAS["3×3 convolution"].primal(dy, jnp.swapaxes(args[1], 2, 3)),
            c[1],
        ),
        "dk upside down": lambda args, dy, c: (c[0], c[1][::-1]),
        "dk a mean over images": lambda args, dy, c: (c[0], c[1] / args[0].shape[0]),
    },
)
_POOL = _of(
    "2×2 max pool",
    {
        "dy shared by the window": lambda args, dy, c: (jnp.repeat(jnp.repeat(dy / 4, 2, 1), 2, 2),),
        "dy to the first of the window": lambda args, dy, c: (
            jnp.zeros_like(args[0]).at[:, ::2, ::2].set(dy),
        ),
    },
)

_EPSILON = tuple(m for m in VECTOR if m.theorem is batch_norm and m.name.split("/")[1].startswith("ε"))

MISTAKES: dict[str, tuple[Mutant, ...]] = {
    "cotangent of ε": _EPSILON,
    "pushforward": _PUSHFORWARD,
    "evaluation mode": _EVALUATION,
    "masked batch": _MASKED,
    "batch over 8 devices": _DEVICES,
    "batch norm and ReLU": _RELU,
    "3×3 convolution": _CONVOLUTION,
    "2×2 max pool": _POOL,
}
"""The mutants of each lemma, by its name."""
