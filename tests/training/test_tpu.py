# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Meshes on TPU slices that are not here (libtpu, no TPU); tests/planning compiles a step."""

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
