# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows sharded over devices, evenly and returned in order; a model that is cut answers as a whole
one."""

import dataclasses
import functools
import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mto_jax import cores
from mto_jax.decoding import replicas, search
from mto_jax.decoding.generation import Decoding, decode
from mto_jax.decoding.scoring import log_likelihood
from mto_jax.models.t5 import T5
from mto_jax.training import sharding, state
from mto_jax.training.performance import Memory

from . import tiny


def same_parameters(one, other) -> bool:
    leaves = [jax.tree.leaves(nnx.state(model)) for model in (one, other)]
    return all(np.array_equal(a, b) for a, b in zip(*leaves, strict=True))


@pytest.mark.parametrize(("num_rows", "devices"), [(0, 1), (1, 1), (2, 2), (5, 5), (100, 8)])
@pytest.mark.parametrize("incremental", [True, False])
def test_a_device_for_each_row_and_no_more(num_rows, devices, incremental):
    model, _ = tiny.models(1)
    replicated, mesh = replicas.replicate(model, num_rows, incremental=incremental)
    assert replicas.num_devices(mesh) == devices
    assert {len(leaf.sharding.device_set) for leaf in jax.tree.leaves(replicated)} == {devices}
    assert same_parameters(replicated.model(), model)


def test_layers_are_unstacked_where_a_function_takes_them_one_by_one():
    config = dataclasses.replace(tiny.CONFIG, scan_unroll=1)  # a loop over layers
    model = T5(config, nnx.Rngs(0))
    for incremental, unstacked in ((False, []), (True, ["decoder"])):
        replicated, _ = replicas.replicate(model, 1, incremental=incremental)
        names = [path[0] for path, _ in nnx.to_flat_state(nnx.state(model))]
        result = {n for n, v in zip(names, replicated.values, strict=True) if isinstance(v, tuple)}
        assert sorted(result) == unstacked


def test_a_model_is_copied_again_when_its_parameters_or_the_devices_are_others():
    model = T5(tiny.CONFIG, nnx.Rngs(0))
    first = replicas.replicate(model, 2)
    assert replicas.replicate(model, 2) is first
    assert replicas.num_devices(replicas.replicate(model, 3)[1]) == 3
    model.embedding[...] = 2.0 * model.embedding[...]
    assert same_parameters(replicas.replicate(model, 3)[0].model(), model)
    gone, kept = weakref.ref(model), len(replicas._cache)
    del model
    gc.collect()
    assert gone() is None  # what is kept of a model goes with it
    assert len(replicas._cache) < kept


def test_rows_are_interleaved_and_come_back_in_order():
    model, _ = tiny.models(1)
    replicated, mesh = replicas.replicate(model, 4)

    def function(replicated, rows):
        device = jnp.full(len(rows), jax.lax.axis_index(mesh.axis_names[0]))
        return {"sum": rows.sum(axis=1) + replicated.model().config.d_model, "device": device}

    rows = jnp.arange(24.0).reshape(12, 2)
    result = jax.jit(replicas.shard_rows(mesh, function))(replicated, rows)
    np.testing.assert_array_equal(result["sum"], rows.sum(axis=1) + tiny.CONFIG.d_model)
    np.testing.assert_array_equal(result["device"], [0, 1, 2, 3] * 3)


def cut(model: T5, mesh) -> T5:
    """The model with its parameters cut over a mesh."""
    spec = state.abstract_model(functools.partial(T5, model.config))
    return spec.merge(jax.device_put(spec.split(model), spec.shardings(mesh)))


def test_a_sharded_model_stays_where_it_is():
    mesh = sharding.mesh(fsdp=8)
    model = cut(tiny.models(1)[0], mesh)
    replicated, found = replicas.replicate(model, 8)
    assert found == mesh
    assert replicas.num_devices(found) == 1
    shardings = [
        [leaf.sharding for leaf in jax.tree.leaves(tree)] for tree in (replicated, nnx.state(model))
    ]
    assert shardings[0] == shardings[1]


@pytest.mark.parametrize("method", ["greedy", "beam"])
def test_a_cut_model_answers_as_a_whole_one(method):
    model, _ = tiny.models(1)
    rng = np.random.default_rng(0)
    inputs = [[*rng.integers(3, 40, n).tolist(), 1] for n in rng.integers(1, 20, 13)]
    whole, found = (
        decode(m, inputs, Decoding(method=method, max_length=8), tiny.Numbers(), batch_size=6)
        for m in (model, cut(model, sharding.mesh(2, 2, 2)))
    )
    for one, other in zip(whole, found, strict=True):
        assert one[0].tokens == other[0].tokens
        np.testing.assert_allclose(other[0][1:], one[0][1:], atol=1e-4)


@pytest.mark.parametrize("sizes", [(1, 4, 1), (1, 1, 4)], ids=["fsdp", "tensor"])
def test_no_weight_travels_to_another_device(sizes):
    """What a device holds and makes while it decodes is less than the model."""
    config = dataclasses.replace(tiny.CONFIG, vocab_size=512, d_model=128, d_ff=512)
    spec = state.abstract_model(functools.partial(T5, config))
    mesh = sharding.mesh(*sizes, devices=jax.devices()[:4])
    leaves = [
        jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=where)
        for value, where in zip(spec.shapes.values(), spec.shardings(mesh).values(), strict=True)
    ]
    int32 = functools.partial(jax.ShapeDtypeStruct, dtype=jnp.int32)
    program = search.program.lower(
        replicas.Replicated(spec.graphdef, spec.treedef, tuple(leaves)),
        int32((2, 8)),
        int32((2,)),
        jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 2)),
        int32((1,)),
        512,
        decoding=Decoding(max_length=4),
        prefix=(),
        start_id=0,
        slots=2,
        mesh=mesh,
    ).compile()
    whole = sum(4 * value.size for value in spec.shapes.values())
    assert Memory.of(program).total < 0.6 * whole


@pytest.mark.parametrize("method", ["greedy", "sample", "beam"])
def test_answers_do_not_depend_on_the_number_of_devices(method, monkeypatch):
    model, _ = tiny.models(1)
    rng = np.random.default_rng(0)
    inputs = [[*rng.integers(3, 40, n).tolist(), 1] for n in rng.integers(1, 20, 13)]
    answers = []
    for most in (1, 3, 8):
        devices = jax.local_devices()[:most]
        monkeypatch.setattr(cores, "for_rows", lambda size, devices=devices: devices)
        result = decode(
            model, inputs, Decoding(method=method, max_length=8), tiny.Numbers(), batch_size=6
        )
        answers.append([output[0].tokens for output in result])
    assert answers[0] == answers[1] == answers[2]


def test_scores_do_not_depend_on_the_number_of_devices(monkeypatch):
    model, _ = tiny.models(1)
    rng = np.random.default_rng(1)
    ids = functools.partial(rng.integers, 3, 40, dtype=np.int32)
    targets = ids((5, 4))  # no multiple of the devices
    batch = {
        "encoder_input_tokens": ids((5, 6)),
        "encoder_segment_ids": np.ones((5, 6), np.int32),
        "decoder_input_tokens": np.pad(targets, [(0, 0), (1, 0)])[:, :-1],
        "decoder_segment_ids": np.ones((5, 4), np.int32),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": np.ones((5, 4), np.float32),
    }
    many = log_likelihood(model, batch)
    by_parts = log_likelihood(cut(model, sharding.mesh(2, 2, 2)), batch)
    monkeypatch.setattr(cores, "for_rows", lambda size: jax.local_devices()[:1])
    for one, two, three in zip(log_likelihood(model, batch), many, by_parts, strict=True):
        np.testing.assert_allclose(two, one, rtol=1e-5)
        np.testing.assert_allclose(three, one, atol=1e-4)
