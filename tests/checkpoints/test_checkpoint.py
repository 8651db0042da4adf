# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of every kind as models with their vocabularies."""

import dataclasses
import json
import os
import pathlib
import shutil

import gin
import huggingface_hub
import numpy as np
import pytest
from flax import serialization, traverse_util
from sentencepiece import sentencepiece_model_pb2

from mto_jax import checkpoints
from mto_jax.checkpoints import parameter_names, peft
from mto_jax.checkpoints.lazy import in_memory
from mto_jax.commands import evaluate, infer
from mto_jax.commands.convert import convert
from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from mto_jax.decoding.generation import Decoding
from mto_jax.errors import UserError
from mto_jax.models.adapters import Adapters, LoRA
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.training import state
from mto_jax.training.multi_adapter import Candidate, MultiAdapterTuning, attach, tune_adapters
from mto_jax.training.optimizers import Optimizer
from tests.checkpoints import models
from tests.decoding import tiny
from tests.test_hub import fill

DEMO = vocabularies.vocabulary("demo")


def write_t5x(path: pathlib.Path, config, parameters) -> None:
    """A legacy file of step 7, beside which no vocabulary lies."""
    tensors = {name: in_memory(value) for name, value in parameters.items()}
    there = parameter_names.disassemble(config, tensors, "t5x")
    flat = {name: np.array(tensor.whole()) for name, tensor in there.items()}
    tree = {"target": traverse_util.unflatten_dict(flat, sep="/"), "state": {"step": np.int32(7)}}
    path.write_bytes(serialization.msgpack_serialize({"optimizer": tree}))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The same model for the demo's vocabulary as Hugging Face's folder, T5X's file and our run."""
    folder = tmp_path_factory.mktemp("checkpoints")
    sizes = {"vocab_size": DEMO.padded_size, "relative_attention_max_distance": 128}
    models.saved(models.torch_model("t5_v1_1", **sizes), folder / "hf")
    DEMO.save(folder / "hf")
    write_t5x(folder / "t5x", *models.load(folder / "hf"))
    gin.clear_config()
    convert(source=str(folder / "hf"), to="native", output=str(folder / "run"))
    return folder


def logits(model) -> np.ndarray:
    source, target = models.tokens(DEMO.size)
    segments = (source != 0).astype(np.int32)
    encoded = model.encode(source, segments)
    return np.array(model.logits(model.decode(encoded, segments, target, np.ones_like(target))))


@pytest.mark.parametrize("kind", ["hf", "t5x", "run"])
def test_every_kind_is_the_same_model_with_its_vocabulary(folder, kind):
    if kind == "t5x":
        gin.bind_parameter("vocabulary.name", "demo")
    checkpoint = checkpoints.open(str(folder / kind))
    vocabulary = checkpoint.adopt_vocabulary()
    assert vocabulary.digest == DEMO.digest == vocabularies.vocabulary().digest
    assert checkpoint.step == (7 if kind == "t5x" else 0)
    model = checkpoint.model(vocabulary)
    assert model.config == checkpoint.config
    reference = models.torch_model(
        "t5_v1_1", vocab_size=DEMO.padded_size, relative_attention_max_distance=128
    )
    expected = models.torch_logits(reference, *models.tokens(DEMO.size))
    np.testing.assert_allclose(logits(model), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["hf", "t5x", "run"])
def test_gin_says_how_a_model_computes(folder, kind):
    gin.bind_parameter("T5Config.dtype", "bfloat16")
    gin.bind_parameter("T5Config.d_model", 4)  # what it is, it says itself
    model = checkpoints.open(folder / kind).model(DEMO)
    assert (model.config.dtype, model.config.d_model) == ("bfloat16", 20)


@pytest.mark.parametrize("kind", ["hf", "t5x"])
def test_infer_with_a_foreign_checkpoint(folder, kind, tmp_path, monkeypatch):
    monkeypatch.setattr(infer, "use_compilation_cache", lambda: None)
    (tmp_path / "in.txt").write_text("a cup is used for\n")
    if kind == "t5x":
        gin.bind_parameter("vocabulary.name", "demo")
    infer.infer(
        model_dir=str(folder / kind),
        input_file=str(tmp_path / "in.txt"),
        output_file=str(tmp_path / "out.jsonl"),
        decoding=Decoding(max_length=4),
    )
    row = json.loads((tmp_path / "out.jsonl").read_text())
    assert row["input"] == "a cup is used for"
    with pytest.raises(UserError, match="has no step 3"):
        infer.infer(model_dir=str(folder / kind), checkpoint=3)


def test_evaluate_with_a_foreign_checkpoint(folder, tmp_path, monkeypatch):
    texts = [{"inputs": "a cup is used for", "targets": "drinking", "references": ["drinking"]}]
    data = tiny.prepared(tmp_path, texts, vocabulary=DEMO)
    monkeypatch.setattr(loader, "ensure_all", lambda configs: [data])
    monkeypatch.setattr(evaluate, "use_compilation_cache", lambda: None)
    monkeypatch.chdir(tmp_path)
    dataset = DatasetConfig("tiny", {"inputs": 16, "targets": 8}, "test")
    how = Decoding(max_length=4)
    results = evaluate.evaluate(model_dir=str(folder / "hf"), datasets=[dataset], decoding=how)
    assert list(results) == [0]
    summary = json.loads((tmp_path / "evaluation" / "hf" / "0" / "metrics.json").read_text())
    assert summary["checkpoint"] == str(folder / "hf")


def test_a_model_of_the_hub(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    fill(tmp_path / "hub", folder / "hf")
    checkpoint = checkpoints.open("hf://org/name")
    assert checkpoint.title.startswith("hf://org/name@0123")
    vocabulary = checkpoint.adopt_vocabulary()
    assert vocabulary.digest == DEMO.digest
    expected = logits(checkpoints.open(folder / "hf").model(DEMO))
    np.testing.assert_array_equal(logits(checkpoint.model(vocabulary)), expected)
    # Another host that has downloaded the same commit at another time knows it by the same digest.
    fill(tmp_path / "other", folder / "hf")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "other"))
    assert checkpoints.open("hf://org/name").digest == checkpoint.digest


# ---------------------------------------------------------------------------------- vocabulary


@pytest.fixture
def run(folder, tmp_path):
    """A copy of the run, whose record names a vocabulary that is not there."""
    shutil.copytree(folder / "run", tmp_path / "run")
    return tmp_path / "run"


def test_a_run_that_was_moved_brings_its_vocabulary(run):
    checkpoint = checkpoints.open(run)
    assert checkpoint.adopt_vocabulary().path == str(run / "spiece.model")


@pytest.mark.parametrize("content", [None, "another vocabulary"])
def test_the_vocabulary_on_record_is_lost(run, content):
    checkpoint = checkpoints.open(run)
    checkpoint.record["vocabulary"]["name"] = "nowhere/spiece.model"
    (run / "spiece.model").unlink()
    if content:
        (run / "spiece.model").write_text(content)
    with pytest.raises(UserError, match=r"not known.* nowhere/spiece\.model.*Set VOCABULARY"):
        checkpoint.adopt_vocabulary()
    gin.bind_parameter("vocabulary.name", "demo")
    assert checkpoint.adopt_vocabulary().path == DEMO.path


@pytest.mark.parametrize("kind", ["hf", "run"])
def test_gin_names_another_vocabulary(folder, kind, tmp_path):
    other = sentencepiece_model_pb2.ModelProto.FromString(pathlib.Path(DEMO.path).read_bytes())
    other.pieces.add(piece="other", score=-9.0)
    (tmp_path / "other.model").write_bytes(other.SerializeToString())
    gin.bind_parameter("vocabulary.name", str(tmp_path / "other.model"))
    checkpoint = checkpoints.open(folder / kind)
    with pytest.raises(UserError, match=r"was trained with .* gives another, .*other\.model"):
        checkpoint.adopt_vocabulary()
    with pytest.raises(UserError, match=r"was trained with .* gives another, .*other\.model"):
        checkpoint.model(vocabularies.vocabulary())


def test_t5x_tells_no_vocabulary(folder, tmp_path, monkeypatch, capsys):
    checkpoint = checkpoints.open(folder / "t5x")
    with pytest.raises(UserError, match=r"not known\. Set VOCABULARY"):
        checkpoint.adopt_vocabulary()
    # With T5's number of rows it is taken for T5's, and that is told.
    config = dataclasses.replace(checkpoint.config, vocab_size=32128)
    monkeypatch.setattr(checkpoints.Checkpoint, "config", config)
    (tmp_path / "vocab").mkdir()
    shutil.copy(DEMO.path, tmp_path / "vocab" / "t5_sentencepiece.model")
    monkeypatch.setenv("MTO_DATA_DIR", str(tmp_path))
    assert checkpoint.adopt_vocabulary().digest == DEMO.digest
    assert "T5's is taken" in capsys.readouterr().err


def test_too_few_rows(folder):
    class Larger(vocabularies.Vocabulary):
        size = 99_999

    with pytest.raises(UserError, match="99999 ids: it belongs to another model"):
        checkpoints.open(folder / "t5x").model(Larger(DEMO.path))


# ---------------------------------------------------------------------------------- the rest


def test_digests_tell_contents_apart(folder, tmp_path):
    for kind in ("hf", "t5x", "run"):
        checkpoint = checkpoints.open(folder / kind)
        assert checkpoint.digest == checkpoints.open(folder / kind).digest
    shutil.copytree(folder / "hf", tmp_path / "hf")
    before = checkpoints.open(tmp_path / "hf").digest
    os.utime(tmp_path / "hf" / "model.safetensors", ns=(0, 1))
    assert checkpoints.open(tmp_path / "hf").digest != before


def test_a_part_is_no_model(folder):
    gin.bind_parameter("load_checkpoint.assignment_map", [("lm_head", None)])
    with pytest.raises(UserError, match="leaves out lm_head"):
        checkpoints.open(folder / "hf").model(DEMO)


@pytest.mark.parametrize("path", ["no/such/folder", "hf://name", ""])
def test_nothing_there(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=r"hf://|run"):
        checkpoints.open(path)


def test_an_adapter_folder_is_its_base_with_the_adapter_on(folder, tmp_path):
    run_dir = folder / "run"
    base = checkpoints.open(run_dir).model(DEMO)
    adapters = Adapters.of(LoRA(2))
    (found,) = tune_adapters(
        base,
        adapters,
        [Candidate("one", [([5, 6, 1], [7, 1])] * 4)],
        MultiAdapterTuning(epochs=3, optimizer=Optimizer("adamw", 0.1)),
    )
    fingerprint = peft.one_fingerprint(state.fingerprints(state.by_name(base)))
    description = {"base": {"path": str(run_dir), "fingerprint": fingerprint}}
    peft.save_adapter(tmp_path / "lora", adapters, found.parameters, description)
    checkpoint = checkpoints.open(tmp_path / "lora")
    assert checkpoint.config == base.config
    model = checkpoint.model(checkpoint.adopt_vocabulary())
    expected = state.by_name(attach(base, adapters, found.parameters))
    for name, value in state.by_name(model).items():
        np.testing.assert_allclose(value, expected[name], atol=1e-7, err_msg=name)
    description["base"]["fingerprint"] = "0" * 32
    peft.save_adapter(tmp_path / "other", adapters, found.parameters, description)
    with pytest.raises(UserError, match="trained on another model than"):
        checkpoints.open(tmp_path / "other").model(DEMO)
    peft.save_adapter(tmp_path / "homeless", adapters, found.parameters, {})
    with pytest.raises(UserError, match=r"does not say what model .* base_checkpoint\.path"):
        checkpoints.open(tmp_path / "homeless").config
