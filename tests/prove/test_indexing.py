"""Elements by labels and positions, windows and −∞ masks: right rules, wrong ones, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bnjax.prove import prove_vjp
from tests.prove.networks import INDEXED, softmax, softmax_back
from tests.prove.rules import with_rule

BY_DEFAULT = ("cross entropy by comparison", "causal softmax", "repeated columns", "largest of windows")
NAMES = [pytest.param(name, marks=() if name in BY_DEFAULT else pytest.mark.slow) for name in INDEXED]


@pytest.mark.parametrize("name", NAMES)
def test_a_right_rule_is_proved(name):
    row = INDEXED[name]
    proof = prove_vjp(with_rule(row.primal, row.right), row.primal, *row.shapes, timeout=120.0)
    assert proof.status == "proved", str(proof)


@pytest.mark.family
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_rule_is_refuted(name):
    row = INDEXED[name]
    for backward in row.wrong:
        proof = prove_vjp(with_rule(row.primal, backward), row.primal, *row.shapes, timeout=120.0)
        assert proof.status == "refuted", str(proof)
        assert proof.counterexample.float64[0] != proof.counterexample.float64[1]


def test_the_claim_names_the_range_of_labels():
    def primal(x, labels):
        return x[labels]

    proof = prove_vjp(primal, primal, "4", "int 4: 3")
    assert proof.status == "proved"
    assert "with integers 0 ≤ labels < 4" in proof.claim
    wrong = prove_vjp(lambda x, labels: 2 * x[labels], primal, "4", "int 4: 3")
    assert wrong.status == "refuted"
    assert all(0 <= label < 4 for label in wrong.counterexample.point["labels"])
    with pytest.raises(ValueError, match="integers of labels"):
        proof.coq()


@pytest.mark.parametrize("shape", ["int: n", "int 0: n", "float C: n", "int C D: n"])
def test_a_kind_that_cannot_be_read_is_an_error(shape):
    with pytest.raises(ValueError, match="shape 1"):
        prove_vjp(lambda x, labels: x, lambda x, labels: x, "n", shape)


def test_labels_are_not_positive():
    with pytest.raises(ValueError, match="integers"):
        prove_vjp(lambda x, labels: x, lambda x, labels: x, "n", "int 3: n", positive=(1,))


REFUSED = {
    "a label beyond the axis": (lambda x, k: x[k], "out of range"),
    "clipped": (lambda x, k: x.at[k].get(mode="clip"), "out of range"),
    "filled": (lambda x, k: jnp.take(x, k, fill_value=0), "out of range"),
    "a label plus 1": (lambda x, k: x[k + 1], "out of range"),
    "replaced by labels": (lambda x, k: x.at[k % 1].set(0.0), "rem"),
    "set where labels may be equal": (lambda x, k: x.at[k].set(0.0), "may be equal"),
    "promised to be unique": (lambda x, k: x.at[k].add(1.0, unique_indices=True), "unique"),
    "promised to be sorted": (lambda x, k: x.at[k].add(1.0, indices_are_sorted=True), "sorted"),
    "a constant out of range": (lambda x, k: x[jnp.array([0, 7])], "out of range"),
    "−∞ as a result": (lambda x, k: jnp.where(jnp.arange(4) > 1, x, -jnp.inf), "infinity"),
    "a row of −∞": (lambda x, k: softmax(jnp.where(jnp.arange(4) > 4, x, -jnp.inf)), "nothing but −∞"),
    "−∞ times 0": (lambda x, k: 0 * jnp.where(jnp.arange(4) > 1, x, -jnp.inf), "−∞"),
    "−∞ less −∞": (
        lambda x, k: jnp.where(jnp.arange(4) > 1, x, -jnp.inf) - jnp.where(jnp.arange(4) > 1, x, -jnp.inf),
        "−∞",
    ),
    "the largest beside padding": (
        lambda x, k: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), ((1, 0),)),
        "padding",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_read_is_refused_by_name(name):
    function, word = REFUSED[name]
    proof = prove_vjp(function, function, "4", "int 5: 3")
    assert proof.status == "refused", str(proof)
    assert word in proof.reason


def test_a_negative_index_counts_from_the_end():
    def primal(x, labels):
        return x[labels - 1]

    by_comparison = with_rule(primal, lambda a, dy: (jnp.roll(jax.nn.one_hot(a[1], 4), -1, 1).T @ dy, None))
    clipped = with_rule(primal, lambda a, dy: (jax.nn.one_hot(jnp.maximum(a[1] - 1, 0), 4).T @ dy, None))
    assert prove_vjp(by_comparison, primal, "4", "int 4: 3").status == "proved"
    assert prove_vjp(clipped, primal, "4", "int 4: 3").status == "refuted"


def test_what_a_scatter_drops_is_dropped():
    """A label 4 has no place among 4: the sum over all labels is not that of x."""

    def primal(x, labels):
        return jnp.zeros(4).at[labels].add(x)

    def sums(x, labels):
        return (jax.nn.one_hot(labels, 4) * x[:, None]).sum(0)

    def all_of_them(x, labels):
        return (jax.nn.one_hot(labels, 5) * x[:, None]).sum(0)[:4] + jnp.where(labels == 4, x, 0).sum() / 4

    right = with_rule(primal, lambda a, dy: ((jax.nn.one_hot(a[1], 4) * dy).sum(1), None))
    assert prove_vjp(right, sums, "3", "int 5: 3").status == "proved"
    assert prove_vjp(all_of_them, sums, "3", "int 5: 3").status == "refuted"


def test_a_mask_that_may_keep_nothing_is_a_condition():
    def primal(x, w):
        return softmax(jnp.where(w, x, -jnp.inf))

    right = with_rule(primal, lambda a, dy: (softmax_back(primal(*a), dy), None))
    proof = prove_vjp(right, primal, "n 3", "bool: n 3")
    assert proof.status == "conditional", str(proof)
    assert "the mask keeps at least one element" in proof.claim
    wrong = with_rule(primal, lambda a, dy: (softmax_back(softmax(a[0]), dy), None))
    assert prove_vjp(wrong, primal, "n 3", "bool: n 3").status == "refuted"


def test_a_mask_that_is_a_constant_array_is_known():
    mask = np.where(np.tril(np.ones((3, 3))), 0, -np.inf).astype(np.float32)

    def primal(x):
        return softmax(x + mask)

    right = with_rule(primal, lambda a, dy: (softmax_back(primal(a[0]), dy),))
    wrong = with_rule(primal, lambda a, dy: (softmax_back(softmax(a[0]), dy),))
    assert prove_vjp(right, primal, "n 3 3").status == "proved"
    assert prove_vjp(wrong, primal, "n 3 3").status == "refuted"


LOOPS = {  # what a loop over the rows does with one at a time, given and symbolic; primal, rule, shapes
    "a sum of squares": (
        lambda x: lax.fori_loop(0, x.shape[0], lambda i, s: s + x[i] ** 2, jnp.zeros_like(x[0])),
        lambda a, dy: (2 * a[0] * dy,),
        "6 D",
    ),
    "a slice": (
        lambda x: lax.dynamic_slice(x, (1, 0), (2, x.shape[1])),
        lambda a, dy: (jnp.pad(dy, ((1, 3), (0, 0))),),
        "6 D",
    ),
    "written over": (
        lambda x, y: lax.dynamic_update_slice(x, y, (9, 0)),  # moved back until it fits
        lambda a, dy: (dy.at[4:].set(0.0), dy[4:]),
        "6 D",
        "2 D",
    ),
    "an element at a label": (
        lambda x, i: x[i],
        lambda a, dy: (jnp.zeros_like(a[0]).at[a[1]].add(dy), None),
        "N D",
        "int N:",
    ),
    "an element at a label, of few": (
        lambda x, i: x[i],
        lambda a, dy: (jnp.zeros_like(a[0]).at[a[1]].add(dy), None),
        "6 3",
        "int 6:",
    ),
}


@pytest.mark.family
@pytest.mark.parametrize("name", LOOPS)
def test_elements_at_starts_that_are_computed(name):
    primal, backward, *shapes = LOOPS[name]
    assert prove_vjp(with_rule(primal, backward), primal, *shapes).status == "proved"
    wrong = with_rule(primal, lambda args, dy: (1.5 * backward(args, dy)[0], *backward(args, dy)[1:]))
    assert prove_vjp(wrong, primal, *shapes).status == "refuted"
