"""The 3×3 convolution of an image, and its weight gradient, as the sums stand in the definition.

With x in a rim of zeros, (H + 2, W + 2, C), so that every window lies in it::

    y_hwo = Σ_i Σ_jc x_h+i,w+j,c · k_ijco          dk_ijco = Σ_h Σ_w x_h+i,w+j,c · dy_hwo

In memory (j, c) is one axis, of x as of k, and w + j walks along it in steps of C: each line above is the
microkernel's double sum as it stands.
"""

from bnjax.ops.cpu.frame import jit
from bnjax.ops.cpu.microkernel import COLUMNS, ROWS, WIDE, tile

TAPS = 9
# how many of the 3C rows of dk at a time; 3C is always a multiple of 3
_MANY, _FEW = (12, 3) if WIDE else (6, 3)
_product, _many, _few = tile(ROWS, plus=False), tile(_MANY, plus=True), tile(_FEW, plus=True)


@jit
def forward(rim, kernel, y, shape):
    """One image of at least `ROWS` pixels a row; the last step of a row begins so that it ends with it."""
    height, width, c, o = shape
    row = 4 * (width + 2) * c
    for h in range(height):
        for k in range(0, o, COLUMNS):
            b = (kernel + 4 * k, 12 * c * o, 4 * o)
            for start in range(0, width, ROWS):
                w = min(start, width - ROWS)
                to = (y + 4 * ((h * width + w) * o + k), 4 * o)
                _product((rim + h * row + 4 * w * c, row, 4 * c, 4), b, to, (3, 3 * c))


@jit
def weight_gradient(rim, dy, dk, shape):
    """Add one image's dk."""
    height, width, c, o = shape
    row, pixels = 4 * (width + 2) * c, (height, width)
    for i in range(3):
        for k in range(0, o, COLUMNS):
            b = (dy + 4 * k, 4 * width * o, 4 * o)
            if 3 * c % _MANY == 0:
                for t in range(0, 3 * c, _MANY):
                    to = (dk + 4 * ((3 * i * c + t) * o + k), 4 * o)
                    _many((rim + i * row + 4 * t, row, 4, 4 * c), b, to, pixels)
            else:
                for t in range(0, 3 * c, _FEW):
                    to = (dk + 4 * ((3 * i * c + t) * o + k), 4 * o)
                    _few((rim + i * row + 4 * t, row, 4, 4 * c), b, to, pixels)
