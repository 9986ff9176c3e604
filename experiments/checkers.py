"""Which wrong rules do the checkers of today let through, and on which right ones do they alarm?

Runs every wrong and every right rule of two libraries, batch norm's own and one from beyond it, through
`bnjax.check_vjp`, `jax.test_util.check_grads` and, where PyTorch is installed, `torch.autograd.gradcheck`,
each with its defaults and again in float64, and writes results/checkers.json.  `python
experiments/checkers.py` makes all of it (what was run at another time stays in the file), and
`python experiments/tables.py` a table of it.
"""

import argparse
import importlib.util
import itertools
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from bnjax.check import check_vjp
from bnjax.verify.planted import MUTANTS, beyond
from bnjax.verify.planted.right import RIGHT_RULES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "checkers.json"
LARGEST_GRADCHECK = 512  # it builds the whole Jacobian, in its fast mode too once that has failed
LARGEST_BEYOND = 64  # attention and recurrences over n: what they are like does not hang on a large one
BATCH_NORM, BEYOND = "batch norm", "beyond"


class Trial(NamedTuple):
    """A rule with the arguments that the checkers try it on."""

    library: str
    name: str
    wrong: bool
    op: Callable[..., Any]
    primal: Callable[..., Any]
    arguments: tuple[Any, ...]


def torch_if_installed() -> Any:
    """The module, or None."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch


# --- the checkers: (op, primal, arguments) ↦ whether the rule is accepted ---------------------------------


def is_float(a: Any) -> bool:
    """Whether a leaf is differentiated."""
    return np.asarray(a).dtype.kind == "f"


def floats_only(op: Callable[..., Any], args: Sequence[Any]) -> tuple[Callable[..., list[Any]], list[Any]]:
    """`op` from its arguments' float leaves, the others bound, to its results' leaves."""
    leaves, tree = jax.tree.flatten(tuple(args))
    at = [i for i, a in enumerate(leaves) if is_float(a)]

    def bound(*floats: Any) -> list[Any]:
        merged = list(leaves)
        for i, a in zip(at, floats, strict=True):
            merged[i] = a
        return jax.tree.leaves(op(*jax.tree.unflatten(tree, merged)))

    return bound, [leaves[i] for i in at]


def by_check_vjp(op: Callable[..., Any], primal: Callable[..., Any], args: Sequence[Any]) -> bool:
    """This project's checker."""
    return check_vjp(op, primal, *args).ok


def by_check_grads(op: Callable[..., Any], primal: Callable[..., Any], args: Sequence[Any]) -> bool:
    """JAX's, first and second order, reverse mode; it raises where it refuses."""
    bound, floats = floats_only(op, args)
    check_grads(bound, [jnp.asarray(a) for a in floats], order=2, modes=("rev",))
    return True


def by_gradcheck(op: Callable[..., Any], primal: Callable[..., Any], args: Sequence[Any]) -> bool:
    """PyTorch's, on the op wrapped as a torch function."""
    torch: Any = torch_if_installed()
    bound, floats = floats_only(op, args)

    class Wrapped(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            ctx.save_for_backward(*tensors)
            results = bound(*(t.detach().numpy() for t in tensors))
            return tuple(torch.from_numpy(np.array(r)) for r in results)

        @staticmethod
        def backward(ctx: Any, *dy: Any) -> Any:
            arrays = [t.detach().numpy() for t in ctx.saved_tensors]
            pulled = jax.vjp(bound, *arrays)[1]([jnp.asarray(d.detach().numpy()) for d in dy])
            return tuple(torch.from_numpy(np.array(p)) for p in pulled)

    tensors = [torch.from_numpy(np.array(a)).requires_grad_() for a in floats]
    return bool(torch.autograd.gradcheck(Wrapped.apply, tensors))


CHECKERS: dict[str, Callable[..., bool]] = {
    "check_vjp": by_check_vjp,
    "check_grads": by_check_grads,
    "gradcheck": by_gradcheck,
}


def accepted(checker: str, trial: Trial, wide: bool) -> bool:
    """Whether the checker lets the rule pass; anything it raises is a refusal."""
    args = trial.arguments
    with warnings.catch_warnings(), jax.enable_x64(wide):
        warnings.simplefilter("ignore")
        if wide:
            args = jax.tree.map(lambda a: np.asarray(a, np.float64) if is_float(a) else a, args)
        try:
            return CHECKERS[checker](trial.op, trial.primal, args)
        except Exception:
            return False


# --- the rules --------------------------------------------------------------------------------------------


def trials(library: str, n: int, seed: int) -> list[Trial]:
    """The rules of a library at size n, the wrong ones first."""
    if library == BEYOND:
        cases = [(True, c) for c in beyond.WRONG] + [(False, c) for c in beyond.RIGHT]
        return [Trial(library, c.name, wrong, c.op, c.primal, c.arguments(n, seed)) for wrong, c in cases]
    planted = [Trial(library, m.name, True, m.op, m.primal, m.arguments(n)) for m in MUTANTS]
    return planted + [
        Trial(library, r.name, False, r.op, r.primal, r.arguments(n, seed)) for r in RIGHT_RULES
    ]


def run(library: str, n: int, seed: int, checkers: Sequence[str]) -> list[dict[str, Any]]:
    """Every rule of a library, at size n, through every checker."""
    rows = []
    for trial in trials(library, n, seed):
        row: dict[str, Any] = {"library": library, "n": n, "case": trial.name, "wrong": trial.wrong}
        for checker in (c for c in checkers if c != "gradcheck" or n <= LARGEST_GRADCHECK):
            for wide in (False, True):
                start = time.perf_counter()
                passed = accepted(checker, trial, wide)
                key = f"{checker}, {'float64' if wide else 'float32'}"
                row[key] = {"accepted": passed, "seconds": round(time.perf_counter() - start, 3)}
        rows.append(row)
        print(f"n = {n}: {trial.name}", flush=True)
    return rows


def key(row: dict[str, Any]) -> tuple[str, int, str]:
    """What a row is about."""
    return row["library"], row["n"], row["case"]


def save(rows: list[dict[str, Any]], seed: int) -> None:
    """Write `rows` over those of the same rules and sizes; what other checkers said of them stays."""
    there = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    merged = {key(row): row for row in there}
    merged |= {key(row): merged.get(key(row), {}) | row for row in rows}
    torch = torch_if_installed()
    versions = {
        "jax": jax.__version__,
        "numpy": np.__version__,
        "torch": torch.__version__ if torch else None,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    results = {"versions": versions, "seed": seed, "rows": list(merged.values())}
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 131_072])
    parser.add_argument("--libraries", nargs="+", choices=[BATCH_NORM, BEYOND], default=[BATCH_NORM, BEYOND])
    parser.add_argument("--checkers", nargs="+", choices=list(CHECKERS), default=list(CHECKERS))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    checkers = [c for c in arguments.checkers if c != "gradcheck" or torch_if_installed()]
    for library, n in itertools.product(arguments.libraries, arguments.sizes):
        if library != BEYOND or n <= LARGEST_BEYOND:
            save(run(library, n, arguments.seed, checkers), arguments.seed)


if __name__ == "__main__":
    main()
