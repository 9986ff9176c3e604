"""`BatchNorm` for Flax Linen."""

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.linen.dtypes import canonicalize_dtype
from flax.linen.module import merge_param

from bnjax.nn import functional


class BatchNorm(nn.BatchNorm):
    """`flax.linen.BatchNorm` with the rules of `bnjax.theorems`, derived by hand.

    Attributes, call, variables (`params`: `scale`, `bias`; `batch_stats`: `mean`, `var`) and
    checkpoints are Flax's; see `flax.linen.BatchNorm`.  What works and what differs is as the table of
    `bnjax.nn.nnx.BatchNorm` says; besides, reductions are float32 at least, also where
    `force_float32_reductions` is False.  A loss on the updated `batch_stats` has a gradient, as in Flax.

    One attribute is not Flax's, nor an argument: of a subclass with `cpu_kernels = True` training runs the
    kernels of `bnjax.ops.cpu`, as of `bnjax.nn.nnx.BatchNorm`.

    Example:
      >>> import jax, jax.numpy as jnp
      >>> import bnjax.nn.linen
      >>> x = jnp.array([[0.0, 2.0], [2.0, 6.0]])  # (N, C), or (N, H, W, C)
      >>> layer = bnjax.nn.linen.BatchNorm(use_running_average=False)
      >>> variables = layer.init(jax.random.key(0), x)
      >>> y, updates = layer.apply(variables, x, mutable=["batch_stats"])
      >>> print(jnp.round(y, 3), updates["batch_stats"]["mean"])
      [[-1. -1.]
       [ 1.  1.]] [0.01 0.04]
    """

    cpu_kernels = False  # without a type it is no field, and the constructor is Flax's

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Normalize x; in training mode by its own statistics, which update the running ones.

        During initialization the running statistics are made, not moved, and `axis_name` need not exist.

        Args:
          x: array whose `axis` holds the features; statistics run over all its other axes.
          use_running_average: True for evaluation mode; given here or as the attribute, not both.
          mask: boolean, broadcastable to x: the elements that count in the statistics.

        Returns:
          An array of x's shape, in `dtype` (inferred from x and the parameters if that is None).

        Raises:
          TypeError: x is complex; `mask` is not boolean.
          ValueError: `axis` out of range; `epsilon` < 0, NaN or infinite; `mask` not broadcastable to x.
        """
        use_running_average = merge_param(
            "use_running_average", self.use_running_average, use_running_average
        )
        features = tuple(x.shape[a] for a in functional.feature_axes(self.axis, x.ndim))
        stats_dtype = jnp.float32 if self.force_float32_reductions else self.param_dtype
        running_mean = self.variable("batch_stats", "mean", jnp.zeros, features, stats_dtype)
        running_var = self.variable("batch_stats", "var", jnp.ones, features, stats_dtype)
        scale = bias = None
        if self.use_scale:
            scale = self.param("scale", self.scale_init, features, self.param_dtype)
        if self.use_bias:
            bias = self.param("bias", self.bias_init, features, self.param_dtype)

        dtype = canonicalize_dtype(x, scale, bias, dtype=self.dtype)
        x = jnp.asarray(x, jnp.promote_types(x.dtype, dtype))  # statistics see x before any rounding
        if use_running_average:
            return functional.evaluate(self, x, scale, bias, running_mean.value, running_var.value).astype(
                dtype
            )
        y, mean, var, count = functional.train(
            self, x, scale, bias, mask=mask, axis_name=None if self.is_initializing() else self.axis_name
        )
        if not self.is_initializing():
            for running, batch in ((running_mean, mean), (running_var, var)):
                running.value = functional.moving_average(running.value, batch, count, self.momentum)
        return y.astype(dtype)
