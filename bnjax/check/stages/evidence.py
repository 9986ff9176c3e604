"""Whether something was seen of every argument; where not, once more with every 1 among the sizes grown."""

import re
from collections.abc import Iterator

from bnjax.check import enclosure
from bnjax.check.cases import Case
from bnjax.check.examination import Examination
from bnjax.check.points import grown_settings
from bnjax.check.report import Failure, Finding, Record
from bnjax.check.stages import wide

_FIRST = ("raises", "shape", "structure", "number of cotangents")  # to be mended before


def grown(exam: Examination, record: Record) -> Iterator[Case | Finding]:
    """The value stage once more on larger shapes, where an argument's true cotangent was zero so far."""
    if len(record.seen | exam.constant) < len(exam.problem.floats) and not record.failures:
        yield from wide.cases(exam, list(grown_settings(exam.problem)))


def missing(exam: Examination, record: Record) -> Iterator[Finding]:
    """The arguments of which nothing was seen: what is said of their cotangents is empty.

    Where the primal's program says that a cotangent is 0, to have got 0 is to have seen it.
    """
    yield Finding("evidence", len(record.seen))
    if any(f.stage in _FIRST for f in record.failures.values()):
        return
    for j, label in enumerate(exam.problem.labels):
        if j in exam.constant:
            yield Finding(note=f"the primal is not differentiated in {label}: its cotangent was held to 0")
        elif j not in record.seen:
            yield Finding(failure=Failure("evidence", label, message=_nothing(exam, label)))


def _nothing(exam: Examination, label: str) -> str:
    """Why nothing was seen of an argument, and what to do."""
    jaxpr = exam.settings[0].jaxpr if exam.settings else None
    names = enclosure.without_bound(jaxpr) if jaxpr is not None else []
    if names:
        return f"no evidence for {label}: there is no bound on the rounding of {', '.join(names)}"
    argument = re.split(r"\W", label)[0]
    return (
        f"no evidence for {label}: along every probe its true cotangent is zero, or below what rounding may "
        "make of it, as after many steps of a loop; if it is not meant to be differentiated, bind it: "
        f"functools.partial(op, {argument}=…), and the primal too"
    )
