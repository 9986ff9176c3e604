"""One style for every figure of the project, read on a light page and on a dark one.

A figure is drawn on nothing: what is behind it shows through.  Its ink and its colours stand out at least 3:1
(WCAG 2's mark for graphics) from white and from a dark page alike, the ink 4.3:1.  The colours are Okabe and
Ito's, told apart by colour-blind readers (Wong 2011, "Points of view: Color blindness"), the blue made
lighter; and since print has none of them, each series has a marker of its own too.
"""

from typing import Any

from cycler import cycler

INK = "#757a80"  # axes and words; a page that knows its own colour puts that in its place
BLUE, VERMILION, GREEN, PURPLE = "#2a7fc0", "#d55e00", "#009e73", "#cc79a7"
MISSING = "#c3c7cb"  # a cell without a number

STYLE: Any = {
    # the salt makes the SVG the same file each time it is drawn from the same numbers
    "svg.hashsalt": "bnjax",
    "svg.fonttype": "none",
    "savefig.transparent": True,
    "font.size": 11,
    "axes.titlesize": 11,
    "figure.titlesize": 12,
    **dict.fromkeys(
        ("text.color", "axes.edgecolor", "axes.labelcolor", "axes.titlecolor", "xtick.color", "ytick.color"),
        INK,
    ),
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": cycler(color=[BLUE, VERMILION, GREEN, PURPLE], marker=["o", "s", "^", "D"]),
    "axes.axisbelow": True,
    "grid.color": INK,
    "grid.alpha": 0.25,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
    "legend.frameon": False,
}
"""What `matplotlib.rc_context` is given around the drawing of a figure, and around its saving."""
