"""The figures' style: legible on a light page and on a dark one."""

import itertools
import re
from pathlib import Path

import pytest

from bnjax import figures

LIGHT, DARK = "#ffffff", "#0d1117"  # GitHub's pages
RESULTS = Path(__file__).parents[1] / "results"
SERIES = (figures.BLUE, figures.VERMILION, figures.GREEN, figures.PURPLE)


def luminance(color):
    """WCAG 2's relative luminance of #rrggbb."""
    linear = []
    for start in (1, 3, 5):
        c = int(color[start : start + 2], 16) / 255
        linear.append(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4)
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_wcags():
    assert contrast("#ffffff", "#000000") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("page", [LIGHT, DARK])
def test_what_is_drawn_stands_out_from_the_page(page):
    assert contrast(figures.INK, page) >= 4.3
    assert min(contrast(color, page) for color in SERIES) >= 3


def test_series_have_markers_of_their_own():
    cycle = list(itertools.islice(figures.STYLE["axes.prop_cycle"], 4))
    assert [series["color"] for series in cycle] == list(SERIES)
    assert len({series["marker"] for series in cycle}) == 4


@pytest.mark.parametrize("file", sorted(RESULTS.rglob("*.svg")), ids=lambda p: str(p.relative_to(RESULTS)))
def test_results_are_drawn_in_the_style(file):
    """Transparent, in the style's ink: nothing white is painted behind, and nothing is written in black."""
    text = file.read_text()
    assert figures.INK in text
    background = re.search(r'<g id="patch_1">\s*<path [^>]*style="([^"]*)"', text)
    assert "fill: none" in background[1] or "opacity: 0" in background[1]
    assert not re.search(r"<text[^>]*(#000000|black)", text)
