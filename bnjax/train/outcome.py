"""How a run stands after an epoch."""

import math
from typing import Literal

Outcome = Literal["trained", "frozen", "diverged"]

CHANCE_LOSS = math.log(10)  # what a network that says 1/10 to every class loses
FROZEN_MARGIN = 0.02


def outcome(train_loss: float) -> Outcome:
    """diverged: the loss is not finite; frozen: within 0.02 of log 10; else trained."""
    if not math.isfinite(train_loss):
        return "diverged"
    return "frozen" if abs(train_loss - CHANCE_LOSS) <= FROZEN_MARGIN else "trained"
