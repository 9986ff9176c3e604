"""What a printed array is: an entry at its indices, sizes and numbers as Coq writes them.  It is trusted."""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

INDICES = "ijklpq"
LARGEST_NUMBER = 100  # Coq counts sizes in unary


class Outside(Exception):
    """What the printer has no meaning for."""


@dataclass(frozen=True, eq=False)
class Line:
    """A `let`: an entry at its indices, made of entries of others, and when it means something."""

    dims: tuple[str, ...]
    indices: str
    template: str
    operands: tuple[tuple["Value", str], ...]
    conditions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Value:
    """An array: a line of the program, or a closed expression, and its dimensions, sizes as words."""

    source: Line | str
    dims: tuple[str, ...] = ()


def entry(text: str, dims: Sequence[str], indices: Sequence[str]) -> str:
    """`text` applied to those indices whose dimension is not 1."""
    return " ".join([text, *(i for i, d in zip(indices, dims, strict=False) if d != "1")])


def bound_indices(dims: Sequence[str], indices: Sequence[str] = INDICES) -> str:
    """The indices of an array of these dimensions: none for a size of 1."""
    return " ".join(i for i, d in zip(indices, dims, strict=False) if d != "1")


def number(value: Any) -> str:
    """A literal, exactly."""
    q = Fraction(int(value)) if np.asarray(value).dtype.kind in "iub" else Fraction(float(value))
    text = str(abs(q.numerator)) if q.denominator == 1 else f"({abs(q.numerator)} / {q.denominator})"
    return text if q >= 0 else f"(- {text})"


def size(dimension: Any) -> str:
    """A dimension, or a sum or product of some, as a real."""

    def real(node: ast.expr) -> str:
        match node:
            case ast.Constant(value=int(v)):
                return str(v)
            case ast.Name(id=name):
                return f"INR {name}"
            case ast.UnaryOp(op=ast.USub(), operand=a):
                return f"(- {real(a)})"
            case ast.BinOp(left=a, op=ast.Mult() | ast.Add() | ast.Sub() as op, right=b):
                return f"({real(a)} {({ast.Mult: '*', ast.Add: '+', ast.Sub: '-'})[type(op)]} {real(b)})"
            case ast.BinOp(left=a, op=ast.Pow() | ast.BitXor(), right=ast.Constant(value=int(k))):
                return f"({real(a)} ^ {k})"
        raise Outside(f"the size {dimension}")

    return real(ast.parse(str(dimension).replace("^", "**"), mode="eval").body)


def count(word: str) -> str:
    """A size as a natural number.  Raises Outside for what is neither a letter nor a small number."""
    if word.isdigit() and int(word) > LARGEST_NUMBER:
        raise Outside(f"the size {word}: Coq counts in unary, write a letter")
    if not (word.isidentifier() or word.isdigit()):
        raise Outside(f"the size {word}")
    return word
