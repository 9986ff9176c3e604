"""Is a hand VJP the true one, at points?  Nothing in here knows of batch norm, nor of `bnjax.prove`."""

from bnjax.check.check import assert_vjp, check_vjp
from bnjax.check.report import CheckReport

__all__ = ["CheckReport", "assert_vjp", "check_vjp"]
