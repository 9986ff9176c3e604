"""What is a call, that a walk computes what JAX computes, and what a program's parts are called."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax.extend.core import Primitive

from bnjax import jaxprs


@jax.custom_vjp
def doubled(x):
    return 2 * x


doubled.defvjp(lambda x: (2 * x, None), lambda _, dy: (2 * dy,))

CALLS = {
    "jit": jax.jit(lambda x: x + 1),
    "nested jit": jax.jit(lambda x: jax.jit(jnp.sin)(x) * 3),
    "checkpoint": jax.checkpoint(lambda x: jnp.sin(x) * 2),
    "custom_jvp": jax.nn.relu,
    "custom_vjp": doubled,
    "no call": lambda x: x * x - 1,
    "a constant": lambda x: x + jnp.arange(3.0),
}


def evaluated(jaxpr, arguments):
    """The walk's outputs, each primitive run by JAX."""

    def equation(eqn, operands):
        inner = jaxprs.called(eqn)
        if inner is not None:
            return evaluated(inner, operands)
        results = eqn.primitive.bind(*operands, **eqn.params)
        return results if eqn.primitive.multiple_results else [results]

    return jaxprs.walk(jaxpr, arguments, equation, lambda value: value)


@pytest.mark.parametrize("name", CALLS)
def test_a_walk_computes_the_program(name):
    x = jnp.array([-1.0, 0.5, 2.0])
    (y,) = evaluated(jax.make_jaxpr(CALLS[name])(x), [x])
    assert jnp.array_equal(y, jax.jit(CALLS[name])(x))


@pytest.mark.parametrize("name", [name for name in CALLS if name not in ("no call", "a constant")])
def test_a_call_is_known(name):
    eqn = jax.make_jaxpr(CALLS[name])(jnp.zeros(3)).eqns[0]
    assert jaxprs.called(eqn) is not None


def test_another_primitive_of_a_calls_name_is_no_call():
    namesake = Primitive("jit")
    namesake.def_abstract_eval(lambda x: x)
    (eqn,) = jax.make_jaxpr(namesake.bind)(1.0).eqns
    assert jaxprs.called(eqn) is None


def test_equations_are_those_of_branches_and_loops_too():
    def program(x):
        x = jax.lax.cond(x > 0, jnp.sin, jnp.cos, x)
        x = jax.lax.fori_loop(0, 3, lambda _, a: jnp.tanh(a), x)
        return jax.lax.while_loop(lambda a: jnp.exp(a) < 1, lambda a: jnp.log1p(a), x)

    names = {eqn.primitive.name for eqn in jaxprs.equations(jax.make_jaxpr(program)(1.0))}
    assert {"sin", "cos", "tanh", "exp", "log1p", "cond", "while", "scan"} <= names


@pytest.mark.parametrize(
    ("function", "names"),
    [
        (lambda x, gamma: x, ["x", "gamma", "x2"]),
        (lambda *values: values, ["x0", "x1", "x2"]),
        (functools.partial(lambda x, y, *, axis: x, axis=0), ["x", "y", "x2"]),
        (dict, ["x0", "x1", "x2"]),
    ],
    ids=["lambda", "starred", "partial", "no signature"],
)
def test_parameters_have_names(function, names):
    assert jaxprs.parameter_names(function, 3) == names


def test_replaced_leaves_the_rest():
    assert jaxprs.replaced("abcd", (3, 0), (1, 2)) == [2, "b", "c", 1]


def test_the_line_is_the_users():
    def here(x):
        return jnp.var(x)

    lines = {jaxprs.source_line(eqn) for eqn in jaxprs.equations(jax.make_jaxpr(here)(jnp.ones(3)))}
    assert any(line.startswith("test_jaxprs.py:") and "here)" in line for line in lines)
