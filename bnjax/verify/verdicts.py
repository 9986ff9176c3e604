"""Every verifier on every theorem and lemma: the rows of `bnjax verify`, as a table and as JSON."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import numpy as np

from bnjax.check.check import check_vjp
from bnjax.prove import prove_vjp
from bnjax.prove.reals import Unsupported
from bnjax.verify.exhibit import exhibit
from bnjax.verify.gradient_bounds import STATED, GradientBounds, bounds_are_computed, bounds_are_reached
from bnjax.verify.lemmas import LEMMAS, RESTS_ON, Lemma, example
from bnjax.verify.mistakes import Judge, Mistake, N, judge
from bnjax.verify.planted import GRADIENT, Mutant
from bnjax.verify.planted.lemmas import MISTAKES
from bnjax.verify.provenance import provenance
from bnjax.verify.smoothness import theorem31_certificates

_SIZES = {"n": N, "N": 2, "C": 3}  # of the checker, and what rounding is bounded for


@dataclass(frozen=True)
class Verdict:
    """What the verifiers say of one theorem, or of one lemma.

    Attributes:
      number, name: the theorem's; a lemma has no number.
      checked: whether `check_vjp` finds nothing wrong.
      proof: the status that `prove_vjp` gives, for every batch size.
      claim: what that status is about, in words, with its trusted base.
      mutants: how many planted wrong rules there are of this function.
      refused: how many of them the checker refuses.
      real: how many of them are wrong in real arithmetic, where the prover can see it.
      refuted: how many of those the prover refutes.
      rounding: a certified bound on the float32 error of value and VJP at n = 8, relative to the largest
        element; None where python-flint is not installed, or the program is beyond it.
      reason: why the proof was refused, or what speaks against it.
      open: the conditions that a conditional proof rests on.
      mistakes: the planted wrong rules one by one.
      rests_on: the claims that it composes, by number or name.
      evidence: what is shown beside the verdict: see `bnjax.verify.exhibit`.
    """

    number: int | None
    name: str
    checked: bool
    proof: str
    claim: str
    mutants: int
    refused: int
    real: int
    refuted: int
    rounding: float | None
    reason: str = ""
    open: tuple[str, ...] = ()
    mistakes: tuple[Mistake, ...] = ()
    rests_on: tuple[str, ...] = ()
    evidence: dict[str, Any] | None = None

    @property
    def title(self) -> str:
        """What it is called: "34 full batch norm VJP"."""
        return self.name if self.number is None else f"{self.number} {self.name}"

    @property
    def ok(self) -> bool:
        """Whether the claim holds and every mutant falls; with no mutant to fall, nothing was tried.

        A theorem must be proved.  A lemma may be conditional, or refused: what the prover cannot read is not
        wrong, and its row says so.
        """
        theorem = self.number is not None
        return (
            (min(self.mutants, self.real) if theorem else self.mutants) > 0
            and self.checked
            and (self.proof == "proved" if theorem else self.proof != "refuted")
            and self.refused == self.mutants
            and self.refuted == self.real
        )


def verdicts(
    theorems: Sequence[Any], mutants: Sequence[Mutant], *, explained: bool = False, judge: Judge = judge
) -> Iterator[Verdict]:
    """The verdict on each theorem, as soon as it is known; theorems on one function share the work.

    Args:
      theorems: what has the attributes number, name, op, primal, shapes and positive of `bnjax.Theorem`.
      mutants: the planted wrong rules; a theorem's are those that name its op, the function itself.  Theorem
        31's are `planted.GRADIENT`: wrong bounds, and gradients that miss the true ones.
      explained: also say of every mistake what shows it, and give the evidence.  The checker then takes the
        whole way to a mistake that only it sees.
      judge: who judges the mutants.
    """
    known: dict[Any, dict[str, Any]] = {}
    for theorem in theorems:
        if theorem.op not in known:
            wrong = [m for m in mutants if m.theorem is theorem.op]
            known[theorem.op] = _examine(theorem, (judge(mutant, explained) for mutant in wrong))
        said = known[theorem.op]
        if theorem.number == 31:
            said = said | of_the_bounds(said, theorem.op)
        shown = exhibit(theorem) if explained else None
        rests_on = RESTS_ON.get(theorem.number, ())
        yield Verdict(theorem.number, theorem.name, **said, rests_on=rests_on, evidence=shown)


def lemma_verdicts(lemmas: Sequence[Lemma] = LEMMAS, judge: Judge = judge) -> Iterator[Verdict]:
    """The verdict on each lemma, explained, as soon as it is known."""
    for lemma in lemmas:
        said = _examine(lemma, (judge(mutant, True) for mutant in MISTAKES[lemma.name]))
        yield Verdict(None, lemma.name, **said, rests_on=lemma.rests_on, evidence=exhibit(lemma))


def of_the_bounds(rule: dict[str, Any], op: Callable[..., Any]) -> dict[str, Any]:
    """What is shown of theorem 31 beyond theorem 30's rule, and of its own mutants.

    checked: the bounds hold and are reached at points too; proof: "proved" only if every certificate holds
    too; refused: mutants that miss a bound at a point; refuted: mutants without their certificates.
    """
    stated = replace(STATED, op=op)
    certificates = theorem31_certificates(stated)
    missing = [c.claim for c in certificates if not c.holds]
    steps = "; ".join(missing or [c.claim for c in certificates])
    kind = "Not shown" if missing else "Shown exactly, for every n, x and ε > 0"
    mistakes = tuple(_wrong_bounds(mutant) for mutant in GRADIENT)
    return {
        "checked": rule["checked"] and bounds_are_computed() and bounds_are_reached(stated),
        "proof": "refused" if missing and rule["proof"] == "proved" else rule["proof"],
        "claim": f"{rule['claim']} {kind}: {steps}.",
        **_counted(mistakes),
    }


def _wrong_bounds(mutant: GradientBounds) -> Mistake:
    fallen = [c.claim for c in theorem31_certificates(mutant) if not c.holds]
    seen = f"does not hold: {'; '.join(fallen)}" if fallen else ""
    return Mistake(mutant.name, True, not bounds_are_reached(mutant), bool(fallen), seen)


def _examine(claim: Any, mistakes: Iterable[Mistake]) -> dict[str, Any]:
    """What is found of a theorem or a lemma, but for its name; its mistakes last, as they are waited for."""
    proof = prove_vjp(claim.op, claim.primal, *claim.shapes, positive=claim.positive)
    arguments = example(claim, _SIZES)
    where = f", at {proof.where}" if proof.where else ""
    return {
        "checked": check_vjp(claim.op, claim.primal, *arguments).ok,
        "proof": proof.status,
        "claim": proof.claim,
        "reason": proof.reason + where,
        "open": tuple(o.claim for o in proof.obligations if not o.discharged),
        "rounding": _rounding(claim.op, arguments),
        **_counted(tuple(mistakes)),
    }


def _counted(mistakes: Sequence[Mistake]) -> dict[str, Any]:
    return {
        "mutants": len(mistakes),
        "refused": sum(mistake.refused for mistake in mistakes),
        "real": sum(mistake.real for mistake in mistakes),
        "refuted": sum(mistake.refuted is True for mistake in mistakes),
        "mistakes": tuple(mistakes),
    }


def _rounding(op: Any, arguments: Sequence[np.ndarray]) -> float | None:
    if any(a.dtype == np.bool_ for a in arguments):
        return None  # a mask has no cotangent to bound
    from bnjax.prove.rounding import vjp_rounding_bound

    cotangent = np.random.default_rng(1).normal(size=jax.eval_shape(op, *arguments).shape)
    try:
        bound = vjp_rounding_bound(op, np.float32(cotangent), *arguments)
    except (ImportError, Unsupported):
        return None
    largest = max(bound.relative)
    return largest if math.isfinite(largest) else None  # too loose to say anything


HEADER = ("theorem", "checked", "for every n", "mutants refused", "mutants refuted", "rounding at n = 8")


def row(verdict: Verdict) -> tuple[str, ...]:
    """A verdict as the cells under `HEADER`."""
    unbounded = "no bound" if verdict.number is None else "needs python-flint"
    return (
        verdict.title,
        "ok" if verdict.checked else "WRONG",
        verdict.proof,
        f"{verdict.refused}/{verdict.mutants}",
        f"{verdict.refuted}/{verdict.real}",
        unbounded if verdict.rounding is None else f"≤ {verdict.rounding:.1e}",
    )


def line(cells: Sequence[str]) -> str:
    """Cells as a line of the terminal's table."""
    widths = (36, 9, 13, 17, 17, 19)
    return "".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def as_json(theorems: Sequence[Verdict], lemmas: Sequence[Verdict] = (), networks: Sequence[Any] = ()) -> str:
    """All verdicts, those of `bnjax.verify.networks` too, as a JSON document, with what they depend on."""
    lists: dict[str, Sequence[Any]] = {"theorems": theorems, "lemmas": lemmas, "networks": networks}
    found = {
        "ok": all(verdict.ok for rows in lists.values() for verdict in rows),
        "provenance": provenance(),
        **{name: [asdict(row) | {"ok": row.ok} for row in rows] for name, rows in lists.items()},
    }
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"
