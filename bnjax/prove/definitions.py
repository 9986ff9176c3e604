"""What the atoms of a field stand for: a quotient, a root, or a function of a polynomial."""

from dataclasses import dataclass

from bnjax.prove.algebra import Poly
from bnjax.prove.rewriting import Rule


@dataclass(frozen=True)
class Definition:
    """The atom `name` with slots 0, 1, ...: its `power`-th power is `value`."""

    name: str
    power: int
    value: Poly
    rule: Rule | None


@dataclass(frozen=True)
class Function:
    """The atom `name` with slots 0, 1, ...: the function `kind` ("exp", "log", ...) of `argument`.

    `rule` is an equation that holds of it, from left to right, where there is one.
    """

    name: str
    kind: str
    argument: Poly
    rule: Rule | None = None

    def __str__(self) -> str:
        return f"{self.name} = {self.kind}({self.argument})"
