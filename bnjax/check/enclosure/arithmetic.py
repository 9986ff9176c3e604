"""The rules of what computes with numbers, element by element or in sums, and of what only moves them."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.check.enclosure.float64 import widest
from bnjax.check.enclosure.model import LIBRARY, Ball, Machine, exact, is_number, rounds, total

Rule = Callable[..., Ball | list[Ball]]
_SPECIAL = 32  # lgamma, igamma, bessel: series and continued fractions, relative to max(1, |v|)


def of_numbers(rule: Callable[..., Ball]) -> Rule:
    """A rule (machine, eqn, value, *balls); what is exact and not rounded stays so without it."""

    def checked(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball:
        value = machine.apply(eqn, *(b.value for b in balls))
        if not rounds(value) and all(map(exact, balls)):
            return Ball(value, None)
        return rule(machine, eqn, value, *balls)

    return checked


# --- element by element -----------------------------------------------------------------------------------


def _times(machine: Machine, a: Any, radius: Any) -> Any:
    """|a|·radius, 0 where a is 0: a masked infinity is gone."""
    return 0 if radius is None else machine.xp.where(a == 0, 0, abs(a) * radius)


def _add(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball, b: Ball) -> Ball:
    return machine.rounded(value, total(a.radius, b.radius))


def _mul(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball, b: Ball) -> Ball:
    radius = _times(machine, a.value, b.radius) + _times(machine, b.value, a.radius)
    if not exact(a) and not exact(b):
        radius = radius + a.radius * b.radius
    return machine.rounded(value, radius)


def _div(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball, b: Ball) -> Ball:
    room = abs(b.value) - (0 if exact(b) else b.radius)
    radius = ((0 if exact(a) else a.radius) + _times(machine, value, b.radius)) / room
    if not rounds(value):
        radius = machine.xp.where(radius > 0, radius + 1, 0)  # it is truncated
    return machine.rounded(value, machine.xp.where(room > 0, radius, np.inf))


def _rem(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball, b: Ball) -> Ball:
    """a − n·b with n = trunc(a/b), or anything up to |b| where n is in doubt."""
    xp, (e, f) = machine.xp, (machine.radius(a), machine.radius(b))
    low, high = abs(a.value) - e, abs(a.value) + e
    n = xp.trunc(high / (abs(b.value) - f))
    sure = (n == xp.trunc(low / (abs(b.value) + f))) & (abs(b.value) > f)
    return machine.rounded(value, xp.where(sure, e + abs(n) * f, abs(b.value) + f + abs(value)))


def _pole(machine: Machine, eqn: JaxprEqn, value: Any, balls: Sequence[Ball]) -> Any:
    """Where the ball of the argument holds a pole that its ends do not show."""
    base, e = balls[0].value, machine.radius(balls[0])
    if eqn.primitive is jaxs.tan_p:
        return 2 * abs(value) * e >= 1
    if eqn.primitive is jaxs.integer_pow_p:
        return (eqn.params["y"] < 0) & (abs(base) <= e) & (e > 0)
    if eqn.primitive is jaxs.pow_p:
        return (machine.ends(balls[1])[0] < 0) & (abs(base) <= e) & (e > 0)
    return False


def _function(weight: float, floor: float = 0) -> Rule:
    """A function of one or more numbers: the farthest of the values at the corners of the balls.

    An analytic function of complex numbers takes its extremes on the circle: at four points of it, doubled.
    """

    def rule(machine: Machine, eqn: JaxprEqn, value: Any, *balls: Ball) -> Ball:
        xp, radius = machine.xp, None
        if not all(map(exact, balls)):
            reach = [
                (0,) if exact(b) else (1, -1, 1j, -1j) if b.value.dtype == np.complex128 else (1, -1)
                for b in balls
            ]
            for corner in itertools.product(*reach):
                moved = [b.value + s * b.radius if s else b.value for b, s in zip(balls, corner, strict=True)]
                spread = machine.apart(machine.apply(eqn, *_alike(value, moved)), value)
                radius = spread if radius is None else xp.maximum(radius, spread)
            around = 2 if any(len(r) == 4 for r in reach) else 1
            radius = around * machine.xp.asarray(radius)
            lost = xp.isnan(radius) | _pole(machine, eqn, value, balls)
            radius = xp.where(lost, np.inf, radius)
        if floor:
            radius = total(radius, weight * floor * machine.rounding.unit)
        return machine.rounded(value, radius, weight)

    return of_numbers(rule)


def _pow(machine: Machine, eqn: JaxprEqn, a: Ball, b: Ball) -> Any:
    """Of negative numbers there are whole powers alone: there a whole exponent, as n − 1, is exact."""
    if not exact(b) and a.value.dtype != np.complex128:
        xp = machine.xp
        whole = (machine.ends(a)[0] < 0) & (xp.rint(b.value) == b.value) & (b.radius < 0.25)
        b = Ball(b.value, xp.where(whole, 0, b.radius))
    return _function(LIBRARY)(machine, eqn, a, b)


def _alike(value: Any, moved: Sequence[Any]) -> list[Any]:
    """Operands of one dtype: those of integers that are moved are floats, so all are."""
    return list(moved) if rounds(value) else [1.0 * m if is_number(m) else m for m in moved]


def _wave(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Any:
    """sin and cos move no further than their argument, and no further than 2."""
    (a,) = balls
    if a.value.dtype == np.complex128:
        return _function(LIBRARY)(machine, eqn, a)
    value = machine.apply(eqn, a.value)
    return machine.rounded(value, None if exact(a) else machine.xp.minimum(a.radius, 2), LIBRARY)


def _kept(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball, *_: Ball) -> Ball:
    """The radius stays: a sign, a part, a conjugate."""
    return Ball(value, a.radius)


def _abs(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball) -> Ball:
    return machine.rounded(value, a.radius) if a.value.dtype == np.complex128 else Ball(value, a.radius)


def _complex(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball, b: Ball) -> Ball:
    return Ball(value, total(a.radius, b.radius))


def _sign(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Any:
    """z/|z| of a complex number."""
    of_complex = balls[0].value.dtype == np.complex128
    return (_function(LIBRARY) if of_complex else of_numbers(_steps))(machine, eqn, *balls)


def _steps(machine: Machine, eqn: JaxprEqn, value: Any, *balls: Ball) -> Ball:
    """Monotone in every argument: from the lower ends to the upper ones, and nothing is rounded."""
    return Ball(value, monotone(machine, eqn, value, *balls))


def monotone(machine: Machine, eqn: JaxprEqn, value: Any, *balls: Ball) -> Any:
    """The radius of a result that grows with every argument."""
    if all(map(exact, balls)):
        return None
    ends = [machine.ends(b) for b in balls]
    low, high = (machine.apply(eqn, *_alike(value, side)) for side in zip(*ends, strict=True))
    return machine.xp.maximum(machine.apart(low, value), machine.apart(high, value))


def _convert(machine: Machine, eqn: JaxprEqn, a: Ball) -> Ball:
    """Between floats an identity; to integers a step, to truth values a comparison with 0."""
    xp, new = machine.xp, widest(eqn.params["new_dtype"])
    source = xp.real(a.value) if rounds(a.value) and not jnp.issubdtype(new, jnp.inexact) else a.value
    if jnp.issubdtype(new, jnp.floating) and a.value.dtype == np.complex128:
        source = xp.real(a.value)
    value = xp.asarray(source).astype(new)
    if new == np.bool_:
        return Ball(value, None if exact(a) else (abs(source) <= a.radius) & machine.doubt(a))
    if rounds(value) and not rounds(a.value) and is_number(a.value):
        large = abs(value) * machine.rounding.unit > 4  # an integer that the dtype does not hold
        if xp is not np or np.any(large):
            return Ball(value, machine.radius(a) + xp.where(large, machine.rounding.unit * abs(value), 0))
    if exact(a):
        return Ball(value, None)
    if rounds(a.value) and not rounds(value):
        low, high = (xp.trunc(end) for end in machine.ends(Ball(source, a.radius)))
        return Ball(value, xp.maximum(high - xp.trunc(source), xp.trunc(source) - low))
    return Ball(value, xp.asarray(a.radius, dtype=np.float64))


def _bitcast(machine: Machine, eqn: JaxprEqn, a: Ball) -> Ball:
    """Bits are those of the declared dtype."""
    declared: Any = eqn.invars[0].aval
    bits = jnp.asarray(a.value).astype(declared.dtype)
    value = jax.lax.bitcast_convert_type(bits, eqn.params["new_dtype"])
    value = machine.xp.asarray(value).astype(widest(value.dtype))
    if exact(a):
        return Ball(value, None)
    radius = machine.xp.where(machine.doubt(a).any(), np.inf, 0.0)
    return Ball(value, machine.xp.broadcast_to(radius, value.shape))


# --- sums and products ------------------------------------------------------------------------------------


def _sum(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball) -> Ball:
    if eqn.primitive is jaxs.cumsum_p:
        terms = a.value.shape[eqn.params["axis"]]
    elif eqn.primitive is jaxs.reduce_window_sum_p:
        terms = math.prod(eqn.params["window_dimensions"])
    else:
        terms = a.value.size // max(value.size, 1)
    inherited = None if exact(a) else machine.apply(eqn, a.radius)
    if not rounds(value):
        return Ball(value, inherited)
    return machine.rounded(
        value, total(machine.sum_unit(terms) * machine.apply(eqn, abs(a.value)), inherited)
    )


def _product_sum(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball, b: Ball) -> Ball:
    """dot_general and convolution: sums of products, one rounding a product besides the sum's."""
    numbers = eqn.params["dimension_numbers"]
    if eqn.primitive is jaxs.dot_general_p:
        terms = math.prod(a.value.shape[i] for i in numbers[0][0])
    else:
        terms = b.value.size // max(b.value.shape[numbers.rhs_spec[0]], 1)
    inherited = None
    if not exact(a):
        inherited = machine.apply(eqn, a.radius, abs(b.value) + machine.radius(b))
    if not exact(b):
        inherited = total(inherited, machine.apply(eqn, abs(a.value), b.radius))
    if not rounds(value):
        return Ball(value, inherited)
    magnitude = machine.apply(eqn, abs(a.value), abs(b.value))
    unit = machine.sum_unit(terms) + machine.rounding.unit
    return machine.rounded(value, total(unit * magnitude, inherited))


def _product(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball) -> Ball:
    """Π(|a| + e) − Π|a|, and a rounding a factor."""
    along = eqn.params.get("axis")
    factors = a.value.size // max(value.size, 1) if along is None else a.value.shape[along]
    radius = None
    if not exact(a):
        size = abs(a.value)
        radius = machine.apply(eqn, size + a.radius) - machine.apply(eqn, size)
    return machine.rounded(value, radius, max(factors, 1))


def _log_sum_exp(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball) -> Ball:
    """log Σ exp along an axis moves no further than what it sums, and is rounded as its largest term is."""
    largest = machine.bind(jaxs.cummax_p, eqn.params, abs(a.value))
    unit = LIBRARY * machine.rounding.unit + machine.sum_unit(a.value.shape[eqn.params["axis"]])
    finite = machine.xp.where(machine.xp.isfinite(largest), largest, 0)
    return machine.rounded(value, total(monotone(machine, eqn, value, a), unit * (1 + finite)))


def _fourier(machine: Machine, eqn: JaxprEqn, value: Any, a: Ball) -> Ball:
    """A sum over the transformed axes, of numbers of modulus 1 times elements, in log n passes."""
    kind, lengths = eqn.params["fft_type"], eqn.params["fft_lengths"]
    axes = tuple(range(-len(lengths), 0))
    scale = 2.0 if kind == jax.lax.FftType.IRFFT else 1.0  # half of the elements stand for two
    if kind in (jax.lax.FftType.IFFT, jax.lax.FftType.IRFFT):
        scale /= max(math.prod(lengths), 1)
    passes = LIBRARY + math.log2(max(math.prod(lengths), 1))
    spread = total(passes * machine.rounding.unit * abs(a.value), a.radius)
    radius = scale * machine.xp.sum(spread, axis=axes, keepdims=True)
    return machine.rounded(value, machine.xp.broadcast_to(radius, value.shape))


# --- moving about -----------------------------------------------------------------------------------------


def move(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball | list[Ball]:
    """Moves elements about: the radii move along; an undecided bit stays one wherever it goes."""
    value = machine.apply(eqn, *(b.value for b in balls))
    many = eqn.primitive.multiple_results
    if all(map(exact, balls)):
        return [Ball(v, None) for v in value] if many else Ball(value, None)
    radius = machine.apply(eqn, *(machine.radius(b) for b in balls))
    return [Ball(v, r) for v, r in zip(value, radius, strict=True)] if many else Ball(value, radius)


def same(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball | list[Ball]:
    """Identities: a name, a place, a barrier."""
    return list(balls) if eqn.primitive.multiple_results else balls[0]


def _iota(machine: Machine, eqn: JaxprEqn, *balls: Ball) -> Ball:
    return Ball(machine.apply(eqn, *(b.value for b in balls)), None)


ARITHMETIC: dict[Primitive, Rule] = {
    jaxs.add_p: of_numbers(_add), jaxs.sub_p: of_numbers(_add), jaxs.add_jaxvals_p: of_numbers(_add),
    jaxs.mul_p: of_numbers(_mul), jaxs.div_p: of_numbers(_div), jaxs.rem_p: of_numbers(_rem),
    jaxs.rsqrt_p: _function(2), jaxs.sin_p: _wave, jaxs.cos_p: _wave, jaxs.sign_p: _sign,
    jaxs.abs_p: of_numbers(_abs), jaxs.complex_p: of_numbers(_complex), jaxs.convert_element_type_p: _convert,
    jaxs.bitcast_convert_type_p: _bitcast, jaxs.iota_p: _iota, jaxs.fft_p: of_numbers(_fourier),
    jaxs.cumlogsumexp_p: of_numbers(_log_sum_exp), jaxs.pow_p: _pow,
    **dict.fromkeys((jaxs.square_p, jaxs.integer_pow_p, jaxs.sqrt_p, jaxs.nextafter_p), _function(1)),
    **dict.fromkeys((
        jaxs.exp_p, jaxs.exp2_p, jaxs.expm1_p, jaxs.log_p, jaxs.log1p_p, jaxs.tanh_p, jaxs.logistic_p,
        jaxs.tan_p, jaxs.asin_p, jaxs.acos_p, jaxs.atan_p, jaxs.sinh_p, jaxs.cosh_p, jaxs.asinh_p,
        jaxs.acosh_p, jaxs.atanh_p, jaxs.erf_p, jaxs.erfc_p, jaxs.cbrt_p, jaxs.atan2_p),
        _function(LIBRARY)),
    **dict.fromkeys((
        jaxs.erf_inv_p, jaxs.lgamma_p, jaxs.digamma_p, jaxs.polygamma_p, jaxs.zeta_p, jaxs.igamma_p,
        jaxs.igammac_p, jaxs.igamma_grad_a_p, jaxs.bessel_i0e_p, jaxs.bessel_i1e_p,
        jaxs.regularized_incomplete_beta_p), _function(_SPECIAL, 1)),
    **dict.fromkeys((jaxs.neg_p, jaxs.real_p, jaxs.imag_p, jaxs.conj_p), of_numbers(_kept)),
    **dict.fromkeys((
        jaxs.floor_p, jaxs.ceil_p, jaxs.round_p, jaxs.max_p, jaxs.min_p, jaxs.clamp_p,
        jaxs.reduce_max_p, jaxs.reduce_min_p, jaxs.cummax_p, jaxs.cummin_p, jaxs.reduce_window_max_p,
        jaxs.reduce_window_min_p), of_numbers(_steps)),
    **dict.fromkeys((jaxs.reduce_sum_p, jaxs.cumsum_p, jaxs.reduce_window_sum_p), of_numbers(_sum)),
    **dict.fromkeys((jaxs.reduce_prod_p, jaxs.cumprod_p), of_numbers(_product)),
    **dict.fromkeys((jaxs.dot_general_p, jaxs.conv_general_dilated_p), of_numbers(_product_sum)),
    **dict.fromkeys((
        jaxs.reshape_p, jaxs.broadcast_in_dim_p, jaxs.transpose_p, jaxs.squeeze_p, jaxs.slice_p, jaxs.rev_p,
        jaxs.concatenate_p, jaxs.pad_p), move),
    **dict.fromkeys((
        jaxs.copy_p, jaxs.stop_gradient_p, jaxs.name_p, jaxs.device_put_p, jaxs.sharding_constraint_p,
        jaxs.reduce_precision_p), same),
}  # fmt: skip
