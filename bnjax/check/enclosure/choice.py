"""The rules of what decides: comparisons, selections, and which element is the largest, or stands where."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.check.enclosure.arithmetic import Rule
from bnjax.check.enclosure.model import Ball, Machine, exact, is_number

_EQUALITIES = (jaxs.eq_p, jaxs.ne_p, jaxs.eq_to_p)
_ZERO = 2.0**30  # smallest numbers, within which what is 0 is known to be


def _compare(machine: Machine, eqn: JaxprEqn, a: Ball, b: Ball) -> Ball:
    """A truth value; its radius is True where the balls overlap and it could be the other."""
    value = machine.apply(eqn, a.value, b.value)
    if exact(a) and exact(b):
        return Ball(value, None)
    if not is_number(a.value):
        return Ball(value, machine.doubt(a) | machine.doubt(b))
    rounded = a.value if jnp.issubdtype(a.value.dtype, jnp.inexact) else 1.0 * a.value
    reach = machine.radius(a) + machine.radius(b)
    apart = abs(rounded - b.value)
    lost = machine.xp.isnan(apart) & machine.xp.isinf(reach)
    undecided = ((apart <= reach) & (reach > 0)) | lost
    if eqn.primitive in _EQUALITIES:
        # x == max(x) holds for one element whatever x's error, a norm == 0 for what is exactly 0
        settled = (reach < _ZERO * machine.rounding.tiny) | (not exact(a) and not exact(b))
        undecided = undecided & ((a.value != b.value) | ~settled)
    return Ball(value, undecided)


def _is_finite(machine: Machine, eqn: JaxprEqn, a: Ball) -> Ball:
    return Ball(machine.apply(eqn, a.value), None if exact(a) else ~machine.xp.isfinite(a.radius))


def _logic(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball:
    """A conjunction is decided by one False, a disjunction by one True; bits of integers by all."""
    value = machine.apply(eqn, *(b.value for b in balls))
    if all(map(exact, balls)):
        return Ball(value, None)
    doubts = [machine.doubt(b) for b in balls]
    unsure = doubts[0] if len(doubts) == 1 else doubts[0] | doubts[1]
    if value.dtype != np.bool_:
        return Ball(value, machine.xp.where(unsure, np.inf, 0.0))
    if eqn.primitive in (jaxs.and_p, jaxs.or_p):
        for ball, doubt in zip(balls, doubts, strict=True):
            settles = ball.value if eqn.primitive is jaxs.or_p else ~ball.value
            unsure = unsure & ~(settles & ~doubt)
    return Ball(value, unsure)


def _reduce_logic(machine: Machine, eqn: JaxprEqn, a: Ball) -> Ball:
    value, axes = machine.apply(eqn, a.value), tuple(eqn.params["axes"])
    if exact(a):
        return Ball(value, None)
    doubt = machine.doubt(a)
    unsure = doubt.any(axis=axes)
    if value.dtype != np.bool_:
        return Ball(value, machine.xp.where(unsure, np.inf, 0.0))
    if eqn.primitive is not jaxs.reduce_xor_p:
        settles = a.value if eqn.primitive is jaxs.reduce_or_p else ~a.value
        unsure = unsure & ~(settles & ~doubt).any(axis=axes)
    return Ball(value, unsure)


def bits(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Any:
    """Integers from integers, keys from keys: exact, or nothing is known."""
    out = machine.apply(eqn, *(b.value for b in balls))
    many, xp = eqn.primitive.multiple_results, machine.xp
    made = [Ball(v, None) for v in (out if many else [out])]
    if not all(map(exact, balls)):
        unsure = xp.stack([machine.doubt(b).any() for b in balls]).any()
        radii = [xp.where(unsure, np.inf, 0.0) if is_number(b.value) else unsure for b in made]
        made = [Ball(b.value, xp.broadcast_to(r, b.value.shape)) for b, r in zip(made, radii, strict=True)]
    return made if many else made[0]


def _select(machine: Machine, eqn: JaxprEqn, which: Ball, *cases: Ball) -> Ball:
    """The case, and where it is undecided which, every case."""
    xp = machine.xp
    value = machine.apply(eqn, which.value, *(c.value for c in cases))
    if (exact(which) and all(map(exact, cases))) or jnp.issubdtype(value.dtype, jax.dtypes.extended):
        return Ball(value, None)
    radius = machine.apply(eqn, which.value, *(machine.radius(c) for c in cases))
    if exact(which):
        return Ball(value, radius)
    for case in cases:
        if is_number(value):
            reach = xp.maximum(radius, machine.apart(case.value, value) + machine.radius(case))
        else:
            reach = radius | (case.value != value) | machine.radius(case)
        radius = xp.where(machine.doubt(which), reach, radius)
    return Ball(value, radius)


# --- order ------------------------------------------------------------------------------------------------


def _isolated(machine: Machine, low: Any, high: Any, axis: int) -> Any:
    """Where in balls sorted by their centres an element stands certainly: its ball meets no other."""
    xp = machine.xp
    before = machine.bind(jaxs.cummax_p, {"axis": axis, "reverse": False}, high)
    after = machine.bind(jaxs.cummin_p, {"axis": axis, "reverse": True}, low)
    cut = [slice(None)] * low.ndim
    cut[axis] = slice(0, 1)
    edge = xp.full_like(low[tuple(cut)], np.inf)
    cut[axis] = slice(None, -1)
    before = xp.concatenate([-edge, before[tuple(cut)]], axis)
    cut[axis] = slice(1, None)
    after = xp.concatenate([after[tuple(cut)], edge], axis)
    points = ~(low < high).any(axis=axis, keepdims=True)  # equal numbers that are exact keep their order
    return ((before < low) & (high < after)) | points


def _anything(machine: Machine, ball: Ball, axis: int) -> Any:
    """The radius that reaches every element of the same lane, truth values apart."""
    if not is_number(ball.value):
        return True
    low, high = machine.ends(ball)
    up = high.max(axis=axis, keepdims=True) - ball.value
    down = ball.value - low.min(axis=axis, keepdims=True)
    return machine.xp.maximum(up, down)


def _sort(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> list[Ball]:
    """Order statistics are monotone; what is carried along is known where the key stands alone."""
    axis, keys = eqn.params["dimension"], balls[: eqn.params["num_keys"]]
    if any(b.value.size == 0 for b in balls) or all(map(exact, balls)):
        return [Ball(v, None) for v in machine.apply(eqn, *(b.value for b in balls))]
    radii = [machine.radius(b) for b in balls]
    values = machine.bind(eqn.primitive, eqn.params, *(b.value for b in balls), *radii)
    moved = [Ball(v, r) for v, r in zip(values[: len(balls)], values[len(balls) :], strict=True)]
    if all(map(exact, keys)):
        return [m if not exact(b) else Ball(m.value, None) for b, m in zip(balls, moved, strict=True)]
    ends = [machine.apply(eqn, end, *(b.value for b in balls[1:]))[0] for end in machine.ends(balls[0])]
    first = machine.xp.maximum(*(machine.apart(end, moved[0].value) for end in ends))
    alone = _isolated(machine, *machine.ends(moved[0]), axis)
    carried = [
        Ball(b.value, machine.xp.where(alone, b.radius, _anything(machine, b, axis))) for b in moved[1:]
    ]
    return [Ball(moved[0].value, first), *carried]


def _top_k(machine: Machine, eqn: JaxprEqn, a: Ball) -> list[Ball]:
    value, indices = machine.apply(eqn, a.value)
    if exact(a) or a.value.size == 0:
        return [Ball(value, None), Ball(indices, None)]
    xp, axis = machine.xp, eqn.params.get("axis", -1) % a.value.ndim
    order = xp.argsort(-a.value, axis=axis, stable=True)
    low, high = (xp.take_along_axis(-end, order, axis) for end in machine.ends(a)[::-1])
    first = tuple(slice(0, eqn.params["k"]) if i == axis else slice(None) for i in range(a.value.ndim))
    alone = _isolated(machine, low, high, axis)[first]
    ends = [machine.apply(eqn, end)[0] for end in machine.ends(a)]
    radius = xp.maximum(*(machine.apart(end, value) for end in ends))
    return [Ball(value, radius), Ball(indices, xp.where(alone, 0.0, a.value.shape[axis]))]


def _arg(machine: Machine, eqn: JaxprEqn, a: Ball) -> Ball:
    """argmax, argmin: in doubt where another element's ball reaches the largest lower end."""
    value, axes = machine.apply(eqn, a.value), tuple(eqn.params["axes"])
    if exact(a):
        return Ball(value, None)
    low, high = machine.ends(a)
    if eqn.primitive is jaxs.argmin_p:
        low, high = -high, -low
    rivals = (high >= low.max(axis=axes, keepdims=True)).sum(axis=axes)
    return Ball(value, machine.xp.where(rivals > 1, float(np.prod([a.value.shape[i] for i in axes])), 0.0))


# --- the largest of a window ------------------------------------------------------------------------------


class _Windows:
    """An operand's windows, one strided slice for each place in a window, and which may hold the largest."""

    def __init__(self, machine: Machine, eqn: JaxprEqn, operand: Ball):
        params, xp = eqn.params, machine.xp
        self.xp, self.padding = xp, params["padding"]
        window, strides = params["window_dimensions"], params["window_strides"]
        low, high = machine.ends(operand)
        if params["select_prim"] is jaxs.le_p:
            low, high = -high, -low
        self.padded = [n + before + after for n, (before, after) in zip(low.shape, self.padding, strict=True)]
        counts = [(n - w) // s + 1 for n, w, s in zip(self.padded, window, strides, strict=True)]
        self.slices = [
            tuple(slice(o, o + (c - 1) * s + 1, s) for o, c, s in zip(at, counts, strides, strict=True))
            for at in np.ndindex(*window)
        ]
        low, high = (self.of(end, -np.inf) for end in (low, high))
        least = low[0]
        for one in low[1:]:
            least = xp.maximum(least, one)
        self.possible = [one >= least for one in high]
        self.undecided = sum(1 * one for one in self.possible) > 1

    def of(self, array: Any, fill: float) -> list[Any]:
        """`array` as the windows see it: an array of a window's shape for each place in it."""
        padded = self.xp.pad(array, self.padding, constant_values=fill)
        return [padded[s] for s in self.slices]

    def back(self, parts: list[Any]) -> Any:
        """The transpose of `of`: every part added where it came from."""
        whole = self.xp.zeros(self.padded)
        for s, part in zip(self.slices, parts, strict=True):
            if self.xp is np:
                whole[s] += part
            else:
                whole = whole.at[s].add(part)
        inside = zip(self.padding, self.padded, strict=True)
        return whole[tuple(slice(before, n - after) for (before, after), n in inside)]


def _scatter_selected(machine: Machine, eqn: JaxprEqn, source: Ball, operand: Ball) -> Ball:
    """Max pooling's backward pass: where it is undecided which element was largest, each may get it all."""
    value = machine.apply(eqn, source.value, operand.value)
    size = abs(source.value)
    magnitude = machine.apply(eqn, size, operand.value)
    inherited = None if exact(source) else machine.apply(eqn, source.radius, operand.value)
    radius = machine.sum_unit(int(np.prod(eqn.params["window_dimensions"]))) * magnitude
    radius = radius if inherited is None else radius + inherited
    if not exact(operand):
        windows = _Windows(machine, eqn, operand)
        lot = machine.xp.where(windows.undecided, size + machine.radius(source), 0)
        radius = radius + windows.back([lot * one for one in windows.possible])
    return machine.rounded(value, radius)


def _gather_selected(machine: Machine, eqn: JaxprEqn, tangents: Ball, operand: Ball) -> Ball:
    """Max pooling's forward derivative: where it is undecided which was largest, any that may be."""
    xp = machine.xp
    value = machine.apply(eqn, tangents.value, operand.value)
    radius = None
    if not exact(tangents):
        radius = machine.apply(eqn, tangents.radius, operand.value)
    if not exact(operand):
        windows = _Windows(machine, eqn, operand)
        radius = xp.zeros(value.shape) if radius is None else radius
        reach = windows.of(tangents.value, 0), windows.of(machine.radius(tangents), 0)
        for possible, one, e in zip(windows.possible, *reach, strict=True):
            radius = xp.where(possible, xp.maximum(radius, abs(one - value) + e), radius)
    return Ball(value, radius)


CHOICE: dict[Primitive, Rule] = {
    jaxs.select_n_p: _select, jaxs.is_finite_p: _is_finite, jaxs.sort_p: _sort, jaxs.top_k_p: _top_k,
    jaxs.argmax_p: _arg, jaxs.argmin_p: _arg, jaxs.select_and_scatter_add_p: _scatter_selected,
    jaxs.select_and_gather_add_p: _gather_selected,
    **dict.fromkeys((
        jaxs.gt_p, jaxs.lt_p, jaxs.ge_p, jaxs.le_p, jaxs.eq_p, jaxs.ne_p, jaxs.eq_to_p, jaxs.le_to_p,
        jaxs.lt_to_p), _compare),
    **dict.fromkeys((jaxs.and_p, jaxs.or_p, jaxs.xor_p, jaxs.not_p), _logic),
    **dict.fromkeys((jaxs.reduce_and_p, jaxs.reduce_or_p, jaxs.reduce_xor_p), _reduce_logic),
    **dict.fromkeys((
        jaxs.shift_left_p, jaxs.shift_right_arithmetic_p, jaxs.shift_right_logical_p, jaxs.clz_p,
        jaxs.population_count_p, jaxs.threefry2x32_p, jaxs.random_bits_p, jaxs.random_seed_p,
        jaxs.random_split_p, jaxs.random_fold_in_p, jaxs.rng_bit_generator_p), bits),
}  # fmt: skip
