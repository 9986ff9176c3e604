"""Convolutions at given spatial sizes, the batch and the channels symbols: right rules and wrong ones."""

from fractions import Fraction

import jax
import numpy as np
import pytest
from jax import lax

from bnjax.ops.conv import conv, conv_primal
from bnjax.prove import prove_vjp
from bnjax.prove.algebra import Atom
from bnjax.prove.convolution import grouped, window
from bnjax.prove.entrywise import is_zero_by_entries
from bnjax.prove.exact import Arithmetic, array_of, evaluate
from bnjax.prove.field import Field
from tests.prove.rules import with_rule

NHWC = ("NHWC", "HWIO", "NHWC")
EDGE = np.array([0.0, 1, 1], np.float32)[:, None, None]


def convolution(strides=(1, 1), padding="SAME", base=(1, 1), dilation=(1, 1), **groups):
    return lambda x, k: lax.conv_general_dilated(x, k, strides, padding, base, dilation, NHWC, **groups)


# JAX's own derivative, which is right: the function, the shapes, and whether it is tried by default
JAXS = {
    "3×3": (convolution(), ("n 4 4 c", "3 3 c o"), True),
    "1×1": (convolution(), ("n 4 4 c", "1 1 c o"), False),
    "strides": (convolution((2, 1)), ("n 5 6 c", "3 2 c o"), True),
    "patches": (convolution((2, 2), "VALID"), ("n 4 4 c", "2 2 c o"), False),
    "dilated": (convolution(padding="VALID", dilation=(2, 2)), ("n 7 7 c", "3 3 c o"), False),
    "transposed": (convolution(padding=((1, 2), (2, 1)), base=(2, 2)), ("n 3 4 c", "3 3 c o"), False),
    "negative padding": (convolution(padding=((-1, 2), (0, -1))), ("n 5 5 c", "3 3 c o"), False),
    "images of CIFAR": (convolution(), ("n 32 32 c", "3 3 c o"), False),
}


def marked(rows, default):
    return [pytest.param(n, marks=() if default(n) else pytest.mark.slow) for n in rows]


@pytest.mark.parametrize("name", marked(JAXS, lambda name: JAXS[name][2]))
def test_the_derivative_of_jax_is_proved(name):
    function, shapes, _ = JAXS[name]
    proof = prove_vjp(function, function, *shapes)
    assert proof.status == "proved", str(proof)


def shifted(x):
    return lax.pad(x, 0.0, ((0, 0, 0), (-1, 1, 0), (0, 0, 0), (0, 0, 0)))


def pulled(args, dy):
    return jax.vjp(conv_primal, *args)[1](dy)


def correlated(args, dy):
    """dx with the kernel not flipped."""
    return conv_primal(dy, args[1].transpose(0, 1, 3, 2)), pulled(args, dy)[1]


WRONG = {
    "a factor": lambda args, dy: (pulled(args, dy)[0], 2 * pulled(args, dy)[1]),
    "a kernel not flipped": correlated,
    "one edge cut off": lambda args, dy: pulled(args, dy * EDGE),
    "a shift": lambda args, dy: (pulled(args, dy)[0], pulled((shifted(args[0]), args[1]), dy)[1]),
}


@pytest.mark.parametrize("name", marked(WRONG, lambda name: name == "a kernel not flipped"))
def test_a_wrong_rule_is_refuted(name):
    proof = prove_vjp(with_rule(conv_primal, WRONG[name]), conv_primal, "n 3 3 2", "3 3 2 1")
    assert proof.status == "refuted", str(proof)


def test_the_rule_of_the_layer_is_proved():
    def op(x, k):
        return conv(x, k, weight_gradient="convolution")

    proof = prove_vjp(op, conv_primal, "n 8 8 3", "3 3 3 4")
    assert proof.status == "proved", str(proof)


EXACT = {
    "strides": dict(window_strides=(2, 1), padding=((1, 2), (0, 1)), rhs_dilation=(1, 2)),
    "base": dict(window_strides=(1, 1), padding=((-1, 2), (3, -2)), lhs_dilation=(2, 3)),
    "feature groups": dict(window_strides=(1, 1), padding="SAME", feature_group_count=2),
    "batch groups": dict(window_strides=(1, 1), padding="VALID", batch_group_count=2),
}


@pytest.mark.parametrize("name", EXACT)
def test_exact_numbers_are_convolved_as_jax_does(name):
    params = EXACT[name]
    channels = 2 if "feature_group_count" in params else 4
    x, k = (np.random.default_rng(0).integers(-4, 5, shape) for shape in ((4, 5, 6, 4), (3, 2, channels, 6)))

    def function(x, k):
        return lax.conv_general_dilated(x, k, dimension_numbers=NHWC, **params)

    exact = Arithmetic()
    args = [np.asarray(a, np.float32) for a in (x, k)]
    jaxpr = jax.make_jaxpr(function)(*args)
    (got,) = evaluate(jaxpr, [array_of(a, exact) for a in args], exact)
    assert isinstance(got.flat[0], Fraction)
    np.testing.assert_array_equal(got.astype(float), function(*args))


def test_the_tensor_of_a_window_says_which_element_meets_which():
    tensor = window((3, 2, 4), stride=2, dilation=1, low=1, base=1)
    assert [tuple(map(int, place)) for place in np.argwhere(tensor)] == [
        (0, 1, 0), (1, 0, 1), (1, 1, 2), (2, 0, 3)
    ]  # fmt: skip
    assert [tuple(map(int, place)) for place in np.argwhere(grouped(2, 2, 4))] == [
        (0, 0, 0), (0, 1, 1), (1, 0, 2), (1, 1, 3)
    ]  # fmt: skip


def split(first, second):
    """Σ_j (first + second)[i, j]·x[j] − x[i], for two matrices, unreduced; and its field."""
    field = Field()
    x = field.atom(Atom("x", ("3",)))
    total = field.constant(0) - x
    for matrix in (first, second):
        product = field.table(np.asarray(matrix), (0, 1)) * field.rename(x, {0: 1})
        total += field.total(product, 1, "3")
    return field, total


def test_entries_are_added_up():
    upper, lower = [[0, 0, 0], [0, 1, 0], [0, 0, 1]], [[1, 0, 0], [0, 0, 0], [0, 0, 0]]
    assert is_zero_by_entries(*split(upper, lower))
    assert not is_zero_by_entries(*split(upper, upper))
    assert not is_zero_by_entries(*split(upper, [[0, 1, 0], [0, 0, 0], [0, 0, 0]]))
