"""Convolutions, spectra, quantities of 1e−20 and 1e20, complex numbers, trees, several results."""

import jax
import jax.numpy as jnp

from bnjax.verify.planted.beyond.topic import Draw, N, Topic, normal, positive, waves

_TAPS = 3


def _convolved(x, w):
    return sum(x[:, k : x.shape[1] - len(w) + 1 + k] * w[k] for k in range(len(w)))


def _lax_convolved(x, w):
    return jax.lax.conv_general_dilated(x[:, None], w[None, None], (1,), "VALID")[:, 0]


def _full(dy, w):
    """dy convolved with w: every shift that meets it."""
    last = len(w) - 1
    return sum(jnp.pad(dy, ((0, 0), (k, last - k))) * w[k] for k in range(len(w)))


def _taps(x, dy, shift=0):
    width = dy.shape[1]
    x = jnp.roll(x, shift, 1)
    return jnp.stack([jnp.sum(x[:, k : k + width] * dy) for k in range(x.shape[1] - width + 1)])


CONVOLUTION = Topic(
    "convolution", _lax_convolved, (normal(N, 7), normal(_TAPS)),
    right={
        "shifts": lambda x, w, y, dy: (_full(dy, w), _taps(x, dy)),
        "rows of jnp.convolve": lambda x, w, y, dy: (
            jnp.stack([jnp.convolve(row, w) for row in dy]), _taps(x, dy)),
    },
    wrong={
        "the kernel not flipped": lambda x, w, y, dy: (_full(dy, w[::-1]), _taps(x, dy)),
        "the kernel's shifts reversed": lambda x, w, y, dy: (_full(dy, w), _taps(x, dy)[::-1]),
        "off by one": lambda x, w, y, dy: (jnp.roll(_full(dy, w), 1, 1), _taps(x, dy)),
        "the kernel's off by one": lambda x, w, y, dy: (_full(dy, w), _taps(x, dy, 1)),
        "the edges": lambda x, w, y, dy: (_full(dy, w).at[:, :1].set(0), _taps(x, dy)),
    },
)  # fmt: skip


def _waves(n, like):
    angle = 2 * jnp.pi * jnp.outer(jnp.arange(n // 2 + 1), jnp.arange(n)) / n
    return jnp.cos(angle).astype(like.dtype), jnp.sin(angle).astype(like.dtype)


def _power_backward(sines=True, factor=2.0):
    def backward(x, y, dy):
        cos, sin = _waves(x.shape[1], x)
        dx = (dy * (x @ cos.T)) @ cos
        return (factor * (dx + (dy * (x @ sin.T)) @ sin if sines else dx),)

    return backward


POWER = Topic(
    "power spectrum", lambda x: jnp.abs(jnp.fft.rfft(x)) ** 2, (normal(N, 6),),
    right={
        "cosines and sines": _power_backward(),
        "a whole transform": lambda x, y, dy: (2 * jnp.real(jnp.fft.fft(
            dy * jnp.conj(jnp.fft.rfft(x)), x.shape[1])),),
    },
    wrong={
        "without the 2": _power_backward(factor=1.0),
        "the real part only": _power_backward(sines=False, factor=2.0),
        "irfft of it": lambda x, y, dy: (2 * jnp.fft.irfft(dy * jnp.fft.rfft(x), x.shape[1]),),
        "not conjugated": lambda x, y, dy: (2 * jnp.real(jnp.fft.fft(
            dy * jnp.fft.rfft(x), x.shape[1])),),
    },
)  # fmt: skip


def _circular(x, w):
    return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.fft.rfft(w), x.shape[-1])


def _correlated(dy, w):
    return jnp.fft.irfft(jnp.fft.rfft(dy) * jnp.conj(jnp.fft.rfft(w)), dy.shape[-1])


CIRCULAR = Topic(
    "circular convolution", _circular, (normal(N, 5), normal(5)),
    right={
        "correlations": lambda x, w, y, dy: (_correlated(dy, w), jnp.sum(_correlated(dy, x), 0)),
        "rolls": lambda x, w, y, dy: (
            sum(jnp.roll(dy, -k, 1) * w[k] for k in range(len(w))),
            jnp.stack([jnp.sum(jnp.roll(x, k, 1) * dy) for k in range(len(w))])),
    },
    wrong={
        "convolutions": lambda x, w, y, dy: (_circular(dy, w), jnp.sum(_correlated(dy, x), 0)),
        "w's convolved": lambda x, w, y, dy: (_correlated(dy, w), jnp.sum(_circular(dy, x), 0)),
        "w's reversed": lambda x, w, y, dy: (_correlated(dy, w), jnp.sum(_correlated(dy, x), 0)[::-1]),
    },
)  # fmt: skip

# --- magnitudes -------------------------------------------------------------------------------------------


def _scaled(draw: Draw, scale: float) -> Draw:
    return lambda rng, n: (draw(rng, n).astype("float64") * scale).astype("float32")


TINY = Topic(
    "a product of 1e−20 and 1e20", lambda x, z: x * z,
    (_scaled(normal(N), 1e-20), _scaled(normal(N), 1e20)),
    right={"each by the other": lambda x, z, y, dy: (dy * z, dy * x)},
    wrong={
        "the small one doubled": lambda x, z, y, dy: (dy * z, 2 * dy * x),
        "swapped": lambda x, z, y, dy: (dy * x, dy * z),
        "the small one dropped": lambda x, z, y, dy: (dy * z, 0 * x),
    },
    hidden={"1e−12 added": lambda x, z, y, dy: (dy * z, dy * (x + 1e-12))},
)  # fmt: skip
LARGE = Topic(
    "a ratio of quantities of 1e20", lambda x, z: x / z,
    (_scaled(normal(N), 1e20), _scaled(positive(N), 1e20)),
    right={"by the quotient": lambda x, z, y, dy: (dy / z, -dy * y / z)},
    wrong={
        "z's sign": lambda x, z, y, dy: (dy / z, dy * y / z),
        "z a constant": lambda x, z, y, dy: (dy / z, 0 * z),
    },
    hidden={"z² overflows in float32": lambda x, z, y, dy: (dy / z, -dy * x / (z * z))},
)  # fmt: skip
NEWTON = Topic(
    "attraction", lambda a, b, r: 1e-20 * a * b / (r * r), (positive(N), positive(N), positive(N)),
    right={"by the result": lambda a, b, r, y, dy: (dy * (y / a), dy * (y / b), -2 * dy * (y / r))},
    wrong={
        "r to the first power": lambda a, b, r, y, dy: (dy * y / a, dy * y / b, -dy * y / r),
        "r² softened": lambda a, b, r, y, dy: (
            dy * y / a, dy * y / b, -2e-20 * dy * a * b * r / (r**4 + 1e-4)),
        "the constant": lambda a, b, r, y, dy: (dy * y / a * 1e20, dy * y / b, -2 * dy * y / r),
    },
)  # fmt: skip

OUTER = Topic(
    "every x by every 1 + b", lambda x, b: x[:, None] + x[:, None] * b, (normal(N), normal(3)),
    right={"1 + b rounded first": lambda x, b, y, dy: (jnp.sum(dy * (1 + b), 1), x @ dy)},
    wrong={
        "without the 1": lambda x, b, y, dy: (jnp.sum(dy * b, 1), x @ dy),
        "b's of one row": lambda x, b, y, dy: (jnp.sum(dy * (1 + b), 1), x[0] * dy[0]),
    },
    raw={"1 + b rounded to bfloat16 in every dtype": lambda x, b, y, dy: (
        jnp.sum(dy * (1 + b).astype(jnp.bfloat16).astype(b.dtype), 1), x @ dy)},
)  # fmt: skip

# --- complex numbers --------------------------------------------------------------------------------------

MODULUS = Topic(
    "squared modulus", lambda z, w: w * jnp.real(z * jnp.conj(z)), (waves(N), normal(N)),
    right={"z̄": lambda z, w, y, dy: (2 * dy * w * jnp.conj(z), dy * jnp.abs(z) ** 2)},
    wrong={
        "z for z̄": lambda z, w, y, dy: (2 * dy * w * z, dy * jnp.abs(z) ** 2),
        "the real part": lambda z, w, y, dy: (2 * dy * w * jnp.real(z), dy * jnp.abs(z) ** 2),
        "not squared": lambda z, w, y, dy: (2 * dy * w * jnp.conj(z), dy * jnp.abs(z)),
    },
)  # fmt: skip
WAVE = Topic(
    "a wave and its square", lambda x: (x * jnp.exp(1j * x), x * x), (normal(N),),
    right={"the real part": lambda x, y, dy: (
        jnp.real(dy[0] * (1 + 1j * x) * jnp.exp(1j * x)) + 2 * x * dy[1],)},
    wrong={
        "dy conjugated": lambda x, y, dy: (
            jnp.real(jnp.conj(dy[0]) * (1 + 1j * x) * jnp.exp(1j * x)) + 2 * x * dy[1],),
        "the wave detached": lambda x, y, dy: (2 * x * dy[1],),
        "the imaginary part": lambda x, y, dy: (
            jnp.imag(dy[0] * (1 + 1j * x) * jnp.exp(1j * x)) + 2 * x * dy[1],),
    },
)  # fmt: skip

# --- trees ------------------------------------------------------------------------------------------------


def _tree(**leaves: Draw) -> Draw:
    return lambda rng, n: {name: draw(rng, n) for name, draw in leaves.items()}


def _layer(p, x):
    return x @ p["w"] + p["b"]


LAYER = Topic(
    "a layer of a tree", _layer, (_tree(w=normal(3, 3), b=normal(3)), normal(N, 3)),
    right={"leaf by leaf": lambda p, x, y, dy: (
        {"w": x.T @ dy, "b": jnp.sum(dy, 0)}, dy @ p["w"].T)},
    wrong={
        "w's transposed": lambda p, x, y, dy: ({"w": dy.T @ x, "b": jnp.sum(dy, 0)}, dy @ p["w"].T),
        "b zero": lambda p, x, y, dy: ({"w": x.T @ dy, "b": 0 * p["b"]}, dy @ p["w"].T),
        "x by w": lambda p, x, y, dy: ({"w": x.T @ dy, "b": jnp.sum(dy, 0)}, dy @ p["w"]),
    },
    hidden={"b's mean": lambda p, x, y, dy: ({"w": x.T @ dy, "b": jnp.mean(dy, 0)}, dy @ p["w"].T)},
    raw={"b not summed": lambda p, x, y, dy: ({"w": x.T @ dy, "b": dy}, dy @ p["w"].T)},
)  # fmt: skip


def _moments(x):
    mean = jnp.mean(x, 0)
    return mean, jnp.mean(jnp.square(x - mean), 0)


MOMENTS = Topic(
    "mean and variance", _moments, (normal(N, 3),),
    right={"both": lambda x, y, dy: ((dy[0] + 2 * (x - y[0]) * dy[1]) / len(x),)},
    wrong={
        "the variance only": lambda x, y, dy: (2 * (x - y[0]) * dy[1] / len(x),),
        "the mean only": lambda x, y, dy: ((dy[0] + 0 * x) / len(x),),
        "not centered": lambda x, y, dy: ((dy[0] + 2 * x * dy[1]) / len(x),),
        "results swapped": lambda x, y, dy: ((dy[1] + 2 * (x - y[0]) * dy[0]) / len(x),),
    },
    hidden={"over n − 1": lambda x, y, dy: (
        dy[0] / len(x) + 2 * (x - y[0]) * dy[1] / max(len(x) - 1, 1),)},
)  # fmt: skip


def _turned_back(t, dy):
    return dy["x"] * jnp.cos(t) + dy["y"] * jnp.sin(t)


POLAR = Topic(
    "polar to Cartesian", lambda r, t: {"x": r * jnp.cos(t), "y": r * jnp.sin(t)},
    (normal(N), normal(N)),
    right={"turned back": lambda r, t, y, dy: (
        _turned_back(t, dy), dy["y"] * y["x"] - dy["x"] * y["y"])},
    wrong={
        "t without r": lambda r, t, y, dy: (
            _turned_back(t, dy), dy["y"] * jnp.cos(t) - dy["x"] * jnp.sin(t)),
        "t's sign": lambda r, t, y, dy: (_turned_back(t, dy), dy["x"] * y["y"] - dy["y"] * y["x"]),
        "r by x only": lambda r, t, y, dy: (
            dy["x"] * jnp.cos(t), dy["y"] * y["x"] - dy["x"] * y["y"]),
    },
    hidden={"by the results: NaN at r = 0": lambda r, t, y, dy: (
        (dy["x"] * y["x"] + dy["y"] * y["y"]) / r, dy["y"] * y["x"] - dy["x"] * y["y"])},
)  # fmt: skip

SIGNALS = (CONVOLUTION, POWER, CIRCULAR, TINY, LARGE, NEWTON, OUTER, MODULUS, WAVE, LAYER, MOMENTS, POLAR)
