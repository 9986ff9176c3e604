"""The graph of the claims, in ranks, as inline SVG: shape, colour, sign and word say how each one stands."""

import textwrap
from collections.abc import Sequence
from graphlib import TopologicalSorter

from markupsafe import Markup

from bnjax.verify.page.claims import Claim

_WIDTH, _HEIGHT = 156, 66  # of a node
_ACROSS, _DOWN = 20, 44  # between nodes, and between ranks
_LETTERS = 19  # of a title's line


def graph(claims: Sequence[Claim]) -> Markup:
    """Each claim under all that it rests on, an arrow from each of them to it."""
    known = {claim.key: claim for claim in claims}
    ranks = _ranks(known)
    across = max(len(rank) for rank in ranks)
    width = across * (_WIDTH + _ACROSS) + _ACROSS
    at: dict[str, tuple[float, float]] = {}
    for row, rank in enumerate(ranks):
        free = (width - len(rank) * (_WIDTH + _ACROSS) + _ACROSS) / 2
        for column, key in enumerate(_ordered(rank, known, at)):
            at[key] = free + column * (_WIDTH + _ACROSS), _ACROSS / 2 + row * (_HEIGHT + _DOWN)
    height = len(ranks) * (_HEIGHT + _DOWN) - _DOWN + _ACROSS
    edges = [
        _edge(at[below], at[key]) for key, claim in known.items() for below in claim.rests_on if below in at
    ]
    nodes = [_node(known[key], *place) for key, place in at.items()]
    return Markup(
        f'<svg class="graph" viewBox="0 0 {width} {height}" role="group" '
        f'style="min-width:{0.8 * width:.0f}px;max-width:{width}px" '
        'aria-label="What rests on what, and how each claim stands">'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
    ) + Markup("").join([*edges, *nodes, Markup("</svg>")])


def _ranks(known: dict[str, Claim]) -> list[list[str]]:
    """The keys by the longest way down to what rests on nothing; CycleError if the claims go in a circle."""
    needs = {key: [name for name in claim.rests_on if name in known] for key, claim in known.items()}
    rank: dict[str, int] = {}
    for key in TopologicalSorter(needs).static_order():
        rank[key] = max((rank[name] + 1 for name in needs[key]), default=0)
    return [[key for key in known if rank[key] == level] for level in range(max(rank.values()) + 1)]


def _ordered(rank: list[str], known: dict[str, Claim], at: dict[str, tuple[float, float]]) -> list[str]:
    """Each near the middle of what it rests on; what rests on nothing stays where it is."""

    def middle(key: str) -> float:
        places = [at[name][0] for name in known[key].rests_on if name in at]
        return sum(places) / len(places) if places else rank.index(key) * 1e4

    return sorted(rank, key=middle)


def _edge(start: tuple[float, float], end: tuple[float, float]) -> Markup:
    x1, y1, x2, y2 = start[0] + _WIDTH / 2, start[1] + _HEIGHT, end[0] + _WIDTH / 2, end[1]
    bend = (y2 - y1) / 2
    path = f"M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}"
    return Markup('<path class="edge" d="{}" marker-end="url(#arrow)"/>').format(path)


def _outline(word: str, kind: str, x: float, y: float) -> Markup:
    """Rounded where it is proved, twice where a kernel checked it; cut off where it falls; else straight."""
    w, h = _WIDTH, _HEIGHT
    if kind == "bad":
        cut = 14
        across, down = w - 2 * cut, h - 2 * cut
        corners = f"l{cut} {cut}v{down}l{-cut} {cut}h{-across}l{-cut} {-cut}v{-down}z"
        return Markup('<path d="{}"/>').format(f"M{x + cut:g} {y:g}h{across}{corners}")
    box = Markup('<rect x="{:g}" y="{:g}" width="{}" height="{}" rx="{}"/>')
    radius = 12 if kind == "good" else 0
    outer = box.format(x, y, w, h, radius)
    return outer + box.format(x + 4, y + 4, w - 8, h - 8, radius - 4) if word == "kernel-checked" else outer


def _node(claim: Claim, x: float, y: float) -> Markup:
    mark = claim.standing
    lines = textwrap.wrap(claim.title, _LETTERS)[:2]
    middle = x + _WIDTH / 2
    first = y + (23 if len(lines) == 2 else 30)
    text = Markup("").join(
        Markup('<text x="{:g}" y="{:g}">{}</text>').format(middle, first + 14 * k, line)
        for k, line in enumerate(lines)
    )
    status = Markup('<text class="status" x="{:g}" y="{:g}">{} {}</text>').format(
        middle, y + _HEIGHT - 12, mark.sign, mark.word
    )
    return Markup('<a href="#{}" class="node {}" data-standing="{}" data-title="{}">{}{}{}</a>').format(
        claim.anchor, mark.kind, mark.word, claim.title, _outline(mark.word, mark.kind, x, y), text, status
    )
