"""What a check found: a table for a person, JSON for a machine, arrays for whoever runs it again."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

# where the op fails in what the VJP alone does not show
_TRANSFORMED = (
    "determinism",
    "jit",
    "vmap",
    "reverse over reverse",
    "forward over reverse",
    "symbolic zeros",
)
STAGES = (
    "oracle",
    "raises",
    "primal value",
    "number of cotangents",
    "structure",
    "shape",
    "dtype",
    "value",
    "linearity",
    *_TRANSFORMED,
    "float32",
    "bfloat16",
    "given dtypes",
    "non-finite",
    "evidence",
)

# failures that speak of the check and not of the rule: no reference to hold it to, or nothing seen
_UNDECIDED = ("oracle", "evidence")
_MOST_SAID = 400  # characters of an exception's message
_UNSPEAKABLE = 1e12  # times the bound: where that is about 0 the number says nothing
_LITERAL = 48  # elements up to which the reproducing line spells the arrays out


@dataclass(frozen=True)
class Failure:
    """One way in which the rule is wrong, at its worst.

    Attributes:
      stage: the name of the examination it failed.
      argument: whose cotangent; "" where no single argument is meant.
      where: the shape and the data it failed on.
      probe: the cotangent it failed along.
      index: of the worst element, in the argument's (or the output's) array.
      got, expected, bound: that element, the reference, and the difference allowed.
      ratio: |got − expected| / bound; inf for what is not a number or raised.
      message: what happened, where it is not a difference of numbers.
      seed: of the probes; with the shape and the data's name it determines them.
      count: how many probes failed in this stage for this argument.
      arguments, cotangent: to run it again.
      dtype: what the arguments were cast to.
    """

    stage: str
    argument: str = ""
    where: str = ""
    probe: str = ""
    index: tuple[int, ...] | None = None
    got: float | None = None
    expected: float | None = None
    bound: float | None = None
    ratio: float = np.inf
    message: str = ""
    seed: int | None = None
    count: int = 1
    dtype: str = ""
    arguments: tuple[Any, ...] | None = field(default=None, repr=False, compare=False)
    cotangent: Any = field(default=None, repr=False, compare=False)

    def __str__(self) -> str:
        subject = f"cotangent of {self.argument}" if self.argument else "result"
        along = f" along dy = {self.probe}" if self.probe else ""
        place = f", {self.where}" if self.where else ""
        if self.message:
            return f"{self.message}{along}{place}"
        at = f"[{', '.join(map(str, self.index))}]" if self.index else ""
        times = f" ({self.ratio:.3g} × the bound)" if self.ratio < _UNSPEAKABLE else ""
        return (
            f"{subject}{along}{place}: {at or 'value'} is {self.got:.9g}, expected {self.expected:.9g} "
            f"± {self.bound:.2g}{times}"
        )


@dataclass(frozen=True)
class Stage:
    """An examination: its name, how many comparisons it made, and why if it made none."""

    name: str
    comparisons: int
    skipped: str = ""


@dataclass(frozen=True)
class CheckReport:
    """The outcome of `check_vjp`: true exactly when the rule is right as far as was seen.

    `verdict` is one of three: "ok"; "WRONG", where a failure shows the rule to be so; and "could not be
    checked", where every failure is of the stages oracle or evidence: the primal cannot be run or
    differentiated, its derivative has no bound, nothing was seen of an argument, or the check itself gave up.

    Attributes:
      name: of the op.
      stages: the examinations made, each with the number of its comparisons.
      failures: one a stage and argument, its worst.
      notes: what else there is to say.
      seconds: wall-clock time.

    Example:
      >>> import jax.numpy as jnp, bnjax
      >>> report = bnjax.check_vjp(jnp.sin, lambda x: jnp.sin(x), 0.5)
      >>> report.verdict, report.ok, report.worst
      ('ok', True, None)
      >>> report.stages[0].name
      'oracle'
    """

    name: str
    stages: tuple[Stage, ...]
    failures: tuple[Failure, ...]
    notes: tuple[str, ...]
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    @property
    def verdict(self) -> str:
        """ "ok", "WRONG" or "could not be checked"."""
        if self.ok:
            return "ok"
        wrong = any(f.stage not in _UNDECIDED for f in self.failures)
        return "WRONG" if wrong else "could not be checked"

    def __bool__(self) -> bool:
        return self.ok

    @property
    def worst(self) -> Failure | None:
        """The failure to look at first: small enough to read, then the furthest from its bound."""
        return min(self.failures, key=_unreadable, default=None)

    def __str__(self) -> str:
        lines = [f"check_vjp of {self.name}: {self.verdict} ({self.seconds:.2f} s)", ""]
        width = max(len(s.name) for s in self.stages) if self.stages else 0
        known = {s.name for s in self.stages}
        for stage in self.stages:
            lines += _rows(stage, [f for f in self.failures if f.stage == stage.name], width)
        for failure in self.failures:
            if failure.stage not in known:
                lines += _rows(Stage(failure.stage, 0), [failure], width)
        lines += [f"  note: {note}" for note in self.notes]
        if self.worst is not None:
            lines += ["", "reproduce: " + reproduction(self.worst)]
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        """Everything but the arrays, as plain JSON values (numbers that are not finite as strings)."""
        plain = (
            "stage",
            "argument",
            "where",
            "probe",
            "index",
            "got",
            "expected",
            "bound",
            "ratio",
            "message",
            "seed",
            "count",
            "dtype",
        )
        return {
            "name": self.name,
            "ok": self.ok,
            "verdict": self.verdict,
            "seconds": self.seconds,
            "stages": [
                {"name": s.name, "comparisons": s.comparisons, "skipped": s.skipped} for s in self.stages
            ],
            "failures": [
                {k: _plain(getattr(f, k)) for k in plain} | {"reproduce": reproduction(f)}
                for f in self.failures
            ],
            "notes": list(self.notes),
        }

    def json(self) -> str:
        """`to_json` as text."""
        return json.dumps(self.to_json(), indent=2)


@dataclass(frozen=True)
class Finding:
    """One thing that a stage has to say; what it does not say is empty."""

    stage: str = ""
    compared: int = 0
    failure: Failure | None = None
    seen: frozenset[int] = frozenset()  # the floats whose true cotangent was not about zero here
    skipped: str = ""  # why the stage is
    note: str = ""
    kinks: int = 0


@dataclass
class Record:
    """What has been found so far: one failure a stage and argument, the worst."""

    name: str
    failures: dict[tuple[str, str], Failure] = field(default_factory=dict)
    compared: dict[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    notes: dict[str, None] = field(default_factory=dict)
    seen: set[int] = field(default_factory=set)
    kinks: int = 0

    def add(self, finding: Finding) -> None:
        """Take a finding in."""
        if finding.compared:
            self.compared[finding.stage] = self.compared.get(finding.stage, 0) + finding.compared
        if finding.skipped:
            self.skipped.setdefault(finding.stage, finding.skipped)
        if finding.note:
            self.notes[finding.note] = None
        self.seen |= finding.seen
        self.kinks += finding.kinks
        if finding.failure is not None:
            self._fail(finding.failure)

    @property
    def wrong(self) -> bool:
        """Whether a failure shows the rule to be wrong."""
        return any(stage not in _UNDECIDED for stage, _ in self.failures)

    def _fail(self, failure: Failure) -> None:
        key = (failure.stage, failure.argument)
        old = self.failures.get(key)
        count = failure.count + (old.count if old else 0)
        worst = failure if old is None or failure.ratio > old.ratio else old
        self.failures[key] = replace(worst, count=count)

    def report(self, seconds: float) -> CheckReport:
        """The report of what is recorded."""
        if self.kinks:
            at = f"{self.kinks} elements lie at a kink of the primal"
            self.notes[f"{at}, where it has no derivative: not compared"] = None
        names = [
            s
            for s in STAGES
            if s in self.compared or s in self.skipped or any(k[0] == s for k in self.failures)
        ]
        stages = tuple(Stage(s, self.compared.get(s, 0), self.skipped.get(s, "")) for s in names)
        order = {s: i for i, s in enumerate(STAGES)}
        failures = tuple(sorted(self.failures.values(), key=lambda f: order[f.stage]))
        return CheckReport(self.name, stages, failures, tuple(self.notes), seconds)


def says(error: BaseException) -> str:
    """An exception in one line."""
    lines = str(error).strip().splitlines()
    text = lines[0].strip() if lines else ""
    if len(text) > _MOST_SAID:  # the end of JAX's messages says what was expected
        text = f"{text[: _MOST_SAID // 2]} … {text[-_MOST_SAID // 2 :]}"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def stage_of(error: Exception) -> str:
    """Which examination an exception of JAX's own checks of a rule belongs to."""
    text = str(error)
    if "Custom VJP bwd rule must produce" not in text and "Custom VJP" not in text:
        return "raises"
    if "same container (pytree) structure" in text:
        trees = [part.split(")]")[0].count("*") for part in text.split("PyTreeDef(")[1:3]]
        return "structure" if len(trees) == 2 and trees[0] == trees[1] else "number of cotangents"
    return "shape" if "shape" in text else "dtype" if "dtype" in text else "raises"


def reproduction(failure: Failure) -> str:
    """A line of Python that shows `failure` again: with the numbers themselves where they are few."""
    if failure.arguments is None or failure.stage in _TRANSFORMED:
        return "bnjax.check_vjp(op, primal, *args)"
    x64 = "with jax.enable_x64(True): " if failure.dtype == "float64" else ""
    everything = jax.tree.leaves((failure.arguments, failure.cotangent))
    few = sum(map(np.size, everything)) <= _LITERAL and _spelled((failure.arguments, failure.cotangent))
    arguments = ", ".join(map(_literal, failure.arguments)) if few else "*report.worst.arguments"
    if failure.cotangent is None:
        return f"{x64}print(op({arguments}))"
    integers = any(np.result_type(a) == jax.dtypes.float0 for a in jax.tree.leaves(failure.cotangent))
    whole = "report.worst.cotangent" if integers else "jax.tree.map(jnp.asarray, report.worst.cotangent)"
    cotangent = _literal(failure.cotangent) if few else whole
    return f"{x64}print(jax.vjp(op, {arguments})[1]({cotangent}))"


def _spelled(value: Any) -> bool:
    """Whether `_literal` is Python for it."""
    if type(value) in (list, tuple):
        return all(map(_spelled, value))
    if type(value) is dict:
        return all(map(_spelled, value.values()))
    return isinstance(value, np.ndarray | np.generic | bool | int | float | str | None)


def _literal(value: Any) -> str:
    if isinstance(value, list | tuple):
        inside = ", ".join(map(_literal, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside}{',' if len(value) == 1 else ''})"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{k!r}: {_literal(v)}" for k, v in value.items()) + "}"
    if not isinstance(value, np.ndarray | np.generic):
        return repr(value)
    array = np.asarray(value)
    if array.dtype == jax.dtypes.float0:
        return f"np.zeros({array.shape}, jax.dtypes.float0)"
    if array.dtype.kind == "c":
        return f"jax.lax.complex({_literal(array.real)}, {_literal(array.imag)})"
    numbers = repr(array.tolist() if array.dtype.kind in "biu" else array.astype(np.float64).tolist())
    return f"jnp.array({numbers.replace('nan', 'jnp.nan').replace('inf', 'jnp.inf')}, jnp.{array.dtype.name})"


def _unreadable(failure: Failure) -> tuple[bool, bool, float]:
    size = sum(np.size(a) for a in jax.tree.leaves(failure.arguments))
    return (
        failure.arguments is None,
        size > _LITERAL,
        -failure.ratio if failure.ratio == failure.ratio else 0.0,
    )


def _rows(stage: Stage, failures: Sequence[Failure], width: int) -> list[str]:
    name = stage.name.ljust(width)
    if not failures:
        state = f"skipped: {stage.skipped}" if stage.skipped else f"ok, {stage.comparisons} compared"
        return [f"  {name}  {state}"]
    state = "undecided:" if stage.name in _UNDECIDED else "FAILED"
    return [
        f"  {name}  {state} {f}" + (f" (and {f.count - 1} more)" if f.count > 1 else "") for f in failures
    ]


def _plain(value: Any) -> Any:
    if isinstance(value, tuple):
        return [int(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else str(float(value))
    return value
