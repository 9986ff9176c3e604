"""Tables: arrays of integers that the program itself holds, such as the matrix of a slice, and deltas.

An atom whose entries are known numbers is a table, δ_n[i, j] = [i = j] one over a size that may be a symbol,
and a choice an atom with at most one 1 along one of its indices, [labels_i = c].  They say where elements
go: y_i = Σ_j M_ij·x_j.  What is true of a table is true by its numbers, and the laws below are all that is
used of the others.

Why it is sound.  `simplified` uses these equations between finite sums, each true for all values:

1. Σ_j δ_ij·p_j = p_i; δ_ij·p_j = δ_ij·p_i; δ_ii = 1.
2. M_ij·M_il = δ_jl·M_ij² where M has at most one number that is not 0 along that index.
3. a product of tables, Σ_j M_ij·N_jk where j occurs nowhere else, and the values M_ii, are tables again,
   computed in integers; equal tables have one name, whatever the order of their indices.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from bnjax.prove.algebra import Atom, Outside, Poly, Ring
from bnjax.prove.monomials import Entry, Monomial, Powers, entries_of, flatten

LARGEST = 2**20  # numbers of a table
_PRODUCT = 2**18  # numbers looked at for a product of tables
DELTA = "delta."
_AXES = 4  # of a table that is a product
_EXACT = 2.0**62


class Tables(Ring):
    """A ring with tables, deltas and choices, and what holds of their products."""

    def __init__(self, seconds: float = math.inf):
        super().__init__(seconds)
        self.tables: dict[str, np.ndarray] = {}
        self._names: dict[tuple[tuple[int, ...], bytes], str] = {}
        # (atom, index) where at most one entry along the index is not 0, whatever the others are
        self.single: set[tuple[str, int]] = set()
        self._choices: set[str] = set()

    def delta(self, size: str, i: int, j: int) -> Poly:
        """[i = j], over an axis of this size."""
        if i == j:
            return self.constant(1)
        return self.entry(self._delta(size), (min(i, j), max(i, j)))

    def _delta(self, size: str) -> str:
        name = f"{DELTA}{size}"
        self.atoms.setdefault(name, Atom(name, (size, size), boolean=True))
        self.single |= {(name, 0), (name, 1)}
        return name

    def table(self, values: np.ndarray, indices: Sequence[int]) -> Poly:
        """An array of integers at `indices`, one for each axis: that of an axis of size 1 says nothing."""
        values, indices = _squeezed(np.asarray(values, np.int64), tuple(indices))
        if values.size > LARGEST:
            raise Outside(f"a table of {values.size} numbers")
        scale = int(np.gcd.reduce(values, axis=None)) if values.size else 0
        if not scale:
            return self.constant(0)
        scale = -scale if values.ravel()[np.flatnonzero(values)[0]] < 0 else scale
        values = values // scale
        if not indices:
            return self.constant(scale)
        if values.ndim == 2 and np.array_equal(values, values.T):
            return self.constant(scale) * self._symmetric(values, indices)
        return self.constant(scale) * self._entry(values, indices)

    def _symmetric(self, values: np.ndarray, indices: tuple[int, ...]) -> Poly:
        """L + Lᵀ + D: else the entries at (i, j) and at (j, i) would be two unknowns."""
        lower, diagonal = np.tril(values, -1), np.diagonal(values)
        result = self.delta(str(len(values)), *indices) * self.table(diagonal, indices[:1])
        return result + self.table(lower, indices) + self.table(lower.T, indices)

    def _entry(self, values: np.ndarray, indices: tuple[int, ...]) -> Poly:
        orders = itertools.permutations(range(values.ndim)) if values.ndim <= _AXES else [range(values.ndim)]
        shape_and_bytes, order = min(
            ((moved.shape, np.ascontiguousarray(moved).tobytes()), order)
            for order in map(tuple, orders)
            for moved in [values.transpose(order)]
        )
        if shape_and_bytes not in self._names:
            name = self._names[shape_and_bytes] = f"table.{len(self._names)}"
            kept = values.transpose(order)
            boolean = bool(np.all((kept == 0) | (kept == 1)))
            self.tables[name] = kept
            self.atoms[name] = Atom(name, tuple(map(str, kept.shape)), bool(np.all(kept > 0)), boolean)
            self.single |= {(name, k) for k in range(kept.ndim) if np.all((kept != 0).sum(k) <= 1)}
        return self.entry(self._names[shape_and_bytes], tuple(indices[k] for k in order))

    def has_values(self, name: str) -> bool:
        """Whether it is a table, or a delta over an axis of given size."""
        return name in self.tables or (name.startswith(DELTA) and name.removeprefix(DELTA).isdigit())

    def values_of(self, name: str) -> np.ndarray | None:
        """The numbers of what has them; else None."""
        if not self.has_values(name) or name in self.tables:
            return self.tables.get(name)
        return np.eye(int(name.removeprefix(DELTA)), dtype=np.int64)

    def nonzero(self, name: str) -> int:
        """How many of the numbers of what has them are not 0."""
        known = self.tables.get(name)
        return int(name.removeprefix(DELTA)) if known is None else int(np.count_nonzero(known))

    def choice(self, name: str, sizes: tuple[str, ...]) -> None:
        """Declare a boolean atom with at most one 1 along its last index."""
        self.atom(Atom(name, sizes, boolean=True))
        self.single.add((name, len(sizes) - 1))
        self._choices.add(name)

    def reciprocal(self, poly: Poly) -> Poly | None:
        """1/poly where that is a number times a table without 0; else None."""
        if len(poly.terms) != 1:
            return None
        ((monomial, coefficient),) = poly.terms.items()
        if len(monomial) != 1 or not isinstance(monomial[0][0], Entry) or monomial[0][1] != 1:
            return None
        entry = monomial[0][0]
        values = self.tables.get(entry.name)
        if values is None or not np.all(values):
            return None
        whole = int(np.lcm.reduce(values, axis=None))
        return self.table(whole // values, entry.indices) * self.constant(1 / (coefficient * whole))

    def simplified(self, monomial: Monomial) -> Poly | None:
        """The same value in a simpler form; None where no law applies."""
        if not any(self._is_known(entry.name) for entry, _ in entries_of(monomial)):
            return None
        bound, entries = flatten(monomial)
        for law in (self._without_delta, self._chosen_once, self._as_one_table):
            result = law(bound, entries)
            if result is not None:
                return result
        return None

    def _is_known(self, name: str) -> bool:
        return name in self.tables or name in self._choices or name.startswith(DELTA)

    def _without_delta(self, bound: dict[int, str], entries: Powers) -> Poly | None:
        for place, ((name, indices), power) in enumerate(entries):
            if not name.startswith(DELTA):
                continue
            i, j = min(indices), max(indices)
            rest = entries[:place] + entries[place + 1 :]
            if i == j:
                return self.assemble(bound, rest)
            if i < 0:
                kept = {b: size for b, size in bound.items() if b != i}
                return self.assemble(kept, _with_index(rest, i, j))
            if power != 1 or (i, j) != indices or any(j in entry.indices for entry, _ in rest):
                return self.assemble(bound, [*_with_index(rest, j, i), (Entry(name, (i, j)), 1)])
        return None

    def _chosen_once(self, bound: dict[int, str], entries: Powers) -> Poly | None:
        for (first, _), (second, power) in itertools.combinations(entries, 2):
            if first.name != second.name or first.name.startswith(DELTA):
                continue
            apart = [k for k, (i, j) in enumerate(zip(first.indices, second.indices, strict=True)) if i != j]
            if len(apart) != 1 or (first.name, apart[0]) not in self.single:
                continue
            size = self.atoms[first.name].sizes[apart[0]]
            i, j = sorted((first.indices[apart[0]], second.indices[apart[0]]))
            rest = list(entries)
            rest.remove((second, power))
            return self.assemble(bound, [*rest, (first, power), (Entry(self._delta(size), (i, j)), 1)])
        return None

    def _as_one_table(self, bound: dict[int, str], entries: Powers) -> Poly | None:
        """Powers, repeated indices, products over the same indices, and sums over what only tables have."""
        tables = [(entry, power) for entry, power in entries if entry.name in self.tables]
        for entry, power in tables:
            if power > 0 and (power > 1 or len(set(entry.indices)) < len(entry.indices)):
                return self._joined(bound, entries, [(entry, power)])
        for index in bound:
            inside = [(e, p) for e, p in entries if index in e.indices]
            if inside and all(e.name in self.tables and p > 0 for e, p in inside):
                result = self._joined(bound, entries, inside, index)
                if result is not None:
                    return result
        for first, second in itertools.combinations(tables, 2):
            small, large = sorted((set(first[0].indices), set(second[0].indices)), key=len)
            if small <= large and first[1] > 0 and second[1] > 0:
                return self._joined(bound, entries, [first, second])
        return None

    def _joined(
        self, bound: dict[int, str], entries: Powers, chosen: Powers, summed: int | None = None
    ) -> Poly | None:
        """The chosen tables as one, summed over a bound index; None where that would be too large."""
        union = sorted({i for entry, _ in chosen for i in entry.indices})
        kept = [i for i in union if i != summed]
        sizes = {
            i: size
            for entry, _ in chosen
            for i, size in zip(entry.indices, self.tables[entry.name].shape, strict=True)
        }
        count = math.prod(sizes.values())
        if count > _PRODUCT or len(kept) > _AXES:
            return None
        letters = {i: chr(ord("a") + k) for k, i in enumerate(union)}
        terms = ",".join("".join(letters[i] for i in entry.indices) for entry, _ in chosen)
        arrays = [self.tables[entry.name] for entry, _ in chosen]
        bounds = (float(np.max(np.abs(a))) ** p for a, (_, p) in zip(arrays, chosen, strict=True))
        if math.prod(bounds, start=float(count)) > _EXACT:
            return None
        powers = [a**p for a, (_, p) in zip(arrays, chosen, strict=True)]
        values = np.einsum(f"{terms}->{''.join(letters[i] for i in kept)}", *powers)
        rest = list(entries)
        for item in chosen:
            rest.remove(item)
        result = self.constant(0)
        left = {b: size for b, size in bound.items() if b != summed}
        for monomial, coefficient in self.table(values, kept).terms.items():
            result += self.assemble(left, [*rest, *entries_of(monomial)]) * self.constant(coefficient)
        return result


def _with_index(entries: Powers, old: int, new: int) -> Powers:
    return [(Entry(n, tuple(new if i == old else i for i in ii)), p) for (n, ii), p in entries]


def spread(table: np.ndarray, indices: tuple[int, ...], order: tuple[int, ...]) -> np.ndarray:
    """The numbers of a table at `indices`, over the axes `order`; of size 1 along those that it has not."""
    ranks = [order.index(i) for i in indices]
    turned = table.transpose(np.argsort(ranks))
    return turned.reshape(
        [turned.shape[sorted(ranks).index(k)] if k in ranks else 1 for k in range(len(order))]
    )


def _squeezed(values: np.ndarray, indices: tuple[int, ...]) -> tuple[np.ndarray, tuple[int, ...]]:
    """Without the axes along which nothing depends on the index, and with each index once."""
    letters = {i: chr(ord("a") + k) for k, i in enumerate(dict.fromkeys(indices))}
    values = np.einsum(f"{''.join(letters[i] for i in indices)}->{''.join(letters.values())}", values)
    for axis in reversed(range(values.ndim)):
        first = values.take([0], axis) if values.shape[axis] else values
        if values.shape[axis] and np.all(values == first):
            values = values.take(0, axis)
            del letters[list(letters)[axis]]
    return values, tuple(letters)
