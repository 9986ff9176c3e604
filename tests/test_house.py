"""The house: arrows point one way, and the map that a newcomer reads is true."""

import ast
import graphlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "bnjax").rglob("*.py"))
}
FOLDERS = sorted({path.parent.relative_to(ROOT) for path in FILES.values()})


def imports(module):
    """The project's modules that a module names in its imports, at any depth, TYPE_CHECKING included."""
    for node in ast.walk(ast.parse(FILES[module].read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in FILES)
        elif isinstance(node, ast.ImportFrom):
            inner = (f"{node.module}.{alias.name}" for alias in node.names)
            yield from (name if name in FILES else str(node.module) for name in inner)


ARROWS = {module: {name for name in imports(module) if name in FILES} - {module} for module in FILES}


def room(module):
    """The folder of the package that a module lies in, or its own name at the top."""
    return ".".join(module.split(".")[:2])


def test_there_is_no_circle():
    tuple(graphlib.TopologicalSorter(ARROWS).static_order())  # CycleError names one


def test_folders_have_no_circle_either():
    rooms = {}
    for module, names in ARROWS.items():
        if module != "bnjax":  # the front door opens on rooms that need none of it
            others = {room(name) for name in names if name != "bnjax"} - {room(module)}
            rooms.setdefault(room(module), set()).update(others)
    tuple(graphlib.TopologicalSorter(rooms).static_order())


@pytest.mark.parametrize(
    ("inside", "allowed"),
    [
        ("bnjax.theorems", set()),
        ("bnjax.jaxprs", set()),
        ("bnjax.check", {"bnjax.jaxprs", "bnjax.errors"}),
        ("bnjax.prove", {"bnjax.jaxprs", "bnjax.errors"}),
        ("bnjax.ops", {"bnjax.theorems"}),
        ("bnjax.nn", {"bnjax.theorems", "bnjax.ops"}),
        ("bnjax.figures", set()),
    ],
)
def test_arrows_point_one_way(inside, allowed):
    found = {room(name) for module in FILES if room(module) == inside for name in ARROWS[module]}
    assert found - {inside} <= allowed


def test_the_page_makes_no_verdict():
    """It knows files, and no verifier."""
    pages = {module for module in FILES if module.startswith("bnjax.verify.page")}
    assert {name for module in pages for name in ARROWS[module]} - pages <= {"bnjax.figures", "bnjax.errors"}


@pytest.mark.parametrize("folder", FOLDERS, ids=str)
def test_a_folder_says_what_it_is(folder):
    path = ROOT / folder / "__init__.py"
    assert path.exists()
    assert ast.get_docstring(ast.parse(path.read_text()))


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_what_a_page_points_to_is_there(page):
    text = (ROOT / page).read_text()
    targets = {t.split("#")[0] for t in re.findall(r"\]\(([^)\s]+)\)", text)}
    missing = [t for t in targets if t and not t.startswith("http") and not (ROOT / t).exists()]
    assert not missing


def test_the_map_names_every_folder():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    shown = text[text.index("## The rooms") : text.index("## Where a new thing goes")]
    assert [str(f) for f in FOLDERS if len(f.parts) == 2 and f"({f})" not in shown] == []


def test_the_front_door_needs_jax_alone():
    code = "import sys, jax; before = set(sys.modules); import bnjax; print(*set(sys.modules) - before)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    heavier = (
        "flax",
        "optax",
        "orbax",
        "matplotlib",
        "typer",
        "rich",
        "flint",
        "jinja2",
        "latex2mathml",
        "pygments",
        "tensorflow_datasets",
        "numba",
    )
    assert not [name for name in done.stdout.split() if name.split(".")[0] in heavier]
