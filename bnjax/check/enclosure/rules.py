r"""How far a right rule may stray: every bound of the checker, and where it comes from.

**The question.**  A rule is run in a finite precision; the reference is known in float64.  How large may
the difference be, element by element, if the rule is right and only rounds?

**The model.**  Every elementary operation returns its exact result times (1 + δ), |δ| ≤ w·r, give or
take the smallest normal number; w is 1 for arithmetic and `_LIBRARY` for exp, log and their kind.  A sum
of m terms in any order is off by at most (m − 1)·u·Σ|a| to first order (Higham 2002, §4.2), u the roundoff
of the accumulator, which XLA keeps at float32 or wider.  Moving, selecting, comparing, negating: exact.

**The bound.**  `enclose` runs the reference's own program (autodiff of the primal, as a jaxpr) in float64
and carries beside each number v a radius e that contains the rounded v: the running error analysis of
Higham §3.3, in ball arithmetic so that it stays true where a divisor or a root comes near zero::

    a ± b      e_a + e_b + r·|v|                     Σ a        Σ e_a + s(m)·Σ|a| + r·|v|
    a · b      |a|·e_b + |b|·e_a + e_a·e_b + r·|v|   a · B      likewise, each sum with s(m)
    a / b      (e_a + |v|·e_b)/(|b| − e_b) + r·|v|   f(a)       max |f(a ± e_a) − v| + w·r·|v|
    a > b      undecided where |a − b| ≤ e_a + e_b; a selection by it takes in both branches

So the bound is the reference's conditioning times a roundoff, with nothing in it to tune.  It counts every
operation at the *working* precision, the narrowest of the arguments and results, whatever the
program's casts say: a rule may as well compute in bfloat16 where the primal went to float32.

**The constants.**

| stage | r, an operation | s(m), a sum of m | why |
|---|---|---|---|
| float64 | 2⁻³³ | 2⁻³³ | 2²⁰ roundoffs; no array size enters |
| narrower | 4·u | (m − 1)·2⁻²⁴ | u the dtype's unit roundoff |

In float64 there is room: a sequential sum of 2²⁰ terms, or E[x²] − E[x]² at mean/std = 1000, is inside
2²⁰ roundoffs, and an error in the mathematics is not.  Below it the sum's bound is the theorem's, and 4
allows for a right rule's taking a few steps more than autodiff does.

**The floor.**  Block algorithms (a matrix product, a total minus its parts) are accurate relative to the
largest element of what they return: an element is also allowed r/4 (float64: r) of its leaf's largest.

**What the bound is not.**  It is a worst case: at bfloat16 a term smaller than a few per cent of what it
is added to can hide in it, and a float32 sum of 10⁶ terms is hardly bounded.  That is what float64, the
small shapes and the structured cotangents are for.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core

from bnjax.check.enclosure.numpy_primitives import NUMPY, widened

_LIBRARY = 4  # exp, log, tanh: a few units in the last place on every backend


class Rounding(NamedTuple):
    """The numbers of the model: a pytree, so that one compiled program serves every precision."""

    unit: float  # r
    floor: float  # relative to the leaf's largest element
    sum_fixed: float  # s(m) = sum_fixed + sum_per_term·m
    sum_per_term: float
    tiny: float
    largest: float


class Ball(NamedTuple):
    """A float64 array and the radius of each element; None is exact."""

    value: Any
    radius: Any


def rounding(dtype: Any) -> Rounding:
    """The model's numbers for rules that work in `dtype` (a floating dtype)."""
    info = jnp.finfo(dtype)
    u = float(info.eps) / 2
    if u <= 2.0**-53:
        return Rounding(2.0**-33, 2.0**-33, 2.0**-33, 0.0, float(info.tiny), float(info.max))
    return Rounding(4 * u, u, 0.0, 2.0**-24, float(info.tiny), float(info.max))


def allowance(ball: Ball, rounding: Rounding, xp: Any = np) -> Any:
    """The bound on |got − value| per element of [probe, *leaf]: the radius, and the leaf's floor."""
    value = ball.value
    if value.size == 0:
        return xp.zeros(value.shape)
    known = xp.where(xp.isfinite(value), abs(value), 0)
    largest = xp.max(known, axis=tuple(range(1, value.ndim)), keepdims=True)
    radius = xp.zeros(value.shape) if ball.radius is None else ball.radius
    return radius + (rounding.floor * largest + rounding.tiny)


def enclose(
    jaxpr: core.ClosedJaxpr, arguments: Sequence[Any], rounding: Rounding, xp: Any = np
) -> list[Ball]:
    """The balls of `jaxpr`'s results at the exact `arguments`.

    With `xp=numpy` it runs at once, without compilation; with `xp=jax.numpy` it can be jitted.  Floats
    are float64 throughout, whatever dtype the jaxpr names.
    """
    balls = [Ball(_wide(a, xp), None) for a in arguments]
    with np.errstate(all="ignore"):
        return _run(jaxpr.jaxpr, jaxpr.consts, balls, _Machine(xp, rounding))


def _wide(a: Any, xp: Any) -> Any:
    if jnp.issubdtype(jnp.result_type(a), jnp.floating):
        return xp.asarray(a, dtype=np.float64)
    return xp.asarray(a) if xp is np and isinstance(a, np.ndarray | np.generic | bool | int) else a


def _numpy(a: Any) -> Any:
    """`a` for numpy; a random key is no number and stays as it is."""
    return a if jnp.issubdtype(a.dtype, jax.dtypes.extended) else np.asarray(a)


class _Machine(NamedTuple):
    xp: Any
    rounding: Rounding

    def apply(self, eqn: Any, *values: Any) -> Any:
        """What the primitive computes, in float64: by numpy where it has it, else by JAX."""
        name, params = eqn.primitive.name, eqn.params
        if self.xp is np and name in NUMPY:
            return NUMPY[name](params, *values)
        params = {k: widened(k, v) for k, v in params.items()}
        out = eqn.primitive.bind(
            *(jnp.asarray(v) if isinstance(v, np.ndarray) else v for v in values), **params
        )
        if self.xp is np:
            return [_numpy(o) for o in out] if eqn.primitive.multiple_results else _numpy(out)
        return out

    def rounded(self, value: Any, radius: Any, weight: float = 1) -> Ball:
        """A computed number: one more rounding; beyond the largest number nothing is promised."""
        xp, r = self.xp, self.rounding
        radius = (0 if radius is None else radius) + weight * r.unit * abs(value) + r.tiny
        lost = xp.isnan(radius) | (abs(value) + radius > r.largest)
        return Ball(value, xp.where(lost, np.inf, radius))

    def sum_unit(self, terms: int) -> float:
        return self.rounding.sum_fixed + self.rounding.sum_per_term * max(terms - 1, 0)


def _run(jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Ball], machine: _Machine) -> list[Ball]:
    environment: dict[Any, Ball] = {}

    def read(atom: Any) -> Ball:
        if isinstance(atom, core.Literal):
            return Ball(_wide(np.asarray(atom.val) if machine.xp is np else atom.val, machine.xp), None)
        return environment[atom]

    constants = [Ball(_wide(np.asarray(c) if machine.xp is np else c, machine.xp), None) for c in consts]
    environment.update(zip(jaxpr.constvars, constants, strict=True))
    environment.update(zip(jaxpr.invars, arguments, strict=True))
    for eqn in jaxpr.eqns:
        rule = _RULES.get(eqn.primitive.name, _unknown)
        out = rule(machine, eqn, *(read(a) for a in eqn.invars))
        environment.update(zip(eqn.outvars, [out] if isinstance(out, Ball) else out, strict=True))
    return [read(a) for a in jaxpr.outvars]


# --- the rules: (machine, eqn, *balls) -> Ball or list of Balls -------------------------------------------


def _exact(ball: Ball) -> bool:
    return ball.radius is None


def _radius(ball: Ball) -> Any:
    if ball.radius is not None:
        return ball.radius
    return ball.value != ball.value if ball.value.dtype == np.bool_ else 0 * ball.value


def _times(machine: _Machine, a: Any, radius: Any) -> Any:
    """|a|·radius, 0 where a is 0: a masked infinity is gone."""
    return 0 if radius is None else machine.xp.where(a == 0, 0, abs(a) * radius)


def _add(machine: _Machine, eqn: Any, a: Ball, b: Ball) -> Ball:
    value = machine.apply(eqn, a.value, b.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    return machine.rounded(value, _total(a.radius, b.radius))


def _total(a: Any, b: Any) -> Any:
    return b if a is None else a if b is None else a + b


def _mul(machine: _Machine, eqn: Any, a: Ball, b: Ball) -> Ball:
    value = machine.apply(eqn, a.value, b.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    radius = _times(machine, a.value, b.radius) + _times(machine, b.value, a.radius)
    if not _exact(a) and not _exact(b):
        radius = radius + a.radius * b.radius
    return machine.rounded(value, radius)


def _div(machine: _Machine, eqn: Any, a: Ball, b: Ball) -> Ball:
    value = machine.apply(eqn, a.value, b.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    room = abs(b.value) - (0 if _exact(b) else b.radius)
    radius = ((0 if _exact(a) else a.radius) + _times(machine, value, b.radius)) / room
    return machine.rounded(value, machine.xp.where(room > 0, radius, np.inf))


def _function(weight: float) -> Callable[..., Ball]:
    """A function of one or more numbers, element by element: both ends of each argument's ball."""

    def rule(machine: _Machine, eqn: Any, *balls: Ball) -> Ball:
        xp, values = machine.xp, [b.value for b in balls]
        value = machine.apply(eqn, *values)
        if not jnp.issubdtype(value.dtype, jnp.floating):
            return Ball(value, None)
        radius = None
        for i, ball in enumerate(balls):
            if not _exact(ball):
                ends = [
                    machine.apply(eqn, *values[:i], ball.value + s * ball.radius, *values[i + 1 :])
                    for s in (1, -1)
                ]
                spread = xp.maximum(abs(ends[0] - value), abs(ends[1] - value))
                if eqn.primitive.name == "integer_pow" and eqn.params["y"] < 0:
                    spread = xp.where(abs(ball.value) > ball.radius, spread, np.inf)
                radius = _total(radius, xp.where(xp.isnan(spread), np.inf, spread))
        return machine.rounded(value, radius, weight) if weight else Ball(value, radius)

    return rule


def _lipschitz(machine: _Machine, eqn: Any, *balls: Ball) -> Ball:
    """|f(a) − f(b)| ≤ |a − b|: min, max, abs, neg, clamp; exact, so nothing is added."""
    value = machine.apply(eqn, *(b.value for b in balls))
    if all(map(_exact, balls)):
        return Ball(value, None)
    radius = _radius(balls[0])
    for ball in balls[1:]:
        radius = machine.xp.maximum(radius, _radius(ball))
    return Ball(value, radius + 0 * value if radius.shape != value.shape else radius)


def _move(machine: _Machine, eqn: Any, *balls: Ball) -> Ball | list[Ball]:
    """Moves elements about (reshape, slice, gather, …): the radii move along; indices are exact."""
    value = machine.apply(eqn, *(b.value for b in balls))
    radius: Any
    if all(map(_exact, balls)):
        radius = [None] * len(value) if eqn.primitive.multiple_results else None
    else:
        # an undecided bit stays one wherever it goes; integers say where, and are exact
        indices = [_exact(b) and jnp.issubdtype(b.value.dtype, jnp.integer) for b in balls]
        radius = machine.apply(
            eqn, *(b.value if index else _radius(b) for b, index in zip(balls, indices, strict=True))
        )
    if eqn.primitive.multiple_results:
        return [Ball(v, r) for v, r in zip(value, radius, strict=True)]
    return Ball(value, radius)


def _convert(machine: _Machine, eqn: Any, a: Ball) -> Ball:
    new = eqn.params["new_dtype"]
    if jnp.issubdtype(new, jnp.floating):  # between floats an identity; an undecided bit is 0 or 1
        value = machine.xp.asarray(a.value, dtype=np.float64)
        return Ball(value, None if _exact(a) else machine.xp.asarray(a.radius, dtype=np.float64))
    return Ball(machine.xp.asarray(a.value).astype(new), a.radius if a.value.dtype == np.bool_ else None)


def _compare(machine: _Machine, eqn: Any, a: Ball, b: Ball) -> Ball:
    """A boolean; its radius is True where the balls overlap and it could be the other."""
    value = machine.apply(eqn, a.value, b.value)
    if (_exact(a) and _exact(b)) or not jnp.issubdtype(a.value.dtype, jnp.floating):
        return Ball(value, None)
    undecided = abs(a.value - b.value) <= _radius(a) + _radius(b)
    if eqn.primitive.name in ("eq", "ne"):  # x == max(x) holds for one element whatever x's error
        undecided = undecided & (a.value != b.value)
    return Ball(value, undecided)


def _logic(machine: _Machine, eqn: Any, *balls: Ball) -> Ball:
    value = machine.apply(eqn, *(b.value for b in balls))
    unsure = [b.radius for b in balls if not _exact(b)]
    if not unsure or value.dtype != np.bool_:
        return Ball(value, None)
    return Ball(value, unsure[0] if len(unsure) == 1 else unsure[0] | unsure[1])


def _reduce_logic(machine: _Machine, eqn: Any, a: Ball) -> Ball:
    value = machine.apply(eqn, a.value)
    return Ball(value, None if _exact(a) else a.radius.any(axis=tuple(eqn.params["axes"])))


def _select(machine: _Machine, eqn: Any, which: Ball, *cases: Ball) -> Ball:
    xp = machine.xp
    value = machine.apply(eqn, which.value, *(c.value for c in cases))
    if _exact(which) and all(map(_exact, cases)):
        return Ball(value, None)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    radius = machine.apply(eqn, which.value, *(_radius(c) for c in cases))
    if not _exact(which):
        for case in cases:
            reach = abs(case.value - value) + _radius(case)
            radius = xp.where(which.radius, xp.maximum(radius, reach), radius)
    return Ball(value, radius)


def _sum(machine: _Machine, eqn: Any, a: Ball) -> Ball:
    value = machine.apply(eqn, a.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    terms = max(a.value.size // max(value.size, 1), 1)
    if eqn.primitive.name in ("cumsum", "reduce_window_sum"):
        terms = math.prod(eqn.params.get("window_dimensions", a.value.shape))
    return machine.rounded(
        value,
        _sum_radius(
            machine,
            terms,
            machine.apply(eqn, abs(a.value)),
            None if _exact(a) else machine.apply(eqn, a.radius),
        ),
    )


def _sum_radius(machine: _Machine, terms: int, magnitude: Any, inherited: Any) -> Any:
    return _total(machine.sum_unit(terms) * magnitude, inherited)


def _product_sum(machine: _Machine, eqn: Any, a: Ball, b: Ball) -> Ball:
    """dot_general and convolution: sums of products."""
    value = machine.apply(eqn, a.value, b.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    if "dimension_numbers" in eqn.params and eqn.primitive.name == "dot_general":
        terms = math.prod(a.value.shape[i] for i in eqn.params["dimension_numbers"][0][0])
    else:
        terms = b.value.size
    magnitude = machine.apply(eqn, abs(a.value), abs(b.value))
    inherited = None
    if not _exact(a):
        inherited = machine.apply(eqn, a.radius, abs(b.value) + _radius(b))
    if not _exact(b):
        inherited = _total(inherited, machine.apply(eqn, abs(a.value), b.radius))
    # one rounding a product besides the sum's
    return machine.rounded(
        value, _sum_radius(machine, terms, magnitude, inherited) + machine.rounding.unit * magnitude
    )


def _scatter_add(machine: _Machine, eqn: Any, a: Ball, indices: Ball, updates: Ball) -> Ball:
    value = machine.apply(eqn, a.value, indices.value, updates.value)
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return Ball(value, None)
    magnitude = machine.apply(eqn, abs(a.value), indices.value, abs(updates.value))
    inherited = machine.apply(eqn, _radius(a), indices.value, _radius(updates))
    return machine.rounded(value, _sum_radius(machine, updates.value.size, magnitude, inherited))


def _sort(machine: _Machine, eqn: Any, *balls: Ball) -> list[Ball]:
    """Order statistics move no further than the largest radius; carried operands must be exact."""
    values = machine.apply(eqn, *(b.value for b in balls))
    if _exact(balls[0]):
        return [Ball(v, None) for v in values]
    widest = machine.xp.max(balls[0].radius)
    lost = [np.inf] * (len(balls) - 1)
    return [
        Ball(v, 0 * v + r if jnp.issubdtype(v.dtype, jnp.floating) else None)
        for v, r in zip(values, [widest, *lost], strict=True)
    ]


def _unknown(machine: _Machine, eqn: Any, *balls: Ball) -> Ball | list[Ball]:
    """A primitive without a rule: exact in, a rounding out; otherwise nothing is promised."""
    out = machine.apply(eqn, *(b.value for b in balls))
    values = out if eqn.primitive.multiple_results else [out]
    inexact = any(not _exact(b) for b in balls)
    result = []
    for v in values:
        if not jnp.issubdtype(v.dtype, jnp.floating):
            result.append(Ball(v, None))
        elif inexact:
            result.append(Ball(v, 0 * v + np.inf))
        else:
            result.append(
                machine.rounded(v, machine.rounding.unit * machine.xp.max(abs(v), initial=0), _LIBRARY)
            )
    return result if eqn.primitive.multiple_results else result[0]


# --- programs inside programs ------------------------------------------------------------------------------


def _call(machine: _Machine, eqn: Any, *balls: Ball) -> list[Ball]:
    inner = next(eqn.params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in eqn.params)
    closed = inner if isinstance(inner, core.ClosedJaxpr) else core.ClosedJaxpr(inner, ())
    return _run(closed.jaxpr, closed.consts, balls, machine)


def _dense(balls: Sequence[Ball], xp: Any) -> list[Ball]:
    """Every radius an array, so that a loop's carry keeps its type."""
    return [Ball(b.value, xp.zeros_like(b.value) if _exact(b) else b.radius) for b in balls]


def _scan_counts(params: Any, operands: int) -> tuple[int, int]:
    """How many operands of a scan are constants, and how many are carried."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].update(list(range(operands))).unpack()  # from JAX 0.12 on
    return len(list(consts)), len(list(carry))


def _scan(machine: _Machine, eqn: Any, *balls: Ball) -> list[Ball]:
    params, xp = eqn.params, machine.xp
    body, length = params["jaxpr"], params["length"]
    fixed, carried = _scan_counts(params, len(balls))
    consts, scanned = balls[:fixed], _dense(balls[fixed + carried :], xp)
    carry: Sequence[Ball] = balls[fixed : fixed + carried]

    def step(carry: Sequence[Ball], slices: Sequence[Ball]) -> tuple[list[Ball], list[Ball]]:
        out = _dense(_run(body.jaxpr, body.consts, [*consts, *carry, *slices], machine), xp)
        return out[:carried], out[carried:]

    if xp is not np:
        last, stacked = jax.lax.scan(step, _dense(carry, xp), scanned, length, params["reverse"])
        return [*last, *stacked]
    rows: list[list[Ball]] = []
    for i in range(length)[:: -1 if params["reverse"] else 1]:
        carry, row = step(carry, [Ball(b.value[i], b.radius[i]) for b in scanned])
        rows.append(row)
    if params["reverse"]:
        rows.reverse()
    if not rows:
        shapes = [v.aval for v in eqn.outvars[carried:]]
        return [*carry, *(Ball(np.zeros(a.shape, a.dtype), None) for a in shapes)]
    return [
        *carry,
        *(
            Ball(np.stack([b.value for b in c]), np.stack([b.radius for b in c]))
            for c in zip(*rows, strict=True)
        ),
    ]


def _while(machine: _Machine, eqn: Any, *balls: Ball) -> list[Ball]:
    params, xp = eqn.params, machine.xp
    test, body = params["cond_jaxpr"], params["body_jaxpr"]
    first, second = params["cond_nconsts"], params["body_nconsts"]
    test_consts, body_consts = balls[:first], balls[first : first + second]

    def go_on(carry: Any) -> Any:
        return _run(test.jaxpr, test.consts, [*test_consts, *carry], machine)[0].value

    def step(carry: Any) -> list[Ball]:
        return _dense(_run(body.jaxpr, body.consts, [*body_consts, *carry], machine), xp)

    carry = _dense(balls[first + second :], xp)
    if xp is not np:
        return list(jax.lax.while_loop(go_on, step, carry))
    while np.all(go_on(carry)):
        carry = step(carry)
    return carry


def _cond(machine: _Machine, eqn: Any, which: Ball, *balls: Ball) -> list[Ball]:
    branches = eqn.params["branches"]
    if machine.xp is np:
        chosen = branches[int(np.clip(which.value, 0, len(branches) - 1))]
        return _run(chosen.jaxpr, chosen.consts, balls, machine)
    return list(
        jax.lax.switch(
            jnp.asarray(which.value, np.int32),
            [lambda b, c=c: _dense(_run(c.jaxpr, c.consts, b, machine), jnp) for c in branches],
            list(balls),
        )
    )


_RULES: dict[str, Callable[..., Any]] = {
    "add": _add, "sub": _add, "add_any": _add, "mul": _mul, "div": _div,
    "square": _function(1), "integer_pow": _function(1), "sqrt": _function(1), "rsqrt": _function(2),
    "convert_element_type": _convert, "reduce_precision": lambda machine, eqn, a, *_: a,
    "select_n": _select, "reduce_sum": _sum, "cumsum": _sum, "reduce_window_sum": _sum,
    "dot_general": _product_sum, "conv_general_dilated": _product_sum, "scatter-add": _scatter_add,
    "sort": _sort, "scan": _scan, "while": _while, "cond": _cond,
    **dict.fromkeys(("exp", "exp2", "expm1", "log", "log1p", "tanh", "logistic", "sin", "cos", "tan", "asin",
                     "acos", "atan", "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc", "erf_inv",
                     "lgamma", "digamma", "cbrt", "pow", "atan2", "rem"), _function(_LIBRARY)),
    **dict.fromkeys(("sign", "floor", "ceil", "round", "nextafter"), _function(0)),
    **dict.fromkeys(("neg", "abs", "max", "min", "clamp", "reduce_max", "reduce_min", "cummax", "cummin",
                     "reduce_window_max", "reduce_window_min"), _lipschitz),
    **dict.fromkeys(("reshape", "broadcast_in_dim", "transpose", "squeeze", "expand_dims", "slice", "rev",
                     "concatenate", "pad", "gather", "dynamic_slice", "dynamic_update_slice", "split", "copy",
                     "copy_p", "stop_gradient", "optimization_barrier", "tile"), _move),
    **dict.fromkeys(("gt", "lt", "ge", "le", "eq", "ne"), _compare),
    **dict.fromkeys(("and", "or", "xor", "not"), _logic),
    **dict.fromkeys(("reduce_and", "reduce_or"), _reduce_logic),
    **dict.fromkeys(("jit", "pjit", "closed_call", "core_call", "eval_jaxpr", "remat", "remat2", "checkpoint",
                     "custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr", "custom_lin"), _call),
}  # fmt: skip
