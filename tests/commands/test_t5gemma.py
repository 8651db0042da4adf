# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Every verb on a random T5Gemma that transformers saved, with a tokenizer as Gemma's."""

import json
import shutil

import gin
import jax
import numpy as np
import pytest
import seqio
import torch
import transformers

import mto_jax as mto
from mto_jax import checkpoints, cli
from mto_jax.commands.convert import convert
from mto_jax.errors import UserError
from mto_jax.models.adapters import Adapters, LoRA, PromptTuning
from mto_jax.models.config import T5GemmaConfig
from mto_jax.text2text import demo, registration, registry
from mto_jax.text2text.vocabulary import load
from tests import gemma_tokenizer
from tests.models import torch_t5gemma

TOOLS = ("saw", "cup", "pen", "knife", "boat", "bed", "spoon", "lamp")
LENGTHS = {"inputs": 32, "targets": 12}
DEMO = {"inputs": 64, "targets": 32}  # what its facts need in these tokens
# One layer a stack, with a window that the texts exceed.
SIZES = {"d_model": 16, "d_kv": 8, "num_heads": 2, "num_kv_heads": 1, "d_ff": 32}
LAYERS = {"num_encoder_layers": 1, "num_decoder_layers": 1, "query_scalar": 8, "window": 8}


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    monkeypatch.setattr(registration, "DATA_SETS", dict(registration.DATA_SETS))
    monkeypatch.setattr(registry, "_waiting", dict(registry._waiting))
    known = set(seqio.TaskRegistry.names())
    yield
    for task in set(seqio.TaskRegistry.names()) - known:
        seqio.TaskRegistry.remove(task)


@pytest.fixture(scope="module", autouse=True)
def _without_data(tmp_path_factory):
    """The small vocabulary stands for T5's, which SeqIO's tasks are made with."""
    data = tmp_path_factory.mktemp("data")
    (data / "vocab").mkdir()
    shutil.copy(demo.VOCABULARY, data / "vocab" / "t5_sentencepiece.model")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MTO_DATA_DIR", str(data))
        patch.setenv("MTO_CACHE_DIR", str(data / "cache"))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder as Transformers saves it."""
    place = tmp_path_factory.mktemp("t5gemma") / "model"
    texts = tuple(f"a {tool} is used for the {tool}s of a person" for tool in TOOLS)
    size = gemma_tokenizer.write(place, texts)
    config = T5GemmaConfig(vocab_size=-(-size // 128) * 128, **SIZES, **LAYERS)
    torch.manual_seed(0)
    settings = torch_t5gemma.settings(config)
    transformers.T5GemmaForConditionalGeneration(settings).save_pretrained(place)
    return place


@pytest.fixture
def facts(tmp_path):
    rows = (f"a {tool} number {i}\tuse {tool}" for tool in TOOLS for i in range(2))
    (tmp_path / "facts.tsv").write_text("\n".join(("tool\tuse", *rows)) + "\n")
    mto.register_file(
        "kitchen",
        str(tmp_path / "facts.tsv"),
        phrase="is used for",
        fields={"head": "tool", "tail": "use"},
    )


def logits(network, source, target):
    batch = {
        "encoder_input_tokens": source,
        "encoder_segment_ids": np.ones_like(source),
        "decoder_input_tokens": target,
        "decoder_segment_ids": np.ones_like(target),
    }
    return np.asarray(jax.jit(lambda m: m(batch))(network))


def their_logits(folder, source, target):
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder, attn_implementation="eager")
    with torch.no_grad():
        source, target = torch.tensor(source), torch.tensor(target)
        return model.eval()(input_ids=source, decoder_input_ids=target, use_cache=False).logits


def test_trained_evaluated_asked_and_back_in_transformers(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    task = "demo_AtLocation_masked_prompting"
    options = {"batch_size": 8, "lengths": DEMO, "validation_examples": 0}
    run = mto.train(str(folder), task, tmp_path / "run", steps=3, learning_rate=0.01, **options)
    assert run.metrics["train/loss"] > 0
    cli.main(["evaluate", "--gin.MODEL_DIR=run", "--gin.HEADS=3"])
    (scores,) = (tmp_path / "run" / "evaluation").glob("*/metrics.json")
    assert "rougeL" in scores.read_text()
    (tmp_path / "heads.txt").write_text("a cup\na saw\n")
    flags = ["--input_file=heads.txt", "--output_file=answers.jsonl"]
    gin.clear_config()
    cli.main(["infer", "--gin.MODEL_DIR=run", "--gin.Decoding.max_length=4", *flags])
    answers = [json.loads(line) for line in (tmp_path / "answers.jsonl").open()]
    assert [answer["input"] for answer in answers] == ["a cup", "a saw"]
    gin.clear_config()

    convert(source="run", to="hf", output="out")
    rng = np.random.default_rng(0)
    source, target = rng.integers(3, 300, (2, 11)), rng.integers(3, 300, (2, 7))
    target[:, 0] = 2
    trained = logits(run.load().network, source, target)
    np.testing.assert_allclose(their_logits("out", source, target), trained, atol=1e-4)
    assert np.abs(logits(mto.load(folder).network, source, target) - trained).max() > 1e-2
    words = transformers.AutoTokenizer.from_pretrained("out")("a saw is used").input_ids
    assert words == [2, *run.load().vocabulary.encode("a saw is used")]


def test_a_folder_is_matched_and_fine_tuned(folder, facts):
    model = mto.load(folder)
    assert isinstance(model.config, T5GemmaConfig)
    assert model.vocabulary.bos == (2,)
    matching = mto.match(model, ["kitchen"], scores=["ranks"], heads=4, lengths=LENGTHS)
    template = matching.templates["kitchen"]
    assert template in ("Prompting", "MaskedPrompting")

    options = {"epochs": 4, "learning_rate": 0.01, "lengths": LENGTHS}
    tuned = mto.fine_tune(model, "kitchen", "MaskedPrompting", **options)
    assert tuned.vocabulary.digest == model.vocabulary.digest
    source, target = ["a cup number 1 is used for <extra_id_0>"], ["<extra_id_0> use cup"]
    assert tuned.score(source, target)[0] > model.score(source, target)[0] + 1


def test_a_masked_template_needs_a_sentinel(folder, facts):
    gin.bind_parameter("sentinel_tokens.pattern", "")
    load.cache_clear()
    with pytest.raises(UserError, match="no sentinel <extra_id_0>: .* has none.*sentinel_tokens"):
        mto.fine_tune(mto.load(folder), "kitchen", "MaskedPrompting", lengths=LENGTHS)
    load.cache_clear()


@pytest.mark.parametrize(
    ("method", "template"), [(PromptTuning(2), "MaskedFirstPT"), (LoRA(2), "MaskedPrompting")]
)
def test_adapters_are_tuned_and_go_to_peft(folder, facts, tmp_path, method, template):
    options = {"learning_rates": [0.3], "epochs": 1, "shots": 2, "dev_heads": 0}
    mto.tune(folder, ["kitchen"], [template], method, tmp_path / "out", lengths=LENGTHS, **options)
    (adapter,) = {path.parent for path in (tmp_path / "out").glob("*/mto.json")}
    assert mto.load(adapter).network.adapters == Adapters.of(method)
    convert(source=str(adapter), to="peft", output=str(tmp_path / "peft"))
    written = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str(folder)
    assert mto.load(tmp_path / "peft").network.adapters == Adapters.of(method)


def test_adapted_on_pairs_of_sentences(folder, tmp_path):
    options = {"method": "phrases", "groups": "length", "max_pairs": 12}
    run = mto.adapt(folder, "demo", tmp_path / "run", epochs=1, lengths=DEMO, **options)
    assert run.metrics["dev/adaptation_mixed/loss"] > 0
    assert checkpoints.open(run.folder).config.family == "t5gemma"


GRID = """
include 'tables/grid.gin'
MODELS = {"gemma": %MODEL}
SEEDS = [0]
TEST_HEADS = 3
TASK_FEATURE_LENGTHS = {"inputs": 64, "targets": 32}
Grid.name = "gemma"
Grid.metric = "rougeL"
Grid.model = ["gemma"]
Grid.template = ["MaskedPrompting"]
Grid.task = ["demo_AtLocation"]
Grid.method = ["frozen", "fine_tune"]
Grid.shots = [2]
fine/Tuning.epochs = 1
tables.tables = [@main/Table()]
main/Table.name = "main"
main/Table.rows = "method"
tables.figures = []
"""


def test_a_grid_has_its_tables(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.gin").write_text(f"MODEL = {str(folder)!r}\n{GRID}")
    cli.main(["tables", "--gin_file=grid.gin", "--gin.OUTPUT_DIR=out"])
    rows = (tmp_path / "out" / "cells.csv").read_text().splitlines()
    assert len(rows) == 1 + 2
    assert "fine_tune" in (tmp_path / "out" / "tables" / "main.md").read_text()


def test_the_published_grid_is_counted_without_its_models(tmp_path, capsys):
    flags = ["--gin_file=tables/t5gemma.gin", f"--gin.OUTPUT_DIR={tmp_path}", "--dry_run"]
    cli.main(["tables", *flags])
    said = capsys.readouterr().out
    assert said.startswith("t5gemma: 1280 cells")
    assert "1152 trainings, 13,440 to 34,560 steps" in said


def test_advice_and_a_trajectory(folder, facts, tmp_path):
    options = {"epochs": 1, "seeds": [0], "lengths": LENGTHS, "test_heads": 3}
    advice = mto.advise(
        folder, "kitchen", tmp_path / "advice", template="MaskedPrompting", heads=3, probe_shots=3,
        strategies=["frozen", "lora"], rates={"lora": [1e-3]}, dev_heads=2, adapter_epochs=1,
        **options,
    )  # fmt: skip
    assert advice.recommended in ("frozen", "lora")
    both = {"first": str(folder), "second": str(folder)}
    course = mto.trajectory(
        both, ["kitchen"], ["MaskedPrompting"], tmp_path / "course", shots=[2], **options
    )
    assert course.classes.keys() == {"kitchen"}


def test_a_gemma_2_becomes_one_that_trains(folder, tmp_path, monkeypatch, capsys):
    """Cross-attention alone, then all of it, by the commands that `convert` prints."""
    monkeypatch.chdir(tmp_path)
    vocab_size = checkpoints.open(folder).config.vocab_size
    decoder = torch_t5gemma.settings(T5GemmaConfig(vocab_size=vocab_size, **SIZES, **LAYERS))
    names = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "head_dim")
    names += ("num_attention_heads", "num_key_value_heads", "query_pre_attn_scalar")
    config = transformers.Gemma2Config(**{n: getattr(decoder.decoder, n) for n in names})
    transformers.Gemma2ForCausalLM(config).save_pretrained("gemma2")
    shutil.copy(folder / "tokenizer.json", "gemma2")
    cli.main(["convert", "--from=gemma2", "--to=encoder_decoder", "--output=start"])
    said = capsys.readouterr().out
    assert "its cross-attention is the decoder's self-attention" in said
    (trainable,) = {word for word in said.split() if word.startswith("--gin.train.trainable=")}
    pattern = trainable.partition("=")[2].strip("\"'")

    options = {"batch_size": 8, "lengths": DEMO, "validation_examples": 0, "steps": 2}
    warm = mto.train("start", "demo_prefix_lm", "warm", trainable=pattern, **options)
    (start, after) = (checkpoints.open(place).parameters() for place in ("start", warm.folder))
    moved = {name for name in start if not np.array_equal(start[name], after[name])}
    assert moved == {name for name in start if "cross_attention" in name}
    mto.train("warm", "demo_prefix_lm", "adapted", **options)
    adapted = checkpoints.open("adapted").parameters()
    assert not np.array_equal(adapted["encoder.layers.mlp.wo"], after["encoder.layers.mlp.wo"])
