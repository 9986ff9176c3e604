"""In float64, past the ordinary data: numbers from 1e-10 to 1e8, ties, zeros; the value alone."""

from collections.abc import Iterator
from dataclasses import replace

from bnjax.check import compare
from bnjax.check.cases import Case, failing
from bnjax.check.examination import Examination
from bnjax.check.points import beyond
from bnjax.check.stages.wide import of_setting


def cases(exam: Examination) -> Iterator[Case]:
    """The points beyond the setting of the most elements, each beside its ordinary numbers."""
    if exam.largest is None:
        return
    program = replace(of_setting(exam.problem, exam.largest), run="interpreted")
    ordinary = exam.reference(exam.largest.jaxpr, exam.largest.points[0], exam.working)
    for point in beyond(exam.problem, exam.largest):
        expected = exam.reference(exam.largest.jaxpr, point, exam.working).beside(ordinary)
        judge = compare.holding(exam.problem, point, exponential=exam.exponential)
        yield Case("value", point, program, point.arguments, expected, judge, failing(), exam.narrow)
