# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Meshes on TPU slices that are not here, and the step compiled for one (libtpu, no TPU)."""

import json
import math
import os
import subprocess
import sys

import pytest

pytest.importorskip("libtpu", reason="libtpu is there on Linux x86_64 only")

# In processes of their own: the TPU compiler wants these variables before JAX starts.
ENVIRONMENT = {
    **os.environ,
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "XLA_FLAGS": "",
}

MESHES = """
import json, sys
from jax.experimental import topologies
from mto_jax.errors import UserError
from mto_jax.training import sharding

def place(device):
    return [getattr(device, "slice_index", 0), *device.coords]

def mesh(name, slices, sizes):
    options = {"num_slices": slices} if slices > 1 else {}
    devices = topologies.get_topology_desc(name, "tpu", **options).devices
    try:
        mesh = sharding.mesh(*sizes, devices=devices)
    except UserError as error:
        return str(error)
    return list(mesh.devices.shape), [place(device) for device in mesh.devices.flat]

print(json.dumps([mesh(*case) for case in json.loads(sys.argv[1])]))
"""

# Topology, slices, (data, fsdp, tensor); -1 takes what is left.
SHAPES = [(-1, 1, 1), (1, -1, 1), (-1, 4, 2), (1, -1, 2), (1, -1, 4), (2, -1, 1), (1, -1, 8)]
TOPOLOGIES = ["v5e:2x4", "v5e:8x8", "v6e:4x4", "v6e:8x8", "v5p:2x2x2", "v5p:4x4x8", "v5p:8x8x8"]
ONE_SLICE = [(name, 1, sizes) for name in TOPOLOGIES for sizes in SHAPES]
TWO_SLICES = [
    (name, 2, sizes)
    for name in ("v5e:4x4", "v6e:4x4", "v5p:4x4x4")
    for sizes in [(-1, 1, 1), (-1, 4, 2), (2, -1, 1), (2, -1, 4), (4, -1, 1)]
]
REFUSED = [("v5e:4x4", 2, (1, -1, 1)), ("v5e:4x4", 1, (3, -1, 1))]


def run(program: str, *arguments) -> list:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(json.dumps, arguments)],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def meshes() -> dict:
    cases = [*ONE_SLICE, *TWO_SLICES, *REFUSED]
    return dict(zip(cases, run(MESHES, cases), strict=True))


@pytest.mark.parametrize("case", [*ONE_SLICE, *TWO_SLICES], ids=str)
def test_every_mesh_is_laid_over_the_slices(meshes, case):
    name, slices, asked = case
    assert not isinstance(meshes[case], str), meshes[case]
    sizes, places = meshes[case]
    count = slices * math.prod(map(int, name.split(":")[1].split("x")))
    assert all(size == wish for size, wish in zip(sizes, asked, strict=True) if wish != -1)
    assert len(places) == len({tuple(place) for place in places}) == count
    # Only `data` reaches over slices: what lies within a share of them is of one slice.
    share = count // slices
    for start in range(0, count, share):
        assert len({place[0] for place in places[start : start + share]}) == 1


def test_meshes_that_do_not_fit_say_so(meshes):
    over_slices, sizes = (meshes[case] for case in REFUSED)
    assert "does not fit 2 slices of 16 devices" in over_slices
    assert "mesh.data a multiple of 2" in over_slices
    assert "does not fit 16 device(s)" in sizes


STEP = """
import functools, json
from jax.experimental import topologies
from mto_jax.models.config import T5Config
from mto_jax.models.t5 import T5
from mto_jax.training import sharding, state, step
from mto_jax.training.optimizers import Optimizer

devices = topologies.get_topology_desc("v5e:2x2", "tpu", num_slices=2).devices
mesh = sharding.mesh(2, 2, 2, devices=devices, slices=2)
config = T5Config(d_model=256, d_ff=512, num_heads=4, num_encoder_layers=1, num_decoder_layers=1,
                  dtype="bfloat16")
spec = state.abstract_model(functools.partial(T5, config))
optimizer = Optimizer("adafactor")
transformation = optimizer.build(100)
target = state.abstract_state(spec, list(spec.shapes), transformation, mesh)
loss = step.t5_loss(spec, mesh, z_loss=1e-4)
batch = step.abstract_batch(64, {"inputs": 128, "targets": 128}, mesh)
zeros = step.zero_totals(loss, target, batch)
function = step.train_step(loss, transformation, optimizer.rate(100))
compiled = step.compile_step(function, target, zeros, batch, mesh)
memory = compiled.memory_analysis()
parameters = 4 * sum(value.size for value in spec.shapes.values())
print(json.dumps([parameters, memory.argument_size_in_bytes, memory.alias_size_in_bytes]))
"""


def test_the_step_compiles_for_two_slices():
    parameters, arguments, alias = run(STEP)
    # Cut over fsdp = 2 and tensor = 2, a device holds about a quarter; the state is donated.
    assert arguments < parameters / 3
    assert alias > 0.8 * arguments
