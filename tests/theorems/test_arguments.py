"""Bad input is refused with the argument's name, what came and what is allowed."""

import re
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import bnjax
from tests.theorems.cases import EVERY_THEOREM, PARAMETERS, arguments

X = jnp.ones((4, 3))
C = jnp.ones(3)

OPS: dict[str, Callable[..., jax.Array]] = {
    "affine": lambda x, **k: bnjax.affine(x, C, C, **k),
    "center": bnjax.center,
    "inverse_stddev": bnjax.inverse_stddev,
    "normalize": bnjax.normalize,
    "batch_norm": lambda x, **k: bnjax.batch_norm(x, C, C, **k),
}
every_op = pytest.mark.parametrize("op", OPS.values(), ids=OPS)
every_op_with_eps = pytest.mark.parametrize("name", ["inverse_stddev", "normalize", "batch_norm"])


def refuses(error, message, call):
    with pytest.raises(error, match=re.escape(message)):
        call()


@every_op
@pytest.mark.parametrize("dtype", [jnp.int32, jnp.complex64, jnp.bool_], ids=lambda d: d.__name__)
def test_x_of_another_dtype(op, dtype):
    refuses(TypeError, f"x must be a real floating-point array, got dtype {X.astype(dtype).dtype}",
            lambda: op(X.astype(dtype)))  # fmt: skip


@every_op
def test_axis_out_of_range(op):
    message = "axis 2 is out of range for x with 2 dimensions: allowed are -2 to 1"
    refuses(ValueError, message, lambda: op(X, axis=2))
    refuses(ValueError, "axis -3 is out of range", lambda: op(X, axis=-3))
    refuses(ValueError, "axis 0 is out of range", lambda: op(jnp.float32(1)))


@every_op
def test_axis_repeated(op):
    refuses(
        ValueError, "axis (0, -2) names an axis of x (with 2 dimensions) twice", lambda: op(X, axis=(0, -2))
    )


@every_op
def test_axis_naming_nothing(op):
    refuses(ValueError, "axis must name at least one axis", lambda: op(X, axis=()))


@every_op
@pytest.mark.parametrize("axis", [0.0, "0", None])
def test_axis_that_is_no_int(op, axis):
    refuses(TypeError, f"axis must be an int or a sequence of ints, got {axis!r}", lambda: op(X, axis=axis))


@every_op
def test_an_empty_batch(op):
    refuses(ValueError, "axis 0 of x has size 0", lambda: op(X[:0]))


@every_op
def test_no_channels_is_no_error(op):
    del op
    assert bnjax.batch_norm(X[:, :0], C[:0], C[:0]).shape == (4, 0)


@every_op_with_eps
@pytest.mark.parametrize(
    "eps", [0.0, -1e-5, float("nan"), float("inf"), np.float32(0), jnp.array([1.0, 0.0, 1.0])]
)
def test_eps_that_is_not_positive(name, eps):
    op = OPS[name]
    refuses(ValueError, "eps must be positive and finite", lambda: op(X, eps=eps))


@every_op_with_eps
@pytest.mark.parametrize("eps", [1j, True])
def test_eps_that_is_no_number(name, eps):
    refuses(TypeError, "eps must be a positive real number", lambda: OPS[name](X, eps=eps))


@every_op_with_eps
def test_eps_of_another_shape(name):
    message = "eps must have the shape of x's kept axes, (3,) or (), got (4,)"
    refuses(ValueError, message, lambda: OPS[name](X, eps=jnp.ones(4)))


@every_op_with_eps
def test_traced_eps_is_not_looked_at(name):
    assert OPS[name](X, eps=1.0) is not None
    jax.jit(lambda eps: OPS[name](X, eps=eps))(0.0)


@pytest.mark.parametrize("op", [bnjax.affine, bnjax.batch_norm])
def test_gamma_and_beta_of_another_shape_or_dtype(op):
    message = "{} must have the shape of x's kept axes, (3,), got {}"
    refuses(ValueError, message.format("gamma", (4,)), lambda: op(X, jnp.ones(4), C))
    refuses(ValueError, message.format("beta", ()), lambda: op(X, C, 0.0))
    refuses(ValueError, message.format("beta", (1, 3)), lambda: op(X, C, C[None]))
    refuses(TypeError, "gamma must be a real floating-point array", lambda: op(X, jnp.ones(3, int), C))


def test_numbers_do_for_the_scalars_of_a_vector():
    x = jnp.arange(4.0)
    np.testing.assert_array_equal(bnjax.batch_norm(x, 2, 1, 1), bnjax.batch_norm(x, 2.0, 1.0, 1.0))


@EVERY_THEOREM
def test_an_op_and_its_primal_and_its_jacobian_take_the_same_arguments(theorem):
    args = arguments(theorem, (4, 3), 0, jnp.float32)
    assert len(args) == 1 + len(PARAMETERS[theorem.number])
    for f in (theorem.op, theorem.primal, theorem.jacobian):
        f(*args, axis=0)
        f(*args, axis=(-2,))
