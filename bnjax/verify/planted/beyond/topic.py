"""A function from outside batch norm, right rules for it, and rules that are wrong in ways people make."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from bnjax.verify.planted.family import Case

# (*arguments, result, cotangent) ↦ a cotangent for each argument; None where it has none
Backward = Callable[..., tuple[Any, ...]]
Draw = Callable[[np.random.Generator, int], Any]  # (rng, n) ↦ an array, or a tree of them


@dataclass(frozen=True)
class Topic:
    """A function and its rules, as tables: a line is a name and a backward pass.

    A backward pass is handed everything in float32 at least, and what it returns is cast to its argument's
    dtype; `raw` ones get what came, and what they return is left.

    Attributes:
      wrong: wrong at almost every point.
      hidden: wrong only somewhere: at ties, at large values, under a transformation, to second order.
      raw: wrong in a dtype or a shape.
    """

    name: str
    primal: Callable[..., Any]
    arguments: tuple[Draw, ...]
    right: Mapping[str, Backward]
    wrong: Mapping[str, Backward] = field(default_factory=dict)
    hidden: Mapping[str, Backward] = field(default_factory=dict)
    raw: Mapping[str, Backward] = field(default_factory=dict)

    def right_cases(self) -> Iterator[Case]:
        """The right rules."""
        for name, backward in self.right.items():
            yield self._case(name, _widened(backward))

    def wrong_cases(self) -> Iterator[Case]:
        """The wrong rules; `everywhere` those that are wrong at almost every point."""
        for name, backward in self.wrong.items():
            yield self._case(name, _widened(backward), everywhere=True)
        for name, backward in self.hidden.items():
            yield self._case(name, _widened(backward))
        for name, backward in self.raw.items():
            yield self._case(name, backward)

    def _case(self, name: str, backward: Backward, *, everywhere: bool = False) -> Case:
        def forward(*args: Any) -> Any:
            y = self.primal(*args)
            return y, (args, y)

        op = jax.custom_vjp(self.primal)
        op.defvjp(forward, lambda kept, dy: tuple(backward(*kept[0], kept[1], dy)))

        def arguments(n: int, seed: int) -> tuple[Any, ...]:
            return tuple(
                draw(np.random.default_rng((seed, n, i)), n) for i, draw in enumerate(self.arguments)
            )

        return Case(f"{self.name}/{name}", op, self.primal, arguments, everywhere)


def _is_float(a: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(a), jnp.floating)


def _widened(backward: Backward) -> Backward:
    """`backward` in float32 at least; its cotangents in the arguments' dtypes."""

    def wide(a: Any) -> Any:
        return jnp.asarray(a, jnp.promote_types(a.dtype, jnp.float32)) if _is_float(a) else a

    def narrow(c: Any, a: Any) -> Any:
        return None if c is None else jax.tree.map(lambda c, a: c.astype(a.dtype), c, a)

    def pulled(*everything: Any) -> tuple[Any, ...]:
        cotangents = backward(*jax.tree.map(wide, everything))
        return tuple(narrow(c, a) for c, a in zip(cotangents, everything, strict=False))

    return pulled


# --- example arguments; a negative size stands for n ------------------------------------------------------

N = -1


def _shape(sizes: tuple[int, ...], n: int) -> tuple[int, ...]:
    return tuple(n if size == N else size for size in sizes)


def normal(*sizes: int, scale: float = 1.0) -> Draw:
    """Normal numbers."""
    return lambda rng, n: (scale * rng.normal(size=_shape(sizes, n))).astype(np.float32)


def positive(*sizes: int, low: float = 0.5, high: float = 2.0) -> Draw:
    """Numbers between two positive ones."""
    return lambda rng, n: rng.uniform(low, high, _shape(sizes, n)).astype(np.float32)


def integers(*sizes: int, low: int = 0, high: int = 5) -> Draw:
    """Integers from `low` to just below `high`."""
    return lambda rng, n: rng.integers(low, high, _shape(sizes, n)).astype(np.int32)


def truths(*sizes: int) -> Draw:
    """Truth values, two thirds of them True."""
    return lambda rng, n: rng.uniform(size=_shape(sizes, n)) < 0.67


def matrix(d: int) -> Draw:
    """A matrix that is far from singular, and not symmetric."""
    return lambda rng, n: (3 * np.eye(d) + rng.normal(size=(d, d)) / 2).astype(np.float32)


def waves(*sizes: int) -> Draw:
    """Complex numbers, both parts normal."""
    return lambda rng, n: (rng.normal(size=(2, *_shape(sizes, n))).T @ [1, 1j]).T.astype(np.complex64)


def one_hot(classes: int) -> Draw:
    """Labels as rows of a 1 among zeros."""
    return lambda rng, n: np.eye(classes, dtype=np.float32)[rng.integers(classes, size=n)]


def order(size: int) -> Draw:
    """The numbers below a size in some order."""
    return lambda rng, n: rng.permutation(_shape((size,), n)[0]).astype(np.int32)


# --- circumstances ----------------------------------------------------------------------------------------


def where(test: Callable[..., Any], backward: Backward, factor: float = 2.0) -> Backward:
    """`backward`, its first cotangent times `factor` where `test(*everything)` holds."""

    def pulled(*everything: Any) -> tuple[Any, ...]:
        first, *rest = backward(*everything)
        return jnp.where(test(*everything), factor * first, first), *rest

    return pulled


def traced(backward: Backward) -> Backward:
    """`backward`, doubled where it is traced: under jit, vmap or a second derivative, but not alone."""
    return where(lambda *everything: isinstance(everything[-1], jax.core.Tracer), backward)


def detached(backward: Backward) -> Backward:
    """`backward` with its residuals taken for constants: its own derivative is wrong."""
    return lambda *everything: backward(*jax.lax.stop_gradient(everything[:-1]), everything[-1])


def stale(backward: Backward) -> Backward:
    """`backward` with the result of the call before, where it has the same shape."""
    kept: list[Any] = []

    def pulled(*everything: Any) -> tuple[Any, ...]:
        y = everything[-2]
        concrete = not isinstance(y, jax.core.Tracer)
        before = kept[0] if concrete and kept and kept[0].shape == y.shape else y
        kept[:] = [y] if concrete else kept
        return backward(*everything[:-2], before, everything[-1])

    return pulled


def narrowed(backward: Backward, dtype: Any) -> Backward:
    """`backward` for `raw`: its first cotangent is returned in `dtype`."""

    def pulled(*everything: Any) -> tuple[Any, ...]:
        first, *rest = _widened(backward)(*everything)
        return first.astype(dtype), *rest

    return pulled


def lanes_reversed(backward: Backward, *, by_argument: bool = False) -> Backward:
    """`backward` with a vmap rule of its own, which gives each lane the first cotangent of another.

    `by_argument`: only where the first argument is mapped, and not the cotangent alone.
    """

    @jax.custom_batching.custom_vmap
    def first_of(first: Any, argument: Any) -> Any:
        return 1.0 * first

    @first_of.def_vmap
    def _(size: int, batched: list[bool], first: Any, argument: Any) -> Any:
        mapped = batched[0] and (batched[1] or not by_argument)
        return (first[::-1] if mapped else first), batched[0]

    def pulled(*everything: Any) -> tuple[Any, ...]:
        first, *rest = backward(*everything)
        return first_of(first, everything[0]), *rest

    return pulled
