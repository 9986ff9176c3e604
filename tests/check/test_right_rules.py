"""The checker is checked: right rules, however they are written, must be accepted."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.check import check_vjp
from bnjax.verify.planted.right import RIGHT_RULES

SIZES = (1, 2, 3, 8, 31, 128, 1000, 4096, 131_072, 1_000_000)
DTYPES = (jnp.float32, jnp.bfloat16, jnp.float64)


def arguments(rule, n, seed, dtype):
    return [
        np.asarray(a).astype(dtype) if np.asarray(a).dtype.kind == "f" else a for a in rule.arguments(n, seed)
    ]


def alarm(rule, n, seed, dtype):
    """The report where a right rule is refused, else None."""
    with jax.enable_x64(dtype == jnp.float64):
        report = check_vjp(rule.op, rule.primal, *arguments(rule, n, seed, dtype))
    return None if report.ok else f"{rule.name}, n = {n}, seed = {seed}, {dtype.__name__}\n{report}"


def test_the_right_rules_are_many_and_distinct():
    assert len({r.name for r in RIGHT_RULES}) == len(RIGHT_RULES) >= 40


@pytest.mark.family
@pytest.mark.parametrize("rule", RIGHT_RULES[::8], ids=lambda r: r.name)
def test_a_right_rule_is_accepted(rule):
    assert (found := alarm(rule, 8, 0, jnp.float32)) is None, found


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("n", "dtype"), [(1, jnp.float32), (31, jnp.bfloat16), (4096, jnp.float64), (1_000_000, jnp.float32)]
)
def test_a_right_rule_is_accepted_at_any_size(n, dtype):
    assert (found := alarm(RIGHT_RULES[1], n, 1, dtype)) is None, found


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("name", "n", "seed", "dtype"),
    [
        # E[x²] − E[x]² in a narrow dtype, where the batch lay many standard deviations from zero
        ("batch_norm/one-pass variance", 2, 31, jnp.float32),
        ("batch_norm/one-pass variance", 2, 11, jnp.bfloat16),
        ("batch_norm of (n, C)/Flax, one-pass", 3, 42, jnp.bfloat16),
        # labels that were kept below the batch's new size and not below that of the classes
        ("softmax_cross_entropy/p − one-hot", 2, 11, jnp.bfloat16),
        ("softmax_cross_entropy/in place", 3, 32, jnp.float32),
    ],
)
def test_a_right_rule_that_was_once_refused_is_accepted(name, n, seed, dtype):
    (rule,) = (r for r in RIGHT_RULES if r.name == name)
    assert (found := alarm(rule, n, seed, dtype)) is None, found


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(50))
@pytest.mark.parametrize("rule", RIGHT_RULES, ids=lambda r: r.name)
def test_every_right_rule_is_accepted_on_fifty_seeds(rule, seed):
    """Sizes and dtypes take turns, so that every rule meets every size from 1 to 10⁶ in every dtype."""
    found = alarm(rule, SIZES[seed % len(SIZES)], seed, DTYPES[seed // len(SIZES) % len(DTYPES)])
    assert found is None, found
