"""Runs Coq's compiler on a script, and reads what it says: checked, refused, or not installed."""

import re
import shutil
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

Status = Literal["checked", "refused", "not installed"]

# the axioms that Coq's real numbers rest on
AXIOMS = frozenset(
    (
        "ClassicalDedekindReals.sig_forall_dec",
        "ClassicalDedekindReals.sig_not_dec",
        "FunctionalExtensionality.functional_extensionality_dep",
    )
)
LIBRARY = "Batch.v"
_PROJECT = '-Q . ""\n'
_ASSUMPTIONS = "Print Assumptions"


@dataclass(frozen=True)
class Outcome:
    """What Coq says of a script.

    Attributes:
      status: "checked" (compiled, on no other axioms than those of the reals), "refused", "not installed".
      reason: why it was refused or did not run, in one line.
      seconds: wall-clock time.
    """

    status: Status
    reason: str = ""
    seconds: float = 0.0


def version() -> str | None:
    """The version of Coq, in its own words; None where it is not installed."""
    coqc = shutil.which("coqc")
    if coqc is None:
        return None
    ran = subprocess.run([coqc, "--print-version"], capture_output=True, text=True, timeout=60)
    return ran.stdout.split()[0] if ran.stdout.strip() else None


def library() -> str:
    """The text of `Batch.v`, which every script requires."""
    return files("bnjax.prove.coq").joinpath(LIBRARY).read_text()


def write_project(
    directory: Path, scripts: Mapping[str, str], libraries: Mapping[str, str] | None = None
) -> None:
    """Writes `Batch.v` and further `libraries`, a NAME.v for each script, and their `_CoqProject`."""
    directory.mkdir(parents=True, exist_ok=True)
    texts = {LIBRARY: library(), **(libraries or {})} | {f"{name}.v": text for name, text in scripts.items()}
    for name, text in texts.items():
        (directory / name).write_text(text)
    (directory / "_CoqProject").write_text(_PROJECT + "".join(f"{name}\n" for name in texts))


def compile_library(directory: Path, further: Sequence[str] = (), timeout: float = 300.0) -> Outcome:
    """Compiles `Batch.v` and `further` files that `write_project` wrote; else nothing can be checked."""
    for name in (LIBRARY, *further):
        outcome = _compile(directory / name, timeout)[0]
        if outcome.status != "checked":
            return outcome
    return outcome


def check(directory: Path, name: str, timeout: float = 300.0) -> Outcome:
    """Has Coq check NAME.v in `directory`, beside its compiled library.

    Checked means that coqc accepted every line, that the script prints the assumptions of its theorems, and
    that these are none but the three axioms of the reals.
    """
    outcome, said = _compile(directory / f"{name}.v", timeout)
    if outcome.status != "checked":
        return outcome
    wanted = (directory / f"{name}.v").read_text().count(_ASSUMPTIONS)
    reason = _assumed(said, wanted)
    return Outcome("refused" if reason else "checked", reason, outcome.seconds)


def _assumed(said: str, wanted: int) -> str:
    """What is wrong with the assumptions printed, `wanted` times; empty if nothing is."""
    found = said.splitlines()
    starts = [k for k, line in enumerate(found) if line in ("Axioms:", "Closed under the global context")]
    if not wanted or len(starts) != wanted:
        return f"the assumptions of {wanted} theorems were asked for, {len(starts)} were printed"
    names = {line.split()[0] for line in found[starts[0] :] if line and not line[0].isspace()}
    others = names - AXIOMS - {"Axioms:", "Closed"}
    return f"it rests on {', '.join(sorted(others))}" if others else ""


def _compile(file: Path, timeout: float) -> tuple[Outcome, str]:
    """What coqc says of one file, and what it printed."""
    coqc = shutil.which("coqc")
    if coqc is None:
        return Outcome("not installed", "coqc is not on the path"), ""
    start = time.monotonic()
    command = [coqc, "-q", "-Q", ".", "", file.name]
    try:
        ran = subprocess.run(command, cwd=file.parent, capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return Outcome("refused", f"coqc took more than {timeout:g} s", time.monotonic() - start), ""
    seconds = time.monotonic() - start
    if ran.returncode == 0:
        return Outcome("checked", "", seconds), ran.stdout
    reason = _reason(ran.stderr, file.read_text().splitlines())
    if "Coquelicot" in reason:
        return Outcome("not installed", f"Coq cannot find the library Coquelicot: {reason}", seconds), ""
    return Outcome("refused", reason, seconds), ran.stdout


def _reason(stderr: str, script: list[str]) -> str:
    """Coq's error in one line, after the comment on the line of the script where it stopped."""
    place, message = "", " ".join(stderr.split()) or "coqc failed without a word"
    found = re.search(r"line (\d+), characters [\d-]+:\s*Error:(.*)", stderr, re.DOTALL)
    if found:
        line = script[int(found[1]) - 1]
        comment = re.search(r"\(\* (.*) \*\)", line)
        place = f"{comment[1]}: " if comment else ""
        message = " ".join(found[2].split())
    return f"{place}{message}"[:200]
