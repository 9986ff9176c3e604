"""What Python asks of a size: each answer is proved, or said; a rule wrong at some size only is found."""

import contextlib
import functools
import math
import operator
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from bnjax.prove import prove_vjp
from bnjax.prove.questions import recorded
from bnjax.prove.sizes import points, solutions, solved
from tests.prove.rules import with_rule


@functools.lru_cache
def is_nine(n):
    return n == 9


@jax.jit
def doubled_at_nine(x):
    return 2 * x if x.shape[0] == 9 else x


def caught(question):
    """The question, its exceptions caught: of a symbol it is answered by no."""

    def asked(x):
        try:
            return question(x)
        except Exception:
            return False

    return asked


QUESTIONS = {
    "n == 7": lambda x: x.shape[0] == 7,
    "n == 7.0": lambda x: x.shape[0] == 7.0,
    "7 == n, of numpy": lambda x: np.int64(7) == x.shape[0],
    "(n != 7) is False": lambda x: (x.shape[0] != 7) is False,
    "n % 4 == 0": lambda x: x.shape[0] % 4 == 0,
    "n % 4 == 3": lambda x: x.shape[0] % 4 == 3,
    "not n % 3": lambda x: not x.shape[0] % 3,
    "n // 4 == 2": lambda x: x.shape[0] // 4 == 2,
    "n·n == 49": lambda x: x.shape[0] ** 2 == 49,
    "not n - 7": lambda x: not (x.shape[0] - 7),
    "x.size == 6": lambda x: x.size == 6,
    "shape == (4,)": lambda x: x.shape == (4,),
    "n in (3, 9)": lambda x: x.shape[0] in (3, 9),
    "n in a set": lambda x: x.shape[0] in {9},
    "a table of n": lambda x: {9: True}.get(x.shape[0], False),
    "a table of shapes": lambda x: {(9,): True}.get(x.shape, False),
    "a cached function of n": lambda x: is_nine(x.shape[0]),
    "isinstance, and n > 5": lambda x: isinstance(x.shape[0], int) and x.shape[0] > 5,
    "hasattr, and n > 5": lambda x: hasattr(x.shape[0], "bit_length") and x.shape[0] > 5,
    "the type of n, and n > 5": lambda x: type(x.shape[0]) is int and x.shape[0] > 5,
    "str(n)": lambda x: str(x.shape[0]) == "9",
    "int(n), caught": caught(lambda x: int(x.shape[0]) == 9),
    "float(n), caught": caught(lambda x: float(x.shape[0]) > 8),
    "range(n), caught": caught(lambda x: len(range(x.shape[0])) == 9),
    "n > 8, caught": caught(lambda x: x.shape[0] > 8),
    "a list times n, caught": caught(lambda x: len([0] * x.shape[0]) == 9),
    "abs(n), caught": caught(lambda x: abs(x.shape[0]) == 9),
    "√n, caught": caught(lambda x: math.sqrt(x.shape[0]) == 3),
    "operator.index(n), caught": caught(lambda x: operator.index(x.shape[0]) == 9),
    "numpy's zeros, caught": caught(lambda x: np.zeros(x.shape[0]).size == 9),
}


@pytest.mark.family
@pytest.mark.parametrize("asked", QUESTIONS.values(), ids=QUESTIONS)
def test_a_rule_that_is_wrong_where_a_question_is_answered_by_yes_is_refuted(asked):
    def backward(args, dy):
        return ((3 if asked(args[0]) else 2) * args[0] * dy,)

    proof = prove_vjp(with_rule(jnp.square, backward), jnp.square, "n")
    assert proof.status == "refuted", str(proof)
    assert asked(np.asarray(proof.counterexample.point["x"], float))


MIXED = {
    "n == 2·m": lambda x: x.shape[0] == 2 * x.shape[1],
    "n == m": lambda x: x.shape[0] == x.shape[1],
    "n == m + 1": lambda x: x.shape[0] == x.shape[1] + 1,
    "n == m·m": lambda x: x.shape[0] == x.shape[1] ** 2,
    "n == 1 and m > 1": lambda x: x.shape[0] == 1 and x.shape[1] > 1,
    "n == 3 and m == 5": lambda x: x.shape[0] == 3 and x.shape[1] == 5,
    "x.size == 6": lambda x: x.size == 6,
    "shape == (4, 3)": lambda x: x.shape == (4, 3),
    "n % m": lambda x: x.shape[0] % x.shape[1] == 0,
    "sorted, caught": caught(lambda x: sorted(x.shape)[0] == 4),
}


@pytest.mark.parametrize("asked", MIXED.values(), ids=MIXED)
def test_a_rule_that_is_wrong_at_mixed_sizes_is_refuted(asked):
    proof = prove_vjp(lambda x: 2 * x if asked(x) else x, lambda x: x, "n m")
    assert proof.status == "refuted", str(proof)
    assert asked(np.asarray(proof.counterexample.point["x"], float))


@pytest.mark.parametrize("again", range(2))
def test_a_question_inside_a_jitted_function_is_heard_each_time(again):
    assert prove_vjp(doubled_at_nine, lambda x: x, "n").status == "refuted"


@pytest.mark.parametrize(
    "asked", [QUESTIONS["n == 7"], QUESTIONS["n % 4 == 0"], QUESTIONS["n in (3, 9)"], MIXED["n == 2·m"]]
)
def test_an_answer_that_changes_nothing_is_proved_apart(asked):
    shapes = "n m" if asked is MIXED["n == 2·m"] else "n"
    proof = prove_vjp(lambda x: 1.0 * x if asked(x) else x, lambda x: x, shapes)
    assert proof.status == "proved", str(proof)
    assert any("≠" in o.claim and "test_sizes.py" in o.where for o in proof.obligations)


def test_what_is_no_equation_is_an_obligation():
    proof = prove_vjp(lambda x: 1.0 * x if is_nine(x.shape[0]) else x, lambda x: x, "n")
    assert proof.status == "conditional"
    assert "__hash__" in proof.claim
    proof = prove_vjp(lambda x: 1.0 * x if x.shape[0] * x.shape[1] == 6 else x, lambda x: x, "n m")
    assert proof.status == "conditional"
    assert "6" in proof.claim


TYPES = {
    "type(n) is int": lambda x: type(x.shape[0]) is int and x.shape[0] > 2000,
    "the type's name": lambda x: type(x.shape[0]).__name__ == "int" and x.shape[0] > 2000,
    "a table of types": lambda x: {int: x.shape[0]}.get(type(x.shape[0]), 0) == 2500,
    "map(type, shape)": lambda x: list(map(type, x.shape)) == [int] and x.shape[0] > 2000,
    "type(n).__mro__": lambda x: int in type(x.shape[0]).__mro__ and x.shape[0] > 2000,
    "__class__": lambda x: x.shape[0].__class__ is int and x.shape[0] > 2000,
    "an attribute that an int has not": lambda x: not hasattr(x.shape[0], "scope") and x.shape[0] > 2000,
    "an attribute that an int has": lambda x: hasattr(x.shape[0], "bit_length") and x.shape[0] > 2000,
    "what an int is by default": lambda x: getattr(x.shape[0], "real", 0) > 2000,
    "is_symbolic_dim": lambda x: not export.is_symbolic_dim(x.shape[0]) and x.shape[0] > 2000,
    "a reshape that JAX refuses": lambda x: succeeds(lambda: x.reshape(-1, 2003)),
    "a product that JAX refuses": lambda x: succeeds(lambda: jnp.dot(x, jnp.ones(2003))),
    "the text of an abstract array": lambda x: "[2003]" in str(jax.typeof(x)),
    "its short text": lambda x: x.aval.str_short().endswith("[2003]"),
    "the text of a tracer": lambda x: "[2003]" in repr(x),
    "the text of a program": lambda x: "[2003]" in str(jax.make_jaxpr(jnp.sum)(x)),
    "an abstract array": lambda x: x.aval == jax.core.ShapedArray((2003,), jnp.float32),
    "another abstract array": lambda x: not operator.ne(x.aval, jax.core.ShapedArray((2003,), jnp.float32)),
    "a table of abstract arrays": lambda x: x.aval in {jax.core.ShapedArray((2003,), jnp.float32)},
    "a table of shapes": lambda x: (
        jax.ShapeDtypeStruct(x.shape, x.dtype) in {jax.ShapeDtypeStruct((2003,), "f")}
    ),
    "rows that JAX refuses": lambda x: succeeds(lambda: [list(x)]) and x.shape[0] > 2000,
}


def succeeds(function):
    try:
        function()
    except Exception:
        return False
    return True


@pytest.mark.family
@pytest.mark.parametrize("asked", TYPES.values(), ids=TYPES)
def test_where_the_type_of_a_size_is_asked_for_nothing_is_proved_without_a_condition(asked):
    """The rule is wrong beyond all sizes that are looked at."""

    def backward(args, dy):
        return ((3 if asked(args[0]) else 2) * args[0] * dy,)

    proof = prove_vjp(with_rule(jnp.square, backward), jnp.square, "n")
    assert proof.status == "conditional", str(proof)
    assert "test_sizes.py" in str(proof)


def test_where_jax_compares_shapes_and_says_no_it_is_asked_too():
    def backward(args, dy):
        (x,) = args
        return (jnp.where(jnp.array_equal(0 * x, jnp.zeros(2003)), 3, 2) * x * dy,)

    proof = prove_vjp(with_rule(jnp.square, backward), jnp.square, "n")
    assert proof.status == "conditional", str(proof)
    assert "2003" in proof.claim


def test_a_comparison_of_shapes_by_jax_is_a_question_about_sizes():
    def backward(args, dy):
        (x,) = args
        same = jax.eval_shape(jnp.square, x) == jax.ShapeDtypeStruct((17,), jnp.float32)
        return ((3 if same else 2) * x * dy,)

    proof = prove_vjp(with_rule(jnp.square, backward), jnp.square, "n")
    assert proof.status in ("refuted", "refused")
    assert "n = 17" in str(proof) or len(proof.counterexample.point["x"]) == 17


def test_multiples_that_are_asked_about_twice_are_one_size():
    def backward(args, dy):
        n = args[0].shape[0]
        return ((3 if n % 17 == 0 and n // 17 == 1 else 2) * args[0] * dy,)

    assert prove_vjp(with_rule(jnp.square, backward), jnp.square, "n").status == "refuted"


def test_an_exception_of_the_users_own_is_no_question():
    def primal(x):
        with contextlib.suppress(KeyError):
            {}["x"]
        return x * next(iter((1.0,)))

    assert prove_vjp(primal, primal, "n").status == "proved"


@pytest.mark.parametrize("size", [4, 13])
def test_a_size_that_no_question_names_is_tried(size):
    def backward(args, dy):
        return ((3 if args[0].shape[0] is size else 2) * args[0] * dy,)

    assert prove_vjp(with_rule(jnp.square, backward), jnp.square, "n").status == "refuted"


def test_types_of_other_things_may_be_asked_for():
    class Kind(type):
        pass

    def asks(x):
        made = type("Made", (), {})
        assert isinstance(made, type)
        assert issubclass(Kind, type)
        assert type(Kind("Other", (), {})) is Kind
        return x if type(x.shape) is tuple and type(made()) is made else 2 * x

    assert prove_vjp(asks, lambda x: x, "n").status == "proved"
    assert "type" not in globals()


def test_what_cannot_be_followed_in_a_case_is_an_obligation():
    """cbrt is not modelled: the program at n = 7 is not proved, and n ≠ 7 is said."""
    proof = prove_vjp(lambda x: x + jnp.cbrt(0 * x) if x.shape[0] == 7 else x, lambda x: x, "n")
    assert proof.status == "conditional"
    assert "n ≠ 7" in proof.claim


def test_a_failure_is_not_overwritten_by_a_later_condition():
    """1/x holds where x ≠ 0, at every size; its cotangent is tripled at one size."""
    for size in (1, 2, 3, 7):

        def backward(args, dy, size=size):
            return (-(3 if args[0].shape[0] == size else 1) * dy / args[0] ** 2,)

        proof = prove_vjp(with_rule(jnp.reciprocal, backward), jnp.reciprocal, "n")
        assert proof.status == "refuted", str(proof)
        assert np.shape(proof.counterexample.point["x"]) == (size,)


@pytest.mark.parametrize("size", [1, 2, 8])
def test_a_custom_rule_of_the_primal_that_is_wrong_at_one_size_is_found(size):
    """Autodiff agrees with the op there: only the primitives' own derivatives do not."""

    def backward(args, dy):
        return ((3 if type(args[0].shape[0]) is int and args[0].shape[0] == size else 2) * args[0] * dy,)

    wrong = with_rule(jnp.square, backward)
    assert prove_vjp(wrong, wrong, "n").status == "refuted"


def test_a_comparison_in_the_program_is_tried_at_its_bound():
    def large(bound):
        return lambda x: (x, jnp.asarray(x.shape[0]) > bound)

    assert prove_vjp(large(15), large(16), "n").status == "refuted"
    assert prove_vjp(large(15), large(15), "n").status == "conditional"


def test_the_questions_of_jax_are_not_asked_again():
    """JAX compares every size with 1; the user's code asks nothing here."""
    (n, m) = export.symbolic_shape("n, m")
    with recorded() as questions:
        jax.make_jaxpr(lambda x: jax.nn.softmax(x) + x.mean(0) / x.shape[0] + jnp.var(x))(
            jax.ShapeDtypeStruct((n, m), jnp.float32)
        )
    assert not questions


WHERE = ("jaxopt/losses.py", "numpyro/losses.py", "jax/losses.py", "mine.py")


@pytest.mark.parametrize("names", [WHERE, WHERE[::-1]])
def test_a_package_whose_name_begins_with_jax_is_not_jax(names):
    """Nor is code what it is elsewhere: JAX itself is trusted with what it asks."""
    (n,) = export.symbolic_shape("n")
    packages = pathlib.Path(jax.__file__).parent.parent
    heard = {}
    for name in names:
        space = {}
        exec(compile("def ask(size):\n    return size == 11", str(packages / name), "exec"), space)
        with recorded() as questions:
            space["ask"](n)
        heard[name] = len(questions)
    assert heard == {"jaxopt/losses.py": 1, "numpyro/losses.py": 1, "jax/losses.py": 0, "mine.py": 1}


def test_a_method_of_a_class_that_is_in_no_file_is_heard():
    """As those that a dataclass is given are, which ask for who calls them."""
    space = {}
    exec("class Rule:\n    def __call__(self, size):\n        return size == 11", space)
    (n,) = export.symbolic_shape("n")
    with recorded() as questions:
        space["Rule"]()(n)
    assert [question.zero for question in questions] == ["n - 11"]


def test_a_question_is_recorded_with_its_line_and_the_hooks_are_taken_away():
    (n,) = export.symbolic_shape("n")
    before = dict(type(n).__dict__)
    with recorded() as questions:
        assert n != 7
        assert n != 7
        assert n >= 1
    ((zero, _, where),) = questions
    assert zero == "n - 7"
    assert where.startswith("test_sizes.py:")
    assert dict(type(n).__dict__) == before


@pytest.mark.parametrize(
    ("expression", "solution"),
    [
        ("n - 7", {"n": "7"}),
        ("2*n - 14", {"n": "7"}),
        ("n - 2*m", {"n": "2*m"}),
        ("mod(n, 4)", {"n": "4*k"}),
        ("m*n - 6", None),
        ("n + 3", None),
        ("floordiv(n, 2) - 3", None),
        ("mod(n, 4) - 1", None),
    ],
)
def test_equations_of_sizes_are_solved_for_one(expression, solution):
    assert solved(expression, ["m", "n"]) == solution


def test_sizes_are_found_where_an_expression_is_zero():
    assert solutions("mod(n, 500) - 499", ["m", "n"], 1) == [{"m": 2, "n": 499}]
    assert {"m": 2, "n": 3} in solutions("m*n - 6", ["m", "n"])
    assert solutions("n + 3", ["n"]) == []
    assert solutions("mod(n, m - 1)", ["m", "n"], 1) == [{"m": 2, "n": 1}]  # at m = 1 it is not defined


def test_the_numbers_are_small_and_mixed_and_fit_in_memory():
    assert points([], 0) == []
    pairs = [tuple(sizes.values()) for sizes in points(["m", "n"], 2)]
    assert any(m == n for m, n in pairs)
    assert any(m < n for m, n in pairs)
    assert any(m > n for m, n in pairs)
    assert max(math.prod(sizes.values()) for sizes in points(["H", "N", "W"], 3)) <= 2**20


COUNTED = {
    "ones": lambda x: jnp.ones(x.shape[0]).sum(),
    "ones of another dtype": lambda x: jnp.ones(x.shape[0], jnp.int32).sum(),
    "the identity": lambda x: jnp.eye(x.shape[0]).sum(),
    "what is one": lambda x: (x * 0 + 1).sum(),
    "a norm": lambda x: jnp.square(jnp.ones_like(x)).sum(),
}


@pytest.mark.family
@pytest.mark.parametrize("name", COUNTED)
def test_a_size_that_the_program_counts_itself_is_no_program_of_every_size(name):
    """Traced at 19 it is the program of all n, which was shown with n ≠ 19 taken for granted."""
    counted = COUNTED[name]

    def factor(x):
        return jnp.where(counted(x) == 19, 2.0, 1.0)

    wrong = with_rule(jnp.square, lambda args, dy: (2 * args[0] * dy * factor(args[0]),))
    for op in (wrong, lambda x: x * x * factor(x)):
        proof = prove_vjp(op, jnp.square, "n")
        assert proof.status in ("refused", "refuted"), str(proof)


THIN_BUT_AT_ONE = {
    "a square of a sum": lambda x: x.sum() ** 2 - (x * x).sum(),
    "a variance": lambda x: jnp.square(x - x.mean()).sum(),
    "a difference of entries": lambda x: x[0] - x[-1],
    "a size": lambda x: (x.shape[0] - 1) * (x.sum() - 3),
}


@pytest.mark.parametrize("name", THIN_BUT_AT_ONE)
def test_what_is_zero_at_one_element_is_looked_at_there(name):
    compared = THIN_BUT_AT_ONE[name]

    def backward(args, dy):
        return (2 * args[0] * dy * jnp.where(compared(args[0]) == 0, 2.0, 1.0),)

    proof = prove_vjp(with_rule(jnp.square, backward), jnp.square, "n")
    assert proof.status in ("refused", "refuted"), str(proof)


def test_an_argument_may_have_the_name_of_a_size_that_the_prover_makes():
    def primal(k):
        return 3 * k if k.shape[0] % 2 else 2 * k

    def backward(args, dy):
        (k,) = args
        return ((3 if k.shape[0] % 2 else 2) * dy,)

    assert prove_vjp(with_rule(primal, backward), primal, "n").status == "proved"


INEQUALITIES = {
    "N > 6": lambda x: x.shape[0] > 6,
    "6 >= N": lambda x: x.shape[0] <= 6,
    "N·D < 100": lambda x: x.size < 100,
    "D > N": lambda x: x.shape[1] > x.shape[0],
    "N + D > 20": lambda x: sum(x.shape) > 20,
    "3 < N <= 9": lambda x: 3 < x.shape[0] <= 9,
    "max(N, 4) = 4": lambda x: max(x.shape[0], 4) == 4,
}


@pytest.mark.family
@pytest.mark.parametrize("name", INEQUALITIES)
def test_a_branch_by_an_inequality_of_sizes_is_proved_both_ways(name):
    """The program of each side; where it fails, at sizes that lie on it."""
    condition = INEQUALITIES[name]

    def centered(x):
        return x - x.mean(0)

    def backward(args, dy, factors):
        factor = factors[0] if condition(*args) else factors[1]
        return (dy - factor * (dy.mean(0) if condition(*args) else dy.sum(0) / dy.shape[0]),)

    for factors, status in (((1, 1), "proved"), ((2, 1), "refuted"), ((1, 2), "refuted")):
        op = with_rule(centered, lambda args, dy, factors=factors: backward(args, dy, factors))
        proof = prove_vjp(op, centered, "N D")
        assert proof.status == status, str(proof)


def test_a_branch_that_is_refused_on_one_side_is_an_obligation():
    proof = prove_vjp(lambda x: x + jnp.cbrt(0 * x) if x.shape[0] > 40 else x, lambda x: x, "n")
    assert proof.status in ("conditional", "refused")
    assert "n ≥ 41" in proof.claim or "cbrt" in proof.reason
