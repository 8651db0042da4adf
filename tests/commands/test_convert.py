# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The verb `convert`, end to end on tiny models."""

import json

import gin
import numpy as np
import pytest
import safetensors.numpy
import sentencepiece

from mto_jax import checkpoints, errors
from mto_jax.checkpoints import export
from mto_jax.commands.convert import convert
from mto_jax.text2text.vocabulary import Vocabulary
from mto_jax.training import state
from tests.checkpoints import models


@pytest.fixture(scope="module")
def foreign(tmp_path_factory):
    """A Hugging Face folder with a vocabulary."""
    folder = tmp_path_factory.mktemp("convert")
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["the cat sat on the mat", "a dog ran in the park"] * 5),
        model_prefix=str(folder / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    vocabulary = Vocabulary(folder / "spiece.model")
    model = models.torch_model("t5_v1_1", vocab_size=vocabulary.padded_size)
    config, parameters = models.load(models.saved(model, folder / "raw"))
    export.save_huggingface(parameters, config, folder / "hf", vocabulary=vocabulary)
    return folder / "hf"


def test_there_and_back(foreign, tmp_path, capsys):
    convert(source=str(foreign), to="native", output=str(tmp_path / "run"))
    assert "INITIAL_CHECKPOINT_PATH" in capsys.readouterr().out
    config, expected = models.load(foreign)

    # Our own reader of checkpoints (Orbax) takes it.
    checkpoint = checkpoints.open(tmp_path / "run")
    model = checkpoint.model(Vocabulary(foreign / "spiece.model"))
    assert model.config == config
    flat = state.by_name(model)
    assert set(flat) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(flat[name], value, err_msg=name)
    identity = json.loads((tmp_path / "run" / "model.json").read_text())
    assert identity["vocabulary"]["digest"] == Vocabulary(foreign / "spiece.model").digest
    assert checkpoints.open(tmp_path / "run").contents.config == config

    (tmp_path / "run" / "config.gin").write_text("SEED = 5\n")  # goes into the model card
    convert(source=str(tmp_path / "run"), to="hf", output=str(tmp_path / "back"))
    before = safetensors.numpy.load_file(foreign / "model.safetensors")
    after = safetensors.numpy.load_file(tmp_path / "back" / "model.safetensors")
    assert set(before) == set(after)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    for name in ("config.json", "spiece.model", "tokenizer.json", "generation_config.json"):
        assert (tmp_path / "back" / name).read_bytes() == (foreign / name).read_bytes(), name
    card = (tmp_path / "back" / "README.md").read_text()
    assert "SEED = 5" in card
    assert f"mto convert --from={tmp_path / 'run'}" in card


def test_inspect(foreign, tmp_path, capsys):
    convert(inspect=str(foreign))
    text = " ".join(capsys.readouterr().out.split())
    for line in (
        "format Hugging Face, safetensors",
        "family T5 1.1",
        "types float32 (",
        "layers 2 + 3, unstacked",
        "sizes d_model 20, d_kv 6, num_heads 3, d_ff 28",
    ):
        assert line in text
    convert(source=str(foreign), to="native", output=str(tmp_path / "run"))
    capsys.readouterr()
    convert(inspect=str(tmp_path / "run"))
    text = " ".join(capsys.readouterr().out.split())
    assert "format MTO-JAX" in text
    assert "step 0" in text


def test_a_damaged_run_is_told(foreign, tmp_path):
    convert(source=str(foreign), to="native", output=str(tmp_path / "run"))
    files = (tmp_path / "run" / "checkpoints" / "0" / "trainable").rglob("*")
    victim = max((path for path in files if path.is_file()), key=lambda path: path.stat().st_size)
    victim.write_bytes(b"\0" + victim.read_bytes()[1:])
    with pytest.raises(errors.UserError, match="damaged"):
        convert(source=str(tmp_path / "run"), to="hf", output=str(tmp_path / "out"))


def test_a_model_without_vocabulary_goes_without(foreign, tmp_path, capsys):
    raw = foreign.parent / "raw"
    convert(source=str(raw), to="native", output=str(tmp_path / "run"))
    assert "no vocabulary goes along" in capsys.readouterr().err
    assert "vocabulary" not in json.loads((tmp_path / "run" / "model.json").read_text())
    gin.parse_config(f"vocabulary.name = {str(foreign)!r}")
    convert(source=str(tmp_path / "run"), to="hf", output=str(tmp_path / "out"))
    assert (tmp_path / "out" / "spiece.model").is_file()


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({}, "Say what to convert"),
        ({"source": "x", "to": "hf"}, "Say what to convert"),
        ({"source": "x", "to": "native ", "output": "y"}, "native"),
        ({"source": "x", "to": "hf", "output": "y", "encoder": "z"}, "--encoder is for --to=enc"),
        ({"source": "no/such/folder", "to": "hf", "output": "y"}, "no/such/folder"),
        ({"inspect": "no/such/folder"}, "no/such/folder"),
    ],
)
def test_mistakes(arguments, match):
    with pytest.raises(errors.UserError, match=match):
        convert(**arguments)


def test_output_must_be_empty(foreign, tmp_path):
    (tmp_path / "file").touch()
    for to in ("hf", "native"):
        with pytest.raises(errors.UserError, match="not empty"):
            convert(source=str(foreign), to=to, output=str(tmp_path))
