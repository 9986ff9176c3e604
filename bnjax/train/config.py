"""A training run's settings: their names, defaults, help and limits, once for Python and the command.

Needs no jax: the command's help is made from it.
"""

import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal, NamedTuple, Self, get_args, get_origin, get_type_hints

from bnjax import spec as specs
from bnjax.data import CLASSES, IMAGE_SHAPE, Dataset, check
from bnjax.errors import ArgumentError
from bnjax.spec import NetSpec

Norm = Literal["batch", "none"]
Init = Literal["he", "glorot"]
DatasetName = Literal["synthetic", "cifar10"]
Schedule = Literal["constant", "cosine", "one-cycle"]
Augment = Literal["none", "flip-crop"]
Recipe = Literal["chapter", "plain", "best"]

DEFAULT_EPOCHS: dict[DatasetName, int] = {"synthetic": 3, "cifar10": 30}
# presets: what is given beside one wins
RECIPES: dict[Recipe, dict[str, Any]] = {
    "chapter": {"learning_rate": 0.1, "momentum": 0.9, "init": "he", "epochs": 30},
    "plain": {"learning_rate": 0.1, "momentum": 0.0, "init": "he"},
    "best": {
        "learning_rate": 0.2,
        "momentum": 0.9,
        "init": "he",
        "epochs": 30,
        "schedule": "one-cycle",
        "weight_decay": 5e-4,
        "augment": "flip-crop",
        "label_smoothing": 0.1,
    },
}


class Limit(NamedTuple):
    """What a setting may be: the test, and the words for it."""

    holds: Callable[[Any], bool]
    words: str


AT_LEAST_1 = Limit(lambda value: value >= 1, "at least 1")
POSITIVE = Limit(lambda value: math.isfinite(value) and value > 0, "a positive number")
NOT_NEGATIVE = Limit(lambda value: math.isfinite(value) and value >= 0, "0 or a positive number")
FRACTION = Limit(lambda value: 0 <= value < 1, "at least 0 and less than 1")
UINT32 = Limit(lambda value: 0 <= value < 2**32, "from 0 to 4294967295")


class About(NamedTuple):
    """What is told of a setting: its help, its limit, and what the help says holds where it is not given.

    `parser` makes the setting of what the command is given, called as `metavar` says.
    """

    help: str
    limit: Limit | None = None
    unset: str | None = None
    parser: Callable[[str], Any] | None = None
    metavar: str | None = None


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

    The fields are the options of `bnjax train`; its help says what each is.

    Raises:
      ArgumentError: a field is not what it may be.

    Example:
      >>> from bnjax.train.config import Config
      >>> config = Config.of(recipe="chapter", seed=1)
      >>> config.momentum, config.epochs, config.seed
      (0.9, 30, 1)
      >>> Config(learning_rate=-1.0)
      Traceback (most recent call last):
      bnjax.errors.ArgumentError: learning_rate must be a positive number, got -1.0
    """

    norm: Annotated[Norm, About("batch: batch norm after each convolution.")] = "batch"
    dataset: Annotated[
        DatasetName, About("synthetic: embedded, generated; cifar10: through tensorflow-datasets.")
    ] = "synthetic"
    epochs: Annotated[int, About("Passes over the training set.", AT_LEAST_1, "30 on cifar10, else 3")] = 3
    batch_size: Annotated[int, About("Images a step; an epoch leaves out what fills none.", AT_LEAST_1)] = 128
    learning_rate: Annotated[float, About("SGD's learning rate; of a schedule the highest.", POSITIVE)] = 0.1
    momentum: Annotated[float, About("SGD's momentum, in [0, 1).", FRACTION)] = 0.0
    init: Annotated[Init, About("How the kernels are drawn.")] = "he"
    schedule: Annotated[
        Schedule,
        About("The rate stays; falls to 0 along half a cosine; or rises for 0.3 of the run first."),
    ] = "constant"
    weight_decay: Annotated[
        float, About("So many times the kernels are added to their gradients.", NOT_NEGATIVE)
    ] = 0.0
    augment: Annotated[
        Augment, About("flip-crop: training images mirrored and moved by up to 4 pixels, at random.")
    ] = "none"
    label_smoothing: Annotated[float, About("Share of a label spread over all classes.", FRACTION)] = 0.0
    seed: Annotated[int, About("Of the kernels, the shuffling and the augmentation.", UINT32)] = 0
    train_examples: Annotated[
        int | None, About("Use only the first so many training images.", AT_LEAST_1, "all")
    ] = None
    spec: Annotated[
        NetSpec | None,
        About(
            "A network of your own, a bnjax.models.NetSpec.",
            unset="the chapter's",
            parser=specs.read,
            metavar="<FILE.py:NAME>",
        ),
    ] = None

    def __post_init__(self) -> None:
        for setting in settings():
            value, limit = getattr(self, setting.name), setting.about.limit
            if setting.choices:
                limit = Limit(setting.choices.__contains__, f"one of {', '.join(setting.choices)}")
            if limit and value is not None and not limit.holds(value):
                raise ArgumentError(setting.name, f"must be {limit.words}, got {value}")
        if self.spec is not None:
            _check_spec(self.spec, self.norm)

    @classmethod
    def of(cls, *, recipe: Recipe | None = None, **values: Any) -> Self:
        """`Config(**values)`, where None stands for what is usual.

        That is what the recipe says, if one is named; else of epochs the data set's number, of the norm what
        the spec has, if there is one, and the default of all others.
        """
        if recipe is not None and recipe not in RECIPES:
            raise ArgumentError("recipe", f"must be one of {', '.join(RECIPES)}, got {recipe}")
        given = {name: value for name, value in values.items() if value is not None}
        usual: dict[str, Any] = {"epochs": DEFAULT_EPOCHS[given.get("dataset", "synthetic")]}
        if "spec" in given:
            usual["norm"] = given["spec"].norm
        return cls(**usual | (RECIPES[recipe] if recipe else {}) | given)

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        return dataclasses.asdict(self) | {"spec": self.spec.as_json() if self.spec else None}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """The config whose `as_json` is `values`; a setting it knows nothing of has its default."""
        spec = values.get("spec")
        return cls(**values | {"spec": None if spec is None else NetSpec.from_json(spec)})


def _check_spec(spec: NetSpec, norm: Norm) -> None:
    """ArgumentError unless `spec` is of a network for these images and classes, with such a norm."""
    gives = spec.shapes()[-1] if spec.layers else spec.input_shape
    if (spec.input_shape, gives) != (IMAGE_SHAPE, (CLASSES,)):
        fits = f"make {(CLASSES,)} of an image {IMAGE_SHAPE}"
        raise ArgumentError("spec", f"must {fits}, and {spec.name} makes {gives} of {spec.input_shape}")
    if spec.norm != norm:
        raise ArgumentError("norm", f"must be {spec.norm}, as in the spec {spec.name}, got {norm}")


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
