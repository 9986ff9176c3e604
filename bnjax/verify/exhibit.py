"""What a claim is about, for whoever reads its verdict: its formula, its source lines, the program."""

import inspect
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

import bnjax
from bnjax.prove.tracing import parse_arguments, trace

_ROOT = Path(bnjax.__file__).resolve().parent.parent


def exhibit(claim: Any) -> dict[str, Any]:
    """The statement, the lines and the program of a claim, as plain JSON values.

    Args:
      claim: a `bnjax.Theorem` or a `bnjax.verify.lemmas.Lemma`.

    Returns:
      statement, hypotheses (LaTeX); shapes; code, a list of file, line and text; program, the jaxpr of the
      op's VJP at the claim's symbolic sizes, empty where it cannot be traced at them.
    """
    functions = getattr(claim, "code", ()) or tuple(rules(claim.op))
    return {
        "statement": claim.statement,
        "hypotheses": claim.hypotheses,
        "shapes": list(claim.shapes),
        "code": [_lines(function) for function in functions],
        "program": _program(claim),
    }


def rules(op: Callable[..., Any]) -> Iterator[Callable[..., Any]]:
    """The functions that the module of `op` gives to `jax.custom_vjp` and `jax.custom_jvp`, each once."""
    seen = set()
    for value in vars(sys.modules[op.__module__]).values():
        if isinstance(value, (jax.custom_vjp, jax.custom_jvp)):
            for name in ("fun", "fwd", "bwd", "jvp"):
                function = getattr(value, name, None)
                if function is not None and function not in seen:
                    seen.add(function)
                    yield function


def _lines(function: Callable[..., Any]) -> dict[str, Any]:
    lines, first = inspect.getsourcelines(function)
    file = Path(str(inspect.getsourcefile(function))).resolve().relative_to(_ROOT)
    return {"file": file.as_posix(), "line": first, "text": "".join(lines)}


def _program(claim: Any) -> str:
    try:
        arguments = parse_arguments(claim.primal, claim.shapes, claim.positive)
        return str(trace(claim.op, claim.primal, arguments).op_vjp)
    except Exception:  # the prover's verdict says why
        return ""
