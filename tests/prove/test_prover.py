"""What the prover says: its verdicts, its claims and conditions, its counterexamples, its refusals."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bnjax.prove import prove_vjp
from tests.prove.rules import with_rule


def standardize(x, eps):
    mean = jnp.mean(x)
    return (x - mean) * lax.rsqrt(jnp.mean(jnp.square(x - mean)) + eps)


def standardize_backward(args, dy, *, wrong=""):
    """The three-term VJP; `wrong` names the planted error."""
    x, eps = args
    n = x.shape[0]
    mean = jnp.sum(x) / n
    size = n - 1 if wrong == "n - 1" else n
    var = jnp.sum((x - mean) ** 2) / size
    istd = lax.rsqrt(var if wrong == "no eps" else var + eps)
    x_hat = (x - mean) * istd
    first = 0 if wrong == "no mean term" else jnp.sum(dy) / n
    second = 0 if wrong == "no variance term" else x_hat * jnp.sum(dy * x_hat) / n
    if wrong == "mean without 1/n":
        first = jnp.sum(dy)
    if wrong == "halved":
        second = second / 2
    if wrong == "dy squared":
        second = x_hat * jnp.sum(dy**2 * x_hat) / n
    scale = istd**2 if wrong == "power of istd" else -istd if wrong == "sign" else istd
    deps = jnp.zeros(()) if wrong == "eps forgotten" else -0.5 * istd**2 * jnp.sum(dy * x_hat)
    if wrong == "eps of another size":
        deps = deps / n
    dx = scale * (dy - first - second)
    if wrong == "a constant added":
        dx = dx + 1e-3
    if wrong == "only below the mean":
        dx = jnp.where(x < mean, dx, 2 * dx)
    if wrong == "only for eps > 4":
        deps = jnp.where(eps > 4, 2 * deps, deps)
    return dx, deps


WRONG = [
    "n - 1", "no eps", "no mean term", "no variance term", "mean without 1/n", "halved", "dy squared",
    "power of istd", "sign", "eps forgotten", "eps of another size", "a constant added",
    "only below the mean", "only for eps > 4",
]  # fmt: skip


def assert_counterexample_holds(proof, op, primal, names):
    """The counterexample, evaluated here: op and primal disagree there in float64, as it says they do."""
    found = proof.counterexample
    assert proof.status == "refuted"
    assert list(found.point) == ["dy", *names]
    with jax.enable_x64(True):
        dy, *args = (jnp.asarray(np.asarray(value, float)) for value in found.point.values())
        (mine, theirs) = (jax.vjp(function, *args) for function in (op, primal))
        results = [[value, *pull(dy)] for value, pull in (mine, theirs)]
    kinds = ["the output", *(f"the cotangent of {name}" for name in names)]
    got, expected = (float(result[kinds.index(found.what)][found.index]) for result in results)
    assert abs(got - expected) > 1e-9 * max(abs(got), abs(expected))
    for number, exact in ((got, found.got), (expected, found.expected)):
        exact = exact if isinstance(exact, Fraction) else exact[0]
        assert number == pytest.approx(float(exact), rel=1e-9, abs=1e-9)
    assert all(isinstance(entry, Fraction) for value in found.point.values() for entry in flat(value))


def flat(value):
    return [entry for part in value for entry in flat(part)] if isinstance(value, list) else [value]


def test_a_right_rule_is_proved_for_every_size():
    proof = prove_vjp(with_rule(standardize, standardize_backward), standardize, "n", "", positive=(1,))
    assert proof.status == "proved"
    assert proof.counterexample is None
    assert all(o.discharged for o in proof.obligations)
    assert "for all sizes n ≥ 1" in proof.claim
    assert "eps > 0" in proof.claim
    assert "Trusted" in proof.claim
    assert "Not covered" in proof.claim
    assert str(proof).startswith("PROVED")


@pytest.mark.family
@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("shape", ["n", "5"])
def test_a_wrong_rule_is_refuted_by_a_point(wrong, shape):
    op = with_rule(standardize, lambda args, dy: standardize_backward(args, dy, wrong=wrong))
    proof = prove_vjp(op, standardize, shape, "", positive=(1,))
    assert_counterexample_holds(proof, op, standardize, ["x", "eps"])
    assert "counterexample" in str(proof)
    assert "false" in proof.claim


def test_a_rational_point_is_preferred():
    op = with_rule(standardize, lambda args, dy: standardize_backward(args, dy, wrong="sign"))
    found = prove_vjp(op, standardize, "n", "", positive=(1,)).counterexample
    assert isinstance(found.got, Fraction)
    assert isinstance(found.expected, Fraction)


def test_a_wrong_value_is_refuted():
    proof = prove_vjp(lambda x: 2 * x, lambda x: 3 * x, "n")
    assert proof.status == "refuted"
    assert proof.counterexample.what == "the output"
    assert proof.counterexample.got != proof.counterexample.expected


def test_an_open_obligation_makes_it_conditional():
    proof = prove_vjp(lambda x, y: x / y, lambda x, y: x * (1 / y), "n", "n")
    assert proof.status == "conditional"
    claims = [o.claim for o in proof.obligations if not o.discharged]
    assert any("y[a] ≠ 0" in claim for claim in claims)
    assert "provided that y[a] ≠ 0" in proof.claim
    assert prove_vjp(lambda x, y: x / y, lambda x, y: x * (1 / y), "n", "n", positive=(1,)).status == "proved"


def test_standardizing_without_epsilon_is_conditional_on_a_positive_variance():
    def plain(x):
        return (x - x.mean()) / x.std()

    def other(x):
        return (x - x.mean()) * lax.rsqrt(jnp.mean(jnp.square(x)) - jnp.square(jnp.mean(x)))

    proof = prove_vjp(plain, other, "n")
    assert proof.status == "conditional"
    assert "Σ" in proof.claim
    assert "> 0" in proof.claim


def test_a_condition_on_the_size_is_reported():
    def unbiased(x):
        return jnp.var(x, ddof=1)

    proof = prove_vjp(unbiased, lambda x: jnp.sum((x - x.mean()) ** 2) / (x.shape[0] - 1), "n")
    assert proof.status == "conditional"
    assert "−1 + n ≠ 0" in proof.claim
    assert prove_vjp(unbiased, unbiased, "5").status == "proved"


def test_the_square_root_of_a_square_is_no_identity():
    def inverse(x):
        return 1 / jnp.sum(x)

    def absolute(x):
        return jnp.sqrt(1 / jnp.sum(x) ** 2)

    proof = prove_vjp(absolute, inverse, "n")
    assert proof.status == "refuted"
    assert prove_vjp(absolute, inverse, "n", positive=(0,)).status == "proved"


def test_a_branch_on_the_size_is_seen():
    """`n == 1` is False of a symbol, so the symbolic trace alone would prove it."""
    proof = prove_vjp(lambda x: 2 * x if x.shape[0] == 1 else x, lambda x: x, "n")
    assert proof.status == "refuted"
    assert np.shape(proof.counterexample.point["x"]) == (1,)


def test_the_sizes_that_were_traced_are_named():
    assert "1, 2, 3, 5" in prove_vjp(lambda x: x, lambda x: x, "n").claim


@pytest.mark.parametrize("name", ["dy", "n", "t.0", "τ"])
def test_names_never_make_two_arrays_one(name):
    """An argument called dy is not the cotangent dy: x·y's cotangents do not commute with it."""
    namespace = {}
    safe = name if name.isidentifier() else "z"
    exec(f"def product({safe}, x): return {safe} * x", namespace)
    product = namespace["product"]
    wrong = with_rule(product, lambda args, ct: (ct * args[1], ct * ct))
    assert prove_vjp(wrong, product, "n", "n").status == "refuted"
    assert prove_vjp(product, product, "n", "n").status == "proved"


def test_a_wrong_custom_rule_inside_the_primal_is_found():
    """Autodiff of such a primal agrees with the op: only the definition of the derivative does not."""
    wrong = with_rule(lambda x: x * x, lambda args, dy: (3 * args[0] * dy,))
    proof = prove_vjp(wrong, wrong, "n")
    assert proof.status == "refuted"
    assert "directional" in proof.claim
    assert "the cotangent of x" in proof.reason


def test_stop_gradient_is_a_constant_to_the_derivative():
    def primal(x):
        return x * lax.stop_gradient(x)

    right = with_rule(primal, lambda args, dy: (dy * args[0],))
    wrong = with_rule(primal, lambda args, dy: (2 * dy * args[0],))
    assert prove_vjp(right, primal, "n").status == "proved"
    assert prove_vjp(wrong, primal, "n").status == "refuted"


def test_two_outputs_and_a_mask():
    def primal(x, w):
        count = jnp.sum(w.astype(x.dtype))
        mean = jnp.sum(jnp.where(w, x, 0)) / jnp.maximum(count, 1)
        return x - mean, mean

    def op(x, w):
        mean = jnp.sum(x * w) / jnp.maximum(jnp.sum(w.astype(x.dtype)), 1)
        return x - mean, mean

    proof = prove_vjp(op, primal, "n", "bool: n")
    assert proof.status == "conditional"
    assert "the mask keeps at least one element" in proof.claim
    bad = prove_vjp(lambda x, w: (op(x, w)[0], 2 * op(x, w)[1]), primal, "n", "bool: n")
    assert bad.status == "refuted"


def test_a_difference_of_rounded_literals_is_no_refutation():
    """Nor a proof: it is equal if the literal is read as 1/7, or not shown to be at all."""
    proof = prove_vjp(lambda x: x.sum() * (1.0 / 7), lambda x: x.sum() / 7, "7")
    assert proof.status == "conditional"
    assert "provided that 0.14285715 is read as 1/7" in proof.claim
    proof = prove_vjp(lambda x: x.sum() * (1.0 / 70001), lambda x: x.sum() / 70001, "7")
    assert proof.status == "refused"
    assert "literal" in proof.reason


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("function", "word"),
    [
        (lambda x: jnp.cbrt(x), "cbrt: not modelled"),
        (lambda x: jax.lax.lgamma(x), "lgamma"),
        (lambda x: lax.while_loop(lambda a: a.sum() < 9, lambda a: a * 2, x), "tracing failed"),
        (lambda x: jnp.sort(x), "sort"),
        (lambda x: jnp.where(x > 0, x, jnp.inf), "infinity"),
    ],
)
def test_a_refusal_says_why_and_where(function, word):
    proof = prove_vjp(function, function, "n")
    assert proof.status == "refused"
    assert word in proof.reason
    assert proof.counterexample is None
    if "tracing" not in word:
        assert proof.where.startswith("test_prover.py:")
        assert proof.where in str(proof)


def raising(x):
    raise RuntimeError("no such luck")


@pytest.mark.parametrize(
    "op",
    [
        raising,
        lambda x: jnp.asarray(x > 0),
        lambda x: x[:, 0],
        lambda x: x[0],
        lambda x: None,
        lambda x: x.sum(),
        lambda x: (x, x),
        lambda: 1.0,
        lambda x: x.astype(int),
        with_rule(lambda x: x, lambda args, dy: (dy[:1],)),
        with_rule(lambda x: x, lambda args, dy: raising(dy)),
        with_rule(lambda x: x, lambda args, dy: (dy, dy)),
        with_rule(lambda x: x, lambda args, dy: (dy * jnp.nan,)),
        lambda x: x / 0,
    ],
)
def test_nothing_escapes(op):
    proof = prove_vjp(op, lambda x: x, "n")
    assert proof.status == "refused"
    assert proof.reason


def test_nothing_to_prove_is_no_proof():
    assert prove_vjp(lambda x: None, lambda x: None, "n").status == "refused"
    assert prove_vjp(lambda x: x > 0, lambda x: x > 0, "n").status == "refused"


def test_integers_that_wrap_are_refused():
    def small(x, w):
        return x * (w.astype(jnp.uint8) * jnp.uint8(200) + jnp.uint8(100)).astype(x.dtype)

    def right(x, w):
        return x * (w * 200.0 + 100.0)

    assert prove_vjp(small, right, "n", "bool: n").status == "refuted"  # 300 is 44 in eight bits
    proof = prove_vjp(small, small, "n", "bool: n")
    assert proof.status == "refused"
    assert "uint8" in proof.reason


def test_the_time_limit_is_kept():
    def slow(x, y):
        for _ in range(6):
            x, y = (x + y) * (x - 2 * y) + y, x * y
        return x

    proof = prove_vjp(slow, slow, "n", "n", timeout=1.0)
    assert proof.status == "refused"
    assert "time" in proof.reason
    assert proof.seconds < 30  # the limit, and what tracing cost


@pytest.mark.parametrize(
    ("shapes", "positive"),
    [(("n-1",), ()), (("0",), ()), (("n",), (1,)), (("n",), (-1,)), (("2n",), ()), (("N;H",), ())],
)
def test_bad_arguments_are_value_errors(shapes, positive):
    with pytest.raises(ValueError, match=r"shape|positive"):
        prove_vjp(lambda x: x, lambda x: x, *shapes, positive=positive)


def test_the_answer_is_the_same_twice():
    op = with_rule(standardize, lambda args, dy: standardize_backward(args, dy, wrong="halved"))
    first, second = (prove_vjp(op, standardize, "n", "", positive=(1,)) for _ in range(2))
    assert first.counterexample == second.counterexample


def test_a_wrong_power_of_a_scalar_is_refuted():
    """A half-integer power of an array without axes is evaluated too."""
    proof = prove_vjp(
        lambda x: x * (jnp.sum(x * x) + 2) ** -0.5, lambda x: x * (jnp.sum(x * x) + 1) ** -0.5, "n"
    )
    assert proof.status == "refuted"


BESIDE = {  # primal, a rule that is wrong where few numbers are
    "between two bounds": (
        jax.nn.hard_sigmoid,
        lambda a, dy: (jnp.where((a[0] > -3) & (a[0] < 2.9), dy / 6, 0),),
    ),
    "close to a bound": (
        lambda x: jnp.where(jnp.abs(x) <= 1, x * x / 2, jnp.abs(x) - 0.5),
        lambda a, dy: (jnp.where(jnp.abs(a[0]) < 1.0001, a[0], jnp.sign(a[0])) * dy,),
    ),
    "for large cotangents": (lambda x: 2 * x, lambda a, dy: (2 * jnp.clip(dy, -1e6, 1e6),)),
}


@pytest.mark.family
@pytest.mark.parametrize("name", BESIDE)
def test_a_counterexample_is_looked_for_beside_the_numbers_that_are_compared_with(name):
    primal, backward = BESIDE[name]
    assert prove_vjp(with_rule(primal, backward), primal, "n").status == "refuted"


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_rule_whose_result_is_cast_is_refuted_in_float64_too(dtype):
    def primal(x):
        return (2 * x).astype(dtype)

    assert (
        prove_vjp(with_rule(primal, lambda a, dy: (dy.astype(a[0].dtype),)), primal, "n").status == "refuted"
    )
    right = with_rule(primal, lambda a, dy: (2 * dy.astype(a[0].dtype),))
    assert prove_vjp(right, primal, "n").status == "proved"
