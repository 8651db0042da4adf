# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Model and vocabulary of a training: given, of the run that goes on, of the checkpoint, or new."""

import dataclasses
import json

import gin
import pytest

from mto_jax import checkpoints
from mto_jax.checkpoints import compatibility
from mto_jax.errors import UserError
from mto_jax.models.adapters import NONE, Adapters, PromptTuning
from mto_jax.models.config import T5Config
from mto_jax.text2text.vocabulary import vocabulary
from tests import gemma_tokenizer, tiny


@pytest.fixture
def initial(tmp_path):
    tiny.write(tmp_path / "base")
    return checkpoints.open(tmp_path / "base")


def test_the_model_is_given_or_of_the_run_or_of_the_checkpoint_or_of_gin(initial, tmp_path):
    new, old = tmp_path / "new", tmp_path / "old"
    gin.bind_parameter("T5Config.dropout_rate", 0.25)
    deep = dataclasses.replace(tiny.CONFIG, num_decoder_layers=3)
    old.mkdir()
    (old / "model.json").write_text(json.dumps({"model": dataclasses.asdict(deep)}))
    dropped = {"dropout_rate": 0.25}
    assert compatibility.model_of(tiny.UNEVEN, old, initial) == tiny.UNEVEN
    assert compatibility.model_of(None, old, initial) == dataclasses.replace(deep, **dropped)
    assert compatibility.model_of(None, new, initial) == dataclasses.replace(tiny.CONFIG, **dropped)
    assert compatibility.model_of(None, new, None) == T5Config(dropout_rate=0.25)


def test_sizes_in_gin_must_be_those_of_the_checkpoint(initial, tmp_path):
    gin.bind_parameter("T5Config.d_ff", 64)
    model = compatibility.model_of(None, tmp_path / "new", initial)
    with pytest.raises(UserError, match=r"d_ff is 32 there and 64 here. Leave out the sizes"):
        compatibility.check_initial(initial, model, vocabulary("demo"))


def test_the_vocabulary_is_bound_or_of_the_run_or_of_the_checkpoint(initial, tmp_path):
    demo, lab = vocabulary("demo"), vocabulary("lab")
    (tmp_path / "old").mkdir()
    lab.save(tmp_path / "old")
    for folder, checkpoint, expected in (("old", initial, lab), ("new", initial, demo)):
        gin.clear_config()
        adopted = compatibility.vocabulary_of(tmp_path / folder, checkpoint)
        assert adopted.digest == vocabulary().digest == expected.digest
    gin.clear_config()
    gin.bind_parameter("vocabulary.name", "lab")
    assert compatibility.vocabulary_of(tmp_path / "new", None).digest == lab.digest


@pytest.fixture
def gemma(tmp_path):
    """The path of a tokenizer as Gemma's."""
    gemma_tokenizer.write(tmp_path / "gemma")
    return str(tmp_path / "gemma")


def padded(model, vocab):
    return dataclasses.replace(model, vocab_size=vocab.padded_size)


def test_a_vocabulary_of_t5_s_kind_is_none_for_a_t5gemma(gemma):
    demo = vocabulary("demo")
    model = padded(tiny.T5GEMMA, demo)
    with pytest.raises(
        UserError, match=r"decoder_start_id\), which is the unknown piece of .*demo"
    ):
        compatibility.check_vocabulary(model, NONE, demo)
    compatibility.check_vocabulary(dataclasses.replace(model, decoder_start_id=0), NONE, demo)
    compatibility.check_vocabulary(padded(tiny.T5GEMMA, vocabulary(gemma)), NONE, vocabulary(gemma))


def test_a_vocabulary_of_gemma_is_none_for_a_t5(initial, gemma):
    with pytest.raises(
        UserError, match=r"trained with the vocabulary .*demo.*, but VOCABULARY .* gives another"
    ):
        initial.check_vocabulary(vocabulary(gemma))
    with pytest.raises(UserError, match=r"has \d+ ids, but T5Config.vocab_size is 96"):
        compatibility.check_vocabulary(tiny.UNEVEN, NONE, vocabulary(gemma))


def test_a_decoder_of_another_width_reads_no_soft_prompt(gemma):
    vocab, adapters = vocabulary(gemma), Adapters.of(PromptTuning(4))
    model, even = (padded(config, vocab) for config in (tiny.T5GEMMA_UNEVEN, tiny.T5GEMMA))
    compatibility.check_vocabulary(model, adapters, vocab)
    gin.bind_parameter("SoftPrompt.decoder_length", 2)
    with pytest.raises(UserError, match="as wide as the encoder, 48, and the decoder 32"):
        compatibility.check_vocabulary(model, adapters, vocab)
    compatibility.check_vocabulary(model, NONE, vocab)
    compatibility.check_vocabulary(even, adapters, vocab)
