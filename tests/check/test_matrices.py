"""Rules of functions of matrices: definite, symmetric, triangular ones, and the places that indices share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.linalg import cho_factor, cho_solve, solve_triangular

from bnjax.check import check_vjp, domain
from tests.prove.rules import with_rule

RNG = np.random.default_rng(17)
ROOT = RNG.normal(size=(4, 4)).astype(np.float32)
DEFINITE = (ROOT @ ROOT.T + np.eye(4)).astype(np.float32)
VECTOR = RNG.normal(size=4).astype(np.float32)


def log_determinant(a):
    return 2 * jnp.sum(jnp.log(jnp.diag(jnp.linalg.cholesky(a))))


def log_determinant_of_a_triangle(a):
    return 2 * jnp.sum(jnp.log(jnp.diag(jax.scipy.linalg.cholesky(a, lower=True))))


def inverted(args, g):
    return (g * jnp.linalg.inv(args[0]),)


def energy(a, x):
    return x @ cho_solve(cho_factor(a, lower=True), x) / 2


def energy_pulled_back(args, g):
    a, x = args
    solved = cho_solve(cho_factor(a, lower=True), x)
    return -g * jnp.outer(solved, solved) / 2, g * solved


def quadratic(a, x):
    return x @ jnp.linalg.solve(a, x)


def quadratic_of_symmetric(args, g):
    a, x = args
    solved = jnp.linalg.solve(a, x)
    return -g * jnp.outer(solved, solved), 2 * g * solved


def beyond_four(rule):
    """Twice the cotangent of the first argument where it has more than 4 rows."""

    def wrong(args, g):
        first, *others = rule(args, g)
        return (first * (1 + (len(args[0]) > 4)), *others)

    return wrong


OF_DEFINITE = {
    "logdet": (log_determinant, inverted, (DEFINITE,)),
    "logdet of a triangle": (log_determinant_of_a_triangle, inverted, (DEFINITE,)),
    "energy": (energy, energy_pulled_back, (DEFINITE, VECTOR)),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", OF_DEFINITE)
def test_a_rule_of_definite_matrices_is_right_of_them_at_every_size(name):
    """Of no other matrix has the primal a value; which half of one it reads is a convention."""
    primal, rule, args = OF_DEFINITE[name]
    report = check_vjp(with_rule(primal, rule), primal, *args)
    assert report.ok, str(report)
    assert any("a is symmetric" in note for note in report.notes)
    assert check_vjp(with_rule(primal, beyond_four(rule)), primal, *args).verdict == "WRONG"


@pytest.mark.thorough
def test_a_rule_right_of_symmetric_matrices_alone_is_undecided_where_one_came():
    report = check_vjp(with_rule(quadratic, quadratic_of_symmetric), quadratic, DEFINITE, VECTOR)
    assert report.verdict == "could not be checked", str(report)
    assert "right where a is symmetric" in report.worst.message
    assert "(a + a.T) / 2" in report.worst.message
    half = (ROOT + 4 * np.eye(4)).astype(np.float32)
    assert check_vjp(with_rule(quadratic, quadratic_of_symmetric), quadratic, half, VECTOR).verdict == "WRONG"

    def symmetrized(f):
        return lambda a, x: f((a + a.T) / 2, x)

    op, primal = symmetrized(with_rule(quadratic, quadratic_of_symmetric)), symmetrized(quadratic)
    assert check_vjp(op, primal, DEFINITE, VECTOR).ok


@pytest.mark.thorough
def test_a_wrong_rule_of_a_symmetric_matrix_is_wrong():
    twice = with_rule(quadratic, lambda args, g: tuple(2 * c for c in quadratic_of_symmetric(args, g)))
    assert check_vjp(twice, quadratic, DEFINITE, VECTOR).verdict == "WRONG"


@pytest.mark.thorough
def test_a_quadratic_form_reads_the_whole_matrix():
    """Its value is that of the symmetric part, its derivative at an element is not."""

    def form(a, x):
        return x @ a @ x

    def triangle(args, g):
        a, x = args
        outer = jnp.outer(x, x)
        return g * (2 * jnp.tril(outer) - jnp.diag(jnp.diag(outer))), g * (a + a.T) @ x

    right = with_rule(
        form, lambda args, g: (g * jnp.outer(args[1], args[1]), g * (args[0] + args[0].T) @ args[1])
    )
    assert check_vjp(right, form, DEFINITE, VECTOR).ok
    assert not check_vjp(with_rule(form, triangle), form, DEFINITE, VECTOR).ok


@pytest.mark.thorough
def test_a_triangular_matrix_has_no_zero_on_its_diagonal():
    def solve(a, b):
        return solve_triangular(a, b, lower=True)

    def rule(args, g):
        a, b = args
        back = solve_triangular(a, g, lower=True, trans=1)
        return -jnp.tril(jnp.outer(back, solve(a, b))), back

    triangle = np.tril(ROOT)
    report = check_vjp(with_rule(solve, rule), solve, triangle, VECTOR)
    assert report.ok, str(report)
    assert check_vjp(with_rule(solve, beyond_four(rule)), solve, triangle, VECTOR).verdict == "WRONG"


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(3))
def test_a_determinants_rule_may_invert(seed):
    """In float32 det is no more exact undifferentiated, and an inverse loses what its condition says."""
    a = np.random.default_rng(seed).normal(size=(4, 4)).astype(np.float32)

    def det(a):
        return jnp.linalg.det(a)

    report = check_vjp(
        with_rule(det, lambda args, g: (g * det(args[0]) * jnp.linalg.inv(args[0]).T,)), det, a
    )
    assert report.ok, str(report)
    wrong = with_rule(det, lambda args, g: (g * det(args[0]) * jnp.linalg.inv(args[0]),))
    assert check_vjp(wrong, det, a).verdict == "WRONG"


def test_blocks_keep_what_the_matrices_that_came_are():
    rng = np.random.default_rng(0)
    for size in (1, 3, 4, 7):
        made = domain.blocks(DEFINITE, (size, size), rng)
        assert np.array_equal(made, made.T)
        assert np.all(np.linalg.eigvalsh(made) > 0)
        lower = domain.blocks(np.stack([np.tril(ROOT)] * 2), (3, size, size), rng)
        assert np.array_equal(lower, np.tril(lower))
        assert np.all(np.diagonal(lower, axis1=1, axis2=2) != 0)


@pytest.mark.thorough
@pytest.mark.parametrize("name", ["increasing", "of length 1"])
def test_other_arrays_too_are_made_of_those_that_came_where_the_primal_takes_no_other(name):
    """Times that increase; unit vectors, of which no product is beyond 1."""
    times = np.cumsum(RNG.uniform(0.1, 1, size=10)).astype(np.float32)
    units = [
        v / np.linalg.norm(v, axis=-1, keepdims=True) for v in RNG.normal(size=(2, 6, 3)).astype(np.float32)
    ]
    primal, args = {
        "increasing": (lambda t: jnp.sum(jnp.log(jnp.diff(t))), (times,)),
        "of length 1": (lambda u, v: jnp.sum(jnp.arccos(jnp.sum(u * v, -1))), units),
    }[name]
    assert check_vjp(primal, lambda *args: primal(*args), *args).ok

    def autodiff(args, g):
        return jax.vjp(primal, *args)[1](g)

    assert check_vjp(with_rule(primal, beyond_four(autodiff)), primal, *args).verdict == "WRONG"


@pytest.mark.thorough
def test_where_the_primal_is_finite_nowhere_the_report_says_so():
    def primal(x):
        return jnp.sum(x * x) * (jnp.nan if len(x) > 4 else 1.0)

    report = check_vjp(lambda x: primal(x), primal, VECTOR)
    assert any("shapes 5; 6; 7; 8" in note for note in report.notes), str(report)


def put(x, y, at):
    return x.at[at].set(y)


@pytest.mark.thorough
def test_which_of_the_writers_to_one_place_is_kept_is_left_open():
    """JAX does not say whose element it is; a rule for places that differ is right."""
    x, y, at = VECTOR, VECTOR[:3] + 1, np.array([3, 0, 1])
    op = with_rule(put, lambda args, g: (g.at[args[2]].set(0), g[args[2]], None))
    report = check_vjp(op, put, x, y, at)
    assert report.ok, str(report)
    kept = with_rule(put, lambda args, g: (g, g[args[2]], None))
    assert check_vjp(kept, put, x, y, at).verdict == "WRONG"


def test_what_is_read_twice_is_summed():
    def take(x, at):
        return x[at]

    op = with_rule(take, lambda args, g: (jnp.zeros_like(args[0]).at[args[1]].set(g), None))
    assert check_vjp(op, take, VECTOR, np.array([3, 0, 1])).verdict == "WRONG"


@pytest.mark.thorough
def test_a_convolutions_rule_may_transform():
    """By FFT a small number is as exact as the largest beside it, and in bfloat16 there is none."""

    def convolve(x, k):
        return jnp.convolve(x, k)

    def transformed(args, g):
        x, k = args
        size = len(g)
        spectrum = jnp.fft.rfft(g, size)
        products = (spectrum * jnp.conj(jnp.fft.rfft(other, size)) for other in (k, x))
        by_x, by_k = (jnp.fft.irfft(product, size) for product in products)
        return by_x[: len(x)], by_k[: len(k)]

    args = RNG.normal(size=8).astype(np.float32), RNG.normal(size=3).astype(np.float32)
    report = check_vjp(with_rule(convolve, transformed), convolve, *args)
    assert report.ok, str(report)
    wrong = with_rule(convolve, lambda args, g: tuple((1 + 1e-4) * c for c in transformed(args, g)))
    assert check_vjp(wrong, convolve, *args).verdict == "WRONG"
