"""Rules made for a test."""

import jax


def with_rule(primal, backward):
    """`primal` with a hand VJP: backward(args, dy) gives the cotangents."""
    op = jax.custom_vjp(primal)
    op.defvjp(lambda *args: (primal(*args), args), backward)
    return op
