"""What the page is made of, as it lies in files."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bnjax.errors import UserError


@dataclass(frozen=True)
class Found:
    """What there is to show.

    Attributes:
      verify: what `bnjax verify --json` wrote.
      coq: what `bnjax verify --coq DIR --json` wrote; None if there is no such file.
      tables: the text of results/README.md, Markdown.
      figures: the text of each SVG in the folder, by its path there.
      trusted: what a proof rests on, the section of CONTRIBUTING.md, Markdown.
    """

    verify: Mapping[str, Any]
    coq: Mapping[str, Any] | None = None
    tables: str = ""
    figures: Mapping[str, str] = field(default_factory=dict)
    trusted: str = ""


def read(results: Path) -> Found:
    """What lies in `results`, and in CONTRIBUTING.md beside that folder.

    Raises:
      UserError: there is no verify.json, or one of the two files cannot be read as what it is.
    """
    verify = _json(results / "verify.json")
    if verify is None:
        raise UserError(
            f"{results / 'verify.json'} is missing: bnjax verify --json {results / 'verify.json'}"
        )
    figures = {
        file.relative_to(results).as_posix(): file.read_text() for file in sorted(results.rglob("*.svg"))
    }
    return Found(
        verify,
        _json(results / "coq.json"),
        _text(results / "README.md"),
        figures,
        section(_text(results.resolve().parent / "CONTRIBUTING.md"), "What a proof rests on"),
    )


def section(markdown: str, title: str) -> str:
    """What stands under a heading of the second level, without it; empty if there is none."""
    _, found, rest = f"\n{markdown}".partition(f"\n## {title}\n")
    return rest.partition("\n## ")[0].strip() if found else ""


def _text(file: Path) -> str:
    return file.read_text() if file.is_file() else ""


def _json(file: Path) -> dict[str, Any] | None:
    if not file.is_file():
        return None
    try:
        found = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}") from error
    if not isinstance(found, dict) or "provenance" not in found:
        raise UserError(f"{file} does not say what it was found with: write it again with bnjax verify")
    return found
