"""The `bnjax` command: options to a config, errors to one line and exit code 2."""

import enum
import functools
import inspect
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, TextIO, get_type_hints

import jax
import typer
from typer.exceptions import TyperException

from bnjax.errors import ArgumentError, UserError, one_line
from bnjax.train.allocator import keep_freed_memory
from bnjax.train.config import Config, DatasetName, Recipe, Setting, folder, grid, select_examples, settings

if TYPE_CHECKING:  # --help must not wait for Flax
    from bnjax.data import Dataset
    from bnjax.train.run import RunResult

Values = dict[str, Any]  # of a `Config`, by name
# what a sweep takes several values of, and what the help says of it where it is not the one default
VARIED = {"norm": "batch and none", "learning_rate": None, "momentum": None, "init": None, "seed": None}

PAGE_NEEDS = ("jinja2", "latex2mathml", "markdown_it", "pygments")  # the extra `page`

app = typer.Typer(
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Batch normalization in JAX whose backward pass can be trusted.",
)


def _path(text: str) -> Path:
    """A path as given; the empty one would be the folder that the command is run in."""
    if not text:
        raise typer.BadParameter("'' names nothing")
    return Path(text)


PATH: dict[str, Any] = {"parser": _path, "metavar": "<path>"}
DataDirOption = Annotated[
    Path | None,
    typer.Option(help="Where CIFAR-10 lies, as `bnjax data` makes it.", show_default="TFDS_DATA_DIR", **PATH),
]
RecipeOption = Annotated[
    Recipe | None,
    typer.Option(
        help="chapter: momentum 0.9, 30 epochs; plain: no momentum; best: rate 0.05, momentum 0.9, cosine, "
        "decay, flip-crop and smoothing, 30 epochs.  An option given beside it wins.",
        show_default="none of them",
    ),
]


class Where(NamedTuple):
    """Where a training command computes, reads and writes: options of it, but of no `Config`."""

    devices: Annotated[
        int | None,
        typer.Option(help="Share each batch among so many devices.", show_default="all; of CPUs, 1"),
    ] = None
    data_dir: DataDirOption = None
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder to make; must not hold anything.", show_default="runs/COMMAND-DATASET-TIME", **PATH
        ),
    ] = None
    resume: Annotated[
        bool,
        typer.Option(
            "--resume",
            help="Go on with the run in --out after its last whole epoch, if it holds one, up to --epochs.",
        ),
    ] = False


def takes_config(
    *without: str, many: Mapping[str, str | None] = MappingProxyType({})
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator: options of the command are the fields of `Config` but for `without`, and those of `Where`.

    It is called with the former in a dict; what is not given is None there, as `Config.of` takes it.  Those
    in `many` can be given any number of times, and are lists; the help says of their default what is there.
    """

    def option(setting: Setting) -> inspect.Parameter:
        of, about = setting.type, setting.about
        if setting.name in many:
            of = enum.StrEnum(setting.name, setting.choices) if setting.choices else of
            of = list.__class_getitem__(of)  # typer takes no list of a Literal
        default = many.get(setting.name) or about.unset or str(setting.default)
        how: dict[str, Any] = {"parser": about.parser, "metavar": about.metavar} if about.parser else {}
        told = typer.Option(help=about.help, show_default=default, **how)
        return keyword(setting.name, Annotated[of | None, told])

    def keyword(name: str, annotation: Any, default: Any = None) -> inspect.Parameter:
        return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)

    def decorate(command: Callable[[Values, Where], None]) -> Callable[..., None]:
        options = [option(setting) for setting in settings() if setting.name not in without]
        options.append(keyword("recipe", RecipeOption))
        where = get_type_hints(Where, include_extras=True)
        options += [keyword(name, of, Where._field_defaults[name]) for name, of in where.items()]

        @functools.wraps(command)
        def with_options(**given: Any) -> None:
            found = Where(**{name: given.pop(name) for name in Where._fields})
            command(given, found)

        with_options.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
        return with_options

    return decorate


@app.command(epilog="Example: bnjax train --norm batch --epochs 1 --out runs/first")
@takes_config()
def train(values: Values, where: Where) -> None:
    """Train one network and write a run directory: config, metrics, log, checkpoints.

    On CPU it is compiled with xla_cpu_experimental_ynn_fusion_type=DOT,REDUCE, and where the C library is
    glibc the process keeps the memory it frees: both are faster there.
    """
    out, data = _begin("train", where, config := Config.of(**values))
    from bnjax.train import run as runs
    from bnjax.train import step

    result = runs.run(config, data, out, step.compiler_options(), resume=where.resume, devices=where.devices)
    print(f"{result.outcome}: {out}")


@app.command(epilog="Example: bnjax lift --dataset cifar10 --data-dir DIR --epochs 3 --out runs/lift")
@takes_config("norm", "spec")
def lift(values: Values, where: Where) -> None:
    """Train with and without batch norm by one recipe; draw lift.png and write summary.json.

    Compiled as in train.
    """
    out, data = _begin("lift", where, config := Config.of(**values))
    from bnjax.train import step
    from bnjax.train.lift import lift as run_lift

    for result in run_lift(
        config, data, out, step.compiler_options(), resume=where.resume, devices=where.devices
    ):
        print(f"norm {result.config.norm}: {_ended(result)}")
    print(f"figure: {out / 'lift.png'}")


@app.command(epilog="Example: bnjax sweep --epochs 1 --learning-rate 0.01 --learning-rate 0.1 --momentum 0.9")
@takes_config(many=VARIED)
def sweep(values: Values, where: Where) -> None:
    """Train every combination of the values given, and draw sweep.png: which recipes train.

    --norm, --learning-rate, --momentum, --init and --seed can be given more than once. Compiled as in train.
    """
    varied = {name: values.pop(name) for name in VARIED}
    config = Config.of(**values)
    usual = {name: [getattr(config, name)] for name in VARIED}
    if config.spec is None:
        usual["norm"] = ["batch", "none"]
    configs = grid(config, *(varied[name] or usual[name] for name in VARIED))
    out, data = _begin("sweep", where, *configs)
    from bnjax.train import step
    from bnjax.train.sweep import sweep as run_sweep

    results = run_sweep(
        configs, data, out, step.compiler_options(), resume=where.resume, devices=where.devices
    )
    for number, (config, result) in enumerate(zip(configs, results, strict=True), 1):
        print(f"{number}/{len(configs)} {folder(config)}: {_ended(result)}", flush=True)
    print(f"map: {out / 'sweep.png'}")


@app.command(epilog="Example: bnjax evaluate runs/first")
def evaluate(
    run: Annotated[Path, typer.Argument(help="A run directory, as train makes it.", **PATH)],
    dataset: Annotated[
        DatasetName | None, typer.Option(help="Whose test set.", show_default="the run's")
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Evaluate the network of a run, after its newest epoch, on a test set: JSON on stdout."""
    keep_freed_memory()
    from bnjax.train import step, trained
    from bnjax.train.directory import Record

    dataset = dataset or Record.read(run).config.dataset
    data = _read(dataset, data_dir, sys.stderr)
    options = step.compiler_options()
    found = trained.newest(run)
    for note in found.notes:
        print(f"bnjax: {note}", file=sys.stderr)
    told = {"run": str(run), "dataset": dataset, **trained.evaluate(found, data, options)}
    print(json.dumps(told, indent=2))


@app.command(epilog="Example: bnjax data cifar10 --data-dir ~/tensorflow_datasets")
def data(
    name: Annotated[Literal["cifar10"], typer.Argument(help="The data set.")],
    data_dir: Annotated[Path, typer.Option(help="Folder to make it in.", envvar="TFDS_DATA_DIR", **PATH)],
) -> None:
    """Fetch a data set, check it and prepare it for tensorflow-datasets, without TensorFlow."""
    from bnjax.data.prepare import prepare_cifar10

    del name  # there is one so far
    print(f"ready: {prepare_cifar10(data_dir)}")


@app.command(epilog="Example: bnjax verify --json results/verify.json")
def verify(
    json_file: Annotated[
        Path | None,
        typer.Option("--json", help="Also write what was found, as JSON, for bnjax page.", **PATH),
    ] = None,
    html_file: Annotated[
        Path | None, typer.Option("--html", help="Also write it as the first part of bnjax page.", **PATH)
    ] = None,
    coq_dir: Annotated[
        Path | None,
        typer.Option(
            "--coq", help="Instead, write Coq scripts into this folder, and have Coq check them.", **PATH
        ),
    ] = None,
) -> None:
    """Check, prove and bound every theorem, and refuse every planted mistake.

    A line for each theorem: whether check_vjp finds nothing wrong, what prove_vjp says for every batch
    size, how many planted wrong rules each of them catches, and a certified bound on float32 rounding.
    Exit code 1 if anything falls. With --json or --html a line for each lemma beyond the chapter follows, and
    what shows each mistake is written too: some minutes more.

    With --coq DIR: each theorem for vectors, matrices and images, printed from the traced programs and
    checked by Coq's kernel (apt-get install coq libcoq-coquelicot). Its --json is another file.
    """
    from bnjax import THEOREMS

    _check_files(json_file, html_file)
    if coq_dir is not None:
        if html_file is not None:
            raise UserError("--coq writes Coq scripts: ask for --html without it")
        from bnjax.verify import kernel

        raise typer.Exit(kernel.run(coq_dir, THEOREMS, json_file))
    if html_file is not None:
        from bnjax.verify import page as pages  # before the work: what it needs may not be installed
    from bnjax.verify import verdicts
    from bnjax.verify.planted import MUTANTS

    _need_device()
    explained = json_file is not None or html_file is not None
    print(verdicts.line(verdicts.HEADER), flush=True)
    theorems, lemmas = [], []
    for verdict in verdicts.verdicts(THEOREMS, MUTANTS, explained=explained):
        theorems.append(verdict)
        print(verdicts.line(verdicts.row(verdict)), flush=True)
    for verdict in verdicts.lemma_verdicts() if explained else ():
        lemmas.append(verdict)
        print(verdicts.line(verdicts.row(verdict)), flush=True)
    written = verdicts.as_json(theorems, lemmas) if explained else ""
    if json_file is not None:
        json_file.write_text(written)
    if html_file is not None:
        html_file.write_text(pages.build(pages.Found(json.loads(written))))
    if not all(verdict.ok for verdict in (*theorems, *lemmas)):
        raise typer.Exit(1)


@app.command(epilog="Example: bnjax page --out bnjax.html")
def page(
    out: Annotated[Path, typer.Option(help="The file to write.", **PATH)],
    results: Annotated[
        Path, typer.Option(help="Where verify.json, coq.json, the tables and the figures are.", **PATH)
    ] = Path("results"),
) -> None:
    """Write the blueprint: what is claimed, what was found, what must be trusted, as one HTML file.

    It is made of files and runs nothing: of verify.json, by `bnjax verify --json`; of coq.json, by `bnjax
    verify --coq DIR --json`, if it is there; of README.md and the figures; and, in the folder above, of
    CONTRIBUTING.md. The page needs no network and no script.

    Exit code 0 if it is written, whatever it says; 2 if verify.json is missing or the page cannot be written.
    """
    _check_files(out)
    from bnjax.verify import page as pages

    out.write_text(pages.build(pages.read(results)))
    print(f"written: {out}")


@app.command(epilog="Example: bnjax bench steps --repeats 20")
def bench(
    part: Annotated[
        Literal["all", "layers", "steps", "memory", "precision"],
        typer.Argument(help="What to measure."),
    ] = "all",
    repeats: Annotated[int, typer.Option(help="Runs of each contestant, after three to warm up.")] = 15,
    out: Annotated[Path, typer.Option(help="Folder for the bench_PART.json files.", **PATH)] = Path(
        "results"
    ),
) -> None:
    """Measure ours beside Flax, and beside PyTorch where it is installed.

    layers: batch norm alone. steps: the CIFAR networks' training step, with and without the XLA option that
    train sets; drawn. memory: what a layer keeps for its backward pass, and what a step needs for a while.
    precision: the error of the gradient; drawn.

    Where the C library is glibc the process keeps the memory it frees, as in train: it speeds up all of them.

    (x0.80) behind a contestant: bnjax takes 0.80 of its time.
    """
    if repeats < 1:
        raise UserError(f"--repeats must be at least 1, got {repeats}")
    if out.exists() and not out.is_dir():
        raise UserError(f"--out {out} is a file: name a folder")
    parts = ("layers", "steps", "memory", "precision") if part == "all" else (part,)
    kept = keep_freed_memory()
    _need_device()
    for name in parts:
        print(f"measuring {name}", flush=True)
        from bnjax.bench import report  # after a first sign of life: PyTorch takes seconds

        out.mkdir(parents=True, exist_ok=True)
        print(f"written: {report.run(name, repeats, out, memory_kept=kept)}")


def _begin(command: str, where: Where, *configs: Config) -> tuple[Path, "Dataset"]:
    """Where a training command writes and what it reads, checked before anything is written or compiled."""
    from bnjax.train.devices import placement
    from bnjax.train.files import check_out

    dataset = configs[0].dataset
    if where.resume and where.out is None:
        raise UserError("--resume needs --out: the folder of the run")
    out = where.out or Path("runs") / f"{command}-{dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    if not where.resume:
        check_out(out)
    data = _read(dataset, where.data_dir, sys.stdout)
    for config in configs:
        select_examples(data, config)
    keep_freed_memory()
    _need_device()
    for config in configs:
        placement(config.batch_size, where.devices)
    runs = "" if len(configs) == 1 else f"{len(configs)} runs, "
    epochs = "1 epoch" if configs[0].epochs == 1 else f"{configs[0].epochs} epochs"
    print(f"{command}: {runs}{epochs} of {dataset}, in {out}", flush=True)
    return out, data


def _check_files(*files: Path | None) -> None:
    """UserError, before any work, if one of them cannot be written."""
    for file in files:
        if file is not None and not (file.parent.is_dir() and not file.is_dir()):
            raise UserError(f"{file} cannot be written: its folder must exist, and it must not be one")


def _read(dataset: str, data_dir: Path | None, says: TextIO) -> "Dataset":
    """A data set; `says` on what stream that it is being read, where that takes a while."""
    from bnjax import data as datasets

    if data_dir is not None and dataset != "cifar10":
        raise UserError(
            f"--data-dir is for cifar10, and the data set is {dataset}: give --dataset cifar10 too"
        )
    patience = threading.Timer(0.3, lambda: print(f"reading {dataset}", file=says, flush=True))
    patience.daemon = True
    patience.start()
    try:
        return datasets.load(dataset, data_dir)
    finally:
        patience.cancel()


def _need_device() -> None:
    """UserError where JAX has none of the kind it was told of, as by JAX_PLATFORMS=cuda without a GPU."""
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # the latter where no plugin for it is installed
        asked = os.environ.get("JAX_PLATFORMS", "")
        raise UserError(f"JAX finds no device, JAX_PLATFORMS={asked}: {one_line(error)}") from error


def _ended(result: "RunResult") -> str:
    accuracy = "" if result.test_accuracy is None else f", test accuracy {result.test_accuracy:.2%}"
    return f"{result.outcome}{accuracy}"


def _terminated(*_: object) -> None:
    """What SIGTERM does: unwind as an error does, so that locks and half-made files go, and say nothing."""
    sys.exit(128 + signal.SIGTERM)


def main() -> None:
    """Run the command line; a failure the user can mend is one line on stderr and exit code 2."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    try:
        # typer makes 130 of Ctrl-C, and ends quietly where a pipe is closed
        code = app(standalone_mode=False)
        sys.stdout.flush()
        if code == 130:
            print("bnjax: interrupted", file=sys.stderr)
        sys.exit(code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains at its end
        sys.exit(1)
    except TyperException as error:
        message = error.format_message()
    except ArgumentError as error:
        message = f"--{error.name.replace('_', '-')} {error.complaint}"
    except UserError as error:
        message = str(error)
    except OSError as error:
        message = f"{error.filename}: {error.strerror}" if error.filename else str(error)
    except ModuleNotFoundError as error:
        extra = "page" if error.name in PAGE_NEEDS else "train"
        message = f'{error.name} is not installed: pip install "bnjax[{extra}]"'
    except (MemoryError, jax.errors.JaxRuntimeError) as error:  # most often memory that there is not
        message = one_line(error)
    print(f"bnjax: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
