"""A convolution of exact numbers, window by window: for counterexamples, apart from the algebra."""

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn

from bnjax.prove.reals import Constant

_LARGE = 2**40
_EXACT = 2.0**62


def convolved(eqn: JaxprEqn, arithmetic: Any, lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """`conv_general_dilated` of two object arrays; of rationals in integers, which is much faster."""
    left, right = _integers(lhs), _integers(rhs)
    if left is None or right is None or _largest(left[0]) * _largest(right[0]) * rhs.size > _EXACT:
        return _convolved(eqn, arithmetic.literal(0), lhs, rhs)
    (a, over), (b, under) = left, right
    held = all(isinstance(value, Constant) for array in (lhs, rhs) for value in array.flat)
    number = Constant if held else Fraction
    sums = _convolved(eqn, np.int64(0), a, b)
    return np.frompyfunc(lambda value: number(int(value), over * under), 1, 1)(sums)


def _largest(a: np.ndarray) -> float:
    return float(np.abs(a).max(initial=0))


def _integers(a: np.ndarray) -> tuple[np.ndarray, int] | None:
    """Rationals as integers over one denominator; None where they are none, or too large."""
    if not all(isinstance(value, Fraction) for value in a.flat):
        return None
    denominator = math.lcm(1, *(value.denominator for value in a.flat))
    numerators = [value.numerator * (denominator // value.denominator) for value in a.flat]
    if max(map(abs, numerators), default=0) > _LARGE or denominator > _LARGE:
        return None
    return np.array(numerators, np.int64).reshape(a.shape), denominator


def _convolved(eqn: JaxprEqn, zero: Any, lhs: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    params = eqn.params
    numbers = params["dimension_numbers"]
    x, kernel = lhs.transpose(numbers.lhs_spec), rhs.transpose(numbers.rhs_spec)
    x = _padded(_spread(x, params["lhs_dilation"], zero), params["padding"], zero)
    kernel = _spread(kernel, params["rhs_dilation"], zero)
    size = kernel.shape[2:]
    places = [
        range(0, have - want + 1, stride)
        for have, want, stride in zip(x.shape[2:], size, params["window_strides"], strict=True)
    ]
    outputs = len(kernel)
    batches, features = params["batch_group_count"], params["feature_group_count"]
    images, channels = len(x) // batches, x.shape[1] // features
    result = np.empty((images, outputs, *map(len, places)), lhs.dtype)
    group_of = [o * batches * features // outputs for o in range(outputs)]
    for where in itertools.product(*(enumerate(line) for line in places)):
        out: Any = (slice(None), *(k for k, _ in where))
        seen = x[
            (slice(None), slice(None), *(slice(s, s + k) for (_, s), k in zip(where, size, strict=True)))
        ]
        for o, group in enumerate(group_of):
            row = group * images if batches > 1 else 0
            column = group * channels if features > 1 else 0
            part = seen[row : row + images, column : column + channels] * kernel[o]
            result[:, o][out] = part.reshape(images, -1).sum(axis=1) + zero
    return result.transpose(np.argsort(numbers.out_spec))


def _spread(a: np.ndarray, dilation: tuple[int, ...], zero: Any) -> np.ndarray:
    """Zeros between neighbours."""
    if all(d == 1 for d in dilation):
        return a
    sizes = [(n - 1) * d + 1 for n, d in zip(a.shape[2:], dilation, strict=True)]
    result = np.full((*a.shape[:2], *sizes), zero, a.dtype)
    result[(slice(None), slice(None), *(slice(None, None, d) for d in dilation))] = a
    return result


def _padded(a: np.ndarray, padding: tuple[tuple[int, int], ...], zero: Any) -> np.ndarray:
    """Zeros at the edges; what is negative cuts off."""
    kept = (
        slice(max(0, -low), n - max(0, -high)) for n, (low, high) in zip(a.shape[2:], padding, strict=True)
    )
    a = a[(slice(None), slice(None), *kept)]
    edges = [(0, 0), (0, 0), *((max(0, low), max(0, high)) for low, high in padding)]
    return np.pad(a, edges, constant_values=zero) if any(map(any, edges)) else a
