# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What folders of Hugging Face state beside plain T5s is obeyed, reported or refused by name."""

import json
import shutil

import numpy as np
import pytest
import safetensors.numpy
import torch

from mto_jax import checkpoints
from mto_jax.checkpoints import compatibility, export
from mto_jax.checkpoints.foreign_fields import Fields
from mto_jax.decoding.generation import Decoding, decode
from mto_jax.errors import UserError
from mto_jax.models.adapters import NONE
from mto_jax.text2text.vocabulary import vocabulary as demo_vocabulary
from tests.checkpoints import models
from tests.decoding.tiny import Numbers

# Different from T5's, and from one another.
IDS = {"decoder_start_token_id": 7, "pad_token_id": 3, "eos_token_id": 5}


@pytest.fixture(scope="module")
def with_ids(tmp_path_factory):
    """(model, folder) of a T5 with start, padding and EOS of its own."""
    model = models.torch_model("t5", num_decoder_layers=2, **IDS)
    return model, models.saved(model, tmp_path_factory.mktemp("hf") / "model")


@pytest.fixture
def copy(tmp_path):
    """(folder, its tensors) of a tied T5, to spoil."""
    folder = models.saved(models.torch_model("t5"), tmp_path / "copy")
    return folder, safetensors.numpy.load_file(folder / "model.safetensors")


def rewrite(folder, tensors=None, name="config.json", **changes):
    if tensors is not None:
        path = folder / "model.safetensors"
        safetensors.numpy.save_file(tensors, path, metadata={"format": "pt"})
    settings = json.loads((folder / name).read_text())
    (folder / name).write_text(json.dumps(settings | changes))


# ---------------------------------------------------------------------------------------- ids


def test_ids_of_the_folder_start_and_end_the_decoding(with_ids):
    reference, folder = with_ids
    checkpoint = checkpoints.open(folder)
    vocabulary = Numbers()
    vocabulary.size = vocabulary.padded_size = 128
    model = checkpoint.model(vocabulary)
    rng = np.random.default_rng(0)
    for _ in range(6):
        source = rng.integers(8, 120, 9).tolist()
        theirs = reference.generate(torch.tensor([source]), max_new_tokens=6, do_sample=False)
        ours = decode(model, [source], Decoding(max_length=6), vocabulary)[0][0].tokens
        theirs = theirs[0].tolist()
        assert theirs[0] == 7
        # The vocabulary's EOS stands for the model's.
        expected = [*theirs[1 : theirs.index(5)], 1] if 5 in theirs else theirs[1:]
        assert ours == expected


def test_an_output_ends_with_the_eos_of_the_folder(with_ids, tmp_path):
    reference, _ = with_ids
    source = np.arange(8, 16)
    first = reference.generate(torch.tensor(source[None]), max_new_tokens=1, do_sample=False)
    eos = int(first[0, 1])
    reference.save_pretrained(tmp_path / "model")
    for name in ("config.json", "generation_config.json"):
        rewrite(tmp_path / "model", name=name, eos_token_id=[eos])
    vocabulary = Numbers()
    vocabulary.size = vocabulary.padded_size = 128
    model = checkpoints.open(tmp_path / "model").model(vocabulary)
    (output,) = decode(model, [source.tolist()], Decoding(max_length=6), vocabulary)[0]
    assert output.tokens == [vocabulary.eos_id]


def test_training_starts_the_decoder_as_transformers_does(with_ids):
    reference, folder = with_ids
    config, parameters = models.load(folder)
    source, _ = models.tokens(128)
    labels = np.random.default_rng(2).integers(8, 120, (2, 6)).astype(np.int32)
    shifted = np.pad(labels, ((0, 0), (1, 0)))[:, :-1]  # 0 in front, as batches have it
    with torch.no_grad():
        expected = reference(
            input_ids=torch.tensor(source).long(),
            attention_mask=torch.tensor(source != 0).long(),
            labels=torch.tensor(labels).long(),
        ).logits.numpy()
    logits = models.our_logits(config, parameters, source, shifted)
    np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=1e-4)


def test_ids_are_written_back(with_ids, tmp_path):
    config, parameters = models.load(with_ids[1])
    export.save_huggingface(parameters, config, tmp_path / "out")
    for name in ("config.json", "generation_config.json"):
        written = json.loads((tmp_path / "out" / name).read_text())
        assert {field: written[field] for field in IDS} == IDS
    assert checkpoints.open(tmp_path / "out").config == config


def test_ids_that_contradict_each_other_are_refused(with_ids, copy, tmp_path, capsys):
    folder, _ = copy
    rewrite(folder, name="generation_config.json", decoder_start_token_id=9)
    with pytest.raises(UserError, match=r"start_token_id is 0 in config.json and 9 in generation_"):
        models.load(folder)
    shutil.copytree(with_ids[1], tmp_path / "other")
    shutil.copy(demo_vocabulary("demo").path, tmp_path / "other" / "spiece.model")
    checkpoints.open(tmp_path / "other").adopt_vocabulary()
    assert "ends its outputs with token 5, its vocabulary ends" in capsys.readouterr().err
    config = checkpoints.open(with_ids[1]).config
    with pytest.raises(UserError, match=r"ends its outputs with token 5.*ends texts with 1"):
        compatibility.check_vocabulary(config, NONE, Numbers())


# --------------------------------------------------------------------------- tensors and fields


@pytest.mark.parametrize("stack", ["encoder", "decoder"])
def test_a_second_embedding_is_compared(copy, stack):
    folder, tensors = copy
    name = f"{stack}.embed_tokens.weight"
    rewrite(folder, tensors | {name: tensors["shared.weight"].copy()})
    np.testing.assert_array_equal(models.load(folder)[1]["embedding"], tensors["shared.weight"])
    rewrite(folder, tensors | {name: tensors["shared.weight"][:, ::-1].copy()})
    with pytest.raises(UserError, match=f"{name} has other values than shared.weight"):
        models.load(folder)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_named(copy, value):
    folder, tensors = copy
    name = "decoder.block.1.layer.2.DenseReluDense.wo.weight"
    tensors[name][3, 2] = value
    rewrite(folder, tensors)
    refusal = f"the tensor {name} has values that are not finite"
    with pytest.raises(UserError, match=refusal):
        models.load(folder)
    checkpoint, out = checkpoints.open(folder), folder.with_name("out")
    for save in (export.save_run, lambda o, c, t: export.save_huggingface(t, c, o)):
        with pytest.raises(UserError, match=refusal):
            save(out / "model", checkpoint.config, checkpoint.assign()[0])
        assert list(out.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"architectures": ["T5EncoderModel"]}, "T5EncoderModel, an encoder without a decoder"),
        ({"architectures": ["T5ForSequenceClassification"]}, "a classifier of texts"),
        ({"feed_forward_proj": "gelu"}, r"feed_forward_proj \(in .*config.json\).*'gelu'"),
        ({"dense_act_fn": "silu"}, r"config.json: dense_act_fn is 'silu'.*expected 'relu'"),
        ({"d_ff": "28"}, r"config.json: d_ff is '28'; it must be a whole number"),
        ({"eos_token_id": [1, 5]}, r"eos_token_id is \[1, 5\] in config.json and 1 in generation"),
        ({"pad_token_id": 999}, "pad_token_id is 999 in config.json and 0 in generation"),
        ({"quantization_config": {"bits": 4}}, r"quantization_config is \{'bits': 4\}"),
        ({"tie_encoder_decoder": True}, r"config.json: tie_encoder_decoder is True"),
        ({"layer_norm_epsilon": "small"}, r"layer_norm_epsilon is 'small'"),
    ],
)
def test_configurations_of_other_models_are_refused_by_file_and_field(copy, changes, match):
    folder, _ = copy
    rewrite(folder, **changes)
    with pytest.raises(UserError, match=match):
        models.load(folder)


def test_settings_that_are_not_used_are_reported(copy, capsys):
    folder, _ = copy
    rewrite(folder, num_beams=4, n_positions=512, forced_bos_token_id=None)
    rewrite(folder, name="generation_config.json", max_length=20)
    models.load(folder)
    said = capsys.readouterr().err
    assert "config.json: num_beams = 4 is not used" in said
    assert "generation_config.json: max_length = 20 is not used" in said
    assert "n_positions" not in said
    assert "forced" not in said


@pytest.mark.parametrize("family", ["t5", "mt5", "umt5"])
def test_what_transformers_writes_itself_is_read_without_a_remark(family, tmp_path, capsys):
    models.load(models.saved(models.torch_model(family), tmp_path / "model"))
    assert " is not used" not in capsys.readouterr().err


def test_a_field_is_used_ignored_limited_or_reported():
    fields = Fields(understood=("a",), ignored=("b",), only={"c": (1, None)})
    assert fields.check({"a": 1, "b": 2, "c": 1, "d": None}, "x.json") == []
    assert fields.check({"d": [5]}, "x.json") == ["x.json: d = [5] is not used"]
    with pytest.raises(UserError, match=r"x.json: c is 2, which .* must be 1 or None"):
        fields.check({"c": 2}, "x.json")
    strict = Fields(understood=("a",), ignored=(), only={}, unknown_is_fatal=True)
    with pytest.raises(UserError, match=r"x.json: d is \[5\], which has no counterpart"):
        strict.check({"d": [5]}, "x.json")
