"""A rule that is told what is differentiated, or which results are used, is right for each of them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.custom_derivatives import SymbolicZero

from bnjax.check import check_vjp

X, Y = np.random.default_rng(3).normal(size=(2, 4)).astype(np.float32)


def both(x, y):
    return x * y, x + y


def told(differentiated, used):
    """The product and the sum, by a rule with symbolic zeros; the keywords put x's cotangent wrong.

    `differentiated` is x's factor where y is not differentiated, `used` where the sum is not used.
    """
    asked = []

    def forward(x, y):
        asked[:] = [y.perturbed]
        return both(x.value, y.value), (x.value, y.value)

    def backward(kept, cotangents):
        x, y = kept
        unused = isinstance(cotangents[1], SymbolicZero)
        p, s = (jnp.zeros_like(x) if isinstance(c, SymbolicZero) else c for c in cotangents)
        factor = (1 if asked[0] else differentiated) * (used if unused else 1)
        return factor * (p * y + s), p * x + s

    op = jax.custom_vjp(both)
    op.defvjp(forward, backward, symbolic_zeros=True)
    return op


def test_a_right_rule_with_symbolic_zeros_is_accepted():
    report = check_vjp(told(1, 1), both, X, Y)
    assert report.ok, str(report)
    assert any(stage.name == "symbolic zeros" and stage.comparisons for stage in report.stages)


@pytest.mark.parametrize("wrong", [(2, 1), (1, 2)])
def test_a_rule_that_is_wrong_where_something_is_left_out_is_refused(wrong):
    report = check_vjp(told(*wrong), both, X, Y)
    assert report.verdict == "WRONG"
    assert {f.stage for f in report.failures} == {"symbolic zeros"}


def test_any_other_rule_is_not_looked_at_again():
    report = check_vjp(both, both, X, Y)
    assert not any(stage.name == "symbolic zeros" for stage in report.stages)
