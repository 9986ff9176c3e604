"""Right rules, written differently from autodiff of their primal: proved or refused, never refuted."""

import numpy as np
import pytest

pytest.importorskip("flax")
from bnjax.prove import prove_vjp
from bnjax.verify.planted.right import EPS, RIGHT_RULES

# outside the fragment: elements by position, loops
REFUSED = (
    "fori_loop", "scan", "pairwise", "backwards", "two parts",
)  # fmt: skip
# clipped at 0, where JAX takes half of the gradient of a variance: that this is 0 there is not seen
# and shifted by an element, where the variance is written by sums that could be 0
CONDITIONAL = ("Flax, one-pass", "shifted forward")


def shapes_of(rule):
    """The shapes of a rule's arguments, with the letter n for what grows with the batch."""
    small, large = (rule.arguments(n, 0) for n in (4, 7))
    return [
        " ".join("n" if a != b else str(a) for a, b in zip(np.shape(x), np.shape(y), strict=True))
        for x, y in zip(small, large, strict=True)
    ]


def epsilons(rule):
    args = rule.arguments(4, 0)
    return tuple(k for k, arg in enumerate(args) if np.shape(arg) == () and np.asarray(arg) == EPS)


FLOATS = [r for r in RIGHT_RULES if all(np.asarray(a).dtype.kind == "f" for a in r.arguments(4, 0))]


@pytest.mark.family
@pytest.mark.parametrize(
    "rule",
    [pytest.param(rule, marks=() if k % 4 == 0 else pytest.mark.slow) for k, rule in enumerate(FLOATS)],
    ids=lambda rule: rule.name,
)
def test_a_right_rule_is_proved_or_refused(rule):
    proof = prove_vjp(rule.op, rule.primal, *shapes_of(rule), positive=epsilons(rule))
    expected = "refused" if any(word in rule.name for word in REFUSED) else "proved"
    if any(word in rule.name for word in CONDITIONAL):
        expected = "conditional"
    assert proof.status == expected, str(proof)


def test_most_are_proved():
    assert sum(not any(word in rule.name for word in REFUSED) for rule in FLOATS) >= 24
