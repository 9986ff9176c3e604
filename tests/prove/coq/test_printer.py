"""The printer is trusted, so it is tested: its text, read by another reader, is the program's value."""

import functools
import inspect
import pathlib
import random
import re
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend.core import Primitive
from jax.extend.core import primitives as jaxs

from bnjax import THEOREMS
from bnjax.prove.coq import claim, printer, script, statement, terms
from bnjax.prove.tracing import parse_arguments, pullback, trace
from bnjax.theorems import batch_norm_inference
from tests.prove.coq.reading import as_array, entries, evaluate
from tests.prove.test_fuzz import SHAPES, random_tree, value

SIZES = {"n": 3, "m": 4, "C": 2, "N": 2, "H": 3, "W": 2, "K": 4, "M": 3, "P": 2}


def drawn(argument, rng):
    shape = [SIZES.get(word) or int(word) for word in argument.words]
    if argument.boolean:
        return rng.random(shape) < 0.6
    array = rng.integers(-8, 9, shape) / 4  # binary fractions, so that rationals are exact too
    return np.abs(array) + 0.25 if argument.positive else array


def deviation(function, shapes, positive=(), seed=0, number=float):
    """The largest difference of the printed values and cotangents from those of the program that runs."""
    arguments = parse_arguments(function, shapes, positive)
    programs = trace(function, function, arguments)
    inputs = [*programs.cotangents, *arguments]
    names = claim.Names()
    for a in inputs:
        names.fresh(a.name)
    read = printer.printed(programs.op_vjp, [statement._input(a) for a in inputs], names.lines())
    rng = np.random.default_rng(seed)
    arrays = [drawn(a, rng) for a in inputs]
    env = {a.name: entries(array, number) for a, array in zip(inputs, arrays, strict=True)}
    found = evaluate(read.lines, [r.source for r in read.results], read.conditions, SIZES | env, number)
    count = len(programs.cotangents)
    with jax.enable_x64(True):
        run = pullback(function, arguments)
        expected = jax.tree.leaves(
            run([*map(jnp.asarray, arrays[:count])], *map(jnp.asarray, arrays[count:]))
        )
    return max(
        np.max(np.abs(as_array(f, r.dims, e.shape) - np.asarray(e)), initial=0.0)
        for f, r, e in zip(found, read.results, expected, strict=True)
    )


def at(axis, function):
    return functools.partial(function, axis=axis) if axis != 0 else function


EVALUATION = ("n", "", "", "", "", "")
CASES = [(f"{t.number}", t.op, t.shapes, t.positive) for t in THEOREMS] + [
    ("evaluation mode", batch_norm_inference, EVALUATION, (4, 5))
]


@pytest.mark.family
@pytest.mark.parametrize("shape", ["n", "n C", "N H W C", "N C H W"])
@pytest.mark.parametrize(("name", "op", "shapes", "positive"), CASES, ids=[c[0] for c in CASES])
def test_the_text_of_a_theorem_is_its_program(name, op, shapes, positive, shape):
    axis = {"N H W C": (0, 1, 2), "N C H W": (0, 2, 3)}.get(shape, 0)
    channels = "C" if "C" in shape else ""
    words = [shape if word == "n" else channels for word in shapes]
    assert deviation(at(axis, op), words, positive) < 1e-12


def test_the_text_is_exact_in_rationals():
    """Theorem 33 has no root: its text is evaluated in fractions, at binary inputs."""
    affine = next(t for t in THEOREMS if t.number == 33)
    assert deviation(affine.op, affine.shapes, number=Fraction) == 0


def layer_norm(x, g, b):
    return (x - jnp.mean(x, -1, keepdims=True)) / jnp.sqrt(jnp.var(x, -1, keepdims=True) + 0.125) * g + b


def linear(x, w, b):
    return x @ w + b


def masked(x, m):
    return jnp.where(m, x * x, 0.5), jnp.sum(x * (~m | m).astype(x.dtype)) * x.T


def outer_products(x, y):
    return jnp.einsum("nk,nm->km", x, y), jnp.einsum("nk,nm->nmk", x, y), x.shape[0] * x[None, :, :] ** 3 / 3


@jax.custom_vjp
def powers(x):
    return x**2.0 + x**1.5 + x**-0.5 + x**-1.5 + x**-2.0


powers.defvjp(lambda x: (powers(x), x), lambda x, dy: (dy * (2 * x + 1.5 * x**0.5 - 0.5 * x**-1.5),))


PROGRAMS = [
    (layer_norm, ("n K", "K", "K"), ()),
    (linear, ("n K", "K M", "M"), ()),
    (masked, ("n m", "bool: n m"), ()),
    (outer_products, ("n K", "n M"), ()),
    (lambda x: x**-2 + jnp.sqrt(x) * jax.lax.rsqrt(x + 1), ("n",), (0,)),
    (powers, ("n",), (0,)),
    (lambda x: (x - jnp.mean(x, 0)) * 7, ("7 C",), ()),
    (lambda x: jnp.broadcast_to(x - jnp.sum(x), (1, *x.shape)), ("n 1 m",), ()),
]


@pytest.mark.family
@pytest.mark.parametrize("case", range(len(PROGRAMS)))
@pytest.mark.parametrize("seed", [0, 1])
def test_the_text_of_other_programs_is_the_program(case, seed):
    function, shapes, positive = PROGRAMS[case]
    SIZES["7"] = 7
    assert deviation(function, shapes, positive, seed) < 1e-11


def random_program(seed):
    tree = random_tree(random.Random(seed), 3)

    def program(x, y, g, e, w):
        return value(tree, {"x": x, "y": y, "g": g, "e": e, "w": w}, jnp) / 16

    return program


def agrees(seed):
    """Whether the text of a random program is the program; None where it cannot be printed or computed."""
    try:
        error = deviation(random_program(seed), SHAPES, seed=seed)
    except (printer.Outside, ZeroDivisionError, OverflowError, AssertionError):
        return None
    except ValueError as problem:  # a root of what is negative
        if "math domain" in str(problem):
            return None
        raise
    return error < 1e-6


@pytest.mark.thorough
def test_the_text_of_random_programs_is_the_program():
    found = [agrees(seed) for seed in range(80)]
    assert False not in found
    assert found.count(True) > 20


def broken(monkeypatch, primitive, change):
    """The printer with one primitive's meaning changed: (meaning, eqn, *operands) ↦ values."""
    right = printer._MEANINGS[primitive]
    monkeypatch.setitem(printer._MEANINGS, primitive, lambda eqn, *operands: change(right, eqn, *operands))


def lost_axis(right, eqn, a):
    (total,) = right(eqn, a)
    axis = eqn.params["axes"][0]
    line = total.source
    first = printer.INDICES[axis]
    template = re.sub(rf"sum \w+ \(fun {first} : nat => (.*)\)$", r"\1", line.template)
    places = tuple((v, at.replace(first, "0")) for v, at in line.operands)
    return [printer.Value(printer.Line(line.dims, line.indices, template, places), total.dims)]


FAULTS = {
    "a swapped operand": (jaxs.sub_p, lambda right, eqn, a, b: right(eqn, b, a)),
    "a swapped divisor": (jaxs.div_p, lambda right, eqn, a, b: right(eqn, b, a)),
    "a lost axis": (jaxs.reduce_sum_p, lost_axis),
    "a cast that forgets": (
        jaxs.convert_element_type_p,
        lambda right, eqn, a: [printer.Value("1", a.dims)] if not a.dims else right(eqn, a),
    ),
    "a root for its inverse": (jaxs.rsqrt_p, lambda right, eqn, a: printer._MEANINGS[jaxs.sqrt_p](eqn, a)),
    "a square for its base": (jaxs.square_p, lambda right, eqn, a: [a]),
    "a lost sign": (jaxs.neg_p, lambda right, eqn, a: [a]),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_in_the_printer_is_caught(monkeypatch, fault):
    primitive, change = FAULTS[fault]
    broken(monkeypatch, primitive, change)
    theorem = THEOREMS[-1]
    assert deviation(theorem.op, theorem.shapes, theorem.positive) > 1e-3


def test_a_wrong_choice_and_a_wrong_transpose_are_caught(monkeypatch):
    broken(monkeypatch, jaxs.select_n_p, lambda right, eqn, which, off, on: right(eqn, which, on, off))
    assert deviation(masked, ("n m", "bool: n m")) > 1e-3
    monkeypatch.undo()
    broken(
        monkeypatch,
        jaxs.dot_general_p,
        lambda right, eqn, a, b: [printer.Value(v.source, v.dims) for v in right(eqn, b, a)],
    )
    assert deviation(lambda x, y: x @ y - y, ("7 7", "7 7")) > 1e-3


def test_the_golden_text_of_theorem_29():
    center = THEOREMS[1]
    golden = pathlib.Path(__file__).parent / "theorem29.v"
    assert script(center.op, center.primal, *center.shapes, title="Theorem 29") == golden.read_text()


def printed_definition(function, *shapes, positive=()):
    return script(function, function, *shapes, positive=positive)


def test_what_no_result_needs_is_not_printed():
    def dead(x):
        jnp.exp(x), jax.lax.stop_gradient(x)
        return x * 2

    assert "exp" not in printed_definition(dead, "n")


@pytest.mark.parametrize(
    ("program", "shapes", "reason"),
    [
        (jnp.exp, ("n",), "the primitive exp"),
        (jax.lax.stop_gradient, ("n",), "the primitive stop_gradient"),
        (lambda x: x.reshape(-1), ("n m",), "a reshape"),
        (lambda x: x * np.arange(3, dtype=np.float32), ("3",), "a constant array"),
        (lambda x: x + jnp.nan, ("n",), "NaN"),
        (jnp.round, ("n",), "the primitive round"),
        (lambda x: x.astype(jnp.int32).astype(x.dtype), ("n",), "a cast from float32 to int32"),
        (lambda x: jnp.where(x > 0, x, 0), ("n",), "a comparison that depends on the data"),
        (lambda x: x ** (1 / 3), ("n",), "a power"),
        (lambda x: jnp.sum(x), ("1000",), "the size 1000"),
        (lambda x: x, ("2*n",), "a product of sizes"),
        (lambda x: jax.lax.cond(True, jnp.sin, jnp.cos, x), ("",), "the primitive"),
        (lambda x: x * (jnp.sum(x) // 1), ("n",), "the primitive round"),
    ],
)
def test_what_cannot_be_printed_is_refused_by_name(program, shapes, reason):
    with pytest.raises(ValueError, match=re.escape(reason)):
        printed_definition(program, *shapes)


def test_a_primitive_is_known_by_identity_not_by_name():
    impostor = Primitive("neg")
    impostor.def_impl(lambda x: 2 * x)
    impostor.def_abstract_eval(lambda x: x)
    jax.interpreters.ad.deflinear2(impostor, lambda ct, x: (2 * ct,))
    with pytest.raises(ValueError, match="the primitive neg is not printed"):
        printed_definition(lambda x: impostor.bind(x), "n")


def test_the_refusal_names_the_line_of_the_user():
    with pytest.raises(ValueError, match=r"test_printer.py:\d+"):
        printed_definition(lambda x: jnp.exp(x), "n")


def test_a_program_that_does_not_trace_cannot_be_printed():
    with pytest.raises(ValueError, match="tracing failed"):
        printed_definition(lambda x: x if x.sum() > 0 else -x, "n")


def test_names_that_mean_something_in_coq_are_changed():
    def program(sum, fun, i, n_, R):
        return sum * fun + i * n_ * R

    text = printed_definition(program, "n", "n", "", "n", "")
    assert "(sum' : nat -> R) (fun' : nat -> R) (i' : R)" in text
    assert "(size_k : nat)" in printed_definition(lambda x: x, "k")


def test_the_printer_is_short():
    """What a reader has to believe, besides the meanings in Batch.v: lines of code, without text."""

    def lines(module):
        source = re.sub(r'""".*?"""', "", inspect.getsource(module), flags=re.DOTALL)
        return sum(bool(line.split("#")[0].strip()) for line in source.splitlines())

    assert lines(printer) + lines(terms) <= 330
    assert lines(claim) + lines(statement) <= 320
