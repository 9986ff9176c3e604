"""Two CPU devices, so that the cross-device tests have a mesh; float64 is asked for test by test."""

import jax

jax.config.update("jax_num_cpu_devices", 2)
