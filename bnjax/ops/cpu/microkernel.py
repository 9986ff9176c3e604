r"""The innermost product: a tile of c = a·b that stays in registers while the sum runs.

    c[p, o] (+)= Σ_r Σ_t a[r, p, t] · b[r, t, o]        p < ROWS, o < COLUMNS

a's three strides are free, b's and c's last is 1: so one tile serves the products of an image with a kernel
(p pixels, t channels) and those of an image with a cotangent (p channels, t pixels).  The sum begins at
zero and c is added at its end, not run through c: that would add each term to a large number.
"""

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from bnjax.ops.cpu.frame import jit
from bnjax.ops.cpu.vectors import LANES, Vector, at, broadcast, fused, int64, void

# as many sums at once as hide a multiplication's latency, and as the registers hold: with AVX-512 16 of 32
# and two of b; AVX2's 16 registers are half as wide: 8 of them, two of b, one of a
WIDE = bool(llvmlite.binding.get_host_cpu_features().get("avx512f", False))
ROWS, VECTORS = (8, 2) if WIDE else (4, 1)
COLUMNS = LANES * VECTORS

_FLOAT, _VECTOR = ir.FloatType(), ir.VectorType(ir.FloatType(), LANES)


def tile(rows: int, *, plus: bool) -> Any:
    """run(a, b, c, counts), the product above for this many p; with `plus` it is added to c.

    All in bytes: a = (address, stride of r, of p, of t), b = (address, stride of r, of t), c = (address,
    stride of p); counts = (how many r, how many t).
    """
    zeros, step, finish = _zeros(rows), _step(rows), _finish(rows, plus)

    @jit
    def run(a, b, c, counts):
        sums = zeros()
        for r in range(counts[0]):
            from_a, from_b = a[0] + r * a[1], b[0] + r * b[1]
            for _ in range(counts[1]):
                sums = step(sums, from_a, a[2], from_b)
                from_a += a[3]
                from_b += b[2]
        finish(sums, c[0], c[1])

    return run


def _sums(rows: int) -> types.UniTuple:
    return types.UniTuple(Vector, rows * VECTORS)


def _zeros(rows: int) -> Any:
    @intrinsic
    def zeros(typing):
        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            zero = ir.Constant(_VECTOR, [0.0] * LANES)
            return context.make_tuple(builder, _sums(rows), [zero] * (rows * VECTORS))

        return _sums(rows)(), codegen

    return zeros


def _step(rows: int) -> Any:
    @intrinsic
    def step(typing, sums, a, stride, b):
        """The sums with the term a[p]·b[o] in each."""

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            values, a, stride, b = arguments
            new = cgutils.unpack_tuple(builder, values)
            across = [_load(builder, b, v) for v in range(VECTORS)]
            for p in range(rows):
                one = broadcast(builder, builder.load(at(builder, _down(builder, a, stride, p), _FLOAT)))
                for v in range(VECTORS):
                    new[p * VECTORS + v] = fused(builder, one, across[v], new[p * VECTORS + v])
            return context.make_tuple(builder, _sums(rows), new)

        return _sums(rows)(_sums(rows), int64, int64, int64), codegen

    return step


def _finish(rows: int, plus: bool) -> Any:
    @intrinsic
    def finish(typing, sums, c, stride):
        """The sums to c[p, o]."""

        def codegen(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            values, c, stride = arguments
            for index, value in enumerate(cgutils.unpack_tuple(builder, values)):
                p, v = divmod(index, VECTORS)
                address = _down(builder, c, stride, p)
                value = builder.fadd(value, _load(builder, address, v)) if plus else value
                builder.store(value, _vector_at(builder, address, v), align=4)
            return context.get_dummy_value()

        return void(_sums(rows), int64, int64), codegen

    return finish


def _down(builder: ir.IRBuilder, address: Any, stride: Any, p: int) -> Any:
    return builder.add(address, builder.mul(stride, ir.Constant(ir.IntType(64), p)))


def _vector_at(builder: ir.IRBuilder, address: Any, index: int) -> Any:
    return at(builder, builder.add(address, ir.Constant(ir.IntType(64), 4 * LANES * index)), _VECTOR)


def _load(builder: ir.IRBuilder, address: Any, index: int) -> Any:
    return builder.load(_vector_at(builder, address, index), align=4)
