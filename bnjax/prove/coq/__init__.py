"""The claim of `prove_vjp` and its proof, as a Coq script that an independent kernel checks."""

from bnjax.prove.coq.coqc import Outcome, check, compile_library, library, write_project
from bnjax.prove.coq.statement import pushforward_script, script

__all__ = ["Outcome", "check", "compile_library", "library", "pushforward_script", "script", "write_project"]
