"""`bnjax verify --coq`: the claims, their files, what is said of them, and the exit codes."""

import dataclasses
import json
import shutil

import jax
import pytest

import bnjax
from bnjax import THEOREMS
from bnjax.prove.coq import Outcome, coqc
from bnjax.verify import kernel

CENTERING = THEOREMS[1]
needs_coq = pytest.mark.skipif(shutil.which("coqc") is None, reason="coqc is not installed")


def forgetful(x, axis=0):
    """Theorem 29's op with the classic wrong rule, dx = dy."""
    rule = jax.custom_vjp(lambda x: CENTERING.primal(x, axis=axis))
    rule.defvjp(lambda x: (CENTERING.primal(x, axis=axis), None), lambda _, dy: (dy,))
    return rule(x)


@pytest.fixture
def says(monkeypatch):
    """Coq replaced: every claim gets this outcome."""

    def replaced(outcome):
        monkeypatch.setattr(kernel, "compile_library", lambda *_: Outcome("checked"))
        monkeypatch.setattr(kernel, "check", lambda *_: outcome)

    return replaced


def test_every_theorem_is_claimed_at_three_shapes_and_evaluation_mode_too():
    found = kernel.claims(THEOREMS)
    assert len(found) == len({claim.file for claim in found}) == 3 * (len(THEOREMS) + 1)
    assert {claim.shape for claim in found} == {"n", "n C", "N H W C"}
    images = next(c for c in found if c.file == "theorem34_NHWC")
    assert images.shapes == ("N H W C", "C", "C", "C")


def test_theorem_31_is_claimed_of_the_program_it_is_about():
    smooth = next(c for c in kernel.claims(THEOREMS) if c.file == "theorem31_NHWC")
    text = smooth.script()
    assert text.count("Print Assumptions") == 3
    for theorem in ("vjp_is_the_derivative", "gradient_is_bounded", "bounds_are_reached"):
        assert f"Theorem {theorem} " in text


def test_the_command_writes_a_project_and_says_checked(monkeypatch, says, bnjax_command, tmp_path):
    monkeypatch.setattr(bnjax, "THEOREMS", (CENTERING,))
    says(Outcome("checked", "", 1.5))
    code, out, err = bnjax_command("verify", "--coq", tmp_path / "proofs")
    assert (code, err) == (0, "")
    assert out.count(" checked ") == 6 + 1
    listed = (tmp_path / "proofs" / "_CoqProject").read_text().splitlines()[1:]
    assert "theorem29_nC.v" in listed
    assert all((tmp_path / "proofs" / name).is_file() for name in listed)


def test_the_command_exits_with_1_and_says_why(monkeypatch, says, bnjax_command, tmp_path):
    monkeypatch.setattr(bnjax, "THEOREMS", (CENTERING,))
    says(Outcome("refused", "the identity: no", 1.5))
    code, out, _ = bnjax_command("verify", "--coq", tmp_path)
    assert code == 1
    assert "29 centering Jacobian" in out
    assert "the identity: no" in out
    assert "0 of 6 checked" in out


def test_a_theorem_that_cannot_be_printed_is_refused(monkeypatch, says, bnjax_command, tmp_path):
    broken = dataclasses.replace(CENTERING, op=lambda x, axis=0: jax.numpy.exp(x))
    monkeypatch.setattr(bnjax, "THEOREMS", (broken,))
    says(Outcome("checked"))
    code, out, _ = bnjax_command("verify", "--coq", tmp_path)
    assert code == 1
    assert "the primitive exp" in out


def test_without_coq_the_scripts_are_written_and_nothing_is_claimed(monkeypatch, bnjax_command, tmp_path):
    monkeypatch.setattr(bnjax, "THEOREMS", (CENTERING,))
    monkeypatch.setattr(coqc.shutil, "which", lambda name: None)
    code, out, err = bnjax_command("verify", "--coq", tmp_path)
    assert code == 2
    assert "nothing was checked" in err
    assert "not installed" in out
    assert "0 of 6 checked" in out
    assert (tmp_path / "theorem29_n.v").is_file()


def test_a_folder_that_is_a_file_is_said(bnjax_command, tmp_path):
    (tmp_path / "file").write_text("")
    assert bnjax_command("verify", "--coq", tmp_path / "file")[0] == 2


def test_what_coq_said_is_written_as_json(monkeypatch, says, bnjax_command, tmp_path):
    """With the theorems that it read, word for word as they stand in the scripts."""
    smooth = next(t for t in THEOREMS if t.number == 31)
    monkeypatch.setattr(bnjax, "THEOREMS", (smooth,))
    says(Outcome("refused", "the identity: no", 1.5))
    file = tmp_path / "coq.json"
    assert bnjax_command("verify", "--coq", tmp_path / "proofs", "--json", file)[0] == 1
    written = json.loads(file.read_text())
    assert written["provenance"]["bnjax"] == bnjax.__version__
    assert len(written["axioms"]) == 3
    claims = {claim["file"]: claim for claim in written["claims"]}
    assert len(claims) == 6
    assert {(c["status"], c["reason"], c["seconds"]) for c in claims.values()} == {
        ("refused", "the identity: no", 1.5)
    }
    images = claims["theorem31_NHWC.v"]
    assert (images["title"], images["shape"]) == ("31 inverse-stddev smoothness", "N H W C")
    names = [theorem.split()[1] for theorem in images["theorems"]]
    assert names == ["vjp_is_the_derivative", "gradient_is_bounded", "bounds_are_reached"]
    script = (tmp_path / "proofs" / "theorem31_NHWC.v").read_text()
    assert all(f"{theorem}\nProof." in script for theorem in images["theorems"])


def test_a_json_that_cannot_be_written_is_said_before_the_work(bnjax_command, tmp_path):
    code, out, err = bnjax_command("verify", "--coq", tmp_path, "--json", tmp_path / "nowhere" / "c.json")
    assert (code, out) == (2, "")
    assert "cannot be written" in err


@pytest.mark.slow
@needs_coq
def test_a_wrong_rule_is_refused_by_the_kernel_and_named(monkeypatch, bnjax_command, tmp_path):
    monkeypatch.setattr(bnjax, "THEOREMS", (dataclasses.replace(CENTERING, op=forgetful),))
    code, out, _ = bnjax_command("verify", "--coq", tmp_path)
    assert code == 1
    refused = [line for line in out.splitlines() if " refused " in line]
    assert len(refused) == 3
    assert all("29 centering" in line and "the identity" in line for line in refused)


@pytest.mark.slow
@needs_coq
def test_the_kernel_checks_every_theorem(bnjax_command, tmp_path):
    code, out, _ = bnjax_command("verify", "--coq", tmp_path)
    assert code == 0
    assert "24 of 24 checked" in out
