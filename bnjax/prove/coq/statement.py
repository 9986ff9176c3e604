"""The claim about a hand derivative, and its proof, as a Coq script: what is said here is trusted too.

For all sizes > 0 and all differentiable curves x(s), γ(s), …: where the hypotheses hold, every division and
root of primal, op and hand VJP is defined, the values agree, and the derivative of Σ dy·primal(x(s), …) at t
is Σ x'·dx + γ'·dγ + …, with dx, dγ, … what the hand VJP returns.  JAX's autodiff does not occur in it.
Results that are no floats are not spoken of.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from jax import export
from jax.extend.core import ClosedJaxpr

from bnjax.errors import one_line
from bnjax.jaxprs import replaced
from bnjax.prove.coq.claim import Claim, Names, claim_of, named
from bnjax.prove.coq.printer import printed
from bnjax.prove.coq.terms import INDICES, Line, Outside, Value, bound_indices, count, entry
from bnjax.prove.tracing import Argument, parse_arguments, trace

_HEAD = """\
(* {title}

   Printed by bnjax from the programs that JAX traced.  Believe, and nothing else:
   ---------------------------------------------------------------------------------------------------
   JAX's tracing         the definitions below are the jaxprs that JAX traced, at letters for sizes; where
                         Python branches on a size, another program runs at that size
   the printer           bnjax/prove/coq/: printer.py and terms.py (a jaxpr as a Coq function), claim.py and
                         statement.py (what is claimed of it)
   the meanings          sum, rsqrt, bit and select, at the top of Batch.v; the operations of Coq's reals
   Coq's kernel          and the axioms of its reals: sig_forall_dec, sig_not_dec,
                         functional_extensionality_dep
   not covered           rounding, XLA's compilation; casts between float types are identities, and
                         integers do not overflow
   --------------------------------------------------------------------------------------------------- *)
Set Warnings "-ambiguous-paths".
Require Import Batch.
"""
_DERIVE = "eapply d_eq; [derive |]. (* the derivative of primal *)"
_AND = " /\\\n  "


def script(
    op: Callable, primal: Callable, *shapes: str, positive: Sequence[int] = (), title: str = ""
) -> str:
    """The claim that the hand VJP of `op` is the VJP of `primal`, and its proof, as a Coq script.

    Arguments are those of `prove_vjp`.  Coq's kernel is who says whether it is a proof: `coqc` accepts the
    script, beside `Batch.v`, or it does not.

    Raises:
      ValueError: a shape that cannot be read, or a program that cannot be printed: which primitive, where.
    """
    names = Names()
    try:
        arguments = named(parse_arguments(primal, shapes, positive), names)
        programs = _traced(trace, op, primal, arguments)
        claim = claim_of(names, arguments, programs.cotangents, programs.primal)
        definitions = [
            _definition("primal", programs.primal, claim, (), names),
            _definition("op", programs.op, claim, (), names),
            _definition("vjp", programs.op_vjp, claim, claim.cotangents, names),
        ]
        return "\n".join([_head(title), *definitions, _vjp_theorem(claim), ""])
    except Outside as problem:
        raise ValueError(f"cannot be printed for Coq: {problem}") from None


def pushforward_script(
    op: Callable, primal: Callable, *shapes: str, positive: Sequence[int] = (), title: str = ""
) -> str:
    """The claim that the hand JVP of `op` (a `jax.custom_jvp`) is the derivative of `primal`."""
    names = Names()
    try:
        arguments = named(parse_arguments(primal, shapes, positive), names)
        programs = _traced(trace, primal, primal, arguments)
        claim = claim_of(names, arguments, programs.cotangents, programs.primal)
        op_jaxpr, jvp = _traced(_trace_jvp, op, arguments)
        velocities = [replace(d.argument, name=d.velocity) for d in claim.directions]
        definitions = [
            _definition("primal", programs.primal, claim, (), names),
            _definition("op", op_jaxpr, claim, (), names),
            _definition("jvp", jvp, claim, velocities, names),
        ]
        return "\n".join([_head(title), *definitions, _jvp_theorem(claim), ""])
    except Outside as problem:
        raise ValueError(f"cannot be printed for Coq: {problem}") from None


def _traced(tracer: Callable, *args: Any) -> Any:
    """What `tracer` returns; whatever the user's code raises there says why nothing can be printed."""
    try:
        return tracer(*args)
    except Exception as error:
        raise Outside(f"tracing failed: {one_line(error)}") from error


def _trace_jvp(op: Callable, arguments: Sequence[Argument]) -> tuple[ClosedJaxpr, ClosedJaxpr]:
    """The jaxprs of `op` and of (velocities, *arguments) ↦ values, then tangents."""
    scope = export.SymbolicScope()
    structs = [
        jax.ShapeDtypeStruct(a.shape(scope), jnp.bool_ if a.boolean else jnp.float32) for a in arguments
    ]
    places = [k for k, a in enumerate(arguments) if a.differentiated]

    def pushforward(velocities, *args):
        def moving(*floats):
            return jax.tree.leaves(op(*replaced(args, places, floats)))

        values, tangents = jax.jvp(moving, [args[k] for k in places], velocities)
        return [*values, *tangents]

    return jax.make_jaxpr(lambda *args: jax.tree.leaves(op(*args)))(*structs), jax.make_jaxpr(pushforward)(
        [structs[k] for k in places], *structs
    )


def _head(title: str) -> str:
    return _HEAD.format(title=re.sub(r"[^\w ,.;:=\-]", " ", title) or "A hand derivative is the true one.")


def _type(words: Sequence[str], entries: str = "R") -> str:
    return " -> ".join(["nat"] * sum(w != "1" for w in words) + [entries])


def _parameter(a: Argument) -> str:
    return f"({a.name} : {_type(a.words, 'bool' if a.boolean else 'R')})"


def _input(a: Argument) -> Value:
    """An argument's entries as reals; those of a mask are 0 and 1."""
    value = Value(a.name, a.words)
    if not a.boolean:
        return value
    indices = INDICES[: len(a.words)]
    return Value(Line(a.words, indices, "bit ({0})", ((value, indices),)), a.words)


def _definition(name: str, jaxpr: Any, claim: Claim, first: Sequence[Argument], names: Names) -> str:
    """A program as Coq functions of sizes and arrays: its float results, and when they mean something."""
    parameters = [*first, *claim.arguments]
    returned = len(claim.cotangents) + {"vjp": len(claim.directions), "jvp": len(claim.cotangents)}.get(
        name, 0
    )
    program = printed(jaxpr, [_input(a) for a in parameters], names.lines(), returned)
    sizes = f"({' '.join(claim.sizes)} : nat)" if claim.sizes else ""
    head = " ".join([sizes, *map(_parameter, parameters)]).strip()
    call = " ".join([f"{name}_program", *claim.sizes, *(a.name for a in parameters)])
    types = " * ".join(f"({_type(v.dims)})" for v in program.results)
    results = ", ".join(str(v.source) for v in program.results)
    lines = "".join(f"  {line}\n" for line in program.lines)
    conditions = " /\\ ".join([*program.conditions, "True"])
    return (
        f"Definition {name}_program {head} : ({types}) * Prop :=\n{lines}"
        f"  (({results}),\n   {conditions}).\n"
        f"Definition {name} {head} : {types} := fst ({call}).\n"
        f"Definition {name}_defined {head} : Prop := snd ({call}).\n"
    )


def _let(names: Sequence[str], value: str) -> str:
    pattern = f"'({', '.join(names)})" if len(names) > 1 else names[0]
    return f"let {pattern} := {value} in"


def _forall(indices: str, statement: str) -> str:
    return f"(forall {indices} : nat, {statement})" if indices else f"({statement})"


def _inner(words: Sequence[str], left: str, right: str, outer: Sequence[str]) -> str:
    """Σ left·right over every index, those of `outer` outermost."""
    axes = sorted((k for k, w in enumerate(words) if w != "1"), key=lambda k: (_place(words[k], outer), k))
    text = f"{entry(left, words, INDICES)} * {entry(right, words, INDICES)}"
    for k in reversed(axes):
        text = f"sum {count(words[k])} (fun {INDICES[k]} : nat => {text})"
    return text


def _place(word: str, outer: Sequence[str]) -> int:
    return outer.index(word) if word in outer else len(outer)


def _hypotheses(claim: Claim) -> list[str]:
    """What is assumed: sizes > 0, what is positive, and that the curves have these velocities at t."""
    found = [f"(0 < {size})%nat" for size in claim.sizes]
    for a in claim.arguments:
        if a.positive:
            found.append(_forall(bound_indices(a.words), f"0 < {entry(f'{a.name} t', a.words, INDICES)}"))
    for d in claim.directions:
        words = d.argument.words
        curve, velocity = (entry(v, words, INDICES) for v in (f"{d.argument.name} s", d.velocity))
        found.append(_forall(bound_indices(words), f"is_derive (fun s => {curve}) t ({velocity})"))
    return found


def _quantified(claim: Claim) -> str:
    """The variables of the theorem: sizes, curves, masks, velocities."""
    parts = [f"({' '.join(claim.sizes)} : nat)"] if claim.sizes else []
    for a in claim.arguments:
        parts.append(_parameter(a) if a.boolean else f"({a.name} : R -> {_type(a.words)})")
    parts += [f"({d.velocity} : {_type(d.argument.words)})" for d in claim.directions]
    return " ".join(parts)


def _agreements(claim: Claim) -> list[str]:
    """The values of op, and of op under its derivative, are the primal's."""
    return [
        _forall(bound_indices(a.words), f"{entry(value, a.words, INDICES)} = {entry(p, a.words, INDICES)}")
        for values in (claim.op_outputs, claim.rule_outputs)
        for a, value, p in zip(claim.cotangents, values, claim.outputs, strict=True)
    ]


def _vjp_theorem(claim: Claim) -> str:
    """d/ds Σ dy·primal(x(s), …) = Σ x'·dx + …, with its proof."""
    dy = [a.name for a in claim.cotangents]
    pairing = " + ".join(
        _inner(a.words, a.name, p, claim.outer) for a, p in zip(claim.cotangents, claim.outputs, strict=True)
    )
    total = " +\n     ".join(
        _inner(d.argument.words, d.velocity, d.cotangent, claim.outer) for d in claim.directions
    )
    primal = _let(claim.outputs, claim.call("primal", "s"))
    derivative = f"is_derive (fun s => {primal}\n     {pairing}) t\n    ({total})"
    proof = f"{_DERIVE}\n    {_closing(claim)} (* the identity *)"
    return _theorem("vjp", claim, dy, [d.cotangent for d in claim.directions], [derivative], [proof])


def _jvp_theorem(claim: Claim) -> str:
    """d/ds primal(x(s), …) is the tangent at every index, with its proof."""
    velocities = [d.velocity for d in claim.directions]
    tangents = [a.name for a in claim.cotangents]
    derivatives, proofs = [], []
    for a, p in zip(claim.cotangents, claim.outputs, strict=True):
        curve = f"{_let(claim.outputs, claim.call('primal', 's'))} {entry(p, a.words, INDICES)}"
        tangent = entry(a.name, a.words, INDICES)
        derivatives.append(_forall(bound_indices(a.words), f"is_derive (fun s => {curve}) t ({tangent})"))
        proofs.append(f"intros; {_DERIVE}\n    identity. (* the identity *)")
    return _theorem("jvp", claim, velocities, tangents, derivatives, proofs)


def _theorem(
    rule: str,
    claim: Claim,
    first: Sequence[str],
    returned: Sequence[str],
    derivatives: Sequence[str],
    proofs: Sequence[str],
) -> str:
    """The theorem about a `rule` that takes `first` and the arguments, and returns values and `returned`."""
    agree = _agreements(claim)
    conclusions = [
        claim.call("primal_defined", "t"),
        claim.call("op_defined", "t"),
        claim.call(f"{rule}_defined", "t", first),
        "\n  ".join(
            [
                _let(claim.outputs, claim.call("primal", "t")),
                _let(claim.op_outputs, claim.call("op", "t")),
                _let([*claim.rule_outputs, *returned], claim.call(rule, "t", first)),
                _AND.join([*agree, *derivatives]),
            ]
        ),
    ]
    cases = [
        *(f"defined. (* {program} is defined *)" for program in ("primal", "op", f"the hand {rule.upper()}")),
        *(
            f"same. (* the value of {what} *)"
            for what in ("op", f"op under {rule}")
            for _ in claim.cotangents
        ),
        *proofs,
    ]
    quantified = [_quantified(claim), *(_parameter(a) for a in claim.cotangents if rule == "vjp"), "(t : R)"]
    programs = [f"{p}{part}" for p in ("primal", "op", rule) for part in ("", "_defined", "_program")]
    name = f"{rule}_is_the_derivative"
    return "\n".join(
        [
            f"Theorem {name} {' '.join(quantified)} :",
            *(f"  {hypothesis} ->" for hypothesis in _hypotheses(claim)),
            "  " + _AND.join(conclusions) + ".",
            "Proof.",
            f"  unfold {', '.join(programs)}.",
            f"  start. refine {'(conj _ ' * (len(cases) - 1)}_{')' * (len(cases) - 1)}.",
            *(f"  - {case}" for case in cases),
            "Qed.",
            f"Print Assumptions {name}.",
        ]
    )


def _closing(claim: Claim) -> str:
    """The tactic that shows the last identity: one for each index of the outer sums; then the sums inside."""
    outer = " ".join(f"try channel {_coq_size(w)}." for w in claim.outer)
    further = "".join(
        f" | {'; '.join(f'channel {_coq_size(w)}' for w in claim.inner[: k + 1])}; identity"
        for k in range(len(claim.inner))
    )
    return f"{outer} first [identity{further}].".strip()


def _coq_size(word: str) -> str:
    return f"{word}%nat" if word.isdigit() else word
