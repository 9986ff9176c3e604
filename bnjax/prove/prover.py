"""Is the hand VJP of `op` the VJP of `primal`, for every size and every real input?"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from bnjax.errors import one_line
from bnjax.prove.algebra import Outside
from bnjax.prove.arrays import Array, finite
from bnjax.prove.counterexample import find_counterexample
from bnjax.prove.derivation import Derivation, derive
from bnjax.prove.field import Field, Obligation
from bnjax.prove.interpreter import Refusal
from bnjax.prove.proof import TRACED_SIZES, Proof, claim
from bnjax.prove.tracing import Argument, parse_arguments, trace, without_custom_rules

_UNSEEN = (
    "evaluated exactly, {} differs, but in float64 it does not: is a quotient written as a rounded literal, "
    "or is there a branch on the dtype, or on whether values are traced?"
)
_DUALITY = "⟨dy, Jv⟩ = ⟨VJP(dy), v⟩"


def prove_vjp(
    op: Callable,
    primal: Callable,
    *shapes: str,
    positive: Sequence[int] = (),
    timeout: float = 60.0,
) -> Proof:
    """Prove that the hand VJP of `op` is the VJP of `primal`, for all sizes and real inputs; or refute it.

    Both are traced to jaxprs, at symbolic sizes where `shapes` has letters, and interpreted exactly over
    the reals.  Three things are shown: the values of op and primal are equal; every cotangent that the
    hand VJP returns equals JAX's autodiff of primal; and ⟨dy, Jv⟩ = ⟨VJP(dy), v⟩, with Jv taken from the
    definition of the derivative, so that JAX's differentiation rules are not trusted.  Where sizes are
    symbolic, the programs that JAX traces at sizes 1, 2, 3 and 5 are proved too: `if n == 1` is another
    program there, and JAX takes it to be false of a symbol.

    Args:
      op: a function with a hand VJP, of float arrays.
      primal: the same function in plain JAX.
      *shapes: one for each argument, sizes separated by spaces: "n", "N H W C", "7 C", "" for a scalar.
        Equal letters are equal sizes ≥ 1.  "2*K" is an axis of 2·K that the program splits into (2, K).
        "bool: n" is a boolean argument (a mask), which is not differentiated.
      positive: indices of arguments whose entries are taken to be > 0, such as ε.
      timeout: seconds after which the answer is "refused".

    Returns:
      A `Proof`.  What the programs do never raises: it is refused, with the reason.

    Raises:
      ValueError: a shape that cannot be read, or an index in `positive` out of range.
    """
    start = time.monotonic()
    arguments = parse_arguments(primal, shapes, positive)
    deadline = start + timeout
    proof = _prove(op, primal, arguments, deadline)
    symbols = sorted(set().union(*(a.symbols() for a in arguments)))
    for size in TRACED_SIZES if symbols and proof.status in ("proved", "conditional") else ():
        small = tuple(a.at(dict.fromkeys(symbols, size)) for a in arguments)
        proof = _joined(proof, _prove(op, primal, small, deadline), f"{' = '.join(symbols)} = {size}")
    if proof.status not in ("proved", "conditional"):
        # where only the definition of the derivative objects, a custom rule inside primal is wrong
        reference = without_custom_rules(primal) if _DUALITY in proof.reason else primal
        found = find_counterexample(op, reference, arguments, min(deadline, time.monotonic() + timeout / 2))
        if found is not None and found.float64 is not None:
            proof = replace(
                proof, status="refuted", counterexample=found, reason=f"{found.what} differs", where=""
            )
        elif found is not None:
            proof = replace(proof, reason=f"{proof.reason}; {_UNSEEN.format(found.what)}")
    return replace(proof, claim=claim(proof, arguments, symbols), seconds=time.monotonic() - start)


def _prove(op: Callable, primal: Callable, arguments: tuple[Argument, ...], deadline: float) -> Proof:
    """One proof, at symbolic or at concrete sizes, without a claim."""
    try:
        programs = trace(op, primal, arguments)
    except Exception as error:  # the user's code, at shapes it may never have seen
        return Proof("refused", "", reason=f"tracing failed: {one_line(error)}")
    try:
        derivation = derive(programs, deadline - time.monotonic())
        failing = _failing_equation(derivation)
    except Refusal as refusal:
        return Proof("refused", "", reason=refusal.reason, where=refusal.where)
    except Outside as problem:
        return Proof("refused", "", reason=str(problem))
    except RecursionError:
        return Proof("refused", "", reason="the program is nested too deeply")
    except Exception as error:  # a fault of the prover is no verdict
        return Proof("refused", "", reason=f"the prover failed: {one_line(error)}")
    obligations = tuple(derivation.field.obligations.values())
    if failing:
        return Proof("refused", "", obligations, reason=f"{failing} was not shown")
    status = "proved" if all(o.discharged for o in obligations) else "conditional"
    return Proof(status, "", obligations)


def _failing_equation(derivation: Derivation) -> str:
    """The first equation of the claim that the algebra does not show; empty if it shows all."""
    field, programs = derivation.field, derivation.programs
    for side in ("op", "op under vjp", "primal under vjp"):
        pairs = zip(derivation.values[side], derivation.values["primal"], strict=True)
        if not all(_equal(field, a, b) for a, b in pairs):
            return f"the value of {side} = the value of primal"
    floats = [a.name for a in programs.arguments if a.differentiated]
    grads = zip(floats, derivation.gradients["op"], derivation.gradients["primal"], strict=True)
    for name, hand, reference in grads:
        if not _equal(field, hand, reference):
            return f"the hand cotangent of {name} = autodiff's"
    return "" if field.vanishes(derivation.duality) else _DUALITY


def _equal(field: Field, a: Array, b: Array) -> bool:
    return a.dims == b.dims and field.vanishes(finite(a) - finite(b))


def _joined(proof: Proof, traced: Proof, sizes: str) -> Proof:
    """The proof for all sizes, and the one of the program traced at one size."""
    if traced.status == "proved":
        return proof
    if traced.status == "conditional":
        known = {o.claim for o in proof.obligations if not o.discharged}
        new = tuple(
            replace(o, claim=f"at {sizes}: {o.claim}")
            for o in traced.obligations
            if not o.discharged and o.claim not in known
        )
        if proof.status == "conditional":
            return replace(proof, obligations=proof.obligations + new)
    else:
        new = (Obligation(f"the program traced at {sizes} is right ({traced.reason})", False, traced.where),)
        if " was not shown" in traced.reason:
            return replace(traced, reason=f"at {sizes}: {traced.reason}")
    return replace(proof, status="conditional", obligations=proof.obligations + new)
