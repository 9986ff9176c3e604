"""Is the hand VJP of `op` the VJP of `primal`, for every size and every real input?"""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from bnjax.prove.counterexample import find_counterexample, is_decided_somewhere
from bnjax.prove.limits import TimeLimit, TimeUp
from bnjax.prove.proof import Proof, claim
from bnjax.prove.size_cases import DUALITY, Examination, examine, refusal
from bnjax.prove.tracing import check_count, parse_arguments, without_custom_rules

_LARGE = 100  # a size beyond which kinks are not looked at
_EQUAL = "no point was found at which all numbers are defined, and none that are compared are equal"
_UNSEEN = (
    "evaluated exactly, {} differs, but in float64 it does not: is a literal the rounded value of what the "
    "other program computes (0.333 beside 1/3, 0.1342 beside 3·0.0447), or is there a branch on the dtype, "
    "or on whether values are traced?"
)

_ROUNDING = 2.0**-22


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
    definition of the derivative, so that JAX's differentiation rules are not trusted.  Outputs that are not
    floats, and the tree of the outputs, must be equal as well.

    Where sizes are symbolic, `if n == 7` is another program at 7, and JAX takes it to be false of a symbol:
    what Python asks of a size is recorded, and each such case is proved too, or becomes an obligation. So
    are the programs traced at some numbers, small, mixed and one larger.  `if n > 6` makes two programs,
    and both are proved.

    Example:
      >>> import jax, jax.numpy as jnp, bnjax
      >>> def center(x):
      ...     return x - jnp.mean(x)
      >>> bnjax.prove_vjp(bnjax.center, center, "n").status
      'proved'
      >>> wrong = jax.custom_vjp(center)
      >>> wrong.defvjp(lambda x: (center(x), None), lambda _, dy: (dy,))  # forgot the −1/n
      >>> print(bnjax.prove_vjp(wrong, center, "n").counterexample)
      counterexample: dy = [0, -6], x = [2, 0]
        the cotangent of x[0]: the op gives 0, the primal 3 (in float64: 0 and 3)

    Args:
      op: a function with a hand VJP, of float arrays.
      primal: the same function in plain JAX.
      *shapes: one for each argument, sizes separated by spaces: "n", "N H W C", "7 C", "" for a scalar.
        Equal letters are equal sizes ≥ 1.  "2*K" is an axis of 2·K that the program splits into (2, K).
        "bool: n" is a boolean argument (a mask), "int C: n" one of integers from 0 to C − 1 (labels):
        these are not differentiated.
      positive: indices of arguments whose entries are taken to be > 0, such as ε.
      timeout: seconds after which the answer is "refused".  In the main thread this ends the user's code
        as well; elsewhere only between the steps of the proof.

    Returns:
      A `Proof`.  What the programs do never raises: it is refused, with the reason.

    Raises:
      TypeError: a shape that is not a string; `positive` not a sequence.
      ValueError: a shape that cannot be read; more or fewer of them than the primal takes arguments; an index
        in `positive` out of range or of an argument that is not of floats.
    """
    start = time.monotonic()
    check_count(primal, shapes)
    arguments = parse_arguments(primal, shapes, positive)
    seen = Examination(op, primal, arguments, start + timeout)
    try:
        with TimeLimit(seen.deadline):
            seen = examine(op, primal, arguments, seen.deadline)
            seen = _off_thin_kinks(seen) if seen.shown else _with_counterexample(seen)
    except TimeUp:
        reasons = [seen.proof.reason] * bool(seen.proof.reason) + ["the time limit was reached"]
        seen.proof = Proof("refused", "", reason="; ".join(reasons), where=seen.proof.where)
    except Exception as error:  # a fault of the prover is no verdict
        seen.proof = refusal(error)
    traced = seen.numbers if seen.shown else []
    proof = replace(seen.proof, claim=claim(seen.proof, arguments, traced, seen.held))
    asked = (op, primal, shapes, tuple(positive))
    return replace(proof, seconds=time.monotonic() - start, _asked=asked)


def _off_thin_kinks(seen: Examination) -> Examination:
    """The same, unless no point is found that lies on no kink: then the proof might be of nothing."""
    for sizes, region in seen.compares:
        arguments = tuple(a.at(sizes) for a in seen.arguments)
        given = [size for size in sizes.values() if isinstance(size, int)]
        looked_at = 1 not in given and max(given, default=0) <= _LARGE  # at 1 an element is its mean
        asked = (seen.op, seen.primal, arguments, seen.deadline, seen.suspects, region)
        if looked_at and not is_decided_somewhere(*asked):
            seen.proof = replace(seen.proof, status="refused", reason=_EQUAL)
            break
    return seen


def _with_counterexample(seen: Examination) -> Examination:
    """The proof that was not to be had, with a point that speaks against the claim, if one is found.

    Where that speaks of the program read exactly, but in what runs it is no more than the rounding of a
    literal to float32 makes, literals are read as what they are roundings of.
    """
    proof = seen.proof
    # where only the definition of the derivative objects, a custom rule inside primal is wrong
    reference = without_custom_rules(seen.primal) if DUALITY in proof.reason else seen.primal
    found = find_counterexample(seen.op, reference, seen.arguments, seen.deadline, seen.suspects)
    if found is not None and _is_rounding(found.float64):
        again = examine(seen.op, seen.primal, seen.arguments, seen.deadline, reads_quotients=True)
        if again.shown:
            return _off_thin_kinks(again)
    if found is not None and found.float64 is None:
        seen.proof = replace(proof, reason=f"{proof.reason}; {_UNSEEN.format(found.what)}")
    elif found is not None:
        reason = f"{found.what} differs"
        seen.proof = replace(proof, status="refuted", counterexample=found, reason=reason, where="")
    return seen


def _is_rounding(numbers: tuple[float, float] | None) -> bool:
    """Whether two numbers in float64 are the same in float32, or nearly; None if they are the same."""
    return numbers is None or abs(numbers[0] - numbers[1]) <= _ROUNDING * max(map(abs, numbers))
