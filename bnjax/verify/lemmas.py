"""What the project claims beyond the chapter's seven theorems, in the same form; and what rests on what."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.ops.batch_norm_relu import (
    batch_norm_relu,
    batch_norm_relu_forward,
    batch_norm_relu_primal,
    batch_norm_relu_pushforward,
)
from bnjax.ops.conv import conv, conv_primal
from bnjax.ops.max_pool import max_pool, max_pool_primal
from bnjax.theorems import (
    batch_norm,
    batch_norm_inference,
    batch_norm_inference_primal,
    batch_norm_pushforward,
    sync_batch_norm,
)
from bnjax.theorems.batch_norm import batch_norm_primal
from bnjax.theorems.pushforward import pushforward
from bnjax.theorems.sync import sync_forward, sync_pushforward

# the theorems that each theorem of the chapter composes
RESTS_ON: dict[int, tuple[str, ...]] = {
    30: ("29",),
    31: ("30",),
    32: ("29", "30"),
    33: ("28",),
    34: ("32", "33"),
}


@dataclass(frozen=True)
class Lemma:
    """A claim beyond the chapter, and the functions that are it.

    Attributes:
      name: what it is called, in a few words.
      statement, hypotheses: in LaTeX, as `bnjax.Theorem`'s.
      op, primal: the function with its rule by hand, and the same in plain JAX, of the same arguments.
      shapes, positive: what `bnjax.prove_vjp` is given.
      code: the functions that are it, where `op`'s module does not say.
      rests_on: the claims that it composes, by number or name.
    """

    name: str
    statement: str
    hypotheses: str
    op: Callable[..., Any]
    primal: Callable[..., Any]
    shapes: tuple[str, ...]
    positive: tuple[int, ...] = ()
    code: tuple[Callable[..., Any], ...] = ()
    rests_on: tuple[str, ...] = ()


def _forward_mode(x, gamma, eps, x_dot, gamma_dot, beta_dot, eps_dot):
    """At β = 0: it is the same at any other."""
    primals = x, gamma, jnp.zeros_like(gamma), eps
    return batch_norm_pushforward(primals, (x_dot, gamma_dot, beta_dot, eps_dot)).y


def _forward_mode_primal(x, gamma, eps, x_dot, gamma_dot, beta_dot, eps_dot):
    primals = x, gamma, jnp.zeros_like(gamma), eps
    return jax.jvp(batch_norm_primal, primals, (x_dot, gamma_dot, beta_dot, eps_dot))[1]


def _masked(x, gamma, beta, eps, where):
    return sync_batch_norm(x, gamma, beta, eps, where=where).y


def _masked_primal(x, gamma, beta, eps, where):
    """From the definition: means over the elements that count."""
    w = where.astype(x.dtype)
    mean = jnp.sum(w * x, 0) / jnp.sum(w, 0)
    var = jnp.sum(w * jnp.square(x - mean), 0) / jnp.sum(w, 0)
    return gamma * (x - mean) / jnp.sqrt(var + eps) + beta


def _over_devices(x, gamma, beta, eps):
    def shard(x):
        return sync_batch_norm(x, gamma, beta, eps, axis_name="devices").y

    return jax.vmap(shard, axis_name="devices")(x)


LEMMAS: tuple[Lemma, ...] = (
    Lemma(
        "cotangent of ε",
        r"d\varepsilon = -\tfrac12\,\mathrm{istd}^2\,\gamma\,d\gamma",
        r"\varepsilon > 0",
        batch_norm,
        batch_norm_primal,
        ("n", "", "", ""),
        (3,),
        rests_on=("34",),
    ),
    Lemma(
        "pushforward",
        r"\dot y = \gamma\,\mathrm{istd}"
        r"\Bigl(\dot x - \overline{\dot x} - \hat x\,\overline{\dot x\,\hat x}\Bigr)"
        r" + \dot\gamma\,\hat x + \dot\beta - \tfrac12\,\gamma\,\mathrm{istd}^2\,\hat x\,\dot\varepsilon",
        r"\varepsilon > 0",
        _forward_mode,
        _forward_mode_primal,
        ("n", "", "", "n", "", "", ""),
        (2,),
        (pushforward,),
        ("34",),
    ),
    Lemma(
        "evaluation mode",
        r"dx = \gamma\,\mathrm{istd}\,dy,\quad d\gamma = \sum dy\cdot\hat x,\quad d\beta = \sum dy",
        r"\mu\ \text{and}\ \sigma^2 > 0\ \text{given},\ \varepsilon > 0",
        batch_norm_inference,
        batch_norm_inference_primal,
        ("n", "", "", "", "", ""),
        (4, 5),
        rests_on=("33",),
    ),
    Lemma(
        "masked batch",
        r"dx = g - \frac{w}{W}\sum g - \frac{w}{W}\,\hat x \sum (g\cdot\hat x),"
        r"\quad g = \gamma\,\mathrm{istd}\,dy,\quad W = \sum w",
        r"\varepsilon > 0,\ W > 0",
        _masked,
        _masked_primal,
        ("n", "", "", "", "bool: n"),
        (3,),
        (sync_forward, sync_pushforward, pushforward),
        ("pushforward",),
    ),
    Lemma(
        "batch over 8 devices",
        r"dx = g - \frac{1}{W}\Bigl(\sum g + \hat x \sum (g\cdot\hat x)\Bigr)"
        r"\ \text{with every sum over all devices},\quad g = \gamma\,\mathrm{istd}\,dy",
        r"\varepsilon > 0",
        _over_devices,
        functools.partial(batch_norm_primal, axis=(0, 1)),
        ("8 n", "", "", ""),
        (3,),
        (sync_forward, sync_pushforward, pushforward),
        ("pushforward",),
    ),
    Lemma(
        "batch norm and ReLU",
        r"dx = \text{theorem 34 of}\ dz,\quad dz = dy\cdot[z > 0],\quad z = \gamma\,\hat x + \beta",
        r"\varepsilon > 0,\ z \ne 0",
        batch_norm_relu,
        batch_norm_relu_primal,
        ("n", "", "", ""),
        (3,),
        (batch_norm_relu_forward, batch_norm_relu_pushforward),
        ("pushforward",),
    ),
    Lemma(
        "3×3 convolution",
        r"dk_{ijco} = \sum_{nhw} x_{n,\,h+i-1,\,w,\,c}\; dy_{n,\,h,\,w+1-j,\,o}",
        r"\text{stride 1, zeros beyond the edges}",
        conv,
        conv_primal,
        ("N 4 4 2", "3 3 2 2"),
    ),
    Lemma(
        "2×2 max pool",
        r"dx_{n,\,2h+i,\,2w+j,\,c} = dy_{nhwc}\ \text{where the largest is, else}\ 0",
        r"\text{the largest is taken once}",
        max_pool,
        max_pool_primal,
        ("N 4 4 C",),
    ),
)
"""The claims beyond the chapter; each stands after those that it rests on."""


def example(claim: Any, sizes: dict[str, int], seed: int = 0) -> list[np.ndarray]:
    """Arguments of a claim's shapes, drawn: float32, > 0 where the claim asks for that; masks mostly True.

    Args:
      claim: what has the attributes shapes and positive of `Lemma` and `bnjax.Theorem`.
      sizes: a number for each letter in its shapes.
    """
    rng = np.random.default_rng(seed)
    drawn: list[np.ndarray] = []
    for index, words in enumerate(claim.shapes):
        shape = [int(sizes.get(word, word)) for word in words.removeprefix("bool:").split()]
        if words.startswith("bool:"):
            drawn.append(rng.random(shape) < 0.8)
            continue
        values = rng.normal(size=shape)
        drawn.append(np.asarray(abs(values) + 0.1 if index in claim.positive else values, np.float32))
    return drawn
