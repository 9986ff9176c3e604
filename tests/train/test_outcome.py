"""The four words for a run: each true of the counts it rests on."""

import math

import pytest

from bnjax.train.outcome import CHANCE_LOSS, Evaluation, outcome

MIXED = (400, 600, 0, 0, 0, 0, 0, 0, 0, 0)
CONSTANT = (0, 1000, 0, 0, 0, 0, 0, 0, 0, 0)
NEARLY = (10, 990, 0, 0, 0, 0, 0, 0, 0, 0)


def evaluation(correct=100, predicted=MIXED, loss=CHANCE_LOSS, **counts):
    return Evaluation(correct, 1000, predicted, **({"chance": 100, "not_finite": 0} | counts), loss=loss)


@pytest.mark.parametrize(
    ("train_loss", "test", "expected"),
    [
        (math.nan, None, "diverged"),
        (math.inf, None, "diverged"),
        (math.inf, evaluation(900), "diverged"),
        (1.0, evaluation(900, not_finite=1), "diverged"),
        (1.0, evaluation(900, loss=math.inf), "diverged"),
        (CHANCE_LOSS, evaluation(), "frozen"),
        (CHANCE_LOSS + 0.019, evaluation(), "frozen"),
        (CHANCE_LOSS - 0.019, evaluation(), "frozen"),
        (CHANCE_LOSS, evaluation(loss=CHANCE_LOSS + 0.019), "frozen"),
        (CHANCE_LOSS + 0.021, evaluation(), "unstable"),
        (CHANCE_LOSS, evaluation(loss=CHANCE_LOSS + 0.021), "unstable"),
        (1.2, evaluation(loss=4.0), "unstable"),  # learned by heart: test accuracy shows nothing of it
        (2.349, evaluation(predicted=CONSTANT), "frozen"),  # as a mean over the epoch in which it froze
        (CHANCE_LOSS, evaluation(predicted=NEARLY, loss=2.9), "frozen"),
        (CHANCE_LOSS, evaluation(predicted=(11, 989, *NEARLY[2:]), loss=2.9), "unstable"),
        (CHANCE_LOSS - 0.021, evaluation(), "unstable"),
        (CHANCE_LOSS, evaluation(loss=CHANCE_LOSS - 0.021), "unstable"),
        (0.4, evaluation(loss=0.4), "unstable"),  # its losses are nowhere near log 10
        (0.4, evaluation(predicted=CONSTANT, loss=0.4), "unstable"),
        (4e9, evaluation(predicted=CONSTANT, loss=4e9), "unstable"),
        (4e9, evaluation(loss=4e9), "unstable"),
        (4e9, evaluation(900, loss=4e9), "trained"),  # what it says is right, if far too loud
        (1.2, evaluation(666, loss=1.2), "trained"),
        (CHANCE_LOSS, evaluation(200), "trained"),
        (1.2, evaluation(137), "unstable"),  # 100 + 4 × 9.5 = 138 could be a guess
        (CHANCE_LOSS, evaluation(137), "frozen"),
        (1.2, evaluation(139), "trained"),
        (1.2, evaluation(600, chance=600), "unstable"),  # of a set in which 600 have one class
    ],
)
def test_outcome(train_loss, test, expected):
    assert outcome(train_loss, test) == expected
