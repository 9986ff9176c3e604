"""The page: every status is the file's own, and a browser shows it whole."""

import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import pytest

from bnjax import figures
from bnjax.theorems import THEOREMS
from bnjax.verify.lemmas import LEMMAS
from bnjax.verify.page import Found, build, read
from bnjax.verify.page.build import counts
from bnjax.verify.page.claims import claims
from bnjax.verify.page.found import section
from bnjax.verify.page.graph import graph
from bnjax.verify.page.results import results
from bnjax.verify.page.text import formula, statement
from tests.verify.page.browser import CHROMIUM, browser
from tests.verify.page.small import COQ, FOUND, SVG, VERIFY, row

RESULTS = Path(__file__).parents[3] / "results"
needs_results = pytest.mark.skipif(
    not (RESULTS / "page.html").exists(),
    reason="no results/page.html: bnjax verify --json FILE, then bnjax page --out FILE, in results/",
)
PAGES = pytest.mark.parametrize("name", ["small", pytest.param("results", marks=needs_results)])


class Reader(HTMLParser):
    """Ids, targets, marks by claim and fact, what is loaded, and what is left open at the end."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.targets, self.marks, self.loaded, self.open = [], [], {}, [], []
        self.key = None
        self.words = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)
        if "id" in found:
            self.ids.append(found["id"])
        target = found.get("href") or found.get("xlink:href") or ""
        if target.startswith("#"):
            self.targets.append(target[1:])
        elif target:
            self.loaded.append(target)
        self.loaded += [found["src"]] if "src" in found else []
        if "data-fact" in found:
            self.key = found["data-claim"], found["data-fact"]
            self.marks.setdefault(self.key, [])

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in ("meta", "br", "img", "link"):
            self.handle_endtag(tag)

    def handle_data(self, data):
        self.words.append(data)
        if self.key:
            self.marks[self.key].append(data)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        self.key = None


@pytest.fixture(scope="module")
def small():
    return build(FOUND)


def test_every_status_is_the_files_own(small):
    marks = Reader(small).marks

    def said(key, fact):
        (word,) = {text.strip() for text in marks[key, fact]}
        return word

    for found in (*VERIFY["theorems"], *VERIFY["lemmas"]):
        key = found["name"] if found["number"] is None else str(found["number"])
        assert said(key, "proof").split()[1] == found["proof"]
        assert said(key, "check") == ("✓ ok" if found["checked"] else "✗ WRONG")
        assert said(key, "mistakes").endswith(f"{found['refused']} of {found['mutants']} refused")
    assert said("a network", "proof") == "◐ conditional"
    assert said("a network", "planted") == "✓ refuted"
    assert said("another", "proof") == "✓ proved"
    assert said("1", "coq n C") == "✓ checked"
    assert said("3", "coq n C") == "✗ refused"
    assert said("3", "coq") == "✗ 1 of 2 refused"


def test_a_bound_that_is_infinite_is_none():
    found = {"theorems": [row(1, "one", rounding=float("inf"))]}
    assert claims(found, None)[0].rounding is None


def test_a_mistake_at_two_claims_is_counted_once():
    """And one that lives is counted as it is, though its row's own numbers say another thing."""
    lives = VERIFY["theorems"][0]["mistakes"][0] | {"name": "lives", "refused": False, "refuted": False}
    found = claims({"theorems": [*VERIFY["theorems"], row(9, "another", mistakes=[lives])]}, None)
    numbers = counts(found, None)
    assert [numbers[name] for name in ("mistakes", "refused", "real", "refuted")] == [2, 1, 2, 1]


def test_a_claim_stands_as_its_weakest_fact_lets_it():
    standing = {claim.title: claim.standing.word for claim in claims(VERIFY, COQ)}
    assert standing == {
        "1 the first": "kernel-checked",
        "2 the second": "proved",
        "3 a wrong one": "falls",
        "4 one whose mistakes live": "falls",
        "a conditional one": "conditional",
        "an unread one": "only checked",
        "a network": "conditional",
        "another": "proved",
    }


@pytest.mark.parametrize("status", ["refused", "not installed"])
def test_one_script_that_coq_did_not_check_is_enough(status):
    first = next(claim for claim in COQ["claims"] if claim["title"] == "1 the first")
    others = [claim for claim in COQ["claims"] if claim is not first]
    changed = COQ | {"claims": [first | {"status": status}, *others]}
    standing = claims(VERIFY, changed)[0].standing.word
    assert standing == {"refused": "falls", "not installed": "proved"}[status]


def test_it_stands_alone(small):
    """It loads nothing and runs nothing; every anchor is there, once; what is quoted is quoted."""
    seen = Reader(small)
    assert seen.loaded == seen.open == []
    assert len(seen.ids) == len(set(seen.ids))
    assert set(seen.targets) <= set(seen.ids)
    assert {"map", "claims", "trust", "unproved", "results"} <= set(seen.targets)
    assert "<script" not in small
    assert not re.search(r"url\((?!#)|@import", small)
    words = "".join(seen.words)
    assert "dy = [0, -6] <& more" in words
    assert "Theorem vjp" in words
    for said in ("JAX's tracing", "rounding", "all else", "Σ w ≠ 0", "iota: not modelled", "0123456789ab"):
        assert said in words


def test_figures_stand_beside_their_numbers(small):
    lift = small[small.index('id="result-lift"') : small.index('id="result-memory"')]
    assert "<svg" in lift
    assert "0.929" in lift
    assert 'id="lift-lift-svg-m"' in lift
    assert 'href="#lift-lift-svg-m"' in lift
    assert figures.INK not in small
    assert 'id="odd-svg-m"' in small[small.index('id="result-other-figures"') :]
    assert "elsewhere.md" not in small


def test_a_benchs_figure_stands_at_its_table():
    tables = "## The whole training step\n\n| a |\n|---|\n\n## Precision\n\n| b |\n|---|\n"
    svgs = {"bench_precision.svg": SVG, "bench_steps.svg": SVG}
    found = {result.title: [file for file, _ in result.figures] for result in results(tables, svgs)}
    assert found == {"The whole training step": ["bench_steps.svg"], "Precision": ["bench_precision.svg"]}


def test_it_is_the_same_page_of_the_same_files(small):
    assert build(FOUND) == small


def test_what_only_verify_found_is_a_page_too():
    seen = Reader(build(Found(VERIFY)))
    assert set(seen.targets) <= set(seen.ids)
    assert "results" not in seen.ids


@pytest.mark.parametrize("claim", [*THEOREMS, *LEMMAS], ids=lambda claim: claim.name)
def test_every_statement_is_mathml(claim):
    for latex in (claim.statement, claim.hypotheses):
        made = formula(latex)
        assert made.startswith("<math")
        assert "\\" not in made  # a command that the library does not know stays as it is


def test_equations_of_a_statement_are_set_one_by_one():
    made = statement(r"a = b,\quad c = d")
    words = [unescape(re.sub("<.*?>", "", line)) for line in made.split("\n")]
    assert words == ["a=b,", "c=d"]


def test_a_word_is_one_identifier():
    assert "<mi>istd</mi>" in formula(r"\mathrm{istd}^2")


def test_claims_in_a_circle_are_no_graph():
    circle = {"theorems": [row(1, "one", rests_on=["2"]), row(2, "two", rests_on=["1"])]}
    with pytest.raises(ValueError, match="cycle"):
        graph(claims(circle, None))


def test_a_section_ends_where_the_next_begins():
    text = "# A\n\n## One\nfirst\n### deeper\nsecond\n\n## Two\nthird\n"
    assert section(text, "One") == "first\n### deeper\nsecond"
    assert section(text, "Two") == "third"
    assert section(text, "Three") == ""


@needs_results
def test_the_command(bnjax_command, tmp_path):
    code, out, err = bnjax_command("page", "--out", tmp_path / "page.html", "--results", RESULTS)
    assert (code, err) == (0, "")
    assert out == f"written: {tmp_path / 'page.html'}\n"
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_the_command_says_what_is_missing(bnjax_command, tmp_path):
    code, _, err = bnjax_command("page", "--out", tmp_path / "page.html", "--results", tmp_path)
    assert code == 2
    assert "verify.json is missing: bnjax verify --json" in err
    (tmp_path / "verify.json").write_text("{}")
    assert (
        "write it again" in bnjax_command("page", "--out", tmp_path / "page.html", "--results", tmp_path)[2]
    )
    (tmp_path / "verify.json").write_text("{")
    assert "is no JSON" in bnjax_command("page", "--out", tmp_path / "page.html", "--results", tmp_path)[2]
    code, _, err = bnjax_command("page", "--out", tmp_path / "nowhere" / "page.html", "--results", RESULTS)
    assert (code, "cannot be written" in err) == (2, True)


@needs_results
def test_the_committed_page_says_what_the_committed_files_say():
    text = (RESULTS / "page.html").read_text()
    marks = Reader(text).marks
    assert marks == Reader(build(read(RESULTS))).marks, "bnjax page --out results/page.html"
    assert len(marks) > 4 * len(THEOREMS)
    assert len(text.encode()) < 1_500_000


@pytest.fixture(scope="module")
def shown(tmp_path_factory, small):
    """The browser, and the pages that it is asked about."""
    if CHROMIUM is None:
        pytest.skip("no Chromium: apt-get install chromium")
    folder = tmp_path_factory.mktemp("pages")
    (folder / "small.html").write_text(small)
    with browser() as opened:
        yield opened, {"small": folder / "small.html", "results": RESULTS / "page.html"}


SPILLS = """
[...document.querySelectorAll("body *")].filter(e => {
  const box = e.getBoundingClientRect();
  if (!box.width || e.closest("svg") !== null && e.tagName !== "svg") return false;
  for (let a = e; a !== document.body; a = a.parentElement)
    if (a !== e && /auto|scroll/.test(getComputedStyle(a).overflowX)) return false;
  return box.right > document.documentElement.clientWidth + 1 || box.left < -1;
}).map(e => e.outerHTML.slice(0, 80))
"""
CONTRAST = """
(() => {
  const rgb = c => c.match(/[\\d.]+/g).map(Number);
  const light = c => {
    const [r, g, b] = rgb(c).map(v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = e => {
    for (; e; e = e.parentElement) {
      const c = rgb(getComputedStyle(e).backgroundColor);
      if (c.length === 3 || c[3] > 0) return getComputedStyle(e).backgroundColor;
    }
    return "rgb(255, 255, 255)";
  };
  const worst = {};
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const e = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || e.closest("svg")) continue;
    const [a, b] = [light(getComputedStyle(e).color), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) worst[e.outerHTML.slice(0, 80)] = ratio;
  }
  return worst;
})()
"""


@PAGES
def test_a_browser_shows_it_whole(shown, name):
    """At a phone's, a tablet's and a desk's width: nothing beyond the edge, open or shut."""
    opened, pages = shown
    opened.open(pages[name])
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    for width in (390, 820, 1440):
        opened.look(width)
        assert opened.evaluate("document.documentElement.scrollWidth") == width
        assert opened.evaluate(SPILLS) == []


@needs_results
def test_what_is_seen_first_is_what_is_claimed_why_and_what_must_be_trusted(shown):
    """All of it on a tablet and on a desk; on a phone the formula is not cut, and the reasons begin."""
    opened, pages = shown
    opened.open(pages["results"])
    below = "[...document.querySelectorAll('.first > div')].map(e => e.getBoundingClientRect().bottom)"
    for width in (820, 1440):
        opened.look(width)
        assert max(opened.evaluate(below)) <= opened.evaluate("innerHeight")
    opened.look(390)
    assert opened.evaluate("(e => e.scrollWidth - e.clientWidth)(document.querySelector('.formula'))") == 0
    assert opened.evaluate("document.querySelector('.reasons').getBoundingClientRect().top < innerHeight")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@PAGES
def test_every_word_stands_out(shown, name, scheme):
    """4.5:1 at least, WCAG 2's mark for text, on a light page and on a dark one."""
    opened, pages = shown
    opened.open(pages[name])
    opened.look(820, scheme)
    dark = opened.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 24)"
    assert dark == (scheme == "dark")
    assert opened.evaluate(CONTRAST) == {}


def test_the_browser_notices_what_is_wrong(shown, tmp_path):
    """Of the two measures above, that they can fail."""
    opened, _ = shown
    wrong = (
        '<body style="margin:0;background:#fff"><p style="width:900px;color:#999">wide and pale</p></body>'
    )
    phone = '<meta name="viewport" content="width=device-width">'
    (tmp_path / "wrong.html").write_text(f"<!doctype html>{phone}{wrong}")
    opened.open(tmp_path / "wrong.html")
    opened.look(390)
    assert opened.evaluate("document.documentElement.scrollWidth") == 900
    assert len(opened.evaluate(SPILLS)) == 1
    assert len(opened.evaluate(CONTRAST)) == 1
