"""Exponentials, logarithms and truth values in the algebra: the equations that define them, and no others."""

from fractions import Fraction

import pytest

from bnjax.prove.algebra import INFINITESIMAL, Atom, Outside
from bnjax.prove.comparisons import above, by_cases, larger, zero
from bnjax.prove.field import Field
from bnjax.prove.functions import asinh, atan, cos, erf, exp, inverse, log, logistic, root, sin, tan, tanh
from bnjax.prove.signs import POSITIVE
from bnjax.prove.vanishing import Question, vanishes


@pytest.fixture
def field():
    return Field()


@pytest.fixture
def x(field):
    return field.atom(Atom("x", ("n", "m")))


def test_exp_turns_sums_into_products(field, x):
    y, half = field.atom(Atom("y", ("n",))), field.constant(Fraction(1, 2))
    assert exp(field, x + y) == exp(field, x) * exp(field, y)
    assert exp(field, x) * exp(field, -x) == field.constant(1)
    assert field.reduce(exp(field, x * half) ** 2 - exp(field, x)).terms == {}
    assert exp(field, x * y) != exp(field, x) * exp(field, y)
    assert exp(field, x) != field.rename(exp(field, x), {0: 1, 1: 0})


def test_log_undoes_exp_and_takes_products_apart(field, x):
    p = field.atom(Atom("p", ("n",), positive=True))
    total = field.total(exp(field, x), 1, "m")
    assert log(field, exp(field, x) * p**3, POSITIVE) == x + field.constant(3) * log(field, p, POSITIVE)
    assert exp(field, log(field, total)) == field.reduce(total)
    twelve, two, three = (log(field, field.constant(k)) for k in (12, 2, 3))
    assert twelve == two + two + three
    assert log(field, field.constant(1)).terms == {}
    assert not vanishes(field, log(field, total) - field.total(x, 1, "m"), Question())


def test_log_leaves_an_obligation_where_nothing_shows_it(field, x):
    log(field, x * x + field.constant(1))
    assert all(o.discharged for o in field.obligations.values())
    log(field, x)
    assert [o.claim for o in field.obligations.values() if not o.discharged] == ["x[a,b] > 0"]
    with pytest.raises(Outside, match="zero"):
        log(field, field.constant(0))


def test_spellings_of_the_logistic_function_are_one(field, x):
    one = field.constant(1)
    e = exp(field, x)
    for other in (e * inverse(field, one + e), one - inverse(field, e + one)):
        assert vanishes(field, logistic(field, x) - other, Question())
    half = field.constant(Fraction(1, 2))
    assert vanishes(field, logistic(field, x) - half - half * tanh(field, half * x), Question())
    assert not vanishes(field, logistic(field, x) - logistic(field, -x), Question())


def test_equal_terms_are_seen_under_a_sum(field, x):
    """Σ s·(1 − s) = Σ e^x/(1 + e^x)², where neither has a normal form that shows it."""
    s, e, one = logistic(field, x), exp(field, x), field.constant(1)
    left = field.total(s * (one - s) * x, 1, "m")
    right = field.total(e * inverse(field, one + e) ** 2 * x, 1, "m")
    assert left != right
    assert vanishes(field, left - right, Question())
    assert not vanishes(field, left - field.constant(2) * right, Question())


def test_erf_is_odd(field, x):
    assert erf(field, -x, "float32") == -erf(field, x, "float32")
    assert erf(field, x * x, "float32") != erf(field, x, "float32")


def test_a_comparison_is_one_truth_value_for_all_positive_multiples(field, x):
    p, one = field.atom(Atom("p", ("n",), positive=True)), field.constant(1)
    truth = above(field, x)
    assert above(field, field.constant(3) * x * p) == truth
    assert above(field, -x) == one - truth - zero(field, x)
    assert above(field, x - one) != truth
    assert above(field, x * x + one) == one
    assert above(field, x * x) == one - zero(field, x * x)
    assert larger(field, x, x) == x


def test_a_comparison_of_cases_is_decided_in_each(field, x):
    relu = larger(field, x, field.constant(0))
    assert vanishes(field, larger(field, relu, field.constant(0)) - relu, Question())
    assert vanishes(field, above(field, relu) - above(field, x), Question())
    assert not vanishes(field, zero(field, relu) - zero(field, x), Question())


def test_cases_that_contradict_each_other_are_left_out(field, x):
    one = field.constant(1)
    assert vanishes(field, above(field, x - one) * above(field, -x - one), Question())
    assert vanishes(field, above(field, x - one) * (one - above(field, x)), Question())
    assert not vanishes(field, above(field, x - one) * above(field, x), Question())
    assert not vanishes(field, above(field, x + one) * above(field, one - x), Question())


def test_a_kink_is_left_out_only_where_it_is_asked_for(field, x):
    null = zero(field, x)
    ((((name, _), _),),) = null.terms
    assert not vanishes(field, null, Question())
    assert vanishes(field, null, Question(excluded=frozenset([name])))
    assert vanishes(field, null * x, Question())


def test_an_obligation_shown_in_a_case_is_not_shown_outside_of_it(field, x):
    safe = above(field, x) * x + field.constant(1) - above(field, x)
    by_cases(field, safe, lambda case: field.root(case))
    assert all(o.discharged for o in field.obligations.values())
    field.root(x)
    assert "x[a,b] > 0" in [o.claim for o in field.obligations.values() if not o.discharged]


def test_of_sines_the_squares_are_known(field, x):
    one, two = field.constant(1), field.constant(2)
    assert field.reduce(sin(field, x) ** 2 + cos(field, x) ** 2) == one
    assert sin(field, -x) == -sin(field, x)
    assert cos(field, -x) == cos(field, x)
    assert vanishes(field, tan(field, x) ** 2 + one - inverse(field, cos(field, x)) ** 2, Question())
    assert sin(field, field.constant(0)).terms == {}
    assert cos(field, field.constant(0)) == one
    assert not vanishes(field, sin(field, x) ** 2 + cos(field, two * x) ** 2 - one, Question())
    assert not vanishes(field, sin(field, x) - cos(field, x), Question())


def test_a_derivative_is_what_stands_beside_the_infinitesimal(field, x):
    one, tau = field.constant(1), field.entry(INFINITESIMAL)
    for function, slope in (
        (sin, cos(field, x)),
        (cos, -sin(field, x)),
        (atan, inverse(field, one + x * x, POSITIVE)),
        (asinh, inverse(field, root(field, one + x * x, POSITIVE), POSITIVE)),
    ):
        assert field.part(function(field, x + tau * x), INFINITESIMAL, 1) == field.reduce(x * slope)


def test_a_claim_says_what_each_of_its_names_is_and_the_names_in_these(field, x):
    for _ in range(12):
        x = exp(field, x)
    assert [f.name for f in field.functions] == [f"exp.{k}" for k in range(12)]
    words = field.in_full("exp.11[a,b] ≠ 1")
    assert all(words.count(f"exp.{k} = exp(") == 1 for k in range(12))
    assert field.in_full("exp.1[a,b] ≠ 0") == (
        "exp.1[a,b] ≠ 0, where exp.1 = exp(exp.0[a,b]), exp.0 = exp(x[a,b])"
    )


def test_a_truth_value_is_written_as_what_it_says(field, x):
    truth = above(field, x) + zero(field, x)
    assert field.in_full(f"{truth} = 1").endswith("where above.0 = [x[a,b] > 0], zero.1 = [x[a,b] = 0]")
