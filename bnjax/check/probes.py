"""Where a rule is examined: data that make errors loud, and cotangents that see them.

An error in a backward pass hides at large n, behind a random cotangent, in data of variance ≫ ε: a
batch norm without its mean term is wrong by 10⁻⁴ at n = 131,072 under a random cotangent, and by
everything under dy = 1 or at n = 2.  So besides the arrays that came, a rule is run on small ones
(`sizes`), on several kinds of data, and along every cotangent while those are few.

Everything here is seeded and made by numpy in float64: the same arguments give the same probes.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from bnjax.check import traits
from bnjax.check.sizes import Sizes

SEED = 34
GIVEN_SEED = 99  # of the arguments that came
_KNOWN = 4096  # values of a given array that small data are made from
_DRAWS = 16  # of narrow data, of which the one least clustered is taken
FULL_JACOBIAN = 128  # outputs up to which every one-hot cotangent is tried


def generator(*seed: int) -> np.random.Generator:
    """Random numbers of their own for each `seed`."""
    return np.random.default_rng((SEED, *seed))


# --- data -------------------------------------------------------------------------------------------------

VARIANTS = ("like the arguments", "negated", "low variance", "large offset", "signs flipped")


class Kind(NamedTuple):
    """A kind of data for one argument.

    Attributes:
      variant: of `VARIANTS`.
      main: whether it is a batch, which takes part in the low variance and the large offset.
      flip: whether the primal takes negative values of it too.
      narrow: whether it is for a narrow dtype, in which a right rule may round as E[x²] − E[x]² does: that
        loses (mean/std)² roundoffs, so the batch's mean is kept within a few standard deviations.
      low_scale: the standard deviation in "low variance".
    """

    variant: str
    main: bool
    flip: bool
    narrow: bool
    low_scale: float


def float_leaf(given: np.ndarray, shape: tuple[int, ...], kind: Kind, rng: np.random.Generator) -> np.ndarray:
    """A float argument of `shape` in the manner of `given`.

    Values are drawn from between those that came, so that whatever range they keep to is kept; what is
    positive stays so, and of its magnitude.
    """
    variant, main, flip, narrow, low_scale = kind
    signed = flip or not traits.is_positive(given)
    values = _spread_out(given, shape, rng, signed) if narrow and main else _resample(given, shape, rng)
    if traits.is_positive(given) and not main:
        return -values if variant == "signs flipped" and flip else values
    if variant == "negated" and not traits.is_positive(given):
        return -values
    if variant == "low variance" and main:
        noise = low_scale * rng.normal(size=shape)
        return np.abs(noise) + low_scale if traits.is_positive(given) else noise
    if variant == "large offset" and main:
        return values + (2.0 if narrow else 1000.0) * max(float(np.std(values)), 1e-3)
    if variant == "signs flipped" and flip:
        return -values
    return values


def _resample(given: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Values between those of `given`; where they are all one value, values about it."""
    known = given[np.isfinite(given)].ravel()
    if known.size == 0 or not np.any(known):
        return rng.normal(size=shape)
    if np.ptp(known) <= 1e-9 * np.max(np.abs(known)):
        return known[0] * np.exp(0.25 * rng.normal(size=shape))
    first, second = rng.choice(known, size=(2, *shape))
    return first + rng.uniform(0.05, 0.2, size=shape) * (second - first)


def _spread_out(
    given: np.ndarray, shape: tuple[int, ...], rng: np.random.Generator, signed: bool
) -> np.ndarray:
    """Values of `_resample` that no axis has in a cluster; where they may change sign, about zero."""

    def spread(values: np.ndarray) -> float:
        lanes = [values.std(a).min() for a in range(values.ndim) if values.shape[a] > 1]
        return min(lanes, default=0.0) / max(float(values.std()), 1e-300)

    draws = [_resample(given, shape, rng) for _ in range(_DRAWS)]
    values = max(draws, key=spread)
    return values - values.mean() if signed and values.size > 1 else values


def integer_leaf(
    given: np.ndarray, shape: tuple[int, ...], sizes: Sizes, rng: np.random.Generator, *, mixed: bool
) -> np.ndarray:
    """An integer or boolean argument: values that came, kept below the new size of what they may index.

    Truth values that came all alike are `mixed` with others: a mask that masks nothing is one all the same.
    A label in [0, C) must stay a label: C may be any original size above every value, so the values are
    kept below the new sizes of all of them.  Below 0 they count from the end, so that −1, which is "ignore"
    to many, stays −1, and so does a −100 or a 255, which lies far outside of what the others index.  An
    order of the only axis that it may index stays an order.
    """
    if given.size == 0:
        return np.zeros(shape, given.dtype)
    if mixed and given.dtype == np.bool_ and given.all() == given.any():
        return given.flat[0] ^ (rng.random(shape) < 0.25)
    values = np.asarray(rng.choice(given.ravel(), size=shape))
    if given.dtype == np.bool_:
        return values
    mark = _mark(given, sizes)
    above = _above(given[given != mark], sizes)
    if not above:
        return values
    size = max(min(sizes[size] for size in above), 1)
    if above == [given.size] and traits.is_order(given):
        return rng.permutation(size).astype(given.dtype)
    kept = np.where(values < 0, -1 - (-1 - values) % size, values % size)
    return np.where(values == mark, values, kept).astype(given.dtype)


def _above(given: np.ndarray, sizes: Sizes) -> list[int]:
    """The sizes of axes that all of these integers may index."""
    return [size for size in sizes if given.size and -size <= np.min(given) and np.max(given) < size]


def _mark(given: np.ndarray, sizes: Sizes) -> int | None:
    """The one value that is no index, where all others are: twice as far below 0, or beyond all sizes."""
    least, largest = int(np.min(given)), int(np.max(given))
    others = _above(given[given != least], sizes)
    if others and least < -2 * min(others):
        return least
    return largest if largest >= max(sizes, default=0) and _above(given[given != largest], sizes) else None


def low_scale(floats: Sequence[np.ndarray]) -> float:
    """A standard deviation with σ² below the smallest positive parameter (ε, if there is one)."""
    small = [float(np.min(leaf)) for leaf in floats if traits.is_positive(leaf) and np.min(leaf) < 0.1]
    return 0.5 * float(np.sqrt(min(small))) if small else 1e-3


# --- cotangents -------------------------------------------------------------------------------------------

SCALE = 2.0**28
# of these, in this order: two, their sum, the first by SCALE, by −1/SCALE, by 0
LINEAR = (
    "random",
    "second random",
    "sum of the randoms",
    "random, large",
    "random, small and negated",
    "zero",
)


def cotangents(
    outputs: Sequence[np.ndarray], arguments: Sequence[np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Named cotangents for small outputs, each a vector over all outputs' elements, one after another.

    Every one-hot while they are few, the structured ones, and the family that linearity is seen on.
    """
    size = sum(y.size for y in outputs)
    chosen = range(size) if size <= FULL_JACOBIAN else sorted(rng.choice(size, 16, replace=False))
    probes = {f"one-hot {i}": np.eye(1, size, i)[0] for i in chosen}
    probes |= structured(outputs, arguments)
    first, second = rng.normal(size=(2, size))
    family = (first, second, first + second, SCALE * first, -first / SCALE, np.zeros(size))
    return probes | dict(zip(LINEAR, family, strict=True))


def structured(outputs: Sequence[np.ndarray], arguments: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Ones; the output, its means over each axis and what is left; arguments shaped like it; blocks."""
    size = sum(y.size for y in outputs)
    ones = np.ones(size)
    values = _finite(outputs)
    probes = {"ones": ones, "output": _vector(values)}
    for axis in range(max(y.ndim for y in outputs)):
        means = [
            np.broadcast_to(y.mean(axis, keepdims=True), y.shape) if axis < y.ndim and y.size else 0 * y
            for y in values
        ]
        probes[f"output's mean over axis {axis}"] = _vector(means)
        probes[f"output less its mean over axis {axis}"] = _vector(values) - _vector(means)
    for i, argument in enumerate(arguments):
        if [argument.shape] == [y.shape for y in outputs]:
            probes[f"argument {i}"] = argument.ravel()
    if size > 1:
        probes["first half"] = np.where(np.arange(size) < size // 2, 1.0, 0.0)
        probes["every other"] = np.arange(size) % 2.0
    if len(outputs) > 1:
        edges = np.cumsum([0, *(y.size for y in outputs)])
        for i in range(len(outputs)):
            probes[f"ones on output {i}"] = np.where(
                (np.arange(size) >= edges[i]) & (np.arange(size) < edges[i + 1]), 1.0, 0.0
            )
    return probes


def few_cotangents(outputs: Sequence[np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """What large outputs are probed with: the directions in which batch errors add up, and a random one."""
    size = sum(y.size for y in outputs)
    output = _vector(_finite(outputs))
    half = np.where(np.arange(size) < size // 2, 1.0, 0.0)
    return {
        "ones": np.ones(size),
        "output": output,
        "first half": half,
        "random": rng.standard_normal(size, np.float32).astype(np.float64),
        "one-hot 0": np.eye(1, size)[0],
    }


def sample(given: np.ndarray) -> np.ndarray:
    """A few of the values that came, the extreme ones among them: what small data are made like."""
    flat = given.ravel()
    if flat.size <= _KNOWN or traits.is_order(given):
        return given
    few = flat[:: flat.size // _KNOWN]
    return np.append(few, [flat.min(), flat.max()])


def null_directions(jacobian: np.ndarray) -> list[np.ndarray]:
    """Up to two cotangents dy ≠ 0 with dy·J ≈ 0: what an argument's true cotangent does not see."""
    if not np.all(np.isfinite(jacobian)) or jacobian.size == 0:
        return []
    u, s, _ = np.linalg.svd(jacobian, full_matrices=True)
    rank = int(np.sum(s > 1e-6 * max(s.max(initial=0), 1e-300)))
    return [u[:, i] * np.sqrt(len(u)) for i in range(rank, len(u))[:2]]


def split(vectors: np.ndarray, outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """[probe, element] as one [probe, *shape] array an output."""
    edges = np.cumsum([y.size for y in outputs])[:-1]
    parts = np.split(vectors, edges, axis=-1)
    return [p.reshape((*vectors.shape[:-1], *y.shape)) for p, y in zip(parts, outputs, strict=True)]


def rows(named: Mapping[str, np.ndarray], outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Named vectors as the rows of one [row, *result] array an output."""
    return split(np.stack(list(named.values())), outputs)


def _finite(outputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs as cotangents: 0 where they are not finite, for 0·∞ is NaN in a right rule, too."""
    return [np.nan_to_num(y, posinf=0.0, neginf=0.0) for y in outputs]


def _vector(values: Sequence[Any]) -> np.ndarray:
    return np.concatenate([np.ravel(v) for v in values]) if values else np.zeros(0)
