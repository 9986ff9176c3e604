r"""Sums over the rows of (rows, C), a chunk of rows at a time: means and squares about them, or sums of dy.

**Theorem (Chan, Golub & LeVeque).** Of two sets of n and m numbers with means a, b and sums of squares about
them A, B, the union has::

    mean = a + (b − a)·m/(n + m)        squares = A + B + (b − a)²·n·m/(n + m)

A block of rows is read twice, the second time from the core's cache: its mean, then its squares about it.  So
x comes from memory once, and no square is of anything but a deviation: nothing cancels as E[x²] − E[x]² does.

The mean is kept as a sum of two floats, s + d, s the nearest to it; x comes in as x − s, which loses nothing
where x is near s.  So what is rounded is of the size of the deviations, not of the mean, however many blocks
there are and whatever the first of them hold.  A chunk writes C floats each of s, d and the squares.  Chunks
are united in their order, about the first one's s.
"""

from typing import Any

from bnjax.ops.cpu.frame import jit
from bnjax.ops.cpu.pool import CHUNKS, bounds
from bnjax.ops.cpu.vectors import (
    Element,
    add,
    clear,
    float32,
    load,
    multiply,
    multiply_add,
    spread,
    store,
    subtract,
    where_positive,
)

STEP = 64  # bytes of a vector of floats
PARTS = 3  # rows of C floats that a chunk writes
# floats that are gone over column by column: of more, a column's next row is not in the stream any more, and
# where C is a power of two the rows fall on one another in the cache
_BLOCK = 256


@jit
def block_rows(c):
    """How many rows of C floats at a time."""
    return max(1, _BLOCK // c)


def moments_of(element: Element) -> Any:
    """(x, rows, c, part): s, d and the squares of these rows, to `part`."""
    size, read, _ = element

    @jit
    def block_moments(x, rows, row, origin):
        """The mean beyond `origin`, and the squares about the mean, of 16 columns."""
        total, other = spread(float32(0)), spread(float32(0))
        for r in range(0, rows - 1, 2):
            total = add(total, subtract(read(x + r * row), origin))
            other = add(other, subtract(read(x + r * row + row), origin))
        if rows % 2:
            total = add(total, subtract(read(x + (rows - 1) * row), origin))
        mean = multiply(add(total, other), spread(float32(1) / float32(rows)))
        total = other = spread(float32(0))
        for r in range(0, rows - 1, 2):
            a = subtract(subtract(read(x + r * row), origin), mean)
            b = subtract(subtract(read(x + r * row + row), origin), mean)
            total, other = multiply_add(a, a, total), multiply_add(b, b, other)
        if rows % 2:
            a = subtract(subtract(read(x + (rows - 1) * row), origin), mean)
            total = multiply_add(a, a, total)
        return mean, add(total, other)

    @jit
    def moments(x, rows, c, part):
        row, wide = size * c, 4 * c
        block = max(4, block_rows(c))  # fewer rows have too little to do for what a block costs
        for k in range(0, wide, STEP):
            store(part + k, read(x + k * size // 4))
        clear(part + wide, 2 * wide)
        for r in range(0, rows, block):
            new = min(block, rows - r)
            share, cross = float32(new / (r + new)), float32(r * new / (r + new))
            for k in range(0, wide, STEP):
                m2, s, d = part + 2 * wide + k, load(part + k), load(part + wide + k)
                mean, squares = block_moments(x + r * row + k * size // 4, new, row, s)
                gap = subtract(mean, d)
                moved = multiply_add(gap, spread(share), d)
                nearest = add(s, moved)
                store(part + k, nearest)
                store(part + wide + k, subtract(moved, subtract(nearest, s)))
                store(m2, add(load(m2), multiply_add(multiply(gap, gap), spread(cross), squares)))

    return moments


@jit
def united(job, rows, c, parts, mean, var):
    """The mean and the biased variance of all rows from the chunks'."""
    row = 4 * c
    for k in range(0, row, STEP):
        origin, d, squares = load(parts + k), spread(float32(0)), spread(float32(0))
        for chunk in range(job[CHUNKS]):
            first, last = bounds(rows, chunk, job[CHUNKS])
            part = parts + chunk * PARTS * row + k
            share, cross = float32((last - first) / last), float32(first * (last - first) / last)
            gap = subtract(add(subtract(load(part), origin), load(part + row)), d)
            d = multiply_add(gap, spread(share), d)
            squares = add(squares, multiply_add(multiply(gap, gap), spread(cross), load(part + 2 * row)))
        store(mean + k, add(origin, d))
        store(var + k, multiply(squares, spread(float32(1 / rows))))


def cotangent_sums(element: Element, relu: bool) -> Any:
    """(x, dy, rows, shape, part): Σ dz and Σ dz·(x − μ) of these rows, to `part`.

    dz is dy, with ReLU dy where z > 0.  shape = (C, address of μ, istd, γ and β, C floats each).
    """
    size, read, _ = element

    @jit
    def sums(x, dy, rows, shape, part):
        c, parameters = shape
        row, wide, block, to = size * c, 4 * c, block_rows(c), dy - x
        clear(part, 2 * wide)
        for r in range(0, rows, block):
            stop = min(r + block, rows)
            for k in range(0, wide, STEP):
                mean, istd = load(parameters + k), load(parameters + wide + k)
                gamma, beta = load(parameters + 2 * wide + k), load(parameters + 3 * wide + k)
                total, along = spread(float32(0)), spread(float32(0))
                column = x + k * size // 4
                for at in range(column + r * row, column + stop * row, row):
                    centred, dz = subtract(read(at), mean), read(at + to)
                    if relu:
                        dz = where_positive(multiply_add(gamma, multiply(centred, istd), beta), dz)
                    total, along = add(total, dz), multiply_add(dz, centred, along)
                store(part + k, add(load(part + k), total))
                store(part + wide + k, add(load(part + wide + k), along))

    return sums
