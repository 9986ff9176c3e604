"""The sum algebra: its operations mean what they say, at numbers; and what it may not conclude."""

import itertools
import random

import numpy as np
import pytest

from bnjax.prove.algebra import INFINITESIMAL, Atom, Outside, Ring
from bnjax.prove.field import Field
from bnjax.prove.monomials import Entry, flatten
from bnjax.prove.signs import NONNEGATIVE, POSITIVE, UNKNOWN, sign
from tests.prove.reading import value_at

SIZES = {"n": 4, "m": 3}


@pytest.fixture
def field():
    field = Field()
    field.atom(Atom("x", ("n", "m")))
    field.atom(Atom("y", ("n", "m")))
    field.atom(Atom("g", ("m",)))
    field.atom(Atom("eps", (), positive=True))
    field.atom(Atom("w", ("n", "m"), boolean=True))
    field.size("n")
    field.size("m")
    return field


@pytest.fixture
def numbers():
    source = np.random.default_rng(0)
    return {
        "x": source.normal(size=(4, 3)),
        "y": source.normal(size=(4, 3)),
        "g": source.normal(size=3),
        "eps": np.asarray(0.7),
        "w": (source.random((4, 3)) < 0.5).astype(float),
    }


def random_poly(field, source, depth=3):
    """A random polynomial over (n, m)."""
    if depth == 0:
        name, indices = source.choice(
            [("x", (0, 1)), ("y", (0, 1)), ("g", (1,)), ("eps", ()), ("w", (0, 1)), ("n", ())]
        )
        return field.entry(name, indices)
    left, right = (random_poly(field, source, depth - 1) for _ in range(2))
    kind = source.choice(["add", "sub", "mul", "total0", "total1", "scale"])
    if kind == "add":
        return left + right
    if kind == "sub":
        return left - right
    if kind == "mul":
        return left * right
    if kind == "scale":
        return left * field.constant(source.randint(-3, 3))
    return field.total(left, 0, "n") if kind == "total0" else field.total(left, 1, "m") * right


def at(field, poly, numbers, axes=("n", "m")):
    return value_at(field, poly, numbers, axes, SIZES)


@pytest.mark.parametrize("seed", range(40))
def test_ring_operations_are_those_of_arrays(field, numbers, seed):
    source = random.Random(seed)
    p, q = random_poly(field, source), random_poly(field, source)
    a, b = at(field, p, numbers), at(field, q, numbers)
    np.testing.assert_allclose(at(field, p + q, numbers), a + b, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(at(field, p * q, numbers), a * b, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(at(field, p**2, numbers), a**2, rtol=1e-10, atol=1e-10)
    total = np.broadcast_to(a.sum(0, keepdims=True), (4, 3))
    np.testing.assert_allclose(at(field, field.total(p, 0, "n"), numbers), total, rtol=1e-10, atol=1e-10)
    swapped = value_at(field, field.rename(p, {0: 1, 1: 0}), numbers, ("m", "n"), SIZES)
    np.testing.assert_allclose(swapped, a.T, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("seed", range(20))
def test_multiplication_commutes_and_distributes_in_normal_form(field, seed):
    source = random.Random(seed)
    p, q, r = (random_poly(field, source, 2) for _ in range(3))
    assert p * q == q * p
    assert p * (q + r) == p * q + p * r
    assert (p - p).terms == {}


def test_two_indices_given_one_name_are_equal(field):
    x, y = field.entry("x", (0, 1)), field.entry("x", (1, 0))
    once = field.rename(x * y, {0: 2, 1: 2})
    assert once == field.entry("x", (2, 2), 2)
    summed = field.total(field.entry("x", (0, 1)) * field.entry("x", (0, 2)), 0, "n")
    assert field.rename(summed, {2: 1}) == field.total(field.entry("x", (0, 1), 2), 0, "n")


def test_the_names_of_bound_indices_do_not_matter(field):
    entries = [(("x", (-1, -3)), 2), (("x", (-2, -3)), 1), (("y", (-2, -4)), 1), (("g", (-4,)), 1)]
    entries = [(Entry(*entry), power) for entry, power in entries]
    sizes = {-1: "n", -2: "n", -3: "m", -4: "m"}
    expected = field.assemble(sizes, entries)
    for order in itertools.permutations((-1, -2, -3, -4)):
        names = dict(zip((-1, -2, -3, -4), order, strict=True))
        renamed = [(Entry(name, tuple(names[i] for i in indices)), p) for (name, indices), p in entries]
        assert field.assemble({names[b]: sizes[b] for b in sizes}, renamed) == expected


def test_different_sums_keep_different_names(field):
    x, y = field.entry("x", (0, 1)), field.entry("y", (0, 1))
    assert field.total(x * y, 0, "n") != field.total(x, 0, "n") * field.total(y, 0, "n")
    assert field.total(x * x, 0, "n") != field.total(x, 0, "n") ** 2
    both = field.total(field.total(x * y, 0, "n"), 1, "m")
    assert both != field.total(field.total(x, 0, "n") * field.total(y, 0, "n"), 1, "m")


def test_flatten_takes_powers_of_sums_apart(field):
    squared = field.total(field.entry("x", (0, 1)), 0, "n") ** 2
    bound, entries = flatten(next(iter(squared.terms)))
    assert len(bound) == 2
    assert field.assemble(bound, entries) == squared


def test_sum_of_one_is_the_size(field):
    one = field.constant(1)
    assert field.total(one, 0, "n") == field.size("n")
    assert field.total(one, 0, "1000003") == field.constant(1_000_003)


def test_a_boolean_is_its_own_square_and_the_infinitesimal_squares_to_zero(field):
    w, tau = field.entry("w", (0, 1)), field.entry(INFINITESIMAL)
    assert w * w == w
    assert (tau * tau).terms == {}
    assert field.entry("x", (0, 1)) ** 2 != field.entry("x", (0, 1))


def test_one_name_is_one_array(field):
    with pytest.raises(ValueError, match="declared twice"):
        field.atom(Atom("x", ("n",)))
    with pytest.raises(ValueError, match="name of an array and of a size"):
        field.size("g")


def test_the_layout_assertion_catches_a_wrong_axis(field):
    x = field.entry("x", (0, 1))
    field.check_layout(x, ("n", "m"))
    for wrong in (("m", "n"), ("n",), (), ("n", "k")):
        with pytest.raises(Outside, match="layout"):
            field.check_layout(x, wrong)
    with pytest.raises(Outside, match="layout"):  # the index that a reduction over axis 0 leaves behind
        field.check_layout(field.total(x, 0, "n"), ("m",))


def variance(field):
    x, n = field.entry("x", (0, 1)), field.entry("n", (), -1)
    mean = field.total(x, 0, "n") * n
    return field.total((x - mean) ** 2, 0, "n") * n


@pytest.mark.parametrize("shared", [True, False], ids=["eps shared", "eps per channel"])
def test_the_invariants_of_normalize(field, numbers, shared):
    """Σ x̂ = 0 and Σ x̂² = n·(1 − ε·istd²), which is where the definition of istd is used."""
    if not shared:
        field.atom(Atom("e", ("m",), positive=True))
    eps = field.entry("eps") if shared else field.entry("e", (1,))
    x, n = field.entry("x", (0, 1)), field.entry("n")
    mean = field.total(x, 0, "n") * field.entry("n", (), -1)
    istd = field.inverse(field.root(variance(field) + eps, POSITIVE), POSITIVE)
    x_hat = (x - mean) * istd
    assert field.vanishes(field.total(x_hat, 0, "n"))
    identity = field.total(x_hat**2, 0, "n") - n * (field.constant(1) - eps * istd**2)
    assert field.vanishes(identity)
    assert field.vanishes(field.total(identity * field.entry("g", (1,)), 1, "m"))
    assert not field.vanishes(identity + eps * istd)
    assert not field.vanishes(field.total(x_hat**2, 0, "n") - n)


def test_an_unsolved_root_is_cleared(field):
    a = field.entry("eps")
    p = field.constant(1) + a * field.entry("g", (0,)) * field.entry("g", (0,)) ** 2 * field.entry("n")
    p = p + a * a * field.entry("g", (0,)) ** 4  # every entry of g and ε twice: no term can be solved for
    root = field.root(p)
    assert field.definitions[0].rule is None
    inverse = field.inverse(root, POSITIVE)
    assert field.vanishes(root * root - p)
    assert field.vanishes(p * inverse**3 - inverse)
    assert not field.vanishes(p * inverse**2 - inverse)


def test_roots_of_squares_and_of_numbers(field):
    n, eps = field.entry("n"), field.entry("eps")
    assert field.root(n * n * eps**4) == n * eps**2
    assert field.root(field.constant(4)) == field.constant(2)
    root = field.root(field.constant(2))
    assert field.vanishes(root**2 - field.constant(2))
    assert not field.vanishes(root - field.constant(1))


def test_the_square_root_of_a_square_is_not_the_number(field):
    """√(x²) is |x|, not x."""
    x = field.entry("x", (0, 1))
    assert not field.vanishes(field.root(x * x) - x)


def test_the_sign_of_a_square_is_not_the_sign_of_its_root(field):
    """1/(Σx)² needs Σx ≠ 0, and does not make Σx positive: √((Σx)²) stays apart from Σx."""
    total = field.total(field.entry("x", (0, 1)), 0, "n")
    field.inverse(total**2, NONNEGATIVE)
    (defined,) = field.definitions
    assert not field.atoms[defined.name].positive
    assert not field.vanishes(field.root(total**2) - total)
    known_positive = Field()
    known_positive.atom(Atom("x", ("n",)))
    total = known_positive.total(known_positive.entry("x", (0,)), 0, "n")
    known_positive.inverse(total**2, POSITIVE)
    assert not known_positive.atoms[known_positive.definitions[0].name].positive


def test_the_sign_of_forms(field):
    x, eps, n = field.entry("x", (0, 1)), field.entry("eps"), field.entry("n")
    first, second = field.total(x, 0, "n"), field.total(x * x, 0, "n")
    assert sign(variance(field)) == NONNEGATIVE
    assert sign(variance(field) + eps) == POSITIVE
    assert sign(n * second - first**2) == NONNEGATIVE
    assert sign(x**2 + eps * n) == POSITIVE
    assert sign(field.constant(0)) == NONNEGATIVE
    for unknown in (
        x,
        x * eps,
        -eps,
        eps - x**2,
        n * second - first**2 - first**2,
        second - first**2,
        first * second,
        eps - variance(field),
        first**2 - n * second,
    ):
        assert sign(unknown) == UNKNOWN


def test_the_sign_of_what_a_rule_has_rewritten(field):
    """t² − ε is the variance again, and so not negative; t² − 2ε need not be."""
    eps = field.entry("eps")
    field.root(variance(field) + eps)
    rewritten = field.reduce(variance(field))
    assert rewritten != variance(field)
    assert sign(rewritten) == UNKNOWN
    assert field.sign(rewritten) == NONNEGATIVE
    assert field.sign(rewritten + eps) == POSITIVE
    assert field.sign(rewritten - eps) == UNKNOWN
    assert field.sign(-rewritten) == UNKNOWN


def test_obligations_are_kept(field):
    x, eps = field.entry("x", (0, 1)), field.entry("eps")
    field.inverse(x)
    field.root(x)
    field.inverse(eps)
    field.root(variance(field) + eps)
    claims = {claim: o.discharged for claim, o in field.obligations.items()}
    assert [discharged for claim, discharged in claims.items() if claim.startswith("x")] == [False, False]
    assert list(claims.values()).count(True) == 1
    with pytest.raises(Outside, match="division by zero"):
        field.inverse(x - x)
    with pytest.raises(Outside, match="square root of zero"):
        field.root(x - x)


@pytest.mark.parametrize("seed", range(30))
def test_rewriting_changes_no_value(field, numbers, seed):
    """Reduced by the rules of a variance, a count and an entry, a polynomial is the same number."""
    source = random.Random(seed)
    field.root(variance(field) + field.entry("eps"), POSITIVE)
    field.inverse(field.total(field.entry("w", (0, 1)), 0, "n"), NONNEGATIVE)
    field.inverse(field.entry("g", (0,)) + field.constant(3))
    numbers["w"][0] = 1.0
    p = random_poly(field, source, 4)
    before, after = at(field, p, numbers), at(field, field.reduce(p), numbers)
    np.testing.assert_allclose(before, after, rtol=1e-9, atol=1e-9)


def test_the_time_limit_ends_a_computation():
    ring = Ring(seconds=-1)
    ring.atom(Atom("x", ("n",)))
    with pytest.raises(Outside, match="time"):
        ring.entry("x", (0,)) * ring.entry("x", (0,))
