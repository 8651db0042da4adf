# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Hugging Face in and out, against models that transformers makes and runs."""

import dataclasses
import json
import pathlib
import shutil

import gin
import jax
import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy
import sentencepiece
import torch
import transformers
from sentencepiece import sentencepiece_model_pb2

from mto_jax import checkpoints
from mto_jax.checkpoints import export, huggingface, parameter_names, tokenizer
from mto_jax.errors import UserError
from mto_jax.models.config import T5Config
from mto_jax.models.t5 import T5
from mto_jax.text2text.vocabulary import Vocabulary
from mto_jax.text2text.vocabulary import vocabulary as demo_vocabulary
from mto_jax.training import sharding
from mto_jax.training.state import abstract_model
from tests.checkpoints import models


@pytest.fixture(scope="module")
def v1_1(tmp_path_factory):
    """A folder with a T5 v1.1."""
    return models.saved(models.torch_model("t5_v1_1"), tmp_path_factory.mktemp("hf") / "model")


@pytest.fixture
def copy(v1_1, tmp_path):
    """A copy of that folder to spoil, its tensors and its settings."""
    folder = tmp_path / "copy"
    shutil.copytree(v1_1, folder)
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    return folder, tensors, json.loads((folder / "config.json").read_text())


def rewrite(folder, tensors, settings=None):
    safetensors.numpy.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    if settings is not None:
        (folder / "config.json").write_text(json.dumps(settings))


# ------------------------------------------------------------------------------------ numbers


@pytest.mark.parametrize("family", models.FAMILIES)
def test_logits_of_every_family_in_and_out(family, tmp_path):
    reference = models.torch_model(family)
    source, target = models.tokens(reference.config.vocab_size)
    expected = models.torch_logits(reference, source, target)

    config, parameters = models.load(models.saved(reference, tmp_path / "in"))
    logits = models.our_logits(config, parameters, source, target)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)

    export.save_huggingface(parameters, config, tmp_path / "out")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    exported = models.torch_logits(again, source, target)
    np.testing.assert_allclose(exported, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("scaled", [True, False])
@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("kind", ["t5", "mt5", "umt5"])
@pytest.mark.parametrize("stored", [True, False], ids=["5.24", "5.0"])
def test_the_head_as_the_configuration_says(kind, own, scaled, stored, tmp_path):
    """Transformers 5 before 5.24 stored no `scale_decoder_outputs` of an umT5."""
    model = models.torch_model(kind)
    if own:
        model.lm_head.weight = torch.nn.Parameter(model.shared.weight.roll(1, 1).detach().clone())
    folder = models.saved(model, tmp_path / "in")
    settings = json.loads((folder / "config.json").read_text())
    settings |= {"tie_word_embeddings": True, "scale_decoder_outputs": scaled}
    if not stored:
        del settings["scale_decoder_outputs"]
        settings["tie_word_embeddings"] = scaled or not own
    (folder / "config.json").write_text(json.dumps(settings))
    reference = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    source, target = models.tokens(reference.config.vocab_size)
    expected = models.torch_logits(reference, source, target)

    config, parameters = models.load(folder)
    logits = models.our_logits(config, parameters, source, target)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)

    export.save_huggingface(parameters, config, tmp_path / "out")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    exported = models.torch_logits(again, source, target)
    np.testing.assert_allclose(exported, expected, atol=1e-4, rtol=1e-4)
    second, back = models.load(tmp_path / "out")
    assert second == config
    assert all(np.array_equal(back[name], value) for name, value in parameters.items())


@pytest.mark.parametrize("family", models.FAMILIES)
@pytest.mark.parametrize("preset", models.PRESETS)
def test_round_trips_are_exact(family, preset, tmp_path):
    model = models.torch_model(family, **models.PRESETS[preset])
    first, parameters = models.load(models.saved(model, tmp_path / "in"))
    for dtype in ("float32", "bfloat16"):
        export.save_huggingface(parameters, first, tmp_path / dtype, dtype=dtype)
        second, again = models.load(tmp_path / dtype)
        assert second == first
        assert list(again) == list(parameters)
        for name, value in parameters.items():
            stored = np.asarray(value).astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else None)
            np.testing.assert_array_equal(again[name], stored.astype(np.float32), err_msg=name)
    if family in ("t5_v1_1", "umt5", "byt5"):
        there = safetensors.numpy.load_file(tmp_path / "in" / "model.safetensors")
        back = safetensors.numpy.load_file(tmp_path / "float32" / "model.safetensors")
        assert sorted(there) == sorted(back)
        assert all(np.array_equal(there[name], back[name]) for name in there)


def test_bfloat16_models_come_in(tmp_path):
    model = models.torch_model("t5_v1_1").to(torch.bfloat16)
    config, parameters = models.load(models.saved(model, tmp_path / "in"))
    assert parameters["embedding"].dtype == np.float32
    np.testing.assert_array_equal(
        parameters["embedding"], model.shared.weight.detach().float().numpy()
    )
    export.save_huggingface(parameters, config, tmp_path / "out", dtype="bfloat16")
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    assert again.dtype == torch.bfloat16
    assert torch.equal(again.lm_head.weight, model.lm_head.weight)


def test_same_text_by_greedy_decoding_and_the_same_tokens(tmp_path):
    words = ["the cat sat on the mat", "a dog ran in the park", "who walks into a bar today"] * 5
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(words),
        model_prefix=str(tmp_path / "spiece"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    vocabulary = Vocabulary(tmp_path / "spiece.model")
    # `generate` of transformers 5.23 fails where the decoder is deeper than the encoder.
    model = models.torch_model("t5_v1_1", vocab_size=vocabulary.padded_size, num_decoder_layers=2)
    config, parameters = models.load(models.saved(model, tmp_path / "in"))
    export.save_huggingface(parameters, config, tmp_path / "out", vocabulary=vocabulary)

    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names >= {"spiece.model", "tokenizer.json", "tokenizer_config.json", "README.md"}
    exported = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    text = "The cat <extra_id_0> in the bar, <extra_id_12> today"
    assert exported(text).input_ids == [*vocabulary.encode(text), vocabulary.eos_id]
    assert len(exported) == vocabulary.size

    loaded = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out").eval()
    batch = exported([text, "a dog"], return_tensors="pt", padding=True)
    theirs = loaded.generate(**batch, do_sample=False, max_new_tokens=8, min_new_tokens=8)
    source = batch.input_ids.numpy().astype(np.int32)
    decoded = np.zeros((2, 9), np.int32)
    for t in range(8):
        scores = models.our_logits(config, parameters, source, decoded)[:, t]
        scores[:, vocabulary.eos_id] = -np.inf
        decoded[:, t + 1] = scores.argmax(-1)
    np.testing.assert_array_equal(theirs.numpy(), decoded)
    texts = exported.batch_decode(theirs, skip_special_tokens=True)
    assert texts == exported.batch_decode(decoded, skip_special_tokens=True)


# ------------------------------------------------------------------------------------ sharding


def test_each_device_reads_its_slices_only(v1_1):
    config, expected = models.load(v1_1)
    mesh = sharding.mesh(fsdp=2, tensor=2)
    shardings = abstract_model(lambda rngs: T5(config, rngs)).shardings(mesh)

    checkpoint = checkpoints.open(v1_1)
    fetched = {}
    for name, tensor in checkpoint.contents.tensors.items():

        def read(index, name=name, tensor=tensor):
            part = tensor.read(index)
            fetched.setdefault(name, []).append(part.size)
            return part

        checkpoint.contents.tensors[name] = dataclasses.replace(tensor, read=read)
    parameters = checkpoint.parameters(shardings)
    for name, value in parameters.items():
        assert value.sharding == shardings[name]
        np.testing.assert_array_equal(value, expected[name], err_msg=name)
        # Every element is read once in all: a slice that several devices hold too.
        assert sum(fetched[name]) == value.size, name
        pieces = len({str(shard.index) for shard in value.addressable_shards})
        assert max(fetched[name]) == value.size // pieces
    assert len(fetched["encoder.layers.mlp.wo"]) > 1


# ------------------------------------------------------------------------------------ files


def test_several_files_in_and_out(tmp_path, monkeypatch):
    model = models.torch_model("t5_v1_1")
    config, expected = models.load(models.saved(model, tmp_path / "in", max_shard_size="20KB"))
    assert len(list((tmp_path / "in").glob("model-*.safetensors"))) > 2
    monkeypatch.setattr(huggingface, "LARGEST_FILE", 20_000)
    export.save_huggingface(expected, config, tmp_path / "out")
    files = sorted(path.name for path in (tmp_path / "out").glob("*.safetensors"))
    assert len(files) > 2
    assert files[0] == f"model-00001-of-{len(files):05}.safetensors"
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "out")
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), model.parameters(), strict=True)
    )

    (tmp_path / "out" / files[1]).unlink()
    with pytest.raises(UserError, match=files[1]):
        models.load(tmp_path / "out")


@pytest.mark.parametrize("modern", [True, False])
def test_pickles_only_when_allowed(v1_1, tmp_path, modern):
    config, expected = models.load(v1_1)
    shutil.copy(v1_1 / "config.json", tmp_path)
    state = models.torch_model("t5_v1_1").state_dict()
    torch.save(state, tmp_path / "pytorch_model.bin", _use_new_zipfile_serialization=modern)
    with pytest.raises(UserError, match="allow_pickle"):
        models.load(tmp_path)
    found, parameters = models.load(tmp_path, allow_pickle=True)
    assert found == config
    assert all(np.array_equal(parameters[name], expected[name]) for name in expected)


def test_pickles_in_several_files_allowed_by_gin(v1_1, tmp_path):
    shutil.copy(v1_1 / "config.json", tmp_path)
    state = list(models.torch_model("t5_v1_1").state_dict().items())
    parts = {
        "pytorch_model-1-of-2.bin": dict(state[:9]),
        "pytorch_model-2-of-2.bin": dict(state[9:]),
    }
    for name, part in parts.items():
        torch.save(part, tmp_path / name)
    index = {"weight_map": {key: name for name, part in parts.items() for key in part}}
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    with pytest.raises(UserError, match="allow_pickle"):
        checkpoints.open(tmp_path).describe()
    gin.bind_parameter("load_checkpoint.allow_pickle", True)
    assert "pickle, in several files" in checkpoints.open(tmp_path).describe()
    _, expected = models.load(v1_1)
    _, parameters = models.load(tmp_path)
    assert all(np.array_equal(parameters[name], expected[name]) for name in expected)


def test_a_pickle_that_carries_a_program_is_refused_even_then(v1_1, tmp_path):
    class Program:
        def __reduce__(self):
            return (pytest.fail, ("the program ran",))

    shutil.copy(v1_1 / "config.json", tmp_path)
    torch.save({"shared.weight": Program()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(UserError, match="does not read as tensors"):
        models.load(tmp_path, allow_pickle=True)


def test_copies_of_the_embedding_and_old_leftovers_are_left(tmp_path):
    folder = models.saved(models.torch_model("t5"), tmp_path / "in")
    tensors = safetensors.numpy.load_file(folder / "model.safetensors")
    shared = tensors.pop("shared.weight")
    tensors["encoder.embed_tokens.weight"] = shared
    tensors["decoder.embed_tokens.weight"] = shared
    tensors["lm_head.weight"] = shared
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    tensors[unused] = np.ones((8, 3), np.float32)
    rewrite(folder, tensors)
    checkpoint = checkpoints.open(folder).contents
    assert checkpoint.config.tie_embeddings
    assert set(checkpoint.file.left) == {"decoder.embed_tokens.weight", "lm_head.weight", unused}
    np.testing.assert_array_equal(checkpoint.tensors["embedding"].whole(), shared)
    assert not checkpoint.extra


# ------------------------------------------------------------------------------------ mistakes


def test_missing_extra_and_misshapen_tensors_are_listed(copy):
    folder, tensors, _ = copy
    missing = "decoder.block.2.layer.1.EncDecAttention.q.weight"
    wrong = "encoder.block.1.layer.1.DenseReluDense.wi_0.weight"
    del tensors[missing]
    tensors[wrong] = np.zeros((28, 21), np.float32)
    tensors["classifier.weight"] = np.zeros((2, 20), np.float32)
    rewrite(folder, tensors)
    with pytest.raises(UserError) as caught:
        models.load(folder)
    text = str(caught.value)
    assert f"missing: {missing}, expected [18, 20]" in text
    assert f"misshapen: {wrong} is [28, 21], expected [28, 20]" in text
    assert "extra: classifier.weight [2, 20]" in text
    assert "classifier.weight" in checkpoints.open(folder).describe()


def test_another_model_is_told_field_by_field(v1_1):
    config, _ = models.load(v1_1)
    with pytest.raises(UserError, match="num_buckets = 8 there, 16 here"):
        models.load(v1_1, config=dataclasses.replace(config, num_buckets=16, max_distance=20))
    with pytest.raises(UserError, match="max_distance = 12 there, 20 here"):
        models.load(v1_1, config=dataclasses.replace(config, max_distance=20))
    other = dataclasses.replace(config, dropout_rate=0.3, dtype="bfloat16", remat="full")
    assert models.load(v1_1, config=other)[0] == other


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"model_type": "t5gemma2"}, "normalises queries and keys"),
        ({"feed_forward_proj": "gated-gelo"}, "gated-gelu"),
    ],
)
def test_models_that_are_no_t5(copy, change, match):
    folder, tensors, settings = copy
    rewrite(folder, tensors, settings | change)
    with pytest.raises(UserError, match=match):
        models.load(folder)


def test_no_weights_and_no_sizes(copy):
    folder, tensors, settings = copy
    del settings["d_kv"]
    rewrite(folder, tensors, settings)
    with pytest.raises(UserError, match=r"does not say d_kv"):
        models.load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(UserError, match="no weights"):
        models.load(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UserError, match=r"Cannot read .*config\.json"):
        models.load(folder)


def test_saving_checks_names_shapes_and_place(v1_1, tmp_path):
    config, parameters = models.load(v1_1)
    wrong = {name: value for name, value in parameters.items() if name != "lm_head"}
    wrong["prompt"] = parameters["lm_head"]
    with pytest.raises(UserError, match=r"lm_head is missing.*prompt is not a parameter"):
        export.save_huggingface(wrong, config, tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(UserError, match="not empty"):
        export.save_huggingface(parameters, config, tmp_path / "full")
    with pytest.raises(UserError, match="float32"):
        export.save_huggingface(parameters, config, tmp_path / "out", dtype="float31")


# ------------------------------------------------------------------------------------ vocabulary


def test_a_vocabulary_that_is_no_multiple_of_128(tmp_path, capsys):
    model = models.torch_model("t5_v1_1", vocab_size=100)
    folder = models.saved(model, tmp_path / "in")
    config, parameters = models.load(folder)
    assert config.vocab_size == 128
    assert "100 rows there, 128 here" in capsys.readouterr().err
    source, target = models.tokens(100)
    logits = models.our_logits(config, parameters, source, target)
    np.testing.assert_allclose(
        logits[..., :100], models.torch_logits(model, source, target), atol=1e-4, rtol=1e-4
    )
    # A new id never wins: its score is that of the pad token, which stands before it.
    np.testing.assert_allclose(logits[..., 100:], logits[..., :1].repeat(28, -1), atol=1e-5)
    assert (logits.argmax(-1) < 100).all()

    exact = dataclasses.replace(config, vocab_size=100)
    config, cut = models.load(folder, config=exact)
    np.testing.assert_array_equal(cut["embedding"], parameters["embedding"][:100])
    export.save_huggingface(
        parameters, dataclasses.replace(config, vocab_size=128), tmp_path / "out"
    )
    _, cut = models.load(tmp_path / "out", config=exact)
    np.testing.assert_array_equal(cut["lm_head"], model.lm_head.weight.detach().numpy().T)
    with pytest.raises(UserError, match=r"embedding is \[100, 20\], expected \[256, 20\]"):
        models.load(folder, config=dataclasses.replace(config, vocab_size=256))


def test_padded_vocabulary_is_read_in_slices(tmp_path):
    folder = models.saved(models.torch_model("t5_v1_1", vocab_size=100), tmp_path / "in")
    config, expected = models.load(folder)
    mesh = sharding.mesh(tensor=8)
    shardings = abstract_model(lambda rngs: T5(config, rngs)).shardings(mesh)
    _, parameters = models.load(folder, shardings=shardings)
    for name in ("embedding", "lm_head"):
        assert not parameters[name].is_fully_replicated
        np.testing.assert_array_equal(parameters[name], expected[name])


# ------------------------------------------------------------------------------------ partial
# restore


def test_assignment_map(v1_1, tmp_path, capsys):
    config, everything = models.load(v1_1)
    capsys.readouterr()
    _, parameters = models.load(
        v1_1,
        config=config,
        assignment_map=[
            (r"lm_head", None),
            (
                r"decoder\.layers\.self_attention\.(key|value)",
                r"decoder.layers.cross_attention.\1",
            ),
        ],
    )
    report = capsys.readouterr().err
    assert set(everything) - set(parameters) == {"lm_head"}
    np.testing.assert_array_equal(
        parameters["decoder.layers.self_attention.key"],
        everything["decoder.layers.cross_attention.key"],
    )
    np.testing.assert_array_equal(
        parameters["decoder.layers.self_attention.query"],
        everything["decoder.layers.self_attention.query"],
    )
    assert "lm_head <- fresh" in report
    assert "decoder.layers.self_attention.key <- decoder.layers.cross_attention.key" in report
    assert "decoder.layers.self_attention.key [3, 20, 18] has no place here" in report

    tied = dataclasses.replace(config, tie_embeddings=True)
    with pytest.raises(UserError, match="extra: lm_head"):
        models.load(v1_1, config=tied)
    _, parameters = models.load(v1_1, config=tied, assignment_map=[("lm_head", None)])
    assert "lm_head" not in parameters
    with pytest.raises(UserError, match=r"missing: encoder\.layers\.nothing"):
        models.load(v1_1, assignment_map=[("lm_head", "encoder.layers.nothing")])


def test_rules_leave_out_what_a_t5_does_not_have(copy, capsys):
    folder, tensors, _ = copy
    tensors["classifier.weight"] = np.zeros((2, 20), np.float32)
    rewrite(folder, tensors)
    models.load(folder, assignment_map=[(r"classifier\..*", None)])
    assert "classifier.weight [2, 20] is left unread" in capsys.readouterr().err


# ------------------------------------------------------------------------------------ the table


@pytest.mark.parametrize("side", ["hf", "t5x"])
@pytest.mark.parametrize("per_layer", [True, False])
def test_every_parameter_has_one_name_of_its_own(side, per_layer):
    config = T5Config(relative_bias_per_layer=per_layer)
    names = parameter_names.names(config, side)
    assert set(names) == set(parameter_names.shapes(config))
    templates = [name.template for name in names.values()]
    assert len(set(templates)) == len(templates)


def test_jax_arrays_of_several_devices_go_out(v1_1, tmp_path):
    config, expected = models.load(v1_1)
    shardings = abstract_model(lambda rngs: T5(config, rngs)).shardings(
        sharding.mesh(fsdp=2, tensor=2)
    )
    parameters = jax.device_put(dict(expected), shardings)
    export.save_huggingface(parameters, config, tmp_path / "out")
    first = safetensors.numpy.load_file(v1_1 / "model.safetensors")
    second = safetensors.numpy.load_file(tmp_path / "out" / "model.safetensors")
    assert all(np.array_equal(first[name], second[name]) for name in first)


TEXTS = (
    "translate English to German: That's 3.5% of 1,000!",
    "Thank you <extra_id_0> me to your party <extra_id_1> week <extra_id_99>",
    "<extra_id_0>. A (<extra_id_1>), <extra_id_2>!  <extra_id_3>ly<extra_id_4><extra_id_5> ",
    "  two  spaces,\ttabs\nand lines ",
    "naïve café, ½ ﬁne; 東京",
    "",
)


def same_tokens(theirs, vocabulary):
    assert len(theirs) == vocabulary.size
    for text in TEXTS:
        ids = theirs(text).input_ids
        assert ids == [*vocabulary.encode(text), vocabulary.eos_id], text


def test_a_vocabulary_that_brings_its_sentinels(tmp_path):
    """As mT5's does."""
    own = sentencepiece_model_pb2.ModelProto.FromString(
        pathlib.Path(demo_vocabulary("demo").path).read_bytes()
    )
    for i in reversed(range(100)):
        own.pieces.add(piece=f"▁<extra_id_{i}>", score=0.0, type=own.SentencePiece.USER_DEFINED)
    (tmp_path / "own.model").write_bytes(own.SerializeToString())
    vocabulary = Vocabulary(tmp_path / "own.model")
    assert vocabulary.added_ids == 0
    tokenizer.write(tmp_path, vocabulary)
    same_tokens(transformers.AutoTokenizer.from_pretrained(tmp_path), vocabulary)


def test_the_tokenizer_of_t5(data_dir, tmp_path):
    vocabulary = Vocabulary(data_dir / "vocab" / "t5_sentencepiece.model")
    tokenizer.write(tmp_path, vocabulary)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    assert vocabulary.size == 32100
    same_tokens(theirs, vocabulary)
    assert theirs.decode(vocabulary.encode("a dog ran.")) == "a dog ran."
    assert theirs.pad_token_id == vocabulary.pad_id
    assert theirs.convert_tokens_to_ids("<extra_id_0>") == vocabulary.sentinel_id(0)
