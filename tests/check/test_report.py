"""The report: what it says, in JSON too, and that its last line shows the failure again."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.check import CheckReport, assert_vjp, check_vjp

X = np.random.default_rng(0).normal(size=6).astype(np.float32)


def square(x):
    return x**2


wrong = jax.custom_vjp(square)
wrong.defvjp(lambda x: (x**2, x), lambda x, g: (g * x,))


def test_a_good_report_is_short():
    report = check_vjp(square, square, X)
    assert isinstance(report, CheckReport)
    assert report.ok
    assert report.worst is None
    assert "ok" in str(report).splitlines()[0]
    assert "reproduce" not in str(report)
    assert len(str(report).splitlines()) < 25


def test_a_failure_names_stage_argument_probe_index_and_numbers():
    report = check_vjp(wrong, square, X)
    failure = next(f for f in report.failures if f.stage == "value")
    assert failure.argument == "x"
    assert failure.probe
    assert failure.seed is not None
    assert failure.ratio > 1
    assert failure.count > 1
    assert abs(failure.got - failure.expected) > failure.bound > 0
    assert np.isclose(failure.got * 2, failure.expected)
    got = np.asarray(failure.arguments[0]) * failure.cotangent
    assert np.isclose(got[failure.index], failure.got)
    assert "WRONG" in str(report)
    assert "cotangent of x" in str(report)


def test_the_last_line_reproduces_the_failure(capsys):
    report = check_vjp(wrong, square, X)
    line = str(report).splitlines()[-1]
    assert line.startswith("reproduce: ")
    exec(line.removeprefix("reproduce: "), {"jax": jax, "jnp": jnp, "op": wrong, "report": report})
    printed = capsys.readouterr().out
    worst = report.worst
    shown = np.array(printed.replace("Array(", " ").split("]")[0].split("[")[1].split(","), float)
    assert np.isclose(shown[worst.index], worst.got, rtol=1e-5)


def test_the_last_line_of_a_large_failure_reproduces_it_from_the_report():
    at = 4321

    def late(x):
        return x**2

    op = jax.custom_vjp(late)
    op.defvjp(lambda x: (x**2, x), lambda x, g: ((2 * g * x).at[at:].multiply(3),))
    x = np.random.default_rng(1).normal(size=9000).astype(np.float32)
    report = check_vjp(op, late, x)
    line = str(report).splitlines()[-1].removeprefix("reproduce: ")
    assert "report.worst" in line
    scope = {
        "jax": jax,
        "jnp": jnp,
        "op": op,
        "report": report,
        "print": lambda result: results.append(result),
    }
    results: list = []
    exec(line, scope)
    assert np.isclose(np.asarray(results[0][0], np.float64)[report.worst.index], report.worst.got, rtol=1e-5)


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_failure_of_arrays_in_a_list_is_told(kind):
    """Of unequal shapes: they are no array."""

    def product(pair):
        return pair[0] @ pair[1]

    op = jax.custom_vjp(product)
    op.defvjp(
        lambda pair: (product(pair), pair),
        lambda pair, dy: (kind([dy @ pair[1].T, 2 * pair[0].T @ dy]),),
    )
    pair = kind([np.ones((2, 3), np.float32), np.arange(6, dtype=np.float32).reshape(3, 2)])
    report = check_vjp(op, product, pair)
    assert "cotangent of pair[1]" in str(report)
    with pytest.raises(AssertionError, match="WRONG"):
        assert_vjp(op, product, pair)


def test_json():
    plain = json.loads(check_vjp(wrong, square, X).json())
    assert plain["ok"] is False
    assert plain["name"] == "square"
    assert {"stage", "argument", "probe", "index", "got", "expected", "bound", "ratio", "seed"} <= plain[
        "failures"
    ][0].keys()
    assert {s["name"] for s in plain["stages"]} >= {
        "primal value",
        "value",
        "linearity",
        "float32",
        "bfloat16",
        "vmap",
    }
    nan = jax.custom_vjp(square)
    nan.defvjp(lambda x: (x**2, x), lambda x, g: (g * jnp.nan,))
    json.loads(
        check_vjp(nan, square, X).json(), parse_constant=lambda c: (_ for _ in ()).throw(ValueError(c))
    )
