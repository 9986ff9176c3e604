"""Is the hand VJP of `op` the VJP of `primal`, for every size and every real input?"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from bnjax.prove.algebra import INFINITESIMAL, Atom, Outside, Poly
from bnjax.prove.arrays import Array
from bnjax.prove.counterexample import Counterexample, find_counterexample
from bnjax.prove.field import Field, Obligation
from bnjax.prove.interpreter import Interpreter, Refusal
from bnjax.prove.signs import POSITIVE, sign
from bnjax.prove.tracing import Argument, Programs, parse_arguments, trace, without_custom_rules

_TRUSTED = (
    "Trusted: JAX's tracing, and the meaning given to each primitive over the reals (casts between float "
    "types are identities, integers do not overflow). Not covered: XLA's compilation and the rounding of "
    "floating point."
)
_UNSEEN = (
    "evaluated exactly, {} differs, but in float64 it does not: is a quotient written as a rounded literal, "
    "or is there a branch on the dtype, or on whether values are traced?"
)
_DUALITY = "⟨dy, Jv⟩ = ⟨VJP(dy), v⟩"
_TRACED_SIZES = (1, 2, 3, 5)


@dataclass(frozen=True)
class Proof:
    """What was shown, on what it rests, and what speaks against it.

    Attributes:
      status: "proved", "conditional" (proved where the open obligations hold), "refuted" (there is a
        counterexample) or "refused" (the program leaves the fragment, or nothing could be decided).
      claim: the statement that the status is about, with its trusted base.
      obligations: the side conditions, each with .claim and .discharged.
      counterexample: a point in rationals where op and primal differ, with both values; None if none.
      reason: why it was refused, or which equation fails.
      where: the user's source line, for a refusal.
      seconds: wall-clock time.
    """

    status: str
    claim: str
    obligations: tuple[Obligation, ...] = ()
    counterexample: Counterexample | None = None
    reason: str = ""
    where: str = ""
    seconds: float = 0.0
    _asked: tuple = field(default=(), repr=False, compare=False)  # op, primal, shapes, positive

    def coq(self) -> str:
        """The claim and its proof as a Coq script, for an independent kernel: beside `Batch.v`, by `coqc`.

        Whatever the status is: Coq says whether the script is a proof.  Raises ValueError for a program that
        cannot be printed, with the primitive and the line.
        """
        from bnjax.prove.coq import script

        if not self._asked:
            raise ValueError("this proof does not say of which programs it is")
        op, primal, shapes, positive = self._asked
        return script(op, primal, *shapes, positive=positive)

    def __str__(self) -> str:
        lines = [f"{self.status.upper()} in {self.seconds:.2f} s", self.claim]
        if self.reason:
            lines.append(f"reason: {self.reason}" + (f", at {self.where}" if self.where else ""))
        lines += [str(obligation) for obligation in self.obligations]
        if self.counterexample is not None:
            lines.append(str(self.counterexample))
        return "\n".join(lines)


@dataclass(frozen=True)
class Derivation:
    """The programs interpreted: values, cotangents of the arguments, and the directional derivative."""

    field: Field
    programs: Programs
    values: dict[str, list[Array]]
    gradients: dict[str, list[Array]]
    duality: Poly

    def gradient(self, name: str, side: str = "op") -> Poly:
        """The cotangent of the argument `name`, free indices from left to right."""
        floats = [a.name for a in self.programs.arguments if a.differentiated]
        poly = self.gradients[side][floats.index(name)].poly
        if poly is None:
            raise Outside(f"the cotangent of {name} is not finite")
        return self.field.reduce(poly)


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
    for size in _TRACED_SIZES if symbols and proof.status in ("proved", "conditional") else ():
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
    claim = _claim(proof, arguments, symbols)
    asked = (op, primal, shapes, tuple(positive))
    return replace(proof, claim=claim, seconds=time.monotonic() - start, _asked=asked)


def derive(programs: Programs, seconds: float = 60.0) -> Derivation:
    """Interpret the programs: every value and cotangent as a polynomial.  Raises Refusal or Outside."""
    field = Field(seconds)
    interpreter = Interpreter(field, programs.base_axes())
    inputs = [_input(field, a) for a in programs.arguments]
    cotangents = [_input(field, a) for a in programs.cotangents]
    values = {
        "primal": interpreter.run(programs.primal, inputs),
        "op": interpreter.run(programs.op, inputs),
    }
    gradients = {}
    for side, program in (("primal", programs.primal_vjp), ("op", programs.op_vjp)):
        results = interpreter.run(program, [*cotangents, *inputs])
        values[f"{side} under vjp"] = results[: len(cotangents)]
        gradients[side] = results[len(cotangents) :]
    duality = _duality(interpreter, programs, inputs, cotangents, gradients["op"])
    return Derivation(field, programs, values, gradients, duality)


def _duality(
    interpreter: Interpreter,
    programs: Programs,
    inputs: list[Array],
    cotangents: list[Array],
    gradients: list[Array],
) -> Poly:
    """⟨dy, Jv⟩ − ⟨VJP(dy), v⟩, with Jv the coefficient of τ in primal(x + τ·v)."""
    field = interpreter.field
    tau = field.entry(INFINITESIMAL)
    moved, tangents = [], []
    for argument, value in zip(programs.arguments, inputs, strict=True):
        if argument.differentiated:
            tangents.append(_input(field, replace(argument, name=f"v.{argument.name}", positive=False)))
            value = replace(value, poly=_finite(value) + tau * _finite(tangents[-1]))
        moved.append(value)
    total = field.constant(0)
    for output, dy in zip(interpreter.run(programs.primal, moved), cotangents, strict=True):
        tangent = field.part(field.reduce(_finite(output)), INFINITESIMAL, 1)
        total += _inner(field, replace(output, poly=tangent), dy)
    for gradient, v in zip(gradients, tangents, strict=True):
        total -= _inner(field, gradient, v)
    return total


def _inner(field: Field, a: Array, b: Array) -> Poly:
    """Σ a·b over every index; both lie over the same base axes."""
    if a.dims != b.dims:
        raise Outside(f"layout: a cotangent over {a.dims} for an array over {b.dims}")
    product = _finite(a) * _finite(b)
    for index, size in enumerate(a.axes):
        product = field.total(product, index, size)
    return field.reduce(product)


def _finite(array: Array) -> Poly:
    if array.poly is None:
        raise Outside("NaN or infinity reaches a result")
    return array.poly


def _input(field: Field, argument: Argument) -> Array:
    dims = argument.base_axes()
    sizes = tuple(size for dim in dims for size in dim)
    poly = field.atom(Atom(argument.name, sizes, argument.positive, argument.boolean))
    for size in sizes:
        field.size(size)
    return Array(dims, poly, sign(poly) if not argument.positive else POSITIVE)


def _prove(op: Callable, primal: Callable, arguments: tuple[Argument, ...], deadline: float) -> Proof:
    """One proof, at symbolic or at concrete sizes, without a claim."""
    try:
        programs = trace(op, primal, arguments)
    except Exception as error:  # the user's code, at shapes it may never have seen
        return Proof("refused", "", reason=f"tracing failed: {type(error).__name__}: {_line(error)}")
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
        return Proof("refused", "", reason=f"the prover failed: {type(error).__name__}: {_line(error)}")
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
    return a.dims == b.dims and field.vanishes(_finite(a) - _finite(b))


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


def _claim(proof: Proof, arguments: Sequence[Argument], symbols: Sequence[str]) -> str:
    sizes = (f"for all sizes {', '.join(symbols)} ≥ 1 and " if symbols else "for ") + "all real inputs"
    shapes = ", ".join(f"{a.name}[{' '.join(a.words)}]" for a in arguments)
    hypotheses = " with " + " and ".join(f"{a.name} > 0" for a in arguments if a.positive)
    if not any(a.positive for a in arguments):
        hypotheses = ""
    open_claims = [o.claim for o in proof.obligations if not o.discharged]
    condition = f", provided that {' and '.join(open_claims)}" if proof.status == "conditional" else ""
    statement = (
        f"Over the reals, {sizes} ({shapes}){hypotheses}{condition}, the traced program of the hand VJP "
        "computes the VJP of the primal (JAX's autodiff of it, and its directional derivative by "
        "definition), and the values agree."
    )
    if symbols and proof.status in ("proved", "conditional"):
        traced = ", ".join(map(str, _TRACED_SIZES))
        statement += f" So do the programs traced at sizes {traced}, where Python may have branched."
    verdict = {"refuted": "This is false: ", "refused": "Neither proved nor refuted: "}.get(proof.status, "")
    return f"{verdict}{statement} {_TRUSTED}"


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]
