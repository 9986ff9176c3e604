"""`bnjax verify --coq DIR`: every theorem at three shapes, printed for Coq and checked by its kernel."""

import functools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bnjax.errors import UserError, one_line
from bnjax.prove.coq import AXIOMS, Outcome, check, compile_library, script, version, write_project
from bnjax.theorems.inference import batch_norm_inference, batch_norm_inference_primal
from bnjax.verify import bounds
from bnjax.verify.provenance import provenance

_SMOOTHNESS = 31  # the theorem that is more than a VJP
_AT_ONCE = 2  # a run of coqc is one busy core
_SHAPES = {"n": (), "n C": (), "N H W C": (0, 1, 2)}  # and the axes of the batch, where it is not the first


@dataclass(frozen=True)
class Claim:
    """A theorem at one shape: its file, what it is called, and the arguments of `script`."""

    file: str
    title: str
    shape: str
    op: Callable
    primal: Callable
    shapes: tuple[str, ...]
    positive: tuple[int, ...]
    further: str = ""  # what is proved of the printed programs besides

    def script(self) -> str:
        """The claim and its proof for Coq; raises ValueError, and what tracing raises."""
        title = f"Theorem {self.title}, at {self.shape}"
        return script(self.op, self.primal, *self.shapes, positive=self.positive, title=title) + self.further


@dataclass(frozen=True)
class Row:
    """A claim, and what came of it."""

    claim: Claim
    outcome: Outcome


def claims(theorems: Sequence[Any]) -> tuple[Claim, ...]:
    """Each theorem for a vector, a matrix and images, and evaluation mode.

    Args:
      theorems: what has the attributes number, name, op, primal, shapes and positive of `bnjax.Theorem`.
    """
    found = []
    for t in theorems:
        for shape in _SHAPES:
            named = f"theorem{t.number}", f"{t.number} {t.name}"
            claim = _claim(*named, t.op, t.primal, t.shapes, t.positive, shape)
            further = bounds.bounds(shape) if t.number == _SMOOTHNESS else ""
            found.append(replace(claim, further=further))
    evaluation = (batch_norm_inference, batch_norm_inference_primal, ("n", "", "", "", "", ""), (4, 5))
    found += [_claim("evaluation", "evaluation mode", *evaluation, shape) for shape in _SHAPES]
    return tuple(found)


def _claim(
    file: str,
    title: str,
    op: Callable,
    primal: Callable,
    shapes: Sequence[str],
    positive: Sequence[int],
    shape: str,
) -> Claim:
    """The claim for arrays of `shape`, of one that is stated for one channel."""
    axes = _SHAPES[shape]
    if axes:
        op, primal = functools.partial(op, axis=axes), functools.partial(primal, axis=axes)
    channels = shape.split()[1:][-1:]
    words = tuple(shape if word == "n" else " ".join(channels) for word in shapes)
    return Claim(f"{file}_{shape.replace(' ', '')}", title, shape, op, primal, words, tuple(positive))


def run(directory: Path, theorems: Sequence[Any], json_file: Path | None = None) -> int:
    """Writes the scripts into `directory`, has Coq check them, prints a line for each; the exit code.

    0 if every claim was checked, 1 if one was refused (by the printer or by Coq).  What was found is also
    written to `json_file`, if there is one.

    Raises:
      UserError: the folder cannot be written, or Coq is not installed: the scripts are there, and nothing
        was checked.
    """
    if directory.exists() and not directory.is_dir():
        raise UserError(f"--coq {directory} is a file: name a folder")
    print(line(HEADER), flush=True)
    rows = []
    for row in verdicts(directory, claims(theorems)):
        rows.append(row)
        print(line(cells(row)), flush=True)
    if json_file is not None:
        json_file.write_text(as_json(rows, directory))
    statuses = [row.outcome.status for row in rows]
    print(f"{statuses.count('checked')} of {len(rows)} checked by Coq's kernel: {directory}", flush=True)
    if "refused" in statuses:
        return 1
    if "not installed" in statuses:
        reason = next(row.outcome.reason for row in rows if row.outcome.status == "not installed")
        raise UserError(f"nothing was checked, {reason}: apt-get install coq libcoq-coquelicot")
    return 0


def verdicts(directory: Path, wanted: Sequence[Claim]) -> Iterator[Row]:
    """Writes the claims into `directory` and has Coq check them, a row for each as soon as it is known."""
    scripts, refused = {}, []
    for claim in wanted:
        try:
            scripts[claim.file] = claim.script()
        except Exception as error:  # tracing runs the theorem's code
            refused.append(Row(claim, Outcome("refused", one_line(error))))
    write_project(directory, scripts, {bounds.LIBRARY: bounds.library()})
    yield from refused
    ready = compile_library(directory, [bounds.LIBRARY])
    printed = [claim for claim in wanted if claim.file in scripts]
    if ready.status != "checked":
        yield from (Row(claim, ready) for claim in printed)
        return
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running = {pool.submit(check, directory, claim.file): claim for claim in printed}
        try:
            for done in as_completed(running):
                yield Row(running[done], done.result())
        finally:  # interrupted: what has not begun does not begin
            pool.shutdown(wait=False, cancel_futures=True)


HEADER = ("theorem", "shape", "Coq", "seconds", "reason")


def cells(row: Row) -> tuple[str, ...]:
    """A row's cells under `HEADER`."""
    outcome = row.outcome
    seconds = f"{outcome.seconds:.1f}" if outcome.seconds else ""
    return row.claim.title, row.claim.shape, outcome.status, seconds, outcome.reason


def line(texts: Sequence[str]) -> str:
    """Cells as a line of the terminal's table."""
    widths = (36, 10, 15, 9, 0)
    return "".join(text.ljust(width) for text, width in zip(texts, widths, strict=True)).rstrip()


def as_json(rows: Sequence[Row], directory: Path) -> str:
    """What Coq said of each claim as a JSON document, with the theorems that it read, from their scripts."""
    claims = [
        {
            "title": row.claim.title,
            "shape": row.claim.shape,
            "file": f"{row.claim.file}.v",
            **vars(row.outcome),
            "theorems": _theorems(directory / f"{row.claim.file}.v"),
        }
        for row in sorted(rows, key=lambda row: row.claim.file)
    ]
    found = {"provenance": provenance() | {"coq": version()}, "axioms": sorted(AXIOMS), "claims": claims}
    return json.dumps(found, indent=1, ensure_ascii=False) + "\n"


def _theorems(script: Path) -> list[str]:
    """The statements that a script proves, as they stand in it."""
    text = script.read_text() if script.exists() else ""
    return re.findall(r"^Theorem .*?\.(?=\nProof\.)", text, re.DOTALL | re.MULTILINE)
