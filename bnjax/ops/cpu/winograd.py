r"""The 3×3 convolution of an image by Winograd's F(2×2, 3×3), and its weight gradient.

**Theorem (Winograd).** For a 4×4 patch X of one channel and a 3×3 kernel K, the 2×2 outputs whose window lies
in the patch, Y_ab = Σ_ij X_a+i,b+j · K_ij, are::

    Y = Aᵀ [(G K Gᵀ) ⊙ (Bᵀ X B)] A

    Bᵀ = ⎡1  0 −1  0⎤      G = ⎡1   0   0⎤      Aᵀ = ⎡1  1  1  0⎤
         ⎢0  1  1  0⎥          ⎢½   ½   ½⎥           ⎣0  1 −1 −1⎦
         ⎢0 −1  1  0⎥          ⎢½  −½   ½⎥
         ⎣0  1  0 −1⎦          ⎣0   0   1⎦

16 multiplications instead of 36.  Summed over channels, the products at each of the 16 places are one matrix
product, (tiles × C)·(C × O).

**Theorem (transposes).** Y is bilinear in X and K.  Along K, for a cotangent dY::

    dK = Gᵀ [(Bᵀ X B) ⊙ (A dY Aᵀ)] G

summed over the patches: again 16 matrix products, (C × tiles)·(tiles × O).  Along X, with the rim of zeros,
the transpose is the convolution of dY by the kernel turned about, K_2−i,2−j with its channels exchanged.

Error: Bᵀ and A only add and G halves, so roundoff costs what it costs the direct sum, in norm: in units of
the patch's largest, not of each output's own terms.  Where these are all zeros, the direct sum is 0 and this
is a few roundoffs of the patch.  An infinity or a NaN in a patch makes NaN of all four outputs (∞ − ∞ in
Bᵀ X B), where the direct sum has it in those whose window holds it: nothing not finite is lost, and nothing
beyond a 2×2 tile is touched.

`bnjax.ops.cpu.convolution` lays G K Gᵀ out as (16, C, O), and takes Gᵀ · G of what is summed here.
"""

from bnjax.ops.cpu.frame import jit
from bnjax.ops.cpu.microkernel import COLUMNS, ROWS, tile
from bnjax.ops.cpu.vectors import add, float32, load, spread, store, subtract

PLACES = 16
_product, _gradient = tile(ROWS, plus=False), tile(ROWS, plus=True)


@jit
def _bt(a, b, c, d):
    return subtract(a, c), add(b, c), subtract(c, b), subtract(b, d)


@jit
def _at(a, b, c, d):
    return add(add(a, b), c), subtract(subtract(b, c), d)


@jit
def _a(e, f):
    return e, add(e, f), subtract(e, f), subtract(spread(float32(0)), f)


@jit
def _load4(address, stride):
    a, b = load(address), load(address + stride)
    return a, b, load(address + 2 * stride), load(address + 3 * stride)


@jit
def _store4(address, stride, four):
    store(address, four[0])
    store(address + stride, four[1])
    store(address + 2 * stride, four[2])
    store(address + 3 * stride, four[3])


@jit
def patches(rim, v, shape, first, last):
    """Bᵀ X B of the patches in tile rows first to last of an image with a rim, to 16 planes (tiles, C)."""
    width, c, plane = shape
    pixel, row = 4 * c, 4 * c * (width + 2)
    for h in range(first, last):
        for w in range(width // 2):
            for k in range(0, pixel, 64):
                x = rim + 2 * h * row + 2 * w * pixel + k
                p0, p1, p2, p3 = _bt(*_load4(x, row))
                q0, q1, q2, q3 = _bt(*_load4(x + pixel, row))
                r0, r1, r2, r3 = _bt(*_load4(x + 2 * pixel, row))
                s0, s1, s2, s3 = _bt(*_load4(x + 3 * pixel, row))
                to = v + k
                _store4(to, plane, _bt(p0, q0, r0, s0))
                _store4(to + 4 * plane, plane, _bt(p1, q1, r1, s1))
                _store4(to + 8 * plane, plane, _bt(p2, q2, r2, s2))
                _store4(to + 12 * plane, plane, _bt(p3, q3, r3, s3))
            v += pixel


@jit
def outputs(m, y, shape, first, last):
    """Aᵀ M A of the 16 planes (tiles, O), to the pixels of tile rows first to last."""
    width, o, plane = shape
    pixel, row = 4 * o, 4 * o * width
    for h in range(first, last):
        for w in range(width // 2):
            for k in range(0, pixel, 64):
                of = m + k
                a0, a1 = _at(*_load4(of, plane))
                b0, b1 = _at(*_load4(of + 4 * plane, plane))
                c0, c1 = _at(*_load4(of + 8 * plane, plane))
                d0, d1 = _at(*_load4(of + 12 * plane, plane))
                to = y + 2 * h * row + 2 * w * pixel + k
                upper, lower = _at(a0, b0, c0, d0)
                store(to, upper)
                store(to + row, lower)
                upper, lower = _at(a1, b1, c1, d1)
                store(to + pixel, upper)
                store(to + row + pixel, lower)
            m += pixel


@jit
def cotangents(dy, m, shape, first, last):
    """A dY Aᵀ of the pixels of tile rows first to last, to 16 planes (tiles, O)."""
    width, o, plane = shape
    pixel, row = 4 * o, 4 * o * width
    for h in range(first, last):
        for w in range(width // 2):
            for k in range(0, pixel, 64):
                of = dy + 2 * h * row + 2 * w * pixel + k
                p0, p1, p2, p3 = _a(load(of), load(of + row))
                q0, q1, q2, q3 = _a(load(of + pixel), load(of + row + pixel))
                to = m + k
                _store4(to, plane, _a(p0, q0))
                _store4(to + 4 * plane, plane, _a(p1, q1))
                _store4(to + 8 * plane, plane, _a(p2, q2))
                _store4(to + 12 * plane, plane, _a(p3, q3))
            m += pixel


@jit
def forward(rim, scratch, kernel, y, shape):
    """One image, in a rim of zeros, by the kernel G K Gᵀ; a block of tile rows at a time."""
    height, width, c, o, block = shape
    room = rooms(block, width)
    v, m = scratch, scratch + 64 * room * c
    for h in range(0, height // 2, block):
        stop = min(h + block, height // 2)
        patches(rim, v, (width, c, 4 * room * c), h, stop)
        for place in range(PLACES):
            for k in range(0, o, COLUMNS):
                b = (kernel + 4 * (place * c * o + k), 0, 4 * o)
                for t in range(0, (stop - h) * (width // 2), ROWS):
                    row = place * room + t
                    _product((v + 4 * row * c, 0, 4 * c, 4), b, (m + 4 * (row * o + k), 4 * o), (1, c))
        outputs(m, y, (width, o, 4 * room * o), h, stop)


@jit
def weight_gradient(rim, scratch, dy, du, shape):
    """Add one image's (Bᵀ X B) ⊙ (A dY Aᵀ) to du (16, C, O)."""
    height, width, c, o, block = shape
    room = rooms(block, width)
    v, m = scratch, scratch + 64 * room * c
    for h in range(0, height // 2, block):
        stop = min(h + block, height // 2)
        patches(rim, v, (width, c, 4 * room * c), h, stop)
        cotangents(dy, m, (width, o, 4 * room * o), h, stop)
        for place in range(PLACES):
            for k in range(0, o, COLUMNS):
                b = (m + 4 * (place * room * o + k), 0, 4 * o)
                for t in range(0, c, ROWS):
                    a = (v + 4 * (place * room * c + t), 0, 4, 4 * c)
                    to = (du + 4 * ((place * c + t) * o + k), 4 * o)
                    _gradient(a, b, to, (1, (stop - h) * (width // 2)))


@jit
def rooms(block, width):
    """Rows of a plane: a tile each, and as many more as the microkernel's last step takes along unread."""
    return (block * (width // 2) + ROWS - 1) // ROWS * ROWS
