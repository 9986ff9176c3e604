"""Every verifier on every theorem: the rows of `bnjax verify`, as a table, as JSON and as a page."""

import html
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import jax
import numpy as np

from bnjax.check.check import check_vjp
from bnjax.check.refusal import refuses
from bnjax.prove import prove_vjp
from bnjax.verify.gradient_bounds import STATED, bounds_are_computed, bounds_are_reached
from bnjax.verify.planted import GRADIENT, Mutant
from bnjax.verify.smoothness import theorem31_certificates

N = 8  # the batch that the checker is given, and that rounding is bounded for


@dataclass(frozen=True)
class Verdict:
    """What the verifiers say of one theorem.

    Attributes:
      number, name: the theorem's.
      checked: whether `check_vjp` finds nothing wrong.
      proof: the status that `prove_vjp` gives, for every batch size.
      claim: what that status is about, in words, with its trusted base.
      mutants: how many planted wrong rules there are of this function.
      refused: how many of them the checker refuses.
      real: how many of them are wrong in real arithmetic, where the prover can see it.
      refuted: how many of those the prover refutes.
      rounding: a certified bound on the float32 error of value and VJP at n = 8, relative to the largest
        element; None where python-flint is not installed.
    """

    number: int
    name: str
    checked: bool
    proof: str
    claim: str
    mutants: int
    refused: int
    real: int
    refuted: int
    rounding: float | None

    @property
    def ok(self) -> bool:
        """Whether the theorem holds and every mutant falls; with no mutant to fall, nothing was tried."""
        return (
            min(self.mutants, self.real) > 0
            and self.checked
            and self.proof == "proved"
            and self.refused == self.mutants
            and self.refuted == self.real
        )


def verdicts(theorems: Sequence[Any], mutants: Sequence[Mutant]) -> Iterator[Verdict]:
    """The verdict on each theorem, as soon as it is known; theorems on one function share the work.

    Args:
      theorems: what has the attributes number, name, op, primal, shapes and positive of `bnjax.Theorem`.
      mutants: the planted wrong rules; a theorem's are those that name its op, the function itself.  Theorem
        31's are `planted.GRADIENT`: wrong bounds, and gradients that miss the true ones.
    """
    known: dict[Any, dict[str, Any]] = {}
    for theorem in theorems:
        if theorem.op not in known:
            wrong = [m for m in mutants if m.theorem is theorem.op]
            known[theorem.op] = _examine(theorem, wrong)
        said = known[theorem.op]
        if theorem.number == 31:
            said = said | of_the_bounds(said, theorem.op)
        yield Verdict(theorem.number, theorem.name, **said)


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
    return {
        "checked": rule["checked"] and bounds_are_computed() and bounds_are_reached(stated),
        "proof": "refused" if missing and rule["proof"] == "proved" else rule["proof"],
        "claim": f"{rule['claim']} {kind}: {steps}.",
        "mutants": len(GRADIENT),
        "refused": sum(not bounds_are_reached(mutant) for mutant in GRADIENT),
        "real": len(GRADIENT),
        "refuted": sum(not all(c.holds for c in theorem31_certificates(mutant)) for mutant in GRADIENT),
    }


def _examine(theorem: Any, mutants: Sequence[Mutant]) -> dict[str, Any]:
    proof = prove_vjp(theorem.op, theorem.primal, *theorem.shapes, positive=theorem.positive)
    real = [m for m in mutants if m.real]
    proofs = [prove_vjp(m.op, m.primal, *m.shapes, positive=m.positive) for m in real]
    arguments = _arguments(theorem)
    return {
        "checked": check_vjp(theorem.op, theorem.primal, *arguments).ok,
        "proof": proof.status,
        "claim": proof.claim,
        "mutants": len(mutants),
        "refused": sum(refuses(m.op, m.primal, *m.arguments(N)) for m in mutants),
        "real": len(real),
        "refuted": sum(p.status == "refuted" for p in proofs),
        "rounding": _rounding(theorem.op, arguments),
    }


def _arguments(theorem: Any) -> list[np.ndarray]:
    """float32 arguments of the theorem's shapes at n = 8, positive where it asks for that."""
    rng = np.random.default_rng(0)
    drawn = [rng.normal(size=(N,) if shape else ()) for shape in theorem.shapes]
    return [np.asarray(abs(a) + 0.1 if i in theorem.positive else a, np.float32) for i, a in enumerate(drawn)]


def _rounding(op: Any, arguments: Sequence[np.ndarray]) -> float | None:
    from bnjax.prove.rounding import vjp_rounding_bound

    cotangent = np.random.default_rng(1).normal(size=jax.eval_shape(op, *arguments).shape)
    try:
        bound = vjp_rounding_bound(op, np.float32(cotangent), *arguments)
    except ImportError:
        return None
    return max(bound.relative)


HEADER = ("theorem", "checked", "for every n", "mutants refused", "mutants refuted", "rounding at n = 8")


def row(verdict: Verdict) -> tuple[str, ...]:
    """A verdict as the cells under `HEADER`."""
    return (
        f"{verdict.number} {verdict.name}",
        "ok" if verdict.checked else "WRONG",
        verdict.proof,
        f"{verdict.refused}/{verdict.mutants}",
        f"{verdict.refuted}/{verdict.real}",
        "needs python-flint" if verdict.rounding is None else f"≤ {verdict.rounding:.1e}",
    )


def line(cells: Sequence[str]) -> str:
    """Cells as a line of the terminal's table."""
    widths = (36, 9, 13, 17, 17, 19)
    return "".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def as_json(found: Sequence[Verdict]) -> str:
    """All verdicts as a JSON document."""
    return (
        json.dumps({"ok": all(v.ok for v in found), "theorems": [asdict(v) for v in found]}, indent=2) + "\n"
    )


def as_html(found: Sequence[Verdict]) -> str:
    """All verdicts as a page of one table, with each claim below it."""

    def cells(tag: str, texts: Sequence[str]) -> str:
        return "<tr>" + "".join(f"<{tag}>{html.escape(text)}</{tag}>" for text in texts) + "</tr>"

    rows = "\n".join(cells("td", row(verdict)) for verdict in found)
    claims = "\n".join(f"<li>{html.escape(f'{v.number}: {v.proof}. {v.claim}')}</li>" for v in found)
    return (
        '<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>bnjax verify</title>\n'
        "<style>body{font-family:sans-serif;margin:2em}td,th{padding:.3em .8em;text-align:left}</style>\n"
        f"<h1>bnjax verify</h1>\n<table>\n{cells('th', HEADER)}\n{rows}\n</table>\n"
        f"<ul>\n{claims}\n</ul>\n</html>\n"
    )
