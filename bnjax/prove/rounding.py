r"""How far a float program may stray from the real numbers: a certified bound, by ball arithmetic.

The jaxpr that runs is evaluated twice on python-flint's balls (midpoint ± radius, every operation outward).
Once as it stands, at 200 bits: the value over the reals.  And once with each result widened by what the
machine may have added to it.  The second ball contains whatever the machine may return, so the largest
distance between the two is a bound on the error, for these inputs, proved under this

**Model of rounding.**  u is the unit roundoff of the result's dtype (2⁻²⁴ for float32, 2⁻⁵³ for float64,
2⁻¹¹ for float16, 2⁻⁸ for bfloat16), and γ_k = k·u/(1 − k·u).

- a sum, difference, product or square: relative error ≤ u.  A product and a sum fused into one
  operation round once instead of twice, which the bound covers;
- a quotient: γ_2, since a compiler may multiply by the rounded reciprocal; √: γ_2; 1/√: γ_4;
- an integer power k: γ_{|k|+2}; a cast: u of the narrower type;
- a sum of m terms, in any order and any grouping: γ_m · Σ|terms|; a matrix product likewise, of exact
  float products (on an accelerator that multiplies in lower precision it does not hold);
- any of these: an underflow to zero of at most the least normal number.

It does not cover a compiler that evaluates another expression than the jaxpr's.

Where it is too loose to help.  The bound takes the worst case of every rounding at once, and forgets that
an intermediate result occurs twice: γ_m grows like m while the error of a pairwise sum grows like log m, so
at m = 4096 it is some thousand times the error seen; and where |μ|/σ is large, x − μ cancels and nothing is
left.  `RoundingBound.helpful` is False, and its text says so, where the bound is above 1 % of the result.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs
from jax.interpreters.ad import add_jaxvals_p as add_any_p

from bnjax.jaxprs import shaped
from bnjax.prove.exact import Arithmetic, array_of, contraction, evaluate
from bnjax.prove.reals import Unsupported, as_array

_BITS = 200
_HELPFUL = 0.01
# how many roundings each primitive may make; a sum and a matrix product count their terms
_ROUNDINGS: dict[Primitive, int] = {
    jaxs.add_p: 1,
    add_any_p: 1,
    jaxs.sub_p: 1,
    jaxs.mul_p: 1,
    jaxs.square_p: 1,
    jaxs.div_p: 2,
    jaxs.sqrt_p: 2,
    jaxs.rsqrt_p: 4,
}
_EXACT = frozenset(
    (
        jaxs.neg_p, jaxs.abs_p, jaxs.select_n_p, jaxs.max_p, jaxs.min_p, jaxs.sign_p,
        jaxs.eq_p, jaxs.ne_p, jaxs.lt_p, jaxs.le_p, jaxs.gt_p, jaxs.ge_p,
    )
)  # fmt: skip


@dataclass(frozen=True)
class RoundingBound:
    """A bound for every element of every output of one program at one input.

    Attributes:
      exact: the outputs over the reals, rounded to float64.
      bounds: for each element, at least |what the machine returns − the real value|.
    """

    exact: tuple[np.ndarray, ...]
    bounds: tuple[np.ndarray, ...]

    @property
    def relative(self) -> tuple[float, ...]:
        """For each output, its largest bound over its largest magnitude."""
        return tuple(
            float(np.max(bound, initial=0) / np.max(abs(exact), initial=0)) if np.any(exact) else math.inf
            for exact, bound in zip(self.exact, self.bounds, strict=True)
        )

    @property
    def helpful(self) -> bool:
        """Whether the bound says anything: at most 1 % of every output that is not zero."""
        return all(r <= _HELPFUL for r, e in zip(self.relative, self.exact, strict=True) if np.any(e))

    def contains(self, outputs: Sequence[Any]) -> bool:
        """Whether float outputs lie within the bounds."""
        return all(
            np.all(abs(np.asarray(output, np.float64) - exact) <= bound)
            for output, exact, bound in zip(outputs, self.exact, self.bounds, strict=True)
        )

    def __str__(self) -> str:
        lines = []
        for k, (exact, bound, relative) in enumerate(
            zip(self.exact, self.bounds, self.relative, strict=True)
        ):
            size = f"{relative:.1e} of its largest magnitude" if np.any(exact) else "the real value is 0"
            lines.append(f"output {k}: |machine − real| ≤ {np.max(bound, initial=0):.2e} ({size})")
        return "\n".join(lines if self.helpful else [*lines, "too loose to help"])


def rounding_bound(function: Callable[..., Any], *args: Any) -> RoundingBound:
    """A certified bound on |function(*args) − its value over the reals|, under the module's model.

    Args:
      function: a JAX function whose jaxpr is made of the modelled primitives.
      *args: float arrays; they are taken as exact, and their dtypes are the program's.

    Raises:
      ImportError: python-flint, which the extra `proof` installs, is missing.
      bnjax.prove.reals.Unsupported: a primitive without a model, such as exp or sort.
    """
    flint = _flint()
    arrays = [jnp.asarray(arg) for arg in args]
    jaxpr = jax.make_jaxpr(function)(*arrays)
    with flint.ctx.workprec(_BITS):
        real, machine = (
            evaluate(jaxpr, [array_of(a, numbers) for a in arrays], numbers)
            for numbers in (_Balls(flint), _Rounded(flint))
        )
        pairs = list(zip(real, machine, strict=True))
        return RoundingBound(
            tuple(_each_float(lambda r: float(r.mid()), r) for r, _ in pairs),
            tuple(_each_float(_distance, r, m) for r, m in pairs),
        )


def vjp_rounding_bound(op: Callable[..., Any], cotangent: Any, *args: Any) -> RoundingBound:
    """`rounding_bound` of the value of `op` and its cotangents at `cotangent`."""

    def program(cotangent, *args):
        value, pull = jax.vjp(op, *args)
        return value, *pull(cotangent)

    return rounding_bound(program, cotangent, *args)


def _flint() -> Any:
    try:
        import flint
    except ImportError:
        raise ImportError("rounding bounds need python-flint: pip install 'bnjax[proof]'") from None
    return flint


class _Balls(Arithmetic):
    """Real numbers, as balls of 200 bits."""

    def __init__(self, flint: Any):
        self.flint = flint

    def literal(self, value: Any) -> Any:
        """A float is a binary fraction, so its ball has radius 0."""
        return bool(value) if isinstance(value, bool | np.bool_) else self.flint.arb(float(value))

    def root(self, value: Any) -> Any:
        """√value."""
        return value.sqrt()

    def function(self, name: str, value: Any) -> Any:
        """exp, log or erf of a value."""
        return getattr(value, name)()


class _Rounded(_Balls):
    """The same, each result widened by the rounding it may have had."""

    def rounded(self, eqn: JaxprEqn, operands: Sequence[np.ndarray], result: np.ndarray) -> np.ndarray:
        """Every number within the model's distance of `result`."""
        dtype = shaped(eqn.outvars[0]).dtype
        if not jnp.issubdtype(dtype, jnp.floating) or eqn.primitive in _EXACT:
            return result
        terms, magnitudes = _sum_of_magnitudes(eqn, operands, result)
        info = jnp.finfo(dtype)
        u = self.flint.arb(float(info.eps)) / 2
        gamma = terms * u / (1 - terms * u)
        least = self.flint.arb(float(info.smallest_normal))
        radii = np.frompyfunc(lambda m: (gamma * m + least).upper(), 1, 1)(magnitudes)
        widen = np.frompyfunc(lambda value, radius: value + self.flint.arb(0, radius), 2, 1)
        return as_array(widen(result, radii))


def _sum_of_magnitudes(
    eqn: JaxprEqn, operands: Sequence[np.ndarray], result: np.ndarray
) -> tuple[int, np.ndarray]:
    """How many roundings a result had, and the magnitude that each is relative to."""
    if eqn.primitive in (jaxs.reduce_sum_p, jaxs.psum_p):
        axes = tuple(int(axis) for axis in eqn.params["axes"])
        terms = math.prod(operands[0].shape[axis] for axis in axes)
        return terms, as_array(np.add.reduce(_magnitude(operands[0]), axis=axes))
    if eqn.primitive is jaxs.dot_general_p:
        numbers = eqn.params["dimension_numbers"]
        terms = math.prod(operands[0].shape[axis] for axis in numbers[0][0])
        return terms + 1, contraction(numbers, *map(_magnitude, operands))
    if eqn.primitive is jaxs.integer_pow_p:
        return abs(eqn.params["y"]) + 2, _magnitude(result)
    if eqn.primitive is jaxs.convert_element_type_p:
        return int(_narrows(eqn)), _magnitude(result)
    if eqn.primitive not in _ROUNDINGS:
        raise Unsupported(f"{eqn.primitive.name}: no model of its rounding")
    return _ROUNDINGS[eqn.primitive], _magnitude(result)


def _narrows(eqn: JaxprEqn) -> bool:
    old, new = shaped(eqn.invars[0]).dtype, shaped(eqn.outvars[0]).dtype
    return not jnp.issubdtype(old, jnp.floating) or jnp.finfo(new).eps > jnp.finfo(old).eps


def _magnitude(values: np.ndarray) -> np.ndarray:
    return as_array(np.frompyfunc(lambda value: abs(value).upper(), 1, 1)(values))


def _distance(real: Any, machine: Any) -> float:
    """The largest |difference| of points of two balls, rounded up, and the rounding of `exact` with it."""
    bound = float(abs(machine - real).upper())
    if not math.isfinite(bound):  # a variance or a divisor whose ball reaches 0: nothing is known
        return math.inf
    return math.nextafter(bound + abs(float(real.mid())) * 2.0**-52, math.inf)


def _each_float(function: Callable[..., float], *arrays: np.ndarray) -> np.ndarray:
    return np.asarray(np.frompyfunc(function, len(arrays), 1)(*arrays), np.float64)
