"""The claim of `prove_vjp` and its proof, as a Coq script that an independent kernel checks."""

from bnjax.prove.coq.coqc import AXIOMS, Outcome, check, compile_library, library, version, write_project
from bnjax.prove.coq.statement import pushforward_script, script

__all__ = [
    "AXIOMS",
    "Outcome",
    "check",
    "compile_library",
    "library",
    "pushforward_script",
    "script",
    "version",
    "write_project",
]
