"""Planted errors: wrong rules that every verifier must refuse, at n = 8 and at n = 131,072.

`vector` puts the chapter's own rules wrong a line at a time, `matrix` those of (n, C) arrays, layer norm,
cross-entropy and matmul, and `circumstance` holds rules that are right until something particular happens.
`gradient` holds theorem 31's: wrong bounds on a gradient, and gradients that miss the true ones.
`right` holds right rules, mostly batch norm's, that no verifier may refuse; `beyond` right and wrong ones of
other functions.
"""

from bnjax.verify.planted.circumstance import CIRCUMSTANCE
from bnjax.verify.planted.family import Family, Mutant
from bnjax.verify.planted.gradient import GRADIENT
from bnjax.verify.planted.matrix import MATRIX
from bnjax.verify.planted.vector import VECTOR

__all__ = ["GRADIENT", "MUTANTS", "Family", "Mutant"]

MUTANTS: tuple[Mutant, ...] = (*VECTOR, *MATRIX, *CIRCUMSTANCE)
