"""Is a hand VJP the true one?  Nothing in here knows of batch norm but the planted errors of `mutants`."""

from bnjax.verify.check import assert_vjp, check_vjp
from bnjax.verify.report import CheckReport

__all__ = ["CheckReport", "assert_vjp", "check_vjp"]
