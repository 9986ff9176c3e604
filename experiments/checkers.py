"""Which wrong rules do the checkers of today let through, and on which right ones do they alarm?

Runs every mutant and every right rule through `bnjax.check_vjp`, `jax.test_util.check_grads` and, where
PyTorch is installed, `torch.autograd.gradcheck`, each with its defaults and again in float64, and writes
results/checkers.json.  `python experiments/checkers.py --sizes 8 131072` (sizes run at another time stay in
the file); `--table` prints what is there.
"""

import argparse
import importlib.util
import json
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.test_util import check_grads

from bnjax.check import check_vjp
from bnjax.verify.planted import MUTANTS
from bnjax.verify.planted.right import RIGHT_RULES

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "results" / "checkers.json"
LARGEST_GRADCHECK = 512  # it builds the whole Jacobian, in its fast mode too once that has failed


def torch_if_installed() -> Any:
    """The module, or None."""
    if importlib.util.find_spec("torch") is None:
        return None
    import torch

    return torch


# --- the checkers: (op, primal, arguments, wide) ↦ whether the rule is accepted -----------------------------


def floats_only(op: Callable[..., Any], args: Sequence[Any]) -> tuple[Callable[..., Any], list[Any]]:
    """`op` as a function of its float arguments, the others bound."""
    at = [i for i, a in enumerate(args) if np.asarray(a).dtype.kind == "f"]

    def bound(*floats: Any) -> Any:
        merged = list(args)
        for i, a in zip(at, floats, strict=True):
            merged[i] = a
        return op(*merged)

    return bound, [args[i] for i in at]


def by_check_vjp(op: Callable[..., Any], primal: Callable[..., Any], args: Sequence[Any]) -> bool:
    """This project's checker."""
    return check_vjp(op, primal, *args).ok


def by_check_grads(op: Callable[..., Any], primal: Callable[..., Any], args: Sequence[Any]) -> bool:
    """JAX's, first order, reverse mode; it raises where it refuses."""
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
            return torch.from_numpy(np.array(bound(*(t.detach().numpy() for t in tensors))))

        @staticmethod
        def backward(ctx: Any, dy: Any) -> Any:
            arrays = [t.detach().numpy() for t in ctx.saved_tensors]
            pulled = jax.vjp(bound, *arrays)[1](jnp.asarray(dy.detach().numpy()))
            return tuple(torch.from_numpy(np.array(p)) for p in pulled)

    tensors = [torch.from_numpy(np.array(a)).requires_grad_() for a in floats]
    return bool(torch.autograd.gradcheck(Wrapped.apply, tensors))


CHECKERS: dict[str, Callable[..., bool]] = {
    "check_vjp": by_check_vjp,
    "check_grads": by_check_grads,
    "gradcheck": by_gradcheck,
}


def accepted(checker: str, case: Any, args: Sequence[Any], wide: bool) -> bool:
    """Whether the checker lets the case pass; anything it raises is a refusal."""
    with warnings.catch_warnings(), jax.enable_x64(wide):
        warnings.simplefilter("ignore")
        if wide:
            args = [np.asarray(a, np.float64) if np.asarray(a).dtype.kind == "f" else a for a in args]
        try:
            return CHECKERS[checker](case.op, case.primal, args)
        except Exception:
            return False


# --- the table --------------------------------------------------------------------------------------------


def cases(n: int, seed: int) -> list[tuple[str, bool, Any, tuple[Any, ...]]]:
    """(name, whether it is wrong, the rule, its arguments), the mutants first."""
    wrong = [(m.name, True, m, m.arguments(n)) for m in MUTANTS]
    return wrong + [(r.name, False, r, r.arguments(n, seed)) for r in RIGHT_RULES]


def run(n: int, seed: int, checkers: Sequence[str]) -> list[dict[str, Any]]:
    """Every case of size n through every checker."""
    rows = []
    for name, wrong, case, args in cases(n, seed):
        row: dict[str, Any] = {"n": n, "case": name, "wrong": wrong}
        for checker in (c for c in checkers if c != "gradcheck" or n <= LARGEST_GRADCHECK):
            for wide in (False, True):
                start = time.perf_counter()
                passed = accepted(checker, case, args, wide)
                key = f"{checker}, {'float64' if wide else 'float32'}"
                row[key] = {"accepted": passed, "seconds": round(time.perf_counter() - start, 3)}
        rows.append(row)
        print(f"n = {n}: {name}", flush=True)
    return rows


def save(rows: list[dict[str, Any]], seed: int) -> None:
    """Write `rows`, beside those of other sizes that are there."""
    sizes = {row["n"] for row in rows}
    if RESULTS.exists():
        rows = [row for row in json.loads(RESULTS.read_text())["rows"] if row["n"] not in sizes] + rows
    torch = torch_if_installed()
    versions = {
        "jax": jax.__version__,
        "numpy": np.__version__,
        "torch": torch.__version__ if torch else None,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    results = {"versions": versions, "seed": seed, "rows": rows}
    RESULTS.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")


def table(results: dict[str, Any]) -> str:
    """Killed mutants and false alarms, a line for each checker, dtype and n."""
    lines = ["| checker | n | wrong rules refused | right rules refused |", "|---|---|---|---|"]
    rows = results["rows"]
    for n in sorted({row["n"] for row in rows}):
        here = [row for row in rows if row["n"] == n]
        for key in (k for k in here[0] if k not in ("n", "case", "wrong")):
            counts = []
            for wrong in (True, False):
                group = [row for row in here if row["wrong"] == wrong]
                counts.append(f"{sum(not row[key]['accepted'] for row in group)} of {len(group)}")
            lines.append(f"| {key} | {n:,} | {counts[0]} | {counts[1]} |")
    return "\n".join(lines)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 131_072])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--table", action="store_true", help="print the table of the results that are there")
    arguments = parser.parse_args()
    if not arguments.table:
        checkers = [c for c in CHECKERS if c != "gradcheck" or torch_if_installed()]
        for n in arguments.sizes:
            save(run(n, arguments.seed, checkers), arguments.seed)
    print(table(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
