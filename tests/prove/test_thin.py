"""Comparisons of an array with itself, of sizes, of what is zero at some sizes only: no wrong rule passes.

The kinks that a proof leaves out must be thin at every size and for all indices.
"""

import jax
import jax.numpy as jnp
import pytest

from bnjax.prove import comparisons, prove_vjp
from bnjax.prove.algebra import Atom
from bnjax.prove.field import Field
from bnjax.prove.thin import exceptions, is_thin
from tests.prove.rules import with_rule


def doubled(larger, than, or_equal=False):
    """2x where larger(x) > than(x), else x; its slope `or_equal`, ≥ for >."""

    def primal(x):
        return jnp.where(larger(x) > than(x), 2 * x, x)

    def backward(args, dy):
        compare = jnp.greater_equal if or_equal else jnp.greater
        return (jnp.where(compare(larger(*args), than(*args)), 2 * dy, dy),)

    return with_rule(primal, backward), primal


def ranked(compare):
    def rank(x, compare):
        return jnp.sum(compare(x[..., :, None], x[..., None, :]), -1)

    def primal(x):
        return x * rank(x, jnp.greater)

    return with_rule(primal, lambda args, dy: (dy * rank(*args, compare),)), primal


ITSELF = {
    "x and its transpose, 3 3": (lambda x: x, lambda x: x.T, "3 3"),
    "x and its transpose, n n": (lambda x: x, lambda x: x.T, "n n"),
    "x and its transpose, N 4 4": (lambda x: x, lambda x: x.swapaxes(1, 2), "N 4 4"),
    "x and its first": (lambda x: x, lambda x: x[0], "4"),
    "x and its last column": (lambda x: x, lambda x: x[:, 2:], "n 3"),
}


@pytest.mark.family
@pytest.mark.parametrize("name", ITSELF)
def test_an_element_is_never_larger_than_itself(name):
    larger, than, shape = ITSELF[name]
    assert prove_vjp(*doubled(larger, than), shape).status == "proved"
    assert prove_vjp(*doubled(larger, than, or_equal=True), shape).status == "refuted"


@pytest.mark.family
@pytest.mark.parametrize("shape", ["3", "n", "n 4"])
def test_the_rank_of_an_element_does_not_count_itself(shape):
    assert prove_vjp(*ranked(jnp.greater), shape).status == "proved"
    assert prove_vjp(*ranked(jnp.greater_equal), shape).status == "refuted"


SIZES = {
    "√n and 20": (lambda x: jnp.sqrt(1.0 * x.shape[0]), lambda x: 20.0, "n"),
    "log n and log 400": (lambda x: jnp.log(1.0 * x.shape[0]), lambda x: jnp.log(400.0), "n"),
    "1/(n + 1) and 1/16": (lambda x: 1 / (x.shape[0] + 1.0), lambda x: 0.0625, "n"),
    "√n·x and 20·x": (lambda x: jnp.sqrt(1.0 * x.shape[0]) * x, lambda x: 20 * x, "n"),
    "x and its mean, equal at n = 1": (lambda x: x, lambda x: x.mean(), "n"),
    "its third moment, 0 at n = 2": (
        lambda x: jnp.sum((x - x.mean()) ** 3), lambda x: (2 - x.shape[0]) * x.sum(), "n"
    ),
    "a sum, and what it is at (1, 4)": (
        lambda x: x.sum(0), lambda x: x - (x.shape[1] - 4.0) * x, "n m"
    ),
}  # fmt: skip


@pytest.mark.family
@pytest.mark.parametrize("name", SIZES)
def test_what_is_equal_at_one_size_is_no_kink_there(name):
    """At that size the rule is wrong for every x."""
    assert prove_vjp(*doubled(*SIZES[name][:2], or_equal=True), SIZES[name][2]).status in (
        "refused",
        "refuted",
    )


def test_a_kink_at_most_sizes_is_one_at_them():
    proof = prove_vjp(*doubled(lambda x: x, lambda x: x.mean()), "n")
    assert proof.status == "proved"
    assert proof.kinks


@pytest.mark.family
@pytest.mark.parametrize(
    "of",
    [
        lambda n, y: 1 / (1 + n * y * y),
        lambda n, y: jnp.exp(n * y),
        lambda n, y: jnp.log(1 + n * y * y),
        lambda n, y: jnp.sqrt(1 + n * y * y),
    ],
)
def test_what_a_size_inside_of_a_function_makes_equal_is_no_kink(of):
    """At n = 50, which nobody traces, it is 0 for every y."""

    def primal(x, y):
        return jnp.where(of(x.shape[0], y) - of(50, y) == 0, y, 2 * y)

    wrong = with_rule(primal, lambda args, dy: (0 * args[0], 2 * dy))
    assert prove_vjp(wrong, primal, "n", "").status in ("refused", "refuted")


@pytest.mark.parametrize("branches", [False, True])
def test_an_identity_that_is_not_seen_is_no_kink_at_the_sizes_that_have_it(branches):
    """log(cosh 2y + 1) = 2·log cosh y + log 2; what is added at n = 2 says nothing of the others."""

    def primal(x, y):
        zero = jnp.log(jnp.cosh(2 * y) + 1) - 2 * jnp.log(jnp.cosh(y)) - jnp.log(2.0)
        return jnp.where(zero + (1 if branches and x.shape[0] == 2 else 0) == 0, y, 2 * y)

    wrong = with_rule(primal, lambda args, dy: (0 * args[0], 2 * dy))
    assert prove_vjp(wrong, primal, "n", "").status == "refused"


def test_a_batch_norm_that_is_compared_has_a_kink():
    """Its standard deviation has the size inside; where γ is 0 it is β."""

    def primal(x, gamma, beta):
        deviation = jnp.sqrt(jnp.var(x, 0) + 1)
        return jax.nn.relu(gamma * (x - jnp.mean(x, 0)) / deviation + beta)

    proof = prove_vjp(primal, primal, "n c", "c", "c")
    assert proof.status == "proved"
    assert "nearby" not in proof.kinks[0]


@pytest.mark.parametrize("sign", [1, -1])
def test_a_one_pass_variance_that_is_clipped_has_a_thin_kink(sign):
    """ε is written t² − σ², and then a size is inside of an atom; where it is written out it is not."""

    def scaled(x):
        mean = x.mean(0)
        variance = jnp.maximum((x * x).mean(0) - mean**2, 0)
        return (x - mean) / jnp.sqrt(variance + 1e-5)

    def backward(args, dy):
        (x,) = args
        centered = x - x.mean(0)
        istd = 1 / jnp.sqrt((centered**2).mean(0) + 1e-5)
        y = centered * istd
        return (istd * (dy - dy.mean(0) - sign * y * (dy * y).mean(0)),)

    proof = prove_vjp(with_rule(scaled, backward), scaled, "N D")
    assert proof.status == ("proved" if sign > 0 else "refuted"), str(proof)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "equal_at_one",
    [
        lambda x: jnp.exp(x.sum()) - jnp.exp(x),
        lambda x: jnp.sin(x.sum() - x),
        lambda x: jnp.tanh(x.sum()) - jnp.tanh(x),
        lambda x: jnp.sqrt(1 + x.sum() ** 2) - jnp.sqrt(1 + x * x),
        lambda x: jnp.arctan(x.sum() ** 2 - (x * x).sum()),
    ],
)
def test_what_a_sum_inside_of_a_function_makes_equal_is_no_kink(equal_at_one):
    """At n = 1 the sum is its element, and the primal x for every x."""

    def primal(x):
        return jnp.where(equal_at_one(x) > 0, x, 2 * x)

    def backward(args, dy):
        return (jnp.where(equal_at_one(args[0]) >= 0, dy, 2 * dy),)

    assert prove_vjp(with_rule(primal, backward), primal, "n").status in ("refused", "refuted")


@pytest.mark.parametrize(
    "tied",
    [
        lambda x: jnp.sin(x[:, None] - x),
        lambda x: jnp.tanh(x[:, None] * x) - jnp.tanh(x * x)[:, None],
        lambda x: (jnp.sin(2 * x) - 2 * jnp.sin(x) * jnp.cos(x))[:, None],
    ],
)
def test_a_comparison_is_decided_somewhere_in_its_region(tied):
    """Where n ≥ 6 there are ties for all data; that it is decided below says nothing."""

    def primal(x):
        if x.shape[0] < 6:
            return 2 * x
        return jnp.where(tied(x) > 0, x[:, None], 2 * x[:, None]).sum(1)

    def backward(args, dy):
        (x,) = args
        return (2 * dy if x.shape[0] < 6 else dy * jnp.where(tied(x) >= 0, 1, 2).sum(1),)

    assert prove_vjp(with_rule(primal, backward), primal, "n").status in ("refused", "refuted")


def test_a_kink_of_one_size_is_named():
    def primal(x):
        return jnp.maximum(x, 0) if x.shape[0] == 2 else x

    def backward(args, dy):
        (x,) = args
        return (dy * (x >= 0) if x.shape[0] == 2 else dy,)

    proof = prove_vjp(with_rule(primal, backward), primal, "n")
    assert (proof.status, proof.kinks) == ("proved", ("x[a] ≠ 0 at n = 2",))


def pairs_of(loss, backward):
    def primal(x):
        return jnp.sum(loss(x[:, None] - x[None]))

    return with_rule(primal, backward), primal


def slopes(compare, distance=0.0):
    def backward(args, dy):
        steep = jnp.where(compare(args[0][:, None] - args[0][None] + distance, 0), dy, 0.0)
        return (steep.sum(1) - steep.sum(0),)

    return backward


@pytest.mark.thorough
def test_losses_of_pairs():
    relu, hinge = (lambda d: jnp.maximum(d, 0)), (lambda d: jnp.maximum(d + 1, 0))
    for shape in ("4", "n"):
        assert prove_vjp(*pairs_of(relu, slopes(jnp.greater)), shape, timeout=300).status == "proved"
    assert prove_vjp(*pairs_of(hinge, slopes(jnp.greater, 1.0)), "n").status == "proved"
    assert prove_vjp(*pairs_of(hinge, slopes(jnp.greater, 2.0)), "n").status == "refuted"
    assert prove_vjp(*pairs_of(jnp.abs, slopes(jnp.greater)), "n").status == "refuted"  # half of it


def test_two_that_are_always_largest_together():
    """−x_j·x_k is the largest of all at (j, k) and at (k, j): a mask counts both."""

    def primal(x):
        return jnp.max(-x[:, None] * x[None])

    def backward(args, dy):
        (x,) = args
        mask = jnp.where(-x[:, None] * x[None] == primal(x), dy, 0.0)
        return (-(mask + mask.T) @ x,)

    assert prove_vjp(with_rule(primal, backward), primal, "3").status in ("refused", "refuted")


@pytest.mark.thorough
def test_kinks_of_a_symmetric_array():
    """One truth value at (i, j) and at (j, i); to look for its case at one of them never ended."""

    def primal(x):
        return jnp.sum(jnp.clip(x[:, None] * x[None], -1, 1))

    def backward(args, dy):
        (x,) = args
        inside = jnp.abs(x[:, None] * x[None]) < 1
        return (2 * dy * jnp.sum(jnp.where(inside, x[None], 0), 1),)

    assert prove_vjp(with_rule(primal, backward), primal, "n").status == "proved"


def test_an_empty_sum_is_not_positive():
    def primal(x):
        return 1 / (x * x + jnp.sum(jnp.ones(0)))

    proof = prove_vjp(primal, primal, "n")
    assert proof.status == "conditional"
    assert any("≠ 0" in o.claim for o in proof.obligations if not o.discharged)


@pytest.mark.thorough
def test_a_count_of_what_a_mask_keeps_in_a_mean_of_what_a_function_is_masked_by():
    """Each definition was looked at for each other."""

    def primal(z, keep):
        kept = jnp.where(keep, jax.nn.logsumexp(z, -1), 0)
        return jnp.sum(kept) / jnp.maximum(keep.sum(), 1)

    assert prove_vjp(primal, primal, "n C", "bool: n").status == "conditional"


def elementary(x, count):
    """For each pair of elements the sums of products of so many of the others, by Newton's identities."""
    sums = [jnp.sum(x**k) - x[:, None] ** k - x[None, :] ** k for k in (1, 2, 3)]
    if count == 1:
        return sums[0]
    if count == 2:
        return sums[0] ** 2 - sums[1]
    return sums[0] ** 3 - 3 * sums[0] * sums[1] + 2 * sums[2]


@pytest.mark.family
@pytest.mark.parametrize("count", [3, 2, 1])
def test_what_is_zero_for_all_data_at_a_few_more_elements_is_looked_at_there(count):
    """Beside a pair there are one or two elements at n = 3 and 4: no product of two, or three, of them."""

    def primal(x, s):
        return jnp.where(elementary(x, count) > 0, s, 0.0)

    def backward(args, dy):
        x, _ = args
        here = elementary(x, count)
        kept = here > 0 if x.shape[0] <= 3 and count == 3 else here >= 0
        return jnp.zeros_like(x), jnp.sum(jnp.where(kept, dy, 0.0))

    assert prove_vjp(with_rule(primal, backward), primal, "n", "").status != "proved"


def test_elements_and_their_sum_are_dependent_where_these_are_all_elements():
    field = Field()
    x = field.atom(Atom("x", ("n",)))
    four = sum((field.rename(x, {0: k}) for k in range(4)), field.constant(0))
    comparisons.zero(field, four - field.total(x, 0, "n"))
    assert is_thin(field, field.functions[-1])
    assert exceptions(field, field.functions[-1]) == [{"n": 4}]
