# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Strict modes and shared fixtures."""

import contextlib
import gc
import os
import pathlib

from tests import xla

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.pop("COLUMNS", None)  # tables as wide as in a log, whatever terminal starts the tests
# Eight CPU devices, so that meshes and shardings are tested for real.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {xla.EIGHT_DEVICES}"
# Programs compiled once are read back by later tests, workers, subprocesses and runs.
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(pathlib.Path(__file__).parents[1] / ".pytest_cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.1")

# Triton, which PyTorch's CUDA build brings, crashes where it is loaded after TensorFlow.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401

import gin
import hypothesis
import jax
import pytest

from tests import preparing

hypothesis.settings.register_profile("mto", deadline=None)  # a busy machine is no fault
hypothesis.settings.load_profile("mto")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture(autouse=True)
def _clean_gin():
    """No gin binding of one test reaches the next."""
    gin.clear_config()
    yield
    gin.clear_config()


@pytest.fixture(autouse=True, scope="session")
def in_a_new_process():
    """Has data prepared in forks of one process; the value is what a user's process does."""
    from mto_jax.data import loader  # not before a module is replaced, see tests/mutants.py

    with pytest.MonkeyPatch.context() as patch:
        new_process = loader._in_a_process
        patch.setattr(loader, "_in_a_process", preparing.in_a_fork)
        yield new_process


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    """Lets compiled programs go when they are many.

    Each takes several memory maps, of which Linux gives a process 65,530; one more is a crash.
    """
    yield
    maps = pathlib.Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > 20_000:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def data_dir() -> pathlib.Path:
    """The user's copy of the public data sets (MTO_DATA_DIR); tests that need it are skipped
    without."""
    path = os.environ.get("MTO_DATA_DIR")
    if not path or not pathlib.Path(path).is_dir():
        pytest.skip("MTO_DATA_DIR is not set: this test reads real data")
    return pathlib.Path(path)
