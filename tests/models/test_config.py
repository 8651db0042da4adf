# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Sizes of models: the published ones, and those that are refused."""

import dataclasses

import pytest

from mto_jax.errors import UserError
from mto_jax.models.config import T5Config, T5GemmaConfig, from_record


def test_defaults_are_t5_1_1_small():
    """As config.json of google/t5-v1_1-small has them, but for dropout, which a run chooses."""
    published = {
        "vocab_size": 32128,
        "d_model": 512,
        "d_kv": 64,
        "num_heads": 6,
        "d_ff": 1024,
        "num_encoder_layers": 8,
        "num_decoder_layers": 8,
        "num_buckets": 32,
        "max_distance": 128,
        "norm_epsilon": 1e-6,
        "mlp": "gated-gelu",
        "tie_embeddings": False,
        "decoder_start_id": 0,
        "pad_id": 0,
        "eos_id": 1,
    }
    assert T5Config() == T5Config(**published)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"num_buckets": 2}, "num_buckets=2 and max_distance=128 do not fit"),
        ({"num_buckets": 33}, "num_buckets=33"),
        ({"num_buckets": 32, "max_distance": 16}, "max_distance=16 do not fit"),
        ({"d_model": 0}, "d_model"),
        ({"num_decoder_layers": 1025}, "num_decoder_layers.*from 1 to 1024"),
        ({"dropout_rate": 1.0}, "dropout_rate"),
        ({"mlp": "gelu"}, "gated-gelu"),
        ({"attention": "cudnn"}, "dtype='float32'"),
        ({"attention": "cudnn", "dtype": "bfloat16", "d_kv": 60}, "d_kv=60"),
        ({"attention": "cudnn", "dtype": "bfloat16", "d_kv": 136}, "d_kv=136"),
    ],
)
def test_what_no_t5_can_be_is_refused(values, message):
    with pytest.raises(UserError, match=message):
        T5Config(**values)


def test_sizes_at_the_bounds_are_taken():
    assert T5Config(num_buckets=4, max_distance=3).num_buckets == 4
    assert T5Config(num_buckets=32, max_distance=17).max_distance == 17
    assert T5Config(num_decoder_layers=1024, num_encoder_layers=1).num_decoder_layers == 1024
    assert T5Config(attention="cudnn", dtype="bfloat16", d_kv=128).d_kv == 128


def test_records_say_their_family():
    for config in (T5Config(d_ff=2048), T5GemmaConfig(d_ff=512)):
        assert from_record(dataclasses.asdict(config)) == config
    sizes = T5GemmaConfig(d_model=64, encoder_d_model=32)
    assert (sizes.of_encoder.d_model, sizes.of_encoder.d_ff) == (32, sizes.d_ff)
