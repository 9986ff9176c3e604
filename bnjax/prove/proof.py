"""What a proof is, and the words of its claim."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from bnjax.prove.field import Obligation
from bnjax.prove.tracing import Argument

_SHOWN = 256  # numbers of an array
_TRUSTED = (
    "Trusted: JAX's tracing, and the meaning given to each primitive over the reals (casts between float "
    "types of 16 bits and more are identities; sizes, and what is computed of them, are below 2³¹, other "
    "integers are shown to fit their dtype; erf has the slope at 0 that JAX's rule gives it, 2/√π rounded).\n"
    "Not covered: XLA's compilation, and the rounding, overflow and underflow of floating point.\n"
    "Outside the claim: what a function does only where it is not traced, in another dtype than float32, on "
    "a later trace (state that it keeps), differentiated in some of its arguments only (symbolic_zeros) or "
    "more than once, or where it tells a size from an int by no operator of Python's (is, id, another name "
    "of type, int.__eq__, whether an array made of it is traced)."
)


@dataclass(frozen=True)
class Counterexample:
    """Inputs (nested lists of rationals) at which `what` differs.

    `got` is what op gives and `expected` what primal gives, exactly: a rational, or the two rationals that
    enclose an irrational number; None where an operation is not evaluated exactly.  `float64` are the two
    numbers that the programs themselves return; None where they show no difference, and then this is no
    refutation.
    """

    what: str
    index: tuple[int, ...]
    point: dict[str, object]
    got: Fraction | tuple[Fraction, Fraction] | None
    expected: Fraction | tuple[Fraction, Fraction] | None
    float64: tuple[float, float] | None

    def __str__(self) -> str:
        inputs = ", ".join(f"{name} = {_text(value)}" for name, value in self.point.items())
        place = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        if self.float64 is not None and (self.got is None or self.expected is None):
            mine, theirs, seen = *(f"{number:.12g}" for number in self.float64), " (in float64)"
        else:
            mine, theirs = _number(self.got), _number(self.expected)
            seen = "" if self.float64 is None else " (in float64: {:.12g} and {:.12g})".format(*self.float64)
        values = f"the op gives {mine}, the primal {theirs}"
        return f"counterexample: {inputs}\n  {self.what}{place}: {values}{seen}"


@dataclass(frozen=True)
class Proof:
    """What was shown, on what it rests, and what speaks against it.

    Attributes:
      status: "proved", "conditional" (proved where the open obligations hold), "refuted" (there is a
        counterexample) or "refused" (the program leaves the fragment, or nothing could be decided).
      claim: the statement that the status is about; below it, where it was shown, what that rests on.
      obligations: the side conditions, each with .claim and .discharged.
      counterexample: a point in rationals where op and primal differ, with both values; None if none.
      reason: why it was refused, or which equation fails.
      where: the user's source line, for a refusal.
      seconds: wall-clock time.
      kinks: off what the derivative is claimed: comparisons of data that the primal makes.

    Example:
      >>> import jax.numpy as jnp, bnjax
      >>> proof = bnjax.prove_vjp(jnp.reciprocal, lambda x: 1 / x, "n")
      >>> proof.status, proof.obligations[0].claim
      ('conditional', 'x[a] ≠ 0')
    """

    status: str
    claim: str
    obligations: tuple[Obligation, ...] = ()
    counterexample: Counterexample | None = None
    reason: str = ""
    where: str = ""
    seconds: float = 0.0
    kinks: tuple[str, ...] = ()
    _asked: tuple = field(default=(), repr=False, compare=False)  # op, primal, shapes, positive

    def coq(self) -> str:
        """The claim and its proof as a Coq script, for an independent kernel: beside `Batch.v`, by `coqc`.

        Whatever the status is: Coq says whether the script is a proof.  Raises ValueError for a program that
        cannot be printed, with the primitive and the line.

        Example:
          >>> import jax.numpy as jnp, bnjax
          >>> proof = bnjax.prove_vjp(bnjax.center, lambda x: x - jnp.mean(x), "n")
          >>> "Theorem vjp_is_the_derivative (n : nat)" in proof.coq()
          True
        """
        from bnjax.prove.coq import script

        if not self._asked:
            raise ValueError("this proof does not say of which programs it is")
        op, primal, shapes, positive = self._asked
        return script(op, primal, *shapes, positive=positive)

    def __str__(self) -> str:
        statement, *rests_on = self.claim.split("\n")
        lines = [f"{self.status.upper()} in {self.seconds:.2f} s", statement]
        if self.reason:
            lines.append(f"reason: {self.reason}" + (f", at {self.where}" if self.where else ""))
        lines += [str(obligation) for obligation in self.obligations]
        if self.counterexample is not None:
            lines.append(str(self.counterexample))
        return "\n".join(lines + rests_on)


def claim(
    proof: Proof, arguments: Sequence[Argument], traced: Sequence[Mapping[str, int]], held: Sequence[str]
) -> str:
    """The statement that the proof's status is about, with what it rests on.

    Args:
      proof: the proof, its claim not yet written.
      arguments: the arrays of the claim.
      traced: the numbers for the sizes whose programs were proved as well.
      held: where the primal has a `stop_gradient`.
    """
    symbols = sorted(set().union(*(a.symbols() for a in arguments)))
    sizes = (f"for all sizes {', '.join(symbols)} ≥ 1 and " if symbols else "for ") + "all real inputs"
    shapes = ", ".join(f"{a.name}[{' '.join(a.words)}]" for a in arguments)
    held_to = [f"{a.name} > 0" for a in arguments if a.positive]
    held_to += [f"integers 0 ≤ {a.name} < {a.below}" for a in arguments if a.below]
    hypotheses = " with " + " and ".join(held_to) if held_to else ""
    open_claims = [o.claim for o in proof.obligations if not o.discharged]
    condition = f", provided that {' and '.join(open_claims)}" if proof.status == "conditional" else ""
    statement = (
        f"Over the reals, {sizes} ({shapes}){hypotheses}{condition}, the traced program of the hand VJP "
        "computes the VJP of the primal (JAX's autodiff of it, and its directional derivative by "
        "definition), and the values agree."
    )
    if held:
        statement += (
            " What is differentiated is the primal with the operand of each stop_gradient held constant "
            f"({'; '.join(where or 'in a library' for where in held)})."
        )
    if proof.kinks:
        statement += (
            f" The derivative is claimed where {' and '.join(proof.kinks)}. Elsewhere the hand VJP returns "
            "what JAX's autodiff does, or the derivative with each comparison that is tied taken as on one "
            "of its sides, which need not be sides of one direction, or the mean of these"
            f"{', but for what is open' if open_claims else ''}."
        )
    if traced:
        statement += (
            f" So do the programs traced at {_numbers(traced)}, where Python may have branched (if the "
            "algebra leaves the definition open there, by JAX's derivatives of its primitives)."
        )
    verdict = {"refuted": "This is false: ", "refused": "Neither proved nor refuted: "}
    return f"{verdict[proof.status]}{statement}" if proof.status in verdict else f"{statement}\n{_TRUSTED}"


def _numbers(traced: Sequence[Mapping[str, int]]) -> str:
    """`n = 1, 2, 3`, or `(n, m) = (1, 1), (2, 3)`."""
    names = ", ".join(traced[0])
    rows = [", ".join(map(str, sizes.values())) for sizes in traced]
    if len(traced[0]) == 1:
        return f"{names} = {', '.join(rows)}"
    return f"({names}) = {', '.join(f'({row})' for row in rows)}"


def _number(value) -> str:
    return str(value) if isinstance(value, Fraction) else f"{float(value[0]):.12g}… (irrational)"


def _text(value) -> str:
    """Nested lists as Python writes them; an array of many numbers by its shape."""
    shape = np.shape(value)
    if math.prod(shape) > _SHOWN:
        return f"{' × '.join(map(str, shape))} numbers, in .point"
    return f"[{', '.join(map(_text, value))}]" if isinstance(value, list) else str(value)
