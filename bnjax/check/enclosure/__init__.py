"""How far a right rule may stray: every bound of the checker, and where it comes from."""

from bnjax.check.enclosure.model import Ball, Rounding, allowance, rounding
from bnjax.check.enclosure.run import enclose, evaluate, without_bound

__all__ = ["Ball", "Rounding", "allowance", "enclose", "evaluate", "rounding", "without_bound"]
