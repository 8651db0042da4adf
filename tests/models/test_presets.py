# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The gin presets are the published models, and the FLOP formulas count their matmuls."""

import dataclasses
import pathlib
import re

import gin
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mto_jax.models.config import T5GemmaConfig, model_config
from mto_jax.models.families import build
from mto_jax.models.flops import forward_flops, num_parameters
from mto_jax.models.t5 import T5Config

PRESETS = pathlib.Path(__file__).parents[2] / "gin" / "models"

# Millions of parameters: Raffel et al. 2020 (v1.0) and the published checkpoints of v1.1 and mT5.
PUBLISHED = {
    "t5_1_0_small": 60.5,
    "t5_1_0_base": 222.9,
    "t5_1_0_large": 737.7,
    "t5_1_0_xl": 2851.6,
    "t5_1_0_xxl": 11307.3,
    "t5_1_1_small": 77.0,
    "t5_1_1_base": 247.6,
    "t5_1_1_large": 783.2,
    "t5_1_1_xl": 2849.8,
    "t5_1_1_xxl": 11135.3,
    "mt5_small": 300.2,
    "mt5_base": 582.4,
    "mt5_large": 1229.6,
    "mt5_xl": 3742.6,
    "mt5_xxl": 12921.1,
    # T5Gemma: KerasHub's list of the published models.
    "t5gemma_s_s": 312.5,
    "t5gemma_b_b": 591.5,
}


@pytest.mark.parametrize(
    "path",
    sorted(path for path in PRESETS.glob("*.gin") if path.stem != "demo_tiny"),
    ids=lambda p: p.stem,
)
def test_preset(path):
    gin.parse_config_file(str(path))
    parameters = num_parameters(gin.get_configurable(model_config)())
    stated = re.search(r"([\d,]+) parameters", path.read_text()).group(1)
    assert int(stated.replace(",", "")) == parameters
    if path.stem in PUBLISHED:
        assert round(parameters / 1e6, 1) == PUBLISHED[path.stem]


def test_every_published_size_has_a_preset():
    assert {path.stem for path in PRESETS.glob("*.gin")} >= PUBLISHED.keys()


def test_forward_flops_are_those_of_the_compiled_model():
    """XLA counts every operation; at these sizes nearly all are matmuls."""
    config = T5Config(
        vocab_size=640,
        d_model=256,
        d_ff=640,
        num_heads=3,
        num_encoder_layers=2,
        num_decoder_layers=2,
    )
    B, S, T = 2, 64, 32
    batch = {
        name: jax.ShapeDtypeStruct((B, length), jnp.int32)
        for side, length in (("encoder", S), ("decoder", T))
        for name in (f"{side}_input_tokens", f"{side}_segment_ids")
    }
    t5gemma = T5GemmaConfig(
        vocab_size=640,
        d_model=256,
        d_ff=640,
        num_kv_heads=4,
        num_decoder_layers=2,
        encoder_d_model=320,
        num_encoder_layers=3,
    )
    v1_0 = dataclasses.replace(config, mlp="relu", tie_embeddings=True)
    for family in (config, v1_0, t5gemma):
        graphdef, shapes = nnx.split(nnx.eval_shape(lambda f=family: build(f, nnx.Rngs(0))))
        forward = jax.jit(lambda p, b, g=graphdef: nnx.merge(g, p)(b))
        counted = forward.lower(shapes, batch).compile().cost_analysis()["flops"]
        np.testing.assert_allclose(counted, B * forward_flops(family, S, T), rtol=0.05)
