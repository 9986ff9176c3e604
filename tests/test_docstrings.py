"""What is public says what it is: every parameter by name, and an example that runs as it is printed."""

import doctest
import importlib
import inspect
import re

import pytest

import bnjax

# `bnjax.ops.cpu` stands for `bnjax.ops` under the same names, and is compiled at its first use
MODULES = (
    "bnjax",
    "bnjax.check",
    "bnjax.prove",
    "bnjax.theorems",
    "bnjax.ops",
    "bnjax.nn.nnx",
    "bnjax.nn.linen",
    "bnjax.nn.torch",
    "bnjax.models",
    "bnjax.data",
    "bnjax.data.synthetic",
)
FURTHER = ("bnjax.train.load", "bnjax.train.config.Config")


def public(module):
    """The functions and classes of a module's `__all__`, or those that it defines; each by its first name."""
    defined = [
        name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__
    ]
    names = getattr(module, "__all__", [name for name in defined if not name.startswith("_")])
    values = {name: getattr(module, name) for name in names}
    return {n: v for n, v in values.items() if inspect.isfunction(v) or inspect.isclass(v)}


def reference():
    found = {}
    for module in MODULES:
        for name, value in public(importlib.import_module(module)).items():
            found.setdefault(value, f"{module}.{name}")
    for path in FURTHER:
        module, _, name = path.rpartition(".")
        found[getattr(importlib.import_module(module), name)] = path
    return {path: value for value, path in found.items()}


REFERENCE = reference()
named = pytest.mark.parametrize("path", REFERENCE)


def test_the_reference_holds_what_the_front_door_does():
    names = {name for name in bnjax.__all__ if callable(getattr(bnjax, name))}
    assert {f"bnjax.{name}" for name in names} <= set(REFERENCE)
    assert {"bnjax.nn.nnx.BatchNorm", "bnjax.ops.conv", "bnjax.train.load"} <= set(REFERENCE)


def examples(path, value):
    """The docstrings with examples, its own and its methods'; what they use they import."""
    return doctest.DocTestFinder().find(value, path, globs={})


def run(tests):
    """What doctest says of examples that print something else than they say."""
    said = []
    for test in tests:
        doctest.DocTestRunner(verbose=False).run(test, out=said.append)
    return "".join(said)


@pytest.mark.family
@named
def test_it_has_an_example_that_runs_as_printed(path):
    tests = examples(path, REFERENCE[path])
    assert path in [test.name for test in tests], f"{path} has no example"
    assert not any(doctest.SKIP in example.options for test in tests for example in test.examples)
    wrong = run(tests)
    assert not wrong, wrong


@pytest.mark.parametrize("path", [path for path, value in REFERENCE.items() if inspect.isfunction(value)])
def test_it_names_every_parameter(path):
    words = set(re.findall(r"\w+", inspect.getdoc(REFERENCE[path]) or ""))
    unnamed = set(inspect.signature(REFERENCE[path]).parameters) - words
    assert not unnamed, f"{path} does not say what {sorted(unnamed)} are"


def test_an_example_that_prints_something_else_is_seen():
    class Wrong:
        """
        >>> import jax.numpy as jnp
        >>> print(jnp.ones(2))
        [1. 1.]
        """

        def method(self):
            """
            >>> print(jnp.ones(2))
            [1. 1.]
            """

    said = run(examples("Wrong", Wrong))
    assert "Failed example" in said
    assert "in Wrong.method" in said  # jnp is not imported there
    assert "in Wrong\n" not in said
