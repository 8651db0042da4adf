# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The mesh and the rules."""

import functools
import math
import types

import gin
import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mto_jax import cores
from mto_jax.errors import UserError
from mto_jax.models.config import T5Config
from mto_jax.models.t5 import T5
from mto_jax.training import performance, sharding, state


def test_one_axis_takes_what_is_left():
    assert dict(sharding.mesh(fsdp=2, tensor=2).shape) == {"data": 2, "fsdp": 2, "tensor": 2}
    assert dict(sharding.mesh(1, -1, 2).shape) == {"data": 1, "fsdp": 4, "tensor": 2}


@pytest.mark.parametrize("sizes", [(3, 1, 1), (-1, 3, 1), (-1, -1, 1), (0, 8, 1), (16, 1, 1)])
def test_a_mesh_that_does_not_fit_says_so(sizes):
    with pytest.raises(UserError, match=r"does not fit 8 device\(s\).*mesh\.data"):
        sharding.mesh(*sizes)


def test_slices_that_are_not_there_are_missed():
    assert sharding.mesh(slices=1).size == 8
    with pytest.raises(UserError, match=r"mesh\.slices = 2, but .* 1 slice"):
        sharding.mesh(slices=2)


def test_only_data_reaches_over_slices():
    devices = [types.SimpleNamespace(slice_index=i // 2, platform="tpu") for i in range(4)]
    for sizes in ((1, 2, 2), (1, 4, 1), (1, 1, 4)):
        with pytest.raises(UserError, match=r"does not fit 2 slices of 2 devices: only data may"):
            sharding.mesh(*sizes, devices=devices)


def sizes(mesh) -> tuple | None:
    return mesh and tuple(mesh.shape.values())


def test_a_model_is_cut_where_gin_asks_for_it_or_a_device_is_too_small(monkeypatch):
    other_host = [types.SimpleNamespace(process_index=1)] * 8
    assert sharding.inference_mesh(1 << 40, 64) is None  # a CPU tells no limit
    gin.bind_parameter("mesh.data", 16)  # copies alone cut nothing
    assert sharding.inference_mesh(1 << 40, 64) is None
    gin.parse_config(["mesh.data = 2", "mesh.fsdp = -1", "mesh.slices = 3"])
    assert sizes(sharding.inference_mesh(1, 64)) == (2, 4, 1)
    with monkeypatch.context() as hosts:  # of two, each has half of the devices
        hosts.setattr(cores, "for_one_training", lambda: [*jax.devices(), *other_host])
        assert sizes(sharding.inference_mesh(1, 64)) == (1, 8, 1)
    gin.bind_parameter("mesh.fsdp", 3)
    with pytest.raises(UserError, match=r"fsdp=3, tensor=1 does not fit 8 device\(s\)"):
        sharding.inference_mesh(1, 64)
    gin.clear_config()
    monkeypatch.setattr(performance, "memory_limit", lambda device: 100)
    assert sharding.inference_mesh(50, 64) is None
    assert sizes(sharding.inference_mesh(51, 64)) == (1, 1, 8)
    assert sizes(sharding.inference_mesh(800, 12)) == (1, 2, 4)
    with pytest.raises(UserError, match="take 8.01e-07 GB, but the 8 local device"):
        sharding.inference_mesh(801, 64)


def test_a_device_holds_an_eighth_of_xxl():
    """The line of docs/scaling.md."""
    sizes = {"d_model": 4096, "num_heads": 64, "d_ff": 10240}
    config = T5Config(**sizes, num_encoder_layers=24, num_decoder_layers=24)
    spec = state.abstract_model(functools.partial(T5, config))
    shardings = spec.shardings(sharding.mesh(1, 1, 8))
    whole = own = 0
    for name, value in spec.shapes.items():
        size = 2 if "embed" in spec.axes[name] else 4
        whole += size * value.size
        own += size * math.prod(shardings[name].shard_shape(value.shape))
    assert (round(whole / 1e9, 1), round(own / 1e9, 2)) == (22.3, 2.79)


def test_parameters_are_cut_by_the_rules():
    mesh = sharding.mesh(2, 2, 2)

    def spec(axes, shape):
        return sharding.parameter_sharding(axes, shape, mesh).spec

    assert spec(("layers", "embed", "mlp"), (3, 16, 32)) == PartitionSpec(None, "fsdp", "tensor")
    assert spec(("vocab", "embed"), (64, 16)) == PartitionSpec("tensor", "fsdp")
    # Three heads do not divide over two devices: they stay whole.
    assert spec((None, "heads"), (32, 3)) == PartitionSpec(None, None)


@pytest.mark.parametrize(
    "batch_size, microbatches, near",
    [(10, 1, 8), (15, 1, 16), (1, 1, 4), (20, 2, 16), (0, 1, 4), (8, 4, 16), (8, 0, 4)],
)
def test_a_batch_that_does_not_divide_says_what_to_take(batch_size, microbatches, near):
    with pytest.raises(UserError, match=f"BATCH_SIZE = .*Take BATCH_SIZE = {near}, or change"):
        sharding.check_batch(batch_size, sharding.mesh(2, 2, 2), microbatches)
    sharding.check_batch(near, sharding.mesh(2, 2, 2), max(1, microbatches))


@pytest.mark.parametrize("place", [sharding.place, sharding.place_whole])
def test_rows_are_cut_over_data_and_fsdp(place):
    rows = np.arange(8 * 3, dtype=np.int32).reshape(8, 3)
    placed = place({"x": rows}, sharding.mesh(2, 2, 2))["x"]
    np.testing.assert_array_equal(placed, rows)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 3)}
    assert len(jax.devices()) == len(placed.addressable_shards)
