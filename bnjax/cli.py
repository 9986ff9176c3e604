"""The `bnjax` command: options to a config, errors to one line and exit code 2."""

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO

import jax
import typer
from typer.exceptions import TyperException

from bnjax.errors import ArgumentError, UserError, one_line
from bnjax.options import PATH, DataDirOption, Values, Where, takes_config
from bnjax.train import ending, processes
from bnjax.train.allocator import keep_freed_memory
from bnjax.train.config import Config, DatasetName, folder, grid, select_examples

if TYPE_CHECKING:  # --help must not wait for Flax
    from bnjax.data import Dataset
    from bnjax.train.run import RunResult

# what a sweep takes several values of, and what the help says of it where it is not the one default
VARIED = {"norm": "batch and none", "learning_rate": None, "momentum": None, "init": None, "seed": None}

COMPILING_SECONDS = 2.0  # from then on it is said
PAGE_NEEDS = ("jinja2", "latex2mathml", "markdown_it", "pygments")  # the extra `page`
EXIT_CODES = (
    "Exit codes: 0 done; 1 what it prints to was closed; 2 it cannot be done, as one line on stderr says; "
    "130 interrupted; 143 told to stop."
)


def _epilog(example: str, files: str, exit_codes: str = EXIT_CODES) -> str:
    """How a command's help ends."""
    return f"Example: bnjax {example}\n\nFiles: {files}\n\n{exit_codes}"


app = typer.Typer(
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    help="Batch normalization in JAX whose backward pass can be trusted.",
    epilog=_epilog(
        "lift --out runs/lift", "each command writes only where it is told, or into the folder it says."
    ),
)


@app.command(
    epilog=_epilog(
        "train --norm batch --epochs 1 --out runs/first",
        "config.json, metrics.jsonl (a line an epoch), log.txt and checkpoints/ in --out.",
    )
)
@takes_config()
def train(values: Values, where: Where) -> None:
    """Train one network and write its run directory.

    On CPU it is compiled with xla_cpu_experimental_ynn_fusion_type=DOT,REDUCE, and where the C library is
    glibc the process keeps the memory it frees: both are faster there.
    """
    out, data = _begin("train", where, config := Config.of(**values))
    from bnjax.train import run as runs
    from bnjax.train import step

    result = runs.run(config, data, out, step.compiler_options(), resume=where.resume, devices=where.devices)
    _say(f"{result.outcome}: {out}")


@app.command(
    epilog=_epilog(
        "lift --dataset cifar10 --data-dir DIR --epochs 3 --out runs/lift",
        "batch/ and none/, as of train, summary.json, lift.png and lift.svg in --out.",
    )
)
@takes_config("norm", "spec")
def lift(values: Values, where: Where) -> None:
    """Train with and without batch norm; draw what it lifts.

    Both by one recipe, compiled as in train.
    """
    out, data = _begin("lift", where, config := Config.of(**values))
    from bnjax.train import step
    from bnjax.train.lift import lift as run_lift

    for result in run_lift(
        config, data, out, step.compiler_options(), resume=where.resume, devices=where.devices
    ):
        _say(f"norm {result.config.norm}: {_ended(result)}")
    _say(f"figure: {out / 'lift.png'}")


@app.command(
    epilog=_epilog(
        "sweep --epochs 1 --learning-rate 0.01 --learning-rate 0.1 --momentum 0.9",
        "a folder a run, as of train, summary.json, sweep.png and headroom.png (and .svg) in --out.",
    )
)
@takes_config(many=VARIED)
def sweep(values: Values, where: Where) -> None:
    """Train every combination of the values given; draw which train.

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
        _say(f"{number}/{len(configs)} {folder(config)}: {_ended(result)}")
    _say(f"map: {out / 'sweep.png'}")
    _say(f"headroom: {out / 'headroom.png'}")


@app.command(epilog=_epilog("evaluate runs/first", "reads the run's folder, and writes none."))
def evaluate(
    run: Annotated[
        Path, typer.Argument(help="A run directory, as train makes it.", **PATH | {"metavar": "RUN"})
    ],
    dataset: Annotated[
        DatasetName | None, typer.Option(help="Whose test set.", show_default="the run's")
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Evaluate a run's network on a test set: JSON on stdout.

    The network is that of its newest epoch.
    """
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


@app.command(
    epilog=_epilog("data cifar10 --data-dir ~/tensorflow_datasets", "cifar10/3.0.2/ in --data-dir, 140 MB.")
)
def data(
    name: Annotated[Literal["cifar10"], typer.Argument(help="The data set.")],
    data_dir: Annotated[Path, typer.Option(help="Folder to make it in.", envvar="TFDS_DATA_DIR", **PATH)],
) -> None:
    """Fetch a data set, check it and prepare it for training.

    It is written as tensorflow-datasets has it, without TensorFlow.
    """
    from bnjax.data.prepare import prepare_cifar10

    del name  # there is one so far
    print(f"ready: {prepare_cifar10(data_dir)}")


@app.command(
    epilog=_epilog(
        "verify --json results/verify.json",
        "only those of --json, --html and --coq.",
        EXIT_CODES.replace("; 2", ", or anything falls; 2"),
    )
)
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
    """Check and prove every theorem; refuse planted mistakes.

    A line for each theorem: whether check_vjp finds nothing wrong, what prove_vjp says for every batch
    size, how many planted wrong rules each of them catches, and a certified bound on float32 rounding.
    Exit code 1 if anything falls. With --json or --html a line for each lemma beyond the chapter and for both
    networks follows, and what shows each mistake is written too: some minutes more.

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
    from bnjax.verify import mistakes, verdicts
    from bnjax.verify.planted import MUTANTS

    _need_device()
    explained = json_file is not None or html_file is not None
    print(verdicts.line(verdicts.HEADER), flush=True)
    theorems, lemmas = [], []
    with mistakes.in_processes(mistakes.planted(THEOREMS, lemmas=explained), explained) as judge:
        for verdict in verdicts.verdicts(THEOREMS, MUTANTS, explained=explained, judge=judge):
            theorems.append(verdict)
            print(verdicts.line(verdicts.row(verdict)), flush=True)
        for verdict in verdicts.lemma_verdicts(judge=judge) if explained else ():
            lemmas.append(verdict)
            print(verdicts.line(verdicts.row(verdict)), flush=True)
    networks = []
    if explained:
        from bnjax.verify.networks import network_verdicts, row  # imports Flax, which the theorems do without

        for network in network_verdicts():
            networks.append(network)
            print(verdicts.line(row(network)), flush=True)
    written = verdicts.as_json(theorems, lemmas, networks) if explained else ""
    if json_file is not None:
        json_file.write_text(written)
    if html_file is not None:
        html_file.write_text(pages.build(pages.Found(json.loads(written))))
    if not all(verdict.ok for verdict in [*theorems, *lemmas]) or not all(n.ok for n in networks):
        raise typer.Exit(1)


@app.command(
    epilog=_epilog("page --out bnjax.html", "--out; read are those of --results, and CONTRIBUTING.md.")
)
def page(
    out: Annotated[Path, typer.Option(help="The file to write.", **PATH)],
    results: Annotated[
        Path, typer.Option(help="Where verify.json, coq.json, the tables and the figures are.", **PATH)
    ] = Path("results"),
) -> None:
    """Write what is claimed, found and trusted, as one HTML file.

    It is made of files and runs nothing: of verify.json, by `bnjax verify --json`; of coq.json, by `bnjax
    verify --coq DIR --json`, if it is there; of README.md and the figures; and, in the folder above, of
    CONTRIBUTING.md. The page needs no network and no script.

    It is written whatever it says; if verify.json is missing the exit code is 2.
    """
    _check_files(out)
    from bnjax.verify import page as pages

    out.write_text(pages.build(pages.read(results)))
    print(f"written: {out}")


@app.command(
    epilog=_epilog(
        "bench steps --repeats 20", "bench_PART.json in --out, and of steps and precision a figure."
    )
)
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
    """Measure ours beside Flax and PyTorch, where it is installed.

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
    _try_kernels()
    for name in parts:
        print(f"measuring {name}", flush=True)
        from bnjax.bench import report  # after a first sign of life: PyTorch takes seconds

        out.mkdir(parents=True, exist_ok=True)
        print(f"written: {report.run(name, repeats, out, memory_kept=kept)}")


def _begin(command: str, where: Where, *configs: Config) -> tuple[Path, "Dataset"]:
    """Where a training command writes and what it reads, checked before anything is written or compiled."""
    from bnjax.train.devices import placement
    from bnjax.train.files import check_out

    member = processes.membership(where.coordinator, where.processes, where.process)
    dataset = configs[0].dataset
    if where.resume and where.out is None:
        raise UserError("--resume needs --out: the folder of the run")
    out = where.out or Path("runs") / f"{command}-{dataset}-{datetime.now():%Y%m%d-%H%M%S}"
    if not where.resume and not where.process:
        check_out(out)
    keep_freed_memory()
    if member:
        processes.join(member)
    data = _read(dataset, where.data_dir, sys.stdout)
    for config in configs:
        select_examples(data, config)
    _need_device()
    places = [placement(config.batch_size, where.devices) for config in configs]
    runs = "" if len(configs) == 1 else f"{len(configs)} runs, "
    epochs = "1 epoch" if configs[0].epochs == 1 else f"{configs[0].epochs} epochs"
    written = f"in {out}" if processes.is_first() else f"as process {where.process} of {where.processes}"
    print(f"{command}: {runs}{epochs} of {dataset}, {written}", flush=True)
    if None in places:
        _try_kernels()
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
    with _said_after(0.3, f"reading {dataset}", says):
        return datasets.load(dataset, data_dir)


def _try_kernels() -> None:
    """Compile the CPU kernels now, if that is still to be done, and say so: it takes a while."""
    from bnjax import ops

    with _said_after(COMPILING_SECONDS, "compiling the CPU kernels, once on this machine", sys.stdout):
        ops.cpu.available()


@contextlib.contextmanager
def _said_after(seconds: float, line: str, says: TextIO) -> Iterator[None]:
    """What takes longer than that is said to be at work."""
    patience = threading.Timer(seconds, lambda: print(line, file=says, flush=True))
    patience.daemon = True
    patience.start()
    try:
        yield
    finally:
        patience.cancel()


def _say(line: str) -> None:
    """Print a line of the result, in one process where there are several."""
    if processes.is_first():
        print(line, flush=True)


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


@ending.at_once()
def main() -> None:
    """Run the command line; a failure the user can mend is one line on stderr and exit code 2."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminated)
    try:
        # typer makes 130 of Ctrl-C, and ends quietly where a pipe is closed
        code = app(prog_name="bnjax", standalone_mode=False)
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
        message = ending.LOST if ending.is_lost(error) else one_line(error)
    ending.take_last_word()
    print(f"bnjax: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(2)
