# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Models read straight into shards, and matrices kept in bfloat16."""

import functools

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mto_jax import checkpoints
from mto_jax.checkpoints import lazy
from mto_jax.decoding.model import Model
from mto_jax.errors import UserError
from mto_jax.models.t5 import T5
from mto_jax.text2text import vocabulary
from mto_jax.training import performance, state
from tests.decoding import tiny

SMALL = ("scale", "relative_bias")  # not cut, nor rounded


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny.checkpoint(folder, {1: 0.5})
    return folder


def read(path) -> dict[str, jax.Array]:
    return state.by_name(checkpoints.open(path).model(tiny.Numbers()))


def test_a_model_is_read_into_shards(run_dir, monkeypatch, capsys):
    whole = read(run_dir)
    assert not capsys.readouterr().err
    sizes = []

    def read_slice(tensor, sharding, dtype):
        array = place(tensor, sharding, dtype)
        sizes.append(array.nbytes / max(s.data.nbytes for s in array.addressable_shards))
        return array

    place = lazy.place
    monkeypatch.setattr(checkpoints.checkpoint, "place", read_slice)
    gin.parse_config(["mesh.fsdp = 2", "mesh.tensor = 2"])
    parts = read(run_dir)
    said = capsys.readouterr().err
    assert "million parameters in float32" in said
    assert "cut over 8 devices (data=2, fsdp=2, tensor=2)" in said
    for name, value in parts.items():
        np.testing.assert_array_equal(value, whole[name])
        if not name.endswith(SMALL):
            assert {4 * shard.data.size for shard in value.addressable_shards} == {value.size}
    assert sizes.count(4) == len(parts) - sum(n.endswith(SMALL) for n in parts)


def test_a_model_too_large_for_a_device_is_cut_without_being_asked(run_dir, monkeypatch, capsys):
    size = sum(value.nbytes for value in read(run_dir).values())
    monkeypatch.setattr(performance, "memory_limit", lambda device: size)
    assert state.sharding.mesh_of(read(run_dir).values()).size == 8
    assert "data=1, fsdp=4, tensor=2" in capsys.readouterr().err


def test_a_mesh_that_does_not_fit_is_found_before_anything_is_read(run_dir, monkeypatch):
    monkeypatch.setattr(vocabulary, "vocabulary", lambda name=None: tiny.Numbers())
    gin.bind_parameter("mesh.tensor", 16)
    with pytest.raises(UserError, match=r"tensor=16 does not fit 8 device\(s\)"):
        Model.open(run_dir)


def test_matrices_are_kept_in_bfloat16_and_computed_with_as_they_are(run_dir, capsys):
    gin.bind_parameter("load_checkpoint.dtype", "bfloat16")
    with pytest.raises(UserError, match="Set T5Config.dtype to"):
        read(run_dir)
    gin.bind_parameter("T5Config.dtype", "bfloat16")
    half = checkpoints.open(run_dir).model(tiny.Numbers())
    assert "parameters in bfloat16" in capsys.readouterr().err
    gin.bind_parameter("load_checkpoint.dtype", "float32")
    full = checkpoints.open(run_dir).model(tiny.Numbers())
    rounded = {}
    for name, value in state.by_name(full).items():
        kept = jnp.float32 if name.endswith(SMALL) else jnp.bfloat16
        assert state.by_name(half)[name].dtype == kept
        rounded[name] = value.astype(kept).astype(jnp.float32)
    spec = state.abstract_model(functools.partial(T5, full.config))
    ids = np.arange(3, 15, dtype=np.int32).reshape(2, 6)
    batch = {f"{side}_segment_ids": np.ones_like(ids) for side in ("encoder", "decoder")}
    batch |= {"encoder_input_tokens": ids, "decoder_input_tokens": ids[:, ::-1]}
    logits = [nnx.jit(lambda m, b: m(b))(m, batch) for m in (half, spec.merge(rounded))]
    np.testing.assert_allclose(*logits, atol=1e-5)


def test_what_was_rounded_is_not_saved(run_dir, tmp_path, monkeypatch):
    monkeypatch.setattr(vocabulary, "vocabulary", lambda name=None: tiny.Numbers())
    gin.parse_config(["load_checkpoint.dtype = 'bfloat16'", "T5Config.dtype = 'bfloat16'"])
    with pytest.raises(UserError, match="not saved: leave load_checkpoint.dtype out"):
        Model.open(run_dir).save(tmp_path / "hf")
    with pytest.raises(UserError, match="no load_checkpoint.dtype 'float16'"):
        checkpoints.Options(dtype="float16")
