"""A network as data: a line a layer, as the chapter prints it; sizes that do not fit are refused at once.

Needs no Flax until a network is built.
"""

import dataclasses
import functools
import math
import runpy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, get_args

from bnjax.errors import UserError, one_line

if TYPE_CHECKING:
    import jax
    from flax import nnx

Activation = Literal["relu", "identity"]
Shape = tuple[int, ...]  # of one image, or of what a layer makes of it

relu: Activation = "relu"
identity: Activation = "identity"


class Parts(NamedTuple):
    """What the layers of a network are built with: the arguments of `NetSpec.build`."""

    kernel_init: Callable[..., Any]
    convolve: Callable[..., Any]
    rngs: "nnx.Rngs"

    def conv(self, layer: "conv2d | conv_bn", *, bias: bool) -> "nnx.Conv":
        """The convolution of a layer; its kernel is drawn from a stream of its own, bias or no bias."""
        from flax import nnx

        return nnx.Conv(
            layer.inputs,
            layer.outputs,
            (layer.kernel, layer.kernel),
            strides=layer.stride,
            use_bias=bias,
            kernel_init=self.kernel_init,
            conv_general_dilated=self.convolve,
            rngs=nnx.Rngs(self.rngs.params()),
        )


@dataclass(frozen=True)
class conv2d:
    """A convolution with bias, zeros beyond the edges ("SAME"), then the activation.

    Args:
      inputs, outputs: channels.
      kernel: the height and the width of the kernel.
      activation: "relu" or "identity".
      stride: how many pixels the kernel moves on, in both directions.

    Example:
      >>> from bnjax.models import conv2d
      >>> layer = conv2d(3, 32, 3, "relu")
      >>> layer.shape((32, 32, 3)), layer.parameter_count()
      ((32, 32, 32), 896)
    """

    inputs: int
    outputs: int
    kernel: int
    activation: Activation = "identity"
    stride: int = 1

    def shape(self, before: Shape) -> Shape:
        """(H, W, inputs) -> (⌈H/stride⌉, ⌈W/stride⌉, outputs)."""
        return _convolved(self, before)

    def parameter_count(self) -> int:
        """Kernel and bias."""
        return self.kernel**2 * self.inputs * self.outputs + self.outputs

    def build(self, parts: Parts) -> Callable[..., Any]:
        """The layer in Flax."""
        return _activated(parts.conv(self, bias=True), self.activation)


@dataclass(frozen=True)
class conv_bn:
    """A convolution without bias, which the norm would subtract again; batch norm; ReLU.

    Args:
      inputs, outputs: channels.
      kernel: the height and the width of the kernel.
      stride: how many pixels the kernel moves on, in both directions.

    Example:
      >>> from bnjax.models import conv_bn
      >>> layer = conv_bn(3, 32, 3, stride=2)
      >>> layer.shape((32, 32, 3)), layer.parameter_count()
      ((16, 16, 32), 928)
    """

    inputs: int
    outputs: int
    kernel: int
    stride: int = 1

    def shape(self, before: Shape) -> Shape:
        """(H, W, inputs) -> (⌈H/stride⌉, ⌈W/stride⌉, outputs)."""
        return _convolved(self, before)

    def parameter_count(self) -> int:
        """Kernel, γ and β."""
        return self.kernel**2 * self.inputs * self.outputs + 2 * self.outputs

    def build(self, parts: Parts) -> Callable[..., Any]:
        """The layer in Flax."""
        from flax import nnx

        from bnjax.nn.nnx import BatchNormRelu

        return nnx.Sequential(parts.conv(self, bias=False), BatchNormRelu(self.outputs, rngs=nnx.Rngs(0)))


@dataclass(frozen=True)
class max_pool:
    """The largest of each size×size window, as many as fit, `stride` apart.

    Args:
      size: the height and the width of a window, in pixels.
      stride: from one window to the next, in pixels.

    Example:
      >>> from bnjax.models import max_pool
      >>> max_pool(2, 2).shape((32, 32, 64))
      (16, 16, 64)
    """

    size: int
    stride: int

    def shape(self, before: Shape) -> Shape:
        """(H, W, C) -> (⌊(H − size)/stride⌋ + 1, ⌊(W − size)/stride⌋ + 1, C)."""
        if len(before) != 3 or min(before[:2]) < self.size:
            raise ValueError(f"takes an image of at least {self.size} by {self.size}")
        return (*((n - self.size) // self.stride + 1 for n in before[:2]), before[2])

    def parameter_count(self) -> int:
        """None."""
        return 0

    def build(self, parts: Parts) -> Callable[..., Any]:
        """The layer, `bnjax.ops.max_pool`."""
        from bnjax import ops

        size, stride = (self.size, self.size), (self.stride, self.stride)
        return functools.partial(ops.max_pool, window_shape=size, strides=stride)


@dataclass(frozen=True)
class flatten:
    """An image as one vector.

    Example:
      >>> from bnjax.models import flatten
      >>> flatten().shape((8, 8, 64))
      (4096,)
    """

    def shape(self, before: Shape) -> Shape:
        """(H, W, C) -> (HWC,)."""
        return (math.prod(before),)

    def parameter_count(self) -> int:
        """None."""
        return 0

    def build(self, parts: Parts) -> Callable[..., Any]:
        """The layer."""
        return lambda x: x.reshape(x.shape[0], -1)


@dataclass(frozen=True)
class dense:
    """A matrix and a bias, then the activation.

    Args:
      inputs, outputs: how many numbers.
      activation: "relu" or "identity".

    Example:
      >>> from bnjax.models import dense
      >>> layer = dense(512, 10)
      >>> layer.shape((512,)), layer.parameter_count()
      ((10,), 5130)
    """

    inputs: int
    outputs: int
    activation: Activation = "identity"

    def shape(self, before: Shape) -> Shape:
        """(inputs,) -> (outputs,)."""
        if before != (self.inputs,):
            raise ValueError(f"takes {self.inputs} numbers")
        return (self.outputs,)

    def parameter_count(self) -> int:
        """Matrix and bias."""
        return self.inputs * self.outputs + self.outputs

    def build(self, parts: Parts) -> Callable[..., Any]:
        """The layer in Flax; its matrix is drawn from a stream of its own."""
        from flax import nnx

        rngs = nnx.Rngs(parts.rngs.params())
        linear = nnx.Linear(self.inputs, self.outputs, kernel_init=parts.kernel_init, rngs=rngs)
        return _activated(linear, self.activation)


Layer = conv2d | conv_bn | max_pool | flatten | dense
_KINDS: dict[str, type] = {kind.__name__: kind for kind in get_args(Layer)}


@dataclass(frozen=True)
class NetSpec:
    """A network as data.

    Args:
      name: what it is called.
      layers: from the image to the logits.
      input_shape: of an image.

    Raises:
      ValueError: a layer does not take what the one before it gives, or a size is not a positive integer;
        the message names the layer.

    Example:
      >>> from bnjax.models import NetSpec, conv_bn, dense, flatten, max_pool
      >>> small = NetSpec("small", [conv_bn(3, 16, 3, stride=2), max_pool(2, 2), flatten(), dense(1024, 10)])
      >>> small.shapes(), small.parameter_count()
      ([(16, 16, 16), (8, 8, 16), (1024,), (10,)], 10714)
    """

    name: str
    layers: Sequence[Layer]
    input_shape: Shape = (32, 32, 3)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        object.__setattr__(self, "input_shape", tuple(self.input_shape))
        if not all(type(size) is int and size >= 1 for size in self.input_shape):
            raise ValueError(
                f"input_shape of {self.name} must be of integers from 1 on, got {self.input_shape}"
            )
        self.shapes()

    def shapes(self) -> list[Shape]:
        """What each layer gives for one image."""
        shapes, before = [], self.input_shape
        for number, layer in enumerate(self.layers, 1):
            _check(layer, where := f"layer {number} of {self.name}, {layer}")
            try:
                shapes.append(layer.shape(before))
            except ValueError as error:
                raise ValueError(f"{where}, {error}, and gets {before}") from None
            before = shapes[-1]
        return shapes

    def parameter_count(self) -> int:
        """How many trainable numbers the network has."""
        return sum(layer.parameter_count() for layer in self.layers)

    @property
    def norm(self) -> Literal["batch", "none"]:
        """Whether there is batch norm in it."""
        return "batch" if any(isinstance(layer, conv_bn) for layer in self.layers) else "none"

    def build(
        self, init: str = "he", *, convolve: Callable[..., "jax.Array"] | None = None, rngs: "nnx.Rngs"
    ) -> "nnx.Sequential":
        """The network, (N, *input_shape) -> logits; arguments and errors as of `bnjax.models.CifarCNN`."""
        from flax import nnx

        from bnjax import ops

        inits = {"he": nnx.initializers.he_normal, "glorot": nnx.initializers.glorot_normal}
        if init not in inits:
            raise ValueError(f"init must be one of {tuple(inits)}, got {init!r}")
        parts = Parts(inits[init](), convolve or ops.conv, rngs)
        return nnx.Sequential(*(layer.build(parts) for layer in self.layers))

    def as_json(self) -> dict[str, Any]:
        """What `from_json` takes."""
        layers = [{"layer": type(layer).__name__} | dataclasses.asdict(layer) for layer in self.layers]
        return {"name": self.name, "input_shape": list(self.input_shape), "layers": layers}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The network whose `as_json` is `data`.  KeyError, TypeError or ValueError where there is none."""
        layers = [_KINDS[layer["layer"]](**_without(layer, "layer")) for layer in data["layers"]]
        return cls(data["name"], layers, data["input_shape"])


def read(where: str) -> NetSpec:
    """The spec of "FILE.py:NAME".  UserError where there is none."""
    file, _, name = where.rpartition(":")
    if not file or not name.isidentifier():
        raise UserError(f"--spec must be FILE.py:NAME, got {where!r}")
    if not Path(file).is_file():
        raise UserError(f"--spec {where}: there is no file {file}")
    try:
        found = runpy.run_path(file).get(name)
    except Exception as error:
        raise UserError(f"--spec {where}: {one_line(error)}") from error
    if not isinstance(found, NetSpec):
        raise UserError(f"--spec {where}: there is no NetSpec called {name} in {file}")
    return found


def _convolved(layer: conv2d | conv_bn, before: Shape) -> Shape:
    if len(before) != 3 or before[2] != layer.inputs:
        raise ValueError(f"takes an image of {layer.inputs} channels")
    return (*(math.ceil(n / layer.stride) for n in before[:2]), layer.outputs)


def _activated(layer: Callable[..., Any], activation: Activation) -> Callable[..., Any]:
    from flax import nnx

    return nnx.Sequential(layer, nnx.relu) if activation == "relu" else layer


def _check(layer: Layer, where: str) -> None:
    if not isinstance(layer, Layer):
        raise ValueError(f"{where}, is none of {', '.join(_KINDS)}")
    for name, value in dataclasses.asdict(layer).items():
        if name == "activation" and value not in get_args(Activation):
            raise ValueError(f"{where}: {name} must be one of {', '.join(get_args(Activation))}")
        if name != "activation" and (type(value) is not int or value < 1):
            raise ValueError(f"{where}: {name} must be an integer from 1 on")


def _without(data: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in data.items() if key != name}
