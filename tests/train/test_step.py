"""The step, the epoch and the evaluation, on a handful of generated images."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import ops
from bnjax.data import synthetic
from bnjax.spec import NetSpec, conv_bn, dense, flatten
from bnjax.train import step
from bnjax.train.config import Config

BATCH = 8
THIN = NetSpec("thin", [conv_bn(3, 4, 3, stride=4), flatten(), dense(256, 10)])  # compiled in a second


@pytest.fixture(scope="module")
def data():
    return synthetic.generate(train=40, test=30)


def create(data, options=None, **recipe):
    recipe = {"norm": "batch", "init": "glorot", "learning_rate": 0.05, "momentum": 0.0, "seed": 0} | recipe
    return step.create(Config(**recipe), step.standardization(data.train_images), options, total_steps=10)


def epoch(data, scan=False, epochs=1, **options):
    state, steps = create(data, **options)
    losses: list[float] = []
    for number in range(epochs):
        indices = step.epoch_indices(0, number, len(data.train_images), BATCH)
        state, new = step.train_epoch(
            steps,
            state,
            jnp.asarray(data.train_images),
            jnp.asarray(data.train_labels),
            indices,
            first=len(losses),
            scan=scan,
            report=lambda steps, loss: None,
        )
        losses.extend(new)
    return state, steps, np.array(losses)


def test_standardization_is_the_mean_and_std_of_each_channel():
    images = np.random.default_rng(0).integers(0, 256, (7, 4, 4, 3), np.uint8)
    images[..., 2] = 9
    mean, std = step.standardization(images)
    np.testing.assert_allclose(mean, images.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(std[:2], images.std((0, 1, 2))[:2], rtol=1e-6)
    assert std[2] == 1  # a constant channel


def test_an_epoch_is_a_permutation_without_the_last_part():
    indices = step.epoch_indices(seed=1, epoch=2, examples=43, batch_size=8)
    assert indices.shape == (5, 8)
    assert len(np.unique(indices)) == 40
    assert indices.min() >= 0
    assert indices.max() < 43


def test_the_order_depends_on_seed_and_epoch_and_nothing_else():
    def order(seed, epoch):
        return step.epoch_indices(seed, epoch, 40, 8).tolist()

    assert order(0, 1) == order(0, 1)
    assert order(0, 1) != order(0, 2)
    assert order(0, 1) != order(1, 1)


@pytest.mark.thorough
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_the_loss_falls(data, norm):
    _, _, losses = epoch(data, norm=norm, epochs=6, learning_rate=0.02)
    assert losses[-5:].mean() < losses[:5].mean() - 0.2


def test_same_seed_same_numbers_to_the_last_bit(data):
    first, second = (epoch(data, epochs=2) for _ in range(2))
    np.testing.assert_array_equal(first[2], second[2])
    for a, b in zip(jax.tree.leaves(first[0]), jax.tree.leaves(second[0]), strict=True):
        np.testing.assert_array_equal(a, b)
    assert not np.array_equal(first[2], epoch(data, epochs=2, seed=1)[2])


def test_a_scanned_epoch_is_the_loop(data):
    loop, scanned = (epoch(data, scan=s, momentum=0.9, learning_rate=1e-3) for s in (False, True))
    # sums in another order: as with the compiler options.  At 0.05 the loss would grow tenfold, and so would
    # the difference, by an amount that depends on the machine
    np.testing.assert_allclose(loop[2], scanned[2], rtol=1e-5)


def test_an_epoch_stops_at_the_first_loss_that_is_not_finite(data):
    _, _, losses = epoch(data, norm="none", learning_rate=1e10, epochs=1)
    assert 1 <= len(losses) < len(data.train_images) // BATCH
    assert np.all(np.isfinite(losses[:-1]))
    assert not np.isfinite(losses[-1])


@pytest.mark.thorough
def test_momentum_is_sgds(data):
    """One step is the same with and without; the second is not."""
    plain, heavy = (epoch(data, momentum=momentum)[2] for momentum in (0.0, 0.9))
    np.testing.assert_allclose(plain[:2], heavy[:2], rtol=1e-6)
    assert abs(plain[3] - heavy[3]) > 1e-4


def one_step(data, number=0, **options):
    """The state before a step and after, both as lists, and the gradient by plain SGD at rate 1."""
    found = []
    for recipe in (options, options | {"learning_rate": 1.0, "momentum": 0.0, "weight_decay": 0.0}):
        state, steps = create(data, **recipe)
        before = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
        state, _ = steps.train(state, data.train_images, data.train_labels, np.arange(BATCH), number)
        found.append([np.asarray(leaf) for leaf in jax.tree.leaves(state.params)])
    return before, found[0], [b - a for b, a in zip(before, found[1], strict=True)]


def test_kernels_decay_and_vectors_do_not(data):
    before, after, grads = one_step(data, weight_decay=0.3, learning_rate=0.01, spec=THIN)
    for w, new, grad in zip(before, after, grads, strict=True):
        expected = w - 0.01 * (grad + (0.3 * w if w.ndim > 1 else 0))
        np.testing.assert_allclose(new, expected, rtol=1e-4, atol=1e-6)
    assert any(w.ndim == 1 and w.any() for w in before)  # γ: a decay would be seen


def test_the_rate_falls_along_half_a_cosine(data):
    config = Config(schedule="cosine", learning_rate=0.2)
    rates = [float(step.learning_rate(config, 10)(done)) for done in (0, 5, 10)]
    np.testing.assert_allclose(rates, [0.2, 0.1, 0], atol=1e-8)
    state, steps = create(data, schedule="cosine", learning_rate=0.01, spec=THIN)
    flat, constant = create(data, learning_rate=0.01, spec=THIN)
    arguments = (data.train_images, data.train_labels, np.arange(BATCH))
    for done in range(10):
        before = [np.asarray(leaf) for leaf in jax.tree.leaves(state.params)]
        flat = flat._replace(params=jax.tree.map(jnp.copy, state.params))
        (state, _), (flat, _) = steps.train(state, *arguments), constant.train(flat, *arguments)
        moves = [
            np.concatenate([(b - a).ravel() for b, a in zip(before, map(np.asarray, leaves), strict=True)])
            for leaves in (jax.tree.leaves(state.params), jax.tree.leaves(flat.params))
        ]
        share = (1 + np.cos(np.pi * done / 10)) / 2
        np.testing.assert_allclose(moves[0] @ moves[1] / (moves[1] @ moves[1]), share, atol=2e-3)


def test_the_rate_rises_for_three_tenths_of_the_run_and_falls():
    config = Config(schedule="one-cycle", learning_rate=0.2)
    rates = [float(step.learning_rate(config, 100)(done)) for done in (0, 15, 30, 65, 100)]
    np.testing.assert_allclose(rates, [0.008, 0.104, 0.2, 0.1, 0], atol=1e-6)
    assert [float(step.learning_rate(config, 1)(0))] == pytest.approx([0.2])  # a run too short to rise in


def test_a_schedule_without_its_length_is_refused(data):
    config = Config(schedule="cosine", spec=THIN)
    state, steps = step.create(config, step.standardization(data.train_images))
    with pytest.raises(ValueError, match="needs total_steps"):
        steps.train(state, data.train_images, data.train_labels, np.arange(BATCH))


def test_smoothing_spreads_a_share_of_the_label():
    logits = jnp.asarray(np.random.default_rng(0).normal(size=(5, 10)), jnp.float32)
    labels = jnp.arange(5)
    log_p = np.asarray(jax.nn.log_softmax(logits))
    right = log_p[np.arange(5), np.arange(5)]
    np.testing.assert_allclose(step.cross_entropy(logits, labels, 0.0), -right, rtol=1e-6)
    expected = -(0.8 * right + 0.2 * log_p.mean(1))
    np.testing.assert_allclose(step.cross_entropy(logits, labels, 0.2), expected, rtol=1e-6)


@pytest.mark.thorough
def test_augmentation_is_of_the_seed_and_the_step_and_of_training_alone(data):
    state, steps = create(data, spec=THIN, augment="flip-crop")
    _, plain = create(data, spec=THIN)

    def loss(steps, number):
        copied = jax.tree.map(jnp.copy, state)
        return float(steps.train(copied, data.train_images, data.train_labels, np.arange(BATCH), number)[1])

    assert loss(steps, 3) == loss(create(data, spec=THIN, augment="flip-crop")[1], 3)
    assert len({loss(steps, number) for number in (0, 1, 2)} | {loss(plain, 0)}) == 4
    loop, scanned = (
        epoch(data, scan=s, augment="flip-crop", learning_rate=1e-3, epochs=2, spec=THIN)
        for s in (False, True)
    )
    np.testing.assert_allclose(loop[2], scanned[2], rtol=1e-5)
    state, steps, _ = loop
    found = [step.evaluate(s, state, data.test_images, data.test_labels) for s in (steps, plain)]
    assert found[0] == found[1]


@pytest.mark.thorough
def test_every_test_image_is_counted_once(data):
    state, steps, _ = epoch(data)
    whole = step.evaluate(steps, state, data.test_images, data.test_labels, batch_size=30)
    parts = step.evaluate(steps, state, data.test_images, data.test_labels, batch_size=7)
    assert whole._replace(loss=0) == parts._replace(loss=0)
    np.testing.assert_allclose(whole.loss, parts.loss, rtol=1e-5)
    half = step.evaluate(steps, state, data.test_images[:15], data.test_labels[:15])
    rest = step.evaluate(steps, state, data.test_images[15:], data.test_labels[15:])
    assert half.correct + rest.correct == whole.correct
    assert [a + b for a, b in zip(half.predicted, rest.predicted, strict=True)] == list(whole.predicted)
    assert sum(whole.predicted) == whole.images == 30
    assert whole.chance == 3


def test_logits_that_are_not_finite_are_counted(data):
    state, steps, _ = epoch(data)
    images, labels = data.test_images, data.test_labels
    assert step.evaluate(steps, state, images, labels).not_finite == 0
    spoiled = jax.tree.map(lambda a: jnp.full_like(a, jnp.nan), state.params)
    broken = step.evaluate(steps, state._replace(params=spoiled), images, labels, batch_size=7)
    assert broken.not_finite == 30
    assert np.isnan(broken.loss)


def test_evaluation_uses_the_running_statistics_and_moves_nothing(data):
    state, steps, _ = epoch(data)
    before = jax.tree.map(np.asarray, state.batch_stats)
    one_by_one = step.evaluate(steps, state, data.test_images, data.test_labels, batch_size=1)
    together = step.evaluate(steps, state, data.test_images, data.test_labels)
    assert one_by_one.correct == together.correct  # by the batch's own statistics a batch of one would say β
    for a, b in zip(jax.tree.leaves(before), jax.tree.leaves(state.batch_stats), strict=True):
        np.testing.assert_array_equal(a, b)


def test_training_moves_the_running_statistics(data):
    state, _, _ = epoch(data)
    fresh, _ = create(data)
    for moved, start in zip(
        jax.tree.leaves(state.batch_stats), jax.tree.leaves(fresh.batch_stats), strict=True
    ):
        assert np.all(np.asarray(moved) != np.asarray(start))


@pytest.mark.thorough
def test_with_the_compiler_options_a_step_is_the_same(data):
    options = step.compiler_options()
    plain, optioned = (epoch(data, options=o, learning_rate=1e-3) for o in (None, options))
    # sums in another order: 170 roundoffs of float32, as through the network, over the epoch's few steps
    np.testing.assert_allclose(plain[2], optioned[2], rtol=1e-5)


@pytest.mark.thorough
@pytest.mark.skipif(not ops.cpu.available(), reason="no kernels on this machine")
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_with_and_without_cpu_kernels_a_step_is_the_same(data, norm):
    """Where there are kernels they are taken: for y, dx and dk, but for the dx of the images."""
    found = {}
    for kernels, asked in ((True, {}), (False, {"cpu_kernels": False})):
        config = Config(norm=norm, learning_rate=1e-3)
        state, steps = step.create(config, step.standardization(data.train_images), **asked)
        args = data.train_images, data.train_labels, np.arange(BATCH)
        text = steps.train.lower(state, *args).as_text()
        assert text.count("@bnjax_convolution") == (11 if kernels else 0)
        assert text.count("@bnjax_batch_norm") == (8 if kernels and norm == "batch" else 0)
        losses = found.setdefault(kernels, [])
        for _ in range(2):  # the second loss is of what the first backward pass made
            state, loss = steps.train(state, *args)
            losses.append(float(loss))
    np.testing.assert_allclose(found[True], found[False], rtol=1e-5)  # as above
    assert found[True][1] < 0.9 * found[True][0]


def test_an_xla_that_does_not_know_the_options_goes_without(monkeypatch):
    monkeypatch.setattr(step, "_CPU_OPTIONS", {"xla_cpu_no_such_option": "1"})
    assert step.compiler_options() == {}


def test_an_interruption_while_a_loss_is_awaited_is_one():
    """NumPy makes a ValueError of whatever the float() of an array element raises."""

    class Awaited:
        def __float__(self):
            raise KeyboardInterrupt

        def __len__(self):
            raise TypeError("as a JAX scalar")

        def __getitem__(self, index):
            raise TypeError("as a JAX scalar")

    steps = step.Steps(lambda state, *_: (state, Awaited()), None, None)
    indices = np.zeros((1, 3), np.int32)
    with pytest.raises(KeyboardInterrupt):
        step.train_epoch(steps, None, None, None, indices, scan=False, report=lambda *_: None)
