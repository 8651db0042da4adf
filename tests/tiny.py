# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A tiny T5 that can read the demo's vocabulary, random, also as a run directory."""

import pathlib

from flax import nnx

from mto_jax.adaptation import classifier
from mto_jax.models.config import T5Config
from mto_jax.models.t5 import T5
from mto_jax.text2text.vocabulary import vocabulary

CONFIG = T5Config(
    vocab_size=2048,
    d_model=16,
    d_kv=8,
    num_heads=2,
    d_ff=32,
    num_encoder_layers=1,
    num_decoder_layers=1,
)


def write(folder: pathlib.Path) -> None:
    """Write the model as a run directory."""
    classifier.save(T5(CONFIG, nnx.Rngs(0)), folder, vocabulary("demo"))
