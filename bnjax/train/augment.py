"""A batch of images changed at random, on the device: what a key says and nothing else."""

import jax
import jax.numpy as jnp
from jax import lax

PADDING = 4  # pixels a crop may be off by, to each side


def flip_crop(key: jax.Array, images: jax.Array) -> jax.Array:
    """Each image mirrored left to right or not, then moved by up to 4 pixels both ways, black coming in.

    That is a crop, as large as the image, of the image with 4 black pixels around it.

    Args:
      key: of `jax.random.key`; the same key gives the same images, with x64 or without.
      images: (N, H, W, C), of any dtype in which black is 0.

    Returns:
      Images of the same shape and dtype.
    """
    flip_key, corner_key = jax.random.split(key)
    flips = jax.random.bits(flip_key, (len(images), 1, 1, 1), "uint8") < 128
    corners = jax.random.randint(corner_key, (len(images), 2), 0, 2 * PADDING + 1, "int32")
    flipped = jnp.where(flips, images[:, :, ::-1], images)
    padded = jnp.pad(flipped, ((0, 0), (PADDING, PADDING), (PADDING, PADDING), (0, 0)))

    def crop(image: jax.Array, corner: jax.Array) -> jax.Array:
        return lax.dynamic_slice(image, (corner[0], corner[1], jnp.int32(0)), images.shape[1:])

    return jax.vmap(crop)(padded, corners)
