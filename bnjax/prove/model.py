r"""A network's whole backward pass, for every batch size: each piece by a lemma, the whole by the chain rule.

**What is proved.**  The network is traced at symbolic sizes, in training mode, as a function of its
parameters and its inputs; with a loss, the loss of that.  The trace is a composition f = g_K ∘ … ∘ g_1, each
g_k one equation that hands on, beside what it computes, what was there before.  What JAX runs backwards is
VJP(g_1) ∘ … ∘ VJP(g_K), and the claim is ⟨dy, Jf·v⟩ = ⟨VJP(f)(dy), v⟩ for all dy and v, with Jf from the
definition of the derivative.

**Lemma (vjp_comp).**  Let g and h be differentiable at x and at g(x), and let V_g and V_h be VJPs of them
there: ⟨dz, Jg·v⟩ = ⟨V_g(dz), v⟩ and ⟨dy, Jh·w⟩ = ⟨V_h(dy), w⟩ for all v, w, dz and dy.  Then V_g ∘ V_h is a
VJP of h ∘ g at x, by the chain rule with w = Jg·v and dz = V_h(dy)::

    ⟨dy, J(h∘g)·v⟩ = ⟨dy, Jh·(Jg·v)⟩ = ⟨V_h(dy), Jg·v⟩ = ⟨V_g(V_h(dy)), v⟩

Handing on a value is a copy, whose VJP is a sum.  So, by induction, the backward pass of f is a VJP if that
of each piece is: nothing else stands between the lemmas and the network than that JAX calls the pieces'
rules in this order.

**The lemmas.**  A piece (`bnjax.prove.pieces`) that has a rule of its own, a `custom_vjp` or `custom_jvp`, is
proved by `prove_vjp` against what it computes without that rule.  Any other is a primitive of JAX, and its
derivative as JAX applies it is proved in the same way from the primitive's meaning, with the parameters,
the sizes and the constants that it has in this network.  Of the numbers that go in, it is used that they
are > 0 where that follows whatever the inputs are: a variance plus ε, a sum of exponentials.

**Every size.**  Each lemma is for all sizes.  What Python asks of a size while the network is traced is
recorded, as in `prove_vjp`: the network is traced in each such case, and at some numbers, and what is no
instance of a lemma there is another piece.

A piece that is not proved leaves the whole conditional on it, by name.  One that is refuted refutes the
whole: a rule in the network returns something else than the derivative of what it stands for, at the point
given.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jax import export

from bnjax.errors import one_line
from bnjax.prove.field import Obligation
from bnjax.prove.piece_lemmas import Lemma, lemmas
from bnjax.prove.pieces import Network, Sizes
from bnjax.prove.program import Program
from bnjax.prove.proof import Counterexample, Proof
from bnjax.prove.questions import Question, recorded
from bnjax.prove.sizes import points, solved, substituted, words
from bnjax.prove.tracing import Argument, marks

if TYPE_CHECKING:
    from flax import nnx

_CASES = 24  # that questions of sizes may make
_TRUSTED = (
    "Trusted: that JAX composes the pieces' rules by the chain rule (`vjp_comp`, in bnjax/prove/model.py), "
    "and what the proof of a piece trusts. State that the network updates (running statistics, counters of "
    "random numbers), masks drawn at random, integers, truth values and the operand of a stop_gradient are "
    "held constant, as JAX holds them; where a piece compares numbers, its derivative is claimed off its "
    "kinks, as its own claim says."
)


@dataclass(frozen=True)
class ModelPiece:
    """A piece of a network's gradient.

    Attributes:
      name: the function that has a rule of its own, or the primitive; before it the layer whose parameters go
        in, after it the sizes, where it is a piece at these alone.
      where: the user's source lines.
      status: the proof's.
      proof: what `prove_vjp` says of it.
      seconds: wall-clock time.
    """

    name: str
    where: str
    status: str
    proof: Proof
    seconds: float


@dataclass(frozen=True)
class ModelProof:
    """What was shown of a network's backward pass.

    Attributes:
      status: "proved", "conditional" (on the obligations), "refuted" (a piece is) or "refused" (it could not
        be traced).
      claim: the statement that the status is about, with its trusted base.
      pieces: what it is made of.
      obligations: what is open, of the pieces and of the sizes.
      counterexample: the refuted piece's.
      reason: which piece is refuted, or why the network was refused.
      seconds: wall-clock time.

    Example:
      >>> import bnjax, jax
      >>> from flax import nnx
      >>> proof = bnjax.prove_model(nnx.Sequential(lambda x: jax.lax.sort(x, dimension=1)), "N 3")
      >>> proof.status, proof.pieces[0].name
      ('conditional', 'sort')
    """

    status: str
    claim: str
    pieces: tuple[ModelPiece, ...] = ()
    obligations: tuple[Obligation, ...] = ()
    counterexample: Counterexample | None = None
    reason: str = ""
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = [f"{self.status.upper()} in {self.seconds:.1f} s", self.claim]
        lines += [f"reason: {self.reason}"] * bool(self.reason)
        width = max((len(piece.name) for piece in self.pieces), default=0)
        lines += [
            f"  {piece.status:<12}{piece.seconds:6.1f} s  {piece.name:<{width}}  {piece.where}"
            for piece in self.pieces
        ]
        lines += map(str, self.obligations)
        lines += [str(self.counterexample)] * (self.counterexample is not None)
        return "\n".join(lines)


def prove_model(model: "nnx.Module", *shapes: str, loss: Callable | None = None) -> ModelProof:
    """Prove that the gradient that JAX runs of a network is right, for every batch size; or refute it.

    The network is called in training mode, and differentiated in its parameters (`nnx.Param`) and its float
    inputs, for every cotangent of its float outputs.

    Example:
      >>> import bnjax
      >>> from flax import nnx
      >>> network = nnx.Sequential(bnjax.nn.nnx.BatchNorm(3, rngs=nnx.Rngs(0)), nnx.tanh)
      >>> for piece in bnjax.prove_model(network, "N 3").pieces:
      ...     print(piece.name, piece.status)
      layers.0: broadcast_in_dim proved
      layers.0: _sync proved
      tanh proved

    Args:
      model: a Flax NNX module.  It is not changed.
      *shapes: one for each input, as `prove_vjp` takes them: "N 32 32 3"; "int V: N T" is an input of
        integers from 0 to V − 1, and "bool: N" one of truth values.
      loss: a function of the network's output, and of further arguments (labels), composed after it.  Their
        shapes follow those of the inputs; where they are left out, they are of labels, one for each row
        of the output, of as many classes as it has columns: "int 10: N".

    Returns:
      A `ModelProof`.  What the network does never raises: it is refused, with the reason.

    Raises:
      TypeError: a model that is no NNX module; a shape that is not a string.
      ValueError: a shape that cannot be read.
    """
    start = time.monotonic()
    program = Program.of(model, shapes, loss)
    try:
        proof = _examine(program)
    except Exception as error:
        proof = ModelProof("refused", "", reason=one_line(error))
    return replace(proof, claim=_claim(program, proof), seconds=time.monotonic() - start)


def _examine(program: Program) -> ModelProof:
    """The proof, without its claim."""
    found = _Found(program)
    whole = {name: name for name in program.symbols}
    waiting: list[dict[str, str]] = [whole]
    while waiting:
        sizes = waiting.pop(0)
        for question in found.look_at(sizes):
            case = _case(sizes, question)
            if case is None or len(found.visited) > _CASES:
                found.leave_open(question)
            elif case not in (*found.visited, *waiting):
                waiting.append(case)
    if not _is_the_same_again(program, whole):
        return ModelProof("refused", "", reason="traced twice, the network is two programs: it keeps state")
    for numbers in points(program.symbols, max((len(a.symbols()) for a in program.arguments), default=0)):
        found.look_at({name: str(number) for name, number in numbers.items()})
    return found.proof()


class _Found:
    """The pieces found, the lemmas that they are instances of, and what is open."""

    def __init__(self, program: Program):
        self.program = program
        self.visited: list[dict[str, str]] = []
        self.pieces: dict[tuple, ModelPiece] = {}
        self.open: list[Obligation] = []
        self._lemmas: list[Lemma] = []

    def look_at(self, sizes: Mapping[str, str]) -> list[Question]:
        """Prove what is new where the sizes are these words; what Python asked of them meanwhile.

        A lemma about a rule traces the network itself, and hears for itself what is asked there.
        """
        self.visited.append(dict(sizes))
        with recorded() as questions:
            network = self.program.network(sizes)
        actual = self.program.arguments
        symbols = sorted(set().union(*(a.at(sizes).symbols() for a in actual)))
        ours = _dimensions(self.program, sizes)
        covered = {lemma.key(ours) for lemma in self._lemmas}
        at_sizes = {name: word for name, word in sizes.items() if name != word}

        def network_at(given: Sizes, wide: bool) -> Network:
            evaluated = {n: _evaluated(word, given) for n, word in sizes.items()}
            return self.program.network_at(evaluated, wide=wide)

        for lemma in lemmas(network, network_at, symbols):
            key = lemma.key()
            if key in covered:
                self._seen(key, lemma)
            else:
                covered.add(key)
                self._prove(key, lemma, at_sizes)
                if not at_sizes:
                    self._lemmas.append(lemma)
        return questions

    def _prove(self, key: tuple, lemma: Lemma, at_sizes: Mapping[str, str]) -> None:
        start = time.monotonic()
        proof = lemma.prove()
        layers = lemma.piece.layers()
        name = f"{layers}: {lemma.piece.name}" if layers else lemma.piece.name
        name += f" at {words(at_sizes)}" if at_sizes else ""
        seconds = time.monotonic() - start
        self.pieces[(*key, words(at_sizes))] = ModelPiece(
            name, lemma.piece.where, proof.status, proof, seconds
        )

    def _seen(self, key: tuple, lemma: Lemma) -> None:
        """Another place of a lemma that is proved already."""
        piece = self.pieces.get((*key, ""))
        if piece is not None and lemma.piece.where not in piece.where:
            self.pieces[(*key, "")] = replace(piece, where=f"{piece.where}, {lemma.piece.where}")

    def leave_open(self, question: Question) -> None:
        """A question whose other answer is no case: a condition."""
        claim = f"no size takes another branch where Python asks for {question.text}"
        self.open.append(Obligation(claim, False, question.where))

    def proof(self) -> ModelProof:
        """The verdict on the whole."""
        pieces = tuple(self.pieces.values())
        refuted = next((piece for piece in pieces if piece.status == "refuted"), None)
        if refuted is not None:
            reason = f"the rule of {refuted.name} is wrong ({refuted.where}): {refuted.proof.reason}"
            counterexample = refuted.proof.counterexample
            return ModelProof("refuted", "", pieces, tuple(self.open), counterexample, reason)
        if not pieces:
            return ModelProof("refused", "", reason="nothing is differentiated: there is nothing to prove")
        unproved = [o for piece in pieces for o in _conditions(piece)]
        every = (*self.open, *unproved)
        return ModelProof("conditional" if every else "proved", "", pieces, every)


def _conditions(piece: ModelPiece) -> list[Obligation]:
    """What is left to show of a piece that is not proved."""
    if piece.status == "refused":
        claim = f"the derivative of {piece.name} is right ({piece.proof.reason})"
        return [Obligation(claim, False, piece.where)]
    return [
        replace(o, claim=f"{piece.name}: {o.claim}", where=piece.where)
        for o in piece.proof.obligations
        if not o.discharged
    ]


def _dimensions(program: Program, sizes: Mapping[str, str]) -> Sizes:
    """The sizes that words say, as JAX has them."""
    scope = export.SymbolicScope()
    return {name: Argument(name, (word,)).shape(scope)[0] for name, word in sizes.items()}


def _evaluated(word: str, given: Sizes) -> Any:
    """A word where its symbols are these sizes."""
    result: Any = 1
    for part in word.split("*"):
        result = result * (int(part) if part.isdigit() else given[part])
    return result


def _case(sizes: Mapping[str, str], question: Question) -> dict[str, str] | None:
    """The words for the sizes where a question's answer is another one; None where there are none."""
    symbols = sorted({part for word in sizes.values() for part in word.split("*") if not part.isdigit()})
    solution = solved(question.zero, symbols) if question.zero else None
    if solution is None:
        return None
    return {name: substituted(word, solution) for name, word in sizes.items()}


def _is_the_same_again(program: Program, sizes: Mapping[str, str]) -> bool:
    """Whether the gradient's program, or where it has none the network's, is the same when traced again."""
    texts = []
    for _ in range(2):
        try:
            texts.append(marks(program.jaxpr(sizes, gradient=True)))
        except Exception as error:
            texts.append([type(error).__name__, *marks(program.jaxpr(sizes))])
    return texts[0] == texts[1]


def _kind(argument: Argument) -> str:
    """What an input is that is not of floats."""
    return f" of integers below {argument.below}" if argument.below else " of bits" * argument.boolean


def _claim(program: Program, proof: ModelProof) -> str:
    """The statement that the proof's status is about."""
    symbols = program.symbols
    sizes = f"for all sizes {', '.join(symbols)} ≥ 1, " if symbols else ""
    shapes = ", ".join(f"{a.name}[{' '.join(a.words)}]{_kind(a)}" for a in program.arguments)
    condition = ", provided that what is open below holds" if proof.status == "conditional" else ""
    verdict = {"refuted": "This is not so: ", "refused": "Neither proved nor refuted: "}.get(proof.status, "")
    return (
        f"{verdict}Over the reals, {sizes}all parameters and all inputs ({shapes}){condition}, the "
        "backward pass that JAX runs of the traced network, in training mode, is the VJP of its forward "
        f"pass, custom rules aside, in its parameters and float inputs. {_TRUSTED}"
    )
