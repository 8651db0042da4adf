# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rows over devices: dealt out evenly, taken up in order, and left to the compiler where the model is cut."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from mto_jax import cores
from mto_jax.evaluation import spread
from mto_jax.evaluation.decoding import Decoding, decode
from mto_jax.evaluation.scoring import log_likelihood
from mto_jax.training import sharding

from . import tiny

PARAMS = {"w": jnp.arange(3.0)}


@pytest.mark.parametrize(("num_rows", "devices"), [(1, 1), (2, 2), (5, 5), (100, 8)])
def test_a_device_for_each_row_and_no_more(num_rows, devices):
    params, mesh = spread.place(PARAMS, num_rows)
    assert spread.size(mesh) == devices
    assert len(params["w"].sharding.device_set) == devices
    np.testing.assert_array_equal(params["w"], PARAMS["w"])


def test_rows_are_dealt_one_by_one_and_come_back_in_order():
    params, mesh = spread.place(PARAMS, 4)

    def function(params, rows):
        device = jnp.full(len(rows), jax.lax.axis_index(mesh.axis_names[0]))
        return {"sum": rows.sum(axis=1) + params["w"].sum(), "device": device}

    rows = jnp.arange(24.0).reshape(12, 2)
    found = jax.jit(spread.over(mesh, function))(params, rows)
    np.testing.assert_array_equal(found["sum"], rows.sum(axis=1) + 3)
    np.testing.assert_array_equal(found["device"], [0, 1, 2, 3] * 3)


def test_a_model_that_is_cut_stays_where_it_is():
    cut = NamedSharding(sharding.mesh(fsdp=8), PartitionSpec("fsdp"))
    params = {"w": jax.device_put(np.arange(16.0), cut), "b": jnp.zeros(2)}
    same, mesh = spread.place(params, 8)
    assert mesh is None
    assert same["w"].sharding == cut

    def function(params, rows):
        return rows * params["w"].sum()

    np.testing.assert_array_equal(spread.over(mesh, function)(same, np.ones(3)), [120.0] * 3)


@pytest.mark.parametrize("method", ["greedy", "sample", "beam"])
def test_answers_do_not_depend_on_the_number_of_devices(method, monkeypatch):
    model, _ = tiny.models(1)
    rng = np.random.default_rng(0)
    inputs = [[*rng.integers(3, 40, n).tolist(), 1] for n in rng.integers(1, 20, 13)]
    answers = []
    for most in (1, 3, 8):
        devices = jax.local_devices()[:most]
        monkeypatch.setattr(cores, "for_rows", lambda size, devices=devices: devices)
        found = decode(
            model, inputs, Decoding(method=method, max_length=8), tiny.Numbers(), batch_size=6
        )
        answers.append([output[0].tokens for output in found])
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
    monkeypatch.setattr(cores, "for_rows", lambda size: jax.local_devices()[:1])
    for one, other in zip(many, log_likelihood(model, batch), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5)
