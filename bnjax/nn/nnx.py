"""`BatchNorm` for Flax NNX, and `BatchNormRelu`, the two layers that mostly stand together as one."""

import jax
from flax import nnx
from flax.nnx.module import first_from

from bnjax.nn import functional


class BatchNorm(nnx.BatchNorm):
    """`flax.nnx.BatchNorm` with the hand VJPs of `bnjax.theorems`.

    Constructor, call, state (`scale`, `bias`, `mean`, `var`) and checkpoints are Flax's; see
    `flax.nnx.BatchNorm` for the arguments.  What differs:

    - training mode differentiates by theorem 34 (three terms), evaluation mode by the one-term rule;
    - the variance is always two-pass, whatever `use_fast_variance` says: E[x²] − E[x]² loses its
      float32 gradient altogether at mean/std = 3000;
    - statistics are sums over counts: with `mask` and `axis_name` together Flax averages the devices'
      means, which is wrong where their masks differ in size;
    - running statistics stay float32 in evaluation mode, also where `dtype` is a half-precision one;
    - an empty mask leaves the running statistics as they were; Flax's become NaN.

    Running statistics are momentum·running + (1 − momentum)·batch, with the biased batch variance.

    Example::

        layer = bnjax.nn.nnx.BatchNorm(32, rngs=nnx.Rngs(0))
        y = layer(x)                             # x: (N, H, W, 32); updates layer.mean and layer.var
        y = layer(x, use_running_average=True)   # evaluation mode
    """

    _relu = False

    def __call__(
        self,
        x: jax.Array,
        use_running_average: bool | None = None,
        *,
        mask: jax.Array | None = None,
    ) -> jax.Array:
        """Normalize x; in training mode by its own statistics, which update the running ones.

        Args:
          x: array whose `axis` has size `num_features`; statistics run over all its other axes.
          use_running_average: True for evaluation mode; takes precedence over the constructor's.
          mask: boolean, broadcastable to x: the elements that count in the statistics.

        Returns:
          An array of x's shape, in `dtype` (inferred from x and the parameters if that is None).
        """
        use_running_average = first_from(
            use_running_average,
            self.use_running_average,
            error_msg="BatchNorm needs use_running_average, in its constructor or in the call: "
            "False to normalize by the batch's own statistics, True by the running ones.",
        )
        x, _, _, scale, bias = self.promote_dtype(
            (
                x,
                self.mean[...],
                self.var[...],
                None if self.scale is None else self.scale[...],
                None if self.bias is None else self.bias[...],
            ),
            dtype=self.dtype,
        )
        if use_running_average:
            y = functional.evaluate(self, x, scale, bias, self.mean[...], self.var[...])
            return nnx.relu(y) if self._relu else y
        y, mean, var, count = functional.train(
            self, x, scale, bias, mask=mask, axis_name=self.axis_name, relu=self._relu
        )
        momentum = self.momentum
        self.mean[...] = functional.moving_average(self.mean[...], mean, count, momentum)
        self.var[...] = functional.moving_average(self.var[...], var, count, momentum)
        return y


class BatchNormRelu(BatchNorm):
    """`nnx.relu(BatchNorm(x))` by one rule, `bnjax.ops.batch_norm_relu`.

    Constructor, call, state and checkpoints are `BatchNorm`'s.  The backward pass keeps the layer's
    input alone; of the two layers apart it keeps the input and ReLU's as well.
    """

    _relu = True
