"""A proof for all sizes, put together: the symbolic program, the cases that Python asks for, and numbers.

What is traced at symbolic sizes is the program of "no size in particular": where Python asks `n == 7`, JAX
says no.  So every such question makes a case, the programs traced with 7 (or 2·m, or 4·k) in the place of
n, which is proved in its turn; and whatever was asked, the programs traced at a list of numbers are proved
as well.  Where it asks `n > 6` JAX has no answer: then both programs are proved, those of n ≥ 7 and those of
n ≤ 6.  A failure anywhere is the verdict.
"""

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from bnjax.errors import one_line
from bnjax.prove import kinks
from bnjax.prove.algebra import Outside
from bnjax.prove.derivation import Derivation, derive
from bnjax.prove.field import Obligation
from bnjax.prove.interpreter import Refusal
from bnjax.prove.limits import ENDS, TimeUp
from bnjax.prove.overheard import overheard
from bnjax.prove.proof import Proof
from bnjax.prove.questions import Question, both_ways, recorded
from bnjax.prove.sizes import points, solutions, solved, substituted, value, words
from bnjax.prove.thin import exceptions
from bnjax.prove.tracing import (
    Argument,
    Programs,
    fingerprint,
    held_constant,
    is_instance,
    trace,
    without_custom_rules,
)

DUALITY = "⟨dy, Jv⟩ = ⟨VJP(dy), v⟩"
_WRITTEN_OUT = 12  # a size up to which tables of it are
_CASES = 24  # cases that questions may make
_REGIONS = 8  # that inequalities of sizes may make
_ASKED = (4, 6, 7, 9, 10, 11, 12)  # traced too where a question is no equation
_COMPARED = (4, 6, 7, 13)  # cheap to trace where the general program is proved of each size


class Piece(NamedTuple):
    """One proof: of the programs traced with these words or numbers for the size symbols."""

    sizes: Mapping[str, int | str]
    proof: Proof
    fails: bool = False  # an equation of the claim was not shown
    questions: tuple[Question, ...] = ()
    programs: Programs | None = None
    any_size: bool = False  # what was shown holds of each size, with nothing taken for granted of it
    apart: tuple[Mapping[str, int], ...] = ()  # sizes of which it does not hold
    too_long: bool = False  # whether it fails where something was too long to be written out
    region: tuple[str, ...] = ()  # inequalities of the sizes that it is of
    unclear: tuple[str, ...] = ()  # an inequality that would have to be known, and its opposite

    @property
    def where(self) -> str:
        """The sizes, as words."""
        return words({name: size for name, size in self.sizes.items() if size != name}) or " and ".join(
            self.region
        ).replace(">=", "≥")


@dataclass
class Examination:
    """What is known so far of two functions; `suspects` are numbers for sizes at which they may differ.

    `compares` are the sizes, and regions of them, at which a truth value depends on the data.

    With `reads_quotients`, literals that are rounded quotients are taken for them where that helps.
    """

    op: Callable
    primal: Callable
    arguments: tuple[Argument, ...]
    deadline: float
    reads_quotients: bool = False
    proof: Proof = field(default_factory=lambda: Proof("refused", ""))
    suspects: list[dict[str, int]] = field(default_factory=list)
    numbers: list[dict[str, int]] = field(default_factory=list)
    held: list[str] = field(default_factory=list)
    general: Programs | None = None  # traced at symbolic sizes, where it is proved of each of them
    compares: list[tuple[Mapping[str, int | str], tuple[str, ...]]] = field(default_factory=list)

    @property
    def symbols(self) -> list[str]:
        """The size symbols, in order."""
        return sorted(set().union(*(a.symbols() for a in self.arguments)))

    @property
    def shown(self) -> bool:
        """Whether nothing speaks against the claim as yet."""
        return self.proof.status in ("proved", "conditional")

    def add(self, obligations: tuple[Obligation, ...]) -> None:
        """Further side conditions, the first of those with one claim."""
        known = {o.claim for o in self.proof.obligations}
        new = {o.claim: o for o in reversed(obligations) if o.claim not in known}
        every = self.proof.obligations + tuple(reversed(new.values()))
        status = "proved" if all(o.discharged for o in every) else "conditional"
        self.proof = replace(self.proof, status=status, obligations=every)


def examine(
    op: Callable,
    primal: Callable,
    arguments: tuple[Argument, ...],
    deadline: float,
    reads_quotients: bool = False,
) -> Examination:
    """The proof, without a claim and without a counterexample."""
    seen = Examination(op, primal, arguments, deadline, reads_quotients)
    whole, *others = _regions(seen)
    seen.proof = whole.proof
    seen.general = whole.programs if whole.any_size and not others else None
    if whole.programs is not None:
        seen.held = held_constant(whole.programs)
    _look_into_questions(seen, [whole, *others])
    if seen.general is not None:  # not every question is heard
        seen.numbers += [dict.fromkeys(seen.symbols, number) for number in _COMPARED if seen.symbols]
    for piece in others:
        if seen.shown:
            _join(seen, piece)
    for piece in (whole, *others):
        _join_apart(seen, piece)
    _join_numbers(seen, 0)
    for piece in (whole, *others):
        if seen.shown and piece.programs is not None:
            proved = len(seen.numbers)
            for question in _trace_again(seen, piece):
                _leave_open(seen, piece, question)
            _join_numbers(seen, proved)
    return seen


def _regions(seen: Examination) -> list[Piece]:
    """The programs traced at symbolic sizes: all, or those for which inequalities hold, and do not."""
    waiting: list[tuple[str, ...]] = [()]
    pieces: list[Piece] = []
    while waiting:
        piece = _piece(seen, {name: name for name in seen.symbols}, waiting.pop(0))
        if piece.unclear and len(pieces) + len(waiting) < _REGIONS:
            waiting += [(*piece.region, inequality) for inequality in piece.unclear]
        else:
            pieces.append(piece)
        for inequality in piece.unclear:  # where it just holds
            larger, smaller = inequality.split(" >= ")
            seen.suspects += solutions(f"{larger} - ({smaller})", seen.symbols)
    return pieces


def _join_apart(seen: Examination, piece: Piece) -> None:
    """The programs traced at the sizes that what was shown does not hold of, and in their turn theirs."""
    for sizes in piece.apart:
        if seen.shown:
            made = _piece(seen, {**piece.sizes, **sizes})
            _suspect(seen, made.sizes)
            _join(seen, made)
            _join_apart(seen, made)


def _join_numbers(seen: Examination, start: int) -> None:
    """The programs traced at numbers, from the one at `start` on, until one fails."""
    for numbers in seen.numbers[start:]:
        if seen.shown:
            _join(seen, _of_numbers(seen, numbers))


def _of_numbers(seen: Examination, numbers: Mapping[str, int]) -> Piece:
    """The piece of these sizes, or of smaller ones where it is too long to be written out."""
    piece = _piece(seen, numbers)
    while piece.too_long and max(numbers.values()) > _WRITTEN_OUT:
        numbers = {name: min(size, max(size // 8, _WRITTEN_OUT)) for name, size in numbers.items()}
        piece = _piece(seen, numbers)
    return piece


def _look_into_questions(seen: Examination, pieces: Sequence[Piece]) -> None:
    """Prove the case that each question makes; the other questions become obligations, and numbers to try."""
    known = points(seen.symbols, max((len(a.symbols()) for a in seen.arguments), default=0))
    seen.numbers = known + [sizes for sizes in seen.suspects if sizes not in known]
    waiting = [(piece, question) for piece in pieces for question in piece.questions]
    visited = [pieces[0].sizes]
    while waiting:
        piece, question = waiting.pop(0)
        case = _case(seen, piece, question)
        if case is None or (case not in visited and len(visited) > _CASES):
            _leave_open(seen, piece, question)
        elif case not in visited:
            visited.append(case)
            made = _piece(seen, case)
            if made.proof.status == "refused" and not made.fails:  # it may split the axis the other way round
                turned = _piece(seen, {name: _ordered(str(word), True) for name, word in case.items()})
                made = made if turned.proof.status == "refused" and not turned.fails else turned
            _suspect(seen, case)
            if seen.shown:
                _settle(seen, piece, question, made)
            waiting += [(made, another) for another in made.questions]


def _case(seen: Examination, piece: Piece, question: Question) -> dict[str, int | str] | None:
    """The words for the sizes where the answer is another one; None where no substitution gives it."""
    symbols = _symbols(piece.sizes)
    taken = [a.name for a in seen.arguments]
    solution = solved(question.zero, symbols, taken) if question.zero else None
    if solution is None:
        return None
    return {name: _ordered(substituted(str(word), solution)) for name, word in piece.sizes.items()}


def _ordered(word: str, numbers_last: bool = False) -> str:
    """A product of sizes, its numbers before its symbols, or after them: the axes that it is split into."""
    return "*".join(sorted(word.split("*"), key=lambda part: part.isdigit() == numbers_last))


def _settle(seen: Examination, piece: Piece, question: Question, made: Piece) -> None:
    """What the proof of a question's case means for the proof of the whole."""
    claim = _claim(piece, question)
    if not made.fails and made.proof.status == "refused":
        reason = f"{claim}, where {made.proof.reason}"
        seen.add((Obligation(reason, False, question.where),))
        return
    known = tuple(o for o in seen.proof.obligations if o.claim != question.text)
    seen.proof = replace(seen.proof, obligations=known)
    seen.add((Obligation(f"{claim}, or else the program traced there is right", True, question.where),))
    _join(seen, made)


def _claim(piece: Piece, question: Question) -> str:
    """The answer that was taken for granted."""
    at = f"at {piece.where}: " if piece.where else ""
    solution = solved(question.zero, _symbols(piece.sizes)) or {}
    for name, word in solution.items():
        if not question.zero.startswith("mod("):
            return f"{at}{name} ≠ {word}"
    return f"{at}{question.zero} ≠ 0"


def _leave_open(seen: Examination, piece: Piece, question: Question) -> None:
    """A question without a case is an obligation; numbers at which the answer is another are tried."""
    if question.zero:
        symbols = _symbols(piece.sizes)
        for found in solutions(question.zero, symbols):
            sizes = {name: value(str(word), found) for name, word in piece.sizes.items()}
            seen.numbers.append(sizes)
            seen.suspects.append(sizes)
        claim = _claim(piece, question)
    else:
        more = [dict.fromkeys(seen.symbols, number) for number in _ASKED]
        seen.numbers += [sizes for sizes in more if sizes not in seen.numbers]
        claim = f"no size that was not traced takes another branch where Python asks for {question.text}"
    known = {o.claim for o in seen.proof.obligations}
    if seen.shown and question.text not in known:
        seen.add((Obligation(claim, False, question.where),))


def _suspect(seen: Examination, case: Mapping[str, int | str]) -> None:
    """Numbers for the sizes of a case."""
    for number in (2, 3, 1):
        free = dict.fromkeys(_symbols(case), number)
        seen.suspects.append({name: value(str(word), free) for name, word in case.items()})


def _symbols(sizes: Mapping[str, int | str]) -> list[str]:
    parts = {part for word in sizes.values() for part in str(word).split("*")}
    return sorted(part for part in parts if not part.isdigit())


def _join(seen: Examination, piece: Piece) -> None:
    """The proof so far, and the one of the programs traced at some of the sizes."""
    found = piece.proof
    if piece.fails:
        seen.proof = replace(found, reason=f"at {piece.where}: {found.reason}")
    elif found.status == "refused":
        claim = f"the program traced at {piece.where} is right ({found.reason})"
        seen.add((Obligation(claim, False, found.where),))
    else:
        known = {o.claim for o in seen.proof.obligations}
        still_open = [o for o in found.obligations if not o.discharged and o.claim not in known]
        seen.add(tuple(replace(o, claim=f"at {piece.where}: {o.claim}") for o in still_open))
        named = [_compared(seen, kink) for kink in seen.proof.kinks]
        new = [
            f"{kink} at {piece.where}"
            for kink in found.kinks
            if not any(_compared(seen, kink) <= names for names in named)
        ]
        seen.proof = replace(seen.proof, kinks=tuple(dict.fromkeys((*seen.proof.kinks, *new))))
    if found.status == "refused" and not _symbols(piece.sizes):
        seen.suspects.insert(0, {name: int(size) for name, size in piece.sizes.items()})


def _compared(seen: Examination, kink: str) -> set[str]:
    """Of which arguments a kink is, in words that at another size have other numbers and indices."""
    return set(re.findall(r"[^\W\d]\w*", kink)) & {a.name for a in seen.arguments}


def _trace_again(seen: Examination, piece: Piece) -> list[Question]:
    """A function that keeps state, or draws at random, is another program the next time.

    What Python asks of a size without calling it is heard meanwhile.
    """
    try:
        with overheard((seen.op, seen.primal)) as questions:
            after = trace(seen.op, seen.primal, seen.arguments, piece.region)
    except ENDS:
        raise
    except BaseException as error:
        seen.proof = Proof("refused", "", reason=f"traced again, it failed: {one_line(error)}")
        return []
    assert piece.programs is not None
    if fingerprint(piece.programs) != fingerprint(after):
        reason = "traced twice, the functions give two programs: they keep state, or draw at random"
        seen.proof = Proof("refused", "", reason=reason)
    return questions


def _piece(seen: Examination, sizes: Mapping[str, int | str], region: tuple[str, ...] = ()) -> Piece:
    """One proof, of the programs traced at some sizes, in a region of them."""
    if time.monotonic() > seen.deadline:
        raise TimeUp
    arguments = tuple(a.at(sizes) for a in seen.arguments)
    questions: list[Question] = []
    try:
        with recorded() as questions:
            programs = trace(seen.op, seen.primal, arguments, region)
    except ENDS:
        raise
    except BaseException as error:  # the user's code, at shapes it may never have seen
        message = one_line(error)
        proof, unclear = Proof("refused", "", reason=f"tracing failed: {message}"), both_ways(message)
        return Piece(sizes, proof, questions=tuple(questions), region=region, unclear=unclear)
    if seen.general is not None and seen.shown and is_instance(programs, seen.general, sizes):
        return Piece(sizes, Proof("proved", ""), questions=tuple(questions), programs=programs)
    try:
        derivation = derive(programs, seen.deadline - time.monotonic())
        failing = _failing_equation(derivation)
        if failing and seen.reads_quotients:
            derivation, failing = _with_quotients(seen, derivation, failing)
    except Exception as error:
        if time.monotonic() > seen.deadline:  # else the verdict would depend on how busy the machine is
            raise TimeUp from None
        return Piece(sizes, refusal(error), questions=tuple(questions), programs=programs, region=region)
    if failing == DUALITY and not _symbols(sizes) and _agrees_without_custom_rules(seen, arguments):
        failing = ""
    left_out = kinks.left_out(derivation.field)
    if left_out:
        seen.compares.append((sizes, region))
    # a comparison of sizes has another outcome at some; what is thin at most of them may not be at others
    thin = [f for f in derivation.field.functions if f.name in left_out]
    apart = [sizes for f in thin for sizes in exceptions(derivation.field, f)]
    any_size = not derivation.space.equations and not apart
    questions += [Question(zero, claim, "") for zero, claim in derivation.space.equations]
    obligations = tuple(derivation.field.obligations.values())
    status = "proved" if all(o.discharged for o in obligations) else "conditional"
    proof = Proof(status, "", obligations, kinks=kinks.words(derivation))
    if failing:
        proof = replace(proof, status="refused", reason=f"{failing} was not shown")
    too_long = bool(failing) and derivation.field.too_long
    return Piece(
        sizes, proof, bool(failing), tuple(questions), programs, any_size, tuple(apart), too_long, region
    )


def _with_quotients(seen: Examination, exactly: Derivation, failing: str) -> tuple[Derivation, str]:
    """The same with literals read as quotients, if that shows all of it and decides no comparison anew."""
    read = derive(exactly.programs, seen.deadline - time.monotonic(), reads_quotients=True)
    if read.field.decided != exactly.field.decided or _failing_equation(read):
        return exactly, failing
    return read, ""


def _agrees_without_custom_rules(seen: Examination, arguments: tuple[Argument, ...]) -> bool:
    """At numbers, where sums over few elements may be beyond the algebra: JAX's rules decide."""
    try:
        programs = trace(seen.op, without_custom_rules(seen.primal), arguments)
        derivation = derive(programs, seen.deadline - time.monotonic())
        return _failing_equation(derivation) in ("", DUALITY)
    except Exception:
        return False


def refusal(error: Exception) -> Proof:
    """Why nothing was decided: the program leaves the fragment, or the prover has a fault."""
    if isinstance(error, Refusal):
        return Proof("refused", "", reason=error.reason, where=error.where)
    if isinstance(error, Outside):
        return Proof("refused", "", reason=str(error))
    if isinstance(error, RecursionError):
        return Proof("refused", "", reason="the program is nested too deeply")
    return Proof("refused", "", reason=f"the prover failed: {one_line(error)}")


def _failing_equation(derivation: Derivation) -> str:
    """The first equation of the claim that the algebra does not show; empty if it shows all."""
    programs = derivation.programs
    for side in ("op", "op under vjp", "primal under vjp"):
        values = zip(derivation.values[side], derivation.values["primal"], strict=True)
        if not all(kinks.are_equal(derivation, a, b) for a, b in values):
            return f"the value of {side} = the value of primal"
    pairs = list(zip(derivation.gradients["op"], derivation.gradients["primal"], strict=True))
    different = [k for k, pair in enumerate(pairs) if not kinks.are_equal(derivation, *pair)]
    for k in different:
        if not kinks.are_equal(derivation, *pairs[k], off_kinks=True):
            floats = [a.name for a in programs.arguments if a.differentiated]
            return f"the hand cotangent of {floats[k]} = autodiff's"
    if different:
        kinks.look_at_kinks(derivation, pairs)
    return "" if kinks.vanishes_off(derivation, derivation.duality) else DUALITY
