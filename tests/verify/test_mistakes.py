"""The planted mistakes are judged alike here and in processes of their own, which leave nothing behind."""

import multiprocessing

import pytest

from bnjax.errors import UserError
from bnjax.verify import mistakes
from bnjax.verify.planted import MUTANTS

CENTER = [m for m in MUTANTS if m.target == "center"]


@pytest.mark.thorough
def test_other_processes_say_what_this_one_says():
    chosen = [next(m for m in CENTER if m.real is real) for real in (True, False)]
    with mistakes.in_processes(chosen, True) as judge:
        found = [judge(mutant, True) for mutant in chosen]
    assert found == [mistakes.judge(mutant, True) for mutant in chosen]
    assert [(m.real, m.refused, m.refuted) for m in found] == [(True, True, True), (False, True, None)]
    assert all(m.seen for m in found)
    assert not multiprocessing.active_children()


def test_an_interruption_ends_them():
    def interrupted():
        with mistakes.in_processes(CENTER, True):
            assert multiprocessing.active_children()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not multiprocessing.active_children()


def test_one_that_is_ended_from_outside_is_said():
    def ended():
        with mistakes.in_processes(CENTER, True) as judge:
            for process in multiprocessing.active_children():
                process.kill()
            judge(CENTER[-1], True)

    with pytest.raises(UserError, match="ended from outside"):
        ended()
