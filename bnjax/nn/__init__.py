"""Drop-in Flax layers over the theorems: `bnjax.nn.nnx` and `bnjax.nn.linen`.

Neither is imported here, so that a user of one API does not load the other.
"""
