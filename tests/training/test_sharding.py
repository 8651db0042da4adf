# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The mesh and the rules."""

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mto_jax.errors import UserError
from mto_jax.training import sharding


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


def test_parameters_are_cut_by_the_rules():
    mesh = sharding.mesh(2, 2, 2)

    def spec(axes, shape):
        return sharding.parameter_sharding(axes, shape, mesh).spec

    assert spec(("layers", "embed", "mlp"), (3, 16, 32)) == PartitionSpec(None, "fsdp", "tensor")
    assert spec(("vocab", "embed"), (64, 16)) == PartitionSpec("tensor", "fsdp")
    # Three heads do not divide over two devices: they stay whole.
    assert spec((None, "heads"), (32, 3)) == PartitionSpec(None, None)


@pytest.mark.parametrize("batch_size, microbatches", [(6, 1), (8, 4), (0, 1), (8, 0)])
def test_a_batch_that_does_not_divide_says_what_to_take(batch_size, microbatches):
    with pytest.raises(UserError, match="BATCH_SIZE = .*Take BATCH_SIZE = "):
        sharding.check_batch(batch_size, sharding.mesh(2, 2, 2), microbatches)
    sharding.check_batch(16, sharding.mesh(2, 2, 2), 4)


@pytest.mark.parametrize("place", [sharding.place, sharding.place_whole])
def test_rows_are_cut_over_data_and_fsdp(place):
    rows = np.arange(8 * 3, dtype=np.int32).reshape(8, 3)
    placed = place({"x": rows}, sharding.mesh(2, 2, 2))["x"]
    np.testing.assert_array_equal(placed, rows)
    assert {shard.data.shape for shard in placed.addressable_shards} == {(2, 3)}
    assert len(jax.devices()) == len(placed.addressable_shards)
