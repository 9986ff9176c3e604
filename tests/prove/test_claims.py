"""What a claim speaks of: every output and their tree, undifferentiated too; and what it leaves out."""

import itertools
import signal
import sys
import threading
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from bnjax.prove import prove_vjp
from bnjax.prove.limits import TimeLimit, TimeUp
from tests.prove.rules import with_rule


def identity(x):
    return x


def with_count(x, mask):
    return 2 * x, jnp.sum(mask)


OTHER_OUTPUTS = {
    "a count": (lambda x, mask: (2 * x, jnp.sum(mask) + 1), with_count),
    "a count in another dtype": (lambda x, mask: (2 * x, jnp.sum(mask, dtype=jnp.uint32)), with_count),
    "a mask": (lambda x, mask: (x, ~mask), lambda x, mask: (x, mask)),
    "a size": (lambda x, mask: (x, x.shape[0] + 1), lambda x, mask: (x, x.shape[0])),
    "a size at 7": (
        lambda x, mask: (x, 8 if x.shape[0] == 7 else x.shape[0]),
        lambda x, mask: (x, x.shape[0]),
    ),
    "an int": (lambda x, mask: (x, 4), lambda x, mask: (x, 3)),
    "a bool": (lambda x, mask: (x, True), lambda x, mask: (x, False)),
    "a float": (lambda x, mask: (x, 0.5), lambda x, mask: (x, 0.25)),
    "a float for an int": (lambda x, mask: (x, 3.0), lambda x, mask: (x, 3)),
    "an argmax": (lambda x, mask: (x, jnp.argmin(x)), lambda x, mask: (x, jnp.argmax(x))),
    "an array of ints": (lambda x, mask: (x, jnp.array([1, 2])), lambda x, mask: (x, jnp.array([1, 3]))),
    "a key": (lambda x, mask: (x, jax.random.key(0)), lambda x, mask: (x, jax.random.key(1))),
    "names": (lambda x, mask: {"a": x}, lambda x, mask: {"b": x}),
    "names exchanged": (
        lambda x, mask: {"a": x, "b": 2 * x},
        lambda x, mask: {"b": x, "a": 2 * x},
    ),
    "a list": (lambda x, mask: [x, x], lambda x, mask: (x, x)),
    "a nested tuple": (lambda x, mask: (x, (x, x)), lambda x, mask: ((x, x), x)),
    "an output more": (lambda x, mask: (x, 3), lambda x, mask: x),
    "None": (lambda x, mask: (x, None), lambda x, mask: x),
}


@pytest.mark.parametrize(("op", "primal"), OTHER_OUTPUTS.values(), ids=OTHER_OUTPUTS)
def test_every_output_and_their_tree_is_compared(op, primal):
    proof = prove_vjp(op, primal, "n", "bool: n")
    assert proof.status in ("refused", "refuted"), str(proof)


def test_equal_outputs_of_other_kinds_are_proved():
    def op(x, mask):
        return {"y": x + x, "count": jnp.sum(mask.astype(jnp.int32)), "kept": ~~mask, "size": x.shape[0]}

    def primal(x, mask):
        return {"size": x.shape[0], "kept": mask, "count": jnp.sum(mask), "y": 2 * x}

    assert prove_vjp(op, primal, "n", "bool: n").status == "proved"


@pytest.mark.parametrize("shape", ["n", "4"])
def test_a_rule_is_given_nothing_of_an_output_that_is_not_a_float(shape):
    def primal(x):
        return {"y": 2 * x, "positive": x > 0}

    right = with_rule(primal, lambda args, dy: (2 * dy["y"],))
    wrong = with_rule(primal, lambda args, dy: (3 * dy["y"],))
    assert prove_vjp(right, primal, shape).status == "proved"
    assert prove_vjp(wrong, primal, shape).status == "refuted"


def test_the_outputs_of_the_forward_rule_are_compared():
    op = jax.custom_vjp(with_count)
    op.defvjp(lambda x, mask: ((2 * x, jnp.sum(mask) + 1), None), lambda _, dy: (2 * dy[0], None))
    assert prove_vjp(op, with_count, "n", "bool: n").status == "refuted"


@pytest.mark.parametrize(
    "backward", [lambda args, dy: (2 * dy,), lambda args, dy: (2 * dy + 0 * jnp.exp(args[0]),)]
)
def test_a_value_that_is_wrong_only_undifferentiated_has_a_counterexample(backward):
    """Under differentiation the forward rule's value, which is right, takes the place of the wrong one."""
    op = jax.custom_vjp(lambda x: 3 * x)
    op.defvjp(lambda x: (2 * x, (x,)), backward)
    proof = prove_vjp(op, lambda x: 2 * x, "n")
    assert proof.status == "refuted", str(proof)
    assert "where nothing is differentiated" in proof.reason
    x = np.asarray(proof.counterexample.point["x"], float)
    assert proof.counterexample.float64 == (
        3 * x[proof.counterexample.index],
        2 * x[proof.counterexample.index],
    )


def test_the_claim_says_which_function_is_differentiated():
    def primal(x):
        return x - lax.stop_gradient(x)

    proof = prove_vjp(with_rule(primal, lambda args, dy: (dy,)), primal, "n")
    assert proof.status == "proved"
    assert "stop_gradient held constant (test_claims.py:" in proof.claim
    assert "stop_gradient" not in prove_vjp(identity, identity, "n").claim


def test_the_claim_names_what_lies_outside_of_it():
    claim = prove_vjp(identity, identity, "n").claim
    for words in ("not traced", "dtype", "state", "symbolic_zeros", "more than once"):
        assert words in claim


def test_a_function_that_keeps_state_is_refused():
    calls = itertools.count()

    def stateful(x):
        return x * (2 if next(calls) >= 3 else 1)

    assert prove_vjp(stateful, identity, "3").status in ("refused", "refuted")

    def drawn(x):
        return x * np.random.default_rng().random()

    proof = prove_vjp(drawn, drawn, "3")
    assert proof.status != "proved"


def test_a_program_that_is_another_one_each_time_is_refused():
    calls = itertools.count()

    def changing(x):
        number = float(next(calls))
        return (x + number) - number

    proof = prove_vjp(changing, identity, "3")
    assert proof.status == "refused"
    assert "state" in proof.reason


def test_the_end_of_the_program_is_a_refusal_and_an_interruption_is_none():
    def ends(x):
        sys.exit(3)

    assert prove_vjp(ends, identity, "n").status == "refused"
    assert prove_vjp(lambda x: sys.exit(3) if x.shape == (3,) else x, identity, "n").status == "conditional"

    def interrupted(x):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prove_vjp(interrupted, identity, "n")


class Unspeakable(Exception):
    def __str__(self):
        raise self


class NoException(BaseException):
    pass


@pytest.mark.parametrize("error", [Unspeakable, NoException, GeneratorExit])
def test_whatever_a_program_raises_is_a_refusal(error):
    def raises(x):
        raise error

    def backward(args, dy):
        if dy.shape == (5,):
            raise error
        return (dy,)

    assert prove_vjp(raises, identity, "n").status == "refused"
    assert prove_vjp(with_rule(identity, backward), identity, "n").status == "conditional"


def sleeping(x):
    time.sleep(60)
    return x


def endless(x):
    for _ in range(10**9):
        x = x + 1
    return x


@pytest.mark.parametrize("op", [sleeping, endless])
def test_the_time_limit_ends_the_users_code(op):
    start = time.monotonic()
    proof = prove_vjp(op, identity, "n", timeout=0.5)
    assert proof.status == "refused"
    assert "time limit" in proof.reason
    assert time.monotonic() - start < 30


def catching():
    with TimeLimit(time.monotonic() + 0.05):
        try:
            time.sleep(30)
        except Exception:
            time.sleep(30)


def test_no_exception_handler_catches_the_end_of_the_time_and_the_alarm_is_off_afterwards():
    with pytest.raises(TimeUp):
        catching()
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)
    assert signal.getsignal(signal.SIGALRM) is signal.SIG_DFL


def test_a_proof_in_another_thread_needs_no_alarm():
    found = []
    thread = threading.Thread(target=lambda: found.append(prove_vjp(identity, identity, "n").status))
    thread.start()
    thread.join()
    assert found == ["proved"]


def test_no_time_is_a_refusal_and_nothing_else():
    assert prove_vjp(lambda x: 2 * x, identity, "n", timeout=0.0).status == "refused"


@pytest.mark.parametrize("shape", [np.ones(3), jnp.ones(3), 3, (3,), None])
def test_a_shape_that_is_no_text_is_a_type_error(shape):
    with pytest.raises(TypeError, match="shape 0 is"):
        prove_vjp(identity, identity, shape)


@pytest.mark.parametrize("positive", [0, np.int32(0), {0}])
def test_indices_that_are_no_sequence_are_a_type_error(positive):
    with pytest.raises(TypeError, match="positive is a"):
        prove_vjp(identity, identity, "n", positive=positive)


@pytest.mark.parametrize(
    ("primal", "shapes", "told"),
    [
        (lambda x, w: x * w, ("n",), "missing a required argument: 'w'"),
        (identity, (), "missing a required argument: 'x'"),
        (identity, ("n", "n"), "too many positional arguments"),
        (lambda x, *, scale: x * scale, ("n",), "missing a required argument: 'scale'"),
    ],
)
def test_a_shape_is_given_for_each_argument(primal, shapes, told):
    with pytest.raises(ValueError, match=told):
        prove_vjp(primal, primal, *shapes)


def test_an_argument_with_a_default_and_more_of_them_may_be_left_out():
    def scaled(x, factor=2.0, *more):
        return x * factor

    for shapes in (("n",), ("n", ""), ("n", "", "n")):
        assert prove_vjp(scaled, scaled, *shapes).status == "proved"


def test_a_truth_value_is_not_positive():
    with pytest.raises(ValueError, match="boolean"):
        prove_vjp(lambda x, w: x * w, lambda x, w: x * w, "n", "bool: n", positive=(1,))


@pytest.mark.parametrize("seed", range(3))
def test_a_counterexample_satisfies_the_hypotheses(seed):
    def primal(x, y):
        return x * jnp.sqrt(y)

    wrong = with_rule(primal, lambda args, dy: (dy * jnp.sqrt(args[1]), dy * args[0] * (seed + 1)))
    proof = prove_vjp(wrong, primal, "n", "n", positive=(1,))
    assert proof.status == "refuted", str(proof)
    assert all(value > 0 for value in proof.counterexample.point["y"])
