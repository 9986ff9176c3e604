r"""The sum algebra: arrays of unknown size, as polynomials in their own entries.

What is represented.  Fix finitely many *atoms*: real arrays x[i], γ[c], ... and size symbols n ≥ 1.  An
array of shape (n, C) is one polynomial in which the indices of its dimensions, 0 and 1, occur free: the
value at (i, c) is what the polynomial says when 0 := i and 1 := c.  A polynomial is a finite sum of
rational multiples of *monomials*, and a monomial a product of powers of factors, each of them

    Entry(name, indices)       an entry of an atom, x[0, 1]; a size symbol is an atom without indices
    Sum(sizes, entries)        a sum Σ over bound indices -1, -2, ..., of a product of powers of entries

so μ_c of x[i, c] is the one monomial n⁻¹·Σ_{-1} x[-1, 1].  Nothing here fixes a value of n: every identity
below holds for every assignment of sizes n ≥ 1 and every assignment of reals to the atoms.

Why it is sound.  Give sizes and atoms any values.  A polynomial then denotes an array of reals, and each
operation here denotes what its name says:

1. +, − and × are those of the commutative ring of arrays under pointwise operations; merging equal
   factors adds their powers, merging equal monomials adds their coefficients.
2. Renaming free indices is transposing or broadcasting.  Renaming bound ones changes no value, and
   `_canonical` does nothing else, so the name it picks need not be the best one.
3. Σ_i (p·q) = p·Σ_i q where i is not in p; a product of two sums is the double sum of the product,
   Σ_i a_i · Σ_j b_j = Σ_ij a_i·b_j, with i and j renamed apart; Σ_i p = n·p where i is not in p.  These
   finite, absolutely trivial facts are all that `total` and `assemble` use.
4. A *boolean* atom w takes the values 0 and 1, so w² = w.  The *infinitesimal* τ has τ² = 0: arithmetic
   modulo τ² is a ring, and the coefficient of τ in f(x + τ·v) is by definition the directional derivative
   Jf·v for f made of ring operations (for roots and quotients see `field`, for others `functions`).
   What holds of atoms whose entries are known numbers, or of which one is 1, is said in `tables`.

Therefore: if the difference of two values, brought to this form, has no term left, then the two arrays are
equal for all sizes and all reals.  That is the only conclusion ever drawn from a normal form.

What is not proved: completeness.  Two equal values might keep different normal forms (a relation between
atoms that no rule of `definitions` knows, a sum over more equal-sized indices than `_canonical` permutes,
an identity that holds only for small n).  A difference that does not vanish is therefore never a
refutation; a refutation is a point, found elsewhere, at which the two programs disagree.
"""

import math
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from bnjax.prove.monomials import (
    Entry,
    Factor,
    Monomial,
    Sum,
    components,
    entries_of,
    factor_of,
    flatten,
    free_indices,
    ordered,
    reindexed,
    renamed,
)
from bnjax.prove.words import poly_words

INFINITESIMAL = "τ."  # no parameter is called so
_TAU = Entry(INFINITESIMAL)


class Outside(Exception):
    """The program leaves the fragment that the algebra models; the message says where."""


@dataclass(frozen=True)
class Atom:
    """An array of reals: the sizes of its indices, and what is known of its entries.

    `literal` is what a literal is read as (`bnjax.prove.literals`).
    """

    name: str
    sizes: tuple[str, ...] = ()
    positive: bool = False
    boolean: bool = False
    size: bool = False
    literal: Any = None


class Poly:
    """A polynomial of a ring: monomials with their rational coefficients, none of them zero."""

    __slots__ = ("ring", "terms")

    def __init__(self, ring: "Ring", terms: dict[Monomial, Fraction]):
        self.ring = ring
        self.terms = terms

    def __add__(self, other: "Poly") -> "Poly":
        terms = dict(self.terms)
        for monomial, coefficient in other.terms.items():
            add_term(terms, monomial, coefficient)
        return Poly(self.ring, terms)

    def __neg__(self) -> "Poly":
        return Poly(self.ring, {m: -c for m, c in self.terms.items()})

    def __sub__(self, other: "Poly") -> "Poly":
        return self + -other

    def __mul__(self, other: "Poly") -> "Poly":
        terms: dict[Monomial, Fraction] = {}
        for left, a in self.terms.items():
            self.ring.check_time()
            for right, b in other.terms.items():
                monomial = self.ring.product(left, right)
                if monomial is not None:
                    add_term(terms, monomial, a * b)
        return Poly(self.ring, terms)

    def __pow__(self, power: int) -> "Poly":
        return math.prod([self] * power, start=self.ring.constant(1))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Poly) and self.terms == other.terms

    __hash__ = None  # type: ignore[assignment]

    def __str__(self) -> str:
        return poly_words(self.terms)

    def constant(self) -> Fraction | None:
        """The rational that this polynomial is, or None."""
        if not self.terms:
            return Fraction(0)
        return self.terms.get(()) if len(self.terms) == 1 else None

    def names(self) -> set[str]:
        """The atoms that occur."""
        return {entry.name for m in self.terms for entry, _ in entries_of(m)}

    def free(self) -> set[int]:
        """The free indices that occur."""
        return {i for m in self.terms for entry, _ in entries_of(m) for i in entry.indices if i >= 0}


class Ring:
    """The atoms, the size symbols and the time allowed; makes polynomials."""

    def __init__(self, seconds: float = math.inf):
        self.deadline = time.monotonic() + seconds
        self.atoms: dict[str, Atom] = {INFINITESIMAL: Atom(INFINITESIMAL)}

    def check_time(self) -> None:
        """Raise Outside once the time allowed is over."""
        if time.monotonic() > self.deadline:
            raise Outside("the time limit was reached")

    def constant(self, value: Fraction | int) -> Poly:
        """The polynomial without atoms."""
        return Poly(self, {(): Fraction(value)} if value else {})

    def atom(self, atom: Atom) -> Poly:
        """Declare `atom`, a name not used before; its entry at the free indices 0, 1, ..."""
        if atom.name in self.atoms:
            raise ValueError(f"{atom.name} is declared twice: two arrays would be taken for one")
        self.atoms[atom.name] = atom
        return self.entry(atom.name, tuple(range(len(atom.sizes))))

    def entry(self, name: str, indices: tuple[int, ...] = (), power: int = 1) -> Poly:
        """A power of one entry of an atom."""
        return Poly(self, {((Entry(name, indices), power),): Fraction(1)})

    def values_of(self, name: str) -> np.ndarray | None:
        """The numbers that an atom's entries are, where they are known: here of none (see `tables`)."""
        return None

    def size(self, size: str) -> Poly:
        """The number n of values of an index of this size: a symbol, or digits."""
        if size.isdigit():
            return self.constant(int(size))
        atom = self.atoms.setdefault(size, Atom(size, positive=True, size=True))
        if not atom.size:
            raise ValueError(f"{size} is the name of an array and of a size")
        return self.entry(size)

    def product(self, left: Monomial, right: Monomial) -> Monomial | None:
        """The product of two monomials, None where it is zero (τ² = 0)."""
        powers: dict[Factor, int] = dict(left)
        for factor, power in right:
            powers[factor] = powers.get(factor, 0) + power
        return self._monomial(powers)

    def _monomial(self, powers: dict[Factor, int]) -> Monomial | None:
        if powers.get(_TAU, 0) > 1:
            return None
        return ordered((f, p if isinstance(f, Sum) else self._power(f, p)) for f, p in powers.items())

    def _power(self, entry: Entry, power: int) -> int:
        return min(power, 1) if self.atoms[entry.name].boolean else power

    def assemble(self, bound: Mapping[int, str], entries: Iterable[tuple[Entry, int]]) -> Poly:
        """Σ over the `bound` indices (negative, with their sizes) of a product of entries."""
        powers: dict[Entry, int] = {}
        for entry, power in entries:
            powers[entry] = powers.get(entry, 0) + power
        kept = {e: self._power(e, p) for e, p in powers.items()}
        factors: dict[Factor, int] = {}
        unused = set(bound)
        for part_bound, part in components({e: p for e, p in kept.items() if p}):
            unused -= part_bound
            factor = factor_of({b: bound[b] for b in part_bound}, part)
            factors[factor] = factors.get(factor, 0) + (1 if part_bound else part[0][1])
        monomial = self._monomial(factors)
        if monomial is None:
            return self.constant(0)
        sizes = (self.size(bound[b]) for b in unused)
        return math.prod(sizes, start=Poly(self, {monomial: Fraction(1)}))

    def total(self, poly: Poly, index: int, size: str) -> Poly:
        """Σ over the free index `index`, which takes `size` values."""
        result = self.constant(0)
        for monomial, coefficient in poly.terms.items():
            self.check_time()
            outside = tuple(f for f in monomial if index not in free_indices(f[0]))
            inside = tuple(f for f in monomial if index in free_indices(f[0]))
            bound, entries = flatten(inside)
            new = -1 - len(bound)
            summed = self.assemble({**bound, new: size}, reindexed(entries, {index: new}))
            result += summed * Poly(self, {outside: coefficient})
        return result

    def rename(self, poly: Poly, names: Mapping[int, int]) -> Poly:
        """Give the free indices other names, some of them the same name."""
        if all(old == new for old, new in names.items()):
            return poly
        result = self.constant(0)
        free = poly.free()
        if len({names.get(index, index) for index in free}) < len(free):
            for monomial, coefficient in poly.terms.items():
                bound, entries = flatten(monomial)
                result += self.constant(coefficient) * self.assemble(bound, reindexed(entries, names))
            return result
        for monomial, coefficient in poly.terms.items():
            powers = ((renamed(factor, names), power) for factor, power in monomial)
            add_term(result.terms, ordered(powers), coefficient)
        return result

    def part(self, poly: Poly, name: str, power: int) -> Poly:
        """The coefficient of name**power, for an atom without indices."""
        factor = Entry(name)
        terms = {}
        for monomial, coefficient in poly.terms.items():
            if dict(monomial).get(factor, 0) == power:
                terms[tuple(f for f in monomial if f[0] != factor)] = coefficient
        return Poly(self, terms)

    def check_layout(self, poly: Poly, sizes: tuple[str, ...]) -> None:
        """Every free index is one of the array's dimensions, with the size that each atom gives it.

        This holds after every operation of a right interpreter; it is asserted because a reduction over
        a wrong axis, or a reshape that scrambles, would break it before it made a wrong proof.
        """
        for monomial in poly.terms:
            for (name, indices), _ in entries_of(monomial):
                for index, size in zip(indices, self.atoms[name].sizes, strict=True):
                    if index >= 0 and (index >= len(sizes) or sizes[index] != size):
                        raise Outside(
                            f"layout: index {index} of {name} runs over {size}, "
                            f"in an array with dimensions ({', '.join(sizes)})"
                        )


def add_term(terms: dict[Monomial, Fraction], monomial: Monomial, coefficient: Fraction) -> None:
    """Add a term in place; coefficients that become zero leave."""
    total = terms.get(monomial, 0) + coefficient
    if total:
        terms[monomial] = Fraction(total)
    else:
        terms.pop(monomial, None)
