# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""`mto tune` from checkpoint to table, on two tasks of a few records and a tiny random model."""

import dataclasses
import itertools
import json

import gin
import pytest

from mto_jax import checkpoints, config
from mto_jax.adaptation import classifier
from mto_jax.checkpoints import peft
from mto_jax.errors import UserError
from mto_jax.evaluation import evaluator
from mto_jax.evaluation.evaluator import evaluate_records
from mto_jax.experiments import adapters as adapters_lib
from mto_jax.experiments import data, scoring
from mto_jax.experiments.adapters import check_fit, name
from mto_jax.experiments.tune import tune
from mto_jax.metrics.by_kind import OF_KIND
from mto_jax.models.adapters import Adapters, LoRA, PromptTuning
from mto_jax.models.adapters.prompt_init import PromptInit
from mto_jax.text2text.record_sets import RecordSet
from mto_jax.text2text.records import Triple
from mto_jax.text2text.templates import TEMPLATES, Wording
from mto_jax.text2text.tokenising import SoftPrompt
from mto_jax.training.multi_adapter import MultiAdapterTuning, attach
from mto_jax.training.optimizers import Optimizer
from tests.matching.common import QUESTIONS, VOCABULARY, model

LENGTHS = {"inputs": 32, "targets": 16}
TUNING = MultiAdapterTuning(
    epochs=2, batch_size=4, optimizer=Optimizer("adafactor", 0.1), evaluations=2
)
PROMPT = Adapters.of(PromptTuning(3))
RELATIONS = {"uses": "is used for", "places": "is found at"}


def without_seconds(result):
    """A result but for the time that it took."""
    values = {name: value for name, value in result["values"].items() if name != "seconds"}
    return {**result, "values": values}


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

    monkeypatch.setattr(data, "read", read)


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
        return tune(**(options | changes))

    return call


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def never(*arguments, **options):
    raise AssertionError("computed again")


def cell_of(results, **values):
    """The only cell with these values."""
    (cell,) = results.where(values)
    return cell


def adapter_of(results, **values):
    """The name and the result of the only adapter with these values."""
    cell = cell_of(results, method="adapter_tune", **values)
    return name(cell), results.results[cell]


def test_a_folder_for_every_run_a_table_and_a_figure(call, out, checkpoint, monkeypatch, capsys):
    options = {"tasks": ["uses", "places"], "learning_rates": [0.3], "init": PromptInit("phrase")}
    results = call(**options)
    assert len(results.results) == 4  # two prompts, two frozen models
    adapters = {path.parent.name for path in out.glob("*/mto.json")}
    assert adapters == {f"{task}-MaskedPrePT-prompt3-lr0.3-seed0" for task in ("uses", "places")}
    assert not list(out.glob("*.npz"))

    # A folder holds what was asked: PEFT's form, its origin, and the answers of the model with it.
    folder, result = adapter_of(results, task="places")
    adapters, parameters, description = peft.load_adapter(out / folder)
    assert adapters == PROMPT
    assert (out / folder / "adapter_model.safetensors").exists()
    assert (description["task"], description["template"]) == ("places", "MaskedPrePT")
    assert description["vocabulary"] == VOCABULARY.digest
    assert description["base"]["path"] == checkpoint
    assert description["info"]["held_out"] == without_seconds(result)["values"]
    base = checkpoints.open(checkpoint).model(VOCABULARY)
    task = dataclasses.replace(
        QUESTIONS,
        name="places",
        kind="triple",
        metrics=OF_KIND,
        wording=Wording(RELATIONS["places"]),
        held_out=tuple(records("places", "test")),
    )
    answers = evaluate_records(
        attach(base, adapters, parameters),
        task,
        TEMPLATES["MaskedPrePT"],
        VOCABULARY,
        LENGTHS,
        soft=SoftPrompt(length=3),
    )
    assert result["info"]["predictions"] == answers.predictions
    assert result["scores"]["rougeL"] == answers.scores["rougeL"]
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "MaskedPrePT" in capsys.readouterr().out

    # The same command again computes nothing, and one with a seed more that seed alone.
    times = {path: path.stat().st_mtime_ns for path in out.rglob("mto.json")}
    with monkeypatch.context() as patch:
        patch.setattr(adapters_lib, "tune_adapters", never)
        patch.setattr(scoring, "evaluate_records", never)
        assert call(**options).results == results.results
    more = call(**options, seeds=[0, 1])
    assert {cell: more.results[cell] for cell in results.results} == results.results
    assert {path: path.stat().st_mtime_ns for path in times} == times
    table = (out / "table.md").read_text()
    assert "| setting | uses | places | average |" in table
    assert table.count("| MaskedPrePT, prompt3, rate 0.3 |") == 3  # scores, gains, dev losses
    assert table.count("| MaskedPrompting, frozen |") == 3
    assert "standard deviation over seeds" in table

    # Nor is anything taken for what it is not.
    with pytest.raises(UserError, match="other settings: init"):
        call(**options | {"init": None})
    with pytest.raises(UserError, match="other settings: shots is 3 there, 2 here"):
        call(**options, shots=2)
    with pytest.raises(UserError, match=r"other settings: tuning.*epochs=3"):
        call(**options, tuning=dataclasses.replace(TUNING, epochs=3))


def test_it_goes_on_where_it_was_interrupted(call, out, tmp_path, monkeypatch):
    seeds = {"seeds": [0, 1, 2], "at_once": 3}
    whole = call(**seeds, output_dir=str(tmp_path / "whole")).results
    counts = itertools.count(1)
    evaluate = scoring.evaluate_records

    def interrupted(*arguments, **options):
        if next(counts) == 3:  # the frozen model, one tuned model, ...
            raise KeyboardInterrupt
        return evaluate(*arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(scoring, "evaluate_records", interrupted)
        with pytest.raises(KeyboardInterrupt):
            call(**seeds)
    assert len(list(out.glob("*/mto.json"))) == 3
    assert len(list(out.glob("cells/*.json"))) == 2
    with monkeypatch.context() as patch:
        patch.setattr(adapters_lib, "tune_adapters", never)
        assert {c: without_seconds(r) for c, r in call(**seeds).results.items()} == {
            c: without_seconds(r) for c, r in whole.items()
        }

    # What is missing is trained, the rest stays.
    (gone,) = out.glob("*seed1")
    for path in gone.iterdir():
        path.unlink()
    for path in out.glob("cells/*.json"):
        if json.loads(path.read_text())["values"]["seed"] == 1:
            path.unlink()
    again = call(**seeds).results
    assert again.keys() == whole.keys()
    for cell, result in again.items():
        assert result["scores"] == whole[cell]["scores"]
        expected = pytest.approx(whole[cell]["values"]["dev_loss"], rel=1e-5)
        assert result["values"]["dev_loss"] == expected


def test_a_run_that_diverges_fails_by_itself(call, out, capsys):
    with pytest.raises(UserError, match=r"1 of 3 cells failed.*Lower its learning rate"):
        call(learning_rates=[0.1, 1e39], dev_heads=0)
    assert "0 of 1 cells" in (out / "table.md").read_text()
    assert len(list(out.glob("cells/*.json"))) == 2


def test_seeds_draw_other_heads_and_dev_heads_are_not_tested(call, monkeypatch):
    seen = {}
    real = adapters_lib.tune_adapters

    def spy(model, adapters, candidates, *arguments, **options):
        seen.update({one.name: one for one in candidates})
        return real(model, adapters, candidates, *arguments, **options)

    monkeypatch.setattr(adapters_lib, "tune_adapters", spy)
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
    folder, result = adapter_of(call(templates=["MaskedSharedPrePT"], dev_heads=0))
    adapters, parameters, _ = peft.load_adapter(out / folder)
    assert parameters["prompt.table"].shape == (6, model().config.d_model)
    assert adapters.prompt_rows == 6
    assert "-prompt3-" in folder
    assert "dev_loss" not in result["values"]
    assert result["info"]["step"] == 4


def test_rows_of_the_decoder_train_and_answer(call, out, monkeypatch):
    gin.bind_parameter("SoftPrompt.decoder_length", 2)
    prefixes = []
    decode = evaluator.decoding_lib.decode

    def spy(*arguments, soft_prefix, **options):
        prefixes.append(list(soft_prefix))
        return decode(*arguments, soft_prefix=soft_prefix, **options)

    monkeypatch.setattr(evaluator.decoding_lib, "decode", spy)
    folder, _ = adapter_of(call(init=None))
    # The frozen model has no soft tokens; the tuned one reads its rows 3 and 4 in the decoder.
    assert prefixes == [[], [VOCABULARY.soft_id(3), VOCABULARY.soft_id(4)]]
    _, parameters, _ = peft.load_adapter(out / folder)
    assert parameters["prompt.table"].shape == (5, model().config.d_model)


def test_adapters_without_a_prompt_have_plain_templates(call):
    results = call(adapters=Adapters.of(LoRA(2)), templates=["Prompting"])
    assert adapter_of(results)[0] == "uses-Prompting-lora2-lr0.1-seed0"
    # The frozen model is evaluated under the same template.
    assert cell_of(results, method="frozen").template == "Prompting"


def test_what_tune_refuses(call, out, checkpoint, monkeypatch):
    monkeypatch.setattr(adapters_lib, "tune_adapters", never)
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
    with pytest.raises(UserError, match="tune.tasks is 'uses'; it must be a list"):
        call(tasks="uses")
    with pytest.raises(UserError, match="asks for .* twice"):
        call(seeds=[1, 1])
    with pytest.raises(UserError, match="at_once is 0"):
        call(at_once=0)
    with pytest.raises(UserError, match="is not for questions"):
        call(tasks=["questions"], dev_heads=0)
    with pytest.raises(UserError, match="lora2 has none"):
        call(adapters=Adapters.of(LoRA(2)), templates=["Prompting"], init=PromptInit("phrase"))
    with pytest.raises(UserError, match="has no labels"):
        call(init=PromptInit("labels"))
    with pytest.raises(UserError, match="All validation heads of uses are in the test"):
        call(test_split="validation")
    with pytest.raises(UserError, match="do not fit"):
        call(task_feature_lengths={"inputs": 5, "targets": 16})
    with pytest.raises(UserError, match="judged by different metrics"):
        call(tasks=["uses", "questions"], dev_heads=0)
    assert not out.exists()
    (out / "uses-MaskedPrePT-prompt3-lr0.1-seed0").mkdir(parents=True)
    (out / "uses-MaskedPrePT-prompt3-lr0.1-seed0" / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match="holds no adapter"):
        call()


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
    for template in gin.query_parameter("%TEMPLATES"):
        check_fit(Adapters.of(adapters), TEMPLATES[template])
