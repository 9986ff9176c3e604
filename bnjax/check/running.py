"""Cases are run: of many traced programs few are compiled, those together; the rest is interpreted.

Compiling is what a check would spend its time on, and a traced program is the same program however it is
run.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun

from bnjax.check import enclosure
from bnjax.check.cases import Case, Program
from bnjax.check.problem import Function, Problem
from bnjax.check.programs import Outcome, Traced, traced, value_program
from bnjax.check.report import Finding, Record

_COMPILED: dict[str, Any] = {}  # the lowered text, which is the whole program, to its executable
_MOST_COMPILED = 256


def run(problem: Problem, asked: Iterable[Case | Finding], record: Record) -> list[tuple[Case, Outcome]]:
    """Run every case on the op and record what its judge says; the cases that ran, with what came."""
    cases: list[Case] = []
    for item in asked:
        if isinstance(item, Case):
            cases.append(item)
        else:
            record.add(item)
    done = []
    peers: dict[Case, list[Outcome] | Exception] = {}

    def peer(case: Case) -> list[Outcome] | Exception | None:
        """With those of the other cases of its program, as they come at once; of no use to a wrong rule."""
        if record.wrong or not case.eased:
            return None
        if case not in peers:
            program = replace(case.program, known=None)
            program = program if program.run == "eager" else replace(program, run="compiled")
            lane = [c for c in cases if c.program is case.program]
            undifferentiated = replace(program, of=partial(value_program, problem=problem))
            derived, plain = (_of_primal(problem, lane, p) for p in (program, undifferentiated))
            peers.update({c: _both(*pair) for c, *pair in zip(lane, derived, plain, strict=True)})
        return peers[case]

    for case, outcome in outcomes(problem.op, cases).items():
        if isinstance(outcome, enclosure.EndlessError):
            record.add(Finding(note=f"not compared: {outcome} in the op, {case.point.where}"))
            continue
        if isinstance(outcome, Exception):
            record.add(case.raised(problem, case, outcome, partial(peer, case)))
            continue
        for finding in case.judge(problem, case, outcome, partial(peer, case)):
            record.add(finding)
        done.append((case, outcome))
    return done


def _of_primal(problem: Problem, cases: Sequence[Case], program: Program) -> list[Outcome | Exception]:
    """What `program` of the primal returns at each of the cases."""
    twins = [replace(case, program=program) for case in cases]
    returned = outcomes(problem.primal, twins)
    return [returned[twin] for twin in twins]


def _both(derived: Outcome | Exception, plain: Outcome | Exception) -> list[Outcome] | Exception:
    """A `Peer`'s answer: a second derivative has no results, and a vmapped program others."""
    if isinstance(derived, Exception) or isinstance(plain, Exception):
        return derived if isinstance(derived, Exception) else [derived]
    alike = [np.shape(r) for r in derived.results] == [np.shape(r) for r in plain.results]
    return [derived, derived._replace(results=plain.results)] if alike else [derived]


def outcomes(fun: Function, cases: Sequence[Case]) -> dict[Case, Outcome | Exception]:
    """What `fun` returns for each case, or the exception that it raised."""
    lanes: dict[Program, list[Case]] = {}
    for case in cases:
        lanes.setdefault(case.program, []).append(case)
    traces = {p: p.known or _attempt(p, _trace, fun, p) for p in lanes if p.run != "eager"}
    found: dict[Case, Any] = {}
    for x64 in (True, False):
        chosen = [p for p, t in traces.items() if (p.run, p.x64) == ("compiled", x64) and _is_right(t)]
        with jax.enable_x64(x64):
            found |= _together([traces[p] for p in chosen], [lanes[p] for p in chosen])
    for program, lane in lanes.items():
        for case in lane:
            if case not in found:
                found[case] = _attempt(program, _alone, fun, traces.get(program), case)
    return {case: found[case] for case in cases}


def compiled(function: Callable[..., Any], *args: Any) -> Any:
    """`function` compiled for `args`; the same program, however it came about, is compiled once."""
    lowered = jax.jit(function).lower(*args)
    text = lowered.as_text()
    if text not in _COMPILED:
        if len(_COMPILED) >= _MOST_COMPILED:
            _COMPILED.pop(next(iter(_COMPILED)))
        _COMPILED[text] = lowered.compile()
    return _COMPILED[text]


def _attempt(program: Program, function: Callable[..., Any], *args: Any) -> Any:
    try:
        with jax.enable_x64(program.x64):
            return function(*args)
    except Exception as error:  # whatever a rule raises is a finding
        return error


def _trace(fun: Function, program: Program) -> Traced:
    return traced(program.of(fun), *program.like)


def _together(traced: Sequence[Traced], lanes: Sequence[Sequence[Case]]) -> dict[Case, Outcome]:
    """One executable of all programs, run as often as the longest lane is; nothing where that fails."""
    functions = [jaxpr_as_fun(t.jaxpr) for t in traced]
    execute: Any = None
    found: dict[Case, Outcome] = {}
    for k in range(max(map(len, lanes), default=0)):
        row = [lane[min(k, len(lane) - 1)] for lane in lanes]
        flat = [jax.tree.leaves(case.arguments) for case in row]
        try:
            execute = execute or compiled(
                lambda every: [f(*a) for f, a in zip(functions, every, strict=True)], flat
            )
            results = jax.tree.map(_host, execute(flat))
        except Exception:  # by one of them; each alone, then
            return found
        found |= {c: jax.tree.unflatten(t.structure, r) for c, t, r in zip(row, traced, results, strict=True)}
    return found


def _alone(fun: Function, traced: Any, case: Case) -> Outcome:
    if isinstance(traced, Exception):
        raise traced
    if traced is None:
        return Outcome(*case.program.of(fun)(*case.arguments))
    flat = jax.tree.leaves(case.arguments)
    if case.program.run == "interpreted":
        try:
            return jax.tree.unflatten(traced.structure, _interpreted(traced.jaxpr, flat))
        except enclosure.EndlessError:  # nor would XLA's end
            raise
        except Exception:  # what the interpreter cannot, XLA may
            pass
    results = compiled(jaxpr_as_fun(traced.jaxpr), *flat)(*flat)
    return jax.tree.unflatten(traced.structure, jax.tree.map(_host, list(results)))


def _interpreted(jaxpr: ClosedJaxpr, flat: Sequence[Any]) -> list[Any]:
    values = enclosure.evaluate(jaxpr, flat)
    return [
        v if _extended(a) else np.asarray(v).astype(a.dtype)
        for v, a in zip(values, jaxpr.out_avals, strict=True)
    ]


def _is_right(traced: Any) -> bool:
    return isinstance(traced, Traced)


def _host(a: Any) -> Any:
    """An array for numpy; a random key is no number and stays as it is."""
    return a if _extended(a) else np.asarray(a)


def _extended(a: Any) -> bool:
    return jnp.issubdtype(a.dtype, jax.dtypes.extended)
