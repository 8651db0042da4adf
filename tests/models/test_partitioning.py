# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What devices that share a batch exchange of weights and their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mto_jax.models import partitioning
from mto_jax.planning import collectives
from mto_jax.training import sharding


@pytest.mark.parametrize(
    "mesh, D, kinds",
    [
        ((8, 1, 1), 8, {"all-reduce": 768}),
        ((1, 8, 1), 8, {"reduce-scatter": 768}),
        # Half of the rows is left on a device when the copies of the model add up.
        ((4, 2, 1), 8, {"reduce-scatter": 768, "all-reduce": 384}),
        ((2, 2, 2), 8, {"reduce-scatter": 384, "all-reduce": 192}),
        ((1, 8, 1), 6, {"all-reduce": 576}),  # six rows do not divide over eight devices
    ],
)
def test_devices_sum_what_they_hold_onto_the_rows(mesh, D, kinds):
    mesh = sharding.mesh(*mesh)
    G, E = mesh.shape["data"] * mesh.shape["fsdp"], 24
    x_GxDxE = np.random.default_rng(0).integers(-9, 9, (G, D, E)).astype(np.float32)

    def total(x_GxDxE):
        with partitioning.use_rules(mesh, sharding.RULES):
            x_GxDxE = partitioning.constrain(x_GxDxE, ("batch", None, "vocab"))
            return partitioning.sum_over_batch(x_GxDxE, "embed", "vocab")

    given = PartitionSpec(("data", "fsdp"), None, "tensor")
    placed = jax.device_put(x_GxDxE, jax.sharding.NamedSharding(mesh, given))
    program = jax.jit(total).lower(placed).compile()
    result = program(placed)
    np.testing.assert_array_equal(result, x_GxDxE.sum(axis=0))
    wanted = sharding.parameter_sharding(("embed", "vocab"), (D, E), mesh)
    assert result.sharding.is_equivalent_to(wanted, 2)
    operations = collectives.read(program.as_text(), 8)
    assert {o.kind: o.bytes for o in operations} == kinds
    assert len(operations) == len(kinds)


def test_without_devices_to_share_it_the_sum_is_the_entry():
    x_GxDxE = jnp.arange(6.0).reshape(1, 2, 3)
    np.testing.assert_array_equal(
        partitioning.sum_over_batch(x_GxDxE, "embed", "vocab"), x_GxDxE[0]
    )


@pytest.mark.parametrize(
    "rules, rows, wanted",
    [
        (sharding.RULES, 8, PartitionSpec(None, "tensor")),
        # fsdp does not share the batch: each device goes on with its part of the weight.
        (sharding.INFERENCE_RULES, 8, PartitionSpec("fsdp", "tensor")),
        (sharding.RULES, 3, PartitionSpec("fsdp", "tensor")),
    ],
)
def test_a_weight_is_gathered_over_the_axes_of_the_batch(rules, rows, wanted):
    mesh = sharding.mesh(2, 2, 2)
    weight = np.arange(32.0, dtype=np.float32).reshape(8, 4)

    def gathered(weight):
        with partitioning.use_rules(mesh, rules):
            return partitioning.gather_over_batch(weight, ("embed", "vocab"), rows)

    cut = sharding.parameter_sharding(("embed", "vocab"), weight.shape, mesh)
    result = jax.jit(gathered)(jax.device_put(weight, cut))
    np.testing.assert_array_equal(result, weight)
    assert result.sharding.is_equivalent_to(jax.sharding.NamedSharding(mesh, wanted), 2)
