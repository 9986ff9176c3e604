"""What Coq's kernel says of printed scripts: right rules are checked, planted mistakes are refused."""

import shutil

import jax
import jax.numpy as jnp
import pytest

from bnjax import prove_vjp
from bnjax.prove.coq import check, compile_library, coqc, pushforward_script, script, write_project
from bnjax.theorems.batch_norm import batch_norm_primal
from bnjax.theorems.centering import center_primal
from bnjax.theorems.inverse_stddev import inverse_stddev_primal
from bnjax.verify.planted import MUTANTS

needs_coq = pytest.mark.skipif(shutil.which("coqc") is None, reason="coqc is not installed")


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    """A folder with the compiled library."""
    directory = tmp_path_factory.mktemp("coq")
    write_project(directory, {})
    outcome = compile_library(directory)
    if outcome.status == "not installed":
        pytest.skip(outcome.reason)
    assert outcome.status == "checked", outcome
    return directory


def verdict(library, text, name="claim"):
    (library / f"{name}.v").write_text(text)
    return check(library, name)


def with_rule(primal, backward):
    op = jax.custom_vjp(primal)
    op.defvjp(lambda *args: (primal(*args), args), backward)
    return op


def statistics(x, eps):
    mean = jnp.mean(x, 0)
    return mean, jax.lax.rsqrt(jnp.mean((x - mean) ** 2, 0) + eps)


def batch_norm(per_n=True, power=2, half=-0.5):
    """Theorem 34's rule; right as it stands."""

    def backward(args, dy):
        x, gamma, _, eps = args
        n = x.shape[0]
        mean, istd = statistics(x, eps)
        x_hat = (x - mean) * istd
        dgamma, dbeta = jnp.sum(dy * x_hat, 0), jnp.sum(dy, 0)
        dx = gamma * istd * (dy - (dbeta / n if per_n else dbeta) - x_hat * dgamma / n)
        return dx, dgamma, dbeta, jnp.sum(half * istd**power * gamma * dgamma)

    def primal(x, gamma, beta, eps):
        return batch_norm_primal(x, gamma, beta, eps)

    return with_rule(primal, backward), primal


def center(right=True):
    def primal(x):
        return center_primal(x)

    return with_rule(primal, lambda _, dy: (dy - jnp.mean(dy, 0) if right else dy,)), primal


def inverse_stddev(power=3):
    def backward(args, ct):
        x, eps = args
        mean, istd = statistics(x, eps)
        return -(istd**power) * (x - mean) / x.shape[0] * ct, -0.5 * istd**3 * ct

    def primal(x, eps):
        return inverse_stddev_primal(x, eps)

    return with_rule(primal, backward), primal


def zero_over_zero():
    """3·dy, times x/x: right where x ≠ 0, and so it is in Coq's total division only with a hypothesis."""

    def primal(x):
        return 3.0 * x

    return with_rule(
        primal, lambda args, dy: (3.0 * dy * (args[0] / args[0] * args[0] - args[0] + 1.0),)
    ), primal


VECTOR, ONE, MATRIX = ("n", "", "", ""), ("n", ""), ("n C", "C", "C", "")
IDENTITY, UNDEFINED = "the identity", "the hand VJP is defined"
CONTROLS = [
    pytest.param(batch_norm, {}, VECTOR, (3,), "", id="batch norm"),
    pytest.param(batch_norm, {"per_n": False}, VECTOR, (3,), IDENTITY, id="a forgotten 1/n"),
    pytest.param(zero_over_zero, {}, ("n",), (), UNDEFINED, id="x/x where x may be 0"),
    pytest.param(zero_over_zero, {}, ("n",), (0,), "", id="x/x where x > 0"),
    pytest.param(batch_norm, {}, VECTOR, (), "primal is defined", id="ε > 0 not assumed"),
]
MORE = [
    pytest.param(batch_norm, {"power": 3}, VECTOR, (3,), IDENTITY, id="dε with a wrong power"),
    pytest.param(batch_norm, {"half": 0.5}, VECTOR, (3,), IDENTITY, id="dε with a wrong sign"),
    pytest.param(center, {}, ("n",), (), "", id="centering"),
    pytest.param(center, {"right": False}, ("n",), (), IDENTITY, id="centering forgotten"),
    pytest.param(inverse_stddev, {}, ONE, (1,), "", id="istd"),
    pytest.param(inverse_stddev, {"power": 2}, ONE, (1,), IDENTITY, id="istd with a wrong power"),
    pytest.param(batch_norm, {}, MATRIX, (3,), "", id="batch norm (n, C)"),
    pytest.param(batch_norm, {"per_n": False}, MATRIX, (3,), IDENTITY, id="a forgotten 1/n (n, C)"),
    pytest.param(batch_norm, {"half": 0.5}, MATRIX, (3,), IDENTITY, id="dε with a wrong sign (n, C)"),
]


def controlled(library, make, changes, shapes, positive, fails):
    op, primal = make(**changes)
    outcome = verdict(library, script(op, primal, *shapes, positive=positive))
    assert outcome.status == ("refused" if fails else "checked"), outcome
    assert outcome.reason.startswith(fails)
    assert "\n" not in outcome.reason


@pytest.mark.family
@needs_coq
@pytest.mark.parametrize(("make", "changes", "shapes", "positive", "fails"), CONTROLS)
def test_a_mistake_is_refused_and_its_right_twin_checked(library, make, changes, shapes, positive, fails):
    controlled(library, make, changes, shapes, positive, fails)


@pytest.mark.slow
@needs_coq
@pytest.mark.parametrize(("make", "changes", "shapes", "positive", "fails"), MORE)
def test_more_mistakes_are_refused(library, make, changes, shapes, positive, fails):
    controlled(library, make, changes, shapes, positive, fails)


REAL = [m for m in MUTANTS if m.real and m.shapes]


@pytest.mark.slow
@needs_coq
@pytest.mark.parametrize("mutant", REAL, ids=[m.name for m in REAL])
def test_kernel_and_prover_agree_on_what_is_wrong(library, mutant):
    """What can be printed of the planted mistakes is refused by Coq, as the prover refutes it."""
    proof = prove_vjp(mutant.op, mutant.primal, *mutant.shapes, positive=mutant.positive)
    assert proof.status == "refuted"
    try:
        text = proof.coq()
    except ValueError as problem:
        pytest.skip(str(problem))
    outcome = verdict(library, text)
    assert outcome.status == "refused"
    assert outcome.reason.split(":")[0] in (IDENTITY, UNDEFINED)


def layer_norm(x, gamma, beta, eps):
    x_hat = (x - jnp.mean(x, 1, keepdims=True)) * jax.lax.rsqrt(jnp.var(x, 1, keepdims=True) + eps)
    return gamma * x_hat + beta


def layer_norm_backward(args, dy):
    x, gamma, _, eps = args
    istd = jax.lax.rsqrt(jnp.var(x, 1, keepdims=True) + eps)
    x_hat = (x - jnp.mean(x, 1, keepdims=True)) * istd
    g = gamma * dy
    mean_g, mean_g_x_hat = (jnp.mean(a, 1, keepdims=True) for a in (g, g * x_hat))
    deps = jnp.sum(-0.5 * istd**2 * jnp.sum(g * x_hat, 1, keepdims=True))
    return istd * (g - mean_g - x_hat * mean_g_x_hat), jnp.sum(dy * x_hat, 0), jnp.sum(dy, 0), deps


def rms_norm(x, gamma):
    return x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5) * gamma


def rms_norm_backward(args, dy):
    x, gamma = args
    r = 1 / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True) + 1e-5)
    g = dy * gamma
    return r * (g - x * r * jnp.mean(g * x * r, -1, keepdims=True)), jnp.sum(dy * x * r, 0)


def linear(x, w, b):
    return x @ w + b


def linear_backward(args, dy):
    x, w, _ = args
    return dy @ w.T, x.T @ dy, jnp.sum(dy, 0)


def by_squares(x, gamma, beta, eps):
    mean = jnp.mean(x, 0)
    return gamma * ((x - mean) / jnp.sqrt(jnp.mean(x**2, 0) - mean**2 + eps)) + beta


def by_squares_backward(args, dy):
    x, gamma, _, eps = args
    mean, istd = jnp.mean(x, 0), 1 / jnp.sqrt(jnp.mean(x**2, 0) - jnp.mean(x, 0) ** 2 + eps)
    x_hat, n = (x - mean) * istd, x.shape[0]
    dgamma, dbeta = jnp.sum(dy * x_hat, 0), jnp.sum(dy, 0)
    deps = jnp.sum(-0.5 * istd**2 * gamma * dgamma)
    return gamma * istd * (dy - dbeta / n - x_hat * dgamma / n), dgamma, dbeta, deps


def masked_center(x, mask):
    """Over what the mask keeps, and one element more, so that there is one."""
    return jnp.where(mask, x - jnp.sum(jnp.where(mask, x, 0)) / (jnp.sum(mask.astype(x.dtype)) + 1), 0)


def masked_center_backward(args, dy):
    _, mask = args
    kept = jnp.where(mask, dy, 0)
    return kept - jnp.where(mask, jnp.sum(kept) / (jnp.sum(mask.astype(dy.dtype)) + 1), 0), None


def two_outputs(x, eps):
    mean, istd = statistics(x, eps)
    return (x - mean) * istd, mean


def two_outputs_backward(args, cotangents):
    x, eps = args
    dy, dmean = cotangents
    mean, istd = statistics(x, eps)
    x_hat, n = (x - mean) * istd, x.shape[0]
    s = jnp.sum(dy * x_hat)
    return istd * (dy - jnp.mean(dy) - x_hat * s / n) + dmean / n, -0.5 * istd**2 * s


BEYOND = [
    (layer_norm, layer_norm_backward, ("n K", "K", "K", ""), (3,)),
    (rms_norm, rms_norm_backward, ("n K", "K"), ()),
    (linear, linear_backward, ("n K", "K M", "M"), ()),
    (by_squares, by_squares_backward, ("n C", "C", "C", ""), (3,)),
    (masked_center, masked_center_backward, ("n", "bool: n"), ()),
    (two_outputs, two_outputs_backward, ("n", ""), (1,)),
]


@pytest.mark.slow
@needs_coq
@pytest.mark.parametrize(
    ("primal", "backward", "shapes", "positive"), BEYOND, ids=[b[0].__name__ for b in BEYOND]
)
def test_beyond_the_chapter_kernel_and_prover_agree(library, primal, backward, shapes, positive):
    proof = prove_vjp(with_rule(primal, backward), primal, *shapes, positive=positive)
    assert proof.status == "proved"
    outcome = verdict(library, proof.coq())
    assert outcome.status == "checked", outcome

    def doubled(args, dy):
        first, *others = backward(args, dy)
        return 2 * first, *others

    outcome = verdict(library, script(with_rule(primal, doubled), primal, *shapes, positive=positive))
    assert outcome.status == "refused"
    assert outcome.reason.startswith(IDENTITY)


@pytest.mark.slow
@needs_coq
@pytest.mark.parametrize("half", [0.5, 1.0])
def test_the_pushforward(library, half):
    def primal(x, gamma, beta, eps):
        return batch_norm_primal(x, gamma, beta, eps)

    op = jax.custom_jvp(primal)

    @op.defjvp
    def pushforward(primals, tangents):
        x, gamma, _, eps = primals
        dx, dgamma, dbeta, deps = tangents
        mean, istd = statistics(x, eps)
        x_hat = (x - mean) * istd
        moved = gamma * istd * (dx - jnp.mean(dx, 0) - x_hat * jnp.mean(dx * x_hat, 0))
        return primal(*primals), moved + dgamma * x_hat + dbeta - half * gamma * istd**2 * x_hat * deps

    outcome = verdict(library, pushforward_script(op, primal, "n C", "C", "C", "C", positive=(3,)))
    assert outcome.status == ("checked" if half == 0.5 else "refused"), outcome


@needs_coq
def test_a_further_axiom_is_refused(library):
    outcome = verdict(
        library,
        "Require Import Batch.\nAxiom cheat : 0 = 1.\nTheorem wrong : 0 = 1.\nProof. exact cheat. Qed.\n"
        "Print Assumptions wrong.\n",
    )
    assert outcome.status == "refused"
    assert "cheat" in outcome.reason


@needs_coq
def test_a_proof_that_is_admitted_is_refused(library):
    outcome = verdict(
        library, "Require Import Batch.\nTheorem wrong : 0 = 1.\nProof. Admitted.\nPrint Assumptions wrong.\n"
    )
    assert outcome.status == "refused"
    assert "wrong" in outcome.reason


@needs_coq
def test_a_script_that_does_not_print_its_assumptions_is_refused(library):
    outcome = verdict(library, "Require Import Batch.\nTheorem right : 0 = 0.\nProof. easy. Qed.\n")
    assert outcome.status == "refused"
    assert "assumptions" in outcome.reason


def test_nothing_is_checked_where_coq_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setattr(coqc.shutil, "which", lambda name: None)
    write_project(tmp_path, {"empty": ""})
    assert compile_library(tmp_path).status == "not installed"
    assert check(tmp_path, "empty").status == "not installed"


def test_the_proof_of_the_prover_prints_the_same_script():
    op, primal = center()
    assert prove_vjp(op, primal, "n").coq() == script(op, primal, "n")
