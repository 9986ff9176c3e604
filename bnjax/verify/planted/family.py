"""What a planted error is made of: a right rule, one cotangent a line, and one line put wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np


@dataclass(frozen=True)
class Mutant:
    """A wrong rule, that every verifier must refuse.

    Attributes:
      name: unique; the target, a slash, and the error.
      target: the function whose rule it is.
      op: the wrong rule.
      primal: the function in plain JAX.
      arguments: example arguments for a batch of n, float32, seeded.
      real: the error lies in real arithmetic on every input, not only in a dtype, a shape, at one n, under a
        transformation or in a branch: a prover over the reals must refute it.
      shapes: the arguments' shapes for a prover ("n", "n C", "" for a scalar); empty where its algebra does
        not reach (integers, exp).
      positive: indices of the arguments that are taken to be > 0.
      theorem: the op of the theorem that it is a mutant of; None where the function is no theorem.
    """

    name: str
    target: str
    op: Callable[..., Any]
    primal: Callable[..., Any]
    arguments: Callable[[int], tuple[Any, ...]]
    real: bool
    shapes: tuple[str, ...]
    positive: tuple[int, ...] = ()
    theorem: Callable[..., Any] | None = None


@dataclass(frozen=True)
class Case:
    """A rule, right or wrong, that every checker is tried on.

    Attributes:
      name: unique; the function, a slash, and what the rule is like.
      op: the rule.
      primal: the function in plain JAX.
      arguments: (n, seed) ↦ example arguments for a batch of n, float32.
      everywhere: of a wrong one, that it is wrong at almost every point in float64.
    """

    name: str
    op: Callable[..., Any]
    primal: Callable[..., Any]
    arguments: Callable[[int, int], tuple[Any, ...]]
    everywhere: bool = False


Cotangent = Callable[[Any, Any], Any]  # (the view of the arguments, dy) ↦ the cotangent of one argument


@dataclass(frozen=True)
class Family:
    """A right rule to put errors into.

    `view` makes of the arguments a namespace of whatever the backward pass speaks of (μ, x̂, …), and `right`
    maps each argument's name, in order, to its true cotangent.
    """

    target: str
    primal: Callable[..., Any]
    view: Callable[..., Any]
    right: Mapping[str, Cotangent]
    arguments: Callable[[int], tuple[Any, ...]]
    shapes: tuple[str, ...]
    positive: tuple[int, ...] = field(default=())
    theorem: Callable[..., Any] | None = None

    def rule(self, view: Callable[..., Any] | None = None, **wrong: Cotangent) -> Callable[..., Any]:
        """The primal with the right cotangents, but for those given; and with `view` for the right one."""
        unknown = wrong.keys() - self.right.keys()
        if unknown:
            raise TypeError(f"{self.target} has no argument {sorted(unknown)}")
        cotangents = [*(dict(self.right) | wrong).values()]
        seen = view or self.view

        def backward(args: tuple[Any, ...], dy: Any) -> tuple[Any, ...]:
            r = seen(*args)
            return tuple(cotangent(r, dy) for cotangent in cotangents)

        return self.with_backward(backward)

    def with_backward(self, backward: Callable[[tuple[Any, ...], Any], Any]) -> Callable[..., Any]:
        """The primal with any backward pass: (arguments, dy) ↦ whatever it returns."""
        op = jax.custom_vjp(self.primal)
        op.defvjp(lambda *args: (self.primal(*args), args), backward)
        return op

    def mutant(self, error: str, *, real: bool = True, view: Any = None, **wrong: Cotangent) -> Mutant:
        """The rule with `wrong` in it."""
        return self.of(error, self.rule(view, **wrong), real=real)

    def of(self, error: str, op: Callable[..., Any], *, real: bool = False) -> Mutant:
        """`op` as a mutant of this family."""
        return Mutant(
            f"{self.target}/{error}",
            self.target,
            op,
            self.primal,
            self.arguments,
            real,
            self.shapes,
            self.positive,
            self.theorem,
        )


def normal(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Standard normal float32 of shape (n, *shape), seeded."""
    return np.random.default_rng((seed, n)).normal(size=(n, *shape)).astype(np.float32)
