# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Costs of steps: a step compiled for two TPU slices that are not here, and formulas."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import pytest

from mto_jax.models import flops
from mto_jax.models.config import T5Config
from mto_jax.planning import report, topologies
from mto_jax.planning.cost import Cost, Traffic, compute_seconds, state_bytes
from mto_jax.training.optimizers import Optimizer
from mto_jax.training.program import Settings

ENVIRONMENT = {
    **os.environ,
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "XLA_FLAGS": "",
}
SETTINGS = Settings(
    T5Config(
        d_model=256,
        d_ff=512,
        num_heads=4,
        num_encoder_layers=1,
        num_decoder_layers=1,
        dtype="bfloat16",
    ),
    64,
    {"inputs": 128, "targets": 128},
    Optimizer("adafactor"),
    100,
    z_loss=1e-4,
)
# In a process of its own: the TPU compiler wants variables of the environment before JAX starts.
COMPILE = """
import dataclasses, json, sys, time
from mto_jax.files import Store
from mto_jax.planning import topologies
from mto_jax.planning.cost import Cost
from mto_jax.training import sharding
from tests.planning.test_cost import SETTINGS

chips = topologies.parse("v5e:2x2", 2)
mesh = sharding.mesh(2, 2, 2, devices=chips.devices(), slices=2)
compiled, again = (Cost.compiled(SETTINGS, mesh, chips, Store(sys.argv[1])) for _ in range(2))
assert compiled == again
print(json.dumps(dataclasses.asdict(compiled)))
"""
# What each chip sends in the step of SETTINGS, in kB: within its slice, and to the other one.
# Whoever changes these numbers says why.
SENT = """
all-gather 14522 6291
all-reduce 20365 18162
all-to-all 0 1065
collective-permute 33 0
reduce-scatter 10093 0
"""


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    pytest.importorskip("libtpu", reason="libtpu is there on Linux x86_64 only")
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(tmp_path_factory.mktemp("plans"))],
        env=ENVIRONMENT,
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    values = json.loads(done.stdout.splitlines()[-1])
    traffic = {kind: Traffic(**sent) for kind, sent in values.pop("traffic").items()}
    return Cost(**values, traffic=traffic)


def test_the_step_compiles_for_two_slices(compiled):
    parameters = 4 * flops.num_parameters(SETTINGS.model)
    # Cut over fsdp = 2 and tensor = 2, a device holds about a quarter; the state is donated.
    assert parameters / 5 < compiled.state < parameters / 3
    assert compiled.state == pytest.approx(state_bytes(SETTINGS, (2, 2, 2)), rel=0.02)
    assert compiled.fits
    assert compiled.state < compiled.peak < 2**30


def test_traffic_is_as_written(compiled):
    lines = []
    for kind, sent in sorted(compiled.traffic.items()):
        between = sent.hidden_over_slices + sent.exposed_over_slices
        lines.append(f"{kind} {(sent.total - between) / 1e3:.0f} {between / 1e3:.0f}")
    assert "\n".join(lines) == SENT.strip()


def test_a_device_holds_its_share_of_the_state():
    whole = state_bytes(SETTINGS, (1, 1, 1))
    # Parameters in float32, and Adafactor's rows and columns.
    assert 4 * flops.num_parameters(SETTINGS.model) < whole
    assert whole < 4.1 * flops.num_parameters(SETTINGS.model)
    assert state_bytes(SETTINGS, (8, 1, 1)) == whole
    assert whole / 4 < state_bytes(SETTINGS, (1, 4, 1)) < 0.27 * whole


def test_the_least_time_by_hand():
    chips = topologies.parse("v5e:2x2", 2)  # 100 GB/s within a slice, 3.125 GB/s between them
    compute = compute_seconds(SETTINGS, chips)
    assert compute == flops.train_flops(SETTINGS.model, 64, 128, 128) / 8 / 197e12

    def seconds(**sent):
        cost = Cost((2, 4, 1), 0, traffic={"all-reduce": Traffic(**sent)})
        return cost.seconds_at_least(SETTINGS, chips)

    assert seconds() == compute
    assert seconds(exposed=100e6) == pytest.approx(compute + 1e-3)
    assert seconds(hidden=100e9) == pytest.approx(1.0)
    assert seconds(hidden=1e3) == compute
    between = {"exposed": 3.125e6, "exposed_over_slices": 3.125e6}
    assert seconds(**between) == pytest.approx(compute + 1e-3)


def test_the_best_mesh_fits_and_takes_the_least_time():
    chips = topologies.parse("v5e:2x2")
    slow = Cost((4, 1, 1), 5, 5, 10, True, {"all-reduce": Traffic(exposed=2e9)})
    fast = Cost((1, 4, 1), 5, 5, 10, True, {"all-reduce": Traffic(exposed=1e9)})
    large = Cost((1, 1, 4), 5, None, 20 * 10**9, False)
    assert report.best([slow, large, fast], SETTINGS, chips) == fast
    assert report.best([large], SETTINGS, chips) is None
    assert report.gin_lines(fast, chips) == "mesh.data = 1\nmesh.fsdp = 4\nmesh.tensor = 1"
    two = dataclasses.replace(chips, slices=2)
    assert report.gin_lines(fast, two).endswith("\nmesh.slices = 2")
    rows = report.meshes([slow, large], SETTINGS, chips).splitlines()
    assert rows[2].startswith("| 4 x 1 x 1 | yes |")
    assert "| 1 x 1 x 4 | no | 5e-09 |  | 20 |  |  |" in rows[3]
    assert "| 4 x 1 x 1 | 0 | 0 | 2 (0%) | 0 | 0 | 0 |" in report.traffic([slow, large])
