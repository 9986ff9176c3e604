"""Sizes and dimensions: what an array of the interpreter knows about the axes that it stands over."""

import ast
import dataclasses
import math
import operator
from collections.abc import Mapping
from typing import Any

from bnjax.prove.algebra import Outside, Poly
from bnjax.prove.field import Field

Dims = tuple[tuple[str, ...], ...]
Axis = tuple[int, int, str]  # the rank of an array, which of its dimensions, and its size
Strides = Mapping[Axis, int]
# JAX's symbolic sizes have no public type: an int, or an expression that prints as a polynomial
Size = Any


@dataclasses.dataclass(frozen=True)
class Space:
    """The field that values lie in, and the dimensions that stand for more than one base axis.

    A dimension is the tuple of the base axes that it is the product of: none where its size is 1, two where
    two were merged.  `equations` are for the comparisons of sizes that the program makes, whose outcome was
    taken for granted: an expression that is 0 where it is another, or beside it, and the obligation.
    """

    field: Field
    base_axes: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    strides: Strides = dataclasses.field(default_factory=dict)
    equations: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def dim(self, size: Size) -> tuple[str, ...]:
        """The base axes of a dimension of this size: none for 1."""
        text = str(size)
        return self.base_axes.get(text, () if text == "1" else (text,))

    def dimension(self, size: Size) -> Poly:
        """A dimension's size as a polynomial in the size symbols."""
        try:
            return self._size_expression(ast.parse(str(size).replace("^", "**"), mode="eval").body)
        except SyntaxError:
            raise Outside(f"the size {size}") from None

    def size_of(self, dim: tuple[str, ...]) -> Poly:
        """The number of elements along a dimension."""
        return math.prod(map(self.field.size, dim), start=self.field.constant(1))

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
