"""How a run stands after an epoch, in one of four words, and the counts that the word rests on."""

import math
from typing import Literal, NamedTuple

Outcome = Literal["trained", "frozen", "unstable", "diverged"]

CHANCE_LOSS = math.log(10)  # what a network that says 1/10 to every class loses
FROZEN_MARGIN = 0.02  # how near a loss is at it; SGD's noise in the last bias moves it by a tenth of this
CONSTANT_MARGIN = 1.0  # the same where the answer is constant, which small batches move further
CONSTANT = 0.99  # the share of images with one answer from which on it is called so
CLEARLY = 4.0  # standard deviations of guessing: 1 guess in 30,000 gets so far


class Evaluation(NamedTuple):
    """A network on a test set.

    Attributes:
      correct: how many it classifies right, of so many `images`.
      predicted: how many it gives each class.
      chance: how many the best constant answer gets right: the images of the commonest class.
      not_finite: how many have a logit that is NaN or infinite.
      loss: the mean cross-entropy.
    """

    correct: int
    images: int
    predicted: tuple[int, ...]
    chance: int
    not_finite: int
    loss: float


def outcome(train_loss: float, test: Evaluation | None) -> Outcome:
    """The word for an epoch's mean training loss and the evaluation after it.

    diverged: the training loss, the test loss or a logit of a test image is not finite.
    trained: test accuracy is clearly above chance, by more than four standard deviations of guessing.
    frozen: it is not, and both losses are at log 10, within 0.02, or within 1 where all test images but
      one in a hundred get the same class.
    unstable: it is not, and one of the losses is elsewhere: above, as where the rate is too high, or below,
      as where the training set was learned by heart.

    `test` is None where the training loss already decides.
    """
    if test is None or test.not_finite or not (math.isfinite(train_loss) and math.isfinite(test.loss)):
        return "diverged"
    if above_chance(test):
        return "trained"
    constant = max(test.predicted) >= CONSTANT * test.images
    off = max(abs(loss - CHANCE_LOSS) for loss in (train_loss, test.loss))
    return "frozen" if off <= (CONSTANT_MARGIN if constant else FROZEN_MARGIN) else "unstable"


def above_chance(test: Evaluation) -> bool:
    """More right answers than the best constant one has, by `CLEARLY` standard deviations of guessing."""
    share = test.chance / test.images
    return test.correct > test.chance + CLEARLY * math.sqrt(test.images * share * (1 - share))
