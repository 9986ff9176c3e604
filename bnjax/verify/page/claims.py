"""From a row of verify.json and what Coq said of it to a claim as the page shows it."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = Mapping[str, Any]

SHAPES = {"n": "n", "n C": "(n, C)", "N H W C": "(N, H, W, C)"}


@dataclass(frozen=True)
class Mark:
    """A status: what the file says, in a sign and a word; `kind` is good, part, unknown or bad."""

    kind: str
    word: str

    @property
    def sign(self) -> str:
        """The status without colour: ✓, ◐, ? or ✗."""
        return {"good": "✓", "part": "◐", "unknown": "?", "bad": "✗"}[self.kind]


@dataclass(frozen=True)
class Claim:
    """A claim and all that was found of it.

    Attributes:
      title, anchor: what it is called, and where it stands on the page.
      group: the list of verify.json that it is in.
      row: what `verify` says.
      coq: what Coq says, a row a shape; none if it was not asked.
    """

    title: str
    anchor: str
    group: str
    row: Row
    coq: tuple[Row, ...] = ()

    @property
    def proof(self) -> str:
        """The prover's word."""
        return str(self.row.get("proof", self.row.get("status", "not asked")))

    @property
    def marks(self) -> dict[str, Mark]:
        """What each verifier that was asked says."""
        found = {"proof": proof_mark(self.proof)}
        if "checked" in self.row:
            found["check"] = Mark("good", "ok") if self.row["checked"] else Mark("bad", "WRONG")
        if self.coq:
            found["coq"] = coq_mark([row["status"] for row in self.coq])
        if "mutants" in self.row:
            found["mistakes"] = mistakes_mark(self.row)
        return found

    @property
    def standing(self) -> Mark:
        """All of it in one mark: kernel-checked, proved, conditional, only checked, or falls."""
        marks = self.marks
        kinds = {mark.kind for mark in marks.values()}
        if "bad" in kinds:
            return Mark("bad", "falls")
        if marks["proof"].kind == "good":
            kernel = marks.get("coq", Mark("unknown", "")).kind == "good"
            return Mark("good", "kernel-checked" if kernel else "proved")
        if marks["proof"].kind == "unknown":
            return Mark("unknown", "only checked" if self.row.get("checked") else self.proof)
        return marks["proof"]

    @property
    def rests_on(self) -> tuple[str, ...]:
        """The claims that it composes, as its row names them."""
        return tuple(self.row.get("rests_on", ()))

    @property
    def rounding(self) -> float | None:
        """The certified bound on float32's rounding, if it is one."""
        bound = self.row.get("rounding")
        return bound if bound is not None and math.isfinite(bound) else None

    @property
    def key(self) -> str:
        """What others name it by in `rests_on`: its number, or its name."""
        number = self.row.get("number")
        return str(self.row["name"] if number is None else number)


def proof_mark(status: str) -> Mark:
    """The prover's status."""
    kinds = {"proved": "good", "conditional": "part", "refuted": "bad"}
    return Mark(kinds.get(status, "unknown"), status)


def coq_mark(statuses: Sequence[str]) -> Mark:
    """What Coq says of all shapes together."""
    if "refused" in statuses:
        return Mark("bad", f"{statuses.count('refused')} of {len(statuses)} refused")
    kind = "good" if set(statuses) == {"checked"} else "unknown"
    return Mark(kind, f"{statuses.count('checked')} of {len(statuses)} checked")


def shape_mark(status: str) -> Mark:
    """What Coq says of one shape."""
    return Mark({"checked": "good", "refused": "bad"}.get(status, "unknown"), status)


def mistakes_mark(row: Row) -> Mark:
    """Whether every planted mistake fell to the checker, and the real ones to the prover."""
    if not row["mutants"]:
        return Mark("unknown", "none planted")
    all_fell = (row["refused"], row["refuted"]) == (row["mutants"], row["real"])
    return Mark("good" if all_fell else "bad", f"{row['refused']} of {row['mutants']} refused")


def claims(verify: Mapping[str, Any], coq: Mapping[str, Any] | None) -> tuple[Claim, ...]:
    """Every row of every list of verify.json that has a name, in its order."""
    of_coq: dict[str, list[Row]] = {}
    for claim in (coq or {}).get("claims", ()):
        of_coq.setdefault(claim["title"], []).append(claim)
    found = []
    for group, rows in verify.items():
        for row in rows if isinstance(rows, list) else ():
            number = row.get("number")
            title = row["name"] if number is None else f"{number} {row['name']}"
            shapes = sorted(of_coq.get(title, ()), key=lambda r: len(r["shape"]))
            found.append(Claim(title, anchor(title), group, row, tuple(shapes)))
    return tuple(found)


def anchor(title: str) -> str:
    """The title as an HTML id."""
    return "claim-" + "-".join(re.findall(r"\w+", title.lower()))


def commands(claim: Claim) -> Iterator[tuple[str, str]]:
    """What to run to see it again: a fact, and the command."""
    number = claim.row.get("number")
    if number is None:
        yield "all of it", "bnjax verify --json verify.json"
    else:
        index = f"next(t for t in bnjax.THEOREMS if t.number == {number})"
        call = "print(bnjax.prove_vjp(t.op, t.primal, *t.shapes, positive=t.positive))"
        yield "proof", f"python -c 'import bnjax; t = {index}; {call}'"
        yield "all of it", "bnjax verify"
    if claim.coq:
        yield "kernel", f"bnjax verify --coq proofs  # {', '.join(row['file'] for row in claim.coq)}"


def said(found: Sequence[Claim], *starts: str) -> list[str]:
    """The sentences that the claims themselves begin with one of these words and a colon, each once."""
    pattern = rf"(?:{'|'.join(starts)}): (.*?)\.(?=\s[A-Z]|$)"
    return list(dict.fromkeys(s for c in found for s in re.findall(pattern, c.row.get("claim", ""))))
