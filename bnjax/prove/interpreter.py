"""Reads a jaxpr into the sum algebra, an equation at a time, and refuses what `primitives` does not model.

A value is an `Array`: for each dimension the base axes it stands for (none where its size is 1, two where
two were merged), and a polynomial whose free indices 0, 1, ... are those axes from left to right.  Every
function below is the primitive's meaning over the reals; casts between float types are identities.  It
knows nothing of batch norm.
"""

import ast
import math
import operator
import pathlib
from collections.abc import Sequence
from fractions import Fraction

import jax
import numpy as np

from bnjax.prove.algebra import Atom, Outside, Poly
from bnjax.prove.arrays import Array, Dims
from bnjax.prove.field import Field
from bnjax.prove.meanings import ARITHMETIC, PRIMITIVES, is_arithmetic
from bnjax.prove.signs import sign
from bnjax.prove.tracing import CALLS

_LIBRARIES = (str(pathlib.Path(jax.__file__).parent), str(pathlib.Path(__file__).parent))


class Interpreter:
    """Interprets jaxprs over one field; `base_axes` says which dimensions stand for merged base axes."""

    def __init__(self, field: Field, base_axes: dict[str, tuple[str, ...]] | None = None):
        self.field = field
        self.base_axes = base_axes or {}
        self._constants: dict[tuple, Array] = {}

    def run(self, jaxpr, args: Sequence[Array], consts: Sequence | None = None) -> list[Array]:
        """The outputs of a (closed or open) jaxpr at `args`."""
        consts = getattr(jaxpr, "consts", ()) if consts is None else consts
        jaxpr = getattr(jaxpr, "jaxpr", jaxpr)
        env: dict = {}
        env.update(zip(jaxpr.constvars, map(self.constant, consts), strict=True))
        env.update(zip(jaxpr.invars, args, strict=True))
        for eqn in jaxpr.eqns:
            self.field.check_time()
            operands = [self._read(env, atom) for atom in eqn.invars]
            for var, value in zip(eqn.outvars, self._equation(eqn, operands), strict=True):
                env[var] = value
        return [self._read(env, atom) for atom in jaxpr.outvars]

    def _read(self, env: dict, atom) -> Array:
        return self.constant(atom.val) if hasattr(atom, "val") else env[atom]

    def _equation(self, eqn, operands: list[Array]) -> list[Array]:
        name = eqn.primitive.name
        # inside a function of JAX's own, the line that called it
        previous, self.field.where = self.field.where, source_line(eqn) or self.field.where
        try:
            inner = _inner_jaxpr(eqn)
            if inner is not None:
                return self.run(inner, operands)
            if name not in PRIMITIVES:
                raise Outside("not modelled")
            if name in ARITHMETIC and not is_arithmetic(eqn.outvars[0].aval.dtype):
                raise Outside(f"arithmetic on {eqn.outvars[0].aval.dtype}, which may wrap")
            result = PRIMITIVES[name](self, eqn, *operands)
            results = result if isinstance(result, list) else [result]
            for value, var in zip(results, eqn.outvars, strict=True):
                self._check(value, var.aval.shape)
        except Outside as problem:
            raise Refusal(f"{name}: {problem}", self.field.where) from None
        finally:
            self.field.where = previous
        return results

    def _check(self, value: Array, shape: tuple) -> None:
        """The layout assertion: the dimensions are the traced ones, and the indices are the dimensions'."""
        if value.poly is not None:
            self.field.check_layout(value.poly, value.axes)
        if len(value.dims) != len(shape):
            raise Outside(f"layout: {value.dims} for shape {shape}")
        for dim, size in zip(value.dims, shape, strict=True):
            if self.size_of(dim) != self.dimension(size):
                raise Outside(f"layout: {value.dims} for shape {shape}")

    def constant(self, value) -> Array:
        """A literal, read exactly; an array that is not uniform becomes an atom of its own."""
        array = np.asarray(value)
        dims = tuple(self.dim(size) for size in array.shape)
        flat = array.ravel()
        if not flat.size or np.any(flat != flat[0]):
            if np.issubdtype(array.dtype, np.floating) and np.all(flat == flat):
                return self._unknown(array, dims)
            if not np.all(np.isnan(flat.astype(float))):
                raise Refusal(f"a constant array of {array.dtype} {array.shape}", self.field.where)
        if not np.isfinite(float(flat[0])):
            return Array(dims, None)
        number = Fraction(int(flat[0])) if array.dtype.kind in "iub" else Fraction(float(flat[0]))
        poly = self.field.constant(number)
        return Array(dims, poly, sign(poly))

    def _unknown(self, array: np.ndarray, dims: Dims) -> Array:
        """What is shown for every array holds for this one; equal constants are the same atom."""
        key = (array.shape, str(array.dtype), array.tobytes())
        if key not in self._constants:
            sizes = tuple(size for dim in dims for size in dim)
            poly = self.field.atom(Atom(f"const.{len(self._constants)}", sizes))
            self._constants[key] = Array(dims, poly)
        return self._constants[key]

    def dim(self, size) -> tuple[str, ...]:
        """The base axes of a dimension of this size: none for 1."""
        text = str(size)
        return self.base_axes.get(text, () if text == "1" else (text,))

    def dimension(self, size) -> Poly:
        """A dimension's size as a polynomial in the size symbols."""
        try:
            return self._size_expression(ast.parse(str(size).replace("^", "**"), mode="eval").body)
        except SyntaxError:
            raise Outside(f"the size {size}") from None

    def _size_expression(self, node: ast.expr) -> Poly:
        match node:
            case ast.Constant(value=int(value)):
                return self.field.constant(value)
            case ast.Name(id=name):
                return self.field.size(name)
            case ast.UnaryOp(op=ast.USub(), operand=inner):
                return -self._size_expression(inner)
            case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int(power))):
                return self._size_expression(left) ** power
            case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() as op, right=right):
                apply = {ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul}[type(op)]
                return apply(self._size_expression(left), self._size_expression(right))
        raise Outside(f"the size {ast.unparse(node)}")

    def size_of(self, dim: tuple[str, ...]) -> Poly:
        """The number of elements along a dimension."""
        return math.prod(map(self.field.size, dim), start=self.field.constant(1))


class Refusal(Exception):
    """A program that is not in the fragment: why, and the user's line."""

    def __init__(self, reason: str, where: str = ""):
        super().__init__(reason)
        self.reason = reason
        self.where = where


def source_line(eqn) -> str:
    """`file:line (function)` of the user's code that made this equation."""
    traceback = eqn.source_info.traceback
    for frame in traceback.frames if traceback else ():
        if not frame.file_name.startswith(_LIBRARIES):
            return f"{pathlib.Path(frame.file_name).name}:{frame.line_num} ({frame.function_name})"
    return ""


def _inner_jaxpr(eqn):
    if eqn.primitive.name not in CALLS:
        return None
    return next(eqn.params[key] for key in ("jaxpr", "call_jaxpr", "fun_jaxpr") if key in eqn.params)
