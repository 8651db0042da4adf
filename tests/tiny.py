# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The tiny configurations of the tests, and a random model as a run directory."""

import dataclasses
import pathlib

from flax import nnx

from mto_jax.adaptation import classifier
from mto_jax.models.config import T5Config, T5GemmaConfig
from mto_jax.models.t5 import T5
from mto_jax.text2text.vocabulary import vocabulary

# The vocabulary of the demo.
CONFIG = T5Config(
    vocab_size=2048,
    d_model=16,
    d_kv=8,
    num_heads=2,
    d_ff=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
)
# Two layers a stack, for ids without a vocabulary.
TWO_LAYERS = dataclasses.replace(CONFIG, vocab_size=64, num_encoder_layers=2, num_decoder_layers=2)
# No two axes of a parameter are alike, H * K != D as in T5 v1.1 small, and distances of a few
# tokens reach the last bucket.
UNEVEN = T5Config(
    vocab_size=96,
    d_model=32,
    d_kv=8,
    num_heads=3,
    d_ff=48,
    num_encoder_layers=2,
    num_decoder_layers=3,
    num_buckets=8,
    max_distance=12,
)
# A T5Gemma with fewer heads of keys, layers with and without a window, and a window shorter than
# the texts.
T5GEMMA = T5GemmaConfig(
    vocab_size=96,
    d_model=32,
    d_kv=8,
    num_heads=4,
    num_kv_heads=2,
    d_ff=48,
    num_decoder_layers=3,
    query_scalar=16,
    num_encoder_layers=2,
    window=4,
)
# The same with an encoder of other sizes.
T5GEMMA_UNEVEN = dataclasses.replace(
    T5GEMMA,
    encoder_d_model=48,
    encoder_d_kv=12,
    encoder_num_heads=4,
    encoder_num_kv_heads=1,
    encoder_d_ff=40,
    encoder_query_scalar=9,
    num_encoder_layers=3,
)


def write(folder: pathlib.Path) -> None:
    """Write a random model of `CONFIG` as a run directory."""
    classifier.save(T5(CONFIG, nnx.Rngs(0)), folder, vocabulary("demo"))
