"""What numba lacks: memory at an address, atomic counters, calls by address, and vectors of 16 floats.

Each function is an intrinsic: the instructions of LLVM's that it stands for.  An address is an int64 in
bytes.  LLVM makes of a vector what the processor has: one register of AVX-512, two of AVX2.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.datamodel import models
from numba.extending import intrinsic, register_model

LANES = 16
_INT, _FLOAT = ir.IntType(64), ir.FloatType()
_HALF, _WORD = ir.VectorType(ir.IntType(16), LANES), ir.VectorType(ir.IntType(32), LANES)
_VECTOR = ir.VectorType(_FLOAT, LANES)
_BYTES = ir.IntType(8).as_pointer()

int64, float32, void = types.int64, types.float32, types.void
Words = types.CPointer(int64)


class _Vector(types.Type):
    def __init__(self) -> None:
        super().__init__("bnjax_vector")


Vector = _Vector()


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    def __init__(self, manager: Any, of: types.Type) -> None:
        super().__init__(manager, of, _VECTOR)


Emit = Callable[..., Any]  # (builder, *values) -> the result's value, or None


def _emitted(result: types.Type, arguments: tuple[types.Type, ...], emit: Emit) -> tuple[Any, Any]:
    """What an intrinsic returns: its signature, and the function that emits its instructions."""

    def codegen(context: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        value = emit(builder, *values)
        return context.get_dummy_value() if value is None else value

    return result(*arguments), codegen


def _intrinsic1(result: types.Type, a: types.Type) -> Callable[[Emit], Any]:
    return lambda emit: intrinsic(lambda typing, x: _emitted(result, (a,), emit))


def _intrinsic2(result: types.Type, a: types.Type, b: types.Type) -> Callable[[Emit], Any]:
    return lambda emit: intrinsic(lambda typing, x, y: _emitted(result, (a, b), emit))


def _intrinsic3(result: types.Type, a: types.Type, b: types.Type, c: types.Type) -> Callable[[Emit], Any]:
    return lambda emit: intrinsic(lambda typing, x, y, z: _emitted(result, (a, b, c), emit))


def at(builder: ir.IRBuilder, address: Any, of: ir.Type) -> Any:
    """An address as a pointer to `of`."""
    return builder.inttoptr(address, of.as_pointer())


def _function(builder: ir.IRBuilder, name: str, result: ir.Type, *arguments: ir.Type) -> Any:
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


@_intrinsic1(Words, int64)
def words(builder: ir.IRBuilder, address: Any) -> Any:
    """Memory as 64-bit words, to be indexed."""
    return at(builder, address, _INT)


@_intrinsic1(int64, Words)
def address_of(builder: ir.IRBuilder, pointer: Any) -> Any:
    """The address of words."""
    return builder.ptrtoint(pointer, _INT)


@_intrinsic3(void, int64, int64, int64)
def move(builder: ir.IRBuilder, destination: Any, source: Any, size: Any) -> None:
    """Copy `size` bytes."""
    to, of = at(builder, destination, ir.IntType(8)), at(builder, source, ir.IntType(8))
    cgutils.raw_memcpy(builder, to, of, size, 1)


@_intrinsic2(void, int64, int64)
def clear(builder: ir.IRBuilder, destination: Any, size: Any) -> None:
    """Fill `size` bytes with zeros."""
    cgutils.memset(builder, at(builder, destination, ir.IntType(8)), size, 0)


@_intrinsic1(int64, int64)
def allocate(builder: ir.IRBuilder, size: Any) -> Any:
    """C's malloc."""
    return builder.call(_function(builder, "malloc", _INT, _INT), [size])


@_intrinsic1(void, int64)
def release(builder: ir.IRBuilder, address: Any) -> None:
    """C's free."""
    builder.call(_function(builder, "free", ir.VoidType(), _INT), [address])


def _yielded(builder: ir.IRBuilder) -> Any:
    return builder.sext(builder.call(_function(builder, "sched_yield", ir.IntType(32)), []), _INT)


@intrinsic
def _rest(typing):
    return _emitted(int64, (), _yielded)


rest: Any = _rest  # C's sched_yield: let another thread have this core


@_intrinsic2(int64, int64, int64)
def fetch_add(builder: ir.IRBuilder, address: Any, number: Any) -> Any:
    """Add to a word that threads share; what it held before."""
    return builder.atomic_rmw("add", at(builder, address, _INT), number, "seq_cst")


@_intrinsic2(int64, int64, int64)
def call(builder: ir.IRBuilder, function: Any, argument: Any) -> Any:
    """Call the C function (int64) -> int64 at an address."""
    return builder.call(at(builder, function, ir.FunctionType(_INT, [_INT])), [argument])


@_intrinsic3(int64, int64, int64, int64)
def call_on(builder: ir.IRBuilder, function: Any, first: Any, second: Any) -> Any:
    """Call the C function (int64, int64) -> int64 at an address."""
    return builder.call(at(builder, function, ir.FunctionType(_INT, [_INT, _INT])), [first, second])


@_intrinsic1(Vector, int64)
def load(builder: ir.IRBuilder, address: Any) -> Any:
    """16 floats."""
    return builder.load(at(builder, address, _VECTOR), align=4)


@_intrinsic2(void, int64, Vector)
def store(builder: ir.IRBuilder, address: Any, vector: Any) -> None:
    """16 floats to memory."""
    builder.store(vector, at(builder, address, _VECTOR), align=4)


def _words_of(number: int) -> Any:
    return ir.Constant(_WORD, [number] * LANES)


@_intrinsic1(Vector, int64)
def load_bfloat16(builder: ir.IRBuilder, address: Any) -> Any:
    """16 bfloat16, as floats: the upper halves of them."""
    halves = builder.load(at(builder, address, _HALF), align=2)
    return builder.bitcast(builder.shl(builder.zext(halves, _WORD), _words_of(16)), _VECTOR)


def _written(builder: ir.IRBuilder, value: Any, address: Any, past: Any) -> None:
    """A store, where `past` is not 0 one that goes past the caches: the address is a multiple of its size.

    What other threads read after an atomic addition of this one is what it wrote, by either way.
    """
    place = at(builder, address, value.type)
    with builder.if_else(builder.icmp_signed("!=", past, _INT(0))) as (streaming, through):
        with streaming:
            stored = builder.store(value, place, align=LANES * value.type.element.width // 8)
            stored.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        with through:
            builder.store(value, place, align=2)


@_intrinsic3(void, int64, Vector, int64)
def write_float32(builder: ir.IRBuilder, address: Any, vector: Any, past: Any) -> None:
    """16 floats to memory; past the caches if `past` is not 0, the address being a multiple of 64."""
    _written(builder, builder.bitcast(vector, _WORD), address, past)


@_intrinsic3(void, int64, Vector, int64)
def write_bfloat16(builder: ir.IRBuilder, address: Any, vector: Any, past: Any) -> None:
    """The bfloat16 nearest to 16 floats, ties to even, a NaN as one; `past` as above, of 32 bytes."""
    bits = builder.bitcast(vector, _WORD)
    odd = builder.and_(builder.lshr(bits, _words_of(16)), _words_of(1))
    nearest = builder.add(builder.add(bits, _words_of(0x7FFF)), odd)
    quiet = builder.or_(bits, _words_of(0x400000))
    nearest = builder.select(builder.fcmp_unordered("uno", vector, vector), quiet, nearest)
    _written(builder, builder.trunc(builder.lshr(nearest, _words_of(16)), _HALF), address, past)


class Element(NamedTuple):
    """What an array is made of: its size in bytes, how 16 of it are loaded as floats, and written."""

    size: int
    load: Any
    write: Any


FLOAT32, BFLOAT16 = Element(4, load, write_float32), Element(2, load_bfloat16, write_bfloat16)


def broadcast(builder: ir.IRBuilder, scalar: Any) -> Any:
    """A float in every lane."""
    undefined = ir.Constant(_VECTOR, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(first, undefined, ir.Constant(_WORD, [0] * LANES))


spread = _intrinsic1(Vector, float32)(broadcast)


@_intrinsic2(Vector, Vector, Vector)
def add(builder: ir.IRBuilder, x: Any, y: Any) -> Any:
    """x + y."""
    return builder.fadd(x, y)


@_intrinsic2(Vector, Vector, Vector)
def subtract(builder: ir.IRBuilder, x: Any, y: Any) -> Any:
    """x − y."""
    return builder.fsub(x, y)


@_intrinsic2(Vector, Vector, Vector)
def multiply(builder: ir.IRBuilder, x: Any, y: Any) -> Any:
    """x·y."""
    return builder.fmul(x, y)


def fused(builder: ir.IRBuilder, x: Any, y: Any, z: Any) -> Any:
    """x·y + z, rounded once."""
    return builder.call(_function(builder, "llvm.fma.v16f32", _VECTOR, *[_VECTOR] * 3), [x, y, z])


multiply_add = _intrinsic3(Vector, Vector, Vector, Vector)(fused)


@_intrinsic1(Vector, Vector)
def inverse_root(builder: ir.IRBuilder, x: Any) -> Any:
    """1/√x, by a division and a root."""
    root = builder.call(_function(builder, "llvm.sqrt.v16f32", _VECTOR, _VECTOR), [x])
    return builder.fdiv(ir.Constant(_VECTOR, [1.0] * LANES), root)


@_intrinsic1(Vector, Vector)
def rectified(builder: ir.IRBuilder, z: Any) -> Any:
    """0 where z ≤ 0, else z: a NaN stays."""
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    return builder.select(builder.fcmp_ordered("<=", z, zero), zero, z)


@_intrinsic2(Vector, Vector, Vector)
def where_positive(builder: ir.IRBuilder, z: Any, v: Any) -> Any:
    """v where z > 0, else 0."""
    zero = ir.Constant(_VECTOR, [0.0] * LANES)
    return builder.select(builder.fcmp_ordered(">", z, zero), v, zero)
