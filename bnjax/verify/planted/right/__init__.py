"""Right rules, written differently from autodiff of their primal: what a checker must not alarm on.

Each entry is a rule, its primal, and its arguments for a batch of n, as `Mutant`s are; the backward passes
differ in parenthesization, in where statistics come from, in how sums are made and in what is saved.
"""

from bnjax.verify.planted.family import Case
from bnjax.verify.planted.right.batch_norm import BATCH_NORM
from bnjax.verify.planted.right.columns import COLUMNS
from bnjax.verify.planted.right.form import EPS
from bnjax.verify.planted.right.others import OTHERS, THEOREMS

__all__ = ["EPS", "RIGHT_RULES"]

RIGHT_RULES: tuple[Case, ...] = (*BATCH_NORM, *COLUMNS, *THEOREMS, *OTHERS)
