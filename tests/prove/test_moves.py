"""Elements by position, along axes of given size beside a symbolic batch: right rules and wrong ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bnjax.prove import prove_vjp
from bnjax.prove.algebra import Atom
from bnjax.prove.arrays import Array
from bnjax.prove.field import Field
from bnjax.prove.moves import moved
from bnjax.prove.space import Space
from tests.prove.reading import value_at
from tests.prove.rules import with_rule


def part(x, start, end):
    return lax.slice_in_dim(x, start, end, axis=1)


def flip(x):
    return lax.rev(x, (1,))


def roll(x, by):
    return jnp.concatenate([part(x, x.shape[1] - by, x.shape[1]), part(x, 0, x.shape[1] - by)], 1)


def halves_swapped(x):
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([-second, first], -1)


def halves_swapped_back(x):
    first, second = jnp.split(x, 2, -1)
    return jnp.concatenate([second, -first], -1)


def pad(x, low, high, inner=0):
    return lax.pad(x, 0.0, ((0, 0, 0), (low, high, inner)))


def differences(x):
    return part(x, 1, x.shape[1]) - part(x, 0, x.shape[1] - 1)


def differences_back(dy):
    return pad(dy, 1, 0) - pad(dy, 0, 1)


def rotary(x, cos, sin):
    return x * cos + halves_swapped(x) * sin


def rotary_backward(args, dy):
    x, cos, sin = args
    return dy * cos + halves_swapped_back(dy * sin), jnp.sum(dy * x, 0), jnp.sum(dy * halves_swapped(x), 0)


def rotary_backwards(args, dy):
    _, cos, sin = args
    return dy * cos + halves_swapped(dy * sin), *rotary_backward(args, dy)[1:]


# primal, right cotangents, wrong ones, shapes
RULES = {
    "slice": (
        lambda x: 2 * part(x, 0, 2), lambda a, dy: (pad(2 * dy, 0, 1),),
        lambda a, dy: (pad(2 * dy, 1, 0),), "N 3",
    ),
    "stride": (
        lambda x: lax.slice_in_dim(x, 0, 5, 2, 1), lambda a, dy: (pad(dy, 0, 0, 1),),
        lambda a, dy: (pad(dy, 1, 1),), "N 5",
    ),
    "pad": (
        lambda x: pad(x, 1, 2) ** 2, lambda a, dy: (part(2 * dy * pad(a[0], 1, 2), 1, 4),),
        lambda a, dy: (part(2 * dy * pad(a[0], 1, 2), 2, 5),), "N 3",
    ),
    "rev": (
        lambda x: flip(x) * x, lambda a, dy: (dy * flip(a[0]) + flip(dy * a[0]),),
        lambda a, dy: (dy * flip(a[0]) + dy * a[0],), "N 3",
    ),
    "roll": (
        lambda x: roll(x, 1) * x, lambda a, dy: (dy * roll(a[0], 1) + roll(dy * a[0], 3),),
        lambda a, dy: (dy * roll(a[0], 1) + roll(dy * a[0], 1),), "N 4",
    ),
    "cumsum": (
        lambda x: jnp.cumsum(x, 1) ** 2,
        lambda a, dy: (lax.cumsum(2 * dy * jnp.cumsum(a[0], 1), 1, reverse=True),),
        lambda a, dy: (jnp.cumsum(2 * dy * jnp.cumsum(a[0], 1), 1),), "N 4",
    ),
    "differences": (
        lambda x: differences(x) ** 2, lambda a, dy: (2 * differences_back(dy * differences(a[0])),),
        lambda a, dy: (-2 * differences_back(dy * differences(a[0])),), "N 4",
    ),
    "bilinear unit": (
        lambda x: part(x, 0, 2) * part(x, 2, 4),
        lambda a, dy: (jnp.concatenate([dy * part(a[0], 2, 4), dy * part(a[0], 0, 2)], 1),),
        lambda a, dy: (jnp.concatenate([dy * part(a[0], 0, 2), dy * part(a[0], 2, 4)], 1),), "N 4",
    ),
    "concatenate": (
        lambda x, y: jnp.concatenate([x, y], 1), lambda a, dy: (part(dy, 0, 2), part(dy, 2, 5)),
        lambda a, dy: (part(dy, 3, 5), part(dy, 0, 3)), "N 2", "N 3",
    ),
    "one of them": (
        lambda x: part(x, 1, 2), lambda a, dy: (pad(dy, 1, 1),), lambda a, dy: (pad(dy, 0, 2),), "N 3"
    ),
    "rotary embedding": (rotary, rotary_backward, rotary_backwards, "N 4", "4", "4"),
}  # fmt: skip
NAMES = [pytest.param(name, marks=() if k in (1, 3, 5) else pytest.mark.slow) for k, name in enumerate(RULES)]


@pytest.mark.parametrize("name", NAMES)
def test_moves_are_proved_for_every_batch(name):
    primal, right, wrong, *shapes = RULES[name]
    proof = prove_vjp(with_rule(primal, right), primal, *shapes)
    assert proof.status == "proved", str(proof)
    assert prove_vjp(with_rule(primal, wrong), primal, *shapes).status == "refuted"


@pytest.mark.parametrize(
    ("function", "shape", "word"),
    [
        (lambda x: lax.rev(x, (0,)), "N 3", "along N"),
        (lambda x: jnp.concatenate([x, x[0][None]], 0), "N 3", "along N"),
        (lambda x: lax.pad(x, 1.0, ((0, 0, 0), (1, 0, 0))), "N 3", "padding"),
    ],
)
def test_what_has_no_matrix_is_refused_by_name(function, shape, word):
    proof = prove_vjp(function, function, shape)
    assert proof.status == "refused"
    assert word in proof.reason


def test_two_moves_that_cancel_are_the_identity():
    assert prove_vjp(lambda x: flip(flip(x)), lambda x: x, "N 3").status == "proved"
    assert prove_vjp(lambda x: flip(flip(x)), lambda x: x, "N 2*3").status == "proved"
    assert prove_vjp(flip, lambda x: x, "N 3").status == "refuted"


@pytest.mark.parametrize("seed", range(12))
def test_a_move_is_the_product_with_its_matrix(seed):
    source = np.random.default_rng(seed)
    rows, columns, axis = source.integers(1, 5), source.integers(1, 5), int(source.integers(2))
    matrix = source.integers(0, 2, (rows, columns))
    if seed % 3 == 0 and rows > 1:
        matrix = np.triu(np.ones((rows, rows), int)) if seed % 2 else np.eye(rows, dtype=int)[::-1]
    size = matrix.shape[1]
    dims = [("n",), ("n",)]
    dims[axis] = (str(size),) if size > 1 else ()
    field = Field()
    axes = tuple(s for dim in dims for s in dim)
    array = Array(tuple(dims), field.atom(Atom("x", axes)))
    result = moved(Space(field), array, axis, matrix)
    x = source.normal(size=[int(s) if s.isdigit() else 3 for s in axes])
    got = value_at(field, result.poly, {"x": x}, result.axes, {"n": 3})
    full = x if size > 1 else np.expand_dims(x, axis)
    expected = np.moveaxis(np.tensordot(matrix, full, (1, axis)), 0, axis)
    np.testing.assert_allclose(got, expected if matrix.shape[0] > 1 else expected.squeeze(axis))


def test_the_counterexample_is_of_the_program():
    proof = prove_vjp(lambda x: jnp.cumsum(x, 1), lambda x: lax.cumsum(x, 1, reverse=True), "N 3")
    assert proof.status == "refuted"
    x = np.asarray(proof.counterexample.point["x"], float)
    with jax.enable_x64(True):
        assert np.cumsum(x, 1)[proof.counterexample.index] == float(proof.counterexample.got)


def gated(x):
    first, second = jnp.split(x, 2, -1)
    return first * second**2


def gated_back(args, dy):
    first, second = jnp.split(args[0], 2, -1)
    return (jnp.concatenate([dy * second**2, 2 * dy * first * second], -1),)


def gated_back_swapped(args, dy):
    first, second = jnp.split(args[0], 2, -1)
    return (jnp.concatenate([2 * dy * first * second, dy * second**2], -1),)


def last_two(x):
    _, middle, last = jnp.split(x, 3, -1)
    return middle * last


def last_two_back(args, dy):
    _, middle, last = jnp.split(args[0], 3, -1)
    return (jnp.concatenate([jnp.zeros_like(dy), dy * last, dy * middle], -1),)


def joined(x, y):
    return jnp.concatenate([x, 2 * y], -1) ** 2


def joined_back(args, dy, factor=8):
    (x, y), (first, second) = args, jnp.split(dy, 2, -1)
    return 2 * x * first, factor * y * second


BLOCKS = {
    "halves": (gated, gated_back, gated_back_swapped, ("n 2*D",)),
    "thirds": (last_two, last_two_back, lambda a, dy: (last_two_back(a, dy)[0][:, ::-1],), ("n 3*D",)),
    "joined": (joined, joined_back, lambda a, dy: joined_back(a, dy, 4), ("n D", "n D")),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_blocks_of_a_symbolic_size_are_moved_whole(name):
    primal, right, wrong, shapes = BLOCKS[name]
    proof = prove_vjp(with_rule(primal, right), primal, *shapes)
    still_open = [o.claim for o in proof.obligations if not o.discharged]
    # the table of all elements at the largest numbers is too large where no argument says '2*D'
    assert proof.status == "proved" or (name == "joined" and len(still_open) == 1), str(proof)
    assert prove_vjp(with_rule(primal, wrong), primal, *shapes).status == "refuted"


@pytest.mark.thorough
def test_other_parts_of_a_symbolic_axis_are_refused():
    def shifted(x):
        return x[:, 1:] * x[:, :-1]

    assert prove_vjp(shifted, shifted, "n 2*D").status == "refused"
    assert prove_vjp(joined, joined, "n D", "n E").status == "refused"


def test_integers_that_are_split_are_of_the_range_they_were():
    def primal(x, places):
        return x * jnp.concatenate(jnp.split(places, 2)[::-1]).astype(x.dtype)

    def backward(args, dy):
        return dy * jnp.concatenate([args[1][2:], args[1][:2]]).astype(dy.dtype), None

    assert prove_vjp(with_rule(primal, backward), primal, "4", "int 5: 4").status == "proved"
