"""How far a right rule may stray: every bound of the checker, and where it comes from."""

from bnjax.check.enclosure.rules import Ball, Rounding, allowance, enclose, rounding

__all__ = ["Ball", "Rounding", "allowance", "enclose", "rounding"]
