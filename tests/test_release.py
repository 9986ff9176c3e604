"""What a release says of itself is the same everywhere; .ci/release builds one and tries it."""

import re
from pathlib import Path

import bnjax

ROOT = Path(__file__).parents[1]


def test_the_version_and_its_date_are_the_same_everywhere():
    newest = re.search(r"^## (\S+) \((\S+)\)$", (ROOT / "CHANGELOG.md").read_text(), re.M)
    cited = (ROOT / "CITATION.cff").read_text()
    assert newest is not None
    assert newest[1] == bnjax.__version__
    assert f"\nversion: {newest[1]}\n" in cited
    assert f"\ndate-released: {newest[2]}\n" in cited
