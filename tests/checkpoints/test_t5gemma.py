# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Folders of T5Gemma in and out, against models that transformers makes, saves and runs."""

import json
import shutil

import jax
import numpy as np
import peft as hf_peft
import pytest
import safetensors.numpy
import torch
import transformers

from mto_jax import checkpoints
from mto_jax.checkpoints import export, parameter_names, peft
from mto_jax.errors import UserError
from mto_jax.models.adapters import IA3, Adapters, LoRA, PromptTuning
from mto_jax.models.families import build
from mto_jax.training.multi_adapter import attach
from mto_jax.training.state import abstract_model
from tests import tiny
from tests.models import torch_t5gemma

CASES = {"equal": tiny.T5GEMMA, "unequal": tiny.T5GEMMA_UNEVEN}


def saved(config, folder):
    """A random model of transformers, and the folder that it saves."""
    torch.manual_seed(0)
    model = transformers.T5GemmaForConditionalGeneration(torch_t5gemma.settings(config)).eval()
    for name, value in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.normal_(value, std=0.3)
    model.save_pretrained(folder)
    return model


def logits(model, source, target):
    with torch.no_grad():
        source, target = torch.tensor(source), torch.tensor(target)
        return model(input_ids=source, decoder_input_ids=target, use_cache=False).logits.numpy()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("t5gemma") / "model"
    saved(tiny.T5GEMMA, place)
    return place


@pytest.fixture
def copy(folder, tmp_path):
    place = tmp_path / "copy"
    shutil.copytree(folder, place)
    return place, json.loads((place / "config.json").read_text())


@pytest.mark.parametrize("config", CASES.values(), ids=CASES)
def test_logits_in_and_out(config, tmp_path):
    reference = saved(config, tmp_path / "in")
    rng = np.random.default_rng(0)
    source, target = rng.integers(3, 96, (2, 11)), rng.integers(3, 96, (2, 9))
    target[:, 0] = 2
    expected = logits(reference, source, target)

    checkpoint = checkpoints.open(tmp_path / "in")
    stored = checkpoint.config
    assert stored.vocab_size == 128
    parameters = checkpoint.parameters()
    model = abstract_model(lambda rngs: build(stored, rngs)).merge(parameters)
    batch = {
        "encoder_input_tokens": source,
        "encoder_segment_ids": np.ones_like(source),
        "decoder_input_tokens": target,
        "decoder_segment_ids": np.ones_like(target),
    }
    ours = jax.jit(lambda m: m(batch))(model)
    np.testing.assert_allclose(ours[..., :96], expected, atol=1e-4)

    export.save_huggingface(parameters, stored, tmp_path / "out")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(
        tmp_path / "out", attn_implementation="eager"
    ).eval()
    np.testing.assert_allclose(logits(again, source, target)[..., :96], expected, atol=1e-5)
    back = checkpoints.open(tmp_path / "out")
    assert back.config == stored
    assert all(np.array_equal(value, parameters[n]) for n, value in back.parameters().items())
    assert "T5Gemma" in back.describe()


ADAPTERS = {
    "prompt": (
        hf_peft.PromptTuningConfig(
            num_virtual_tokens=4,
            token_dim=32,
            num_layers=1,
            num_attention_heads=1,
            num_transformer_submodules=1,
        ),
        PromptTuning(4),
    ),
    "lora": (
        hf_peft.LoraConfig(r=3, lora_alpha=7, target_modules=["q_proj", "o_proj", "down_proj"]),
        LoRA(3, 7.0, ("query", "out", "wo")),
    ),
    "ia3": (
        hf_peft.IA3Config(
            target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
        ),
        IA3(),
    ),
}


def our_logits(model, source, target):
    """With all soft tokens in front of the sources."""
    P = model.adapters.prompt_rows
    soft = np.tile(np.arange(P) + model.config.vocab_size, (len(source), 1))
    source = np.concatenate([soft, source], axis=1)
    batch = {
        "encoder_input_tokens": source,
        "encoder_segment_ids": np.ones_like(source),
        "decoder_input_tokens": target,
        "decoder_segment_ids": np.ones_like(target),
    }
    return np.asarray(jax.jit(lambda m: m(batch))(model))[..., :96]


@pytest.mark.parametrize("name", ADAPTERS)
def test_adapters_of_peft_both_ways(name, tmp_path):
    config, method = ADAPTERS[name]
    config.task_type = "SEQ_2_SEQ_LM"
    reference = saved(tiny.T5GEMMA, tmp_path / "base")
    theirs = hf_peft.get_peft_model(reference, config).eval()
    torch.manual_seed(3)
    with torch.no_grad():
        for key, parameter in theirs.named_parameters():
            if any(part in key for part in ("lora_", "ia3_l", "prompt_encoder")):
                parameter.normal_(std=0.2)
    rng = np.random.default_rng(0)
    source, target = rng.integers(3, 96, (2, 9)), rng.integers(3, 96, (2, 6))
    target[:, 0] = 2
    expected = logits(theirs, source, target)
    theirs.save_pretrained(tmp_path / "theirs")

    adapters, parameters, _ = peft.load_adapter(tmp_path / "theirs")
    assert adapters == Adapters.of(method)
    checkpoint = checkpoints.open(tmp_path / "base")
    stored = checkpoint.config
    assert peft.completed(adapters, parameters, stored, name) == (parameters, [])
    plain = abstract_model(lambda rngs: build(stored, rngs)).merge(checkpoint.parameters())
    tuned = attach(plain, adapters, parameters)
    np.testing.assert_allclose(our_logits(tuned, source, target), expected, atol=1e-4)
    assert np.abs(our_logits(plain, source, target) - expected).max() > 1e-2

    about = {"base": {"path": str(tmp_path / "base"), "family": "t5gemma"}}
    peft.save_adapter(tmp_path / "ours", adapters, parameters, about)
    again = hf_peft.AutoPeftModelForSeq2SeqLM.from_pretrained(
        tmp_path / "ours", attn_implementation="eager"
    ).eval()
    np.testing.assert_allclose(logits(again, source, target), expected, atol=1e-4)


def test_every_parameter_has_one_name_of_its_own():
    for config in CASES.values():
        theirs = transformers.T5GemmaForConditionalGeneration(torch_t5gemma.settings(config))
        counts = {"encoder": config.num_encoder_layers, "decoder": config.num_decoder_layers}
        names = [
            name
            for ours, other in parameter_names.names(config, "hf").items()
            for name in other.of_layers(counts[ours.partition(".")[0]])
        ]
        assert sorted(names) == sorted(
            name for name, _ in theirs.named_parameters() if not name.startswith("lm_head")
        )


def test_older_files_say_the_base_of_rotation_elsewhere(copy):
    place, settings = copy
    for stack in ("encoder", "decoder"):
        settings[stack]["rope_theta"] = settings[stack].pop("rope_parameters")["rope_theta"] * 2
        del settings[stack]["layer_types"]
    (place / "config.json").write_text(json.dumps(settings))
    assert checkpoints.open(place).config.rope_theta == 20_000.0


def change(path, value):
    *parents, last = path.split(".")

    def apply(settings):
        for parent in parents:
            settings = settings[parent]
        settings[last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("encoder.sliding_window", 8, r"sliding_window is 8 in the encoder and 4"),
        ("decoder.cross_attention_hidden_size", 64, "encoder of the width 64"),
        ("decoder.hidden_activation", "silu", "hidden_activation is 'silu'"),
        ("decoder.attention_bias", True, "attention_bias"),
        ("decoder.layer_types", ["full_attention"] * 3, "layer_types"),
        ("decoder.num_key_value_heads", 3, "multiple of num_kv_heads"),
        ("decoder.head_dim", None, "does not say head_dim of the decoder"),
        ("decoder.rope_parameters", {"rope_type": "linear", "factor": 2.0}, "rope_parameters"),
        ("tie_word_embeddings", False, "tie_word_embeddings"),
        ("eos_token_id", [1, 107], r"eos_token_id is \[1, 107\]"),
        ("architectures", ["T5GemmaForTokenClassification"], "architectures"),
        ("encoder", None, "does not describe the encoder"),
        ("model_type", "t5gemma2", "model_type is 't5gemma2'"),
    ],
)
def test_what_this_program_does_not_do_is_refused_by_name(copy, path, value, words):
    place, settings = copy
    change(path, value)(settings)
    (place / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=words):
        assert checkpoints.open(place).config


def test_a_window_of_nothing(copy):
    place, settings = copy
    for stack in ("encoder", "decoder"):
        settings[stack]["sliding_window"] = 0
    (place / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="sliding_window of the decoder is 0"):
        assert checkpoints.open(place).config


def test_a_field_without_a_counterpart_is_told(copy):
    place, settings = copy
    settings["decoder"]["novelty"] = 3
    (place / "config.json").write_text(json.dumps(settings))
    assert "decoder: novelty = 3 is not used" in checkpoints.open(place).describe()


@pytest.mark.parametrize("same", [True, False])
def test_a_head_is_the_decoders_embedding(copy, same):
    place, _ = copy
    tensors = safetensors.numpy.load_file(place / "model.safetensors")
    embedding = tensors["model.decoder.embed_tokens.weight"]
    tensors["lm_head.out_proj.weight"] = embedding.copy() if same else embedding + 1
    safetensors.numpy.save_file(tensors, place / "model.safetensors", metadata={"format": "pt"})
    if same:
        assert "copy of the embedding" in checkpoints.open(place).describe()
    else:
        with pytest.raises(UserError, match=r"lm_head\.out_proj\.weight has other values"):
            assert checkpoints.open(place).config


def test_another_family_is_told_as_such(folder):
    checkpoint = checkpoints.open(folder)
    with pytest.raises(UserError, match="another family of models: T5Gemma there, T5 1.1"):
        checkpoint.assign(tiny.CONFIG)
