"""What README shows is what happens: its examples are run, and what they print is compared."""

import doctest
import re
from pathlib import Path
from typing import NamedTuple

import pytest

import bnjax

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()


class Block(NamedTuple):
    """A fenced block: its language, its text and the line of README that it begins on."""

    language: str
    text: str
    line: int


class Outputs(doctest.OutputChecker):
    """Compares outputs but for times, which no two runs share; `...` stands for what was left out."""

    def check_output(self, want, got, flags):
        return super().check_output(timeless(want), timeless(got), flags | doctest.ELLIPSIS)


def timeless(text):
    """`text` with all seconds the same."""
    return re.sub(r"\b\d+\.\d+ s\b", "0.00 s", text)


def blocks(*languages):
    """README's fenced blocks in these languages."""
    found = re.finditer(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
    made = [Block(m[1], m[2], README[: m.start()].count("\n") + 2) for m in found]
    return [pytest.param(block, id=f"line {block.line}") for block in made if block.language in languages]


def failures(text, namespace=None):
    """What doctest says of the examples in `text`, as it would print it; empty if all are as shown."""
    said = []
    examples = doctest.DocTestParser().get_doctest(text, namespace or {}, "README", "README.md", 0)
    assert examples.examples
    doctest.DocTestRunner(Outputs(), verbose=False).run(examples, out=said.append)
    return "".join(said)


@pytest.mark.parametrize("block", blocks("pycon"))
def test_an_example_prints_what_is_shown(block):
    assert failures(block.text) == ""


def test_another_output_would_not_pass():
    assert "Got:" in failures(">>> print('proved in 1.50 s')\nrefuted in 1.50 s\n")
    assert failures(">>> print('proved in 1.50 s')\nproved in 0.20 s\n") == ""


@pytest.mark.parametrize("block", blocks("coq"))
def test_the_statement_is_what_is_printed(block):
    theorem34 = bnjax.THEOREMS[-1]
    proof = bnjax.prove_vjp(theorem34.op, theorem34.primal, *theorem34.shapes, positive=theorem34.positive)
    assert block.text in proof.coq()


def test_every_block_is_run_here_or_is_the_two_commands():
    fences = re.findall(r"^```(\w*)$", README, re.MULTILINE)
    languages = fences[::2]
    assert languages[0] == "sh"
    assert sorted(languages[1:]) == ["coq"] + ["pycon"] * (len(languages) - 2)


def test_it_is_short():
    assert README.count("\n") < 180  # 26 of them the statement in Coq
