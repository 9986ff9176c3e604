"""Reads a jaxpr into the sum algebra, an equation at a time, and refuses what `meanings` does not model.

A value is an `Array`: for each dimension the base axes it stands for (none where its size is 1, two where
two were merged), and a polynomial whose free indices 0, 1, ... are those axes from left to right.  Every
function of `meanings` is the primitive's meaning over the reals; casts between float types are identities.
It knows nothing of batch norm.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import ShapedArray
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal
from jax.extend.core import primitives as jaxs
from jax.typing import ArrayLike

from bnjax.jaxprs import called, shaped, source_line, walk
from bnjax.prove.algebra import Atom, Outside
from bnjax.prove.arrays import Array, finite
from bnjax.prove.field import Field
from bnjax.prove.integers import scalar
from bnjax.prove.loops import LOOPS, without_loop
from bnjax.prove.meanings import ARITHMETIC, PRIMITIVES
from bnjax.prove.ranges import fitted, holds, in_range, narrows, of_constant
from bnjax.prove.signs import sign
from bnjax.prove.space import Dims, Size, Space, Strides

_WHOLE = 2**24


class Refusal(Exception):
    """A program that is not in the fragment: why, and the user's line."""

    def __init__(self, reason: str, where: str = ""):
        super().__init__(reason)
        self.reason = reason
        self.where = where


def _is_whole(array: np.ndarray) -> bool:
    """Whether all numbers are small integers: a mask, or positions."""
    wide = array.astype(np.float64)
    return bool(array.size and np.all(wide == np.round(wide)) and np.all(abs(wide) <= _WHOLE))


class Interpreter:
    """Interprets jaxprs over one field; `base_axes` says which dimensions stand for merged base axes."""

    def __init__(
        self,
        field: Field,
        base_axes: Mapping[str, tuple[str, ...]] | None = None,
        strides: Strides | None = None,
    ):
        self.field = field
        self.space = Space(field, base_axes or {}, strides or {})
        self._constants: dict[tuple[tuple[int, ...], str, bytes], Array] = {}

    def run(self, jaxpr: ClosedJaxpr, args: Sequence[Array]) -> list[Array]:
        """The outputs of a jaxpr at `args`."""
        return walk(jaxpr, args, self._equation, self.constant, self._literal)

    def _equation(self, eqn: JaxprEqn, operands: list[Array]) -> list[Array]:
        self.field.check_time()
        # inside a function of JAX's own, the line that called it
        previous, self.field.where = self.field.where, source_line(eqn) or self.field.where
        try:
            if eqn.primitive is jaxs.cond_p:
                return self._branch(eqn, *operands)
            inner = without_loop(eqn) if eqn.primitive in LOOPS else called(eqn)
            return self._meaning(eqn, operands) if inner is None else self.run(inner, operands)
        except Outside as problem:
            raise Refusal(f"{eqn.primitive.name}: {problem}", self.field.where) from None
        finally:
            self.field.where = previous

    def _branch(self, eqn: JaxprEqn, which: Array, *operands: Array) -> list[Array]:
        """The branch that a known index takes: JAX takes the nearest where it is out of range."""
        branches = eqn.params["branches"]
        place = min(max(scalar(self.field, finite(which)), 0), len(branches) - 1)
        return self.run(branches[place], operands)

    def _literal(self, atom: Literal) -> Array:
        """A literal as its dtype holds it."""
        return self.constant(np.asarray(atom.val, shaped(atom).dtype))

    def _meaning(self, eqn: JaxprEqn, operands: list[Array]) -> list[Array]:
        """What the primitive makes of its operands."""
        if eqn.primitive not in PRIMITIVES:
            raise Outside("not modelled")
        result = PRIMITIVES[eqn.primitive](self.space, eqn, *operands)
        results = result if isinstance(result, list) else [result]
        narrowed = narrows(eqn, operands) or any(a.narrowed for a in operands)
        one_each = len(operands) == len(results)
        typed = [
            self._typed(eqn, operands[k : k + 1] if one_each else operands, value, shaped(var))
            for k, (value, var) in enumerate(zip(results, eqn.outvars, strict=True))
        ]
        return [replace(value, narrowed=True) for value in typed] if narrowed else typed

    def _typed(self, eqn: JaxprEqn, operands: list[Array], value: Array, aval: ShapedArray) -> Array:
        """The value as one of its dtype, which must hold it, and of its shape."""
        self._check(value, aval.shape)
        if jnp.issubdtype(aval.dtype, jnp.integer):
            return fitted(eqn, operands, value)
        if aval.dtype == jax.dtypes.float0:
            return value
        if aval.dtype != jnp.bool_ and not jnp.issubdtype(aval.dtype, jnp.floating):
            raise Outside(f"numbers of {aval.dtype}")
        if aval.dtype == jnp.bool_ and eqn.primitive in ARITHMETIC:
            raise Outside("arithmetic on truth values")
        if eqn.primitive is jaxs.convert_element_type_p and aval.dtype != jnp.bool_:
            holds(aval.dtype, value)
        if aval.dtype != jnp.bool_:
            in_range(aval.dtype, value)
        return replace(value, range=None)

    def _check(self, value: Array, shape: Sequence[Size]) -> None:
        """The layout assertion: the dimensions are the traced ones, and the indices are the dimensions'."""
        if value.poly is not None:
            self.field.check_layout(value.poly, value.axes)
        if len(value.dims) != len(shape):
            raise Outside(f"layout: {value.dims} for shape {shape}")
        for dim, size in zip(value.dims, shape, strict=True):
            if self.space.size_of(dim) != self.space.dimension(size):
                raise Outside(f"layout: {value.dims} for shape {shape}")

    def constant(self, value: ArrayLike) -> Array:
        """A literal, as the field reads it; an array that is not uniform becomes an atom of its own.

        With NaN or infinity among its entries it is no array of reals: it must be selected away.
        """
        array = np.asarray(value)
        dims = tuple(self.space.dim(size) for size in array.shape)
        flat = array.ravel()
        floating = jnp.issubdtype(array.dtype, jnp.floating)
        if array.dtype == jax.dtypes.float0:  # what a rule is given for an output that is not a float
            return Array(dims, None)
        if not floating and array.dtype.kind not in "iub":
            raise Refusal(f"a constant of {array.dtype}", self.field.where)
        if floating and not np.all(np.isfinite(flat.astype(np.float64))):
            return self._not_finite(array, dims)
        if not flat.size or np.any(flat != flat[0]):
            if floating and not _is_whole(array):
                return self._unknown(array, dims)
            if not flat.size:
                raise Refusal(f"a constant array of {array.dtype} {array.shape}", self.field.where)
            values = array.astype(np.int64).reshape([size for size in array.shape if size > 1])
            poly = self.field.table(values, range(values.ndim))
            return Array(dims, poly, sign(poly), of_constant(array))
        poly = self.field.literal(flat[0]) if floating else self.field.constant(int(flat[0]))
        return Array(dims, poly, sign(poly), of_constant(array))

    def _not_finite(self, array: np.ndarray, dims: Dims) -> Array:
        """What a mask adds: −∞, and one number elsewhere; of anything else with NaN or infinity nothing."""
        kept = np.isfinite(array)
        numbers = np.unique(array[kept])
        if not np.all(kept | np.isneginf(array)) or len(numbers) > 1 or not array.size:
            return Array(dims, None)
        shape = [size for size in array.shape if size > 1]
        truth = self.field.table(kept.astype(np.int64).reshape(shape), range(len(shape)))
        number = self.field.literal(numbers[0]) if len(numbers) else self.field.constant(0)
        return Array(dims, number * truth, kept=truth)

    def _unknown(self, array: np.ndarray, dims: Dims) -> Array:
        """What is shown for every array holds for this one; equal constants are the same atom."""
        key = (array.shape, str(array.dtype), array.tobytes())
        if key not in self._constants:
            sizes = tuple(size for dim in dims for size in dim)
            poly = self.field.atom(Atom(f"const.{len(self._constants)}", sizes))
            self._constants[key] = Array(dims, poly)
        return self._constants[key]
