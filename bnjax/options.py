"""The options of the training commands: the fields of `Config`, and where to compute, read and write."""

import enum
import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, NamedTuple, get_type_hints

import typer

from bnjax.train.config import Recipe, Setting, settings

Values = dict[str, Any]  # of a `Config`, by name


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
        help="chapter: momentum 0.9, 30 epochs; plain: no momentum; best: rate 0.2 (0.05 suits a network "
        "without batch norm), momentum 0.9, one-cycle, decay, flip-crop and smoothing, 30 epochs.  An option "
        "given beside it wins.",
        show_default="none of them",
    ),
]


class Where(NamedTuple):
    """Where a training command computes, reads and writes: options of it, but of no `Config`."""

    devices: Annotated[
        int | None,
        typer.Option(
            help="Share each batch among so many devices of a process.", show_default="all; of CPUs, 1"
        ),
    ] = None
    coordinator: Annotated[
        str | None,
        typer.Option(
            help="Share it among processes too, started one by one, that meet at process 0's HOST:PORT.",
            metavar="<HOST:PORT>",
            show_default="this process alone",
        ),
    ] = None
    processes: Annotated[int | None, typer.Option(help="How many processes there are.", show_default="1")] = (
        None
    )
    process: Annotated[
        int | None,
        typer.Option(
            help="Which of them this one is; 0 writes the folder, the others none.", show_default="0"
        ),
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
