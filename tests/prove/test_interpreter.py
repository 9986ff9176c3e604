"""Each primitive means what JAX computes; what is not modelled is refused, by its name and line."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax._src.export.shape_poly import dim_as_value_p
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import Primitive
from jax.extend.core import primitives as jaxs

from bnjax.jaxprs import equations
from bnjax.prove.algebra import Atom
from bnjax.prove.arrays import Array, summed
from bnjax.prove.exact import _IDENTITIES, _MOVES, _RULES
from bnjax.prove.exact_loops import LOOPS
from bnjax.prove.exact_places import PLACES
from bnjax.prove.field import Field
from bnjax.prove.interpreter import Interpreter, Refusal
from bnjax.prove.meanings import PRIMITIVES
from tests.prove.reading import value_at

A = (4, 3)
CASES = {
    "abs": (lambda x: abs(x), A),
    "add": (lambda x, y: x + y, A, A),
    "add_any": (lambda x, y: jax.vjp(lambda a: a * y + a * a, x)[1](y)[0], A, A),
    "and": (lambda w, u: (w & u).astype(float), "bool", "bool"),
    "argmax": (lambda x: x[jnp.argmax(x, 0), jnp.arange(3)] * jnp.argmax(x[2]), A),
    "argmin": (lambda x: x[jnp.argmin(x, 0), jnp.arange(3)] * jnp.argmin(x * 0 + x[:1], 0), A),
    "broadcast_in_dim": (lambda x: lax.broadcast_in_dim(x, (3, 2, 4), (2,)), (4,)),
    "clamp": (lambda x: lax.clamp(-0.5, x, 0.25), A),
    "concatenate": (lambda x, y: jnp.concatenate([x, y, x], 1), (2, 3), (2, 1)),
    "conv_general_dilated": (
        lambda x, k: lax.conv_general_dilated(
            x, k, (2, 1), ((2, 1), (-1, 2)), (1, 2), (2, 1), ("NHWC", "HWIO", "NHWC")
        ),
        (2, 5, 4, 3),
        (2, 3, 3, 2),
    ),
    "convert_element_type": (lambda x: x.astype(jnp.float32).astype(jnp.float64) * 0.5, "small"),
    "asinh": (lambda x: jnp.arcsinh(x) + jnp.arcsinh(-2 * x), A),
    "atan": (lambda x: jnp.arctan(x) + jnp.arctan(-2 * x), A),
    "copy": (lambda x: jnp.copy(x), A),
    "cos": (lambda x: jnp.cos(x) * jnp.cos(-2 * x), A),
    "cosh": (lambda x: jnp.cosh(x), A),
    "cumsum": (lambda x: lax.cumsum(x, 1, reverse=True) * lax.cumsum(x, 0), A),
    "dim_as_value": None,  # below: only a symbolic size makes it
    "platform_index": (lambda x: jnp.diagonal(x), (3, 3)),
    "empty2": None,  # below: of what was never set nothing is a number
    "exp2": (lambda x: jnp.exp2(x) * jnp.exp2(-2 * x), A),
    "div": (lambda x, e: x / (2 + e * e), A, A),
    "dot_general": (lambda x, y: jnp.einsum("bij,bjk->bik", x, y), (2, 4, 3), (2, 3, 5)),
    "erf": (lambda x: lax.erf(x) + lax.erf(-2 * x), A),
    "erfc": (lambda x: lax.erfc(x), A),
    "exp": (lambda x, y: jnp.exp(x - 2 * y) + jnp.exp(x / 2) * jnp.exp(x.sum(0) - 1), A, A),
    "expm1": (lambda x: jnp.expm1(x), A),
    "dynamic_slice": (lambda x: lax.dynamic_slice(x, (1, 9), (2, 3)), A),
    "dynamic_update_slice": (lambda x: lax.dynamic_update_slice(x, x[:2, :2] ** 2, (9, 1)), A),
    "eq": (lambda x: jnp.where(lax.eq(3.0, 3.0), x, x * x), A),
    "gather": (lambda x: x[jnp.array([2, 0, -1]), :2] * x[1, jnp.array([1, 1])], A),
    "ge": (lambda x: jnp.where(lax.ge(3.0, 4.0), x, x * x), A),
    "gt": (lambda x, y: jnp.where(lax.gt(1 + x * x, 0.0 * x), x, x * x) * jnp.where(x * x > y, x, y), A, A),
    "integer_pow": (lambda x: x**3 + (x * x + 1) ** -2, A),
    "iota": (lambda x: x * (lax.iota(int, 4)[:, None] >= lax.iota(int, 3)) + lax.iota(float, 3), A),
    "is_finite": (lambda x: jnp.where(lax.is_finite(x), x, 0), A),
    "le": (lambda x: jnp.where(lax.le(3.0, 4.0), x, x * x), A),
    "lt": (lambda x: jnp.where(lax.lt(3.0, 4.0), x, x * x), A),
    "log": (lambda x: jnp.log(jnp.exp(x).sum(0) / 3) + jnp.log(1 + x * x) * jnp.log(jnp.exp(x) * 1.5), A),
    "log1p": (lambda x: jnp.log1p(jnp.exp(-x)), A),
    "logistic": (lambda x: jax.nn.sigmoid(x) * jax.nn.sigmoid(-x), A),
    "max": (
        lambda w, x: x / jnp.maximum(w.astype(float).sum(0), 1.0) + jnp.maximum(x, x * x) - jnp.maximum(0, x),
        "bool",
        A,
    ),
    "min": (lambda x, y: jnp.minimum(x, y), A, A),
    "mul": (lambda x, y: x * y, A, (1, 3)),
    "name": (lambda x: checkpoint_name(x, "kept") * 2, A),
    "ne": (lambda x: jnp.where(lax.ne(3.0, 4.0), x, x * x), A),
    "neg": (lambda x: -x, A),
    "not": (lambda w, x: jnp.where(~w, x, x * x), "bool", A),
    "optimization_barrier": (lambda x: lax.optimization_barrier(x) * 2, A),
    "or": (lambda w, u: (w | u).astype(float), "bool", "bool"),
    "pad": (lambda x: lax.pad(x, 0.0, ((1, 0, 1), (2, -1, 0))), (2, 3)),
    "sin": (lambda x: jnp.sin(x) + jnp.sin(-2 * x) + jnp.sin(x) ** 3, A),
    "tan": (lambda x: jnp.tan(x), A),
    "pow": (lambda x, y: (1 + x * x) ** y + (1 + x * x) ** 1.5 + (1 + x * x) ** -0.5 + lax.pow(x, 2.0), A, A),
    "psum": (lambda x: jax.vmap(lambda r: r / (1 + lax.psum(r * r, "d")), axis_name="d")(x), A),
    "reduce_max": (lambda x: x.max((0, 2)) + jnp.where(x == x.max(0), x, 0).sum((0, 2)), (4, 3, 2)),
    "reduce_min": (lambda x: x.min(1), A),
    "reduce_sum": (lambda x: jnp.sum(x, (0, 2)), (4, 3, 2)),
    "reduce_window_max": (lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2, 3), (2, 1), "VALID"), (6, 5)),
    "reduce_window_sum": (
        lambda x: lax.reduce_window(x, 0.0, lax.add, (2, 3), (2, 1), ((1, 0), (0, 2)), (2, 1), (1, 2)),
        (6, 5),
    ),
    "reshape": (lambda x: x.reshape(4, 1, 3) + lax.reshape(x, (4, 1, 3), (1, 0)), A),
    "rev": (lambda x: lax.rev(x, (0, 1)), (3, 4)),
    "rsqrt": (lambda x: lax.rsqrt(1 + jnp.square(x).sum(0)), A),
    "scatter": (lambda x, y: x.at[jnp.array([3, 1])].set(y[:2]).at[:, 1:].set(7.0), A, A),
    "scatter-add": (lambda x, y: x.at[jnp.array([2, 0, 2, 2])].add(y), A, A),
    "select_and_scatter_add": (
        lambda x, y: jax.vjp(lambda a: lax.reduce_window(a, -jnp.inf, lax.max, (2, 2), (1, 2), "VALID"), x)[
            1
        ](y)[0],
        (4, 4),
        (3, 2),
    ),
    "select_n": (lambda w, x, y: jnp.where(w, x, y), "bool", A, A),
    "sign": (lambda x: jnp.sign(x) * x, A),
    "sinh": (lambda x: jnp.sinh(x), A),
    "slice": (lambda x: lax.slice(x, (0, 1), (2, 4), (1, 2)), (3, 5)),
    "split": (lambda x: lax.split(x, (1, 3), axis=1)[1], (3, 4)),
    "sqrt": (lambda x: jnp.sqrt(1 + x * x) + jnp.sqrt(jnp.exp(x)), A),
    "square": (lambda x: jnp.square(x), A),
    "squeeze": (lambda x: jnp.squeeze(x, 1), (4, 1, 3)),
    "stop_gradient": (lambda x: lax.stop_gradient(x) * x, A),
    "stack": (lambda x, y: jnp.stack([x, 2 * y, x * y], 1), A, A),
    "sub": (lambda x, y: x - y, A, ()),
    "tile": (lambda x: jnp.tile(x, (2, 3)), A),
    "tanh": (lambda x: jnp.tanh(x), A),
    "unstack": (lambda x: lax.unstack(x, axis=1)[2] * 2, A),
    "transpose": (lambda x: jnp.transpose(x, (2, 0, 1)) * 2, (4, 3, 2)),
}


def example(shape, source):
    if shape == "bool":
        array = source.random(A) < 0.5
        array[0] = True
        return array
    if shape == "small":  # exact in float32
        return source.integers(-8, 8, A) / 4.0
    return source.normal(size=shape)


def interpreted(jaxpr, args):
    """The first output's number, through the algebra."""
    field = Field()
    inputs, numbers = [], {}
    for k, arg in enumerate(args):
        dims = tuple((str(size),) if size != 1 else () for size in arg.shape)
        sizes = tuple(size for dim in dims for size in dim)
        inputs.append(Array(dims, field.atom(Atom(f"x{k}", sizes, boolean=arg.dtype == bool))))
        numbers[f"x{k}"] = arg.reshape([size for size in arg.shape if size != 1])
    result = Interpreter(field).run(jaxpr, inputs)[0]
    field.check_layout(result.poly, result.axes)
    value = value_at(field, result.poly, numbers, result.axes, {})
    return value.reshape([int(dim[0]) if dim else 1 for dim in result.dims])


def test_every_modelled_primitive_has_a_case():
    assert set(CASES) == {primitive.name for primitive in PRIMITIVES}


@pytest.mark.family
@pytest.mark.parametrize("name", sorted(name for name, case in CASES.items() if case))
def test_a_primitive_means_what_jax_computes(name):
    function, *shapes = CASES[name]
    source = np.random.default_rng(1)
    args = [np.asarray(example(shape, source)) for shape in shapes]
    with jax.enable_x64(True):
        jaxpr = jax.make_jaxpr(function)(*args)
        expected = np.asarray(function(*map(jnp.asarray, args)))
    assert name in {eqn.primitive.name for eqn in equations(jaxpr)}
    np.testing.assert_allclose(interpreted(jaxpr, args), expected, rtol=1e-12, atol=1e-12)


def symbolic(function, shape="n, m"):
    sizes = jax.export.symbolic_shape(shape)
    jaxpr = jax.make_jaxpr(function)(jax.ShapeDtypeStruct(sizes, jnp.float32))
    field = Field()
    words = tuple((str(size),) for size in sizes)
    x = Array(words, field.atom(Atom("x", tuple(map(str, sizes)))))
    return field, Interpreter(field).run(jaxpr, [x])[0]


def test_dim_as_value_is_the_size():
    field, result = symbolic(lambda x: x / (2 * x.shape[0] * x.shape[1] ** 2 - 1 + x.shape[0]))
    numbers = np.arange(12.0).reshape(4, 3)
    value = value_at(field, result.poly, {"x": numbers}, ("n", "m"), {"n": 4, "m": 3})
    np.testing.assert_allclose(value, numbers / (2 * 4 * 9 - 1 + 4), rtol=1e-14)


def test_a_poisoned_branch_must_be_selected_away():
    _, kept = symbolic(lambda x: jnp.where(x.shape[0] > 0, x, jnp.nan))
    assert kept.poly is not None
    with pytest.raises(Refusal, match="NaN"):
        symbolic(lambda x: jnp.where(x.shape[0] > 0, jnp.nan, x) * 2)


def test_a_constant_array_is_an_unknown_one():
    constant = np.arange(3.0, dtype=np.float32)
    _, result = symbolic(lambda x: (x * constant).sum(1) - (constant * x).sum(1), "n, 3")
    assert not result.poly.terms
    _, result = symbolic(lambda x: (x * constant).sum(1) - (constant[::-1].copy() * x).sum(1), "n, 3")
    assert result.poly.terms


def test_literals_are_read_exactly():
    field, result = symbolic(lambda x: x * 0.1)
    assert result.poly != field.entry("x", (0, 1)) * field.constant(1) * field.inverse(field.constant(10))
    assert list(result.poly.terms.values()) == [Fraction(float(np.float32(0.1)))]


def test_merged_axes_keep_apart_what_they_are_made_of():
    """(n, 2·K) → (n, 2, K) and back is the identity; (K, 2) instead of (2, K) is refused."""
    n, k2 = jax.export.symbolic_shape("n, 2*K")
    struct = jax.ShapeDtypeStruct((n, k2), jnp.float32)

    def run(function):
        field = Field()
        x = Array((("n",), ("2", "K")), field.atom(Atom("x", ("n", "2", "K"))))
        jaxpr = jax.make_jaxpr(function)(struct)
        return field, Interpreter(field, {"2*K": ("2", "K")}).run(jaxpr, [x])[0]

    field, result = run(lambda x: x.reshape(x.shape[0], 2, x.shape[1] // 2).sum(2))
    assert result.poly == field.total(field.entry("x", (0, 1, 2)), 2, "K")
    _, result = run(lambda x: x.reshape(x.shape[0], 2, x.shape[1] // 2).reshape(x.shape) - x)
    assert not result.poly.terms
    with pytest.raises(Refusal, match="reshape"):
        run(lambda x: x.reshape(x.shape[0], x.shape[1] // 2, 2))


@pytest.mark.parametrize("shape", ["n, m", "n, n"])
def test_a_scrambling_reshape_is_refused(shape):
    def scramble(x):
        return x.reshape(x.shape[1] * x.shape[0]).reshape(x.shape[1], x.shape[0]).T + x * 0

    if shape == "n, n":  # the same sizes: the reshape scrambles nothing, the transpose transposes
        _, result = symbolic(lambda x: scramble(x) - x.T, shape)
        assert not result.poly.terms
    else:
        with pytest.raises(Refusal, match="reshape"):
            symbolic(scramble, shape)


def test_equal_sizes_of_different_axes_stay_apart():
    _, result = symbolic(lambda x: x.sum(0) - x.sum(1), "n, n")
    assert result.poly.terms


def test_a_wrong_axis_is_caught_by_the_layout_assertion(monkeypatch):
    """A reduction that sums one axis and drops another: the assertion ends it, whatever the axes' sizes."""

    def wrong(space, eqn, a):
        right = summed(space, a, {1})
        return Array(a.dims[1:], right.poly)

    monkeypatch.setitem(PRIMITIVES, lax.reduce_sum_p, wrong)
    with pytest.raises(Refusal, match="layout"):
        symbolic(lambda x: x.sum(0))


def pallas(x):
    from jax.experimental import pallas as pl

    def kernel(source, target):
        target[...] = source[...]

    return pl.pallas_call(kernel, out_shape=jax.ShapeDtypeStruct(x.shape, x.dtype))(x)


REFUSED = {
    "pallas_call": pallas,
    "while": lambda x: lax.while_loop(lambda a: a.sum() < 9, lambda a: a * 2, x),
    "scan": lambda x: lax.fori_loop(0, 17, lambda i, a: a * 2, x),
    "cond": lambda x: lax.cond(x[0] > 0, jnp.exp, jnp.negative, x),
    "convert_element_type": lambda x: x.astype(jnp.int32).astype(jnp.float32),
    "sort": lambda x: lax.sort(x),
    "cbrt": lambda x: lax.cbrt(x),
    "argmax": lambda x: x * jnp.argmax(x > 0),
    "argmin": lambda x: x * jnp.argmin(jnp.stack([x, x])),  # along an axis that is merged
    "exp": lambda x: x * jnp.exp(jnp.float32(1000.0) + 0 * x),  # infinite
    "select_n": lambda x: jnp.where(x > 0, x, jnp.inf),
    "neg": lambda x: -jnp.where(x > 0, x, -jnp.inf),
    "sub": lambda x: x - jnp.where(x > 0, x, -jnp.inf),
    "mul": lambda x: x * jnp.where(x > 0, x, -jnp.inf),
    "reduce_max": lambda x: jnp.where(np.arange(3) > 3, x, -jnp.inf).max(),
    "reduce_window_max": lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (2,), (1,), ((1, 0),)),
    "random_bits": lambda x: x + jax.random.bits(jax.random.key(0), x.shape).astype(x.dtype),
    "gather": lambda x: x[jnp.array([0, 3])],  # out of range
    "scatter": lambda x: x.at[jnp.array([1, 1])].set(0.0),
    "dynamic_slice": lambda x: lax.dynamic_slice(x, (lax.iota(int, 9).sum() + (x[0] > 0),), (2,)),
    "floor": lambda x: lax.floor(x),
}


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_is_not_modelled_is_refused_with_its_name_and_line(name):
    jaxpr = jax.make_jaxpr(REFUSED[name])(jax.ShapeDtypeStruct((3,), jnp.float32))
    field = Field()
    with pytest.raises(Refusal) as refusal:
        Interpreter(field).run(jaxpr, [Array((("3",),), field.atom(Atom("x", ("3",))))])
    if name != "random_bits":  # the key's own primitives come first there
        assert refusal.value.reason.startswith(f"{name}:")
    assert refusal.value.where.startswith("test_interpreter.py:")


def test_what_was_never_set_is_no_number():
    def empty():
        return jaxs.empty2_p.bind(dtype=jnp.dtype("float32"), memory_space=jax.memory.Space.Device)

    symbolic(lambda x: jnp.where(x.shape[0] > 0, x, empty()))
    with pytest.raises(Refusal, match="never set"):
        symbolic(lambda x: x + empty())


def test_a_branch_by_platform_is_refused():
    def on(x):
        return lax.platform_dependent(x, tpu=lambda x: 2 * x, default=lambda x: x)

    with pytest.raises(Refusal, match="platform"):
        symbolic(on)


@pytest.mark.parametrize("index", [-3, 0, 1, 7])
def test_a_known_branch_is_taken_and_an_index_out_of_range_is_the_nearest(index):
    def switched(x):
        return lax.switch(index, [lambda x: 2 * x, lambda x: 3 * x], x)

    field, result = symbolic(switched)
    assert result.poly == field.entry("x", (0, 1)) * field.constant(3 if index > 0 else 2)


def test_what_is_modelled_is_evaluated_exactly_too():
    """But for sizes that are symbols, and for what devices sum up."""
    exact = {*_RULES, *_MOVES, *_IDENTITIES, *PLACES, *LOOPS}
    apart = {lax.split_p, lax.unstack_p, lax.psum_p, dim_as_value_p}
    assert set(PRIMITIVES) - apart <= exact


def test_a_primitive_is_what_it_is_and_not_what_it_is_called():
    """Another primitive called neg, which doubles, is not read as the negation."""
    other = Primitive("neg")
    other.def_impl(lambda x: 2 * x)
    other.def_abstract_eval(lambda x: x)
    with pytest.raises(Refusal, match="neg: not modelled"):
        symbolic(lambda x: other.bind(x))


def test_integer_division_is_refused():
    jaxpr = jax.make_jaxpr(lambda k: lax.div(k, 2))(jax.ShapeDtypeStruct((), jnp.int32))
    field = Field()
    with pytest.raises(Refusal, match="div: integer division"):
        Interpreter(field).run(jaxpr, [Array((), field.size("n"))])


def test_a_size_that_is_not_a_polynomial_is_refused():
    with pytest.raises(Refusal, match="size"):
        symbolic(lambda x: x / (x.shape[0] // 2))
