"""The Flax layers, as the models call them, proved: training and evaluation, NHWC images."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

pytest.importorskip("flax")
from flax import nnx

from bnjax.nn import linen as bnjax_linen
from bnjax.nn import nnx as bnjax_nnx
from bnjax.prove import prove_vjp
from bnjax.theorems.batch_norm import batch_norm_primal
from bnjax.theorems.inference import batch_norm_inference_primal

AXES = (0, 1, 2)
EPSILON = 1e-5
MOMENTUM = 0.99
CHANNELS = 3


def linen_primal(x, scale, bias, mean, var):
    """y, and the running statistics, moved towards the batch's, which are functions of x."""
    y = batch_norm_primal(x, scale, bias, EPSILON, axis=AXES)
    batch_mean = jnp.mean(x, AXES)
    batch_var = jnp.mean(jnp.square(x - batch_mean), AXES)
    moved = [
        MOMENTUM * running + (1 - MOMENTUM) * batch
        for running, batch in ((mean, batch_mean), (var, batch_var))
    ]
    return y, *moved


def nnx_primal(*args):
    """The same; what is written to the layer's state is a constant to the derivative."""
    y, *moved = linen_primal(*args)
    return y, *lax.stop_gradient(moved)


def evaluation_primal(x, scale, bias, mean, var):
    return batch_norm_inference_primal(x, scale, bias, mean, var, EPSILON, axis=AXES)


def linen_layer(training):
    layer = bnjax_linen.BatchNorm(use_running_average=not training, epsilon=EPSILON, momentum=MOMENTUM)

    def call(x, scale, bias, mean, var):
        variables = {
            "params": {"scale": scale, "bias": bias},
            "batch_stats": {"mean": mean, "var": var},
        }
        y, updates = layer.apply(variables, x, mutable=["batch_stats"])
        moved = updates["batch_stats"]
        return (y, moved["mean"], moved["var"]) if training else y

    return call


def nnx_layer(training):
    made = bnjax_nnx.BatchNorm(CHANNELS, epsilon=EPSILON, momentum=MOMENTUM, rngs=nnx.Rngs(0))
    graph, state = nnx.split(made)

    def call(x, scale, bias, mean, var):
        names = {"scale": scale, "bias": bias, "mean": mean, "var": var}
        leaves = [names[name] for name in sorted(names)]  # the order of a state's leaves
        layer = nnx.merge(graph, jax.tree.unflatten(jax.tree.structure(state), leaves))
        y = layer(x, use_running_average=not training)
        return (y, layer.mean[...], layer.var[...]) if training else y

    return call


LAYERS = {"linen": linen_layer, "nnx": nnx_layer}
PRIMALS = {"linen": linen_primal, "nnx": nnx_primal}
SHAPES = ["N H W 3", "3", "3", "3", "3"]  # the channels of a layer are a number


@pytest.mark.parametrize("layer", LAYERS)
def test_training_mode_is_proved(layer):
    proof = prove_vjp(LAYERS[layer](True), PRIMALS[layer], *SHAPES, positive=(4,))
    assert proof.status == "proved", str(proof)


@pytest.mark.parametrize("layer", LAYERS)
def test_evaluation_mode_is_proved(layer):
    proof = prove_vjp(LAYERS[layer](False), evaluation_primal, *SHAPES, positive=(4,))
    assert proof.status == "proved", str(proof)


@pytest.mark.parametrize("layer", LAYERS)
def test_one_mode_is_not_the_other(layer):
    training = LAYERS[layer](True)

    def output_only(*args):
        return training(*args)[0]

    proof = prove_vjp(output_only, evaluation_primal, *SHAPES, positive=(4,))
    assert proof.status == "refuted"
