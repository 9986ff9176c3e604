"""A wrong rule of what is not evaluated exactly is refuted by what it returns; a right one is refused."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from bnjax.prove import prove_vjp
from tests.prove.rules import with_rule


def product(x):
    return jnp.prod(x)


def sort(x):
    return jnp.sort(x)


def running_product(x):
    return jnp.cumprod(x)


def log_of_determinant(a):
    return jnp.linalg.slogdet(a)[1]


def angle(y, x):
    return jnp.arctan2(y, x)


def of_angle(sign):
    def backward(args, dy):
        y, x = args
        return dy * x / (x**2 + y**2), sign * dy * y / (x**2 + y**2)

    return backward


def products_of(scan):
    def backward(args, dy):
        return (scan(dy * jnp.cumprod(args[0])) / args[0],)

    return backward


def from_the_end(x):
    return lax.cumsum(x, reverse=True)


CASES = {  # primal, right, wrong, shapes
    "prod": (
        product,
        lambda args, dy: (dy * product(*args) / args[0],),
        lambda args, dy: (dy / args[0],),
        "n",
    ),
    "sort": (
        sort,
        lambda args, dy: (dy[jnp.argsort(jnp.argsort(args[0]))],),
        lambda args, dy: (dy[jnp.argsort(args[0])],),
        "n",
    ),
    "cumprod": (running_product, products_of(from_the_end), products_of(jnp.cumsum), "n"),
    "slogdet": (
        log_of_determinant,
        lambda args, dy: (dy * jnp.linalg.inv(args[0]).T,),
        lambda args, dy: (dy * jnp.linalg.inv(args[0]),),
        "3 3",
    ),
    "arctan2": (angle, of_angle(-1), of_angle(1), "n", "n"),
}


@pytest.mark.family
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_rule_is_refuted_by_what_it_returns(name):
    primal, _, wrong, *shapes = CASES[name]
    proof = prove_vjp(with_rule(primal, wrong), primal, *shapes)
    assert proof.status == "refuted"
    found = proof.counterexample
    assert found.got is None
    assert "(in float64)" in str(found)
    got, expected = found.float64
    assert got != pytest.approx(expected, rel=1e-3)
    inputs = [jnp.array(jax.tree.map(float, found.point[a]), jnp.float32) for a in list(found.point)[1:]]
    cotangent = jnp.array(jax.tree.map(float, found.point["dy"]), jnp.float32)
    place = int(found.what == "the cotangent of x")
    back = jax.vjp(primal, *inputs)[1](cotangent)[place if len(inputs) > 1 else 0]
    assert float(back[found.index]) == pytest.approx(expected, rel=1e-3)


@pytest.mark.family
@pytest.mark.parametrize("name", CASES)
def test_a_right_rule_is_refused(name):
    primal, right, _, *shapes = CASES[name]
    proof = prove_vjp(with_rule(primal, right), primal, *shapes)
    assert proof.status == "refused"
    assert proof.counterexample is None


@pytest.mark.thorough
def test_what_differs_by_rounding_or_at_a_jump_is_not_refuted():
    """A sum in float32 loses its digits; of the numbers that are sorted two are equal wherever one looks."""

    def rounded(x):
        return jnp.sort((x.astype(jnp.float32) + 1e4 - 1e4).astype(x.dtype))

    proof = prove_vjp(
        with_rule(rounded, lambda args, dy: (dy[jnp.argsort(jnp.argsort(args[0]))],)), sort, "n"
    )
    assert proof.status == "refused"

    def pairs(x):
        return jnp.sort(jnp.concatenate([x, x]))[::2]

    def to_the_first(args, dy):
        return (dy[jnp.argsort(jnp.argsort(args[0]))],)

    assert prove_vjp(with_rule(pairs, to_the_first), pairs, "3").status == "refused"


def beside_lgamma(function):
    """Together with what is not evaluated exactly; its rule with that of `function`."""

    def primal(x, y):
        return function(x) + jax.scipy.special.gammaln(1.5 + y * y)

    def with_slope(backward):
        def whole(args, dy):
            x, y = args
            return backward(x, dy), jnp.sum(dy) * 2 * y * jax.scipy.special.digamma(1.5 + y * y)

        return with_rule(primal, whole)

    return primal, with_slope


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("function", "backward"),
    [
        (lambda x: jnp.sum(jax.nn.softmax(x)), lambda x, dy: 0 * x),
        (lambda x: jnp.linalg.norm(x / jnp.linalg.norm(x)), lambda x, dy: 0 * x),
        (
            lambda x: jax.nn.sigmoid(10 * x),
            lambda x, dy: 10 * dy * jax.nn.sigmoid(10 * x) * jax.nn.sigmoid(-10 * x),
        ),
    ],
    ids=["softmax", "norm", "saturated"],
)
def test_what_is_rounding_beside_other_numbers_is_no_refutation(function, backward):
    primal, with_slope = beside_lgamma(function)
    assert prove_vjp(with_slope(backward), primal, "3", "").status == "refused"
    wrong = with_slope(lambda x, dy: backward(x, dy) + 0.01 * dy)
    assert prove_vjp(wrong, primal, "3", "").status == "refuted"


@pytest.mark.thorough
def test_another_program_in_float64_is_no_refutation():
    """The claim is of what is traced, in float32."""
    primal, with_slope = beside_lgamma(lambda x: x * x)
    op = with_slope(lambda x, dy: dy * 2 * x * (1 if x.dtype == jnp.float32 else 2))
    assert prove_vjp(op, primal, "3", "").status == "refused"


def test_a_start_below_zero_is_moved_to_zero_when_evaluated_exactly():
    def first(x):
        return jax.lax.dynamic_slice(x, (-x.shape[0] - 1,), (1,))

    op = with_rule(first, lambda args, dy: (jnp.zeros_like(args[0]).at[0].set(dy[0]),))
    assert "evaluated exactly" not in prove_vjp(op, first, "N").reason


def test_a_value_that_differs_is_refuted():
    op = with_rule(lambda x: jnp.sort(x)[::-1], lambda args, dy: (0 * args[0],))
    proof = prove_vjp(op, sort, "3")
    assert proof.status == "refuted"
    assert "output" in proof.reason


@pytest.mark.thorough
def test_an_embedding_that_sets_where_it_must_add_is_refuted():
    """Of what is set twice the machine keeps one: which, no exact evaluation knows."""

    def looked_up(table, ids):
        return table[ids]

    def backward(args, dy, add):
        rows = jnp.zeros_like(args[0]).at[args[1]]
        return (rows.add(dy) if add else rows.set(dy)), None

    for add, status in ((True, "proved"), (False, "refuted")):
        op = with_rule(looked_up, lambda args, dy, add=add: backward(args, dy, add))
        assert prove_vjp(op, looked_up, "V D", "int V: N").status == status


@pytest.mark.parametrize("beyond", [20, 50, -100])
def test_a_rule_wrong_only_for_large_numbers_is_refuted(beyond):
    def backward(args, dy):
        far = args[0] > beyond if beyond > 0 else args[0] < beyond
        return (jnp.where(far, 2 * dy, 3 * args[0] ** 2 * dy),)

    assert prove_vjp(with_rule(lambda x: x**3, backward), lambda x: x**3, "n").status == "refuted"


def test_a_smallest_element_is_one_of_them():
    def least(x):
        return x.min(-1)

    def backward(args, dy, factor):
        there = args[0] == least(*args)[:, None]
        return (factor * jnp.where(there, dy[:, None], 0) / there.sum(-1, keepdims=True),)

    for factor, status in ((1, "proved"), (2, "refuted")):
        op = with_rule(least, lambda args, dy, factor=factor: backward(args, dy, factor))
        assert prove_vjp(op, least, "N D").status == status
