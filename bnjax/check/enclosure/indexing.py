"""The rules of what an index points to: where an index is in doubt, it may point to anything."""

from typing import Any

import numpy as np
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.check.enclosure.arithmetic import Rule
from bnjax.check.enclosure.model import Ball, Machine, exact, is_number, total

# which operands are indices
_INDICES: dict[Primitive, slice] = {
    jaxs.gather_p: slice(1, 2),
    jaxs.dynamic_slice_p: slice(1, None),
    jaxs.dynamic_update_slice_p: slice(2, None),
}


def _scatters(primitive: Primitive) -> slice:
    return _INDICES.get(primitive, slice(1, 2))


def _of_radii(machine: Machine, eqn: JaxprEqn, balls: list[Ball], data: list[Any]) -> Any:
    """What the primitive makes of `data`, one for each operand that is no index; the indices as they are."""
    at = range(*_scatters(eqn.primitive).indices(len(balls)))
    left = iter(data)
    return machine.apply(eqn, *(b.value if i in at else next(left) for i, b in enumerate(balls)))


def _data(eqn: JaxprEqn, balls: list[Ball]) -> tuple[list[Ball], list[Ball]]:
    """The operands that are no indices, and those that are."""
    at = range(*_scatters(eqn.primitive).indices(len(balls)))
    return [b for i, b in enumerate(balls) if i not in at], [balls[i] for i in at]


def _doubtful(machine: Machine, indices: list[Ball], value: Any, radius: Any, reach: Any) -> Ball:
    """`radius`, and `reach` everywhere if any index is in doubt."""
    unsure = [machine.doubt(i).any() for i in indices if not exact(i)]
    if not unsure or (machine.xp is np and not any(unsure)):
        return Ball(value, radius)
    radius = machine.radius(Ball(value, radius))
    anywhere = unsure[0]
    for one in unsure[1:]:
        anywhere = anywhere | one
    return Ball(value, machine.xp.where(anywhere, reach, radius))


def _look_up(machine: Machine, eqn: JaxprEqn, *operands: Ball) -> Ball:
    """gather, dynamic_slice, dynamic_update_slice: elements of the operand, or of the updates."""
    balls = list(operands)
    value = machine.apply(eqn, *(b.value for b in balls))
    data, indices = _data(eqn, balls)
    radius = None
    if not all(map(exact, data)):
        radius = _of_radii(machine, eqn, balls, [machine.radius(b) for b in data])
    if all(map(exact, indices)) or value.size == 0:
        return Ball(value, radius)
    reach: Any = True
    if is_number(value):
        low, high = zip(*(machine.ends(b) for b in data if b.value.size), strict=True)
        least = machine.xp.stack([end.min() for end in low]).min()
        most = machine.xp.stack([end.max() for end in high]).max()
        reach = machine.xp.maximum(most - value, value - least)
    return _doubtful(machine, indices, value, radius, reach)


def _overwrite(machine: Machine, eqn: JaxprEqn, *operands: Ball) -> Ball:
    """scatter: where windows meet, JAX leaves open whose element is kept; it may be any of theirs."""
    ball, (a, indices, updates) = _look_up(machine, eqn, *operands), operands
    value, xp = ball.value, machine.xp
    if value.size == 0 or value.dtype.kind not in "biuf":
        return ball
    written = updates.value.astype(np.float64)

    def end(primitive: Primitive, unwritten: float) -> Any:
        return machine.bind(primitive, eqn.params, xp.full(a.value.shape, unwritten), indices.value, written)

    low, high = end(jaxs.scatter_min_p, np.inf), end(jaxs.scatter_max_p, -np.inf)
    meet = high > low
    if xp is np and not meet.any():
        return ball
    if not is_number(value):
        return Ball(value, meet | machine.radius(ball))
    apart = xp.where(meet, xp.maximum(high - value, value - low), 0.0)
    return Ball(value, machine.radius(ball) + apart)


def scatter_add(machine: Machine, eqn: JaxprEqn, *operands: Ball) -> Ball:
    """What is added to, and a sum of at most all updates; one whose place is in doubt may be anywhere."""
    balls = list(operands)
    value = machine.apply(eqn, *(b.value for b in balls))
    data, indices = _data(eqn, balls)
    inherited = None
    if not all(map(exact, data)):
        inherited = abs(
            _of_radii(machine, eqn, balls, [_signed(eqn, i, machine.radius(b)) for i, b in enumerate(data)])
        )
    updates = data[1]
    sizes = [_signed(eqn, i, abs(b.value)) for i, b in enumerate(data)]
    magnitude = abs(_of_radii(machine, eqn, balls, sizes))
    ball = machine.rounded(value, total(machine.sum_unit(updates.value.size) * magnitude, inherited))
    lot = 2 * (abs(updates.value) + machine.radius(updates)).sum()
    return _doubtful(machine, indices, ball.value, ball.radius, machine.radius(ball) + lot)


def _signed(eqn: JaxprEqn, position: int, size: Any) -> Any:
    """What makes a difference of sizes a sum, where the updates are taken away."""
    return -size if position == 1 and eqn.primitive.name == "scatter-sub" else size


def _scatter_mul(machine: Machine, eqn: JaxprEqn, *operands: Ball) -> Ball:
    balls = list(operands)
    value = machine.apply(eqn, *(b.value for b in balls))
    data, indices = _data(eqn, balls)
    sizes = [abs(b.value) for b in data]
    high = _of_radii(machine, eqn, balls, [s + machine.radius(b) for s, b in zip(sizes, data, strict=True)])
    spread = high - _of_radii(machine, eqn, balls, sizes)
    ball = machine.rounded(value, spread, max(data[1].value.size, 1))
    return _doubtful(machine, indices, ball.value, ball.radius, np.inf)


def _scatter_most(machine: Machine, eqn: JaxprEqn, a: Ball, indices: Ball, updates: Ball) -> Ball:
    """scatter-max and scatter-min are monotone in what they compare."""
    value = machine.apply(eqn, a.value, indices.value, updates.value)
    radius = None
    if not (exact(a) and exact(updates)):
        ends = zip(machine.ends(a), machine.ends(updates), strict=True)
        low, high = (machine.apply(eqn, of_a, indices.value, of_updates) for of_a, of_updates in ends)
        radius = machine.xp.maximum(machine.apart(low, value), machine.apart(high, value))
    return _doubtful(machine, [indices], value, radius, np.inf)


INDEXING: dict[Primitive, Rule] = {
    **dict.fromkeys(
        (jaxs.gather_p, jaxs.dynamic_slice_p, jaxs.dynamic_update_slice_p), _look_up),
    jaxs.scatter_p: _overwrite,
    jaxs.scatter_add_p: scatter_add,
    jaxs.scatter_mul_p: _scatter_mul,
    jaxs.scatter_max_p: _scatter_most,
    jaxs.scatter_min_p: _scatter_most,
}  # fmt: skip
