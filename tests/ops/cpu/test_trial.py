"""Kernels that fail their trial are not used, and one warning says why."""

import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from bnjax import ops
from bnjax.ops import cpu
from bnjax.ops.cpu import layout, trial

needs_kernels = pytest.mark.skipif(not cpu.available(), reason="no kernels on this machine")


@pytest.fixture
def untried(monkeypatch):
    """As in a process that has not tried the kernels yet."""
    monkeypatch.setattr(trial, "_found", [])


def falls_back(match):
    """`conv` is XLA's, with one warning that matches."""
    x, kernel = jnp.ones((1, 4, 8, 3)), jnp.ones((3, 3, 3, 32))
    with pytest.warns(UserWarning, match=match):
        y = cpu.conv(x, kernel)
    np.testing.assert_array_equal(y, ops.conv(x, kernel))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not cpu.available()
        assert "@bnjax" not in jax.jit(cpu.conv).lower(x, kernel).as_text()


def test_without_numba(untried, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    falls_back(r'numba is not installed: pip install "bnjax\[fast\]"')


@needs_kernels
def test_on_another_processor(untried, monkeypatch):
    import llvmlite.binding

    monkeypatch.setattr(llvmlite.binding, "get_host_cpu_features", lambda: {"sse2": True})
    falls_back("has neither AVX-512 nor AVX2")


@needs_kernels
def test_where_the_frame_is_another_one(untried, monkeypatch):
    monkeypatch.setattr(layout, "EXECUTE", 4)
    falls_back("the call frame of this XLA is another one: words 5")


@needs_kernels
def test_where_xla_refuses_the_handlers(untried, monkeypatch):
    def refuse(*args, **kwargs):
        raise ValueError("Wrong version 9.9")

    monkeypatch.setattr(trial, "_register", trial._register.__wrapped__)  # it is done once a process
    monkeypatch.setattr(jax.ffi, "register_ffi_target", refuse)
    falls_back("ValueError: Wrong version 9.9")


@needs_kernels
@pytest.mark.parametrize(
    ("module", "function"), [("convolution", "forward"), ("convolution", "weight_gradient")]
)
def test_where_a_kernel_computes_something_else(untried, monkeypatch, module, function):
    kernels = getattr(cpu, module)
    right = getattr(kernels, function)

    def slightly_wrong(*args):
        first, *others = right(*args)
        return first.at[(0,) * first.ndim].multiply(1.001), *others

    monkeypatch.setattr(kernels, function, slightly_wrong)
    falls_back("is not what XLA's path computes")


@needs_kernels
def test_the_trial_is_the_callers_settings_alone(untried):
    """Inside a trace, under other settings: it runs by itself."""

    @jax.jit
    def traced(x):
        assert cpu.available()
        return 2 * x

    with jax.enable_x64(True), jax.debug_nans(True), jax.default_matmul_precision("bfloat16"):
        assert traced(1.0) == 2


@pytest.mark.slow
@needs_kernels
def test_two_processes_compile_at_once_and_a_third_finds_it_done(tmp_path):
    """The cache on disk: both take the kernels, and what they leave there is whole."""
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    code = "from bnjax.ops import cpu; assert cpu.available()"

    def start():
        return subprocess.Popen([sys.executable, "-W", "error", "-c", code], env=environment)

    both = [start(), start()]
    assert [process.wait(timeout=300) for process in both] == [0, 0]
    compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")}
    assert compiled
    assert start().wait(timeout=300) == 0
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.nb?")} == compiled
