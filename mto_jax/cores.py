# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The cores of a CPU as devices of JAX.

XLA shares the work of one operation among cores and waits after each. What is independent (sources
that are decoded or scored, candidates of multi-adapter training) is faster with a device for each
core, sharded as over the GPUs or TPU cores of a host. A training whose devices would have to agree
after every step is not: it runs on one device of a CPU, which has all cores.
"""

import os

import jax
import psutil

# Every device has its own copy of the weights; cores beyond so many help their neighbours.
MOST = 8

_are_devices = False


def as_devices(most: int = MOST) -> None:
    """Gives JAX a CPU device for each core, `most` at most, if JAX has computed nothing yet.

    Changes nothing where JAX runs already, or where JAX_NUM_CPU_DEVICES, jax_num_cpu_devices or
    XLA_FLAGS=--xla_force_host_platform_device_count say how many devices there are.
    """
    global _are_devices
    flag = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    option = "jax_num_cpu_devices"
    if flag or getattr(jax.config, option) > 0:
        return
    try:
        jax.config.update(option, min(count(), most))
    except RuntimeError:  # JAX has its devices already
        return
    _are_devices = True


def count() -> int:
    """Returns the number of cores that this process may use; two threads of a core count once."""
    known = [psutil.cpu_count(logical=False), os.cpu_count()]
    if hasattr(os, "sched_getaffinity"):
        known.append(len(os.sched_getaffinity(0)))
    return max(1, min(number for number in known if number))


def for_one_training() -> list[jax.Device]:
    """Returns the devices that train a model together: all, but only the first of a CPU's cores."""
    devices = jax.devices()
    return devices[:1] if _are_devices and devices[0].platform == "cpu" else devices


def for_rows(model_bytes: int) -> list[jax.Device]:
    """Returns the local devices for independent rows, each with a copy of a model of so many bytes.

    On a CPU all copies together take at most a quarter of its memory.
    """
    devices = jax.local_devices()
    if devices[0].platform != "cpu":
        return devices
    copies = psutil.virtual_memory().total // 4 // max(model_bytes, 1)
    return devices[: max(1, min(len(devices), copies))]
