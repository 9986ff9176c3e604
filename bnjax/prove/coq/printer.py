"""Prints a traced program as a Coq function: a `let` for each equation.  This file is trusted.

An array is a function of one index (`nat`) for each of its dimensions that is not 1, to the reals: x i j k l.
Casts between float types are identities, literals are read exactly, truth values are 0 and 1.  Coq's division
and roots are total (1/0 = 0), so each prints its condition beside the value.  What has no meaning here is
refused by name, where a result needs it: an equation that no result needs is not printed.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax._src.export.shape_poly import dim_as_value_p
from jax.extend.core import ClosedJaxpr, JaxprEqn, Primitive
from jax.extend.core import primitives as jaxs

from bnjax.jaxprs import called, source_line, walk
from bnjax.prove.coq.terms import INDICES, Line, Outside, Value, bound_indices, count, entry, number, size


@dataclass(frozen=True)
class Poison:
    """A value that no result may need: why not."""

    reason: str


NAN = Poison("NaN or infinity reaches a result")


@dataclass(frozen=True)
class Comparison:
    """A comparison of scalars, such as sizes: what it selects is so where it holds, as must be shown."""

    sign: str
    operands: tuple[Value, Value]


Operand = Value | Poison | Comparison


@dataclass(frozen=True)
class Printed:
    """A program in Coq: its lines, the names of its results, their dimensions, and the conditions."""

    lines: tuple[str, ...]
    results: tuple[Value, ...]
    conditions: tuple[str, ...]


def printed(
    jaxpr: ClosedJaxpr, arguments: Sequence[Value], names: Iterator[str], count: int | None = None
) -> Printed:
    """`jaxpr` at `arguments`, its lines named by `names`, and its first `count` results (all by default).

    Raises Outside for what cannot be printed.
    """
    computed: list[Operand] = walk(jaxpr, [*arguments], _equation, constant)
    results = computed[:count]
    lines: dict[Line, str] = {}
    for result in results:
        if not isinstance(result, Value):
            raise Outside(result.reason if isinstance(result, Poison) else "a comparison is a result")
        _name(result, lines, names)
    texts, conditions = [], []
    for line, name in lines.items():
        entries = [entry(_source(v, lines), v.dims, at) for v, at in line.operands]
        bound = bound_indices(line.dims, line.indices)
        texts.append(
            f"let {name} := {f'fun {bound} : nat => ' if bound else ''}{line.template.format(*entries)} in"
        )
        for condition in line.conditions:
            text = condition.format(*entries)
            free = " ".join(i for i in bound.split() if re.search(rf"\b{i}\b", text))
            conditions.append(f"(forall {free} : nat, {text})" if free else f"({text})")
    closed = [Value(_source(r, lines), r.dims) for r in results if isinstance(r, Value)]
    return Printed(tuple(texts), tuple(closed), tuple(dict.fromkeys(conditions)))


def _name(value: Value, lines: dict[Line, str], names: Iterator[str]) -> None:
    """Names the lines that `value` needs, what comes first first."""
    stack = [(value, False)]
    while stack:
        current, ready = stack.pop()
        if not isinstance(current.source, Line) or current.source in lines:
            continue
        if ready:
            lines[current.source] = next(names)
        else:
            stack += [(current, True), *((v, False) for v, _ in reversed(current.source.operands))]


def _source(value: Value, lines: dict[Line, str]) -> str:
    return lines[value.source] if isinstance(value.source, Line) else value.source


def constant(value: Any) -> Operand:
    """A literal, or an array the program holds, all of whose entries are equal."""
    array = np.asarray(value)
    flat = array.ravel()
    if array.dtype.kind not in "biuf" and not jnp.issubdtype(array.dtype, jnp.floating):
        return Poison(f"a constant of {array.dtype}")
    if not flat.size or np.any(flat != flat[0]):
        return NAN if flat.size and np.all(np.isnan(flat.astype(float))) else Poison("a constant array")
    if not np.isfinite(float(flat[0])):
        return NAN
    dims = tuple(map(str, array.shape))
    return Value(
        Line(dims, INDICES[: array.ndim], number(flat[0]), ()) if array.size > 1 else number(flat[0]), dims
    )


def _equation(eqn: JaxprEqn, operands: list[Operand]) -> list[Operand]:
    """What an equation computes; a `Poison` that says why, where that has no meaning here."""
    inner = called(eqn)
    if inner is not None:
        return walk(inner, operands, _equation, constant)
    try:
        if eqn.primitive not in _MEANINGS:
            raise Outside(f"the primitive {eqn.primitive} is not printed")
        results = _MEANINGS[eqn.primitive](eqn, *operands)
        for value, var in zip(results, eqn.outvars, strict=True):
            if isinstance(value, Value) and value.dims != _words(var.aval):
                raise Outside(f"layout: {value.dims} for shape {_words(var.aval)} in {eqn.primitive}")
        return results
    except Outside as problem:
        where = source_line(eqn)
        return [Poison(f"{problem}{f', at {where}' if where and ', at ' not in str(problem) else ''}")] * len(
            eqn.outvars
        )


def _in(eqn: JaxprEqn) -> Any:
    """The shape and dtype of the first operand."""
    return eqn.invars[0].aval


def _out(eqn: JaxprEqn) -> Any:
    """The shape and dtype of the first result."""
    return eqn.outvars[0].aval


def _words(aval: Any) -> tuple[str, ...]:
    return tuple(map(str, aval.shape))


def _value(operand: Operand) -> Value:
    if isinstance(operand, Value):
        return operand
    raise Outside(operand.reason if isinstance(operand, Poison) else "a comparison that depends on the data")


def _shape(eqn: JaxprEqn) -> tuple[str, ...]:
    shape = _words(_out(eqn))
    if len(shape) > len(INDICES):
        raise Outside(f"an array of {len(shape)} dimensions")
    return shape


def _is_float(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.floating)


def _is_number(dtype: Any) -> bool:
    """Whether + and × are those of the reals: not on truth values, nor on integers that wrap early."""
    return _is_float(dtype) or dtype in (jnp.int32, jnp.int64)


def _elementwise(form: str, *conditions: str, kinds: str = "number") -> Callable[..., list[Operand]]:
    """A meaning entry by entry; a dimension of 1 is broadcast."""

    def meaning(eqn: JaxprEqn, *operands: Operand) -> list[Operand]:
        dtype = _out(eqn).dtype
        right = {"number": _is_number, "float": _is_float, "bool": lambda d: d == jnp.bool_}[kinds]
        if not right(dtype):
            raise Outside(f"{eqn.primitive} of {dtype}")
        dims = _shape(eqn)
        return [_line(dims, form, [_value(v) for v in operands], conditions)]

    return meaning


def _line(
    dims: tuple[str, ...], form: str, operands: Sequence[Value], conditions: Sequence[str] = ()
) -> Value:
    indices = INDICES[: len(dims)]
    for v in operands:
        if v.dims and any(d not in ("1", e) for d, e in zip(v.dims, dims, strict=True)):
            raise Outside(f"broadcasting {v.dims} to {dims}")
    places = tuple((v, indices if v.dims else "") for v in operands)
    return Value(Line(dims, indices, form, places, tuple(conditions)), dims)


def _integer_pow(eqn: JaxprEqn, a: Operand) -> list[Operand]:
    return _power(eqn, a, eqn.params["y"])


def _pow(eqn: JaxprEqn, a: Operand, b: Operand) -> list[Operand]:
    """A power whose exponent is a literal: a whole number, or half of one."""
    exponent = _value(b).source
    found = re.fullmatch(r"(\(- )?\(?(\d+)( / 2)?\)*", exponent) if isinstance(exponent, str) else None
    if not found:
        raise Outside(f"a power of {exponent if isinstance(exponent, str) else 'what is no literal'}")
    negative, k, half = found[1], int(found[2]), found[3]
    if not half:
        return _power(eqn, a, -k if negative else k)
    root = "rsqrt" if negative else "sqrt"
    return _elementwise(f"({root} ({{0}})) ^ {k}", "0 < {0}", kinds="float")(eqn, a)


def _power(eqn: JaxprEqn, a: Operand, k: int) -> list[Operand]:
    if k >= 0:
        return _elementwise(f"({{0}}) ^ {k}")(eqn, a)
    return _elementwise(f"/ (({{0}}) ^ {-k})", "{0} <> 0", kinds="float")(eqn, a)


def _convert_element_type(eqn: JaxprEqn, a: Operand) -> list[Operand]:
    old, new = _in(eqn).dtype, _out(eqn).dtype
    whole = new in (jnp.int32, jnp.int64) and not _is_float(old)
    if old == new or whole or (_is_float(new) and old.kind in "biuf") or (_is_float(new) and _is_float(old)):
        return [a]
    raise Outside(f"a cast from {old} to {new}")


def _same(eqn: JaxprEqn, *operands: Operand) -> list[Operand]:
    return list(operands)


def _dim_as_value(eqn: JaxprEqn) -> list[Operand]:
    return [Value(f"({size(eqn.params['dim'])})")]


def _broadcast_in_dim(eqn: JaxprEqn, a: Operand, *_: Operand) -> list[Operand]:
    if isinstance(a, Poison):
        return [a]
    a, shape = _value(a), _shape(eqn)
    places = [int(k) for k in eqn.params["broadcast_dimensions"]]
    if any(d not in ("1", shape[k]) for k, d in zip(places, a.dims, strict=True)):
        raise Outside(f"broadcasting {a.dims} to {shape}")
    indices = INDICES[: len(shape)]
    at = "".join(indices[k] for k in places)
    if bound_indices(a.dims, at) == bound_indices(shape, indices):
        return [Value(a.source, shape)]  # only dimensions of 1 are new
    return [Value(Line(shape, indices, "{0}", ((a, at),)), shape)]


def _transpose(eqn: JaxprEqn, a: Operand) -> list[Operand]:
    a, shape = _value(a), _shape(eqn)
    order = [int(k) for k in eqn.params["permutation"]]
    indices = INDICES[: len(shape)]
    at = "".join(indices[order.index(k)] for k in range(len(order)))
    return [Value(Line(shape, indices, "{0}", ((a, at),)), shape)]


def _squeeze(eqn: JaxprEqn, a: Operand) -> list[Operand]:
    a = _value(a)
    return [Value(a.source, tuple(d for k, d in enumerate(a.dims) if k not in eqn.params["dimensions"]))]


def _reshape(eqn: JaxprEqn, a: Operand, *_: Operand) -> list[Operand]:
    a, shape = _value(a), _shape(eqn)
    if eqn.params.get("dimensions") is not None:
        raise Outside("a reshape that permutes")
    if [d for d in shape if d != "1"] != [d for d in a.dims if d != "1"]:
        raise Outside(f"a reshape of {a.dims} to {shape}")
    return [Value(a.source, shape)]


def _summed(body: str, dims: Sequence[str], indices: str) -> str:
    """Σ over these dimensions, the first outermost."""
    for d, i in reversed([*zip(dims, indices, strict=True)]):
        if d != "1":
            body = f"sum {count(d)} (fun {i} : nat => {body})"
    return body


def _reduce_sum(eqn: JaxprEqn, a: Operand) -> list[Operand]:
    a, shape = _value(a), _shape(eqn)
    if not _is_number(_out(eqn).dtype):
        raise Outside(f"a sum of {_out(eqn).dtype}")
    axes = [int(k) for k in eqn.params["axes"]]
    indices = INDICES[: len(a.dims)]
    if all(a.dims[k] == "1" for k in axes):
        return [Value(a.source, shape)]
    kept = "".join(i for k, i in enumerate(indices) if k not in axes)
    body = _summed("{0}", [a.dims[k] for k in axes], "".join(indices[k] for k in axes))
    return [Value(Line(shape, kept, body, ((a, indices),)), shape)]


def _dot_general(eqn: JaxprEqn, a: Operand, b: Operand) -> list[Operand]:
    a, b, shape = _value(a), _value(b), _shape(eqn)
    (a_sum, b_sum), (a_batch, b_batch) = eqn.params["dimension_numbers"]
    if not _is_float(_out(eqn).dtype):
        raise Outside(f"dot_general of {_out(eqn).dtype}")
    indices = INDICES[: len(shape)]
    extra = [i for i in INDICES if i not in indices][: len(a_sum)]
    if len(extra) < len(a_sum):
        raise Outside("a product with that many indices")
    at_a = dict(
        zip(
            (*a_batch, *_free(a, a_batch, a_sum), *a_sum),
            (*indices[: len(a.dims) - len(a_sum)], *extra),
            strict=True,
        )
    )
    b_free = indices[len(a.dims) - len(a_sum) :]
    at_b = dict(
        zip(
            (*b_batch, *_free(b, b_batch, b_sum), *b_sum),
            (*indices[: len(b_batch)], *b_free, *extra),
            strict=True,
        )
    )
    places = (
        (a, "".join(at_a[k] for k in range(len(a.dims)))),
        (b, "".join(at_b[k] for k in range(len(b.dims)))),
    )
    if any(a.dims[i] != b.dims[j] for i, j in zip((*a_sum, *a_batch), (*b_sum, *b_batch), strict=True)):
        raise Outside("layout: the contracted dimensions differ")
    body = _summed("{0} * {1}", [a.dims[k] for k in a_sum], "".join(extra))
    return [Value(Line(shape, indices, body, places), shape)]


def _free(a: Value, batch: Sequence[int], contracted: Sequence[int]) -> list[int]:
    return [k for k in range(len(a.dims)) if k not in (*batch, *contracted)]


def _comparison(sign: str) -> Callable[..., list[Operand]]:
    def meaning(eqn: JaxprEqn, a: Operand, b: Operand) -> list[Operand]:
        a, b = _value(a), _value(b)
        if a.dims or b.dims:
            raise Outside("a comparison that depends on the data")
        return [Comparison(sign, (a, b))]

    return meaning


def _select_n(eqn: JaxprEqn, which: Operand, *cases: Operand) -> list[Operand]:
    if len(cases) != 2 or _in(eqn).dtype != jnp.bool_:
        raise Outside("a choice by an integer")
    off, on = cases
    if isinstance(which, Comparison):
        left, right = which.operands
        return [_line(_shape(eqn), "{0}", [_value(on), left, right], [f"{{1}} {which.sign} {{2}}"])]
    return [_line(_shape(eqn), "select ({0}) ({1}) ({2})", [_value(which), _value(on), _value(off)])]


_MEANINGS: dict[Primitive, Callable[..., list[Operand]]] = {
    jaxs.add_p: _elementwise("{0} + {1}"),
    jaxs.add_jaxvals_p: _elementwise("{0} + {1}"),
    jaxs.sub_p: _elementwise("{0} - {1}"),
    jaxs.mul_p: _elementwise("{0} * {1}"),
    jaxs.div_p: _elementwise("{0} / {1}", "{1} <> 0", kinds="float"),
    jaxs.neg_p: _elementwise("- {0}"),
    jaxs.square_p: _elementwise("({0}) ^ 2"),
    jaxs.integer_pow_p: _integer_pow,
    jaxs.pow_p: _pow,
    jaxs.sqrt_p: _elementwise("sqrt ({0})", "0 < {0}", kinds="float"),
    jaxs.rsqrt_p: _elementwise("rsqrt ({0})", "0 < {0}", kinds="float"),
    jaxs.and_p: _elementwise("{0} * {1}", kinds="bool"),
    jaxs.or_p: _elementwise("{0} + {1} - {0} * {1}", kinds="bool"),
    jaxs.not_p: _elementwise("1 - {0}", kinds="bool"),
    jaxs.gt_p: _comparison(">"),
    jaxs.lt_p: _comparison("<"),
    jaxs.select_n_p: _select_n,
    jaxs.convert_element_type_p: _convert_element_type,
    jaxs.broadcast_in_dim_p: _broadcast_in_dim,
    jaxs.transpose_p: _transpose,
    jaxs.squeeze_p: _squeeze,
    jaxs.reshape_p: _reshape,
    jaxs.reduce_sum_p: _reduce_sum,
    jaxs.dot_general_p: _dot_general,
    jaxs.copy_p: _same,
    jaxs.name_p: _same,
    lax.optimization_barrier_p: _same,
    dim_as_value_p: _dim_as_value,
}
