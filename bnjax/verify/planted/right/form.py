"""What the right rules are made with."""

import jax
import jax.numpy as jnp
import numpy as np

EPS = np.float32(1e-3)


def rule(primal, backward, forward=None):
    """`primal` with the backward pass (arguments, dy) ↦ cotangents."""
    op = jax.custom_vjp(primal)
    op.defvjp(lambda *args: ((forward or primal)(*args), args), backward)
    return op


def f32(a):
    """Sums are taken in float32 at least, as everywhere in this project."""
    return jnp.asarray(a).astype(jnp.promote_types(a.dtype, jnp.float32))


def total(a):
    """The sum, in float32 at least."""
    return jnp.sum(f32(a))


def cast_back(cotangents, args):
    """The cotangents in their arguments' dtypes."""
    return tuple(jnp.asarray(c).astype(a.dtype) for c, a in zip(cotangents, args, strict=True))


def normal(n, seed, *shape, key=0):
    """Standard normal float32 of shape (n, *shape), by seed and key."""
    return np.random.default_rng((seed, key, n)).normal(size=(n, *shape)).astype(np.float32)
