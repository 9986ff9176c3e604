"""Every layer, as a function of its input and its parameters, through `check_vjp` against Flax's own."""

import flax.linen as linen
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.lax import stop_gradient

import bnjax.nn.linen
import bnjax.nn.nnx
from bnjax.check import check_vjp


def nnx_function(cls, train):
    def apply(x, scale, bias, mean, var):
        layer = cls(x.shape[-1], epsilon=0.1, use_fast_variance=False, rngs=nnx.Rngs(0))
        for name, value in {"scale": scale, "bias": bias, "mean": mean, "var": var}.items():
            setattr(layer, name, type(getattr(layer, name))(value))
        return layer(x, use_running_average=not train)

    return apply


def linen_function(cls, train):
    def apply(x, scale, bias, mean, var):
        layer = cls(use_running_average=not train, epsilon=0.1, use_fast_variance=False)
        variables = {"params": {"scale": scale, "bias": bias}, "batch_stats": {"mean": mean, "var": var}}
        return layer.apply(variables, x, mutable=["batch_stats"])[0]

    return apply


def by_batch_statistics(layer):
    """The layer with running statistics that do not reach its output."""

    def apply(x, scale, bias):
        mean = jnp.zeros(x.shape[-1], jnp.promote_types(x.dtype, jnp.float32))
        return layer(x, scale, bias, mean, mean + 1)

    return apply


@pytest.mark.family
@pytest.mark.parametrize("train", [True, False], ids=["train", "eval"])
@pytest.mark.parametrize(
    ("function", "ours", "flaxs"),
    [
        (nnx_function, bnjax.nn.nnx.BatchNorm, nnx.BatchNorm),
        (linen_function, bnjax.nn.linen.BatchNorm, linen.BatchNorm),
    ],
    ids=["nnx", "linen"],
)
def test_layer_has_the_vjp_of_flaxs(function, ours, flaxs, train):
    rng = np.random.default_rng(0)
    x, scale, bias, mean = (rng.normal(size=s).astype(np.float32) for s in ((4, 3, 3, 2), 2, 2, 2))
    var = rng.uniform(0.5, 2, 2).astype(np.float32)
    ours, flaxs = function(ours, train), function(flaxs, train)
    if train:
        report = check_vjp(by_batch_statistics(ours), by_batch_statistics(flaxs), x, scale, bias)
    else:
        report = check_vjp(ours, flaxs, x, scale, bias, mean, var)
    assert report.ok, report


@pytest.mark.thorough
def test_a_layer_that_forgets_the_statistics_is_refused():
    """Evaluation mode's one-term rule in the place of training's three."""
    frozen = nnx_function(bnjax.nn.nnx.BatchNorm, False)
    right = by_batch_statistics(nnx_function(bnjax.nn.nnx.BatchNorm, True))

    def wrong(x, scale, bias):
        mean, var = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
        return frozen(x, scale, bias, *stop_gradient((mean, var)))

    rng = np.random.default_rng(0)
    x, scale, bias = (rng.normal(size=s).astype(np.float32) for s in ((4, 3, 3, 2), 2, 2))
    report = check_vjp(wrong, right, x, scale, bias)
    assert any(f.stage == "value" and f.argument for f in report.failures), report
