"""Windows of a given shape, moved over axes of given size: their sums, their largest elements, and where.

Window i of an axis has the elements j with j = i·stride + u·dilation − padding for an offset u: a table
P[i, u, j], in which an offset that falls into the padding has no element.  A sum of windows is one product
with Σ_u P.  The largest of a window is the largest of Σ_j P[i, u, j]·x_j over u, as for any maximum over an
axis, and a cotangent of it goes to the element that was taken (`bnjax.prove.comparisons`).
"""

from collections.abc import Callable

import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.prove.algebra import Outside
from bnjax.prove.arrays import Array, in_one_axis, mapped, placed
from bnjax.prove.choices import largest_over, taken_over
from bnjax.prove.moves import given_size, moved
from bnjax.prove.space import Space

Rule = Callable[..., Array | list[Array]]
Line = tuple[int, int, tuple[int, int], int, int]  # window, stride, padding, dilations of window and base


def _lines(eqn: JaxprEqn) -> list[Line]:
    """What is done along each axis."""
    p, ones = eqn.params, (1,) * len(eqn.params["window_dimensions"])
    rows = zip(
        p["window_dimensions"],
        p["window_strides"],
        p["padding"],
        p.get("window_dilation", ones),
        p.get("base_dilation", ones),
        strict=True,
    )
    return [(int(w), int(s), (int(low), int(high)), int(d), int(b)) for w, s, (low, high), d, b in rows]


def _table(size: int, line: Line) -> np.ndarray:
    """P[i, u, j]: 1 where the offset u of window i is element j."""
    window, stride, (low, high), dilation, base = line
    spread = (size - 1) * base + 1 + low + high
    count = (spread - (window - 1) * dilation - 1) // stride + 1
    if count < 1:
        raise Outside("windows larger than what they are moved over")
    places = np.arange(count)[:, None] * stride + np.arange(window) * dilation - low
    element, rest = np.divmod(places, base)
    return ((element[..., None] == np.arange(size)) & (rest == 0)[..., None]).astype(int)


def _reduce_window_sum(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    for axis, line in enumerate(_lines(eqn)):
        if line != (1, 1, (0, 0), 1, 1):
            a = moved(space, a, axis, _table(given_size(a, axis), line).sum(1))
    return a


def _windows(space: Space, eqn: JaxprEqn, a: Array) -> tuple[Array, list[np.ndarray], list[int]]:
    """The elements of each window, offsets after positions; the tables, and the dimensions of the offsets."""
    tables: list[np.ndarray] = []
    offsets: list[int] = []
    place = 0
    for line in _lines(eqn):
        if line == (1, 1, (0, 0), 1, 1):
            place += 1
            continue
        table = _table(given_size(a, place), line)
        if not np.all(table.sum(2)):
            raise Outside("the largest of a window with padding")
        a = in_one_axis(space, a, place)
        dims = tuple((str(size),) if size > 1 else () for size in table.shape[:2])
        values = table.reshape([size for size in table.shape if size > 1])
        a = mapped(space, a, slice(place, place + 1), dims, values, a.sign)
        tables.append(table)
        offsets.append(place + 1)
        place += 2
    return a, tables, offsets


def _reduce_window_max(space: Space, eqn: JaxprEqn, a: Array) -> Array:
    windows, _, offsets = _windows(space, eqn, a)
    return largest_over(space, windows, set(offsets))


def _select_and_scatter_add(space: Space, eqn: JaxprEqn, source: Array, a: Array) -> Array:
    """Each of `source` added to the element that is the largest of its window."""
    if eqn.params["select_prim"] is not jaxs.ge_p:
        raise Outside("another choice than the largest")
    windows, tables, offsets = _windows(space, eqn, a)
    taken = taken_over(space, windows, set(offsets))
    where = [k for k in range(len(windows.dims)) if k not in offsets]
    result = Array(windows.dims, taken * placed(space, source, windows.dims, where))
    for k, (table, offset) in enumerate(zip(tables, offsets, strict=True)):
        place = offset - 1 - k
        size = table.shape[2]
        values = table.transpose(2, 0, 1).reshape([n for n in np.array(table.shape)[[2, 0, 1]] if n > 1])
        dims = ((str(size),) if size > 1 else (),)
        result = mapped(space, result, slice(place, place + 2), dims, values)
    return result


WINDOWS: dict[Primitive, Rule] = {
    lax.reduce_window_max_p: _reduce_window_max,
    lax.reduce_window_sum_p: _reduce_window_sum,
    lax.select_and_scatter_add_p: _select_and_scatter_add,
}
