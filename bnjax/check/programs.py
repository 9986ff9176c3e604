"""The op and the primal as programs over arrays: whatever they raise comes out when they are traced.

Every leaf that a program returns has a leading axis of rows: of cotangents that were pulled back, or one.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn
from jax.extend.core import primitives as jaxs

from bnjax.check.problem import Function, Problem
from bnjax.jaxprs import called, equations, walk


class Outcome(NamedTuple):
    """What a program returns, [row, *leaf] each."""

    results: Sequence[Any]  # floating
    others: Sequence[Any]  # results that are not
    cotangents: Sequence[Any]  # of the float arguments


def forward_program(fun: Function, problem: Problem) -> Callable[..., Any]:
    """arrays ↦ (floating results, other results), without rows; a complex result is its two parts."""

    def forward(arrays: Sequence[Any]) -> tuple[list[Any], list[Any]]:
        leaves = [jnp.asarray(r) for r in jax.tree.leaves(fun(*problem.arguments(arrays)))]
        results = [part for r in leaves for part in _parts(r)]
        return [r for r in results if _floating(r)], [r for r in results if not _floating(r)]

    return forward


def _parts(a: Any) -> list[Any]:
    return [jnp.real(a), jnp.imag(a)] if jnp.iscomplexobj(a) else [a]


def vjp_program(fun: Function, problem: Problem, *, batched: bool = True) -> Callable[..., Outcome]:
    """(arrays, cotangents) ↦ `Outcome`, the cotangents [row, *result] for each floating result.

    Over the rows the backward pass alone is vmapped; not `batched` there is one row, and no vmap.  None for
    cotangents stands for one row of ones, to see whether the program traces at all.
    """
    forward = forward_program(fun, problem)
    vjp = _by_tangents if problem.forwards and fun is problem.primal else jax.vjp

    def program(arrays: Sequence[Any], cotangents: Any) -> Outcome:
        results, backward, others = vjp(
            lambda floats: forward(problem.put(arrays, floats)), problem.pick(arrays), has_aux=True
        )
        if cotangents is None:
            cotangents = [jnp.ones_like(r)[None] for r in results]
        rows = [jnp.asarray(c).astype(r.dtype) for c, r in zip(cotangents, results, strict=True)]
        if batched:
            pulled = jax.vmap(lambda row: backward(row)[0])(rows)
        else:
            pulled = [g[None] for g in backward([c[0] for c in rows])[0]]
        return Outcome([r[None] for r in results], [o[None] for o in others], pulled)

    return program


def value_program(fun: Function, problem: Problem) -> Callable[..., Outcome]:
    """The same without cotangents: the results of `fun` where it is not differentiated."""
    forward = forward_program(fun, problem)

    def program(arrays: Sequence[Any], *_: Any) -> Outcome:
        results, others = forward(arrays)
        return Outcome([r[None] for r in results], [o[None] for o in others], [])

    return program


def _by_tangents(forward: Any, floats: Sequence[Any], *, has_aux: bool) -> tuple[Any, Any, Any]:
    """`jax.vjp` by tangents alone, one for every element: a loop of unknown length has no VJP."""
    results, others = forward(floats)

    def along(j: int, direction: Any) -> Any:
        tangents = [direction if k == j else jnp.zeros_like(f) for k, f in enumerate(floats)]
        return jax.jvp(lambda *f: forward(list(f))[0], floats, tangents)[1]

    def backward(cotangents: Sequence[Any]) -> Any:
        pulled = []
        for j, f in enumerate(floats):
            basis = jnp.eye(f.size, dtype=f.dtype).reshape(f.size, *f.shape)
            columns = jax.vmap(partial(along, j))(basis)
            products = [jnp.tensordot(m, c, c.ndim) for m, c in zip(columns, cotangents, strict=True)]
            pulled.append(sum(products, jnp.zeros(f.size)).reshape(f.shape).astype(f.dtype))
        return (pulled,)

    return results, backward, others


def second_order_program(fun: Function, problem: Problem, *, forward: bool) -> Callable[..., Outcome]:
    """The derivative of (floats, cotangent) ↦ VJP, as a function of (arrays, cotangent, directions).

    The cotangent is one row.  Backward over the VJP `directions` weigh its results; forward over it they
    are tangents of its arguments.
    """
    first = vjp_program(fun, problem, batched=False)

    def program(arrays: Sequence[Any], cotangent: Any, directions: Any) -> Outcome:
        def vjp(floats: Sequence[Any], cotangent: Any) -> Any:
            return first(problem.put(arrays, floats), cotangent).cotangents

        point = (problem.pick(arrays), [jnp.asarray(c) for c in cotangent])
        if forward:
            return Outcome([], [], jax.jvp(vjp, point, directions)[1])
        floats, along = jax.vjp(vjp, *point)[1]([jnp.asarray(d)[None] for d in directions])
        return Outcome([], [], [*(f[None] for f in floats), *along])

    return program


def trace(program: Callable[..., Any], *args: Any) -> ClosedJaxpr:
    """The jaxpr of `program` at arguments like `args`."""
    return jax.make_jaxpr(program)(*args)


class Traced(NamedTuple):
    """A program's jaxpr, and the structure of what it returns."""

    jaxpr: ClosedJaxpr
    structure: Any


def traced(program: Callable[..., Any], *args: Any) -> Traced:
    """`trace`, with the structure."""
    jaxpr, shape = jax.make_jaxpr(program, return_shape=True)(*args)
    return Traced(jaxpr, jax.tree.structure(shape))


def reach(jaxpr: ClosedJaxpr) -> list[frozenset[int]]:
    """For every result of a program the inputs from which a path of operations leads to it."""

    def equation(eqn: JaxprEqn, operands: list[frozenset[int]]) -> Sequence[frozenset[int]]:
        inner = called(eqn)
        if inner is not None:
            return walk(inner, operands, equation, lambda _: frozenset())
        return [frozenset().union(*operands)] * len(eqn.outvars)

    inputs = [frozenset({i}) for i in range(len(jaxpr.in_avals))]
    return walk(jaxpr, inputs, equation, lambda _: frozenset())


def narrow_dtype(jaxpr: ClosedJaxpr) -> Any:
    """A floating dtype below float64 that the program computes in, or a number of bits that it rounds to."""
    cut = [
        eqn.params["mantissa_bits"] for eqn in equations(jaxpr) if eqn.primitive is jaxs.reduce_precision_p
    ]
    if cut and min(cut) < 52:
        return f"{min(cut)} bits"
    avals: list[Any] = [out.aval for eqn in equations(jaxpr) for out in eqn.outvars]
    floating = (a.dtype for a in avals if hasattr(a, "dtype") and _floating(a))
    return next((d for d in floating if jnp.finfo(d).bits < 64), None)


def only_forwards(problem: Problem) -> bool:
    """Whether JAX differentiates the primal forwards alone, for it loops; not until numbers are close, which
    tells the derivative of the numbers before.
    """
    if problem.op is problem.primal:
        return False
    try:
        trace(vjp_program(problem.primal, problem), problem.given, None)
    except ValueError as error:
        return "Reverse-mode" in str(error)
    return False


def strays(jaxpr: ClosedJaxpr, arrays: Sequence[Any]) -> bool:
    """Whether something in the program is empty that its arguments are not, or an index lies outside.

    JAX clamps an index that Python would refuse, or drops what is written there, and a window longer than
    its input fits nowhere: at sizes where that happens the program is not what its author meant.
    """
    if any(np.size(a) == 0 for a in arrays):
        return False
    eqns = list(equations(jaxpr))
    avals: list[Any] = [out.aval for eqn in eqns for out in eqn.outvars]
    if any(0 in getattr(a, "shape", ()) for a in avals):
        return True
    return any(eqn.primitive in _INDEXED for eqn in eqns) and _out_of_range(jaxpr, arrays)


_SCATTERS = (jaxs.scatter_p, jaxs.scatter_add_p, jaxs.scatter_mul_p, jaxs.scatter_min_p, jaxs.scatter_max_p)
_INDEXED = (jaxs.gather_p, jaxs.dynamic_slice_p, *_SCATTERS)


def _out_of_range(jaxpr: ClosedJaxpr, arrays: Sequence[Any]) -> bool:
    """Whether an index outside a loop or a branch is, at these arrays."""
    outside = []

    def equation(eqn: JaxprEqn, operands: list[Any]) -> Sequence[Any]:
        inner = called(eqn)
        if inner is not None:
            return walk(inner, operands, equation, jnp.asarray)
        if eqn.primitive is jaxs.dynamic_slice_p:
            starts, sizes, shape = np.array(operands[1:]), eqn.params["slice_sizes"], operands[0].shape
            outside.append(np.any((starts < 0) | (starts > np.subtract(shape, sizes))))
        elif eqn.primitive is jaxs.gather_p:
            axes = list(eqn.params["dimension_numbers"].start_index_map)
            room = np.subtract(operands[0].shape, eqn.params["slice_sizes"])[axes]
            starts = np.asarray(operands[1])
            outside.append(np.any((starts < 0) | (starts > room)))
        elif eqn.primitive in _SCATTERS:
            axes = list(eqn.params["dimension_numbers"].scatter_dims_to_operand_dims)
            room = np.subtract(operands[0].shape, _window(eqn, operands))[axes]
            starts = np.asarray(operands[1])
            outside.append(np.any((starts < 0) | (starts > room)))
        out = eqn.primitive.bind(*operands, **eqn.params)
        return out if eqn.primitive.multiple_results else [out]

    walk(jaxpr, list(map(jnp.asarray, arrays)), equation, jnp.asarray)
    return bool(np.any(outside))


def _window(scatter: JaxprEqn, operands: Sequence[Any]) -> list[int]:
    """How much of each axis of its operand a scatter writes at once."""
    numbers, updates = scatter.params["dimension_numbers"], operands[2].shape
    sizes = iter(updates[axis] for axis in numbers.update_window_dims)
    single = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    return [1 if axis in single else next(sizes) for axis in range(operands[0].ndim)]


def holds(jaxpr: ClosedJaxpr, names: frozenset[str] | set[str]) -> bool:
    """Whether a primitive of one of these names takes floats in the program."""
    return any(
        eqn.primitive.name in names and any(map(_floating, (a.aval for a in eqn.invars)))
        for eqn in equations(jaxpr)
    )


def _floating(a: Any) -> bool:
    return jnp.issubdtype(a.dtype, jnp.floating)
