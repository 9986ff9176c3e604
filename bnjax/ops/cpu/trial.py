"""Whether the kernels are used: each process tries them first, and takes XLA's path where they fail."""

import functools
import itertools
import platform
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_lock = threading.Lock()
_found: list[str | None] = []  # why not, once known; None if all is well
# of the largest number in a result: some ten times what roundoff makes of sums this short; in bfloat16 two
# neighbours, one of which is nearest to this sum and the other to that
_TOLERANCE, _NEIGHBOURS = 2.0**-18, 2.0**-7


def available() -> bool:
    """Whether the kernels run on this machine, on JAX's default backend.

    The first time they are compiled (seconds; later processes find them on disk) and tried: what they read of
    XLA's call frame is compared with what was sent, and each of them with XLA's path on small arrays.  If
    numba is not installed, the processor has neither AVX-512 nor AVX2, XLA does not take the handlers, or a
    comparison fails, that is said in one warning, and the answer is no from then on.
    """
    if jax.default_backend() != "cpu":
        return False
    with _lock:
        if not _found:
            # a thread of its own has none of the caller's traces and settings
            thread = threading.Thread(target=lambda: _found.append(_why_not()))
            thread.start()
            thread.join()
            if _found[0] is not None:
                told = f"bnjax's CPU kernels are not used, and XLA's path is: {_found[0]}"
                warnings.warn(told, stacklevel=2)
    return _found[0] is None


def _why_not() -> str | None:
    try:
        import numba  # noqa: F401

        return _processor() or _tried()
    except ModuleNotFoundError as error:
        return f'{error.name} is not installed: pip install "bnjax[fast]"'
    except Exception as error:  # whatever numba or XLA does not like
        first = (str(error).strip().splitlines() or [""])[0]
        return f"{type(error).__name__}: {first[:200]}"


def _processor() -> str | None:
    import llvmlite.binding

    features = llvmlite.binding.get_host_cpu_features()
    if not (features.get("avx512f") or (features.get("avx2") and features.get("fma"))):
        return f"the processor ({platform.machine()}) has neither AVX-512 nor AVX2"
    return None


def _tried() -> str | None:
    from bnjax.ops.cpu import convolution, normalization, probe

    _register()
    misread = probe.misread()
    if misread:
        return f"the call frame of this XLA is another one: {misread}"
    comparisons = dict(_convolutions(convolution)) | dict(_batch_norms(normalization))
    found = jax.jit(lambda inputs: {name: f(*inputs[name]) for name, (f, _) in comparisons.items()})
    for name, (kernels, xlas) in found({name: inputs for name, (_, inputs) in comparisons.items()}).items():
        for kernel, xla in zip(jax.tree.leaves(kernels), jax.tree.leaves(xlas), strict=True):
            if not _agree(np.asarray(kernel), np.asarray(xla)):
                return f"{name} is not what XLA's path computes"
    return None


@functools.cache  # XLA takes a name once, and holds the address: what is returned must live on
def _register() -> list[Any]:
    from bnjax.ops.cpu import convolution, normalization, probe
    from bnjax.ops.cpu.sources import digest

    sources, handlers = digest(), []
    for part in (probe, convolution, normalization):
        handlers.append(part.compiled(sources))
        jax.ffi.register_ffi_target(part.TARGET, jax.ffi.pycapsule(handlers[-1].ctypes), platform="cpu")
    return handlers


_Comparison = tuple[Callable[..., Any], tuple[np.ndarray, ...]]  # arrays -> by kernels, by XLA; the arrays


def _agree(kernel: np.ndarray, xla: np.ndarray) -> bool:
    tolerance = _NEIGHBOURS if xla.dtype == jnp.bfloat16 else _TOLERANCE
    kernel, xla = kernel.astype(np.float32), xla.astype(np.float32)
    return bool(np.all(abs(kernel - xla) <= tolerance * np.max(abs(xla))))


def _convolutions(kernels: Any) -> Iterator[tuple[str, _Comparison]]:
    def both(x: jax.Array, kernel: jax.Array, dy: jax.Array) -> Any:
        def xlas(x: jax.Array, kernel: jax.Array) -> jax.Array:
            return lax.conv_general_dilated(
                x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
            )

        y, vjp = jax.vjp(xlas, x, kernel)
        return (*kernels.forward(x, kernel), *kernels.weight_gradient(x, dy)), (y, vjp(dy)[1])

    rng = np.random.default_rng(0)
    for name, (n, h, w, c, o) in {
        "a Winograd convolution": (3, 6, 8, 32, 32),
        "a direct convolution": (3, 5, 9, 3, 32),
    }.items():
        shapes = ((n, h, w, c), (3, 3, c, o), (n, h, w, o))
        yield name, (both, tuple(rng.normal(size=shape).astype(np.float32) for shape in shapes))


def _batch_norms(kernels: Any) -> Iterator[tuple[str, _Comparison]]:
    def both(relu: bool, x: jax.Array, gamma: jax.Array, beta: jax.Array, dy: jax.Array) -> Any:
        eps = jnp.full_like(gamma, 1e-3)

        def xlas(x: jax.Array, gamma: jax.Array, beta: jax.Array) -> Any:
            wide = x.astype(jnp.float32)
            mean = jnp.mean(wide, 0)
            var = jnp.mean(jnp.square(wide - mean), 0)
            z = (gamma * ((wide - mean) * lax.rsqrt(var + eps)) + beta).astype(x.dtype)
            return jnp.maximum(z, 0) if relu else z, (mean, var)

        y, vjp, statistics = jax.vjp(xlas, x, gamma, beta, has_aux=True)
        channels = gamma, beta, eps
        found = kernels.forward(x, channels, relu=relu)
        return (*found, *kernels.backward(x, channels, *found[1:], dy, relu=relu)), (y, statistics, vjp(dy))

    rng = np.random.default_rng(0)
    for relu, dtype in itertools.product((False, True), (np.float32, jnp.bfloat16)):
        x, dy = (rng.normal(size=(101, 32)).astype(dtype) for _ in range(2))
        gamma, beta = rng.normal(size=(2, 32)).astype(np.float32)
        name = f"batch norm{' and ReLU' if relu else ''} in {x.dtype.name}"
        yield name, (functools.partial(both, relu), (x, gamma, beta, dy))
