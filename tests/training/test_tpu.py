# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The step compiles for a TPU slice that is not here (needs `pip install libtpu`, no TPU)."""

import json
import os
import subprocess
import sys

import pytest

# In a process of its own: the TPU compiler wants these variables before JAX starts.
PROGRAM = """
import dataclasses, functools, json
import jax
from jax.experimental import topologies
from mto_jax.models.config import T5Config
from mto_jax.models.t5 import T5
from mto_jax.training import sharding, state, step
from mto_jax.training.optimizers import Optimizer

devices = topologies.get_topology_desc(platform="tpu", topology_name="v5e:4x4").devices
mesh = sharding.mesh(2, 4, 2, devices=devices)
config = T5Config(num_heads=8, num_encoder_layers=2, num_decoder_layers=2, dtype="bfloat16",
                  remat="minimal", dropout_rate=0.1)
spec = state.abstract_model(functools.partial(T5, config))
optimizer = Optimizer("adafactor")
transformation = optimizer.build(100)
target = state.abstract_state(spec, list(spec.shapes), transformation, mesh)
loss = step.t5_loss(spec, mesh, z_loss=1e-4)
batch = step.abstract_batch(64, {"inputs": 256, "targets": 128}, mesh)
zeros = step.zero_totals(loss, target, batch)
function = step.train_step(loss, transformation, optimizer.rate(100), microbatches=2)
compiled = step.compile_step(function, target, zeros, batch, mesh)
memory = compiled.memory_analysis()
parameters = 4 * sum(value.size for value in spec.shapes.values())
print(json.dumps({"parameters": parameters, "arguments": memory.argument_size_in_bytes,
                  "alias": memory.alias_size_in_bytes, "devices": mesh.size}))
"""


def test_the_step_compiles_for_a_tpu_slice():
    pytest.importorskip("libtpu")
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "TPU_SKIP_MDS_QUERY": "1",
        "XLA_FLAGS": "",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout.splitlines()[-1])
    # Cut over fsdp = 4 and tensor = 2, a device holds about an eighth; the state is donated.
    assert report["arguments"] < report["parameters"] / 6
    assert report["alias"] > 0.8 * report["arguments"]
