# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The verb `convert` on runs and folders with adapters: merged, beside the model, or by
themselves."""

import dataclasses
import json

import gin
import huggingface_hub
import jax
import numpy as np
import peft as hf_peft
import pytest
import transformers
from flax import nnx

from mto_jax import checkpoints
from mto_jax.checkpoints import export, peft
from mto_jax.checkpoints.lazy import in_memory
from mto_jax.commands.convert import convert
from mto_jax.errors import UserError
from mto_jax.models.adapters import IA3, NONE, Adapters, LoRA, PrefixTuning, PromptTuning
from mto_jax.models.t5 import T5
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.training import multi_adapter, state
from tests import small_hub
from tests.checkpoints import models
from tests.tiny_run import MODEL, run

DEMO = vocabularies.vocabulary("demo")
SMALL = dataclasses.replace(MODEL, vocab_size=DEMO.padded_size, dropout_rate=0.0)
BOTH = Adapters((PromptTuning(3, encoder="residual", width=4), LoRA(2)))


def random_adapter(adapters: Adapters, seed: int = 0) -> dict[str, np.ndarray]:
    spec = state.abstract_model(lambda rngs: T5(SMALL, rngs, adapters))
    rng = np.random.default_rng(seed)
    names = spec.shapes.keys() - base_parameters().keys()
    return {
        name: rng.normal(0.2, 0.3, spec.shapes[name].shape).astype(np.float32) for name in names
    }


def base_parameters() -> dict[str, jax.Array]:
    return state.by_name(T5(SMALL, nnx.Rngs(0)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A base model of ours, adapters of it as folders, and a run that trained a prompt and LoRA on
    it."""
    folder = tmp_path_factory.mktemp("adapters")
    tensors = {name: in_memory(value) for name, value in base_parameters().items()}
    export.save_run(folder / "base", SMALL, tensors, vocabulary=DEMO, vocabulary_name="demo")
    fingerprint = peft.one_fingerprint(state.fingerprints(base_parameters()))
    about = {
        "base": {"path": str(folder / "base"), "fingerprint": fingerprint},
        "vocabulary": DEMO.digest,
    }
    for name, adapters in {
        "lora": Adapters((LoRA(2, targets=("key", "wo")), IA3())),
        "prompt": Adapters.of(PromptTuning(3)),
        "prefix": Adapters.of(PrefixTuning(2)),
    }.items():
        peft.save_adapter(folder / name, adapters, random_adapter(adapters), about)
    run(
        folder / "data",
        model=SMALL,
        model_dir=str(folder / "run"),
        adapters=BOTH,
        initial_checkpoint_path=str(folder / "base"),
        train_steps=2,
    )
    gin.clear_config()
    return folder


def our_logits(model: T5, soft: int = 0) -> np.ndarray:
    source, target = models.tokens(DEMO.size)
    ids = np.tile(np.arange(soft, dtype=np.int32) + SMALL.vocab_size, (2, 1))
    source = np.concatenate([ids, source], axis=1)
    batch = {
        "encoder_input_tokens": source,
        "encoder_segment_ids": (source != 0).astype(np.int32),
        "decoder_input_tokens": target,
        "decoder_segment_ids": np.ones_like(target),
    }
    return np.array(jax.jit(model)(batch))


def tuned(path) -> T5:
    model = state.abstract_model(lambda rngs: T5(SMALL, rngs)).merge(base_parameters())
    return multi_adapter.attach(model, *peft.load_adapter(path)[:2])


def theirs(path):
    return transformers.AutoModelForSeq2SeqLM.from_pretrained(path).eval()


def test_lora_and_ia3_are_merged(folder, tmp_path):
    expected = our_logits(tuned(folder / "lora"))
    convert(source=str(folder / "lora"), to="hf", output=str(tmp_path / "hf"))
    found = models.torch_logits(theirs(tmp_path / "hf"), *models.tokens(DEMO.size))
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    assert (tmp_path / "hf" / "spiece.model").is_file()
    convert(source=str(folder / "lora"), to="native", output=str(tmp_path / "run"))
    _, merged = models.load(tmp_path / "run")
    assert merged.keys() == base_parameters().keys()
    _, again = models.load(tmp_path / "hf")
    for name, value in merged.items():
        np.testing.assert_array_equal(again[name], value, err_msg=name)


def test_a_prompt_lies_beside_the_model(folder, tmp_path, capsys):
    expected = our_logits(tuned(folder / "prompt"), soft=3)
    convert(source=str(folder / "prompt"), to="hf", output=str(tmp_path / "hf"))
    assert "prompt, its soft prompt" in capsys.readouterr().out
    model = hf_peft.PeftModel.from_pretrained(theirs(tmp_path / "hf"), tmp_path / "hf" / "prompt")
    found = models.torch_logits(model.eval(), *models.tokens(DEMO.size))
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    with pytest.raises(UserError, match="--to=native has no place for"):
        convert(source=str(folder / "prompt"), to="native", output=str(tmp_path / "run"))
    with pytest.raises(UserError, match="prefix2 cannot be merged"):
        convert(source=str(folder / "prefix"), to="hf", output=str(tmp_path / "prefix"))
    assert not (tmp_path / "prefix").exists()


def test_a_bare_prompt_becomes_a_folder_of_peft(folder, tmp_path, capsys):
    source = str(folder / "prompt" / "prompt.npy")
    with pytest.raises(UserError, match=r"does not say what model .* base_checkpoint\.path"):
        convert(source=source, to="peft", output=str(tmp_path / "prompt"))
    gin.bind_parameter("base_checkpoint.path", str(folder / "base"))
    convert(source=source, to="peft", output=str(tmp_path / "prompt"))
    settings = json.loads((tmp_path / "prompt" / "adapter_config.json").read_text())
    assert settings["num_virtual_tokens"] == 3
    assert f"PEFT cannot load the base model {folder / 'base'}" in capsys.readouterr().out
    # The base in Hugging Face's form, once: then AutoPeftModel finds it.
    convert(source=str(folder / "base"), to="hf", output=str(tmp_path / "hf"))
    with gin.unlock_config():
        gin.bind_parameter("base_checkpoint.path", str(tmp_path / "hf"))
    convert(source=source, to="peft", output=str(tmp_path / "loads"))
    model = hf_peft.AutoPeftModelForSeq2SeqLM.from_pretrained(tmp_path / "loads").eval()
    found = models.torch_logits(model, *models.tokens(DEMO.size))
    expected = our_logits(tuned(folder / "prompt"), soft=3)
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)
    with gin.unlock_config():
        gin.bind_parameter("base_checkpoint.path", str(folder / "base"))
    told = peft.load_adapter(tmp_path / "prompt")[2]
    expected = peft.load_adapter(folder / "prompt")[2]["base"]
    assert told["base"] == expected | {"family": "t5"}


def test_a_run_with_adapters(folder, tmp_path, capsys):
    """What was trained comes out by itself, or with the model that it was trained on."""
    trained = checkpoints.open(folder / "run").model(DEMO)
    expected = our_logits(trained, soft=3)
    convert(source=str(folder / "run"), to="hf", output=str(tmp_path / "hf"))
    model = hf_peft.PeftModel.from_pretrained(theirs(tmp_path / "hf"), tmp_path / "hf" / "prompt")
    found = models.torch_logits(model.eval(), *models.tokens(DEMO.size))
    np.testing.assert_allclose(found, expected, atol=1e-4, rtol=1e-4)

    convert(source=str(folder / "run"), to="peft", output=str(tmp_path / "both"))
    assert peft.load_adapter(tmp_path / "both")[0] == BOTH.folded
    np.testing.assert_allclose(our_logits(tuned(tmp_path / "both"), soft=3), expected, atol=1e-5)
    told = peft.load_adapter(tmp_path / "both")[2]
    assert told["info"] == {"run": str(folder / "run"), "step": 2}
    base = peft.load_adapter(folder / "lora")[2]["base"]
    assert told["base"]["fingerprint"] == base["fingerprint"]
    assert told["base"]["path"].startswith(base["path"])
    capsys.readouterr()
    convert(inspect=str(tmp_path / "both"))
    text = capsys.readouterr().out
    assert "prompt3-lora2" in text
    assert "info        step 2" in text


def test_another_model_is_refused(folder, tmp_path):
    other = {name: in_memory(value * 2) for name, value in base_parameters().items()}
    export.save_run(tmp_path / "other", SMALL, other, vocabulary=DEMO, vocabulary_name="demo")
    gin.bind_parameter("base_checkpoint.path", str(tmp_path / "other"))
    for source in ("lora", "run"):
        with pytest.raises(UserError, match="was trained on .*other"):
            convert(source=str(folder / source), to="hf", output=str(tmp_path / "hf"))
    with gin.unlock_config():
        gin.bind_parameter("base_checkpoint.path", str(tmp_path / "gone"))
    with pytest.raises(UserError, match=r"gone, which is not to be had.*base_checkpoint\.path"):
        convert(source=str(folder / "lora"), to="hf", output=str(tmp_path / "hf"))
    narrow = dataclasses.replace(SMALL, d_model=8)
    parameters = state.by_name(T5(narrow, nnx.Rngs(0)))
    tensors = {name: in_memory(value) for name, value in parameters.items()}
    export.save_run(tmp_path / "narrow", narrow, tensors, vocabulary=DEMO, vocabulary_name="demo")
    with gin.unlock_config():
        gin.bind_parameter("base_checkpoint.path", str(tmp_path / "narrow"))
    with pytest.raises(UserError, match=r"does not fit the model .*prompt.table is \[3, 16\]"):
        convert(source=str(folder / "prompt"), to="hf", output=str(tmp_path / "hf"))
    with pytest.raises(UserError, match="has no adapter; --to=hf"):
        convert(source=str(folder / "base"), to="peft", output=str(tmp_path / "hf"))
    assert not (tmp_path / "hf").exists()
    assert peft.load_adapter(folder / "lora")[0] != NONE


@pytest.fixture
def hub(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", small_hub.SmallHub.token)
    with small_hub.running(tmp_path / "hub", monkeypatch) as hub:
        yield hub


def test_a_model_with_its_prompt_is_pushed(folder, hub, tmp_path, capsys):
    output = str(tmp_path / "mine")
    convert(
        source=str(folder / "prompt"),
        to="hf",
        output=output,
        push="org/mine",
        private=True,
        license="mit",
        language="en,de",
    )
    assert f"pushed {output} to http" in capsys.readouterr().out
    asked = hub.made["org/mine"]
    assert asked.get("visibility") == "private" or asked.get("private")  # by the client's version
    pushed = {p.relative_to(hub.folder / "org/mine") for p in (hub.folder / "org").rglob("*.*")}
    assert {str(path) for path in pushed} >= {"model.safetensors", "prompt/prompt.npy"}
    for path in pushed:
        assert (hub.folder / "org/mine" / path).read_bytes() == (
            tmp_path / "mine" / path
        ).read_bytes()
    data = huggingface_hub.ModelCard.load(hub.folder / "org/mine/README.md").data
    assert (data.license, data.language) == ("mit", ["en", "de"])
    config = json.loads((hub.folder / "org/mine/prompt/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/mine"
    card = (hub.folder / "org/mine/README.md").read_text()
    assert 'AutoModelForSeq2SeqLM.from_pretrained("org/mine")' in card
    # And back, as hf://org/mine.
    _, again = models.load("hf://org/mine")
    np.testing.assert_array_equal(again["embedding"], base_parameters()["embedding"])


def test_an_adapter_is_pushed(folder, hub, tmp_path):
    convert(source=str(folder / "base"), to="hf", output=str(tmp_path / "base"), push="org/base")
    gin.bind_parameter("base_checkpoint.path", "hf://org/base")
    source = str(folder / "prompt")
    convert(source=source, to="peft", output=str(tmp_path / "prompt"), push="org/prompt")
    config = json.loads((hub.folder / "org/prompt/adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "org/base"
    data = huggingface_hub.ModelCard.load(hub.folder / "org/prompt/README.md").data
    assert (data.base_model, data.library_name) == ("org/base", "peft")
    _, parameters, description = peft.load_adapter(hub.folder / "org/prompt")
    assert description["base"]["path"] == "hf://org/base"
    expected = peft.load_adapter(folder / "prompt")[1]
    np.testing.assert_array_equal(parameters["prompt.table"], expected["prompt.table"])
    opened = checkpoints.open("hf://org/prompt")
    assert opened.adapters.prompt_rows == len(expected["prompt.table"])
    np.testing.assert_array_equal(opened.parameters()["prompt.table"], expected["prompt.table"])


def test_a_push_that_cannot_be_is_refused_before_anything_is_written(folder, tmp_path, monkeypatch):
    options = {"source": str(folder / "prompt"), "output": str(tmp_path / "out")}
    monkeypatch.setenv("HF_TOKEN", "hf_wrong")
    with small_hub.running(tmp_path / "hub", monkeypatch):
        with pytest.raises(UserError, match=r"does not take org/mine .*token may write"):
            convert(**options, to="hf", push="org/mine")
        with pytest.raises(UserError, match="--push=mine does not name a repository"):
            convert(**options, to="hf", push="mine")
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
        with pytest.raises(UserError, match="needs a token"):
            convert(**options, to="peft", push="org/mine")
    with pytest.raises(UserError, match="folders that others load"):
        convert(**options, to="native", push="org/mine")
    with pytest.raises(UserError, match="add --push"):
        convert(**options, to="hf", private=True)
    assert not (tmp_path / "out").exists()
