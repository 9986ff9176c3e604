"""The enclosure: its primitives and its values are JAX's, and its radii hold what rounding does."""

import itertools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax.check import enclosure

A = np.random.default_rng(0).uniform(0.3, 0.9, (3, 4))
B = np.random.default_rng(1).uniform(0.3, 0.9, (3, 4))


def _of(name, operands):
    return lambda *args: getattr(jax.lax, name)(*args[:operands])


UNARY = (
    *("neg", "abs", "square", "sqrt", "rsqrt", "exp", "expm1", "log", "log1p", "tanh", "logistic", "sin"),
    *("cos", "sign", "stop_gradient", "is_finite"),
)
BINARY = ("add", "sub", "mul", "div", "max", "min", "pow", "gt", "lt", "ge", "le", "eq", "ne")

PROGRAMS = {
    **{name: _of(name, 1) for name in UNARY},
    **{name: _of(name, 2) for name in BINARY},
    "add_any": lambda a, b: jax.vjp(lambda x: x * b + jnp.sin(x) * x, a)[1](b)[0],
    "copy": lambda a, b: jnp.array(a, copy=True),
    "copy_p": lambda a, b: jnp.copy(a),
    "integer_pow": lambda a, b: a**3 + a**-2,
    "reduce_sum": lambda a, b: jnp.sum(a, 1),
    "reduce_max": lambda a, b: jnp.max(a, 0),
    "reduce_min": lambda a, b: jnp.min(a, 0),
    "reshape": lambda a, b: a.reshape(2, 6),
    "reshape that moves axes first": lambda a, b: jax.lax.reshape(a, (6, 2), (1, 0)),
    "transpose": lambda a, b: a.T,
    "squeeze": lambda a, b: jnp.squeeze(a[:1], 0),
    "broadcast_in_dim": lambda a, b: jnp.broadcast_to(a[:, None], (3, 2, 4)),
    "concatenate": lambda a, b: jnp.concatenate([a, b], 1),
    "slice": lambda a, b: a[1:, ::2],
    "select_n": lambda a, b: jnp.where(a > b, a, -b),
    "and": lambda a, b: (a > b) & (a > 0.5),
    "or": lambda a, b: (a > b) | (a > 0.5),
    "not": lambda a, b: ~(a > b),
    "dot_general": lambda a, b: (
        (a @ b.T) @ a
        + jnp.einsum("bi,bj->bij", a, b)[:, 0]
        + jnp.einsum("bij,bj->bi", a[:, :, None] * b[:, None], b)
    ),
    "dot_general of vectors": lambda a, b: a[0] @ b[0],
    "iota": lambda a, b: a + jnp.arange(4) + jax.lax.broadcasted_iota(a.dtype, (3, 4), 0),
    # programs of several primitives, those that JAX runs among them
    "gather": lambda a, b: a[jnp.array([0, 2, 2])] + jnp.take_along_axis(b, jnp.argsort(a, 1), 1),
    "scatter": lambda a, b: a.at[jnp.array([0, 0, 1])].add(b),
    "gather windows": lambda a, b: jax.vmap(lambda i: jax.lax.dynamic_slice(a, (i, i), (2, 3)))(
        jnp.arange(5)
    ),
    "gather beyond the end": lambda a, b: (
        a.at[jnp.array([1, 7, -9])].get(mode="fill", fill_value=7.0),
        a[:, jnp.array([9, -1])],
        jnp.take(a, jnp.array([5, 1]), axis=1, mode="clip"),
        jnp.arange(4)[jnp.argsort(a, 1)],
    ),
    "gather by lanes": lambda a, b: jax.vmap(lambda r, i: r[i])(a, jnp.array([[3, 1], [0, 0], [2, 3]])),
    "gather in the middle": lambda a, b: (a[:, None] * b)[:, jnp.array([[0, 2], [1, 1]]), 1:3],
    "scatters": lambda a, b: (
        a.at[jnp.array([0, 0, 2])].set(b),
        a.at[:, jnp.array([1, 1])].multiply(b[:, :2]),
        a.at[jnp.array([2, 2]), jnp.array([3, 3])].max(b[0, :2]),
        a.at[1:].min(b[1:]),
    ),
    "scatter beyond the end": lambda a, b: a.at[jnp.array([1, 9, 1])].add(b, mode="drop"),
    "scatter by lanes": lambda a, b: jax.vmap(lambda r, i, u: r.at[i].add(u))(
        a, jnp.array([[3, 1], [0, 0], [2, 3]]), b[:, :2]
    ),
    "scatter windows": lambda a, b: jax.lax.dynamic_update_slice(a, b[:2, :2], (1, 3)),
    "lu": lambda a, b: jax.lax.linalg.lu(jnp.stack([a @ b.T, b @ a.T - 1])) + jax.lax.linalg.lu(a),
    "triangular solves": lambda a, b: [
        jax.lax.linalg.triangular_solve(
            (a @ b.T + 3 * jnp.eye(3)),
            b if left else b.T,
            left_side=left,
            lower=lower,
            transpose_a=transposed,
            unit_diagonal=unit,
        )
        for left, lower, transposed, unit in itertools.product((True, False), repeat=4)
    ],
    "sort": lambda a, b: jnp.sort(a, 1),
    "cumsum": lambda a, b: jnp.cumsum(a, 1),
    "pad": lambda a, b: jnp.pad(a, ((1, 0), (0, 2))),
    "scan": lambda a, b: jax.lax.scan(lambda c, r: (c + r, c * r), b[0], a, reverse=True),
    "fori_loop": lambda a, b: jax.lax.fori_loop(0, 3, lambda i, c: c * b + i, a),
    "while": lambda a, b: jax.lax.while_loop(lambda c: jnp.sum(c) < 40, lambda c: c * 1.5, a),
    "cond": lambda a, b: jax.lax.cond(a[0, 0] > b[0, 0], lambda: a * b, lambda: a - b),
    "relu": lambda a, b: jax.vjp(jax.nn.relu, a - b)[1](a)[0],
    "checkpoint": lambda a, b: jax.vjp(jax.checkpoint(lambda x: jnp.sin(jnp.sin(x))), a)[1](b)[0],
    "softmax": lambda a, b: jax.vjp(lambda x: jax.nn.log_softmax(x), a)[1](b)[0],
    "convolution": lambda a, b: jnp.convolve(a[0], b[0]),
}


@pytest.mark.family
@pytest.mark.parametrize("name", PROGRAMS)
def test_values_are_jaxs_and_float32_lies_inside(name):
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(PROGRAMS[name])(A, B)
        expected = [np.asarray(v) for v in jax.tree.leaves(PROGRAMS[name](jnp.asarray(A), jnp.asarray(B)))]
        balls = enclosure.enclose(jaxpr, [A, B], enclosure.rounding(np.float64))
        a, b = A.astype(np.float32), B.astype(np.float32)
        narrow = enclosure.enclose(
            jaxpr, [a.astype(np.float64), b.astype(np.float64)], enclosure.rounding(np.float32)
        )
    got = jax.tree.leaves(PROGRAMS[name](jnp.asarray(a), jnp.asarray(b)))
    for value, ball in zip(expected, balls, strict=True):
        assert ball.value.shape == value.shape
        np.testing.assert_allclose(
            np.asarray(ball.value, np.float64), value.astype(np.float64), rtol=1e-13, atol=1e-14
        )
    for value, ball in zip(got, narrow, strict=True):
        radius = 0 if ball.radius is None else ball.radius
        assert np.all(abs(np.asarray(value, np.float64) - np.asarray(ball.value, np.float64)) <= radius)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_values_alone_are_those_of_the_balls(name):
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(PROGRAMS[name])(A, B)
        balls = enclosure.enclose(jaxpr, [A, B], enclosure.rounding(np.float64))
        for value, ball in zip(enclosure.evaluate(jaxpr, [A, B]), balls, strict=True):
            value, of_ball = np.asarray(value), np.asarray(ball.value)
            assert value.dtype == of_ball.dtype
            np.testing.assert_allclose(value.astype(float), of_ball.astype(float), rtol=1e-13, atol=0)


@pytest.mark.parametrize("name", ["scan", "fori_loop", "cond", "relu", "softmax", "dot_general", "gather"])
def test_the_compiled_enclosure_is_the_same(name):
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(PROGRAMS[name])(A, B)
        at = enclosure.rounding(np.float32)
        here = enclosure.enclose(jaxpr, [A, B], at)
        there = jax.jit(lambda a, b: [tuple(x) for x in enclosure.enclose(jaxpr, [a, b], at, jnp)])(A, B)
        for ball, (value, radius) in zip(here, there, strict=True):
            np.testing.assert_allclose(ball.value, value, rtol=1e-12)
            mine = np.zeros(ball.value.shape) if ball.radius is None else ball.radius
            np.testing.assert_allclose(
                mine, np.zeros_like(mine) if radius is None else radius, rtol=1e-9, atol=1e-300
            )


def test_a_cancellation_and_a_division_by_what_may_be_zero():
    with jax.enable_x64(True):
        x = np.array([1.0, 1e8])
        jaxpr = jax.make_jaxpr(lambda x: (x * x + 1.0) - x * x)(x)
        (ball,) = enclosure.enclose(jaxpr, [x], enclosure.rounding(np.float32))
        assert ball.radius[0] < 1e-4
        assert ball.radius[1] > 1e8
        jaxpr = jax.make_jaxpr(lambda x: 1 / (x * x - x * x))(x)
        (ball,) = enclosure.enclose(jaxpr, [x], enclosure.rounding(np.float32))
        assert np.all(np.isinf(ball.radius))


def test_an_undecided_branch_takes_in_both():
    with jax.enable_x64(True):
        x = np.array([0.1, 3.0])
        jaxpr = jax.make_jaxpr(lambda x: jnp.where(x * 0.3 > 0.03, 1.0, -1.0))(x)
        (ball,) = enclosure.enclose(jaxpr, [x], enclosure.rounding(np.float32))
    assert ball.radius[0] >= 2
    assert ball.radius[1] == 0


def test_an_undecided_bit_stays_the_only_one_when_it_is_moved():
    """A mask that is broadcast, as vmap over cotangents does, is undecided where it was and nowhere else."""

    def masked(x, dy):
        z = 3 * x - 3 * 0.1
        return jnp.where(jnp.broadcast_to(z > 0, dy.shape), dy, 0)

    with jax.enable_x64(True):
        x, dy = np.array([0.1, 0.5, -0.5]), np.ones((2, 3))
        jaxpr = jax.make_jaxpr(masked)(x, dy)
        (ball,) = enclosure.enclose(jaxpr, [x, dy], enclosure.rounding(np.float64))
    np.testing.assert_array_equal(ball.radius >= 1, [[True, False, False]] * 2)


def test_the_float64_bound_does_not_grow_with_the_array():
    with jax.enable_x64(True):
        relative = []
        for n in (8, 100_000):
            x = np.ones(n)
            (ball,) = enclosure.enclose(jax.make_jaxpr(jnp.sum)(x), [x], enclosure.rounding(np.float64))
            relative.append(float(ball.radius) / n)
    assert relative[0] == pytest.approx(relative[1], rel=1e-6)
    assert relative[0] < 1e-9


def at_one_point(program, *args, dtype=np.float32):
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(program)(*args)
        return jaxpr, enclosure.enclose(jaxpr, list(args), enclosure.rounding(dtype))


NEAR = np.array([0.3, 0.1 * 3, 0.1])  # 3·NEAR's first two are each other's within a roundoff


@pytest.mark.parametrize(
    ("program", "reach"),
    [
        (lambda x: jnp.array([5.0, -2.0, 40.0])[jnp.argmax(3 * x)], 40.0),
        (lambda x: jax.nn.one_hot(jnp.argmax(3 * x), 3), 1.0),
        (lambda x: jnp.zeros(3).at[jnp.argmax(3 * x)].add(7.0), 7.0),
        (lambda x: jax.lax.dynamic_slice(jnp.array([5.0, -2.0, 40.0]), (jnp.argmax(3 * x),), (1,)), 35.0),
        (lambda x: jax.lax.sort((3 * x, jnp.array([1.0, 5.0, 2.0])), dimension=0, num_keys=1)[1], 3.0),
        (lambda x: jnp.array([1.0, 5.0, 2.0])[jax.lax.top_k(3 * x, 1)[1]], 4.0),
        (lambda x: jax.lax.cond(3 * x[0] > 3 * x[1], lambda: 1.0, lambda: -1.0), 2.0),
        (lambda x: jnp.floor(3 * x[0] - 3 * x[1]), 1.0),
        (lambda x: jnp.sum(3 * x > 3 * x[0]).astype(float), 1.0),
    ],
)
def test_a_decision_in_doubt_reaches_every_outcome(program, reach):
    (ball,) = at_one_point(program, NEAR)[1]
    assert np.max(ball.radius) >= reach
    assert np.all(np.isfinite(ball.radius))


def test_a_loop_that_may_stop_at_either_of_two_steps_has_no_bound():
    program = lambda x: jax.lax.while_loop(lambda c: 3 * c < 3 * x[1], lambda c: c + x[0], 0.0)  # noqa: E731
    (ball,) = at_one_point(program, NEAR)[1]
    assert np.isinf(ball.radius)


def test_a_loop_of_lanes_changes_only_those_that_go_on():
    program = jax.vmap(lambda x: jax.lax.while_loop(lambda c: c < 40, lambda c: c * 1.5, x))
    x = np.array([1.0, 30.0, 50.0])
    (ball,) = at_one_point(program, x)[1]
    np.testing.assert_allclose(ball.value, program(x), rtol=1e-5)
    assert np.all(ball.radius < 1e-3)


def test_the_larger_of_two_that_are_apart_keeps_its_own_radius():
    (ball,) = at_one_point(lambda x: jnp.maximum(-x * 1.1, 0.0), np.array([0.5, 2.0]))[1]
    np.testing.assert_array_equal(ball.radius, 0)


def test_a_primitive_without_a_rule_is_named():
    key = jax.random.key(0)
    jaxpr, (ball,) = at_one_point(lambda x: jax.lax.reduce(2 * x, 0.0, lambda a, b: a - b, (0,)), NEAR)
    assert enclosure.without_bound(jaxpr) == ["reduce"]
    assert np.isinf(ball.radius)
    jaxpr, _ = at_one_point(lambda x: jnp.sin(jax.random.gamma(key, x)), NEAR)
    assert enclosure.without_bound(jaxpr) == ["random_gamma"]
    jaxpr, _ = at_one_point(lambda x: jax.nn.softmax(x @ x.T) + jax.random.uniform(key), NEAR[None])
    assert enclosure.without_bound(jaxpr) == []


def test_another_primitive_of_the_same_name_is_another_one():
    other = jax.extend.core.Primitive("neg")
    other.def_impl(lambda x: x)
    other.def_abstract_eval(lambda x: x)
    jaxpr, (ball,) = at_one_point(lambda x: other.bind(2 * x), NEAR)
    assert enclosure.without_bound(jaxpr) == ["neg"]
    np.testing.assert_array_equal(ball.value, 2 * NEAR)
    assert np.all(np.isinf(ball.radius))


def test_a_matrix_near_a_singular_one_has_a_wide_ball():
    near = np.array([[1.0, 1.0], [1.0, 1.0 + 1e-7]])
    for program in (jnp.linalg.inv, jnp.linalg.cholesky, lambda a: jnp.linalg.solve(a, a[0])):
        (ball,) = at_one_point(program, near)[1]
        assert np.max(ball.radius) > 1e-4 * np.max(abs(ball.value))
        (ball,) = at_one_point(program, np.eye(2) + 0.1)[1]
        assert np.max(ball.radius) < 1e-4
