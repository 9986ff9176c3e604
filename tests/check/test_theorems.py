"""Every theorem of the chapter, and what goes beyond it, through the checker."""

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import THEOREMS
from bnjax.check import check_vjp
from bnjax.theorems import batch_norm_inference, batch_norm_inference_primal

PARAMETERS = {
    28: (1.3, -0.4),
    29: (),
    30: (1e-3,),
    31: (1e-3,),
    32: (1e-3,),
    33: (-0.7, 0.2),
    34: (-1.3, 0.4, 1e-3),
}


def batch(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.family
@pytest.mark.parametrize("n", [1, 8])
@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda t: f"{t.number}")
def test_a_theorem_on_a_vector(theorem, n):
    report = check_vjp(theorem.op, theorem.primal, batch(n), *map(np.float32, PARAMETERS[theorem.number]))
    assert report.ok, str(report)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("axis", "shape"), [((0, 1, 2), (4, 5, 6, 3)), ((0, 2, 3), (4, 3, 5, 6)), (-1, (4, 8))]
)
@pytest.mark.parametrize("theorem", THEOREMS, ids=lambda t: f"{t.number}")
def test_a_theorem_on_channels(theorem, axis, shape):
    axes = np.atleast_1d(axis) % len(shape)
    kept = [s for a, s in enumerate(shape) if a not in axes]
    given = PARAMETERS[theorem.number]
    parameters = [np.float32(p) if p == 1e-3 else batch(*kept, seed=i + 1) for i, p in enumerate(given)]
    report = check_vjp(
        partial(theorem.op, axis=axis), partial(theorem.primal, axis=axis), batch(*shape), *parameters
    )
    assert report.ok, str(report)


@pytest.mark.thorough
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_batch_norm_given_in_half_precision(dtype):
    theorem = THEOREMS[-1]
    x = batch(64).astype(dtype)
    report = check_vjp(theorem.op, theorem.primal, x, np.float32(1.3), np.float32(0.4), np.float32(1e-3))
    assert report.ok, str(report)


@pytest.mark.thorough
def test_evaluation_mode():
    x, channels = batch(6, 3), [batch(3, seed=i) for i in (1, 2, 3)]
    report = check_vjp(
        batch_norm_inference,
        batch_norm_inference_primal,
        x,
        *channels,
        np.abs(batch(3, seed=4)) + 0.1,
        np.float32(1e-3),
    )
    assert report.ok, str(report)


@pytest.mark.thorough
def test_batch_norm_on_a_large_batch():
    theorem = THEOREMS[-1]
    report = check_vjp(
        theorem.op, theorem.primal, batch(131_072), np.float32(1.3), np.float32(0.4), np.float32(1e-5)
    )
    assert report.ok, str(report)
