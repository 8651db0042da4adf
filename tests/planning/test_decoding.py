# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Costs of decoding: a program compiled for chips that are not here, and formulas by hand."""

import json
import pathlib
import subprocess
import sys

import gin
import pytest

from mto_jax.decoding.generation import Decoding
from mto_jax.errors import UserError
from mto_jax.models import flops
from mto_jax.models.config import T5Config
from mto_jax.planning import decoding, topologies
from tests.planning.test_cost import ENVIRONMENT

TINY = T5Config(
    vocab_size=256,
    d_model=128,
    d_kv=32,
    d_ff=256,
    num_heads=4,
    num_encoder_layers=1,
    num_decoder_layers=1,
    dtype="bfloat16",
)
SETTINGS = decoding.Settings(TINY, 8, 32, Decoding(max_length=8), "bfloat16")
XXL = T5Config(
    vocab_size=32128,
    d_model=4096,
    d_kv=64,
    d_ff=10240,
    num_heads=64,
    num_encoder_layers=24,
    num_decoder_layers=24,
    dtype="bfloat16",
)
# In a process of its own: the TPU compiler wants variables of the environment before JAX starts.
COMPILE = """
import dataclasses, json, sys
from mto_jax.files import Store
from mto_jax.planning import decoding, topologies
from tests.planning.test_decoding import SETTINGS

chips, store = topologies.parse("v5e:2x2"), Store(sys.argv[1])
costs = [
    decoding.DecodingCost.compiled(SETTINGS, sizes, chips, store)
    for sizes in ((4, 1, 1), (1, 1, 4))
]
print(json.dumps([dataclasses.asdict(cost) for cost in costs]))
"""


def test_a_program_compiles_whole_and_cut(tmp_path):
    pytest.importorskip("libtpu", reason="libtpu is there on Linux x86_64 only")
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(tmp_path)],
        env=ENVIRONMENT,
        cwd=pathlib.Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    whole, cut = json.loads(done.stdout.splitlines()[-1])
    assert whole["fits"]
    assert cut["fits"]
    # Matrices in 2 bytes; the scales of 2 + 3 + 2 norms and of 32 x 4 x 2 distances in 4.
    exact = 2 * flops.num_parameters(TINY) + 2 * (7 * 128 + 2 * 32 * 4)
    assert whole["parameters"] == exact
    assert exact / 4 < cut["parameters"] < exact / 3
    for cost in (whole, cut):
        assert cost["parameters"] < cost["peak"] < 16 * 2**30


def test_time_is_what_is_read_from_memory():
    chips = topologies.parse("h100:8")
    settings = decoding.Settings(XXL, 32, 512, Decoding(max_length=64), "bfloat16")
    cost = decoding.DecodingCost.by_formula(settings, (1, 1, 8))
    d, j, f, v = 4096, 64 * 64, 10240, 32128
    # Decoder layers (two attentions, a gated feed-forward layer), embedding and head, an eighth.
    weights = 2 * (24 * (8 * d * j + 3 * d * f) + 2 * v * d) / 8
    cache = 2 * 32 * 24 * (512 + 64 / 2) * 2 * j / 8
    assert cost.step_seconds(settings, chips) == pytest.approx((weights + cache) / 3350e9, rel=1e-3)
    encoding = 32 * flops.forward_flops(XXL, 512, 0) / 8 / 989e12
    assert cost.encoding_seconds(settings, chips) == pytest.approx(encoding)
    whole = encoding + 64 * cost.step_seconds(settings, chips)
    assert cost.sources_per_second(settings, chips) == pytest.approx(32 / whole)


def test_the_first_mesh_is_that_of_inference():
    settings = decoding.Settings(XXL, 32, 512, Decoding())  # 44.5 GB in float32
    assert decoding.meshes(settings, topologies.parse("h200:8"), False) == [(8, 1, 1)]
    h100 = topologies.parse("h100:8")
    assert decoding.meshes(settings, h100, False) == [(1, 1, 8)]
    assert decoding.meshes(settings, h100, True) == [(1, 1, 8), (8, 1, 1), (4, 1, 2), (2, 1, 4)]
    with pytest.raises(UserError, match=r"take 44.5 GB, but the 1 local device\(s\) have 42.9 GB"):
        decoding.meshes(settings, topologies.parse("a100:1"), False)
    gin.bind_parameter("mesh.fsdp", 2)
    gin.bind_parameter("mesh.data", -1)
    assert decoding.meshes(settings, h100, False) == [(4, 2, 1)]
