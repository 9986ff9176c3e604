"""A row of what a mask keeps sums to something positive where it keeps itself; only there is that shown."""

import jax.numpy as jnp
import pytest

from bnjax.prove import prove_vjp

MASKS = {  # row, column: what is kept, and whether each row keeps itself
    "those before, itself included": (lambda i, j: i >= j, True),
    "those after, itself included": (lambda i, j: ~(i > j), True),
    "all others": (lambda i, j: (i > j) | (j > i), False),
    "those before": (lambda i, j: i > j, False),
}


@pytest.mark.family
@pytest.mark.parametrize("name", MASKS)
def test_a_mean_of_what_a_mask_keeps_is_defined(name):
    keeps, defined = MASKS[name]

    def mean(x):
        places = jnp.arange(x.shape[0])
        weights = jnp.where(keeps(places[:, None], places), jnp.exp(x), 0.0)
        return weights / weights.sum(1, keepdims=True)

    proof = prove_vjp(mean, mean, "T T")
    assert (proof.status == "proved") == defined, str(proof)
    assert defined or any("≠ 0" in o.claim and not o.discharged for o in proof.obligations)
