# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Tokens of a T5Gemma, greedy and by beams, against `generate` of transformers."""

import dataclasses

import numpy as np
import pytest
import torch
from flax import nnx

from mto_jax.decoding.generation import Decoding, decode
from mto_jax.models.t5gemma import T5Gemma
from mto_jax.text2text.vocabulary import vocabulary
from tests import tiny
from tests.models import torch_t5gemma

LENGTH = 12  # of the outputs; windows have 4 tokens


@pytest.fixture(scope="module", params=["equal", "unequal"])
def pair(request):
    """A model with clear preferences, and the same in transformers."""
    config = tiny.T5GEMMA if request.param == "equal" else tiny.T5GEMMA_UNEVEN
    model = T5Gemma(
        dataclasses.replace(config, vocab_size=vocabulary("demo").padded_size), nnx.Rngs(1)
    )
    # The layers say more than the last token, and say it clearly.
    layers = model.decoder.layers
    for name in ("self_attention_post_norm", "cross_attention_post_norm", "mlp_post_norm"):
        scale = getattr(layers, name).scale
        scale[...] = scale[...] + 3.0
    scale = model.decoder.final_norm.scale
    scale[...] = scale[...] + 7.0
    return model, torch_t5gemma.model(model)


@pytest.mark.parametrize("beams", [1, 3])
def test_tokens_are_those_of_generate(pair, beams):
    model, theirs = pair
    demo = vocabulary("demo")
    rng = np.random.default_rng(5)
    inputs = [[*rng.integers(3, demo.size, n), 1] for n in (9, 4, 14, 6, 11)]
    options = {"method": "beam", "num_beams": beams} if beams > 1 else {}
    # Two slots for five sources: rows begin while the buffers of windows go around.
    outputs = decode(model, inputs, Decoding(max_length=LENGTH, **options), demo, batch_size=2)
    for source, (output, *_) in zip(inputs, outputs, strict=True):
        with torch.no_grad():
            wanted = theirs.generate(
                input_ids=torch.tensor([source]),
                max_length=LENGTH + 1,
                num_beams=beams,
                do_sample=False,
                suppress_tokens=list(range(demo.size, demo.padded_size)) or None,
            )[0, 1:].tolist()
        wanted = wanted[: wanted.index(1) + 1] if 1 in wanted else wanted
        assert output.tokens == wanted
    assert len({tuple(output.tokens) for (output, *_) in outputs}) > 1
