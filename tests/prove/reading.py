"""Reads polynomials: their numbers at a point, and the entries of a Jacobian."""

import math
from collections.abc import Mapping

import numpy as np

from bnjax.prove.algebra import Poly
from bnjax.prove.field import Field
from bnjax.prove.monomials import Monomial, Sum, flatten, reindexed

_LETTERS = "abcdefghijklmnopqrstuvwxyz"


def jacobian_entries(field: Field, gradient: Poly, cotangent: str) -> tuple[Poly, Poly]:
    """The Jacobian J[j, i] = δ_ij·d + k of a VJP that is Σ_j cotangent_j·J[j, i], as the pair (d, k).

    `gradient` has the free index 0 for i and the cotangent one index; in k the free index 1 is j.
    """
    diagonal, kernel = field.constant(0), field.constant(0)
    for monomial, coefficient in gradient.terms.items():
        bound, entries = flatten(monomial)
        (place,) = [k for k, ((name, _), _) in enumerate(entries) if name == cotangent]
        ((_, (j,)), _) = entries.pop(place)
        size = bound.pop(j, None)
        named = reindexed(entries, {j: 1}) if j < 0 else entries
        term = field.assemble(bound, named) * field.constant(coefficient)
        if size is None:
            diagonal += term
        else:
            kernel += term
    return diagonal, kernel


def value_at(
    field: Field,
    poly: Poly,
    arrays: Mapping[str, np.ndarray],
    axes: tuple[str, ...],
    sizes: Mapping[str, int],
) -> np.ndarray:
    """The float64 array over `axes` that `poly` is where atoms and size symbols have these values."""
    known = {name: np.asarray(value, np.float64) for name, value in arrays.items()}
    known |= {name: np.asarray(float(value)) for name, value in sizes.items()}
    definitions = {d.name: d for d in field.definitions}
    functions = {f.name: f for f in field.functions}
    for name, atom in field.atoms.items():  # in the order in which they were made
        if name in definitions:
            value = _value(definitions[name].value, known, atom.sizes, sizes)
            known[name] = value ** (1 / definitions[name].power)
        elif name in functions:
            argument = _value(functions[name].argument, known, atom.sizes, sizes)
            known[name] = _function(functions[name].kind, argument)
        elif name in field.tables:
            known[name] = field.tables[name].astype(float)
        elif name.startswith("delta."):
            known[name] = np.eye(int(sizes.get(atom.sizes[0], atom.sizes[0])))
    return _value(poly, known, axes, sizes)


def _function(kind: str, argument: np.ndarray) -> np.ndarray:
    if kind.startswith("largest"):
        over = tuple(map(int, kind.removeprefix("largest over ").split(" of")[0].split(",")))
        return (argument == argument.max(over, keepdims=True)).astype(float)
    if kind.startswith("tie"):
        return np.zeros_like(argument)
    if kind in ("above", "zero"):
        return (argument > 0 if kind == "above" else argument == 0).astype(float)
    return np.vectorize(math.erf)(argument) if kind == "erf" else getattr(np, kind)(argument)


def _value(poly: Poly, arrays: Mapping[str, np.ndarray], axes: tuple[str, ...], sizes: Mapping[str, int]):
    result = np.zeros([int(sizes.get(size, size)) for size in axes])
    for monomial, coefficient in poly.terms.items():
        result = result + float(coefficient) * _monomial_value(monomial, arrays, len(axes))
    return result


def _monomial_value(monomial: Monomial, arrays: Mapping[str, np.ndarray], rank: int):
    result = np.ones([1] * rank)
    for factor, power in monomial:
        entries = factor.entries if isinstance(factor, Sum) else ((factor, 1),)
        letters = {i: _LETTERS[k] for k, i in enumerate(sorted({i for (_, ii), _ in entries for i in ii}))}
        free = [i for i in sorted(letters) if i >= 0]
        terms = ",".join("".join(letters[i] for i in ii) for (_, ii), _ in entries)
        operands = [arrays[name] ** float(p) for (name, _), p in entries]
        value = np.einsum(f"{terms}->{''.join(letters[i] for i in free)}", *operands)
        where = tuple(slice(None) if k in free else np.newaxis for k in range(rank))
        result = result * value[where] ** float(power)
    return result
