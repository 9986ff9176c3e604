"""A training run's settings: their names, defaults, help and limits, once for Python and the command.

Needs no jax: the command's help is made from it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

from bnjax.data import Dataset, check
from bnjax.errors import ArgumentError

Norm = Literal["batch", "none"]
Init = Literal["he", "glorot"]
DatasetName = Literal["synthetic", "cifar10"]

DEFAULT_EPOCHS: dict[DatasetName, int] = {"synthetic": 3, "cifar10": 30}


class Limit(NamedTuple):
    """What a setting may be: the test, and the words for it."""

    holds: Callable[[Any], bool]
    words: str


AT_LEAST_1 = Limit(lambda value: value >= 1, "at least 1")
POSITIVE = Limit(lambda value: math.isfinite(value) and value > 0, "a positive number")
FRACTION = Limit(lambda value: 0 <= value < 1, "at least 0 and less than 1")
UINT32 = Limit(lambda value: 0 <= value < 2**32, "from 0 to 4294967295")


class About(NamedTuple):
    """What is told of a setting: its help, its limit, and what the help says holds where it is not given."""

    help: str
    limit: Limit | None = None
    unset: str | None = None


class Setting(NamedTuple):
    """A field of `Config` as the command needs it."""

    name: str
    type: Any
    default: Any
    about: About

    @property
    def choices(self) -> tuple[str, ...]:
        """The words it may be; none where it is a number."""
        return get_args(self.type) if get_origin(self.type) is Literal else ()


@dataclass(frozen=True)
class Config:
    """What determines a run's numbers; where its data and its output lie does not.

    Raises:
      ArgumentError: a field is not what it may be.
    """

    norm: Annotated[Norm, About("batch: batch norm after each convolution.")] = "batch"
    dataset: Annotated[
        DatasetName, About("synthetic: embedded, generated; cifar10: through tensorflow-datasets.")
    ] = "synthetic"
    epochs: Annotated[int, About("Passes over the training set.", AT_LEAST_1, "30 on cifar10, else 3")] = 3
    batch_size: Annotated[int, About("Images a step; an epoch leaves out what fills none.", AT_LEAST_1)] = 128
    learning_rate: Annotated[float, About("SGD's learning rate, constant.", POSITIVE)] = 0.1
    momentum: Annotated[float, About("SGD's momentum, in [0, 1).", FRACTION)] = 0.0
    init: Annotated[Init, About("How the kernels are drawn.")] = "he"
    seed: Annotated[int, About("Of the kernels and the shuffling.", UINT32)] = 0
    train_examples: Annotated[
        int | None, About("Use only the first so many training images.", AT_LEAST_1, "all")
    ] = None

    def __post_init__(self) -> None:
        for setting in settings():
            value, limit = getattr(self, setting.name), setting.about.limit
            if setting.choices:
                limit = Limit(setting.choices.__contains__, f"one of {', '.join(setting.choices)}")
            if limit and value is not None and not limit.holds(value):
                raise ArgumentError(setting.name, f"must be {limit.words}, got {value}")

    @classmethod
    def of(cls, **values: Any) -> Self:
        """`Config(**values)`, where None stands for what is usual: of epochs, the data set's number."""
        given = {name: value for name, value in values.items() if value is not None}
        usual = {"epochs": DEFAULT_EPOCHS[given.get("dataset", "synthetic")]}
        return cls(**usual | given)


@functools.cache
def settings() -> tuple[Setting, ...]:
    """The fields of `Config`, in order."""
    types = get_type_hints(Config, include_extras=True)
    parts = {name: get_args(annotated) for name, annotated in types.items()}
    return tuple(
        Setting(f.name, parts[f.name][0], f.default, parts[f.name][1]) for f in dataclasses.fields(Config)
    )


def select_examples(data: Dataset, config: Config) -> Dataset:
    """The data a run trains on: the first `train_examples`, all if that is None.

    Raises:
      ArgumentError: there are not so many, or too few for one batch.
      UserError: images or labels are not what the networks take.
    """
    check(data)
    available = len(data.train_images)
    examples = config.train_examples or available
    if examples > available:
        raise ArgumentError("train_examples", f"must be at most {available:,}, got {examples:,}")
    if config.batch_size > examples:
        raise ArgumentError(
            "batch_size", f"must be at most the {examples:,} training images, got {config.batch_size:,}"
        )
    return data._replace(train_images=data.train_images[:examples], train_labels=data.train_labels[:examples])


def grid(
    config: Config,
    norms: Sequence[Norm],
    learning_rates: Sequence[float],
    momenta: Sequence[float],
    inits: Sequence[Init],
    seeds: Sequence[int],
) -> list[Config]:
    """`config` with every combination of the values given, each once, seeds last and fastest."""
    configs = [
        dataclasses.replace(config, norm=norm, init=init, momentum=momentum, learning_rate=rate, seed=seed)
        for norm in norms
        for init in inits
        for momentum in momenta
        for rate in learning_rates
        for seed in seeds
    ]
    return list(dict.fromkeys(configs))


def folder(config: Config) -> str:
    """What the run of `config` is called within a sweep, as "batch-he-momentum0-lr0.1-seed0"."""
    momentum, rate = (str(value).removesuffix(".0") for value in (config.momentum, config.learning_rate))
    return f"{config.norm}-{config.init}-momentum{momentum}-lr{rate}-seed{config.seed}"
