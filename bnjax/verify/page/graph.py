"""The graph of the claims, in ranks, as inline SVG: shape, colour, sign and word say how each one stands."""

import textwrap
from collections.abc import Sequence
from graphlib import TopologicalSorter
from itertools import pairwise

from markupsafe import Markup

from bnjax.verify.page.claims import Claim

_WIDTH, _HEIGHT = 156, 66  # of a node
_LANE = 14  # of the way that an arrow takes past a rank
_ACROSS, _DOWN = 20, 44  # between nodes, and between ranks
_LETTERS = 18  # of a title's line

Step = tuple[str, ...]  # a claim's key alone; or an arrow's two ends and the rank that it passes
Place = tuple[float, float]  # the middle of the upper edge


def graph(claims: Sequence[Claim]) -> Markup:
    """Each claim under all that it rests on, an arrow from each of them to it."""
    known = {claim.key: claim for claim in claims}
    level = _levels(known)
    arrows = [
        [(below,), *((below, key, str(k)) for k in range(level[below] + 1, level[key])), (key,)]
        for key, claim in known.items()
        for below in claim.rests_on
        if below in known
    ]
    ranks: list[list[Step]] = [[] for _ in range(max(level.values()) + 1)]
    for key, rank in level.items():
        ranks[rank].append((key,))
    for steps in arrows:
        for step in steps[1:-1]:
            ranks[int(step[2])].append(step)
    at, width = _places(ranks, arrows)
    height = len(ranks) * (_HEIGHT + _DOWN) - _DOWN + _ACROSS
    edges = [_edge([at[step] for step in steps]) for steps in arrows]
    nodes = [_node(known[key], at[key,][0] - _WIDTH / 2, at[key,][1]) for key in known]
    return Markup(
        f'<svg class="graph" viewBox="0 0 {width:g} {height:g}" role="group" '
        f'style="min-width:{0.8 * width:.0f}px;max-width:{width:g}px" '
        'aria-label="What rests on what, and how each claim stands">'
        '<defs><marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z"/></marker></defs>'
    ) + Markup("").join([*edges, *nodes, Markup("</svg>")])


def _levels(known: dict[str, Claim]) -> dict[str, int]:
    """The longest way from each claim to one that rests on nothing; CycleError if they go in a circle."""
    needs = {key: [name for name in claim.rests_on if name in known] for key, claim in known.items()}
    level: dict[str, int] = {}
    for key in TopologicalSorter(needs).static_order():
        level[key] = max((level[name] + 1 for name in needs[key]), default=0)
    return {key: level[key] for key in known}


def _places(ranks: list[list[Step]], arrows: list[list[Step]]) -> tuple[dict[Step, Place], float]:
    """Where everything stands, near the middle of what leads to it, and the width of it all."""
    before: dict[Step, list[Step]] = {}
    for steps in arrows:
        for first, second in pairwise(steps):
            before.setdefault(second, []).append(first)
    widths = [sum(_width(step) + _ACROSS for step in rank) - _ACROSS for rank in ranks]
    whole = max(widths) + 2 * _ACROSS
    at: dict[Step, Place] = {}
    for row, (rank, width) in enumerate(zip(ranks, widths, strict=True)):

        def middle(step: Step) -> float:
            return (
                sum(at[first][0] for first in before[step]) / len(before[step]) if step in before else whole
            )

        x = (whole - width) / 2
        for step in sorted(rank, key=middle):  # what rests on nothing last, in its order
            at[step] = x + _width(step) / 2, _ACROSS / 2 + row * (_HEIGHT + _DOWN)
            x += _width(step) + _ACROSS
    return at, whole


def _width(step: Step) -> int:
    return _WIDTH if len(step) == 1 else _LANE


def _edge(places: list[Place]) -> Markup:
    """Down from the first, straight past each rank between, to the last."""
    (x, y), *rest = places
    path = f"M{x:g} {y + _HEIGHT:g}"
    for number, (x2, y2) in enumerate(rest, 1):
        y1 = y2 - _DOWN
        path += f"C{x:g} {y1 + _DOWN / 2:g} {x2:g} {y1 + _DOWN / 2:g} {x2:g} {y2:g}"
        path += f"v{_HEIGHT}" if number < len(rest) else ""
        x = x2
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
