"""The page, from what was found."""

from collections import Counter
from collections.abc import Sequence
from importlib.resources import files
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from bnjax.verify.page import text
from bnjax.verify.page.claims import SHAPES, Claim, claims, commands, said, shape_mark
from bnjax.verify.page.found import Found
from bnjax.verify.page.graph import graph
from bnjax.verify.page.results import results

# what a list of verify.json is called; one that is not named here is called as the file calls it
GROUPS = {"theorems": "The chapter’s theorems", "lemmas": "Beyond the chapter", "networks": "Networks"}


def build(found: Found) -> str:
    """The whole page as HTML: it loads nothing, and runs no script.

    Raises:
      KeyError, jinja2.UndefinedError: verify.json or coq.json has not what `bnjax verify` writes.
    """
    shown = claims(found.verify, found.coq)
    groups: dict[str, list[Claim]] = {}
    for claim in shown:
        groups.setdefault(GROUPS.get(claim.group, claim.group), []).append(claim)
    environment = Environment(
        loader=PackageLoader("bnjax.verify.page", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        formula=text.formula,
        statement=text.statement,
        code=text.code,
        commands=commands,
        shape_mark=shape_mark,
        shapes=SHAPES,
    )
    style = files("bnjax.verify.page").joinpath("page.css").read_text()
    return environment.get_template("page.html.jinja").render(
        style=Markup(style) + text.code_styles(),
        verify=found.verify,
        coq=found.coq,
        groups=groups,
        claims=shown,
        main=_main(shown),
        counts=counts(shown, found.coq),
        graph=graph(shown),
        results=results(found.tables, found.figures),
        trusted=said(shown, "Trusted"),
        trusted_files=text.markdown(found.trusted),
        not_covered=said(shown, "Not covered", "Outside the claim"),
        unproved=[c for c in shown if c.proof != "proved"],
    )


def _main(shown: Sequence[Claim]) -> Claim:
    """The last theorem of the chapter, which all the others lead to; the first claim where there is none."""
    theorems = [claim for claim in shown if claim.group == "theorems"]
    return theorems[-1] if theorems else shown[0]


def counts(shown: Sequence[Claim], coq: Any) -> dict[str, int]:
    """The numbers that the page opens with; a mistake that stands at two claims is one."""
    theorems = [claim for claim in shown if claim.group == "theorems"]
    mistakes = {tuple(m.values()): m for claim in shown for m in claim.row.get("mistakes", ())}.values()
    statuses = Counter(claim["status"] for claim in (coq or {}).get("claims", ()))
    return {
        "theorems": len(theorems),
        "theorems proved": sum(claim.proof == "proved" for claim in theorems),
        "claims": len(shown),
        "claims proved": sum(claim.proof == "proved" for claim in shown),
        "looked at": sum("checked" in claim.row for claim in shown),
        "checked": sum(bool(claim.row.get("checked")) for claim in shown),
        "scripts": statuses.total(),
        "scripts checked": statuses["checked"],
        "mistakes": len(mistakes),
        **{name: sum(bool(m[name]) for m in mistakes) for name in ("refused", "real", "refuted")},
    }
