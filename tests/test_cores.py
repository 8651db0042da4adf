# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Cores as devices: how many there are, who uses them, and what a user's own settings change."""

import os
import subprocess
import sys
import types

import jax
import pytest

from mto_jax import cores

PROGRAM = """
import jax
from mto_jax import cores
from mto_jax.training import sharding
cores.as_devices()
print(len(jax.devices()), sharding.mesh().size, len(cores.for_rows(1)))
cores.as_devices()  # too late to change anything, and no error
print(len(jax.devices()))
"""


@pytest.mark.parametrize(
    ("settings", "devices", "of_a_mesh"),
    [
        ({}, min(cores.count(), cores.MOST), 1),
        # A user who asks for so many devices trains on them.
        ({"JAX_NUM_CPU_DEVICES": "3"}, 3, 3),
        ({"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}, 4, 4),
    ],
    ids=["cores", "JAX_NUM_CPU_DEVICES", "XLA_FLAGS"],
)
def test_devices_of_a_process(settings, devices, of_a_mesh):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": ""} | settings
    found = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert found.stdout.split() == [*map(str, (devices, of_a_mesh, devices, devices))], found.stderr


def test_copies_of_a_model_take_a_quarter_of_the_memory_at_most(monkeypatch):
    memory = types.SimpleNamespace(total=1200)
    monkeypatch.setattr(cores.psutil, "virtual_memory", lambda: memory)
    everything = len(jax.local_devices())
    assert [len(cores.for_rows(size)) for size in (1, 100, 300, 10_000)] == [everything, 3, 1, 1]


def test_a_process_has_a_core():
    assert 1 <= cores.count() <= os.cpu_count()
