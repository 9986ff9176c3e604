"""Every notebook runs from top to bottom, says what that takes, and is committed with its outputs."""

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
each = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path, kind):
    return [cell for cell in nbformat.read(path, as_version=4).cells if cell.cell_type == kind]


def test_there_are_notebooks():
    assert {
        "batch_norm_in_your_network",
        "check_your_own_vjp",
        "prove_your_own_vjp",
        "theorems",
    } <= {path.stem for path in NOTEBOOKS}


@pytest.mark.thorough
@each
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # this bnjax, wherever another is installed
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=300, kernel_name="python3", resources={"metadata": {"path": tmp_path}}
    )
    client.execute()  # raises at the first cell that does


@each
def test_is_committed_as_it_ran(path):
    ran = cells(path, "code")
    assert [cell.execution_count for cell in ran] == list(range(1, len(ran) + 1))
    outputs = [output for cell in ran for output in cell.outputs]
    assert not [output for output in outputs if output.get("name") == "stderr"]  # no warnings
    assert any("image/png" in output.get("data", {}) for output in outputs)  # pictures


@each
def test_begins_with_what_it_takes_to_run_it(path):
    assert "bnjax[notebooks]" in cells(path, "markdown")[0].source


@each
def test_what_it_points_to_is_there(path):
    for cell in cells(path, "markdown"):
        for target in cell.source.split("](")[1:]:
            target = target.split(")")[0]
            assert target.startswith("http") or (path.parent / target).exists(), target
