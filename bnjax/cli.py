"""The `bnjax` command: options to a config, errors to one line and exit code 2."""

import enum
import functools
import inspect
import sys
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.exceptions import TyperException

from bnjax.errors import ArgumentError, UserError
from bnjax.train.allocator import keep_freed_memory
from bnjax.train.config import Config, Setting, settings

if TYPE_CHECKING:  # --help must not wait for Flax
    from bnjax.train.run import RunResult

Values = dict[str, Any]  # of a `Config`, by name
VARIED = ("norm", "learning_rate", "momentum", "init", "seed")  # what a sweep takes several values of

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Batch normalization in JAX whose backward pass can be trusted.",
)

DataDirOption = Annotated[
    Path | None,
    typer.Option(help="Where CIFAR-10 lies, as `bnjax data` makes it.", envvar="TFDS_DATA_DIR"),
]
OutOption = Annotated[
    Path | None,
    typer.Option(help="Folder to make; must not hold anything.", show_default="runs/COMMAND-DATASET-TIME"),
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the run in --out after its last whole epoch, if it holds one."),
]


def takes_config(
    *without: str, many: Mapping[str, list[Any]] = MappingProxyType({})
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: the command takes the fields of `Config` but for `without` as options, in one dict.

    Those in `many` can be given any number of times, and are lists, by default the ones there.
    """

    def option(setting: Setting) -> inspect.Parameter:
        of, default, unset = setting.type, setting.default, setting.about.unset
        if unset is not None:
            of, default = of | None, None
        if setting.name in many:
            of = enum.StrEnum(setting.name, setting.choices) if setting.choices else of
            of, default = list.__class_getitem__(of), many[setting.name]  # typer takes no list of a Literal
        told = typer.Option(help=setting.about.help, show_default=unset or True)
        keyword = inspect.Parameter.KEYWORD_ONLY
        return inspect.Parameter(setting.name, keyword, default=default, annotation=Annotated[of, told])

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        options = [option(setting) for setting in settings() if setting.name not in without]
        _, *own = inspect.signature(command).parameters.values()

        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            command({o.name: given.pop(o.name) for o in options}, **given)

        own = [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own]
        with_options.__signature__ = inspect.Signature([*options, *own])  # type: ignore[attr-defined]
        return with_options

    return decorate


@app.command(epilog="Example: bnjax train --norm batch --epochs 1 --out runs/first")
@takes_config()
def train(
    values: Values, data_dir: DataDirOption = None, out: OutOption = None, resume: ResumeOption = False
) -> None:
    """Train one network and write a run directory: config, metrics, log, checkpoints.

    On CPU it is compiled with xla_cpu_experimental_ynn_fusion_type=DOT,REDUCE, and where the C library is
    glibc the process keeps the memory it frees: both are faster there.
    """
    keep_freed_memory()
    from bnjax import data as datasets
    from bnjax.train import run as runs
    from bnjax.train import step

    config = Config.of(**values)
    out = _out(out, "train", config.dataset, resume=resume)
    options = step.compiler_options()
    result = runs.run(config, datasets.load(config.dataset, data_dir), out, options, resume=resume)
    print(f"{result.outcome}: {out}")


@app.command(epilog="Example: bnjax lift --dataset cifar10 --data-dir DIR --epochs 3 --out runs/lift")
@takes_config("norm")
def lift(
    values: Values, data_dir: DataDirOption = None, out: OutOption = None, resume: ResumeOption = False
) -> None:
    """Train with and without batch norm by one recipe; draw lift.png and write summary.json.

    Compiled as in train.
    """
    keep_freed_memory()
    from bnjax import data as datasets
    from bnjax.train import step
    from bnjax.train.lift import lift as run_lift

    config = Config.of(**values)
    out = _out(out, "lift", config.dataset, resume=resume)
    options = step.compiler_options()
    for result in run_lift(config, datasets.load(config.dataset, data_dir), out, options, resume=resume):
        print(f"norm {result.config.norm}: {_ended(result)}")
    print(f"figure: {out / 'lift.png'}")


@app.command(epilog="Example: bnjax sweep --epochs 1 --learning-rate 0.01 --learning-rate 0.1 --momentum 0.9")
@takes_config(many={"norm": ["batch", "none"]} | {name: [getattr(Config, name)] for name in VARIED[1:]})
def sweep(
    values: Values, data_dir: DataDirOption = None, out: OutOption = None, resume: ResumeOption = False
) -> None:
    """Train every combination of the values given, and draw sweep.png: which recipes train.

    --norm, --learning-rate, --momentum, --init and --seed can be given more than once. Compiled as in train.
    """
    keep_freed_memory()
    from bnjax import data as datasets
    from bnjax.train import step
    from bnjax.train.sweep import folder, grid
    from bnjax.train.sweep import sweep as run_sweep

    varied = [values.pop(name) for name in VARIED]
    configs = grid(Config.of(**values), *varied)
    dataset = configs[0].dataset
    out = _out(out, "sweep", dataset, resume=resume)
    data = datasets.load(dataset, data_dir)
    results = run_sweep(configs, data, out, step.compiler_options(), resume=resume)
    for number, (config, result) in enumerate(zip(configs, results, strict=True), 1):
        print(f"{number}/{len(configs)} {folder(config)}: {_ended(result)}", flush=True)
    print(f"map: {out / 'sweep.png'}")


@app.command(epilog="Example: bnjax data cifar10 --data-dir ~/tensorflow_datasets")
def data(
    name: Annotated[Literal["cifar10"], typer.Argument(help="The data set.")],
    data_dir: Annotated[Path, typer.Option(help="Folder to make it in.", envvar="TFDS_DATA_DIR")],
) -> None:
    """Fetch a data set, check it and prepare it for tensorflow-datasets, without TensorFlow."""
    from bnjax.data.prepare import prepare_cifar10

    del name  # there is one so far
    print(f"ready: {prepare_cifar10(data_dir)}")


@app.command(epilog="Example: bnjax verify --json verdicts.json")
def verify(
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write the verdicts as JSON.")] = None,
    html_file: Annotated[Path | None, typer.Option("--html", help="Also write them as a page.")] = None,
    coq_dir: Annotated[
        Path | None,
        typer.Option("--coq", help="Instead, write Coq scripts into this folder, and have Coq check them."),
    ] = None,
) -> None:
    """Check, prove and bound every theorem, and refuse every planted mistake.

    A line for each theorem: whether check_vjp finds nothing wrong, what prove_vjp says for every batch
    size, how many planted wrong rules each of them catches, and a certified bound on float32 rounding.
    Exit code 1 if anything falls.

    With --coq DIR: each theorem for vectors, matrices and images, printed from the traced programs and
    checked by Coq's kernel (apt-get install coq libcoq-coquelicot).
    """
    from bnjax import THEOREMS

    if coq_dir is not None:
        if json_file is not None or html_file is not None:
            raise UserError("--coq writes Coq scripts: ask for --json or --html without it")
        from bnjax.verify import kernel

        raise typer.Exit(kernel.run(coq_dir, THEOREMS))
    from bnjax.verify import verdicts
    from bnjax.verify.planted import MUTANTS

    files = {json_file: verdicts.as_json, html_file: verdicts.as_html}
    for file in files:
        if file is not None and not (file.parent.is_dir() and not file.is_dir()):
            raise UserError(f"{file} cannot be written: its folder must exist, and it must not be one")
    print(verdicts.line(verdicts.HEADER), flush=True)
    found = []
    for verdict in verdicts.verdicts(THEOREMS, MUTANTS):
        found.append(verdict)
        print(verdicts.line(verdicts.row(verdict)), flush=True)
    for file, written in files.items():
        if file is not None:
            file.write_text(written(found))
    if not all(verdict.ok for verdict in found):
        raise typer.Exit(1)


@app.command(epilog="Example: bnjax bench steps --repeats 20")
def bench(
    part: Annotated[
        Literal["all", "layers", "steps", "memory", "precision"],
        typer.Argument(help="What to measure."),
    ] = "all",
    repeats: Annotated[int, typer.Option(help="Runs of each contestant, after three to warm up.")] = 15,
    out: Annotated[Path, typer.Option(help="Folder for the bench_PART.json files.")] = Path("results"),
) -> None:
    """Measure ours beside Flax, and beside PyTorch where it is installed.

    layers: batch norm alone. steps: the CIFAR networks' training step, with and without the XLA option that
    train sets. memory: what a layer keeps for its backward pass, and what a step needs for a while.
    precision: the error of the gradient, also drawn.

    Where the C library is glibc the process keeps the memory it frees, as in train: it speeds up all of them.

    (x0.80) behind a contestant: bnjax takes 0.80 of its time.
    """
    if repeats < 1:
        raise UserError(f"--repeats must be at least 1, got {repeats}")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: name a folder")
    kept = keep_freed_memory()
    from bnjax.bench import report

    out.mkdir(parents=True, exist_ok=True)
    for name in report.PARTS if part == "all" else (part,):
        print(f"measuring {name}", flush=True)
        print(f"written: {report.run(name, repeats, out, memory_kept=kept)}")


def _out(out: Path | None, command: str, dataset: str, *, resume: bool) -> Path:
    """The folder to write, checked before the data are read."""
    from bnjax.train.directory import check_out

    if resume:
        if out is None:
            raise UserError("--resume needs --out: the folder of the run")
        return out
    out = out or Path("runs") / f"{command}-{dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    check_out(out)
    return out


def _ended(result: "RunResult") -> str:
    accuracy = "" if result.test_accuracy is None else f", test accuracy {result.test_accuracy:.2%}"
    return f"{result.outcome}{accuracy}"


def main() -> None:
    """Run the command line; a failure the user can mend is one line on stderr and exit code 2."""
    try:
        code = app(standalone_mode=False)  # typer makes 130 of Ctrl-C
        if code == 130:
            print("bnjax: interrupted", file=sys.stderr)
        sys.exit(code)
    except TyperException as error:
        message = error.format_message()
    except ArgumentError as error:
        message = f"--{error.name.replace('_', '-')} {error.complaint}"
    except UserError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except ModuleNotFoundError as error:
        message = f'{error.name} is not installed: pip install "bnjax[train]"'
    print(f"bnjax: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
