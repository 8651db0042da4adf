# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""`mto tune` from checkpoint to table, on two tasks of a few records and a tiny random model."""

import dataclasses
import itertools
import json

import gin
import numpy as np
import pytest

from mto_jax import checkpoints, config
from mto_jax.adaptation import classifier
from mto_jax.checkpoints import peft
from mto_jax.commands import tune as tune_lib
from mto_jax.errors import UserError
from mto_jax.evaluation import evaluator
from mto_jax.models.adapters import Adapters, LoRA, PromptTuning
from mto_jax.models.adapters.prompt_init import PromptInit
from mto_jax.text2text.record_sets import RecordSet
from mto_jax.text2text.records import Triple
from mto_jax.text2text.templates import TEMPLATES, SoftPrompt, Wording
from mto_jax.training.multi_adapter import ManyTuning, attach
from mto_jax.training.optimizers import Optimizer
from mto_jax.tuning import report, results, runs
from mto_jax.tuning.results import Result
from tests.matching.common import QUESTIONS, VOCABULARY, model

LENGTHS = {"inputs": 32, "targets": 16}
TUNING = ManyTuning(epochs=2, batch_size=4, optimizer=Optimizer("adafactor", 0.1), evaluations=2)
PROMPT = Adapters.of(PromptTuning(3))
RELATIONS = {"uses": "is used for", "places": "is found at"}


def records(relation: str, split: str) -> list[Triple]:
    """Six heads with two tails each; heads differ between splits."""
    words = {"train": "saw cup pen bed car dog", "validation": "key hat", "test": "map bus box"}
    return [
        Triple(relation, relation, f"a {head}", tails)
        for head in words[split].split()
        for tails in ([("work",), ("home",)] if split == "train" else [("work", "home")])
    ]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tune") / "model"
    classifier.save(model(), folder, VOCABULARY)
    return str(folder)


@pytest.fixture
def read(monkeypatch):
    """Records that need no process of their own."""

    def read(wanted, module):
        del module
        return [
            RecordSet(
                one.task,
                "triple",
                Wording(RELATIONS[one.task]),
                tuple(records(one.task, one.split)),
            )
            if one.task in RELATIONS
            else RecordSet(one.task, QUESTIONS.kind, QUESTIONS.wording, QUESTIONS.held_out)
            for one in wanted
        ]

    monkeypatch.setattr(runs, "read", read)


@pytest.fixture
def call(read, checkpoint, tmp_path):
    """Runs `tune` in `out`."""
    gin.bind_parameter("vocabulary.name", "demo")

    def call(**changes):
        options = {
            "tasks": ["uses"],
            "templates": ["MaskedPrePT"],
            "initial_checkpoint_path": checkpoint,
            "output_dir": str(tmp_path / "out"),
            "task_feature_lengths": LENGTHS,
            "adapters": PROMPT,
            "shots": 3,
            "tuning": TUNING,
        }
        return tune_lib.tune(**(options | changes))

    return call


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def never(*arguments, **options):
    raise AssertionError("computed again")


def test_a_folder_for_every_run_a_table_and_a_figure(call, out, checkpoint, monkeypatch, capsys):
    options = {"tasks": ["uses", "places"], "learning_rates": [0.3], "init": PromptInit("phrase")}
    found = call(**options)
    assert len(found) == 2
    names = {path.name for path in out.iterdir() if path.is_dir()}
    assert names == {one.name for one in found} | {"frozen"}
    assert "uses-MaskedPrePT-prompt3-lr0.3-seed0" in names
    assert not list(out.glob("*.npz"))

    # A folder holds what was asked: PEFT's form, its origin, and the answers of the model with it.
    one = next(r for r in found if r.name == "places-MaskedPrePT-prompt3-lr0.3-seed0")
    adapters, parameters, description = peft.load_adapter(out / one.name)
    assert adapters == PROMPT
    assert (out / one.name / "adapter_model.safetensors").exists()
    assert (description["task"], description["template"]) == ("places", "MaskedPrePT")
    assert description["vocabulary"] == VOCABULARY.digest
    assert description["base"]["path"] == checkpoint
    base = checkpoints.open(checkpoint).model(VOCABULARY)
    task = dataclasses.replace(
        QUESTIONS,
        name="places",
        kind="triple",
        wording=Wording(RELATIONS["places"]),
        held_out=tuple(records("places", "test")),
        metrics=None,
    )
    answers = evaluator.evaluate_records(
        attach(base, adapters, parameters),
        task,
        TEMPLATES["MaskedPrePT"],
        VOCABULARY,
        LENGTHS,
        soft=SoftPrompt(length=3),
    )
    assert one.predictions == answers.predictions
    assert one.scores == answers.scores["rougeL"]

    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    assert [Result(**line) for line in lines] == found
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "MaskedPrePT" in capsys.readouterr().out

    # The same command again computes nothing, and one with a seed more that seed alone.
    times = {path: path.stat().st_mtime_ns for path in out.rglob("*.json")}
    with monkeypatch.context() as patch:
        patch.setattr(tune_lib, "tune_many", never)
        patch.setattr(tune_lib, "evaluate_records", never)
        assert call(**options) == found
    more = call(**options, seeds=[0, 1])
    assert [one for one in more if one.seed == 0] == found
    assert {path: path.stat().st_mtime_ns for path in times} == times
    table = (out / "table.md").read_text()
    assert table.count("| uses |") == 1
    assert table.count("| mean of 2 tasks |") == 1
    assert table.count("| 2, deviation") == 3

    # Nor is anything taken for what it is not.
    with pytest.raises(UserError, match="another configuration.*init"):
        call(**options | {"init": None})
    with pytest.raises(UserError, match="another configuration.*train"):
        call(**options, shots=2)
    with pytest.raises(UserError, match="another configuration.*epochs=3"):
        call(**options, tuning=dataclasses.replace(TUNING, epochs=3))


def test_it_goes_on_where_it_was_interrupted(call, out, tmp_path, monkeypatch):
    whole = call(seeds=[0, 1, 2], at_once=2, output_dir=str(tmp_path / "whole"))
    counts = itertools.count(1)
    evaluate = evaluator.evaluate_records

    def interrupted(*arguments, **options):
        if next(counts) == 3:  # the frozen model, one tuned model, ...
            raise KeyboardInterrupt
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(tune_lib, "evaluate_records", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call(seeds=[0, 1, 2], at_once=2)
    assert len(list(out.glob("*/mto.json"))) == 3
    assert len(list(out.glob("*/results.json"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(tune_lib, "tune_many", never)
        assert call(seeds=[0, 1, 2], at_once=2) == whole

    # What is missing is trained, the rest stays.
    (gone,) = out.glob("*seed1")
    for path in gone.iterdir():
        path.unlink()
    again = call(seeds=[0, 1, 2], at_once=2)
    assert [one.scores for one in again] == [one.scores for one in whole]
    np.testing.assert_allclose(again[1].dev_loss, whole[1].dev_loss, rtol=1e-5)


def test_seeds_draw_other_heads_and_dev_heads_are_not_tested(call, monkeypatch):
    seen = {}
    real = tune_lib.tune_many

    def spy(model, adapters, candidates, *arguments, **options):
        seen.update({one.name: one for one in candidates})
        return real(model, adapters, candidates, *arguments, **options)

    monkeypatch.setattr(tune_lib, "tune_many", spy)
    call(seeds=[0, 1], dev_heads=2)
    zero, one = seen.values()

    def heads(examples):
        texts = [VOCABULARY.decode(inputs) for inputs, _ in examples]
        return {text.removeprefix("uses:").split(" is")[0].strip() for text in texts}

    assert len(heads(zero.examples)) == len(heads(one.examples)) == 3
    assert heads(zero.examples) != heads(one.examples)
    assert len(zero.examples) == 6  # three heads with two tails each
    assert heads(zero.dev) == heads(one.dev) == {"a key", "a hat"}
    soft = [VOCABULARY.soft_id(i) for i in range(3)]
    assert all(set(soft) <= set(inputs) for inputs, _ in (*zero.examples, *zero.dev))


def test_a_shared_prompt_has_as_many_rows_again(call, out):
    (found,) = call(templates=["MaskedSharedPrePT"], dev_heads=0)
    adapters, parameters, _ = peft.load_adapter(out / found.name)
    assert parameters["prompt.table"].shape == (6, model().config.d_model)
    assert adapters.prompt_rows == 6
    assert found.adapter == "prompt3"
    assert found.dev_loss is None
    assert found.step == 4


def test_rows_of_the_decoder_train_and_answer(call, out, monkeypatch):
    gin.bind_parameter("SoftPrompt.decoder_length", 2)
    prefixes = []
    decode = evaluator.decoding_lib.decode

    def spy(*arguments, soft_prefix, **options):
        prefixes.append(list(soft_prefix))
        return decode(*arguments, soft_prefix=soft_prefix, **options)

    monkeypatch.setattr(evaluator.decoding_lib, "decode", spy)
    (found,) = call(init=None)
    # The frozen model has no soft tokens; the tuned one reads its rows 3 and 4 in the decoder.
    assert prefixes == [[], [VOCABULARY.soft_id(3), VOCABULARY.soft_id(4)]]
    _, parameters, _ = peft.load_adapter(out / found.name)
    assert parameters["prompt.table"].shape == (5, model().config.d_model)


def test_adapters_without_a_prompt_wear_plain_templates(call, out):
    (found,) = call(adapters=Adapters.of(LoRA(2)), templates=["Prompting"])
    assert found.adapter == "lora2"
    # What is asked of the frozen model is the same template.
    assert [path.stem for path in (out / "frozen").iterdir()] == ["uses-Prompting"]


def test_what_tune_refuses(call, out, checkpoint, monkeypatch):
    monkeypatch.setattr(tune_lib, "tune_many", never)
    with pytest.raises(UserError, match=r"no soft tokens.*MaskedPrePT or MaskedPostPT"):
        call(templates=["MaskedPrompting"])
    with pytest.raises(UserError, match=r"lora2 no prompt.*template MaskedPrompting"):
        call(adapters=Adapters.of(LoRA(2)))
    with pytest.raises(UserError, match="adds nothing"):
        call(adapters=[PROMPT, Adapters()])
    with pytest.raises(UserError, match="Did you mean 'MaskedPrePT'"):
        call(templates=["MaskedPreTP"])
    with pytest.raises(UserError, match=r"tune.tasks = \[\]"):
        call(tasks=[])
    with pytest.raises(UserError, match="tune.tasks = 'uses'"):
        call(tasks="uses")
    with pytest.raises(UserError, match="asks for .* twice"):
        call(seeds=[1, 1])
    with pytest.raises(UserError, match="at_once is 0"):
        call(at_once=0)
    with pytest.raises(UserError, match="is not for questions"):
        call(tasks=["questions"], dev_heads=0)
    with pytest.raises(UserError, match="the adapter lora2 has none"):
        call(adapters=Adapters.of(LoRA(2)), templates=["Prompting"], init=PromptInit("phrase"))
    with pytest.raises(UserError, match="has no labels"):
        call(init=PromptInit("labels"))
    with pytest.raises(UserError, match="All validation heads of uses are in the test"):
        call(test_split="validation")
    with pytest.raises(UserError, match="does not fit"):
        call(task_feature_lengths={"inputs": 5, "targets": 16})
    assert not out.exists()
    (out / "uses-MaskedPrePT-prompt3-lr0.1-seed0").mkdir(parents=True)
    (out / "uses-MaskedPrePT-prompt3-lr0.1-seed0" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="holds no adapter"):
        call()


def test_every_template_has_a_plain_one():
    for template in TEMPLATES.values():
        bare = runs.plain(template)
        assert bare.soft == "none"
        assert {*template.kinds} <= {*bare.kinds}
        if template.soft == "none":
            assert bare == template
    assert runs.plain(TEMPLATES["MaskedPrePT"]) == TEMPLATES["MaskedPrompting"]
    assert runs.plain(TEMPLATES["PostPT"]) == TEMPLATES["Prompting"]
    assert runs.plain(TEMPLATES["MaskedPreSup"]) == TEMPLATES["MaskedMapping"]
    name = "PreMaskedChoicePrompting"
    assert runs.plain(TEMPLATES[name]) == TEMPLATES["MaskedChoicePrompting"]


def result(name: str, scores: list[float], **fields) -> Result:
    own = {"task": "t", "template": "MaskedPrePT", "metric": "rougeL", "adapter": "prompt3"}
    return Result(name, settings={}, values={}, predictions=[], scores=scores, **own | fields)


def test_the_table_says_means_deviations_and_gains():
    tuned = [
        result("a", [0.2, 0.6, 0.7], rate=0.1, seed=0, dev_loss=1.0),
        result("b", [0.4, 0.8, 0.9], rate=0.1, seed=1, dev_loss=2.0, diverged=7),
    ]
    frozen = {("t", "MaskedPrePT"): result("f", [0.1, 0.5, 0.6], dev_loss=3.0)}
    (line,), means = report.lines(tuned, frozen)
    assert means == []
    assert line.score.value == pytest.approx(0.6)
    assert line.deviation == pytest.approx(np.std([0.5, 0.7], ddof=1))
    assert line.frozen.value == pytest.approx(0.4)
    assert line.dev_losses == pytest.approx((1.5, 3.0))
    # Every record gains 0.2, so whatever is resampled does.
    assert [line.gain.difference, line.gain.low, line.gain.high] == pytest.approx([0.2] * 3)
    (_, row) = report.rows([line])
    assert row[5] == "2, deviation 0.141, 1 DIVERGED"

    # Another task, of one record alone, counts as much in the mean.
    tuned += [result("c", [1.0], task="u", rate=0.1, seed=seed, dev_loss=1.0) for seed in (0, 1)]
    frozen["u", "MaskedPrePT"] = result("g", [0.0], task="u", dev_loss=1.0)
    _, (mean,) = report.lines(tuned, frozen)
    assert mean.task == "mean of 2 tasks"
    assert (mean.score.value, mean.frozen.value) == pytest.approx((0.8, 0.2))
    assert mean.gain.difference == pytest.approx(0.6)
    assert mean.deviation == pytest.approx(np.std([0.75, 0.85], ddof=1))


def test_a_damaged_result_is_told(tmp_path):
    (tmp_path / "results.json").write_text('{"name": ')
    with pytest.raises(UserError, match="damaged"):
        results.read(tmp_path / "results.json", {})


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("runs/prompt_tune.gin", PromptTuning(10, "residual")),
        ("runs/demo_prompt_tune.gin", PromptTuning(10, "residual")),
        ("runs/lora.gin", LoRA(8)),
    ],
)
def test_the_gin_files_bind_what_tune_takes(name, method):
    macros = ["TASKS = ['a']", "INITIAL_CHECKPOINT_PATH = 'b'", "OUTPUT_DIR = 'c'"]
    config.load([name], macros)
    adapters = gin.get_configurable("ADAPTERS/gin.macro")()
    assert adapters == method
    templates = gin.query_parameter("%TEMPLATES")
    assert runs.product(["a"], templates, [Adapters.of(adapters)], [0.1], [0])
