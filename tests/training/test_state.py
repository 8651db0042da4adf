# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What trains, and what a state holds."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from mto_jax.errors import UserError
from mto_jax.models.t5 import T5
from mto_jax.training import sharding, state
from mto_jax.training.optimizers import Optimizer

from .common import TINY, setup


@pytest.fixture(scope="module")
def spec():
    return state.abstract_model(functools.partial(T5, TINY))


def test_merge_and_split_are_inverses(spec):
    model = T5(TINY, nnx.Rngs(0))
    parameters = spec.split(model)
    np.testing.assert_array_equal(parameters["embedding"], model.embedding[...])
    np.testing.assert_array_equal(
        parameters["decoder.layers.mlp.wo"], model.decoder.layers.mlp.wo[...]
    )
    changed = {name: value + 1 for name, value in parameters.items()}
    for name, value in spec.split(spec.merge(changed)).items():
        np.testing.assert_array_equal(value, parameters[name] + 1)


def test_initialising_on_a_mesh_gives_the_same_values_in_pieces(spec):
    one = spec.initialise(jax.random.key(3), sharding.mesh(1, 1, 1, jax.devices()[:1]))
    many = spec.initialise(jax.random.key(3), sharding.mesh(2, 2, 2))
    for name in one:
        np.testing.assert_allclose(one[name], many[name], rtol=1e-6, atol=1e-6)
    assert many["embedding"].addressable_shards[0].data.shape == (32, 8)


def test_patterns_choose_what_trains(spec):
    names = list(spec.shapes)
    assert state.trainable_names(names, "all") == names
    chosen = state.trainable_names(names, ["*.scale", "encoder.relative_bias"])
    assert "encoder.relative_bias" in chosen
    assert "decoder.relative_bias" not in chosen
    assert sum(name.endswith("scale") for name in chosen) == len(chosen) - 1
    with pytest.raises(UserError, match="'decodr.\\*' .* matches no parameter"):
        state.trainable_names(names, ["decodr.*"])
    with pytest.raises(UserError, match="empty"):
        state.trainable_names(names, [])


def test_frozen_parameters_have_no_optimizer_state():
    some = setup(trainable=("decoder.layers.mlp.*",))
    assert set(some.state.trainable) == {f"decoder.layers.mlp.{n}" for n in ("wi_0", "wi_1", "wo")}
    assert len([leaf for leaf in jax.tree.leaves(some.state.optimizer) if leaf.ndim]) == 2 * 3
    before = some.initial
    some.train(2)
    for name, value in before.frozen.items():
        np.testing.assert_array_equal(some.state.frozen[name], value)
    for name, value in before.trainable.items():
        assert (np.asarray(some.state.trainable[name]) != value).all()


def test_optimizer_arrays_live_where_their_parameters_do(spec):
    mesh = sharding.mesh(2, 2, 2)
    target = state.abstract_state(spec, ["embedding"], Optimizer("adamw").build(5), mesh)
    leaves = jax.tree.leaves(target.optimizer)
    assert [leaf.sharding for leaf in leaves if leaf.ndim] == [
        target.trainable["embedding"].sharding
    ] * 2
    assert all(leaf.sharding.is_fully_replicated for leaf in leaves if not leaf.ndim)


def test_the_table_lists_every_parameter(spec):
    table = state.parameter_table(spec, ["embedding"], sharding.mesh(2, 2, 2))
    for name in spec.shapes:
        assert name in table
    total = sum(value.size for value in spec.shapes.values())
    assert f"{total:,} parameters, 1,024 of them train" in table
    [line] = [line for line in table.splitlines() if line.startswith("embedding")]
    assert line.split("  ")[1:] != []
    assert "vocab, embed" in line
    assert "tensor, fsdp" in line
    assert "yes" in line


def test_fingerprints_are_sums_of_murmurs_finaliser_over_bits_and_places():
    """With Python's integers: bits xor place times the golden ratio, finalised, modulo 2^32."""
    x = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    low, high, size = 0, 0, 1 << 32
    for place, bits in enumerate(x.reshape(-1).view(np.uint32).tolist()):
        word = bits ^ (place * 0x9E3779B9 % size)
        word = (word ^ (word >> 16)) * 0x85EBCA6B % size
        word = (word ^ (word >> 13)) * 0xC2B2AE35 % size
        word ^= word >> 16
        low, high = (low + word) % size, (high + word * (word | 1)) % size
    assert state.fingerprints({"x": jax.numpy.asarray(x)}) == {"x": f"{low:08x}{high:08x}"}
