"""Networks as data: the chapter's two, what they build, and what is refused at which layer."""

import json
import re

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from bnjax.errors import UserError
from bnjax.models import CIFAR_CNN_BN, CIFAR_CNN_NO_BN, CifarCNN, NetSpec, parameter_count
from bnjax.spec import conv2d, conv_bn, dense, flatten, max_pool, read, relu

CHAPTERS = [(CIFAR_CNN_BN, "batch", 2_431_210), (CIFAR_CNN_NO_BN, "none", 2_431_018)]
SMALL = NetSpec(
    "small", [conv_bn(3, 8, 5, stride=2), max_pool(3, 2), conv2d(8, 4, 1), flatten(), dense(196, 10)]
)


@pytest.mark.parametrize(("spec", "norm", "count"), CHAPTERS)
def test_parameter_counts_are_the_chapters(spec, norm, count):
    assert spec.parameter_count() == count
    assert spec.norm == norm


def test_the_two_are_four_lines_apart():
    pairs = [(a, b) for a, b in zip(CIFAR_CNN_BN.layers, CIFAR_CNN_NO_BN.layers, strict=True) if a != b]
    assert pairs == [
        (conv_bn(i, o, 3, stride=1), conv2d(i, o, 3, relu))
        for i, o in ((3, 32), (32, 32), (32, 64), (64, 64))
    ]


@pytest.mark.parametrize(("spec", "norm", "count"), CHAPTERS)
def test_what_they_build_is_the_class(spec, norm, count):
    """To the last bit, from the same seed, training and evaluation."""
    built, own = spec.build("glorot", rngs=nnx.Rngs(3)), CifarCNN(norm, "glorot", rngs=nnx.Rngs(3))
    assert parameter_count(built) == count
    images = jnp.asarray(np.random.default_rng(0).normal(size=(4, 32, 32, 3)), jnp.float32)
    np.testing.assert_array_equal(built(images), own(images))
    built.eval()
    own.eval()
    np.testing.assert_array_equal(built(images), own(images))


@pytest.mark.thorough
def test_shapes_and_counts_are_those_of_what_is_built():
    assert SMALL.shapes() == [(16, 16, 8), (7, 7, 8), (7, 7, 4), (196,), (10,)]
    built = SMALL.build(rngs=nnx.Rngs(0))
    assert parameter_count(built) == SMALL.parameter_count()
    x, shapes = jnp.ones((2, 32, 32, 3)), []
    for layer in built.layers:
        x = layer(x)
        shapes.append(x.shape[1:])
    assert shapes == SMALL.shapes()


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ([conv_bn(3, 32, 3), conv2d(16, 8, 3)], "layer 2 of net, conv2d(inputs=16, outputs=8, kernel=3"),
        ([conv_bn(3, 32, 3), conv2d(16, 8, 3)], "takes an image of 16 channels, and gets (32, 32, 32)"),
        ([dense(3072, 10)], "layer 1 of net, dense(inputs=3072, outputs=10, activation='identity'), takes"),
        ([flatten(), dense(3072, 8), dense(9, 10)], "takes 9 numbers, and gets (8,)"),
        ([flatten(), conv_bn(3, 32, 3)], "takes an image of 3 channels, and gets (3072,)"),
        ([max_pool(33, 1)], "takes an image of at least 33 by 33, and gets (32, 32, 3)"),
        ([flatten(), max_pool(2, 2)], "takes an image of at least 2 by 2, and gets (3072,)"),
        (
            [conv_bn(3, 0, 3)],
            "layer 1 of net, conv_bn(inputs=3, outputs=0, kernel=3, stride=1): outputs must",
        ),
        ([max_pool(2, 0)], "stride must be an integer from 1 on"),
        ([conv_bn(3, 8, 2.0)], "kernel must be an integer from 1 on"),  # type: ignore[arg-type]
        ([conv2d(3, 8, 3, "tanh")], "activation must be one of relu"),  # type: ignore[arg-type]
        (["conv"], "layer 1 of net, conv, is none of conv2d, conv_bn, max_pool, flatten, dense"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_at_the_layer(layers, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        NetSpec("net", layers)


@pytest.mark.parametrize("shape", [(0, 32, 3), (32.0, 32, 3), (-1,)])
def test_an_image_of_no_size_is_refused(shape):
    with pytest.raises(ValueError, match="input_shape of net must be of integers from 1 on"):
        NetSpec("net", [flatten()], shape)


@pytest.mark.parametrize("spec", [CIFAR_CNN_BN, CIFAR_CNN_NO_BN, SMALL])
def test_there_and_back(spec):
    assert NetSpec.from_json(json.loads(json.dumps(spec.as_json()))) == spec
    assert hash(spec) == hash(NetSpec.from_json(spec.as_json()))


def test_another_init_is_refused():
    with pytest.raises(ValueError, match=r"init must be one of .*got 'zero'"):
        SMALL.build("zero", rngs=nnx.Rngs(0))


def test_a_spec_is_read_from_a_file(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "from bnjax.models import *\nMINE = NetSpec('mine', [flatten(), dense(3072, 10)])\nX = 3\n"
    )
    assert read(f"{file}:MINE") == NetSpec("mine", [flatten(), dense(3072, 10)])
    broken = tmp_path / "broken.py"
    broken.write_text("from bnjax.models import *\nMINE = NetSpec('mine', [dense(3, 10)])\n")
    for where, message in [
        (f"{file}", "must be FILE.py:NAME"),
        (f"{file}:", "must be FILE.py:NAME"),
        ("nowhere.py:MINE", "there is no file nowhere.py"),
        (f"{file}:YOURS", "there is no NetSpec called YOURS"),
        (f"{file}:X", "there is no NetSpec called X"),
        (f"{broken}:MINE", "ValueError: layer 1 of mine, dense(inputs=3, outputs=10"),
    ]:
        with pytest.raises(UserError, match=re.escape(message)) as caught:
            read(where)
        assert "\n" not in str(caught.value)
