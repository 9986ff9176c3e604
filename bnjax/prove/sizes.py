"""Which sizes are looked at: the cases that Python's questions make, and numbers small and mixed."""

import itertools
import math
import operator
import re
from collections.abc import Mapping, Sequence

from bnjax.prove.algebra import Outside, Poly
from bnjax.prove.field import Field
from bnjax.prove.monomials import Entry, entries_of
from bnjax.prove.space import Space

# each is repeated over the symbols: equal sizes, and unequal ones
_PATTERNS = ((1,), (2,), (3, 5), (5, 3), (1, 2, 3), (2, 1), (8, 7, 6))
_SEARCHED = (
    (2,), (2, 3), (3,), (1,), (5,), (3, 1, 2), (1, 2, 3), (4, 2, 1), (6, 2), (7, 1), (8, 4), (9, 2), (12, 1),
)  # fmt: skip
_LARGE = 2**20
_TOPS = {1: 2048, 2: 32, 3: 8}  # sizes tried for an expression in so many symbols
_FUNCTIONS = {"mod": operator.mod, "floordiv": operator.floordiv, "max": max, "min": min}

Sizes = Mapping[str, int]


def points(symbols: Sequence[str], rank: int) -> list[dict[str, int]]:
    """Numbers for the symbols: small ones, equal and mixed, and one that is not small.

    An array with `rank` of the symbols as axes has at most 2²⁰ elements there.
    """
    if not symbols:
        return []
    large = min(1009, int(_LARGE ** (1 / max(rank, 1))))
    return _repeated((*_PATTERNS, (large, large - 2)), symbols)


def searched(symbols: Sequence[str]) -> list[dict[str, int]]:
    """Numbers for the symbols where a counterexample is looked for, the most telling first."""
    return _repeated(_SEARCHED, symbols)


def _repeated(patterns: Sequence[Sequence[int]], symbols: Sequence[str]) -> list[dict[str, int]]:
    made = [tuple(itertools.islice(itertools.cycle(row), len(symbols))) for row in patterns]
    return [dict(zip(symbols, row, strict=True)) for row in dict.fromkeys(made)]


def value(expression: str, sizes: Sizes) -> int:
    """A size expression as JAX prints it, in numbers."""
    return eval(expression.replace("^", "**"), {"__builtins__": {}, **_FUNCTIONS}, dict(sizes))


def is_inside(region: Sequence[str], sizes: Sizes) -> bool:
    """Whether sizes fulfil inequalities, each "a >= b"."""
    sides = (inequality.split(" >= ") for inequality in region)
    return all(value(larger, sizes) >= value(smaller, sizes) for larger, smaller in sides)


def solutions(expression: str, symbols: Sequence[str], limit: int = 3) -> list[dict[str, int]]:
    """The smallest sizes, of some, at which a size expression is 0; symbols that are not in it are 2."""
    used = [symbol for symbol in symbols if re.search(rf"\b{symbol}\b", expression)]
    top = _TOPS.get(len(used), 4)
    rows = sorted(itertools.product(range(1, top + 1), repeat=len(used)), key=sum)
    tried = ({**dict.fromkeys(symbols, 2), **dict(zip(used, row, strict=True))} for row in rows)
    return list(itertools.islice((sizes for sizes in tried if _is_zero(expression, sizes)), limit))


def _is_zero(expression: str, sizes: Sizes) -> bool:
    try:
        return value(expression, sizes) == 0
    except ZeroDivisionError:
        return False


def solved(expression: str, symbols: Sequence[str], taken: Sequence[str] = ()) -> dict[str, str] | None:
    """The size expression = 0, solved for a symbol: {"n": "7"}, {"n": "2*m"}; None where that fails.

    A new symbol, as in {"n": "4*k"}, has none of the names that are `taken`.
    """
    multiple = re.fullmatch(r"mod\((?:(\d+)\*)?([A-Za-z_]\w*), (\d+)\)", expression)
    if multiple:  # n = 4·k
        divisor = int(multiple[3]) // math.gcd(int(multiple[1] or 1), int(multiple[3]))
        return {multiple[2]: f"{divisor}*{_fresh([*symbols, *taken])}"}
    try:
        poly = Space(Field()).dimension(expression)
    except Outside:
        return None
    for symbol in symbols:
        word = _solution(poly, symbol)
        if word is not None:
            return {symbol: word}
    return None


def _fresh(symbols: Sequence[str]) -> str:
    return next(name for k in itertools.count() if (name := f"k{k or ''}") not in symbols)


def _solution(poly: Poly, symbol: str) -> str | None:
    """The word for `symbol` where poly = c·(symbol − word): a number, or a product of other symbols."""
    own = [(m, c) for m, c in poly.terms.items() if Entry(symbol) in dict(m)]
    rest = [(m, c) for m, c in poly.terms.items() if (m, c) not in own]
    if len(own) != 1 or len(rest) != 1 or sum(power for _, power in own[0][0]) != 1:
        return None
    ((monomial, coefficient),) = rest
    factor = -coefficient / own[0][1]
    names = [entry.name for entry, power in entries_of(monomial) for _ in range(power)]
    if factor < 1 or factor.denominator != 1 or len(set(names)) != len(names):
        return None
    return _product(int(factor), names)


def substituted(word: str, solution: Mapping[str, str]) -> str:
    """A product of sizes, with words for some of them."""
    parts = [part for known in word.split("*") for part in solution.get(known, known).split("*")]
    number = math.prod(int(part) for part in parts if part.isdigit())
    return _product(number, [part for part in parts if not part.isdigit()])


def _product(number: int, names: Sequence[str]) -> str:
    return "*".join([str(number)] * (number != 1 or not names) + [*names])


def words(sizes: Mapping[str, object]) -> str:
    """`n = 7, m = 2`."""
    return ", ".join(f"{name} = {size}" for name, size in sizes.items())
