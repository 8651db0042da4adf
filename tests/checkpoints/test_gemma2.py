# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""T5Gemma made of Gemma 2, against the models of transformers that they are made of."""

import json
import shutil

import jax
import numpy as np
import pytest
import torch
import transformers

from mto_jax.checkpoints.gemma2 import CROSS_ATTENTION, Gemma2Pair
from mto_jax.errors import UserError
from mto_jax.models.families import build
from mto_jax.training import state
from tests import gemma_tokenizer

SIZES = {
    "vocab_size": 96,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "query_pre_attn_scalar": 16,
    "sliding_window": 4,
    "initializer_range": 0.3,
}
WIDER = {"hidden_size": 48, "num_hidden_layers": 2, "num_attention_heads": 2, "head_dim": 12}


def saved(folder, **sizes):
    """A random Gemma 2 of transformers, and the folder that it saves."""
    torch.manual_seed(len(sizes))
    config = transformers.Gemma2Config(**(SIZES | sizes), attn_implementation="eager")
    model = transformers.Gemma2ForCausalLM(config).eval()
    for name, value in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.normal_(value, std=0.3)
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module")
def gemma(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gemma2") / "model"
    return saved(folder), folder


def weight(model, name, layers):
    """A parameter of all layers, matrices [inputs, outputs] as here."""
    tensors = dict(model.named_parameters())
    parts = [tensors[f"model.layers.{i}.{name}.weight"].detach().numpy() for i in range(layers)]
    return np.stack([part.T for part in parts])


ATTENTION = {"query": "q_proj", "key": "k_proj", "value": "v_proj", "out": "o_proj"}
NORMS = {"norm": "input_layernorm", "post_norm": "post_attention_layernorm"}


def check_attention(parameters, prefix, model, layers):
    for ours, theirs in ATTENTION.items():
        expected = weight(model, f"self_attn.{theirs}", layers)
        np.testing.assert_array_equal(parameters[f"{prefix}.{ours}"], expected)
    for ours, theirs in NORMS.items():
        expected = weight(model, theirs, layers)
        np.testing.assert_array_equal(parameters[f"{prefix}_{ours}.scale"], expected)


@pytest.mark.parametrize("wider", [False, True], ids=["one", "two"])
def test_without_cross_attention_the_decoder_is_the_gemma(gemma, tmp_path, wider):
    theirs, folder = gemma
    encoder = saved(tmp_path / "encoder", **WIDER) if wider else theirs
    pair = Gemma2Pair(folder, encoder=tmp_path / "encoder" if wider else None)
    parameters = pair.parameters()

    layers = encoder.config.num_hidden_layers
    check_attention(parameters, "encoder.layers.attention", encoder, layers)
    check_attention(parameters, "decoder.layers.self_attention", theirs, 3)
    if not wider:
        check_attention(parameters, "decoder.layers.cross_attention", theirs, 3)
    for stack, source in (("encoder", encoder), ("decoder", theirs)):
        embedding = source.model.embed_tokens.weight.detach().numpy()
        np.testing.assert_array_equal(parameters[f"{stack}.embedding"][:96], embedding)
        norm = source.model.norm.weight.detach().numpy()
        np.testing.assert_array_equal(parameters[f"{stack}.final_norm.scale"], norm)

    parameters["decoder.layers.cross_attention.out"] *= 0
    model = state.abstract_model(lambda rngs: build(pair.config, rngs)).merge(parameters)
    rng = np.random.default_rng(0)
    source, inputs = rng.integers(3, 96, (2, 9)), rng.integers(3, 96, (2, 11))
    inputs[:, 0] = 2  # BOS, with which the decoder starts whatever stands there
    batch = {
        "encoder_input_tokens": source,
        "encoder_segment_ids": np.ones_like(source),
        "decoder_input_tokens": inputs,
        "decoder_segment_ids": np.ones_like(inputs),
    }
    with torch.no_grad():
        expected = theirs(input_ids=torch.tensor(inputs)).logits.numpy()
    ours = jax.jit(lambda m: m(batch))(model)
    np.testing.assert_allclose(ours[..., :96], expected, atol=1e-4 * np.abs(expected).max())
    assert np.abs(expected).max() > 3


def test_stacks_of_two_widths_have_a_fresh_cross_attention(gemma, tmp_path):
    _, folder = gemma
    saved(tmp_path / "encoder", **WIDER)
    pair = Gemma2Pair(folder, encoder=tmp_path / "encoder")
    assert "is fresh: the encoder is 48 wide, the decoder 32" in pair.origin_of_cross_attention
    parameters = pair.parameters()
    key = parameters["decoder.layers.cross_attention.key"]
    assert key.shape == (3, 48, 16)
    np.testing.assert_allclose(np.std(key), 48**-0.5, rtol=0.1)
    assert not np.any(parameters["decoder.layers.cross_attention_norm.scale"])


def test_the_pattern_of_the_warm_up_selects_cross_attention_alone(gemma):
    names = list(Gemma2Pair(gemma[1]).tensors())
    chosen = state.trainable_names(names, CROSS_ATTENTION)
    assert sorted(chosen) == sorted(name for name in names if "cross" in name)
    assert len(chosen) == 6


def with_settings(folder, place, **values):
    shutil.copytree(folder, place)
    settings = json.loads((place / "config.json").read_text())
    (place / "config.json").write_text(json.dumps(settings | values))
    return place


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"model_type": "gemma"}, r"model_type is 'gemma' \(Gemma 1, .* takes a Gemma 2"),
        ({"model_type": "gemma3_text"}, r"'gemma3_text' \(Gemma 3, which normalises"),
        ({"model_type": "t5"}, r"'t5' \(an encoder-decoder already\)"),
        ({"model_type": "llama"}, "model_type is 'llama'; --to=encoder_decoder takes a Gemma 2"),
        ({"architectures": ["Gemma2ForSequenceClassification"]}, "architectures is"),
        ({"use_bidirectional_attention": True}, "use_bidirectional_attention is True"),
        ({"eos_token_id": [1, 107]}, r"eos_token_id is \[1, 107\]"),
        ({"sliding_window": 0}, "sliding_window of the decoder is 0"),
    ],
)
def test_what_is_no_gemma_2_is_refused_by_name(gemma, tmp_path, values, words):
    place = with_settings(gemma[1], tmp_path / "other", **values)
    with pytest.raises(UserError, match=words):
        Gemma2Pair(place).parameters()


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"has no config\.json: .* takes a folder of Hugging Face"):
        _ = Gemma2Pair(tmp_path).config


def test_two_models_that_do_not_fit_are_refused(gemma, tmp_path):
    _, folder = gemma
    other = with_settings(folder, tmp_path / "window", sliding_window=8)
    with pytest.raises(UserError, match="sliding_window is 8 in the encoder and 4"):
        _ = Gemma2Pair(folder, encoder=other).config
    decoder, encoder = (shutil.copytree(folder, tmp_path / name) for name in ("a", "b"))
    gemma_tokenizer.write(decoder, ("a b",))
    gemma_tokenizer.write(encoder, ("c d",))
    with pytest.raises(UserError, match="another vocabulary than the decoder"):
        Gemma2Pair(decoder, encoder=encoder).find_vocabulary()
