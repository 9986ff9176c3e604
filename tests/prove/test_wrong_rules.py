"""Every planted error of real arithmetic is refuted by a point that shows it; no verdict is wrong."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.prove import prove_vjp
from bnjax.verify.planted import MUTANTS

WITHIN_REACH = [mutant for mutant in MUTANTS if mutant.shapes]
REAL = [mutant for mutant in WITHIN_REACH if mutant.real]
OTHERS = [mutant for mutant in WITHIN_REACH if not mutant.real]

# Right over the reals, in the programs traced at float32 and differentiated once; each is wrong elsewhere.
RIGHT_OVER_THE_REALS = (
    "second order",  # the first derivative is right
    "only in bfloat16",
    "computed in bfloat16",  # a cast is the identity over the reals
    "in float16",
    "in bfloat16",
    "only without jit",  # a program is traced to be read
    "residuals from another iteration",
)


def id_of(mutant):
    return mutant.name


def cotangents_at(function, point):
    """The value and the cotangents of a function at a counterexample's point: traced, in float64."""

    @jax.jit
    def run(dy, *args):
        value, pull = jax.vjp(function, *args)
        return value, *pull(dy)

    with jax.enable_x64(True):
        return [
            np.asarray(leaf)
            for leaf in run(*(jnp.asarray(np.asarray(value, float)) for value in point.values()))
        ]


def few(mutants):
    """All of them, but by default only every fourth."""
    return [pytest.param(m, marks=() if k % 4 == 0 else pytest.mark.slow) for k, m in enumerate(mutants)]


@pytest.mark.family
@pytest.mark.parametrize("mutant", few(REAL), ids=id_of)
def test_an_error_in_real_arithmetic_is_refuted(mutant):
    proof = prove_vjp(mutant.op, mutant.primal, *mutant.shapes, positive=mutant.positive)
    assert proof.status == "refuted", str(proof)
    mine, theirs = (cotangents_at(f, proof.counterexample.point) for f in (mutant.op, mutant.primal))
    worst = max(np.max(abs(a - b) / (abs(a) + abs(b) + 1e-6)) for a, b in zip(mine, theirs, strict=True))
    assert worst > 1e-9


@pytest.mark.family
@pytest.mark.parametrize("mutant", few(OTHERS), ids=id_of)
def test_an_error_elsewhere_is_not_called_right_where_it_is_wrong(mutant):
    proof = prove_vjp(mutant.op, mutant.primal, *mutant.shapes, positive=mutant.positive)
    if any(words in mutant.name for words in RIGHT_OVER_THE_REALS):
        assert proof.status in ("proved", "refused")
    else:
        assert proof.status in ("refuted", "refused"), str(proof)
    if proof.status == "refuted":
        mine, theirs = (cotangents_at(f, proof.counterexample.point) for f in (mutant.op, mutant.primal))
        pairs = zip(mine, theirs, strict=True)
        assert not all(np.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in pairs)


@pytest.mark.thorough
def test_the_right_rules_of_the_mutated_functions_are_proved():
    """The negative control: what refutes the mutants lets their targets' autodiff through."""
    seen = {mutant.target: mutant for mutant in WITHIN_REACH}
    assert len(seen) >= 5
    for mutant in seen.values():
        proof = prove_vjp(mutant.primal, mutant.primal, *mutant.shapes, positive=mutant.positive)
        assert proof.status == "proved", f"{mutant.target}: {proof}"
