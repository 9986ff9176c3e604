"""An op of two forms: the kernel where a CPU runs it, and the program for whatever else is done to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.ops.cpu.call import Op, call

# a "kernel" that can be told from the program, of plain JAX
SHIFTED = Op(lambda x, y: (jnp.sin(x) * y,), lambda x, y: (jnp.sin(x) * y + 100,))


def shifted(x, y):
    return call(SHIFTED, x, y)[0]


def program(x, y):
    return SHIFTED.program(x, y)[0]


X, Y = jnp.arange(4.0), jnp.full(4, 2.0)


@pytest.mark.parametrize("wrapped", [lambda f: f, jax.jit], ids=["eager", "jit"])
def test_what_runs_is_the_kernel(wrapped):
    np.testing.assert_array_equal(wrapped(shifted)(X, Y), SHIFTED.kernel(X, Y)[0])


def test_whatever_else_is_done_is_done_to_the_program():
    def same(transform):
        for got, expected in zip(
            *map(jax.tree.leaves, (transform(shifted), transform(program))), strict=True
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-6)

    same(lambda f: jax.jvp(f, (X, Y), (Y, X)))
    same(lambda f: jax.vjp(f, X, Y)[1](Y))
    same(lambda f: jax.hessian(lambda x: f(x, Y).sum())(X))
    same(lambda f: jax.vmap(f, (0, None))(X, 2.0))
    same(lambda f: jax.eval_shape(f, X, Y).shape)


def test_a_linear_op_brings_its_own_transpose():
    def transpose(operands, cotangents):
        return None, 7 * cotangents[0]

    mine, jaxs = (Op(lambda a, x: (a * x,), None, t) for t in (transpose, None))
    for op, expected in ((mine, 7.0), (jaxs, 3.0)):
        (back,) = jax.linear_transpose(lambda x, op=op: call(op, 3.0, x)[0], 1.0)(1.0)
        assert back == expected


def test_another_device_would_run_the_program():
    exported = jax.export.export(jax.jit(shifted), platforms=["cuda"])(X, Y)
    assert "sine" in exported.mlir_module()
    assert "1.000000e+02" not in exported.mlir_module()  # what the kernel adds
    here = jax.export.export(jax.jit(shifted))(X, Y)
    assert "1.000000e+02" in here.mlir_module()
