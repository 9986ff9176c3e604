"""The theorems, and normalizations beside them, proved for every size, of the programs that run."""

import functools

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from bnjax.prove import prove_vjp
from bnjax.prove.derivation import derive
from bnjax.prove.tracing import parse_arguments, trace
from bnjax.theorems import (
    THEOREMS,
    batch_norm,
    batch_norm_inference,
    batch_norm_inference_primal,
    batch_norm_with_statistics,
    center,
    inverse_stddev,
    normalize,
    sync_batch_norm,
)
from bnjax.theorems.batch_norm import batch_norm_primal
from bnjax.theorems.centering import center_primal
from bnjax.theorems.inverse_stddev import inverse_stddev_primal
from bnjax.theorems.normalize import normalize_primal
from tests.prove.reading import jacobian_entries

# the parameters of each theorem after x, and which of them are ε
PARAMETERS = {28: 2, 29: 0, 30: 1, 31: 1, 32: 1, 33: 2, 34: 3}
EPSILON = {28: (), 29: (), 30: (1,), 31: (1,), 32: (1,), 33: (), 34: (3,)}
IDS = [f"theorem {theorem.number}" for theorem in THEOREMS]
IMAGES = {"NHWC": ("N H W C", (0, 1, 2)), "NCHW": ("N C H W", (0, 2, 3))}


def assert_proved(proof):
    assert proof.status == "proved", str(proof)
    assert all(obligation.discharged for obligation in proof.obligations)


@pytest.mark.family
@pytest.mark.parametrize("theorem", THEOREMS, ids=IDS)
@pytest.mark.parametrize("size", ["n", "1", "2", "3", "128", "1000003"])
def test_a_theorem_is_proved(theorem, size):
    shapes = [size, *[""] * PARAMETERS[theorem.number]]
    assert_proved(prove_vjp(theorem.op, theorem.primal, *shapes, positive=EPSILON[theorem.number]))


@pytest.mark.family
@pytest.mark.parametrize("theorem", [t for t in THEOREMS if t.number not in (31, 33)], ids=lambda t: t.number)
@pytest.mark.parametrize("layout", IMAGES)
@pytest.mark.parametrize("shared", [True, False], ids=["eps shared", "eps per channel"])
def test_a_theorem_is_proved_for_images(theorem, layout, shared):
    shape, axes = IMAGES[layout]
    parameters = ["C"] * PARAMETERS[theorem.number]
    if shared and EPSILON[theorem.number]:
        parameters[-1] = ""
    op, primal = (functools.partial(f, axis=axes) for f in (theorem.op, theorem.primal))
    assert_proved(prove_vjp(op, primal, shape, *parameters, positive=EPSILON[theorem.number]))


def test_the_deployed_shape_is_proved():
    op, primal = (functools.partial(f, axis=(0, 1, 2)) for f in (batch_norm, batch_norm_primal))
    assert_proved(prove_vjp(op, primal, "128 32 32 32", "32", "32", "", positive=(3,)))


def test_a_wrong_axis_is_refuted():
    op = functools.partial(batch_norm, axis=(0, 1, 2))
    primal = functools.partial(batch_norm_primal, axis=(0, 1, 3))
    proof = prove_vjp(op, primal, "N H 3 3", "3", "3", "", positive=(3,))
    assert proof.status == "refuted"


# Jacobian entries, read off the programs ---------------------------------------------------------------


def derivation(op, primal, *shapes, positive=()):
    return derive(trace(op, primal, parse_arguments(primal, shapes, positive)))


def chapter(field):
    """x_i, μ, istd and 1/n as the chapter writes them, over the field of a theorem with the argument x."""
    one_over_n = field.entry("n", (), -1)
    x = field.entry("x", (0,))
    mean = field.total(x, 0, "n") * one_over_n
    var = field.total((x - mean) ** 2, 0, "n") * one_over_n
    istd = field.inverse(field.root(var + field.entry("eps"))) if "eps" in field.atoms else None
    return x, mean, istd, one_over_n


def test_the_centering_jacobian_read_off():
    """Theorem 29: ∂(x_j − μ)/∂x_i = δ_ij − 1/n."""
    result = derivation(center, center_primal, "n")
    diagonal, kernel = jacobian_entries(result.field, result.gradient("x"), "dy")
    assert str(diagonal) == "1"
    assert str(kernel) == "−n⁻¹"


def test_the_inverse_stddev_jacobian_read_off():
    """Theorem 30: ∂istd/∂x_i = −istd³·(x_i − μ)/n."""
    result = derivation(inverse_stddev, inverse_stddev_primal, "n", "", positive=(1,))
    field = result.field
    x, mean, istd, one_over_n = chapter(field)
    expected = -(istd**3) * (x - mean) * one_over_n
    assert field.vanishes(result.gradient("x") - expected * field.entry("dy"))
    wrong = -(istd**2) * (x - mean) * one_over_n
    assert not field.vanishes(result.gradient("x") - wrong * field.entry("dy"))


@pytest.mark.parametrize(
    ("op", "primal", "parameters"),
    [(normalize, normalize_primal, [""]), (batch_norm, batch_norm_primal, ["", "", ""])],
    ids=["theorem 32", "theorem 34"],
)
@pytest.mark.parametrize("side", ["op", "primal"])
def test_the_normalize_jacobian_read_off(op, primal, parameters, side):
    """Theorems 32 and 34: ∂y_j/∂x_i = γ·istd·(δ_ij − 1/n − x̂_j·x̂_i/n)."""
    result = derivation(op, primal, "n", *parameters, positive=(len(parameters),))
    field = result.field
    x, mean, istd, one_over_n = chapter(field)
    gamma = field.entry("gamma") if "gamma" in field.atoms else field.constant(1)
    x_hat = (x - mean) * istd
    diagonal, kernel = jacobian_entries(field, result.gradient("x", side), "dy")
    assert field.vanishes(diagonal - gamma * istd)
    other = field.rename(x_hat, {0: 1})
    expected = -gamma * istd * one_over_n * (field.constant(1) + x_hat * other)
    assert field.vanishes(kernel - expected)
    assert not field.vanishes(kernel - expected * istd)


def test_the_other_cotangents_read_off():
    """dγ = Σ dy·x̂, dβ = Σ dy, dε = −½·istd²·γ·dγ."""
    result = derivation(batch_norm, batch_norm_primal, "n", "", "", "", positive=(3,))
    field = result.field
    x, mean, istd, _ = chapter(field)
    dy, gamma = field.entry("dy", (0,)), field.entry("gamma")
    dgamma = field.total(dy * (x - mean) * istd, 0, "n")
    assert field.vanishes(result.gradient("gamma") - dgamma)
    assert field.vanishes(result.gradient("beta") - field.total(dy, 0, "n"))
    two = field.constant(2)
    assert field.vanishes(two * result.gradient("eps") + istd**2 * gamma * dgamma)


# invariants --------------------------------------------------------------------------------------------


def test_the_invariants():
    """Σ x̂ = 0; Σ x̂² = n·(1 − ε·istd²); Σ dx = 0; ⟨dx, x̂⟩ = γ·istd·ε·istd²·⟨dy, x̂⟩."""
    result = derivation(batch_norm, batch_norm_primal, "n", "", "", "", positive=(3,))
    field = result.field
    x, mean, istd, _ = chapter(field)
    x_hat, dx, dy = (x - mean) * istd, result.gradient("x"), field.entry("dy", (0,))
    eps, gamma, n = field.entry("eps"), field.entry("gamma"), field.entry("n")

    def total(poly):
        return field.total(poly, 0, "n")

    one = field.constant(1)
    assert field.vanishes(total(x_hat))
    assert field.vanishes(total(x_hat**2) - n * (one - eps * istd**2))
    assert field.vanishes(total(dx))
    assert field.vanishes(total(dx * x_hat) - gamma * istd**3 * eps * total(dy * x_hat))
    assert not field.vanishes(total(dx * x_hat))
    assert not field.vanishes(total(dy))


@pytest.mark.parametrize("op", [batch_norm, batch_norm_primal])
def test_a_batch_of_one(op):
    """n = 1: y = β and dx = 0."""
    result = derivation(op, batch_norm_primal, "1", "", "", "", positive=(3,))
    assert str(result.values["op"][0].poly) == "beta"
    assert str(result.gradient("x")) == "0"


# beyond the chapter ------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("layout", IMAGES)
def test_evaluation_mode_is_proved(layout):
    shape, axes = IMAGES[layout]
    op, primal = (
        functools.partial(f, axis=axes) for f in (batch_norm_inference, batch_norm_inference_primal)
    )
    shapes = [shape, "C", "C", "C", "C", ""]
    assert_proved(prove_vjp(op, primal, *shapes, positive=(4, 5)))
    # a variance of zero is allowed too, as long as v + ε > 0, which the prover cannot know
    proof = prove_vjp(op, primal, *shapes, positive=(5,))
    assert proof.status == "conditional"
    assert "eps + var[a] > 0" in proof.claim


def test_evaluation_mode_is_not_training_mode():
    """The one-term VJP of fixed statistics, given for the three-term one."""

    def primal(x, gamma, beta, eps):
        return batch_norm_primal(x, gamma, beta, eps)

    def op(x, gamma, beta, eps):
        mean, var = (lax.stop_gradient(jnp.mean(s)) for s in (x, jnp.square(x - jnp.mean(x))))
        return batch_norm_inference(x, gamma, beta, mean, var, eps)

    assert prove_vjp(op, primal, "n", "", "", "", positive=(3,)).status == "refuted"


def test_batch_norm_with_statistics_is_proved():
    def primal(x, gamma, beta, eps):
        mean = jnp.mean(x, 0)
        var = jnp.mean(jnp.square(x), 0) - jnp.square(mean)
        y = gamma * (x - mean) / jnp.sqrt(var + eps) + beta
        return y, lax.stop_gradient(mean), lax.stop_gradient(var)

    def op(x, gamma, beta, eps):
        return batch_norm_with_statistics(x, gamma, beta, eps)[:3]

    assert_proved(prove_vjp(op, primal, "n C", "C", "C", "", positive=(3,)))


def masked_primal(x, gamma, beta, eps, where):
    """Masked batch norm written from its definition, over the first axis."""
    w = where.astype(x.dtype)
    count = jnp.sum(w, 0)
    mean = jnp.sum(w * x, 0) / count
    var = jnp.sum(w * jnp.square(x - mean), 0) / count
    return gamma * (x - mean) / jnp.sqrt(var + eps) + beta


@pytest.mark.thorough
def test_masked_batch_norm_is_proved_where_something_counts():
    def op(x, gamma, beta, eps, where):
        return sync_batch_norm(x, gamma, beta, eps, where=where).y

    proof = prove_vjp(op, masked_primal, "n C", "C", "C", "", "bool: n C", positive=(3,))
    assert proof.status == "conditional"
    unshown = [o.claim for o in proof.obligations if not o.discharged]
    assert unshown[0] == "(Σ_i where[i,a]) ≠ 0"
    assert all("where" in claim for claim in unshown)

    def unmasked(x, gamma, beta, eps, where):
        return batch_norm(x, gamma, beta, eps)

    wrong = prove_vjp(unmasked, masked_primal, "n C", "C", "C", "", "bool: n C", positive=(3,))
    assert wrong.status == "refuted"


def over_devices(x, gamma, beta, eps):
    return jax.vmap(lambda shard: sync_batch_norm(shard, gamma, beta, eps, axis_name="d").y, axis_name="d")(x)


@pytest.mark.thorough
@pytest.mark.parametrize("devices", ["2", "8"])
def test_cross_device_batch_norm_is_proved(devices):
    """D shards of n: the batch norm of the D·n elements."""
    primal = functools.partial(batch_norm_primal, axis=(0, 1))
    assert_proved(prove_vjp(over_devices, primal, f"{devices} n C", "C", "C", "", positive=(3,)))

    def apart(x, gamma, beta, eps):
        return jax.vmap(lambda shard: batch_norm_primal(shard, gamma, beta, eps))(x)

    assert prove_vjp(over_devices, apart, f"{devices} n C", "C", "C", "", positive=(3,)).status == "refuted"


@pytest.mark.thorough
def test_cross_device_batch_norm_with_a_mask_is_proved_for_every_number_of_devices():
    """Unequal shards too: a mask that leaves n_d elements on device d."""

    def op(x, gamma, beta, eps, where):
        def shard(x, where):
            return sync_batch_norm(x, gamma, beta, eps, where=where, axis_name="d").y

        return jax.vmap(shard, axis_name="d")(x, where)

    def primal(x, gamma, beta, eps, where):
        w = where.astype(x.dtype)
        count = jnp.sum(w, (0, 1))
        mean = jnp.sum(w * x, (0, 1)) / count
        var = jnp.sum(w * jnp.square(x - mean), (0, 1)) / count
        return gamma * (x - mean) / jnp.sqrt(var + eps) + beta

    proof = prove_vjp(op, primal, "D n C", "C", "C", "", "bool: D n C", positive=(3,))
    assert proof.status == "conditional"
    assert all("where" in o.claim for o in proof.obligations if not o.discharged)


@pytest.mark.thorough
@pytest.mark.parametrize("shape", ["n", "2", "n C"])
def test_second_order_is_proved(shape):
    """The hand VJP, differentiated again: reverse over reverse."""
    kept = "C" if "C" in shape else ""

    def vjp_of(function):
        return lambda ct, x, gamma, beta, eps: jax.vjp(function, x, gamma, beta, eps)[1](ct)

    op, primal = vjp_of(batch_norm), vjp_of(batch_norm_primal)
    assert_proved(prove_vjp(op, primal, shape, shape, kept, kept, "", positive=(4,)))


@pytest.mark.thorough
def test_forward_over_reverse_is_proved():
    def directional(function):
        def run(x, v, ct, eps):
            return jax.jvp(lambda a: jax.vjp(lambda b: function(b, eps), a)[1](ct)[0], (x,), (v,))[1]

        return run

    assert_proved(
        prove_vjp(directional(normalize), directional(normalize_primal), "n", "n", "n", "", positive=(3,))
    )


# the algebra is not about batch norm -------------------------------------------------------------------


def layer_norm(x, gamma, beta, eps):
    mean = jnp.mean(x, -1, keepdims=True)
    return gamma * (x - mean) * lax.rsqrt(jnp.var(x, -1, keepdims=True) + eps) + beta


def layer_norm_backward(args, dy):
    x, gamma, _, eps = args
    mean = jnp.mean(x, -1, keepdims=True)
    istd = lax.rsqrt(jnp.mean(jnp.square(x - mean), -1, keepdims=True) + eps)
    x_hat, g = (x - mean) * istd, gamma * dy
    along = jnp.mean(g * x_hat, -1, keepdims=True)
    dx = istd * (g - jnp.mean(g, -1, keepdims=True) - x_hat * along)
    rows = tuple(range(x.ndim - 1))
    return dx, jnp.sum(dy * x_hat, rows), jnp.sum(dy, rows), -0.5 * jnp.sum(istd**2 * g * x_hat)


def rms_norm(x, gamma, eps):
    return gamma * x / jnp.sqrt(jnp.mean(x * x, -1, keepdims=True) + eps)


def rms_norm_backward(args, dy):
    x, gamma, eps = args
    irms = lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + eps)
    g, x_hat = gamma * dy, x * irms
    along = jnp.mean(g * x_hat, -1, keepdims=True)
    rows = tuple(range(x.ndim - 1))
    return irms * (g - x_hat * along), jnp.sum(dy * x_hat, rows), -0.5 * jnp.sum(irms**2 * g * x_hat)


def grouped(x):
    """(N, H, W, 2·K) as (N, H, W, 2, K): two groups of channels."""
    return x.reshape(*x.shape[:3], 2, x.shape[3] // 2)


def group_norm(x, gamma, beta, eps):
    y = normalize_primal(grouped(x), jnp.broadcast_to(eps, (x.shape[0], 2)), axis=(1, 2, 4))
    return gamma * y.reshape(x.shape) + beta


def group_norm_backward(args, dy):
    x, gamma, _, eps = args
    z, axes = grouped(x), (1, 2, 4)
    mean = jnp.mean(z, axes, keepdims=True)
    istd = lax.rsqrt(jnp.mean(jnp.square(z - mean), axes, keepdims=True) + eps)
    x_hat, g = (z - mean) * istd, grouped(gamma * dy)
    along = jnp.mean(g * x_hat, axes, keepdims=True)
    dx = istd * (g - jnp.mean(g, axes, keepdims=True) - x_hat * along)
    dgamma = jnp.sum(dy * x_hat.reshape(x.shape), (0, 1, 2))
    return dx.reshape(x.shape), dgamma, jnp.sum(dy, (0, 1, 2)), -0.5 * jnp.sum(istd**2 * g * x_hat)


def instance_norm(x, eps):
    return normalize_primal(x, jnp.broadcast_to(eps, (x.shape[0], x.shape[3])), axis=(1, 2))


def instance_norm_backward(args, dy):
    x, eps = args
    mean = jnp.mean(x, (1, 2), keepdims=True)
    istd = lax.rsqrt(jnp.mean(jnp.square(x - mean), (1, 2), keepdims=True) + eps)
    x_hat = (x - mean) * istd
    along = jnp.mean(dy * x_hat, (1, 2), keepdims=True)
    dx = istd * (dy - jnp.mean(dy, (1, 2), keepdims=True) - x_hat * along)
    return dx, -0.5 * jnp.sum(istd**2 * dy * x_hat)


OTHERS = {
    "layer norm": (layer_norm, layer_norm_backward, ("B T C", "C", "C", "")),
    "RMS norm": (rms_norm, rms_norm_backward, ("B T C", "C", "")),
    "group norm": (group_norm, group_norm_backward, ("N H W 2*K", "2*K", "2*K", "")),
    "instance norm": (instance_norm, instance_norm_backward, ("N H W C", "")),
}


def with_rule(primal, backward):
    op = jax.custom_vjp(primal)
    op.defvjp(lambda *args: (primal(*args), args), backward)
    return op


@pytest.mark.family
@pytest.mark.parametrize("name", OTHERS)
def test_other_normalizations_are_proved(name):
    primal, backward, shapes = OTHERS[name]
    assert_proved(prove_vjp(with_rule(primal, backward), primal, *shapes, positive=(len(shapes) - 1,)))


@pytest.mark.family
@pytest.mark.parametrize("name", OTHERS)
@pytest.mark.parametrize("argument", [0, -1])
def test_their_wrong_rules_are_refuted(name, argument):
    """The cotangent of x, or of ε, half as large again."""
    primal, backward, shapes = OTHERS[name]

    def wrong(args, dy):
        cotangents = list(backward(args, dy))
        cotangents[argument] = cotangents[argument] * 1.5
        return tuple(cotangents)

    op = with_rule(primal, wrong)
    assert prove_vjp(op, primal, *shapes, positive=(len(shapes) - 1,)).status == "refuted"
