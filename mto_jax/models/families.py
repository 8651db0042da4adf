# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The families of models: the class that a configuration belongs to."""

from flax import nnx

from mto_jax.models.adapters import NONE, Adapters
from mto_jax.models.config import ModelConfig, T5Config
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.models.t5 import T5
from mto_jax.models.t5gemma import T5Gemma


def build(config: ModelConfig, rngs: nnx.Rngs, adapters: Adapters = NONE) -> EncoderDecoder:
    """Returns a model with fresh parameters: a T5 or a T5Gemma."""
    if isinstance(config, T5Config):
        return T5(config, rngs, adapters)
    return T5Gemma(config, rngs, adapters)
