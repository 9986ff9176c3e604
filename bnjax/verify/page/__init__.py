"""The blueprint: one HTML file that says what is claimed, what was found and what must be trusted.

It is made of what `bnjax verify` and `bnjax verify --coq` wrote as JSON, of the tables and figures beside
that, and of CONTRIBUTING.md; it runs no verifier, so every status in it is one that a file holds.  What it is
not: a place where a verdict is made, or mended.
"""

from bnjax.verify.page.build import build
from bnjax.verify.page.found import Found, read

__all__ = ["Found", "build", "read"]
