"""`BatchNorm` for Flax NNX, and `BatchNormRelu`, the two layers that mostly stand together as one."""

import jax
from flax import nnx
from flax.nnx.module import first_from

from bnjax.nn import functional


class BatchNorm(nnx.BatchNorm):
    """`flax.nnx.BatchNorm` with the rules of `bnjax.theorems`, derived by hand.

    Constructor, call, state (`scale`, `bias`, `mean`, `var`) and checkpoints are Flax's; see
    `flax.nnx.BatchNorm` for the arguments.  Forward mode, reverse mode and their compositions work, and so
    do `jit`, `vmap`, `shard_map` and `jax.checkpoint`.  The way back through training is the three-term VJP
    of theorem 34, that through evaluation the one-term rule; x is the only array of its size that is kept.

    **What differs from Flax**, all of it:

    ====================  ================================  =============================================
    what                  Flax                              here
    ====================  ================================  =============================================
    variance              E[x²] − E[x]², which at mean/std  always two passes, whatever
                          = 3000 loses its float32          `use_fast_variance` says
                          gradient altogether
    `mask` + `axis_name`  the mean of the devices' means:   sums over counts
                          wrong where the masks differ
    nothing counted       running statistics become NaN     they stay; y is finite, with μ = σ² = 0
    (empty mask, batch)
    half precision        NNX evaluates with running        with float32 statistics, whatever `dtype` is
                          statistics cast to `dtype`
    float64 input         Linen's running statistics        they keep their dtype
                          become float64
    complex input         works                             TypeError
    `mask` not boolean    NNX: ValueError; Linen: cast      TypeError
    `axis` out of range   IndexError, or no axis at all     ValueError
    wrong feature count   TypeError of a broadcast          ValueError naming the shapes
    `epsilon` < 0, NaN    NaN                               ValueError; 0 is allowed
    ====================  ================================  =============================================

    Running statistics are momentum·running + (1 − momentum)·batch, with the biased batch variance, and
    constants to the derivative, as Flax's.

    One attribute is not Flax's: after `layer.cpu_kernels = True` training runs the kernels of `bnjax.ops.cpu`
    where they apply.  They are not what is checked and proved, so they are asked for, never taken by
    themselves.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import bnjax.nn.nnx
      >>> layer = bnjax.nn.nnx.BatchNorm(2, rngs=nnx.Rngs(0))
      >>> x = jnp.array([[0.0, 2.0], [2.0, 6.0]])  # (N, 2), or (N, H, W, 2)
      >>> y = layer(x, use_running_average=False)  # updates layer.mean and layer.var
      >>> print(jnp.round(y, 3), layer.mean[...])
      [[-1. -1.]
       [ 1.  1.]] [0.01 0.04]
      >>> y = layer(x, use_running_average=True)  # evaluation mode
    """

    cpu_kernels = False
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

        Raises:
          TypeError: x is complex; `mask` is not boolean.
          ValueError: no mode given; `axis` out of range; another number of features; `epsilon` < 0, NaN or
            infinite; `mask` not broadcastable to x.
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
        for running, batch in ((self.mean, mean), (self.var, var)):
            moved = functional.moving_average(running[...], batch, count, self.momentum)
            # as in Flax: state (a `hijax` reference) outlives the function, so no derivative may enter it
            running[...] = jax.lax.stop_gradient(moved)
        return y


class BatchNormRelu(BatchNorm):
    """`nnx.relu(BatchNorm(x))` by one rule, `bnjax.ops.batch_norm_relu`.

    Constructor, call, state and checkpoints are `BatchNorm`'s, and so are NaN, infinities and every
    derivative.  The backward pass keeps the layer's input alone; of the two layers apart it keeps the input
    and ReLU's as well.

    Example:
      >>> import jax.numpy as jnp
      >>> from flax import nnx
      >>> import bnjax.nn.nnx
      >>> layer = bnjax.nn.nnx.BatchNormRelu(2, rngs=nnx.Rngs(0))
      >>> print(jnp.round(layer(jnp.array([[0.0, 2.0], [2.0, 6.0]]), use_running_average=False), 3))
      [[0. 0.]
       [1. 1.]]
    """

    _relu = True
