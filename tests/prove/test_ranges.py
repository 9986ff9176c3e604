"""Numbers as their dtypes hold them: integers that wrap, narrow floats, infinities, choices out of range."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bnjax.prove import prove_vjp
from tests.prove.rules import with_rule

INFINITE = np.array([0, -np.inf], np.float32)
NAN = np.array([0, np.nan], np.float32)


def times(number):
    """x times an integer that is made of its size, by the function `number`."""
    return lambda x: x * number(jnp.asarray(x.shape[0], jnp.int32)).astype(x.dtype)


WRAPS = {
    "−n as uint8": (times(lambda n: (-n).astype(jnp.uint8)), lambda x: -x.shape[0] * x),
    "−n of uint32": (times(lambda n: -n.astype(jnp.uint32)), lambda x: -x.shape[0] * x),
    "0 − n in uint32": (times(lambda n: jnp.uint32(0) - n.astype(jnp.uint32)), lambda x: -x.shape[0] * x),
    "−n > 0 in uint32": (
        lambda x: jnp.where(-jnp.asarray(x.shape[0]).astype(jnp.uint32) > 0, 2 * x, x),
        lambda x: x,
    ),
    "n as int8": (times(lambda n: n.astype(jnp.int8)), lambda x: x.shape[0] * x),
    "n as uint16": (times(lambda n: n.astype(jnp.uint16)), lambda x: x.shape[0] * x),
    "n·n": (times(lambda n: n * n), lambda x: x.shape[0] * x.shape[0] * x),
    "n⁴": (times(lambda n: n**4), lambda x: x.shape[0] ** 4 * x),
    "256 as uint8": (times(lambda n: (0 * n + 256).astype(jnp.uint8)), lambda x: 256 * x),
    "−(−2³¹)": (times(lambda n: -(0 * n - 2**31)), lambda x: x * 2.0**31),
    "n // 2": (times(lambda n: n // 2), lambda x: x * x.shape[0] / 2),
    "n << 1": (times(lambda n: n << 1), lambda x: x * 3 * x.shape[0]),
    "n ^ 1": (times(lambda n: n ^ 1), lambda x: x * (x.shape[0] + 1)),
    "n as bool": (times(lambda n: n.astype(bool)), lambda x: x * x.shape[0]),
    "n in float16": (times(lambda n: n.astype(jnp.float16)), lambda x: x * x.shape[0]),
    "n in bfloat16": (times(lambda n: n.astype(jnp.bfloat16)), lambda x: x * x.shape[0]),
    "x as integers": (lambda x: x.astype(jnp.int32).astype(x.dtype), lambda x: x),
}


@pytest.mark.parametrize(("op", "primal"), WRAPS.values(), ids=WRAPS)
def test_an_integer_that_may_wrap_is_no_real_number(op, primal):
    assert prove_vjp(op, primal, "n").status in ("refused", "refuted")


@pytest.mark.family
@pytest.mark.parametrize("dtype", [jnp.int4, jnp.int8, jnp.uint8, jnp.int16, jnp.uint16])
@pytest.mark.parametrize("shape", ["n", "300"])
def test_a_count_in_a_narrow_integer_is_refused_by_name(dtype, shape):
    def narrow(x, mask):
        return x * jnp.sum(mask, dtype=dtype).astype(x.dtype)

    def wide(x, mask):
        return x * jnp.sum(mask.astype(x.dtype))

    proof = prove_vjp(narrow, wide, shape, f"bool: {shape}")
    if shape == "300" and jnp.iinfo(dtype).max > 300:
        assert proof.status == "proved"
    else:
        assert proof.status in ("refused", "refuted")
    assert prove_vjp(narrow, narrow, "n", "bool: n").status == "refused"


def test_integers_that_fit_are_numbers():
    def op(x, mask):
        return x * mask.astype(jnp.int8).astype(x.dtype) * (jnp.asarray(x.shape[0]) - 1).astype(x.dtype)

    def primal(x, mask):
        return jnp.where(mask, x, 0) * (x.shape[0] - 1)

    assert prove_vjp(op, primal, "n", "bool: n").status == "proved"
    assert prove_vjp(lambda x: x * jnp.int8(100), lambda x: 100 * x, "n").status == "proved"


@pytest.mark.parametrize("name", ["float8_e8m0fnu", "float8_e4m3fn", "float8_e5m2", "float4_e2m1fn"])
def test_narrow_floats_are_refused(name):
    dtype = getattr(jnp, name)
    proof = prove_vjp(lambda x: x.astype(dtype).astype(x.dtype), lambda x: x, "n")
    assert proof.status == "refused"
    assert name in proof.reason


def test_a_cast_between_wider_floats_is_an_identity_and_the_claim_says_so():
    proof = prove_vjp(lambda x: x.astype(jnp.bfloat16).astype(x.dtype), lambda x: x, "n")
    assert proof.status == "proved"
    assert "casts between float types of 16 bits and more are identities" in proof.claim


@pytest.mark.parametrize("constant", [1e30, 1e-30, 0.1])
def test_a_constant_that_a_float_does_not_hold_is_refused(constant):
    def op(x):
        return x * lax.convert_element_type(jnp.broadcast_to(jnp.float32(constant), x.shape), jnp.float16)

    assert prove_vjp(op, lambda x: x * jnp.float32(constant), "n").status != "proved"


@pytest.mark.parametrize("large", [1e38, 1e-38])
def test_a_constant_that_overflows_is_refused(large):
    def op(x):
        return x + x * (jnp.float32(large) * jnp.float32(large)) * 0

    proof = prove_vjp(op, lambda x: x, "n")
    assert proof.status == "refused"
    assert "out of the range" in proof.reason


@pytest.mark.parametrize(
    "op",
    [
        lambda x: x + INFINITE - INFINITE,
        lambda x: x + INFINITE * 0,
        lambda x: x + NAN - NAN,
        lambda x: x + jnp.inf - jnp.inf,
        lambda x: x + 0 / (INFINITE + 0 * x) - 0 / (INFINITE + 0 * x),
    ],
)
def test_infinity_is_no_unknown_real(op):
    assert prove_vjp(op, lambda x: x, "2").status == "refused"


def test_infinity_may_be_selected_away():
    proof = prove_vjp(lambda x: jnp.where(x.shape[0] > 0, x, INFINITE[1]), lambda x: x, "n")
    assert proof.status == "proved"

    def masked(x, mask):
        return jnp.where(mask, x, -jnp.inf) - jnp.where(mask, 0.0, -jnp.inf)

    assert prove_vjp(masked, lambda x, mask: x * mask, "n", "bool: n").status == "refused"


@pytest.mark.parametrize("index", [-1, -2, 2, 3])
def test_a_choice_out_of_range_is_refused(index):
    def op(x):
        return lax.select_n(jnp.full(x.shape, index, jnp.int32), x, 2 * x)

    for case in (lambda x: x, lambda x: 2 * x):
        assert prove_vjp(op, case, "n").status == "refused"
    inside = prove_vjp(lambda x: lax.select_n(jnp.full(x.shape, 1), x, 2 * x), lambda x: 2 * x, "n")
    assert inside.status == "proved"


def narrow(x, dtype=jnp.bfloat16):
    return x.astype(dtype).astype(jnp.float32)


ON_A_CAST = {
    "equal": lambda x: narrow(x) == x,
    "equal in the narrow type": lambda x: x.astype(jnp.float16) == (2 * x).astype(jnp.float16) / 2,
    "the sign of what is lost": lambda x: jnp.sign(narrow(x) - x) == 0,
    "less": lambda x: jax.jit(narrow)(x) - x < 1e-9,
    "of a sum": lambda x: narrow(x).sum() >= x.sum(),
}


@pytest.mark.parametrize("name", ON_A_CAST)
def test_no_comparison_rests_on_a_cast_that_is_read_as_the_identity(name):
    """In float32 most numbers are no bfloat16: the factor is 2 almost everywhere."""
    compared = ON_A_CAST[name]
    wrong = with_rule(jnp.square, lambda a, dy: (2 * a[0] * dy * jnp.where(compared(a[0]), 1.0, 2.0),))
    proof = prove_vjp(wrong, jnp.square, "n")
    assert proof.status == "refused", str(proof)
    assert "cast" in proof.reason


def test_comparisons_of_cast_data_are_read():
    def primal(x):
        return jax.nn.relu(x)

    def backward(args, dy):
        return (jnp.where(narrow(args[0]) > 0, narrow(dy), 0),)

    assert prove_vjp(with_rule(primal, backward), primal, "n").status == "proved"
