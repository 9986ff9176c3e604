"""What `check_vjp` does at the edges: kinds of arguments and results, and ways a rule can misbehave."""

import json
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.check import assert_vjp, check_vjp

X = np.random.default_rng(0).normal(size=6).astype(np.float32)
Y = np.random.default_rng(1).normal(size=6).astype(np.float32)


def rule(primal, backward, **kwargs):
    """`primal` with the backward pass (arguments, cotangent) ↦ cotangents."""
    op = jax.custom_vjp(primal, **kwargs)
    op.defvjp(lambda *args: (primal(*args), args), backward)
    return op


def product(x, y):
    return x * y


def stages(report):
    return {f.stage for f in report.failures}


def wrong_values(report):
    """The arguments whose cotangents have a wrong value; derivatives of it are wrong for others as well."""
    return {f.argument for f in report.failures if f.stage == "value"}


def test_a_right_rule_is_accepted():
    report = check_vjp(rule(product, lambda args, g: (g * args[1], g * args[0])), product, X, Y)
    assert report.ok
    assert report, str(report)
    assert report.failures == ()


@pytest.mark.family
@pytest.mark.parametrize("factor", [1.5, 0.5, -1.0, 0.0, 1 + 1e-8])
def test_a_wrong_factor_is_refused_however_large_the_array(factor):
    wrong = rule(product, lambda args, g: (factor * g * args[1], g * args[0]))
    for n in (6, 4096, 131_072):
        x = np.random.default_rng(n).normal(size=n).astype(np.float32)
        report = check_vjp(wrong, product, x, x[::-1].copy())
        assert wrong_values(report) == {"x"}


def test_scalars_and_python_floats():
    def primal(x, c):
        return c * jnp.sin(x)

    op = rule(primal, lambda args, g: (g * args[1] * jnp.cos(args[0]), g * jnp.sin(args[0])))
    assert check_vjp(op, primal, np.float32(0.3), 2.0).ok
    wrong = rule(primal, lambda args, g: (g * args[1] * jnp.cos(args[0]), g))
    assert wrong_values(check_vjp(wrong, primal, np.float32(0.3), 2.0)) == {"c"}


def test_pytrees_in_and_out():
    class Out(NamedTuple):
        a: jax.Array
        b: jax.Array

    def primal(p):
        return Out(p["w"] * p["x"][0], jnp.sum(p["x"][0]))

    def backward(args, g):
        (p,) = args
        return ({"w": g.a * p["x"][0], "x": [g.a * p["w"] + g.b]},)

    tree = {"w": X, "x": [Y]}
    assert check_vjp(rule(primal, backward), primal, tree).ok
    wrong = rule(primal, lambda args, g: ({"w": g.a * args[0]["x"][0], "x": [g.a * args[0]["w"]]},))
    assert wrong_values(check_vjp(wrong, primal, tree)) == {"p['x'][0]"}


def test_integer_and_boolean_arguments_and_none_cotangents():
    def primal(x, index, mask):
        return jnp.where(mask, x, 0)[index]

    def backward(args, g):
        x, index, mask = args
        return jnp.where(mask, jnp.zeros_like(x).at[index].add(g), 0), None, None

    args = (X, np.array([0, 3, 3, 5], np.int32), np.array([True, False, True, True, True, True]))
    assert check_vjp(rule(primal, backward), primal, *args).ok
    overwritten = rule(primal, lambda a, g: (jnp.zeros_like(a[0]).at[a[1]].set(g) * a[2], None, None))
    assert not check_vjp(overwritten, primal, *args).ok


def test_none_for_a_float_argument_means_zero_and_is_refused():
    assert wrong_values(check_vjp(rule(product, lambda args, g: (None, g * args[0])), product, X, Y)) == {"x"}


def test_nondiff_argnums():
    def primal(x, power):
        return x**power

    op = jax.custom_vjp(primal, nondiff_argnums=(1,))
    op.defvjp(lambda x, power: (x**power, x), lambda power, x, g: (g * power * x ** (power - 1),))
    assert check_vjp(op, primal, X, 3).ok
    scaled = jax.custom_vjp(product, nondiff_argnums=(1,))
    scaled.defvjp(lambda x, y: (x * y, None), lambda y, _, g: (g * y,))
    assert check_vjp(scaled, product, X, 2.5).ok  # a Python float that the op insists is static
    wrong = jax.custom_vjp(product, nondiff_argnums=(1,))
    wrong.defvjp(lambda x, y: (x * y, None), lambda y, _, g: (g,))
    assert not check_vjp(wrong, product, X, 2.5).ok


def test_closures_and_keyword_arguments():
    weights = jnp.asarray(Y)

    def primal(x, *, scale):
        return scale * weights * x

    op = rule(lambda x: 2 * weights * x, lambda args, g: ((2 * weights * g).astype(args[0].dtype),))
    report = check_vjp(op, partial(primal, scale=2), X)
    assert report.ok, str(report)
    assert not check_vjp(
        rule(lambda x: 2 * weights * x, lambda args, g: (2 * g,)), partial(primal, scale=2), X
    ).ok


@pytest.mark.thorough
def test_two_results_and_an_integer_result():
    def primal(x):
        return x**2, jnp.argmax(x), jnp.sum(x)

    op = rule(primal, lambda args, g: (2 * args[0] * g[0] + g[2],))
    assert check_vjp(op, primal, X).ok
    assert not check_vjp(rule(primal, lambda args, g: (2 * args[0] * g[0],)), primal, X).ok
    other = rule(lambda x: (x**2, jnp.argmin(x), jnp.sum(x)), lambda args, g: (2 * args[0] * g[0] + g[2],))
    assert "primal value" in stages(check_vjp(other, primal, X))


@pytest.mark.thorough
def test_kinks_are_not_compared_and_the_report_says_so():
    def primal(x):
        return jnp.maximum(x, 0)

    at_the_kink = np.array([0.0, -1.0, 2.0, 0.0], np.float32)
    for choice in (0.0, 0.5, 1.0):  # any of them at x = 0
        op = rule(
            primal, lambda args, g, c=choice: (g * jnp.where(args[0] == 0, c, args[0] > 0).astype(g.dtype),)
        )
        report = check_vjp(op, primal, at_the_kink)
        assert report.ok, str(report)
    assert any("kink" in note for note in report.notes)
    assert not check_vjp(rule(primal, lambda args, g: (g * (args[0] > 0.1),)), primal, at_the_kink).ok


@pytest.mark.thorough
def test_an_empty_batch():
    def primal(x, gamma):
        return gamma * x

    op = rule(primal, lambda args, g: (args[1] * g, jnp.sum(g * args[0])))
    empty = np.zeros(0, np.float32)
    assert check_vjp(op, primal, empty, np.float32(2)).ok
    assert not check_vjp(
        rule(primal, lambda args, g: (g, jnp.sum(g * args[0]))), primal, empty, np.float32(2)
    ).ok


def test_what_the_primal_refuses_is_reported():
    def primal(x):
        raise ValueError("no batch of this size")

    report = check_vjp(primal, primal, X)
    assert stages(report) == {"oracle"}
    assert "no batch of this size" in str(report)


def raising(args, g):
    raise RuntimeError("not today")


MISBEHAVIOUR = {
    "raises": (raising, "raises"),
    "too few": (lambda args, g: (g * args[1],), "number of cotangents"),
    "nested": (lambda args, g: ((g * args[1],), g * args[0]), "structure"),
    "no tuple": (lambda args, g: g, "number of cotangents"),
    "shape": (lambda args, g: (g[:1], g * args[0]), "shape"),
    "dtype": (lambda args, g: ((g * args[1]).astype(jnp.float16), g * args[0]), "dtype"),
    "nan": (lambda args, g: (jnp.nan * g, g * args[0]), "value"),
    "a string": (lambda args, g: ("x", g), None),
    "division": (lambda args, g: (g * args[1] / (1 // 0), g), "raises"),
}


@pytest.mark.family
@pytest.mark.parametrize("name", MISBEHAVIOUR)
def test_a_misbehaving_rule_ends_in_the_report(name):
    backward, stage = MISBEHAVIOUR[name]
    report = check_vjp(rule(product, backward), product, X, Y)
    assert not report.ok
    assert stage is None or stage in stages(report), str(report)


def test_an_op_with_another_value_dtype_shape_or_number_of_results():
    for op in (
        lambda x: 2 * x,
        lambda x: x.astype(jnp.float16),
        lambda x: x[None],
        lambda x: (x, x),
        lambda x: None,
        lambda x: "text",
    ):
        report = check_vjp(op, lambda x: x + 0, X)
        assert not report.ok


def test_what_the_checker_does_not_see_is_not_ok():
    def primal(x):
        return jnp.sum(x - jnp.mean(x))  # zero, whatever x is

    report = check_vjp(rule(primal, lambda args, g: (0 * args[0],)), primal, X)
    assert stages(report) == {"evidence"}
    assert "no evidence for x" in str(report)
    unused = check_vjp(lambda x, y: x, lambda x, y: x + 0, X, Y)
    assert [f.argument for f in unused.failures] == ["y"]
    assert stages(check_vjp(lambda k: k, lambda k: k, np.arange(3))) == {"evidence"}


@pytest.mark.thorough
def test_an_op_narrower_than_its_primal_is_examined_where_it_goes():
    def narrow(x):
        if x.shape[0] % 4:
            raise ValueError("blocks of 4")
        return x**2

    x = np.ones(8, np.float32)
    report = check_vjp(narrow, lambda x: x**2, x)
    assert report.ok
    assert any("left out" in note for note in report.notes)
    wrong = rule(narrow, lambda args, g: (g * args[0],))
    assert not check_vjp(wrong, lambda x: x**2, x).ok


def test_a_wrong_rule_inside_the_primal_does_not_vouch_for_itself():
    wrong = rule(product, lambda args, g: (g, g * args[0]))
    report = check_vjp(wrong, wrong, X, Y)
    assert stages(report) == {"oracle"}


def test_a_stop_gradient_in_the_primal_is_taken_at_its_word():
    def primal(x):
        return x * jax.lax.stop_gradient(x)

    right = rule(primal, lambda args, g: (g * jax.lax.stop_gradient(args[0]),))
    report = check_vjp(right, primal, X)
    assert report.ok
    assert any("stop_gradient" in note for note in report.notes)
    assert not check_vjp(rule(primal, lambda args, g: (2 * g * args[0],)), primal, X).ok


def test_nan_swallowed_by_the_rule():
    def primal(x):
        return jnp.sum(x**2)

    swallows = rule(primal, lambda args, g: (2 * g * jnp.nan_to_num(args[0]),))
    assert stages(check_vjp(swallows, primal, X)) == {"non-finite"}


@pytest.mark.thorough
def test_arguments_that_hold_nan():
    x = X.copy()
    x[2] = np.nan
    assert check_vjp(rule(product, lambda args, g: (g * args[1], g * args[0])), product, x, Y).ok
    assert not check_vjp(rule(product, lambda args, g: (g * args[1], g)), product, x, Y).ok


def test_x64_is_left_as_it_was():
    right = rule(product, lambda args, g: (g * args[1], g * args[0]))
    for enabled in (False, True):
        with jax.enable_x64(enabled):
            assert check_vjp(right, product, X.astype(np.float64), Y.astype(np.float64)).ok
            assert jax.config.jax_enable_x64 is enabled
            assert not check_vjp(rule(product, raising), product, X, Y).ok
            assert jax.config.jax_enable_x64 is enabled
    assert not jax.config.jax_enable_x64


def test_mixed_and_half_dtypes():
    right = rule(
        product, lambda args, g: ((g * args[1]).astype(args[0].dtype), (g * args[0]).astype(args[1].dtype))
    )
    for dtypes in ((jnp.bfloat16, jnp.float32), (jnp.float16, jnp.float16), (jnp.bfloat16, jnp.bfloat16)):
        args = [np.asarray(a).astype(d) for a, d in zip((X, Y), dtypes, strict=True)]
        report = check_vjp(right, product, *args)
        assert report.ok, str(report)


def test_assert_vjp_raises_with_the_report():
    assert_vjp(rule(product, lambda args, g: (g * args[1], g * args[0])), product, X, Y)
    with pytest.raises(AssertionError, match="cotangent of y"):
        assert_vjp(rule(product, lambda args, g: (g * args[1], g)), product, X, Y)


def test_the_same_check_twice_says_the_same():
    wrong = rule(product, lambda args, g: (g * args[1], g))
    first, second = (check_vjp(wrong, product, X, Y).to_json() for _ in range(2))
    for report in (first, second):
        report.pop("seconds")
    assert json.dumps(first) == json.dumps(second)


def test_a_rule_redefined_under_the_same_name_is_checked_anew():
    holder = [lambda args, g: (g * args[1], g * args[0])]
    op = rule(product, lambda args, g: holder[0](args, g))
    assert check_vjp(op, product, X, Y).ok
    holder[0] = lambda args, g: (g * args[1], g)
    assert not check_vjp(op, product, X, Y).ok
