"""PyTorch's weights in our layers and back; PyTorch itself where it is installed."""

import subprocess
import sys

import numpy as np
import pytest
from flax import linen, nnx

import bnjax.nn.linen
import bnjax.nn.nnx
from bnjax.nn.torch import batch_norm_state, batch_norm_state_dict

CHANNELS = 5


def torch_like(prefix="", seed=0):
    """A state dict as torch.nn.BatchNorm2d(5) has it."""
    rng = np.random.default_rng(seed)
    return {
        f"{prefix}weight": rng.normal(size=CHANNELS).astype(np.float32),
        f"{prefix}bias": rng.normal(size=CHANNELS).astype(np.float32),
        f"{prefix}running_mean": rng.normal(size=CHANNELS).astype(np.float32),
        f"{prefix}running_var": rng.uniform(0.5, 2, size=CHANNELS).astype(np.float32),
        f"{prefix}num_batches_tracked": np.asarray(7),
    }


def evaluated(state_dict, x, prefix=""):
    """PyTorch's formula in evaluation mode, channels last, in float64."""
    weight, bias, mean, var = (
        np.asarray(state_dict[prefix + name], np.float64)
        for name in ("weight", "bias", "running_mean", "running_var")
    )
    return (x - mean) / np.sqrt(var + 1e-5) * weight + bias


X = np.random.default_rng(1).normal(size=(4, 3, 3, CHANNELS)).astype(np.float32)


@pytest.mark.parametrize("prefix", ["", "layer1.0.bn1."])
def test_an_nnx_layer_evaluates_as_pytorch(prefix):
    theirs = torch_like(prefix) | {"fc.weight": np.ones((2, 2))}
    layer = bnjax.nn.nnx.BatchNorm(CHANNELS, rngs=nnx.Rngs(0))
    nnx.update(layer, batch_norm_state(theirs, prefix))
    got = layer(X, use_running_average=True)
    np.testing.assert_allclose(got, evaluated(theirs, X, prefix), rtol=1e-5, atol=1e-5)


def test_a_linen_layer_evaluates_as_pytorch():
    theirs = torch_like()
    state = batch_norm_state(theirs)
    variables = {
        "params": {name: state[name] for name in ("scale", "bias")},
        "batch_stats": {name: state[name] for name in ("mean", "var")},
    }
    for layer in (bnjax.nn.linen.BatchNorm, linen.BatchNorm):
        got = layer(use_running_average=True).apply(variables, X)
        np.testing.assert_allclose(got, evaluated(theirs, X), rtol=1e-5, atol=1e-5)


def test_there_and_back_is_the_same():
    theirs = torch_like("bn.")
    layer = bnjax.nn.nnx.BatchNorm(CHANNELS, rngs=nnx.Rngs(0))
    nnx.update(layer, batch_norm_state(theirs, "bn."))
    back = batch_norm_state_dict(nnx.state(layer), "bn.")
    assert set(back) == set(theirs)
    for name in set(theirs) - {"bn.num_batches_tracked"}:
        np.testing.assert_array_equal(back[name], theirs[name])
    plain = batch_norm_state_dict(batch_norm_state(theirs, "bn."), "bn.")
    assert all(np.array_equal(plain[name], back[name]) for name in back)


def test_a_layer_without_scale_and_bias():
    theirs = {name: a for name, a in torch_like().items() if name not in ("weight", "bias")}
    state = batch_norm_state(theirs)
    assert set(state) == {"mean", "var"}
    layer = bnjax.nn.nnx.BatchNorm(CHANNELS, use_scale=False, use_bias=False, rngs=nnx.Rngs(0))
    nnx.update(layer, state)
    assert set(batch_norm_state_dict(nnx.state(layer))) == set(theirs)


def test_what_comes_is_a_copy():
    theirs = torch_like()
    state = batch_norm_state(theirs)
    before = {name: a.copy() for name, a in state.items()}
    theirs["running_var"] += 1  # as a step of training does, in place
    assert all(np.array_equal(state[name], before[name]) for name in state)
    back = batch_norm_state_dict(state)
    state["mean"] += 1
    np.testing.assert_array_equal(back["running_mean"], before["mean"])


@pytest.mark.parametrize("prefix", ["bn2.", "bn"])
def test_where_no_batch_norm_is_it_says_what_is(prefix):
    with pytest.raises(KeyError, match=r"running_mean.*bn1\.bias"):
        batch_norm_state(torch_like("bn1."), prefix)


def test_a_convolution_is_no_batch_norm():
    with pytest.raises(ValueError, match="one number a channel"):
        batch_norm_state(torch_like() | {"weight": np.ones((3, 3, 2, CHANNELS))})


def test_a_state_without_statistics_is_refused():
    with pytest.raises(KeyError, match="no var"):
        batch_norm_state_dict({"scale": np.ones(3), "mean": np.ones(3)})


def test_pytorch_is_not_imported():
    code = "import sys, bnjax.nn.torch; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_pytorchs_own_module_agrees():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    module = torch.nn.BatchNorm2d(CHANNELS)
    module.load_state_dict({name: torch.tensor(a) for name, a in torch_like().items()})
    layer = bnjax.nn.nnx.BatchNorm(CHANNELS, momentum=1 - module.momentum, rngs=nnx.Rngs(0))
    nnx.update(layer, batch_norm_state(module.state_dict()))
    images = torch.tensor(X).permute(0, 3, 1, 2)
    expected = module.eval()(images).permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(layer(X, use_running_average=True), expected, rtol=1e-5, atol=1e-5)
    module.train()(images)  # one step of the running statistics, each in its own convention
    layer(X, use_running_average=False)
    moved = module.state_dict()
    np.testing.assert_allclose(layer.mean[...], moved["running_mean"], rtol=1e-5, atol=1e-6)
    before, count = torch_like()["running_var"], X[..., 0].size
    unbiased = before * 0.9 + (np.asarray(layer.var[...]) - before * 0.9) * count / (count - 1)
    np.testing.assert_allclose(unbiased, moved["running_var"], rtol=1e-5)
    back = {n: torch.tensor(a) for n, a in batch_norm_state_dict(nnx.state(layer)).items()}
    module.load_state_dict(back)
