"""The `bnjax` command: options to a config, errors to one line and exit code 2."""

import dataclasses
import sys
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer
from typer.exceptions import TyperException

from bnjax.errors import UserError
from bnjax.train.allocator import keep_freed_memory

if TYPE_CHECKING:  # --help must not wait for jax
    from bnjax.models import Init, Norm
    from bnjax.train.run import Config, RunResult

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Batch normalization in JAX whose backward pass can be trusted.",
)

DatasetOption = Annotated[
    Literal["synthetic", "cifar10"],
    typer.Option(help="synthetic: embedded, generated; cifar10: through tensorflow-datasets."),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(help="Where CIFAR-10 lies, as `bnjax data` makes it.", envvar="TFDS_DATA_DIR"),
]
EpochsOption = Annotated[
    int | None, typer.Option(help="Passes over the training set.", show_default="30 on cifar10, else 3")
]
BatchSizeOption = Annotated[int, typer.Option(help="Images a step.")]
LearningRateOption = Annotated[float, typer.Option(help="SGD's learning rate, constant.")]
MomentumOption = Annotated[float, typer.Option(help="SGD's momentum, in [0, 1).")]
InitOption = Annotated[Literal["he", "glorot"], typer.Option(help="How the kernels are drawn.")]
SeedOption = Annotated[int, typer.Option(help="Of the kernels and the shuffling.")]
TrainExamplesOption = Annotated[
    int | None,
    typer.Option(help="Use only the first so many training images.", show_default="all"),
]
OutOption = Annotated[
    Path | None,
    typer.Option(help="Folder to make; must not hold anything.", show_default="runs/COMMAND-DATASET-TIME"),
]
ResumeOption = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the run in --out after its last whole epoch, if it holds one."),
]

# typer takes many of an enum, but not of a Literal
NormChoice = StrEnum("NormChoice", ["batch", "none"])
InitChoice = StrEnum("InitChoice", ["he", "glorot"])


@app.command(epilog="Example: bnjax train --norm batch --epochs 1 --out runs/first")
def train(
    context: typer.Context,
    norm: Annotated[
        Literal["batch", "none"], typer.Option(help="batch: batch norm after each convolution.")
    ] = "batch",
    dataset: DatasetOption = "synthetic",
    data_dir: DataDirOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = 128,
    learning_rate: LearningRateOption = 0.1,
    momentum: MomentumOption = 0.0,
    init: InitOption = "he",
    seed: SeedOption = 0,
    train_examples: TrainExamplesOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
) -> None:
    """Train one network and write a run directory: config, metrics, log, checkpoints.

    On CPU it is compiled with xla_cpu_experimental_ynn_fusion_type=DOT,REDUCE, and where the C library is
    glibc the process keeps the memory it frees: both are faster there.
    """
    keep_freed_memory()
    from bnjax import data as datasets
    from bnjax.train import run as runs
    from bnjax.train import step

    config = _config(context)
    out = _out(out, "train", dataset, resume=resume)
    options = step.compiler_options()
    result = runs.run(config, datasets.load(dataset, data_dir), out, options, resume=resume)
    print(f"{result.outcome}: {out}")


@app.command(epilog="Example: bnjax lift --dataset cifar10 --data-dir DIR --epochs 3 --out runs/lift")
def lift(
    context: typer.Context,
    dataset: DatasetOption = "synthetic",
    data_dir: DataDirOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = 128,
    learning_rate: LearningRateOption = 0.1,
    momentum: MomentumOption = 0.0,
    init: InitOption = "he",
    seed: SeedOption = 0,
    train_examples: TrainExamplesOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
) -> None:
    """Train with and without batch norm by one recipe; draw lift.png and write summary.json.

    On CPU it is compiled with xla_cpu_experimental_ynn_fusion_type=DOT,REDUCE, and where the C library is
    glibc the process keeps the memory it frees: both are faster there.
    """
    keep_freed_memory()
    from bnjax import data as datasets
    from bnjax.train import step
    from bnjax.train.lift import lift as run_lift

    config = _config(context)
    out = _out(out, "lift", dataset, resume=resume)
    options = step.compiler_options()
    for result in run_lift(config, datasets.load(dataset, data_dir), out, options, resume=resume):
        print(f"norm {result.norm}: {_ended(result)}")
    print(f"figure: {out / 'lift.png'}")


@app.command(epilog="Example: bnjax sweep --epochs 1 --learning-rate 0.01 --learning-rate 0.1 --momentum 0.9")
def sweep(
    context: typer.Context,
    norm: Annotated[list[NormChoice], typer.Option(help="batch: batch norm after each convolution.")] = list(
        NormChoice
    ),
    learning_rate: Annotated[list[float], typer.Option(help="SGD's learning rate, constant.")] = [0.1],
    momentum: Annotated[list[float], typer.Option(help="SGD's momentum, in [0, 1).")] = [0.0],
    init: Annotated[list[InitChoice], typer.Option(help="How the kernels are drawn.")] = [InitChoice.he],
    seed: Annotated[list[int], typer.Option(help="Of the kernels and the shuffling.")] = [0],
    dataset: DatasetOption = "synthetic",
    data_dir: DataDirOption = None,
    epochs: EpochsOption = None,
    batch_size: BatchSizeOption = 128,
    train_examples: TrainExamplesOption = None,
    out: OutOption = None,
    resume: ResumeOption = False,
) -> None:
    """Train every combination of the values given, and draw sweep.png: which recipes train.

    --norm, --learning-rate, --momentum, --init and --seed can be given more than once. Compiled as in train.
    """
    keep_freed_memory()
    from bnjax import data as datasets
    from bnjax.train import step
    from bnjax.train.sweep import folder, grid
    from bnjax.train.sweep import sweep as run_sweep

    configs = grid(
        _config(context, "norm", "learning_rate", "momentum", "init", "seed"),
        cast("list[Norm]", [n.value for n in norm]),
        learning_rate,
        momentum,
        cast("list[Init]", [i.value for i in init]),
        seed,
    )
    out = _out(out, "sweep", dataset, resume=resume)
    results = run_sweep(
        configs, datasets.load(dataset, data_dir), out, step.compiler_options(), resume=resume
    )
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


def _config(context: typer.Context, *without: str) -> "Config":
    """The options of a training command as a `Config`: they have the same names, but for those `without`."""
    from bnjax.train.run import DEFAULT_EPOCHS, Config

    names = {field.name for field in dataclasses.fields(Config)} - set(without)
    options = {name: value for name, value in context.params.items() if name in names}
    if options["epochs"] is None:
        options["epochs"] = DEFAULT_EPOCHS[options["dataset"]]
    return Config(**options)


def _out(out: Path | None, command: str, dataset: str, *, resume: bool) -> Path:
    """The folder to write, checked before the data are read."""
    from bnjax.train.run import check_out

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
    except UserError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except ModuleNotFoundError as error:
        message = f'{error.name} is not installed: pip install "bnjax[train]"'
    print(f"bnjax: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
