# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The Python face, on tiny random models: its documentation's example, and what it promises."""

import importlib.util
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import types

import gin
import numpy as np
import pytest
import sentencepiece
import seqio
from flax import nnx

import mto_jax as mto
from mto_jax import checkpoints
from mto_jax.adaptation import classifier
from mto_jax.decoding import scoring
from mto_jax.errors import UserError
from mto_jax.metrics import text
from mto_jax.models.adapters import Adapters, LoRA, PromptTuning
from mto_jax.models.t5 import T5
from mto_jax.text2text import demo, registration, registry
from mto_jax.text2text.vocabulary import Vocabulary
from tests import tiny

TOOLS = ("saw", "cup", "pen", "knife", "boat", "bed", "spoon", "lamp", "oven", "rope", "net", "axe")


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    """What a test registers does not reach other tests."""
    monkeypatch.setattr(registration, "DATA_SETS", dict(registration.DATA_SETS))
    monkeypatch.setattr(registry, "_waiting", dict(registry._waiting))
    known = set(seqio.TaskRegistry.names())
    yield
    for task in set(seqio.TaskRegistry.names()) - known:
        seqio.TaskRegistry.remove(task)


@pytest.fixture(autouse=True)
def _without_data(tmp_path_factory, monkeypatch):
    """Without data the small vocabulary stands for T5's, which SeqIO's tasks are made with."""
    if not os.environ.get("MTO_DATA_DIR"):
        folder = tmp_path_factory.mktemp("data")
        (folder / "vocab").mkdir()
        shutil.copy(demo.VOCABULARY, folder / "vocab" / "t5_sentencepiece.model")
        monkeypatch.setenv("MTO_DATA_DIR", str(folder))


@pytest.fixture
def rows(monkeypatch):
    """Frames are the lists of their rows, whether pandas is installed or not."""
    monkeypatch.setitem(sys.modules, "pandas", types.SimpleNamespace(DataFrame=list))


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("face") / "model"
    tiny.write(folder)
    return folder


@pytest.fixture(scope="module")
def model(folder) -> mto.Model:
    return mto.load(folder)


def _facts(folder: pathlib.Path) -> None:
    rows = (f"a {tool} number {i}\tuse {tool}" for tool in TOOLS for i in range(3))
    (folder / "facts.tsv").write_text("\n".join(("tool\tuse", *rows)) + "\n")


def test_the_example_of_the_documentation(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _facts(tmp_path)
    page = (pathlib.Path(__file__).parents[1] / "docs" / "python.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    names: dict = {}
    exec(code.replace("hf://google/flan-t5-small", str(folder)), names)

    matching, template = names["matching"], names["template"]
    assert {verdict.score for verdict in matching.verdicts} >= {"MI(0)", "MI(5)"}
    assert template in ("Prompting", "MaskedPrompting")
    assert template in capsys.readouterr().out

    # Training on facts of one form makes such facts likelier, and leaves the model as it was.
    after, before = names["after"], names["before"]
    assert len(after.rows) == len(before.rows) > 0
    assert {row["input"] for row in after.rows} == {row["input"] for row in before.rows}
    expected = text.rouge(after.references, after.predictions)
    assert after.values()["rougeL"] == pytest.approx(expected["rougeL"])
    source, target = [before.rows[0]["input"]], [f"<extra_id_0> {before.references[0][0]}"]
    likelihoods = [names[name].score(source, target)[0] for name in ("model", "tuned")]
    assert likelihoods[0] < likelihoods[1]
    saved = mto.load("kitchen-t5")
    assert saved.score(source, target)[0] == pytest.approx(likelihoods[1], rel=1e-5)
    assert saved.generate(source) == names["tuned"].generate(source)
    assert gin.config_str() == ""


def test_scores_are_sums_of_log_probabilities(model):
    sources, targets = ["a cup is used for", "milk"], ["drinking tea", "the fridge in the kitchen"]
    scores = model.score(sources, targets)
    for source, target, score in zip(sources, targets, scores, strict=True):
        ids = [[*model.vocabulary.encode(t), model.vocabulary.eos_id] for t in (source, target)]
        batch = {
            "encoder_input_tokens": np.array([ids[0]], np.int32),
            "encoder_segment_ids": np.ones((1, len(ids[0])), np.int32),
            "decoder_input_tokens": np.array([[0, *ids[1][:-1]]], np.int32),
            "decoder_segment_ids": np.ones((1, len(ids[1])), np.int32),
            "decoder_target_tokens": np.array([ids[1]], np.int32),
        }
        expected = scoring.token_scores(model.network, batch).log_prob_BxT.sum()
        assert score == pytest.approx(float(expected), rel=1e-4)


def test_predictions_have_the_likelihood_that_scoring_gives(model):
    source = ["a cup is used for"]
    predictions = model.predict(source, max_length=4, beams=3, num_outputs=3, length_penalty=0.0)
    outputs = predictions.outputs[0]
    assert [o.score for o in outputs] == sorted((o.score for o in outputs), reverse=True)
    assert predictions.texts == model.generate(source, max_length=4, beams=3, length_penalty=0.0)
    assert all(o.score == pytest.approx(o.log_likelihood, rel=1e-4) for o in outputs)


def test_models_with_different_vocabularies_live_side_by_side(model, tmp_path):
    text_file = tmp_path / "text.txt"
    text_file.write_text("another small vocabulary is trained on these few words\n" * 20)
    sentencepiece.SentencePieceTrainer.train(
        input=str(text_file),
        model_prefix=str(tmp_path / "other"),
        vocab_size=40,
        hard_vocab_limit=False,
        **{"pad_id": 0, "eos_id": 1, "unk_id": 2, "bos_id": -1, "minloglevel": 2},
    )
    vocabulary = Vocabulary(str(tmp_path / "other.model"))
    network = T5(tiny.CONFIG, nnx.Rngs(1))
    classifier.save(network, tmp_path / "other", vocabulary)
    vocabulary.save(tmp_path / "other")
    other = mto.load(tmp_path / "other")
    assert (other.vocabulary.digest, model.vocabulary.digest) == (
        vocabulary.digest,
        checkpoints.open(model.title).find_vocabulary()[1].digest,
    )
    source, target = ["small words"], ["few"]
    before = model.score(source, target)
    assert other.score(source, target) != pytest.approx(before)
    assert model.score(source, target) == pytest.approx(before)
    assert gin.get_bindings("vocabulary") == {}


def test_prepared_examples_are_taken_by_a_training_run_that_resumes(folder, tmp_path, capfd, rows):
    data = {"lengths": {"inputs": 48, "targets": 24}, "corpora": {"lines": str(tmp_path / "a.txt")}}
    (tmp_path / "a.txt").write_text(
        "".join(f"Saw {i} is used for cutting wood.\n" for i in range(40))
    )
    prepared = mto.prepare("lines_span_corruption", vocabulary="demo", **data)
    assert (prepared.name, prepared.split) == ("lines_span_corruption", "train")
    assert prepared.num_examples == len(prepared.lengths()) > 0
    assert [row["examples"] for row in prepared.to_pandas()] == [prepared.num_examples]

    capfd.readouterr()
    options = {**data, "batch_size": 8, "validation_examples": 0, "log_period": 2}
    run = mto.train(tiny.CONFIG, "lines_span_corruption", tmp_path / "run", steps=4,
                    vocabulary="demo", **options)  # fmt: skip
    assert "preparing lines_span_corruption (train)" not in capfd.readouterr().err
    log = run.to_pandas()
    assert [row["step"] for row in log] == [1, 2, 4]
    assert log[-1]["train/loss"] == pytest.approx(run.metrics["train/loss"])
    again = mto.train(tiny.CONFIG, "lines_span_corruption", tmp_path / "run", steps=6,
                      vocabulary="demo", **options)  # fmt: skip
    steps = [row["step"] for row in again.to_pandas()]
    assert (steps[:3], steps[-1]) == ([1, 2, 4], 6)
    assert run.load().vocabulary.digest == mto.load(folder).vocabulary.digest

    # From a checkpoint: its sizes and vocabulary; the log's first loss is that of a trained model.
    onward = mto.train(run.folder, "lines_span_corruption", tmp_path / "on", steps=2, **options)
    assert onward.metrics["train/loss"] < log[0]["train/loss"]
    assert onward.load().config.d_model == tiny.CONFIG.d_model
    assert gin.config_str() == ""


def test_adapting_to_sentences_trains_on_their_pairs(folder, tmp_path):
    options = {"lengths": {"inputs": 48, "targets": 24}, "method": "phrases", "groups": "length"}
    run = mto.adapt(folder, "demo", tmp_path / "run", epochs=1, max_pairs=20, **options)
    report = json.loads((run.folder / "adaptation" / "report.json").read_text())
    assert report["report"]["kept"] == 20
    assert run.metrics["dev/adaptation_mixed/loss"] > 0
    source, target = ["a cup is used for"], ["drinking tea"]
    assert run.load().score(source, target) != pytest.approx(mto.load(folder).score(source, target))
    none = mto.adapt(folder, "demo", tmp_path / "none", objective="none")
    assert none.load().score(source, target) == mto.load(folder).score(source, target)
    assert gin.config_str() == ""


def test_tuned_adapters_are_a_frame_and_load_on_their_base(folder, tmp_path, monkeypatch, rows):
    monkeypatch.chdir(tmp_path)
    _facts(tmp_path)
    mto.register_file("tools", "facts.tsv", phrase="is for", fields={"head": "tool", "tail": "use"})
    results = mto.tune(folder, ["tools"], ["MaskedPrompting"], LoRA(2), tmp_path / "out",
                       learning_rates=[0.3], epochs=1, shots=2, dev_heads=0)  # fmt: skip
    by_method = {row["method"]: row for row in results.to_pandas()}
    assert by_method.keys() == {"adapter_tune", "frozen"}
    assert by_method["adapter_tune"]["adapter"] == "lora2"
    assert 0 <= by_method["adapter_tune"]["rougeL"] <= 1
    (adapter,) = {path.parent for path in (tmp_path / "out").glob("*/mto.json")}
    assert mto.load(adapter).network.adapters == Adapters.of(LoRA(2))
    assert gin.config_str() == ""


def test_advice_and_a_trajectory_are_frames(folder, tmp_path, monkeypatch, rows):
    monkeypatch.chdir(tmp_path)
    _facts(tmp_path)
    mto.register_file("tools", "facts.tsv", phrase="is for", fields={"head": "tool", "tail": "use"})
    advice = mto.advise(
        folder, "tools", tmp_path / "advice", template="Prompting", strategies=["frozen", "full"],
        probe_shots=3, epochs=1, seeds=[0], rates={"full": [1e-3]}, heads=3, dev_heads=2,
    )  # fmt: skip
    assert advice.recommended in ("frozen", "full")
    assert advice.command.endswith("advice.gin")
    frame = {row["strategy"]: row for row in advice.to_pandas()}
    assert frame["frozen"]["trained_parameters"] == 0 < frame["full"]["trained_parameters"]
    assert frame["full"]["low"] <= frame["full"]["value"] <= frame["full"]["high"]

    both = {"first": str(folder), "second": str(folder)}
    course = mto.trajectory(
        both, ["tools"], ["Prompting"], tmp_path / "course", asked=["demo_xIntent"], shots=[2],
        seeds=[0], epochs=1,
    )  # fmt: skip
    assert course.classes.keys() == {"tools"}
    assert all({"checkpoint", "replay", "difference"} <= row.keys() for row in course.to_pandas())
    assert gin.config_str() == ""


def test_wrong_input_is_named(model, tmp_path):
    with pytest.raises(UserError, match="a list of texts"):
        model.generate("a cup")
    with pytest.raises(UserError, match="2 sources, but 1 targets"):
        model.score(["a", "b"], ["c"])
    with pytest.raises(UserError, match="Did you mean 'temperature'"):
        model.generate(["a"], temperatur=1.0)
    with pytest.raises(UserError, match="Did you mean 'MaskedPrompting'"):
        mto.fine_tune(model, "demo_ObjectUse", "MaskPrompting")
    with pytest.raises(UserError, match="Did you mean 'demo_ObjectUse'"):
        mto.evaluate(model, "demo_ObjectUs", "MaskedPrompting")
    with pytest.raises(UserError, match="split"):
        mto.evaluate(model, "demo_ObjectUse", "MaskedPrompting", split="held out")
    with pytest.raises(UserError):
        mto.load(tmp_path / "nothing")
    with pytest.raises(UserError, match="Did you mean 'demo_span_corruption'"):
        mto.prepare("demo_span_coruption", vocabulary="demo")
    with pytest.raises(UserError, match="nothing is not there"):
        mto.train(tmp_path / "nothing", "demo_span_corruption", tmp_path / "run", steps=1)
    with pytest.raises(UserError, match="Did you mean 'denoising'"):
        mto.adapt(model.title, "demo", tmp_path / "run", objective="denoissing")
    with pytest.raises(UserError, match="Did you mean 'MaskedPrePT'"):
        mto.tune(model.title, ["demo_ObjectUse"], ["MaskedPreTP"], PromptTuning(2), tmp_path)
    assert gin.config_str() == ""


def test_data_frames(model, monkeypatch):
    predictions = model.predict(["a", "b"], max_length=2, beams=2, num_outputs=2)
    if importlib.util.find_spec("pandas"):
        frame = predictions.to_pandas()
        assert frame["input"].tolist() == ["a", "a", "b", "b"]
        assert frame["rank"].tolist() == [0, 1, 0, 1]
        assert frame["text"][0] == predictions.texts[0]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UserError, match="pip install pandas"):
        predictions.to_pandas()


def test_the_import_is_light_and_names_are_found():
    code = (
        "import sys, mto_jax as mto\n"
        "assert not {'jax', 'tensorflow', 'numpy', 'gin'} & set(sys.modules)\n"
        "assert set(mto.__all__) <= set(dir(mto))\n"
        "from mto_jax import api\n"
        "assert all(getattr(mto, name) is getattr(api, name) for name in mto.__all__)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with pytest.raises(AttributeError, match="no attribute 'fine_tuned'"):
        mto.fine_tuned
