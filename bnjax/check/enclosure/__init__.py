"""How far a right rule may stray: every bound of the checker, and where it comes from."""

from bnjax.check.enclosure.model import Ball, Rounding, allowance, rounding
from bnjax.check.enclosure.run import EndlessError, enclose, evaluate, may_not_end, without_bound
from bnjax.check.enclosure.solving import SOLVING

__all__ = [
    "SOLVING",
    "Ball",
    "EndlessError",
    "Rounding",
    "allowance",
    "enclose",
    "evaluate",
    "may_not_end",
    "rounding",
    "without_bound",
]
