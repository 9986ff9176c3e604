"""The planted wrong rules, judged one by one: here, or where a core is free, by processes of their own."""

import itertools
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from bnjax.check.check import check_vjp
from bnjax.check.refusal import refuses
from bnjax.errors import UserError
from bnjax.prove import prove_vjp
from bnjax.verify.planted import MUTANTS, Mutant
from bnjax.verify.planted.lemmas import MISTAKES

N = 8  # the batch that the checker is given

_MOST = 8  # processes
_QUIET = (signal.SIGINT, signal.SIG_DFL)  # interrupted, they say nothing
_PLANTED = (
    *MUTANTS,
    *itertools.chain.from_iterable(MISTAKES.values()),
)  # sent by place: no rule pickles


@dataclass(frozen=True)
class Mistake:
    """A planted wrong rule, and what came of it.

    Attributes:
      name: the error, in a few words.
      real: whether it is wrong in real arithmetic, where the prover can see it.
      refused: whether the checker refuses it.
      refuted: whether the prover refutes it; None of one that is not real.
      seen: the smallest thing that shows it: a counterexample, or what the checker saw.
    """

    name: str
    real: bool
    refused: bool
    refuted: bool | None
    seen: str = ""


Judge = Callable[[Mutant, bool], Mistake]


def judge(mutant: Mutant, explained: bool) -> Mistake:
    """What comes of `mutant`; `explained`, also of one that only the checker sees what shows it."""
    name = mutant.name.removeprefix(f"{mutant.target}/")
    if mutant.real:
        proof = prove_vjp(mutant.op, mutant.primal, *mutant.shapes, positive=mutant.positive)
        refused = refuses(mutant.op, mutant.primal, *mutant.arguments(N))
        return Mistake(name, True, refused, proof.status == "refuted", str(proof.counterexample or ""))
    if not explained:
        return Mistake(name, False, refuses(mutant.op, mutant.primal, *mutant.arguments(N)), None)
    report = check_vjp(mutant.op, mutant.primal, *mutant.arguments(N))
    seen = f"{report.worst.stage}: {report.worst}" if report.worst else ""
    return Mistake(name, False, not report.ok, None, seen)


def planted(theorems: Sequence[Any], *, lemmas: bool) -> list[Mutant]:
    """The mutants of these theorems; with `lemmas` those of every lemma as well."""
    ops = {theorem.op for theorem in theorems}
    of_lemmas = itertools.chain.from_iterable(MISTAKES.values()) if lemmas else ()
    return [*(mutant for mutant in MUTANTS if mutant.theorem in ops), *of_lemmas]


@contextmanager
def in_processes(mutants: Sequence[Mutant], explained: bool) -> Iterator[Judge]:
    """A `judge` of these planted ones whose answers are made beside what the caller does meanwhile.

    A process a core, 8 at most; the first are judged first.  On an exception they are ended.

    Raises:
      UserError: a process was ended from outside.
    """
    context = multiprocessing.get_context("spawn")  # JAX's threads do not survive a fork
    pool = ProcessPoolExecutor(min(os.cpu_count() or 1, _MOST), context, signal.signal, _QUIET)
    places = {id(mutant): place for place, mutant in enumerate(_PLANTED)}
    coming: dict[int, Future[Mistake]] = {
        id(m): pool.submit(_judge_at, places[id(m)], explained) for m in mutants
    }

    def wait_for(mutant: Mutant, _: bool) -> Mistake:
        return coming[id(mutant)].result()

    try:
        yield wait_for
    except BaseException as error:
        for process in multiprocessing.active_children():
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise UserError("a process that judged planted mistakes was ended from outside") from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _judge_at(place: int, explained: bool) -> Mistake:
    return judge(_PLANTED[place], explained)
