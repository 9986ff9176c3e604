"""One op in two forms: a program of XLA's, which says what it computes, and a kernel that computes it on CPU.

The form is chosen when the op is lowered, in one place:

    for a CPU, in a program of one device or inside `shard_map`      the kernel
    elsewhere: other devices, and programs that XLA partitions       the program

A kernel stands in XLA's graph as a custom call, which XLA cannot partition: it would gather a sharded batch
first.  The program it can.

Whatever is done to the op other than running it is done to the program: forward mode, `vmap`, derivatives of
derivatives.  A linear op may bring its own transpose, made of such ops again; that is how reverse mode comes
to kernels.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

Arrays = tuple[jax.Array, ...]


class Op(NamedTuple):
    """An op's forms, functions of arrays that return a tuple of arrays; equal ops are one op to `jit`.

    program: in plain JAX.
    kernel: the same for a CPU; None for a linear op of which only the transpose has one.
    transpose: (operands, cotangents) -> a cotangent for each operand, None where the op is not linear in
      it; operands in which it is linear, and cotangents that are zero, are JAX's symbols of them.  None, or
      None returned, for JAX's transpose of the program.
    """

    program: Callable[..., Arrays]
    kernel: Callable[..., Arrays] | None
    transpose: Callable[[Sequence[Any], Sequence[Any]], Sequence[Any] | None] | None = None


call_p = Primitive("bnjax_call")
call_p.multiple_results = True


def call(op: Op, *operands: jax.Array) -> list[jax.Array]:
    """The op on arrays."""
    return call_p.bind(*operands, op=op)


@functools.cache
def _compiled(op: Op) -> Callable[..., Any]:
    return jax.jit(functools.partial(call, op))


@call_p.def_impl
def _run(*operands: jax.Array, op: Op) -> Any:
    with jax.disable_jit(False):  # or it would come back here
        return _compiled(op)(*operands)


@call_p.def_abstract_eval
def _shapes(*operands: Any, op: Op) -> Any:
    return jax.make_jaxpr(op.program)(*operands).out_avals


def _lower(context: mlir.LoweringRuleContext, *operands: Any, op: Op) -> Any:
    form = op.program if op.kernel is None or _partitioned(context) else op.kernel
    return mlir.lower_fun(form, multiple_results=True)(context, *operands)


def _lower_program(context: mlir.LoweringRuleContext, *operands: Any, op: Op) -> Any:
    return mlir.lower_fun(op.program, multiple_results=True)(context, *operands)


mlir.register_lowering(call_p, _lower_program)
mlir.register_lowering(call_p, _lower, platform="cpu")


def _partitioned(context: mlir.LoweringRuleContext) -> bool:
    """Whether XLA is yet to divide this program among devices; inside `shard_map` it is divided already."""
    axes = context.module_context.axis_context
    if isinstance(axes, mlir.SPMDAxisContext):
        return axes.manual_axes != frozenset(axes.mesh.axis_names)
    return not isinstance(axes, mlir.ShardingContext) or axes.num_devices > 1


def _jvp(primals: Sequence[Any], tangents: Sequence[Any], *, op: Op) -> Any:
    return jax.jvp(op.program, tuple(primals), tuple(map(ad.instantiate_zeros, tangents)))


def _transpose(cotangents: Sequence[Any], *operands: Any, op: Op) -> Sequence[Any]:
    linear = [ad.is_undefined_primal(operand) for operand in operands]
    given = op.transpose(operands, cotangents) if op.transpose else None
    if given is None:
        given = _transpose_of_program(op, cotangents, operands, linear)
    return [cotangent if here else None for cotangent, here in zip(given, linear, strict=True)]


def _transpose_of_program(
    op: Op, cotangents: Sequence[Any], operands: Sequence[Any], linear: Sequence[bool]
) -> list[Any]:
    def program(*moved: jax.Array) -> Arrays:
        rest = iter(moved)
        return tuple(
            op.program(
                *(next(rest) if here else operand for operand, here in zip(operands, linear, strict=True))
            )
        )

    avals = [operand.aval for operand, here in zip(operands, linear, strict=True) if here]
    back = iter(jax.linear_transpose(program, *avals)(tuple(map(ad.instantiate_zeros, cotangents))))
    return [next(back) if here else None for here in linear]


def _batched(operands: Sequence[Any], dims: Sequence[Any], *, op: Op) -> Any:
    outputs = jax.vmap(op.program, tuple(dims))(*operands)
    return outputs, [0] * len(outputs)


ad.primitive_jvps[call_p] = _jvp
ad.primitive_transposes[call_p] = _transpose
batching.primitive_batchers[call_p] = _batched
