"""What README shows is what happens: its examples are run, and what they print is compared."""

import doctest
import json
import re
from pathlib import Path

import pytest

import bnjax
from bnjax.train.seeds import Cell, headroom, recipes

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


class Outputs(doctest.OutputChecker):
    """Compares outputs but for times, which no two runs share; `...` stands for what was left out."""

    def check_output(self, want, got, flags):
        return super().check_output(timeless(want), timeless(got), flags | doctest.ELLIPSIS)


def timeless(text):
    """`text` with all seconds the same."""
    return re.sub(r" *\b\d+\.\d+ s\b", " 0.00 s", text)


def session():
    """README's examples, each on its line of README, as a reader types them one after the other."""
    parts = re.split(r"^```pycon\n(.*?)^```\n", README, flags=re.MULTILINE | re.DOTALL)
    return "".join(f"\n{part}\n" if k % 2 else "\n" * part.count("\n") for k, part in enumerate(parts))


def failures(text):
    """What doctest says of the examples in `text`, as it would print it; empty if all are as shown."""
    said = []
    examples = doctest.DocTestParser().get_doctest(text, {}, "README", "README.md", 0)
    assert examples.examples
    doctest.DocTestRunner(Outputs(), verbose=False).run(examples, out=said.append)
    return "".join(said)


@pytest.mark.thorough
def test_an_example_prints_what_is_shown():
    assert failures(session()) == ""


def test_all_examples_are_run_in_order():
    lines = README.split("\n")
    examples = [(k, line) for k, line in enumerate(session().split("\n")) if line.startswith(">>> ")]
    assert examples == [(k, line) for k, line in enumerate(lines) if line.startswith(">>> ")]


def test_another_output_would_not_pass():
    assert "Got:" in failures(">>> print('proved in 1.50 s')\nrefuted in 1.50 s\n")
    assert failures(">>> print('proved in 1.50 s')\nproved in 0.20 s\n") == ""


def test_the_statement_is_what_is_printed():
    (statement,) = re.findall(r"^```coq\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    theorem29 = next(theorem for theorem in bnjax.THEOREMS if theorem.op is bnjax.center)
    assert statement in bnjax.prove_vjp(theorem29.op, theorem29.primal, *theorem29.shapes).coq()


def test_its_numbers_are_those_of_results():
    page = re.sub("<.*?>", "", (ROOT / "results" / "page.html").read_text())
    found = (ROOT / "results" / "README.md").read_text() + page
    quoted = re.findall(r"\d+\.\d+ %|\d+ of \d+|\*\*\d\.\d+\*\*", README)
    assert len(quoted) > 10
    assert [number for number in quoted if number.strip("*") not in found] == []


def test_what_it_says_of_the_map_is_what_the_map_says():
    runs = recipes(json.loads((ROOT / "results" / "map" / "summary.json").read_text())["runs"])
    chapters = [row for row in runs["he", 0.9] if row["learning_rate"] == 0.1]
    batch, none = (Cell.of(row for row in chapters if row["norm"] == norm) for norm in ("batch", "none"))
    assert batch.outcomes == {"trained": 5}
    assert "trained" not in none.outcomes
    larger, without = headroom(runs["he", 0.9]), headroom(runs["he", 0.0])
    assert (larger.low, larger.high, len(larger.seeds)) == (without.low, without.high, len(without.seeds))
    glorot = [headroom(runs["glorot", momentum]) for momentum in (0.9, 0.0)]
    assert [len(found.seeds) for found in glorot] == [3, 3]
    told = [
        f"five seeds train with batch norm, and without it none: {none};",
        f"{larger.ratio:g} times as large with batch norm at momentum 0.9, {without.ratio:g} times at 0",
        f"(five seeds each, {100 * larger.confidence:.0f} % interval {larger.low:g} to {larger.high:g})",
        f"from Glorot's kernels {glorot[0].ratio:g} and {glorot[1].ratio:g} times (three seeds)",
    ]
    text = " ".join(README.split())
    assert [words for words in told if words not in text] == []


def test_every_block_is_run_here_or_is_the_two_commands():
    fences = re.findall(r"^```(\w*)$", README, re.MULTILINE)
    languages = fences[::2]
    assert languages[0] == "sh"
    assert sorted(languages[1:]) == ["coq"] + ["pycon"] * (len(languages) - 2)


def test_it_is_short():
    assert README.count("\n") < 150
