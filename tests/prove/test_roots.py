"""Roots of products, squares that hide in sums, norms in a row: the right ones proved, their twins not."""

import random

import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import rsqrt

from bnjax.prove import prove_vjp
from bnjax.prove.algebra import Atom
from bnjax.prove.field import Field
from bnjax.prove.squares import square_root
from bnjax.prove.vanishing import Question, vanishes
from bnjax.theorems import batch_norm
from bnjax.theorems.batch_norm import batch_norm_primal
from tests.prove.reading import value_at
from tests.prove.test_theorems import layer_norm, layer_norm_backward, rms_norm, rms_norm_backward, with_rule

SIZES = {"n": 4, "m": 3}


@pytest.fixture
def field():
    field = Field()
    for name in ("x", "y"):
        field.atom(Atom(name, ("n", "m")))
    field.atom(Atom("g", ("m",)))
    field.atom(Atom("eps", (), positive=True))
    field.atom(Atom("w", ("n", "m"), boolean=True))
    return field


def entries(field):
    x, y, w = (field.entry(name, (0, 1)) for name in ("x", "y", "w"))
    return x, y, field.entry("g", (1,)), field.entry("eps"), w


def random_poly(field, source):
    """Few terms, powers of either sign where the atom is positive, sums among the factors."""
    x, y, g, eps, _ = entries(field)
    leaves = [x, y, g, eps, field.entry("eps", (), -1), field.total(x, 0, "n"), field.total(x * y, 0, "n")]
    result = field.constant(source.randint(-2, 2))
    for _ in range(source.randint(1, 3)):
        result += source.choice(leaves) * source.choice(leaves) * field.constant(source.randint(-3, 3))
    return result


@pytest.mark.parametrize("seed", range(40))
def test_the_root_of_a_square_is_found(field, seed):
    source = random.Random(seed)
    p, q = (random_poly(field, source) for _ in range(2))
    if not (p * q).terms:
        return
    root = square_root([p * p, q * q])
    assert root in (p * q, -(p * q))
    other = p * q * p * q + field.entry("eps")
    assert square_root([other]) is None or square_root([other]) ** 2 == other
    assert square_root([p * p, field.constant(2)]) is None
    assert square_root([-(p * p)]) is None


def test_what_has_no_root(field):
    x, y, _, eps, w = entries(field)
    for p in (
        x,
        x * x + y * y,
        x * x + x * y + y * y,
        x * x - y * y,
        w,
        w + eps * eps,
        x**4 + x * x * y + y * y,
    ):
        assert square_root([p]) is None
    assert square_root([w * x * x + w]) is None  # w is its own square, but that is not looked for


def test_a_root_divides_by_nothing_new(field):
    """x² + y ≠ (x + y/(2x) − …)², and 1/x may not be."""
    x, y, _, _, _ = entries(field)
    assert square_root([x**4 + x * x * y * y + y**4]) is None
    assert square_root([x**4 + y]) is None


def test_a_root_is_not_negative(field):
    x, _, _, eps, _ = entries(field)
    p = x * x - eps  # of either sign: √(p²) is |p|
    assert not field.vanishes(field.root(p * p) - p)
    assert not field.vanishes(field.root(p * p) + p)
    assert field.vanishes(field.root((x * x + eps) ** 2) - x * x - eps)
    assert field.vanishes(field.root((-x * x - eps) ** 2) - x * x - eps)
    assert not field.vanishes(field.root(x * x) - x)


def squares(field):
    """Five positive forms: by entries alone (no term to solve for), by a sum, and a number."""
    x, y, g, eps, _ = entries(field)
    one = field.constant(1)
    return [
        one + g**2 + g**4 + eps * g**6,
        one + x * x * g**2 + x**4 * g**4,
        field.total(y * y, 0, "n") + eps,
        field.constant(2),
        x * x + y * y * eps + eps * eps,
    ]


@pytest.mark.parametrize("seed", range(8))
def test_products_of_roots_in_any_order(field, seed):
    """√(p·q) = √p·√q whatever was met first, and whether or not a term could be solved for."""
    source = random.Random(seed)
    p, q = source.sample(squares(field), 2)
    made = [p * q, p, q, p * q * q]
    source.shuffle(made)
    for value in made:
        field.root(value)
    root = field.root
    assert field.vanishes(root(p * q) - root(p) * root(q))
    assert field.vanishes(root(p * q * q) - root(p) * q)
    inverse = field.inverse(root(p * q), 2) - field.inverse(root(p), 2) * field.inverse(root(q), 2)
    assert field.vanishes(inverse)
    for wrong in (root(p) * q, -root(p) * root(q), field.constant(2) * root(p) * root(q), root(p) + root(q)):
        assert not field.vanishes(root(p * q) - wrong)


@pytest.mark.parametrize("seed", range(8))
def test_relations_of_roots_change_no_value(field, seed):
    numbers = np.random.default_rng(seed)
    arrays = {
        "x": numbers.normal(size=(4, 3)),
        "y": numbers.normal(size=(4, 3)),
        "g": numbers.normal(size=3),
        "eps": np.asarray(0.7),
        "w": np.ones((4, 3)),
    }
    source = random.Random(seed)
    p, q, r = source.sample(squares(field), 3)
    roots = [field.root(value) for value in (p * q, q * r, p * r, p, p * q * q)]
    poly = field.constant(0)
    for _ in range(4):
        term = random_poly(field, source)
        for root in source.sample(roots, 2):
            term *= root if source.random() < 0.5 else field.inverse(root, 2)
        poly += field.total(term, 0, "n") if source.random() < 0.5 else term
    before, after = (
        value_at(field, value, arrays, ("n", "m"), SIZES) for value in (poly, field.reduce(poly))
    )
    np.testing.assert_allclose(before, after, rtol=1e-9, atol=1e-9)


def test_a_sum_of_zeros(field):
    """Σ_c y_c·f_c is zero where f is, though f is known to be zero only outside of sums."""

    def is_zero(poly):
        return vanishes(field, poly, Question(frozenset({"y"})))

    x, y, g, eps, _ = entries(field)
    p = field.constant(1) + g**2 + g**4 + eps * g**6
    inverse = field.inverse(field.root(p), 2)
    zero = p * inverse**3 - inverse
    assert field.definitions[0].rule is None
    assert is_zero(zero)
    assert is_zero(field.total(field.total(y * zero, 0, "n"), 1, "m"))
    assert is_zero(field.total(field.total(y * zero * x, 0, "n"), 1, "m") + y * zero)
    for wrong in (inverse, inverse**2, p * inverse**2 - inverse):
        assert not is_zero(field.total(field.total(y * wrong, 0, "n"), 1, "m"))
    assert not is_zero(field.total(y, 0, "n") - y)
    assert not is_zero(field.total(y * x, 1, "m") - field.total(y * g, 1, "m"))


def test_a_root_of_one_case_is_in_no_relation(field):
    """√p·√q is √(p·q) where both are known to be positive, and x > 0 holds in one case alone."""
    x, _, _, eps, _ = entries(field)
    field.assumed.append(x)
    field.root(x)
    field.root(x * eps + x * x)
    field.assumed.clear()
    field.root(eps + x)
    assert field.relations == {}


# programs ------------------------------------------------------------------------------------------------


def plus(x, e):
    return x * x + e


# the op's value, the primal's, shapes; e, the last, is positive
RIGHT = {
    "√(pq), then √p·√q": (
        lambda x, y, e: jnp.sqrt(plus(x, e)) * jnp.sqrt(plus(y, e)),
        lambda x, y, e: jnp.sqrt(plus(x, e) * plus(y, e)),
    ),
    "√(p²q)": (
        lambda x, y, e: jnp.sqrt(plus(x, e) ** 2 * plus(y, e)),
        lambda x, y, e: plus(x, e) * jnp.sqrt(plus(y, e)),
    ),
    "1/√(p²q)": (
        lambda x, y, e: rsqrt(plus(y, e)) / plus(x, e),
        lambda x, y, e: rsqrt(plus(x, e) ** 2 * plus(y, e)),
    ),
    "√(p/q)": (
        lambda x, y, e: jnp.sqrt(plus(x, e) / plus(y, e)),
        lambda x, y, e: jnp.sqrt(plus(x, e) * plus(y, e)) / plus(y, e),
    ),
    "two of three": (
        lambda x, y, e: jnp.sqrt(plus(x, e) * plus(y, e)) * jnp.sqrt(plus(y, e) * plus(x + y, e)),
        lambda x, y, e: plus(y, e) * jnp.sqrt(plus(x + y, e) * plus(x, e)),
    ),
    "√(n·p)": (
        lambda x, y, e: y * jnp.sqrt(x.shape[0]) / jnp.sqrt(jnp.sum(x * x) + x.shape[0] * e),
        lambda x, y, e: y / jnp.sqrt(jnp.mean(x * x) + e),
    ),
    "a correlation": (
        lambda x, y, e: jnp.sum(x * y) * rsqrt(jnp.sum(x * x) + e) * rsqrt(jnp.sum(y * y) + e),
        lambda x, y, e: jnp.sum(x * y) * rsqrt((jnp.sum(x * x) + e) * (jnp.sum(y * y) + e)),
    ),
    "√p², p of one sign": (lambda x, y, e: plus(x, e) * y, lambda x, y, e: jnp.sqrt(plus(x, e) ** 2) * y),
}  # fmt: skip
WRONG = {
    "√(p²), p of either sign": (
        lambda x, y, e: (x * x - e) * y,
        lambda x, y, e: jnp.sqrt((x * x - e) ** 2) * y,
    ),
    "√(x²q) as x·√q": (
        lambda x, y, e: x * jnp.sqrt(plus(y, e)),
        lambda x, y, e: jnp.sqrt(x * x * plus(y, e)),
    ),
    "√(p+q) as √p+√q": (
        lambda x, y, e: jnp.sqrt(plus(x, e)) + jnp.sqrt(plus(y, e)),
        lambda x, y, e: jnp.sqrt(plus(x, e) + plus(y, e)),
    ),
    "√(pq) as √p·q": (
        lambda x, y, e: jnp.sqrt(plus(x, e)) * plus(y, e),
        lambda x, y, e: jnp.sqrt(plus(x, e) * plus(y, e)),
    ),
    "√(pq)·√(qr) as p·√(qr)": (
        lambda x, y, e: jnp.sqrt(plus(x, e) * plus(y, e)) * jnp.sqrt(plus(y, e) * plus(x + y, e)),
        lambda x, y, e: plus(x, e) * jnp.sqrt(plus(x + y, e) * plus(y, e)),
    ),
    "−√(pq)": (
        lambda x, y, e: -jnp.sqrt(plus(x, e)) * jnp.sqrt(plus(y, e)),
        lambda x, y, e: jnp.sqrt(plus(x, e) * plus(y, e)),
    ),
}


def some(names, default):
    return [pytest.param(name, marks=() if k < default else pytest.mark.slow) for k, name in enumerate(names)]


@pytest.mark.parametrize("name", some(RIGHT, 4))
def test_products_of_roots_are_proved(name):
    proof = prove_vjp(*RIGHT[name], "n", "n", "", positive=(2,))
    assert proof.status == "proved", str(proof)


@pytest.mark.parametrize("name", some(WRONG, 3))
def test_their_twins_are_refuted(name):
    assert prove_vjp(*WRONG[name], "n", "n", "", positive=(2,)).status == "refuted"


def twice(norm, other=None, scale=1):
    """A norm of a norm, each with its own γ, β and ε."""
    return lambda x, g, b, e, h, c, f: scale * (other or norm)(norm(x, g, b, e), h, c, f)


hand_layer_norm, hand_rms_norm = (
    with_rule(layer_norm, layer_norm_backward),
    with_rule(rms_norm, rms_norm_backward),
)


def same_epsilon(norm):
    return lambda x, g, b, e, h, c: norm(norm(x, g, b, e), h, c, e)


def same_scales(norm):
    return lambda x, g, h, e, f: norm(norm(x, g, e), h, f)


def around_a_product(norm):
    return lambda x, g, b, e, w, h, c, f: norm(norm(x, g, b, e) @ w, h, c, f)


NORMS = {
    "batch norm twice": (twice(batch_norm), twice(batch_norm_primal), "n C", "C", "C", "", "C", "C", ""),
    "of one ε": (same_epsilon(batch_norm), same_epsilon(batch_norm_primal), "n C", "C", "C", "", "C", "C"),
    "of one channel": (twice(batch_norm), twice(batch_norm_primal), "n", "", "", "", "", "", ""),
    "an ε for each channel": (twice(batch_norm), twice(batch_norm_primal), "n C", *["C"] * 6),
    "layer norm twice": (twice(hand_layer_norm), twice(layer_norm), "n C", "C", "C", "", "C", "C", ""),
    "layer norm of batch norm": (
        twice(batch_norm, hand_layer_norm), twice(batch_norm_primal, layer_norm),
        "n C", "C", "C", "", "C", "C", "",
    ),
    "RMS norm twice": (same_scales(hand_rms_norm), same_scales(rms_norm), "n C", "C", "C", "", ""),
    "norm, product, norm": (
        around_a_product(batch_norm), around_a_product(batch_norm_primal),
        "n C", "C", "C", "", "C D", "D", "D", "",
    ),
}  # fmt: skip


POSITIVE = {"of one ε": (3,), "norm, product, norm": (3, 7), "RMS norm twice": (3, 4)}


@pytest.mark.thorough
@pytest.mark.parametrize("name", some(NORMS, 1))
def test_norms_in_a_row_are_proved(name):
    op, primal, *shapes = NORMS[name]
    proof = prove_vjp(op, primal, *shapes, positive=POSITIVE.get(name, (3, 6)))
    assert proof.status == "proved", str(proof)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", ["one ε for both", "ε left out", "twice as large"])
def test_wrong_norms_in_a_row_are_refuted(wrong):
    def left_out(args, dy):
        cotangents = list(layer_norm_backward(args, dy))
        cotangents[3] = 0 * cotangents[3]
        return tuple(cotangents)

    primal = twice(batch_norm_primal, layer_norm)
    op = {
        "one ε for both": lambda x, g, b, e, h, c, f: hand_layer_norm(
            batch_norm(x, g, b, e), h, c, e + 0 * f
        ),
        "ε left out": twice(batch_norm, with_rule(layer_norm, left_out)),
        "twice as large": twice(batch_norm, hand_layer_norm, 2),
    }[wrong]
    assert prove_vjp(op, primal, "n C", "C", "C", "", "C", "C", "", positive=(3, 6)).status == "refuted"
