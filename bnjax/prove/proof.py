"""What a proof is, and the words of its claim."""

from collections.abc import Sequence
from dataclasses import dataclass

from bnjax.prove.counterexample import Counterexample
from bnjax.prove.field import Obligation
from bnjax.prove.tracing import Argument

_TRUSTED = (
    "Trusted: JAX's tracing, and the meaning given to each primitive over the reals (casts between float "
    "types are identities, integers do not overflow). Not covered: XLA's compilation and the rounding of "
    "floating point."
)
TRACED_SIZES = (1, 2, 3, 5)


@dataclass(frozen=True)
class Proof:
    """What was shown, on what it rests, and what speaks against it.

    Attributes:
      status: "proved", "conditional" (proved where the open obligations hold), "refuted" (there is a
        counterexample) or "refused" (the program leaves the fragment, or nothing could be decided).
      claim: the statement that the status is about, with its trusted base.
      obligations: the side conditions, each with .claim and .discharged.
      counterexample: a point in rationals where op and primal differ, with both values; None if none.
      reason: why it was refused, or which equation fails.
      where: the user's source line, for a refusal.
      seconds: wall-clock time.
    """

    status: str
    claim: str
    obligations: tuple[Obligation, ...] = ()
    counterexample: Counterexample | None = None
    reason: str = ""
    where: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"{self.status.upper()} in {self.seconds:.2f} s", self.claim]
        if self.reason:
            lines.append(f"reason: {self.reason}" + (f", at {self.where}" if self.where else ""))
        lines += [str(obligation) for obligation in self.obligations]
        if self.counterexample is not None:
            lines.append(str(self.counterexample))
        return "\n".join(lines)


def claim(proof: Proof, arguments: Sequence[Argument], symbols: Sequence[str]) -> str:
    """The statement that the proof's status is about, with what it rests on."""
    sizes = (f"for all sizes {', '.join(symbols)} ≥ 1 and " if symbols else "for ") + "all real inputs"
    shapes = ", ".join(f"{a.name}[{' '.join(a.words)}]" for a in arguments)
    hypotheses = " with " + " and ".join(f"{a.name} > 0" for a in arguments if a.positive)
    if not any(a.positive for a in arguments):
        hypotheses = ""
    open_claims = [o.claim for o in proof.obligations if not o.discharged]
    condition = f", provided that {' and '.join(open_claims)}" if proof.status == "conditional" else ""
    statement = (
        f"Over the reals, {sizes} ({shapes}){hypotheses}{condition}, the traced program of the hand VJP "
        "computes the VJP of the primal (JAX's autodiff of it, and its directional derivative by "
        "definition), and the values agree."
    )
    if symbols and proof.status in ("proved", "conditional"):
        traced = ", ".join(map(str, TRACED_SIZES))
        statement += f" So do the programs traced at sizes {traced}, where Python may have branched."
    verdict = {"refuted": "This is false: ", "refused": "Neither proved nor refuted: "}.get(proof.status, "")
    return f"{verdict}{statement} {_TRUSTED}"
