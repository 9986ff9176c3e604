"""Reads what the printer writes: the value of a printed Coq definition at arrays, in float64 or rationals.

It knows Coq's syntax of what is printed, and nothing of jaxprs: application binds tightest, then ^, then
unary − and /, then × and ÷, then + and −.
"""

import itertools
import math
import re

import numpy as np

TOKEN = re.compile(r"\s*(=>|:=|<>|/\\|[A-Za-z][\w']*|\d+|[()+\-*/^,:<>])")


def tokens(text):
    text, found, at = text.strip(), [], 0
    while at < len(text):
        match = TOKEN.match(text, at)
        assert match, text[at : at + 40]
        found.append(match[1])
        at = match.end()
    return found


class Reader:
    """A recursive descent over tokens: each method returns a function of the environment."""

    def __init__(self, text):
        self.left = tokens(text)

    def peek(self):
        return self.left[0] if self.left else ""

    def take(self, *wanted):
        token = self.left.pop(0)
        assert not wanted or token in wanted, (token, wanted, self.left[:10])
        return token

    def expression(self):
        if self.peek() == "fun":
            return self.function()
        value = self.product()
        while self.peek() in ("+", "-"):
            value = binary(self.take(), value, self.product())
        return value

    def product(self):
        value = self.unary()
        while self.peek() in ("*", "/"):
            value = binary(self.take(), value, self.unary())
        return value

    def unary(self):
        if self.peek() in ("-", "/"):
            sign, inner = self.take(), self.unary()
            return (lambda env: -inner(env)) if sign == "-" else (lambda env: 1 / inner(env))
        base = self.application()
        if self.peek() == "^":
            self.take()
            power = int(self.take())
            return lambda env: base(env) ** power
        return base

    def application(self):
        head, operands = self.atom(), []
        while re.match(r"[A-Za-z\d(]", self.peek()) and self.peek() not in ("in", "nat"):
            operands.append(self.atom())
        if not operands:
            return head

        def applied(env):
            value = head(env)
            for operand in operands:
                value = value(operand(env))
            return value

        return applied

    def atom(self):
        token = self.take()
        if token == "(":
            value = self.expression()
            self.take(")")
            return value
        if token.isdigit():
            return lambda env: env["number"](token)
        return lambda env: env[token]

    def function(self):
        self.take("fun")
        names = []
        while self.peek() != ":":
            names.append(self.take())
        self.take(":"), self.take("nat"), self.take("=>")
        body = self.expression()

        def curried(env, names):
            if not names:
                return body(env)
            return lambda i: curried({**env, names[0]: i}, names[1:])

        return lambda env: curried(env, names)


def binary(sign, left, right):
    return {
        "+": lambda env: left(env) + right(env),
        "-": lambda env: left(env) - right(env),
        "*": lambda env: left(env) * right(env),
        "/": lambda env: left(env) / right(env),
    }[sign]


def memoized(value):
    """A function of indices that computes each entry once."""
    if not callable(value):
        return value
    known = {}

    def at(i):
        if i not in known:
            known[i] = memoized(value(i))
        return known[i]

    return at


def meanings(number):
    """The meanings at the top of Batch.v, and INR."""
    return {
        "number": number,
        "sum": lambda n: lambda f: sum((f(i) for i in range(int(n))), number(0)),
        "INR": lambda n: number(int(n)),
        "sqrt": math.sqrt,
        "rsqrt": lambda a: 1 / math.sqrt(a),
        "bit": lambda b: number(int(b)),
        "select": lambda w: lambda on: lambda off: w * on + (1 - w) * off,
    }


def entries(array, number):
    """An array as a function of one index for each dimension that is not 1."""
    array = np.asarray(array)
    array = array.reshape([size for size in array.shape if size != 1])
    if array.ndim == 0:
        return bool(array) if array.dtype == bool else number(array.item())
    return lambda i: entries(array[int(i)], number)


def evaluate(lines, results, conditions, env, number=float):
    """The printed results as functions of indices; asserts that every condition holds at indices 0 and 1."""
    env = {**meanings(number), **env}
    for line in lines:
        name, text = re.fullmatch(r"let ([\w']+) := (.*) in", line).groups()
        env[name] = memoized(Reader(text).expression()(env))
    for condition in conditions:
        holds(condition, env)
    return [env[r] if r in env else Reader(r).expression()(env) for r in results]


def holds(condition, env):
    indices, text = re.fullmatch(r"\((?:forall ([\w ]+) : nat, )?(.*)\)", condition).groups()
    left, sign, right = re.fullmatch(r"(.*?) (<>|<|>) (.*)", text).groups()
    for at in itertools.product((0,), repeat=len((indices or "").split())):
        here = {**env, **dict(zip((indices or "").split(), at, strict=True))}
        a, b = (Reader(side).expression()(here) for side in (left, right))
        assert {"<>": a != b, "<": a < b, ">": a > b}[sign], condition


def as_array(value, words, shape):
    """A function of one index for each word that is not 1, as an array of `shape`."""
    result = np.empty(shape)
    for index in np.ndindex(*shape):
        entry = value
        for i, word in zip(index, words, strict=True):
            entry = entry if word == "1" else entry(i)
        result[index] = float(entry)
    return result
