"""The rows of `bnjax verify`, and that a theorem or a verifier that falls makes it exit with 1."""

import dataclasses
import json
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest

import bnjax
from bnjax import THEOREMS, cli
from bnjax.check.refusal import refuses
from bnjax.prove import rounding
from bnjax.verify import mistakes, networks, verdicts
from bnjax.verify.gradient_bounds import STATED
from bnjax.verify.lemmas import LEMMAS, RESTS_ON
from bnjax.verify.planted import GRADIENT, MUTANTS
from bnjax.verify.planted.lemmas import MISTAKES
from bnjax.verify.provenance import provenance
from bnjax.verify.smoothness import Certificate

CENTERING = THEOREMS[1]


def forgetful_center(x):
    """Theorem 29's op with the classic wrong rule, dx = dy."""
    return _forgetful(x)


_forgetful = jax.custom_vjp(lambda x: CENTERING.primal(x))
_forgetful.defvjp(lambda x: (CENTERING.primal(x), None), lambda _, dy: (dy,))


def test_a_theorem_that_holds():
    (verdict,) = verdicts.verdicts([CENTERING], MUTANTS)
    assert verdict.ok
    assert (verdict.number, verdict.proof, verdict.checked) == (29, "proved", True)
    assert verdict.refused == verdict.mutants == sum(m.target == "center" for m in MUTANTS) > 0
    assert verdict.refuted == verdict.real > 0
    assert 0 < verdict.rounding < 1e-5


def test_a_wrong_rule_falls_to_the_checker_and_to_the_prover():
    wrong = dataclasses.replace(CENTERING, op=forgetful_center)
    (verdict,) = verdicts.verdicts([wrong], ())
    assert not verdict.ok
    assert (verdict.checked, verdict.proof) == (False, "refuted")


def test_a_verifier_that_lets_a_mutant_live_is_noticed():
    """A right rule in the place of a mutant: neither verifier refuses it, and the verdict says so."""
    mutant = next(m for m in MUTANTS if m.target == "center" and m.real)
    (verdict,) = verdicts.verdicts([CENTERING], [dataclasses.replace(mutant, op=CENTERING.op)])
    assert not verdict.ok
    assert (verdict.refused, verdict.refuted) == (0, 0)


def test_a_row_without_mutants_is_not_ok():
    (verdict,) = verdicts.verdicts([CENTERING], ())
    assert (verdict.checked, verdict.proof) == (True, "proved")
    assert not verdict.ok


def test_a_mutant_hangs_on_the_function_and_not_on_its_name():
    theirs = [dataclasses.replace(m, theorem=forgetful_center) for m in MUTANTS if m.target == "center"]
    (verdict,) = verdicts.verdicts([CENTERING], theirs)
    assert (verdict.mutants, verdict.ok) == (0, False)


def test_every_theorem_has_mutants():
    assert {m.theorem for m in MUTANTS} >= {theorem.op for theorem in THEOREMS}


SMOOTHNESS = next(t for t in THEOREMS if t.number == 31)


def with_gradient(scale):
    """Theorem 31 of istd with a gradient that is `scale` times the true one."""

    @jax.custom_vjp
    def op(x, eps):
        return SMOOTHNESS.primal(x, eps)

    def backward(pullback, ct):
        dx, deps = pullback(ct)
        return scale * dx, deps

    op.defvjp(lambda *args: jax.vjp(SMOOTHNESS.primal, *args), backward)
    return dataclasses.replace(SMOOTHNESS, op=op)


@pytest.mark.thorough
def test_row_31_is_about_theorem_31():
    """It is ok without any mutant of theorem 30: its own are wrong bounds and wrong gradients."""
    (verdict,) = verdicts.verdicts([SMOOTHNESS], ())
    assert verdict.ok
    assert verdict.refused == verdict.mutants == len(GRADIENT)
    assert verdict.refuted == verdict.real == len(GRADIENT)


@pytest.mark.thorough
@pytest.mark.parametrize("holds", [True, False])
def test_theorem_31_is_proved_only_with_its_certificates(monkeypatch, holds):
    certificates = (Certificate("first", True), Certificate("second", holds))
    monkeypatch.setattr(verdicts, "theorem31_certificates", lambda *_: certificates)
    (verdict,) = verdicts.verdicts([SMOOTHNESS], ())
    assert verdict.proof == ("proved" if holds else "refused")
    assert verdict.claim.endswith("first; second." if holds else "Not shown: second.")


RULE = {"checked": True, "proof": "proved", "claim": "The rule's."}


@pytest.mark.parametrize("name", ["bounds_are_computed", "bounds_are_reached"])
def test_theorem_31_is_checked_only_where_its_bounds_are_reached(monkeypatch, name):
    monkeypatch.setattr(verdicts, "GRADIENT", ())
    assert verdicts.of_the_bounds(RULE, SMOOTHNESS.op)["checked"]
    assert not verdicts.of_the_bounds(RULE | {"checked": False}, SMOOTHNESS.op)["checked"]
    monkeypatch.setattr(verdicts, name, lambda *_: False)
    assert not verdicts.of_the_bounds(RULE, SMOOTHNESS.op)["checked"]


def test_a_mutant_of_theorem_31_that_lives_is_noticed(monkeypatch):
    monkeypatch.setattr(verdicts, "GRADIENT", (GRADIENT[0], STATED))
    said = verdicts.of_the_bounds(RULE, SMOOTHNESS.op)
    assert (said["refused"], said["mutants"], said["refuted"], said["real"]) == (1, 2, 1, 2)


@pytest.mark.thorough
def test_theorem_31_without_mutants_is_not_ok(monkeypatch):
    monkeypatch.setattr(verdicts, "GRADIENT", ())
    (verdict,) = verdicts.verdicts([SMOOTHNESS], MUTANTS[:1])
    assert not verdict.ok


@pytest.mark.thorough
def test_a_refuted_rule_stays_refuted_without_certificates(monkeypatch):
    monkeypatch.setattr(verdicts, "theorem31_certificates", lambda *_: (Certificate("first", False),))
    (verdict,) = verdicts.verdicts([with_gradient(2)], ())
    assert (verdict.proof, verdict.checked) == ("refuted", False)


@pytest.mark.thorough
def test_refuses_says_what_the_whole_check_says():
    """On one mutant of each kind of evidence: a number, a structure, something only compiling shows."""
    for name in ("without the mean", "dγ not summed", "only in bfloat16: dx doubled"):
        mutant = next(m for m in MUTANTS if m.name.endswith(name))
        assert refuses(mutant.op, mutant.primal, *mutant.arguments(8)), name
    assert not refuses(CENTERING.op, CENTERING.primal, *MUTANTS[0].arguments(8)[:1])


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["bnjax", "verify", *map(str, arguments)])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return exit_.value.code or 0, capsys.readouterr()


@pytest.mark.thorough
def test_the_command_writes_a_table_and_json(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bnjax, "THEOREMS", (CENTERING,))
    monkeypatch.setattr(verdicts, "lemma_verdicts", lambda **_: ())
    monkeypatch.setattr(mistakes, "MISTAKES", {})
    monkeypatch.setattr(networks, "network_verdicts", lambda: ())
    code, captured = run(monkeypatch, capsys, "--json", tmp_path / "v.json")
    assert code == 0
    header, row = captured.out.splitlines()
    assert header.startswith("theorem ")
    assert row.startswith("29 centering Jacobian")
    assert "proved" in row
    written = json.loads((tmp_path / "v.json").read_text())
    assert written["ok"] is True
    (theorem,) = written["theorems"]
    assert (theorem["number"], theorem["proof"], theorem["ok"]) == (29, "proved", True)


@pytest.fixture(scope="module")
def explained():
    """Theorem 29 with two mistakes, one in real arithmetic and one that only the checker sees."""
    mutants = [m for m in MUTANTS if m.theorem is CENTERING.op]
    chosen = [next(m for m in mutants if m.real), next(m for m in mutants if not m.real)]
    (verdict,) = verdicts.verdicts([CENTERING], chosen, explained=True)
    return verdict


@pytest.mark.thorough
def test_every_mistake_is_written_with_what_shows_it(explained):
    assert [m.name for m in explained.mistakes] == ["without the mean", "the mean without its 1/n"]
    for mistake in explained.mistakes:
        assert mistake.refused
        assert mistake.refuted is (True if mistake.real else None)
        assert mistake.seen.startswith("counterexample: " if mistake.real else "value: cotangent of x")


def test_the_evidence_is_what_runs(explained):
    shown = explained.evidence
    assert shown["statement"] == CENTERING.statement
    assert [lines["text"].split("(")[0] for lines in shown["code"]] == [
        "def _forward", "def _center_fwd", "def _center_bwd"
    ]  # fmt: skip
    for lines in shown["code"]:
        written = (Path(bnjax.__file__).parents[1] / lines["file"]).read_text().splitlines(keepends=True)
        assert "".join(written[lines["line"] - 1 :]).startswith(lines["text"])
    assert shown["program"].startswith("{ lambda ; a:f32[n]")


EVALUATION = next(lemma for lemma in LEMMAS if lemma.name == "evaluation mode")


@pytest.mark.thorough
def test_a_lemma_that_is_wrong_falls(monkeypatch):
    """A mistake of its own in its place."""
    mutant = MISTAKES[EVALUATION.name][0]
    monkeypatch.setitem(MISTAKES, EVALUATION.name, ())
    (verdict,) = verdicts.lemma_verdicts([dataclasses.replace(EVALUATION, op=mutant.op)])
    assert (verdict.checked, verdict.proof, verdict.ok) == (False, "refuted", False)


def lemma_row(**found):
    row = {"checked": True, "proof": "conditional", "claim": "", "mutants": 2, "refused": 2, "real": 0}
    return verdicts.Verdict(None, "a lemma", **(row | {"refuted": 0, "rounding": None} | found))


def test_a_bound_that_says_nothing_is_none(monkeypatch):
    loose = SimpleNamespace(relative=(1e-6, float("inf")))
    monkeypatch.setattr(rounding, "vjp_rounding_bound", lambda *_: loose)
    assert verdicts._rounding(CENTERING.op, [np.ones(8, np.float32)]) is None


def test_where_nothing_is_bounded_the_row_says_why():
    """A lemma's mask has no cotangent to bound, and no installation mends that."""
    assert verdicts.row(lemma_row())[-1] == "no bound"
    assert verdicts.row(dataclasses.replace(lemma_row(), number=28))[-1] == "needs python-flint"


def test_a_lemma_may_be_conditional_or_unread_but_not_wrong():
    assert lemma_row().ok
    assert lemma_row(proof="refused").ok
    assert not lemma_row(proof="refuted").ok
    assert not lemma_row(checked=False).ok
    assert not lemma_row(refused=1).ok
    assert not lemma_row(mutants=0, refused=0).ok
    assert not dataclasses.replace(lemma_row(), number=28).ok  # a theorem must be proved


def test_every_lemma_has_mistakes_and_rests_on_what_is_there():
    assert list(MISTAKES) == [lemma.name for lemma in LEMMAS]
    assert all(MISTAKES.values())
    known = {str(theorem.number) for theorem in THEOREMS}
    for number, names in RESTS_ON.items():
        assert {str(number), *names} <= known
    for lemma in LEMMAS:
        assert set(lemma.rests_on) <= known
        known.add(lemma.name)


@pytest.mark.thorough
def test_the_command_exits_with_1_if_anything_falls(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(bnjax, "THEOREMS", (dataclasses.replace(CENTERING, op=forgetful_center),))
    monkeypatch.setattr(verdicts, "lemma_verdicts", lambda **_: ())
    monkeypatch.setattr(mistakes, "MISTAKES", {})
    monkeypatch.setattr(networks, "network_verdicts", lambda: ())
    code, captured = run(monkeypatch, capsys, "--json", tmp_path / "v.json")
    assert code == 1
    assert "WRONG" in captured.out
    assert json.loads((tmp_path / "v.json").read_text())["ok"] is False


def test_a_file_that_cannot_be_written_is_said_before_the_work(monkeypatch, capsys, tmp_path):
    code, captured = run(monkeypatch, capsys, "--json", tmp_path / "nowhere" / "v.json")
    assert (code, captured.out) == (2, "")
    assert "cannot be written" in captured.err


def test_the_provenance_names_the_commit():
    found = provenance()
    assert found["bnjax"] == bnjax.__version__
    assert found["jax"] == jax.__version__
    assert found["commit"] is None or re.fullmatch(r"[0-9a-f]{12}(, modified)?", found["commit"])


@pytest.mark.slow
def test_every_theorem_holds_and_every_mutant_falls():
    assert all(verdict.ok for verdict in verdicts.verdicts(THEOREMS, MUTANTS))


@pytest.mark.slow
def test_every_lemma_holds_and_every_mistake_falls():
    assert all(verdict.ok for verdict in verdicts.lemma_verdicts())
