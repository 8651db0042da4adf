# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Costs of a run: compile cache, compiled programs, peak rates and peak memory of devices."""

import dataclasses
import os
import pathlib
import time
from typing import Any, Self

import jax
import jax.numpy as jnp
import psutil

# Dense matrix FLOP/s in bfloat16 of one JAX device, from the makers' data sheets; matched as the
# start of `device_kind`, longest first.
PEAK_FLOPS = {
    "NVIDIA A100": 312e12,
    "NVIDIA H100": 989e12,
    "NVIDIA H100 PCIe": 756e12,
    "NVIDIA H200": 989e12,
    "NVIDIA L4": 121e12,
    "NVIDIA L40S": 362e12,
    "NVIDIA A10G": 70e12,
    "Tesla V100": 125e12,
    "Tesla T4": 65e12,
    "TPU v2": 22.5e12,
    "TPU v3": 61.5e12,
    "TPU v4": 275e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v6 lite": 918e12,
    "TPU v6e": 918e12,
}


def peak_flops(device: jax.Device) -> float | None:
    """Peak bfloat16 FLOP/s of `device`; None if it is not in the table (a CPU, say)."""
    for kind in sorted(PEAK_FLOPS, key=len, reverse=True):
        if device.device_kind.startswith(kind):
            return PEAK_FLOPS[kind]
    return None


def peak_memory(device: jax.Device) -> int | None:
    """The most bytes that `device` has held in this process; None if it does not tell."""
    return (device.memory_stats() or {}).get("peak_bytes_in_use")


def available_memory(device: jax.Device) -> int | None:
    """Bytes that a program can still have on `device`; None if it does not tell."""
    if device.platform == "cpu":
        return psutil.virtual_memory().available
    stats = device.memory_stats() or {}
    if "bytes_limit" not in stats:
        return None
    return stats["bytes_limit"] - stats.get("bytes_in_use", 0)


def memory_limit(device: jax.Device) -> int | None:
    """Returns the bytes that programs can have on `device` in all; None if it does not tell."""
    try:
        return (device.memory_stats() or {}).get("bytes_limit")
    except jax.errors.JaxRuntimeError:  # a device of a topology that is not here
        return None


def measured_flops() -> float:
    """Returns the FLOP/s of a product of float32 matrices on the first device."""
    size, repeats = 512, 4
    matrix = jnp.ones((size, size))
    multiply = jax.jit(lambda x: x @ x / size)
    multiply(matrix).block_until_ready()
    start = time.monotonic()
    for _ in range(repeats):
        matrix = multiply(matrix)
    matrix.block_until_ready()
    return 2 * size**3 * repeats / (time.monotonic() - start)


def use_compilation_cache() -> str:
    """Keep compiled programs on disk, so that a second run starts at once; returns the folder.

    It is JAX_COMPILATION_CACHE_DIR, or mto_jax/xla under XDG_CACHE_HOME (~/.cache).
    """
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if not folder:
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        folder = str(pathlib.Path(home) / "mto_jax" / "xla")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
    return folder


@dataclasses.dataclass(frozen=True)
class Memory:
    """Bytes that a compiled program takes on each device."""

    held: int  # arguments and results; what is donated counts once
    temporary: int
    code: int

    @classmethod
    def of(cls, compiled: Any) -> Self:
        """Returns what the compiler counted."""
        sizes = compiled.memory_analysis()
        held = sizes.argument_size_in_bytes + sizes.output_size_in_bytes
        held -= sizes.alias_size_in_bytes
        return cls(held, sizes.temp_size_in_bytes, sizes.generated_code_size_in_bytes)

    @property
    def total(self) -> int:
        """Everything together."""
        return self.held + self.temporary + self.code


def program_cost(compiled: Any, flops: float) -> str:
    """Returns the cost of a compiled step on each device, in words.

    Args:
      flops: of the model on each device, by formula: the compiler counts the body of a loop once.
    """
    memory = Memory.of(compiled)
    return (
        f"{flops / 1e9:.4g} GFLOP, {memory.held / 1e9:.3g} GB state, "
        f"{memory.temporary / 1e9:.3g} GB temporaries"
    )
