"""The pages of results/ say what its files say."""

from pathlib import Path

from experiments import tables

ROOT = Path(__file__).resolve().parent.parent


def test_the_page_of_results_is_made_from_the_files():
    assert (ROOT / "results" / "README.md").read_text() == tables.page()
