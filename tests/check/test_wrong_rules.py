"""The checker is checked: every planted error must be refused, at a small n and at a large one."""

import jax
import numpy as np
import pytest

from bnjax.check import check_vjp
from bnjax.verify.planted import MUTANTS

# one in twenty-four, and one of each circumstance
FEW = [m for i, m in enumerate(MUTANTS) if i % 24 == 0]
FEW += [m for m in MUTANTS if "wrong only" in m.name or "second order: dy" in m.name or "iteration" in m.name]


def test_the_planted_errors_are_many_and_distinct():
    assert len(MUTANTS) >= 60
    assert len({m.name for m in MUTANTS}) == len(MUTANTS)
    assert {m.target for m in MUTANTS} == {
        "affine",
        "center",
        "inverse_stddev",
        "normalize",
        "batch_norm",
        "layer_norm",
        "softmax_cross_entropy",
        "matmul",
    }


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_a_mutant_has_the_value_of_its_primal(mutant):
    arguments = mutant.arguments(8)
    got, expected = mutant.op(*arguments), mutant.primal(*arguments)
    assert np.array_equal(got, expected)
    assert not mutant.shapes or len(mutant.shapes) == len(arguments)
    assert all(np.ndim(a) == len(s.split()) for a, s in zip(arguments, mutant.shapes, strict=False))


@pytest.mark.family
@pytest.mark.parametrize("mutant", [m for m in MUTANTS if m.real], ids=lambda m: m.name)
def test_an_error_in_real_arithmetic_is_there_in_float64(mutant):
    """`real` is not claimed lightly: float64 autodiff shows it on plain random arguments."""
    with jax.enable_x64(True):
        arguments = [
            np.asarray(a, np.float64) if np.asarray(a).dtype.kind == "f" else a for a in mutant.arguments(8)
        ]
        y = mutant.primal(*arguments)
        floats = [i for i, a in enumerate(arguments) if np.asarray(a).dtype.kind == "f"]
        worst = 0.0
        dy = np.random.default_rng(3).normal(size=y.shape)
        for got, expected in zip(
            jax.vjp(mutant.op, *arguments)[1](dy), jax.vjp(mutant.primal, *arguments)[1](dy), strict=True
        ):
            if got.dtype.kind == "f":
                worst = max(worst, float(np.max(abs(got - expected)) / np.max(abs(expected))))
    assert floats
    assert worst > 1e-4


def refused(mutant, n):
    report = check_vjp(mutant.op, mutant.primal, *mutant.arguments(n))
    return not report.ok and not {f.stage for f in report.failures} <= {"oracle", "evidence"}


@pytest.mark.family
@pytest.mark.parametrize("mutant", FEW, ids=lambda m: m.name)
def test_a_mutant_is_refused(mutant):
    assert refused(mutant, 8)


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 131_072])
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda m: m.name)
def test_every_mutant_is_refused(mutant, n):
    assert refused(mutant, n)
