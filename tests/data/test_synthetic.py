"""The embedded data set: the same bytes everywhere, balanced, and not for a linear classifier."""

import hashlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from bnjax.data import Dataset, load, synthetic
from bnjax.errors import UserError


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return load("synthetic")


def test_shapes_and_dtypes(dataset: Dataset) -> None:
    assert [(array.shape, array.dtype.name) for array in dataset] == [
        ((10_000, 32, 32, 3), "uint8"),
        ((10_000,), "int32"),
        ((2_000, 32, 32, 3), "uint8"),
        ((2_000,), "int32"),
    ]


def test_bytes_are_pinned(dataset: Dataset) -> None:
    digest = hashlib.sha256(b"".join(array.tobytes() for array in dataset)).hexdigest()
    assert digest == "b08c04c5e434776627d0435265b74b8ab86d23bffd7e183218d1637f1eef1ee2"


def test_seed_decides() -> None:
    first, again, other = (synthetic.generate(seed, 20, 10) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.train_images, again.train_images)
    assert (first.train_images != other.train_images).any()


def test_classes_are_balanced_and_shuffled(dataset: Dataset) -> None:
    np.testing.assert_array_equal(np.bincount(dataset.train_labels), 1000)
    np.testing.assert_array_equal(np.bincount(dataset.test_labels), 200)
    # Ten images of ten classes each, were the labels dealt in turn.
    assert len(np.unique(dataset.train_labels[:10])) < 10


def test_sizes_that_ten_does_not_divide() -> None:
    small = synthetic.generate(train=23, test=0)
    assert sorted(np.bincount(small.train_labels)) == [2] * 7 + [3] * 3
    assert small.test_images.shape == (0, 32, 32, 3)


def test_no_image_comes_twice(dataset: Dataset) -> None:
    images = np.concatenate([dataset.train_images, dataset.test_images])
    assert len({image.tobytes() for image in images}) == len(images)


def test_patterns_are_named_once() -> None:
    names = [name for name, _ in synthetic.PATTERNS]
    assert len(set(names)) == 10


@pytest.mark.parametrize("label", range(10))
def test_every_pattern_has_figure_and_ground(label: int, dataset: Dataset) -> None:
    images = dataset.train_images[dataset.train_labels == label][:100].astype(float)
    assert (images.std((1, 2, 3)) > 5).all()


@pytest.mark.thorough
def test_linear_classifier_fails(dataset: Dataset) -> None:
    """Logistic regression on standardized pixels, penalized as serves its test accuracy best."""
    train, test = standardized(dataset)
    weights = fit_logistic(train, jnp.asarray(dataset.train_labels), penalty=0.1)
    accuracy = float((jnp.argmax(test @ weights, 1) == dataset.test_labels).mean())
    assert 0.2 < accuracy < 0.45  # well over chance: the classifier itself works


def standardized(dataset: Dataset) -> tuple[jax.Array, jax.Array]:
    flat = [x.reshape(len(x), -1).astype(np.float32) for x in (dataset[0], dataset[2])]
    mean, std = flat[0].mean(0), flat[0].std(0)
    train, test = (jnp.asarray(np.pad((x - mean) / std, ((0, 0), (0, 1)), constant_values=1)) for x in flat)
    return train, test


def fit_logistic(inputs: jax.Array, labels: jax.Array, penalty: float) -> jax.Array:
    def loss(weights: jax.Array) -> jax.Array:
        losses = optax.softmax_cross_entropy_with_integer_labels(inputs @ weights, labels)
        return losses.mean() + penalty * (weights**2).sum()

    optimizer = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(loss)

    def step(carry: tuple, _: None) -> tuple[tuple, jax.Array]:
        weights, state = carry
        value, grad = value_and_grad(weights, state=state)
        updates, state = optimizer.update(grad, state, weights, value=value, grad=grad, value_fn=loss)
        return (weights + updates, state), value

    start = jnp.zeros((inputs.shape[1], 10))
    (weights, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), length=30)
    return weights


def test_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UserError, match=r"'mnist'.*synthetic, cifar10"):
        load("mnist")
