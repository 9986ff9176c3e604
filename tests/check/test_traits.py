"""What the arrays that came may have to be, and small ones then are; what else is asked of a rule."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.check import check_vjp, traits
from bnjax.check.enclosure import enclose, rounding

RNG = np.random.default_rng(11)
X = RNG.normal(size=(6, 3)).astype(np.float32)


def rule(primal, backward, forward=None):
    op = jax.custom_vjp(primal)
    op.defvjp(forward or (lambda *args: (primal(*args), args)), backward)
    return op


@pytest.mark.parametrize(
    ("leaf", "is_one"),
    [([2, 0, 1], True), ([0, 0, 1], False), ([1, 2, 3], False), ([-1, 0, 1], False), ([0], False)],
)
def test_an_order_holds_every_place_once(leaf, is_one):
    assert traits.is_order(np.array(leaf)) is is_one


@pytest.mark.parametrize(
    ("leaf", "is_one"),
    [
        ([[0.0, 1.0], [0.25, 0.75]], True),
        ([0.5, 0.25, 0.25], True),
        ([[0.0, 1.0], [0.5, 0.6]], False),
        ([-0.5, 1.5], False),
        ([[1.0], [1.0]], False),
        (1.0, False),
    ],
)
def test_a_distribution_sums_to_one(leaf, is_one):
    assert traits.is_distribution(np.array(leaf)) is is_one


def test_a_distribution_is_made_of_any_numbers():
    made = traits.distribution(np.array([[-1.0, 3.0], [0.0, 0.0]]))
    assert np.array_equal(made, [[0.25, 0.75], [0.5, 0.5]])


def cross_entropy(x, t):
    return -jnp.sum(t * jax.nn.log_softmax(x))


@pytest.mark.thorough
def test_where_the_targets_do_not_sum_to_one_a_rule_that_says_so_is_wrong():
    op = rule(
        cross_entropy,
        lambda a, dy: (dy * (jax.nn.softmax(a[0]) - a[1]), -dy * jax.nn.log_softmax(a[0])),
    )
    targets = np.eye(3, dtype=np.float32)[[0, 1, 2, 1, 0, 2]]
    report = check_vjp(op, cross_entropy, X, targets)
    assert report.ok, str(report)
    assert any("sums to 1" in note for note in report.notes)
    assert check_vjp(op, cross_entropy, X, 2 * targets).verdict == "WRONG"


# --- complex numbers --------------------------------------------------------------------------------------


def phase(z):
    return {"angle": jnp.angle(z), "turned": 1j * z, "largest": jnp.argmax(jnp.abs(z))}


@pytest.mark.thorough
def test_a_report_of_complex_numbers_can_be_run_again():
    z = (RNG.normal(size=(2, 4)).T @ [1, 1j]).astype(np.complex64)
    assert check_vjp(phase, phase, z).ok
    wrong = rule(phase, lambda a, dy: (jnp.conj(1j * dy["turned"]) + 0 * a[0],))
    report = check_vjp(wrong, phase, z)
    assert report.verdict == "WRONG"
    assert {f.argument for f in report.failures} <= {"z.real", "z.imag", "dy", ""}
    line = str(report).split("reproduce: ")[1]
    exec(line, {"jax": jax, "jnp": jnp, "np": np, "op": wrong, "report": report})


# --- the value, vmap, loops -------------------------------------------------------------------------------


def square(x):
    return x**2


def test_an_op_of_another_value_where_it_is_not_differentiated_is_wrong():
    op = jax.custom_vjp(lambda x: x**2 + 1)
    op.defvjp(lambda x: (x**2, x), lambda x, dy: (2 * x * dy,))
    report = check_vjp(op, square, X)
    assert {f.stage for f in report.failures} == {"primal value"}
    assert "not differentiated" in str(report)
    assert "print(op(" in str(report)


@jax.custom_batching.custom_vmap
def product(x, w):
    return x @ w


@product.def_vmap
def _(size, batched, x, w):
    lanes = jax.vmap(jnp.matmul, [0 if b else None for b in batched])(x, w)
    return (lanes if all(batched) else 2 * lanes), True


def test_an_op_that_is_wrong_under_vmap_over_one_argument_is_refused():
    op = rule(jnp.matmul, lambda a, dy: (dy @ a[1].T, a[0].T @ dy), lambda x, w: (product(x, w), (x, w)))
    report = check_vjp(op, jnp.matmul, X, X[:3, :2].copy())
    assert {f.stage for f in report.failures} == {"vmap"}


def newton(x):
    """√x, by a number of steps that JAX does not know."""
    return jax.lax.while_loop(lambda s: s[1] < 30, lambda s: ((s[0] + x / s[0]) / 2, s[1] + 1), (x, 0))[0]


def until_close(x):
    return jax.lax.while_loop(lambda s: jnp.any(abs(s * s - x) > 1e-12), lambda s: (s + x / s) / 2, x)


POSITIVE = np.array([0.5, 1.25, 2.0, 0.75], np.float32)


@pytest.mark.thorough
def test_a_primal_that_loops_is_differentiated_forwards():
    right = check_vjp(rule(newton, lambda a, dy: (dy / (2 * jnp.sqrt(a[0])),)), newton, POSITIVE)
    assert right.ok, str(right)
    wrong = check_vjp(rule(newton, lambda a, dy: (dy / jnp.sqrt(a[0]),)), newton, POSITIVE)
    assert wrong.verdict == "WRONG"


def test_a_loop_that_may_not_end_ends_the_check():
    op = rule(until_close, lambda a, dy: (dy / (2 * jnp.sqrt(a[0])),))
    assert check_vjp(op, until_close, POSITIVE).verdict == "could not be checked"
    report = check_vjp(op, jnp.sqrt, POSITIVE)
    assert any(s.name == "float32" and "a loop goes on" in s.skipped for s in report.stages)


@pytest.mark.thorough
def test_what_rounds_in_every_dtype_is_held_to_how_the_primal_rounds():
    def cut(x):
        return jax.lax.reduce_precision(x, 8, 7) * x

    assert check_vjp(cut, cut, X).ok
    assert check_vjp(rule(cut, lambda a, dy: (dy * a[0],)), cut, X).verdict == "WRONG"


@pytest.mark.parametrize("primal", [jnp.floor, jnp.sign, lambda x: jax.lax.stop_gradient(x) ** 2])
def test_what_is_detached_has_the_cotangent_zero(primal):
    assert check_vjp(primal, primal, X).ok
    assert check_vjp(rule(primal, lambda a, dy: (1e4 * dy,)), primal, X).verdict == "WRONG"


def dense(x, w, b):
    return jnp.maximum(x @ w + b, 0)


@pytest.mark.thorough
@pytest.mark.parametrize("active", [jnp.greater, jnp.greater_equal])
def test_a_rule_has_one_convention_for_all_the_kinks_it_meets(active):
    def backward(a, dy):
        g = jnp.where(active(a[0] @ a[1] + a[2], 0), dy, 0)
        return g @ a[1].T, a[0].T @ g, jnp.sum(g, 0)

    report = check_vjp(rule(dense, backward), dense, X, X[:3].copy(), X[0])
    assert report.ok, str(report)


# --- bounds -----------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_determinant_is_not_refused_where_it_is_singular():
    report = check_vjp(jnp.linalg.det, jnp.linalg.det, X[:3])
    assert report.ok, str(report)


@pytest.mark.thorough
def test_nan_is_held_against_a_rule_only_where_the_primal_knows_better():
    def backward(args, dy):
        return (dy * jnp.linalg.inv(args[0]).T,)

    def log_det(a):
        return jnp.linalg.slogdet(a)[1]

    report = check_vjp(rule(log_det, backward), log_det, X[:3] + 3 * np.eye(3, dtype=np.float32))
    assert report.ok, str(report)
    at_zero = rule(jnp.sin, lambda args, dy: (dy * jnp.cos(args[0]) * args[0] / args[0],))
    assert check_vjp(at_zero, jnp.sin, X).verdict == "WRONG"


def test_a_comparison_with_what_is_not_known_is_not_decided():
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(lambda x: jnp.where((x / 3) * 3 - x == 0, 5.0, 2.0))(0.75)
    (chance,) = enclose(jaxpr, [np.float64(0.75)], rounding(np.float32))
    assert np.all(chance.radius >= 3)
    (zero,) = enclose(jaxpr, [np.float64(0)], rounding(np.float32))
    assert zero.value == 5
    assert not np.any(zero.radius)
