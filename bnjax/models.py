"""The chapter's two CIFAR-10 networks: as data, a line a layer, and as one class, one argument apart.

A network of your own is a `NetSpec` too; its layers are those of `bnjax.spec`.
"""

import itertools
from collections.abc import Callable
from typing import Literal, get_args

import jax
from flax import nnx

from bnjax import ops
from bnjax.nn.nnx import BatchNormRelu
from bnjax.spec import NetSpec, conv2d, conv_bn, dense, flatten, identity, max_pool, relu

__all__ = [
    "CIFAR_CNN_BN",
    "CIFAR_CNN_NO_BN",
    "CifarCNN",
    "Init",
    "NetSpec",
    "Norm",
    "conv2d",
    "conv_bn",
    "dense",
    "flatten",
    "identity",
    "max_pool",
    "parameter_count",
    "relu",
]

Norm = Literal["batch", "none"]
Init = Literal["he", "glorot"]

_KERNEL_INITS = {
    "he": nnx.initializers.he_normal(),
    "glorot": nnx.initializers.glorot_normal(),
}

CIFAR_CNN_NO_BN = NetSpec(
    "cifarCnnNoBn",
    [
        conv2d(3, 32, 3, relu),
        conv2d(32, 32, 3, relu),
        max_pool(2, 2),
        conv2d(32, 64, 3, relu),
        conv2d(64, 64, 3, relu),
        max_pool(2, 2),
        flatten(),
        dense(4096, 512, relu),
        dense(512, 512, relu),
        dense(512, 10, identity),
    ],
)
CIFAR_CNN_BN = NetSpec(
    "cifarCnnBn",
    [
        conv_bn(3, 32, 3, stride=1),
        conv_bn(32, 32, 3, stride=1),
        max_pool(2, 2),
        conv_bn(32, 64, 3, stride=1),
        conv_bn(64, 64, 3, stride=1),
        max_pool(2, 2),
        flatten(),
        dense(4096, 512, relu),
        dense(512, 512, relu),
        dense(512, 10, identity),
    ],
)


class CifarCNN(nnx.Module):
    """The chapter's `cifarCnnBn` (norm="batch") and `cifarCnnNoBn` (norm="none")::

        [conv 3×3, 32 → norm → relu] ×2 → max pool 2×2
        [conv 3×3, 64 → norm → relu] ×2 → max pool 2×2
        dense 512 → relu → dense 512 → relu → dense 10

    Convolutions keep the image's size.  A convolution followed by batch norm has no bias, which the
    norm would subtract again: 2,431,210 parameters with batch norm, 2,431,018 without.

    Args:
      norm: "batch" for batch norm after every convolution (`bnjax.nn.nnx.BatchNormRelu`), "none" for
        nothing.
      init: kernels by He et al. 2015 ("he", normal, variance 2/fan_in) or Glorot & Bengio 2010
        ("glorot", normal, variance 2/(fan_in + fan_out)); biases are 0.
      convolve: the convolution, called as `jax.lax.conv_general_dilated`; if None, `bnjax.ops.conv`.
      cpu_kernels: whether the kernels of `bnjax.ops.cpu` run where they apply.
      rngs: where the kernels' random numbers come from.

    Raises:
      ValueError: another `norm` or `init`.

    Example:
      >>> from flax import nnx
      >>> from bnjax.models import CifarCNN, parameter_count
      >>> network = nnx.eval_shape(lambda: CifarCNN("batch", rngs=nnx.Rngs(0)))  # shapes alone, nothing drawn
      >>> parameter_count(network)
      2431210

    Source: *Verified Deep Learning with Lean 4*, chapter 5.
    """

    def __init__(
        self,
        norm: Norm = "batch",
        init: Init = "he",
        *,
        convolve: Callable[..., jax.Array] | None = None,
        cpu_kernels: bool = False,
        rngs: nnx.Rngs,
    ):
        if norm not in get_args(Norm):
            raise ValueError(f"norm must be one of {get_args(Norm)}, got {norm!r}")
        if init not in get_args(Init):
            raise ValueError(f"init must be one of {get_args(Init)}, got {init!r}")
        if convolve is None:
            convolve = ops.cpu.conv if cpu_kernels else ops.conv
        kernel_init = _KERNEL_INITS[init]
        channels = (3, 32, 32, 64, 64)
        # a layer's own stream: whether it also draws a bias does not move the next one's kernel, and
        # both networks start from the same kernels
        self.convs = nnx.List(
            [
                nnx.Conv(
                    inputs,
                    outputs,
                    (3, 3),
                    use_bias=norm == "none",
                    kernel_init=kernel_init,
                    conv_general_dilated=convolve,
                    rngs=nnx.Rngs(rngs.params()),
                )
                for inputs, outputs in itertools.pairwise(channels)
            ]
        )
        self.norms = nnx.List([_norm(c, cpu_kernels) if norm == "batch" else nnx.relu for c in channels[1:]])
        self.denses = nnx.List(
            [
                nnx.Linear(inputs, outputs, kernel_init=kernel_init, rngs=nnx.Rngs(rngs.params()))
                for inputs, outputs in itertools.pairwise((8 * 8 * 64, 512, 512, 10))
            ]
        )

    def __call__(self, images: jax.Array) -> jax.Array:
        """The logits (N, 10) of a batch of standardized images (N, 32, 32, 3)."""
        x = images
        for index, (conv, norm) in enumerate(zip(self.convs, self.norms, strict=True)):
            x = norm(conv(x))
            if index % 2:
                x = ops.max_pool(x)
        x = x.reshape(x.shape[0], -1)
        x = nnx.relu(self.denses[0](x))
        x = nnx.relu(self.denses[1](x))
        return self.denses[2](x)


def _norm(channels: int, cpu_kernels: bool) -> BatchNormRelu:
    layer = BatchNormRelu(channels, rngs=nnx.Rngs(0))
    if cpu_kernels:
        layer.cpu_kernels = True
    return layer


def parameter_count(model: nnx.Module) -> int:
    """How many trainable numbers `model` has (running statistics are not trained).

    Example:
      >>> from flax import nnx
      >>> from bnjax.models import parameter_count
      >>> parameter_count(nnx.Linear(3, 2, rngs=nnx.Rngs(0)))
      8
    """
    return sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))
