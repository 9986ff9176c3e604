"""A primitive's rule: (machine, eqn, *balls) ↦ the ball of its result, or a list of them."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.check.enclosure import float64
from bnjax.check.enclosure.model import LIBRARY, Ball, Rounding


class Machine(NamedTuple):
    """What computes, numpy or JAX, and the numbers of the model."""

    xp: Any
    rounding: Rounding

    def apply(self, eqn: JaxprEqn, *values: Any) -> Any:
        """What the primitive computes, in float64."""
        return float64.apply(eqn, values, self.xp)

    def rounded(self, value: Any, radius: Any, weight: float = 1) -> Ball:
        """A computed number: one more rounding; beyond the largest number nothing is promised."""
        xp, r = self.xp, self.rounding
        radius = (0 if radius is None else radius) + weight * r.unit * abs(value) + r.tiny
        lost = xp.isnan(radius) | (abs(value) + radius > r.largest)
        return Ball(value, xp.where(lost, np.inf, radius))

    def sum_unit(self, terms: int) -> float:
        """s(m), for a sum of m `terms`."""
        return self.rounding.sum_fixed + self.rounding.sum_per_term * max(terms - 1, 0)


def exact(ball: Ball) -> bool:
    """Whether the ball is a point."""
    return ball.radius is None


def _radius(ball: Ball) -> Any:
    if ball.radius is not None:
        return ball.radius
    return ball.value != ball.value if ball.value.dtype == np.bool_ else 0 * ball.value


def _times(machine: Machine, a: Any, radius: Any) -> Any:
    """|a|·radius, 0 where a is 0: a masked infinity is gone."""
    return 0 if radius is None else machine.xp.where(a == 0, 0, abs(a) * radius)


def _add(machine: Machine, eqn: JaxprEqn, a: Ball, b: Ball) -> Ball:
    value = machine.apply(eqn, a.value, b.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    return machine.rounded(value, _total(a.radius, b.radius))


def _total(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def _mul(machine: Machine, eqn: JaxprEqn, a: Ball, b: Ball) -> Ball:
    value = machine.apply(eqn, a.value, b.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    radius = _times(machine, a.value, b.radius) + _times(machine, b.value, a.radius)
    if not exact(a) and not exact(b):
        radius = radius + a.radius * b.radius
    return machine.rounded(value, radius)


def _div(machine: Machine, eqn: JaxprEqn, a: Ball, b: Ball) -> Ball:
    value = machine.apply(eqn, a.value, b.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    room = abs(b.value) - (0 if exact(b) else b.radius)
    radius = ((0 if exact(a) else a.radius) + _times(machine, value, b.radius)) / room
    return machine.rounded(value, machine.xp.where(room > 0, radius, np.inf))


def _function(weight: float) -> Callable[..., Ball]:
    """A function of one or more numbers, element by element: both ends of each argument's ball."""

    def rule(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball:
        xp, values = machine.xp, [b.value for b in balls]
        value = machine.apply(eqn, *values)
        if not jnp.issubdtype(value.dtype, jnp.floating):
            return Ball(value, None)
        radius = None
        for i, ball in enumerate(balls):
            if not exact(ball):
                ends = [
                    machine.apply(eqn, *values[:i], ball.value + s * ball.radius, *values[i + 1 :])
                    for s in (1, -1)
                ]
                spread = xp.maximum(abs(ends[0] - value), abs(ends[1] - value))
                if eqn.primitive is jaxs.integer_pow_p and eqn.params["y"] < 0:
                    spread = xp.where(abs(ball.value) > ball.radius, spread, np.inf)
                radius = _total(radius, xp.where(xp.isnan(spread), np.inf, spread))
        return machine.rounded(value, radius, weight) if weight else Ball(value, radius)

    return rule


def _lipschitz(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball:
    """|f(a) − f(b)| ≤ |a − b|: min, max, abs, neg, clamp; exact, so nothing is added."""
    value = machine.apply(eqn, *(b.value for b in balls))
    if all(map(exact, balls)):
        return Ball(value, None)
    radius = _radius(balls[0])
    for ball in balls[1:]:
        radius = machine.xp.maximum(radius, _radius(ball))
    return Ball(value, radius + 0 * value if radius.shape != value.shape else radius)


def _move(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball | list[Ball]:
    """Moves elements about (reshape, slice, gather, …): the radii move along; indices are exact."""
    value = machine.apply(eqn, *(b.value for b in balls))
    radius: Any
    if all(map(exact, balls)):
        radius = [None] * len(value) if eqn.primitive.multiple_results else None
    else:
        # an undecided bit stays one wherever it goes; integers say where, and are exact
        indices = [exact(b) and jnp.issubdtype(b.value.dtype, jnp.integer) for b in balls]
        radius = machine.apply(
            eqn, *(b.value if index else _radius(b) for b, index in zip(balls, indices, strict=True))
        )
    if eqn.primitive.multiple_results:
        return [Ball(v, r) for v, r in zip(value, radius, strict=True)]
    return Ball(value, radius)


def _convert(machine: Machine, eqn: JaxprEqn, a: Ball) -> Ball:
    new = eqn.params["new_dtype"]
    if jnp.issubdtype(new, jnp.floating):  # between floats an identity; an undecided bit is 0 or 1
        value = machine.xp.asarray(a.value, dtype=np.float64)
        return Ball(value, None if exact(a) else machine.xp.asarray(a.radius, dtype=np.float64))
    return Ball(machine.xp.asarray(a.value).astype(new), a.radius if a.value.dtype == np.bool_ else None)


def _compare(machine: Machine, eqn: JaxprEqn, a: Ball, b: Ball) -> Ball:
    """A boolean; its radius is True where the balls overlap and it could be the other."""
    value = machine.apply(eqn, a.value, b.value)
    if (exact(a) and exact(b)) or not jnp.issubdtype(a.value.dtype, jnp.floating):
        return Ball(value, None)
    undecided = abs(a.value - b.value) <= _radius(a) + _radius(b)
    if eqn.primitive in (jaxs.eq_p, jaxs.ne_p):  # x == max(x) holds for one element whatever x's error
        undecided = undecided & (a.value != b.value)
    return Ball(value, undecided)


def _logic(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball:
    value = machine.apply(eqn, *(b.value for b in balls))
    unsure = [b.radius for b in balls if not exact(b)]
    if not unsure or value.dtype != np.bool_:
        return Ball(value, None)
    return Ball(value, unsure[0] if len(unsure) == 1 else unsure[0] | unsure[1])


def _reduce_logic(machine: Machine, eqn: JaxprEqn, a: Ball) -> Ball:
    value = machine.apply(eqn, a.value)
    return Ball(value, None if exact(a) else a.radius.any(axis=tuple(eqn.params["axes"])))


def _select(machine: Machine, eqn: JaxprEqn, which: Ball, *cases: Ball) -> Ball:
    xp = machine.xp
    value = machine.apply(eqn, which.value, *(c.value for c in cases))
    if exact(which) and all(map(exact, cases)):
        return Ball(value, None)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    radius = machine.apply(eqn, which.value, *(_radius(c) for c in cases))
    if not exact(which):
        for case in cases:
            reach = abs(case.value - value) + _radius(case)
            radius = xp.where(which.radius, xp.maximum(radius, reach), radius)
    return Ball(value, radius)


def _sum(machine: Machine, eqn: JaxprEqn, a: Ball) -> Ball:
    value = machine.apply(eqn, a.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    terms = max(a.value.size // max(value.size, 1), 1)
    if eqn.primitive in (jaxs.cumsum_p, jaxs.reduce_window_sum_p):
        terms = math.prod(eqn.params.get("window_dimensions", a.value.shape))
    return machine.rounded(
        value,
        _sum_radius(
            machine,
            terms,
            machine.apply(eqn, abs(a.value)),
            None if exact(a) else machine.apply(eqn, a.radius),
        ),
    )


def _sum_radius(machine: Machine, terms: int, magnitude: Any, inherited: Any) -> Any:
    return _total(machine.sum_unit(terms) * magnitude, inherited)


def _product_sum(machine: Machine, eqn: JaxprEqn, a: Ball, b: Ball) -> Ball:
    """dot_general and convolution: sums of products."""
    value = machine.apply(eqn, a.value, b.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    if eqn.primitive is jaxs.dot_general_p:
        terms = math.prod(a.value.shape[i] for i in eqn.params["dimension_numbers"][0][0])
    else:
        terms = b.value.size
    magnitude = machine.apply(eqn, abs(a.value), abs(b.value))
    inherited = None
    if not exact(a):
        inherited = machine.apply(eqn, a.radius, abs(b.value) + _radius(b))
    if not exact(b):
        inherited = _total(inherited, machine.apply(eqn, abs(a.value), b.radius))
    # one rounding a product besides the sum's
    return machine.rounded(
        value, _sum_radius(machine, terms, magnitude, inherited) + machine.rounding.unit * magnitude
    )


def _scatter_add(machine: Machine, eqn: JaxprEqn, a: Ball, indices: Ball, updates: Ball) -> Ball:
    value = machine.apply(eqn, a.value, indices.value, updates.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    magnitude = machine.apply(eqn, abs(a.value), indices.value, abs(updates.value))
    inherited = machine.apply(eqn, _radius(a), indices.value, _radius(updates))
    return machine.rounded(value, _sum_radius(machine, updates.value.size, magnitude, inherited))


def _sort(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> list[Ball]:
    """Order statistics move no further than the largest radius; carried operands must be exact."""
    values = machine.apply(eqn, *(b.value for b in balls))
    if exact(balls[0]):
        return [Ball(v, None) for v in values]
    widest = machine.xp.max(balls[0].radius)
    lost = [np.inf] * (len(balls) - 1)
    return [
        Ball(v, 0 * v + r if jnp.issubdtype(v.dtype, jnp.floating) else None)
        for v, r in zip(values, [widest, *lost], strict=True)
    ]


def unknown(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball | list[Ball]:
    """A primitive without a rule: exact in, a rounding out; otherwise nothing is promised."""
    out = machine.apply(eqn, *(b.value for b in balls))
    values = out if eqn.primitive.multiple_results else [out]
    inexact = any(not exact(b) for b in balls)
    result = []
    for v in values:
        if not jnp.issubdtype(v.dtype, jnp.floating):
            result.append(Ball(v, None))
        elif inexact:
            result.append(Ball(v, 0 * v + np.inf))
        else:
            result.append(
                machine.rounded(v, machine.rounding.unit * machine.xp.max(abs(v), initial=0), LIBRARY)
            )
    return result if eqn.primitive.multiple_results else result[0]


RULES: dict[Primitive, Callable[..., Any]] = {
    jaxs.add_p: _add, jaxs.sub_p: _add, jaxs.add_jaxvals_p: _add, jaxs.mul_p: _mul, jaxs.div_p: _div,
    jaxs.square_p: _function(1), jaxs.integer_pow_p: _function(1), jaxs.sqrt_p: _function(1),
    jaxs.rsqrt_p: _function(2), jaxs.convert_element_type_p: _convert,
    jaxs.reduce_precision_p: lambda machine, eqn, a, *_: a, jaxs.select_n_p: _select,
    jaxs.reduce_sum_p: _sum, jaxs.cumsum_p: _sum, jaxs.reduce_window_sum_p: _sum,
    jaxs.dot_general_p: _product_sum, jaxs.conv_general_dilated_p: _product_sum,
    jaxs.scatter_add_p: _scatter_add, jaxs.sort_p: _sort,
    **dict.fromkeys((
        jaxs.exp_p, jaxs.exp2_p, jaxs.expm1_p, jaxs.log_p, jaxs.log1p_p, jaxs.tanh_p, jaxs.logistic_p,
        jaxs.sin_p, jaxs.cos_p, jaxs.tan_p, jaxs.asin_p, jaxs.acos_p, jaxs.atan_p, jaxs.sinh_p, jaxs.cosh_p,
        jaxs.asinh_p, jaxs.acosh_p, jaxs.atanh_p, jaxs.erf_p, jaxs.erfc_p, jaxs.erf_inv_p, jaxs.lgamma_p,
        jaxs.digamma_p, jaxs.cbrt_p, jaxs.pow_p, jaxs.atan2_p, jaxs.rem_p), _function(LIBRARY)),
    **dict.fromkeys((jaxs.sign_p, jaxs.floor_p, jaxs.ceil_p, jaxs.round_p, jaxs.nextafter_p), _function(0)),
    **dict.fromkeys((
        jaxs.neg_p, jaxs.abs_p, jaxs.max_p, jaxs.min_p, jaxs.clamp_p, jaxs.reduce_max_p, jaxs.reduce_min_p,
        jaxs.cummax_p, jaxs.cummin_p, jaxs.reduce_window_max_p, jaxs.reduce_window_min_p), _lipschitz),
    **dict.fromkeys((
        jaxs.reshape_p, jaxs.broadcast_in_dim_p, jaxs.transpose_p, jaxs.squeeze_p, jaxs.slice_p, jaxs.rev_p,
        jaxs.concatenate_p, jaxs.pad_p, jaxs.gather_p, jaxs.dynamic_slice_p, jaxs.dynamic_update_slice_p,
        jaxs.copy_p, jaxs.stop_gradient_p), _move),
    **dict.fromkeys((jaxs.gt_p, jaxs.lt_p, jaxs.ge_p, jaxs.le_p, jaxs.eq_p, jaxs.ne_p), _compare),
    **dict.fromkeys((jaxs.and_p, jaxs.or_p, jaxs.xor_p, jaxs.not_p), _logic),
    **dict.fromkeys((jaxs.reduce_and_p, jaxs.reduce_or_p), _reduce_logic),
}  # fmt: skip

# those that JAX publishes no object of
_UNPUBLISHED: dict[str, Callable[..., Any]] = dict.fromkeys(("split", "optimization_barrier", "tile"), _move)


def rule(primitive: Primitive) -> Callable[..., Any]:
    """The primitive's rule; `unknown` where it has none."""
    return RULES.get(primitive) or _UNPUBLISHED.get(primitive.name, unknown)
