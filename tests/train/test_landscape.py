"""Looking around while training: against first principles, and without changing what is trained."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bnjax.data import synthetic
from bnjax.models import CIFAR_CNN_BN, NetSpec, conv_bn, dense, flatten, max_pool, relu
from bnjax.train import landscape, step
from bnjax.train.config import Config
from bnjax.train.landscape import Layer, watch

SPEC = NetSpec("small", [conv_bn(3, 4, 3), max_pool(8, 8), flatten(), dense(64, 8, relu), dense(8, 10)])
CONFIG = Config(spec=SPEC, epochs=1, batch_size=16, learning_rate=0.05, momentum=0.9)


@pytest.fixture(scope="module")
def data():
    return synthetic.generate(train=64, test=20)


@pytest.fixture(scope="module")
def begun(data):
    pixels = step.standardization(data.train_images)
    look = landscape.looks(CONFIG, pixels)
    state, _ = step.create(CONFIG, pixels, total_steps=4)
    return look, state, data.train_images[:16], data.train_labels[:16]


@pytest.fixture(scope="module")
def watched(data):
    return watch(CONFIG, data, (0, 2))


@pytest.mark.thorough
def test_a_short_step_along_the_gradient_goes_down_by_its_square(begun):
    found = landscape.along(*begun, rate=1e-5)
    for length, loss in zip(landscape.LENGTHS, found["losses"], strict=True):
        drop = (found["loss"] - loss) / (1e-5 * length)
        assert drop == pytest.approx(found["gradient"] ** 2, rel=0.1)


def test_the_gradient_changes_in_proportion_to_a_short_step(begun):
    found = landscape.along(*begun, rate=1e-4)
    changes = np.array(found["changes"]) / landscape.LENGTHS
    assert changes == pytest.approx([changes[0]] * 4, rel=0.2)
    assert 0 < found["changes"][1] < 0.1 * found["gradient"]


@pytest.mark.thorough
def test_the_loss_looked_at_is_the_one_trained_on(watched):
    assert watched["points"][0]["loss"] == pytest.approx(watched["losses"][0], rel=1e-5)
    assert watched["points"][1]["loss"] == pytest.approx(watched["losses"][2], rel=1e-5)


def test_looking_changes_nothing(watched, data):
    assert watch(CONFIG, data, ())["losses"] == watched["losses"]


def test_what_is_watched_is_what_a_file_takes(watched):
    assert [point["step"] for point in watched["points"]] == [0, 2]
    assert watched["layers"] == ["conv 1", "dense 1", "dense 2"]
    assert len(watched["kernel_gradients"]) == 3
    for point in watched["points"]:
        assert (len(point["dead"]), len(point["shifts"])) == (2, 2)
    assert json.loads(json.dumps(watched, allow_nan=False)) == watched


def test_the_kernels_gradients_are_part_of_the_whole(watched):
    assert 0 < np.linalg.norm(watched["kernel_gradients"]) <= watched["points"][0]["gradient"]


@pytest.mark.thorough
def test_a_run_that_diverges_ends(data):
    spec = NetSpec("bare", [max_pool(8, 8), flatten(), dense(48, 8, relu), dense(8, 10)])
    config = Config(norm="none", spec=spec, epochs=1, batch_size=16, learning_rate=1e30)
    hot = watch(config, data, (0, 1, 2, 3))
    assert hot["losses"][-1] is None
    assert len(hot["losses"]) < 4
    assert len(hot["points"]) == len(hot["losses"]) - 1
    json.dumps(hot, allow_nan=False)


def test_units_that_are_never_on_are_dead(begun):
    look, state, images, _ = begun
    alive = look.layers(state.params, state.batch_stats, images)
    assert landscape.standing(alive)["dead"][-1] < 0.9
    flat = {path: leaf for path, leaf in nnx.to_flat_state(state.params)}
    biases = [path for path, leaf in flat.items() if path[-1] == "bias" and leaf.shape == (8,)]
    assert len(biases) == 1
    flat[biases[0]] = flat[biases[0]].replace(flat[biases[0]][...] - 1e6)
    params = nnx.from_flat_state(flat)
    found = landscape.standing(look.layers(params, state.batch_stats, images))
    assert found["dead"][-1] == 1
    assert found["spread"] == 0
    assert found["dead"][0] == landscape.standing(alive)["dead"][0]


def test_the_layers_inputs_are_what_comes_in(begun):
    look, state, images, _ = begun
    first, *_ = look.layers(state.params, state.batch_stats, images)
    assert first.mean.shape == (3,)
    pixels = step.standardization(synthetic.generate(train=64, test=20).train_images)
    expected = (images.astype(np.float32) - pixels.mean) / pixels.std
    np.testing.assert_allclose(first.mean, expected.mean((0, 1, 2)), atol=1e-5)
    np.testing.assert_allclose(first.std, expected.std((0, 1, 2)), rtol=1e-5)


def test_a_shift_is_in_standard_deviations():
    none = jnp.zeros(())
    before = Layer(jnp.array([0.0, 1.0]), jnp.array([3.0, 4.0]), none, None)
    assert landscape.shift(before, before._replace(mean=jnp.array([0.0, 2.0]))) == pytest.approx(0.2)
    assert landscape.shift(before._replace(std=jnp.zeros(2)), before) is None


@pytest.mark.thorough
def test_an_answer_that_is_the_same_for_all_has_no_spread():
    layer = Layer(jnp.zeros(1), jnp.ones(1), jnp.zeros(()), jnp.zeros((5, 10)))
    found = landscape.standing([layer, layer])
    assert (found["dead"], found["spread"]) == ([0.0], 0.0)
    assert found["confidence"] == pytest.approx(0.1)
    sure = layer._replace(outputs=100 * jnp.eye(10))
    assert landscape.standing([layer, sure])["confidence"] == pytest.approx(1)


def test_layers_are_named_as_they_come():
    dense_layers = ["dense 1", "dense 2", "dense 3"]
    assert landscape.names(CIFAR_CNN_BN) == ["conv 1", "conv 2", "conv 3", "conv 4", *dense_layers]
