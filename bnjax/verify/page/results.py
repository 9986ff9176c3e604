"""The figures and the tables of results/, brought together by the folder or the file they are of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

from bnjax.figures import INK
from bnjax.verify.page.text import markdown

_LONG = 22  # lines of a table that are not shown until they are asked for


@dataclass(frozen=True)
class Result:
    """A section of results/README.md with the figures that show the same numbers.

    Attributes:
      title, anchor: what it is called, and where it stands on the page.
      table: what stands under the heading.
      long: whether that is more than one wants to see at once.
      figures: the file, and what is drawn in it.
    """

    title: str
    anchor: str
    table: Markup
    long: bool
    figures: tuple[tuple[str, Markup], ...]


def results(tables: str, figures: Mapping[str, str]) -> list[Result]:
    """The sections in their order; then what figures none of them speaks of, together."""
    sections = re.findall(r"^## (.*?)\n(.*?)(?=^## |\Z)", tables, re.DOTALL | re.MULTILINE)
    left = dict(figures)
    found = []
    for heading, text in sections:
        title = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading)
        mine = [file for file in left if _speaks_of(title, file)]
        drawn = tuple((file, inline(file, left.pop(file))) for file in mine)
        found.append(Result(title, _anchor(title), markdown(text), text.count("\n|") > _LONG, drawn))
    if left:
        others = tuple((file, inline(file, text)) for file, text in left.items())
        found.append(Result("Other figures", _anchor("Other figures"), Markup(""), False, others))
    return found


def _speaks_of(title: str, file: str) -> bool:
    """A section is of a folder of that name, or of the file that `bnjax bench` draws for it."""
    folder, _, name = file.rpartition("/")
    words = title.lower().split()
    return title == folder or any(name in (f"bench_{word}.svg", f"bench_{word}s.svg") for word in words)


def _anchor(title: str) -> str:
    return "result-" + "-".join(re.findall(r"\w+", title.lower()))


def inline(file: str, svg: str) -> Markup:
    """An SVG to stand in the page: its ids its own, its ink the page's, its size the column's."""
    prefix = "-".join(re.findall(r"\w+", file)) + "-"
    body = svg[svg.index("<svg") :]
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r'\bid="', f'id="{prefix}', body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}", body)
    body = body.replace(INK, "currentColor")
    head, _, rest = body.partition(">")
    head = re.sub(r'\s(width|height|xmlns\S*)="[^"]*"', "", head)
    return Markup(f'{head} class="figure" role="img" aria-label="{file}">{rest}'.strip())
