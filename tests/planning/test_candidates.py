# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The order in which meshes are compiled."""

import dataclasses

from mto_jax.models import flops
from mto_jax.models.config import T5Config
from mto_jax.planning import candidates, topologies
from mto_jax.training.optimizers import Optimizer
from mto_jax.training.program import Settings

BASE = T5Config(d_model=768, num_heads=12, d_ff=2048, num_encoder_layers=12, num_decoder_layers=12)
XXL = T5Config(d_model=4096, num_heads=64, d_ff=10240, num_encoder_layers=24, num_decoder_layers=24)


def settings(model: T5Config, batch_size: int) -> Settings:
    return Settings(model, batch_size, {"inputs": 512, "targets": 114}, Optimizer(), 10)


def meshes(model, batch_size, name, slices=1):
    topology = topologies.parse(name, slices)
    return candidates.meshes(settings(model, batch_size), topology, flops.num_parameters(model))


def test_sizes_multiply_to_the_chips_and_divide_what_they_cut():
    for sizes in meshes(BASE, 128, "v5e:4x4"):
        data, fsdp, tensor = sizes
        assert data * fsdp * tensor == 16
        assert 12 % tensor == 768 % fsdp == 128 % (data * fsdp) == 0
    # Only `data` reaches over slices.
    assert {2 * 16 // data for data, _, _ in meshes(BASE, 128, "v5e:4x4", 2)} >= {1, 16}
    assert all(data % 2 == 0 for data, _, _ in meshes(BASE, 128, "v5e:4x4", 2))


def test_a_state_that_no_chip_holds_is_left_out():
    # 44.5 GB of parameters, on chips of 17.2 GB.
    assert all(fsdp * tensor >= 3 for _, fsdp, tensor in meshes(XXL, 256, "v5e:8x8"))


def test_shards_narrower_than_a_tile_come_last():
    order = meshes(XXL, 1024, "v5p:4x4x8")
    narrow = [4096 // fsdp < 128 for _, fsdp, _ in order]
    assert (1, 128, 1) in order
    assert narrow == sorted(narrow)


def test_traffic_by_hand():
    """Two layers of one token each over two devices."""
    model = dataclasses.replace(BASE, num_encoder_layers=1, num_decoder_layers=1)
    small = Settings(model, 2, {"inputs": 1, "targets": 1}, Optimizer(), 10)
    assert candidates.sent(small, 1000, (1, 1, 1)) == 0
    assert candidates.sent(small, 1000, (1, 2, 1)) == 1000 * (2 + 2 + 4) / 2
    assert candidates.sent(small, 1000, (2, 1, 1)) == 2 * 1000 * 4 / 2
    # 5 sums forward and 5 backward, each of 2 rows x 768 bfloat16.
    assert candidates.sent(small, 1000, (1, 1, 2)) == 10 * 2 * (2 * 768 * 2) / 2
