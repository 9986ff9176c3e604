"""Tables, deltas and choices: each law against numbers, and the laws that nothing has."""

import numpy as np
import pytest

from bnjax.prove.algebra import Atom
from bnjax.prove.field import Field
from bnjax.prove.integers import is_everywhere, label, numbers, one_hot, positions
from bnjax.prove.positions import by_position
from tests.prove.reading import value_at


def field_of(**arrays):
    field = Field()
    for name, sizes in arrays.items():
        field.atom(Atom(name, sizes))
    return field


def test_a_sum_with_a_delta_is_the_element():
    field = field_of(x=("n",))
    assert field.reduce(field.total(field.delta("n", 0, 1) * field.entry("x", (1,)), 1, "n")) == field.entry(
        "x", (0,)
    )
    apart = field.delta("n", 0, 1) * (field.entry("x", (0,)) - field.entry("x", (1,)))
    assert not field.reduce(apart).terms
    assert field.reduce(field.delta("n", 0, 1)).terms, "two positions need not be the same"


@pytest.mark.parametrize("seed", range(6))
def test_products_of_tables_are_tables(seed):
    source = np.random.default_rng(seed)
    n, m, k = source.integers(1, 5, 3)
    a, b = source.integers(-2, 3, (n, m)), source.integers(-2, 3, (m, k))
    if seed == 0:
        n = m = k = 3
        a = b = np.ones((3, 3), int) - np.eye(3, dtype=int)
    field = Field()
    product = field.table(a, (0, 2)) * field.table(b, (2, 1))
    product = field.total(product, 2, str(m)) if m > 1 else product
    sizes = (str(n), str(k))
    np.testing.assert_allclose(value_at(field, field.reduce(product), {}, sizes, {}), (a @ b))


def test_equal_tables_are_one_atom_and_others_are_not():
    field = Field()
    matrix = np.array([[0, 1, 0], [0, 0, 1]])
    assert field.table(matrix, (0, 1)) == field.table(matrix.T, (1, 0))
    assert field.table(matrix, (0, 1)) != field.table(matrix[::-1], (0, 1))


def test_a_choice_takes_one():
    """(Σ_c D_c·x_c)² = Σ_c D_c·x_c² of a choice, and of no other truth value."""
    for chosen in (True, False):
        field = field_of(x=("n", "C"))
        if chosen:
            label(field, "l", ("n",), "C")
        else:
            field.atom(Atom("l", ("n", "C"), boolean=True))
        picked = field.total(field.entry("l", (0, 1)) * field.entry("x", (0, 1)), 1, "C")
        squares = field.total(field.entry("l", (0, 1)) * field.entry("x", (0, 1), 2), 1, "C")
        assert (not field.reduce(picked * picked - squares).terms) == chosen
        assert (field.reduce(field.total(field.entry("l", (0, 1)), 1, "C")) == field.constant(1)) == chosen


@pytest.mark.parametrize("size", ["4", "C"])
def test_the_one_hot_of_a_label_is_its_choice(size):
    field = Field()
    value = label(field, "l", ("n",), size)
    assert one_hot(field, value, size, 1) == field.entry("l", (0, 1))
    assert one_hot(field, positions(field, size, 0), size, 1) == field.delta(size, 0, 1)


def test_an_index_out_of_range_has_no_place():
    field = Field()
    value = label(field, "l", ("n",), "5")
    met = field.total(one_hot(field, value, "4", 1), 1, "4")
    assert not is_everywhere(field, met, (1,))
    assert is_everywhere(field, field.total(one_hot(field, value, "5", 1), 1, "5"), (1,))
    shifted = field.total(one_hot(field, value + field.constant(1), "5", 1), 1, "5")
    assert not is_everywhere(field, shifted, (1,))


def test_numbers_are_read_back():
    field = Field()
    matrix = np.array([[3, 1], [1, 2], [0, -7]])
    values, order = numbers(field, field.table(matrix, (2, 0)) - field.constant(1))
    assert order == (0, 2)
    np.testing.assert_array_equal(values.astype(int), matrix.T - 1)


def test_by_position_nothing_is_lost():
    field = field_of(x=("n", "3"))
    flip = np.eye(3, dtype=int)[::-1]
    there = field.total(field.table(flip, (1, 2)) * field.entry("x", (0, 2)), 2, "3")
    parts = by_position(field, field.reduce(there - field.entry("x", (0, 1))))
    assert sorted(bool(part.terms) for part in parts) == [False, True, True], "the middle stays"
