# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""`mto match` from checkpoint to mapping, on the demo's relations and a tiny random model."""

import json

import gin
import pytest

from mto_jax import config
from mto_jax.adaptation import classifier, held_out
from mto_jax.adaptation.make import PairConfig
from mto_jax.commands.convert import convert
from mto_jax.commands.match import match as verb
from mto_jax.errors import UserError
from mto_jax.matching import match as match_lib
from mto_jax.text2text import mapping, record_sets
from mto_jax.text2text.record_sets import RecordSet, Wanted
from mto_jax.text2text.templates import Wording
from mto_jax.training.finetune import Tuning
from mto_jax.training.optimizers import Optimizer
from tests.matching.common import LENGTHS, QUESTIONS, USES, VOCABULARY, model

TUNING = Tuning(epochs=1, optimizer=Optimizer("sgd", 1e-2))


SENTENCES = [
    "a cup is used for drinking tea",
    "a big saw is used for cutting wood",
    "a pencil is used for drawing a house",
    "a knife is used for cutting bread",  # about a held-out head
    "the sun shines all day long",
]


def corpus(path):
    phrases = ["is used for"]
    return PairConfig(str(path), method="phrases", groups="length", phrases=phrases, min_words=2)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("match") / "model"
    classifier.save(model(), folder, VOCABULARY)
    return str(folder)


@pytest.fixture
def run(checkpoint, tmp_path, monkeypatch):
    """Runs `match` on records that need no process of their own."""
    known = {"uses": USES, "questions": QUESTIONS, "other": QUESTIONS}

    def read(wanted, module):
        return [
            RecordSet(
                one.task,
                known[one.task].kind,
                known[one.task].wording,
                known[one.task].train if one.split == "train" else known[one.task].held_out,
            )
            for one in wanted
        ]

    monkeypatch.setattr(match_lib, "read", read)
    monkeypatch.setattr(
        held_out,
        "held_out_heads",
        lambda tasks, module: [record.head for task in tasks for record in known[task].held_out],
    )
    text = tmp_path / "text.txt"
    text.write_text("\n".join(SENTENCES))
    gin.bind_parameter("vocabulary.name", "demo")

    def call(function=match_lib.match, **changes):
        options = {
            "tasks": ["uses", "questions"],
            "initial_checkpoint_path": checkpoint,
            "output_dir": str(tmp_path / "out"),
            "task_feature_lengths": LENGTHS,
            "scores": ("expert", "length_rule", "unlabelled", "ranks", "probe"),
            "examples": (0, 2),
            "examples_tuning": TUNING,
            "shots": 2,
            "seeds": 1,
            "probe_tuning": TUNING,
            "adaptation_tuning": TUNING,
            "pairs": corpus(text),
        }
        matching = function(**(options | changes))
        return matching and matching.verdicts

    return call


def test_match_writes_a_mapping_that_gin_reads(run, tmp_path, monkeypatch, capsys):
    gin.bind_parameter("mapping.tasks", {"uses": ("denoising", "MaskedPrompting")})
    verdicts = run()
    ranks = [f"{name}({n})" for n in (0, 2) for name in ("MI", "nDR", "likelihood")]
    assert {v.score for v in verdicts if v.task == "uses"} == {
        "expert",
        "unlabelled",
        *ranks,
        "probe",
    }
    assert {v.score for v in verdicts if v.task == "questions"} == {
        "length rule",
        *ranks,
        "probe",
        "ranked probe",
    }
    run(verb)  # from the scores that are there now
    shown = capsys.readouterr().out
    assert "MI(2)" in shown
    assert "agreement with the probe" in shown
    out = tmp_path / "out"
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")
    content = json.loads((out / "match.json").read_text())

    gin.clear_config()
    gin.parse_config_file(str(out / "mapping.gin"))
    written = mapping.mapping()
    assert {task: list(choice) for task, choice in written.items()} == content["mapping"]
    # An untrained model answers nothing right, so the probe is undecided and the expert decides.
    assert written["uses"].objective == "denoising"
    assert mapping.resolve_task("uses").startswith("uses_masked_")

    # Another start computes nothing again.
    gin.bind_parameter("vocabulary.name", "demo")
    monkeypatch.setattr(match_lib.probe, "ask", None)
    monkeypatch.setattr(match_lib.teacher_forcing, "sentences", None)
    again = run(scores=("length_rule", "unlabelled", "ranks", "probe"))
    assert again == [verdict for verdict in verdicts if verdict.score != "expert"]


def test_scores_are_computed_again_when_what_they_depend_on_changes(run, tmp_path, monkeypatch):
    text = tmp_path / "other.txt"
    text.write_text("a cup is used for drinking\n")
    chosen = {"scores": ("unlabelled",), "pairs": corpus(text), "tasks": ["uses"]}
    first = run(**chosen)
    text.write_text("a saw is used for cutting wood\n")
    assert run(**chosen) != first
    asked = []
    answers = {"predictions": ["a", "b", "c"], "ranked": None}
    monkeypatch.setattr(match_lib.probe, "ask", lambda *a, **b: asked.append(a[5]) or answers)
    for rate in (0.1, 0.2, 0.2):
        gin.bind_parameter("Optimizer.learning_rate", rate)
        run(scores=("probe",), tasks=["uses"], probe_tuning=None)
    rates = [tuning.optimizer.learning_rate for tuning in asked]
    assert rates == [0.1] * 4 + [0.2] * 4  # four templates


def test_objectives_are_compared_on_models_adapted_once_without_held_out_heads(
    run, tmp_path, monkeypatch
):
    trained = []
    tune = Tuning.__call__

    def counted(self, network, examples, **options):
        trained.append([VOCABULARY.decode(targets) for _, targets in examples])
        return tune(self, network, examples, **options)

    monkeypatch.setattr(Tuning, "__call__", counted)
    objectives = ["none", "denoising"]
    chosen = {"scores": ("probe",), "tasks": ["uses"], "shots": 0, "seeds": 3}
    by_template, adaptation = run(**chosen, objectives=objectives)
    assert (by_template.score, adaptation.score) == ("probe", "adaptation")
    assert [*adaptation.templates] == [
        f"{objective} {template}"
        for objective in objectives
        for template in ("Mapping", "MaskedMapping", "Prompting", "MaskedPrompting")
    ]
    assert trained == []  # no shots; the adaptation keeps its model in a folder
    text = (tmp_path / "out" / "adaptation" / "pairs.jsonl").read_text()
    assert "drinking tea" in text
    assert "cutting bread" not in text
    assert len([*(tmp_path / "out" / "scores").glob("uses-denoising-Prompting-*.json")]) == 1
    in_memory = run(**chosen, objectives=objectives, output_dir=None)
    assert [verdict.value for verdict in in_memory] == [by_template.value, adaptation.value]
    (adapting,) = trained
    assert adapting
    assert all(target.startswith("<extra_id_0>") for target in adapting)
    # At another number of shots, other seeds are other heads.
    run(**{**chosen, "shots": 1, "seeds": 2})
    heads = trained[1:]
    assert len(heads) == 8
    assert len({str(targets) for targets in heads}) > 2


def test_the_classifier_is_tested_on_tasks_that_it_has_not_seen(run, tmp_path):
    options = {
        "scores": ("classifier",),
        "tasks": ["uses"],
        "classifier_groups": {"uses": "Filling", "questions": "Mapping"},
        "classifier_tests": {"questions": "Mapping"},
        "classifier_tuning": TUNING,
    }
    with pytest.raises(UserError, match="no Filling task left"):
        run(**options)
    options["tasks"], options["classifier_tests"] = ["questions"], {"uses": "Filling"}
    options["classifier_groups"] = {"uses": "Filling", "other": "Mapping"}
    ((verdict),) = run(**options)
    content = json.loads((tmp_path / "out" / "match.json").read_text())
    group, share = content["classifier"]["uses"]
    assert group == "Filling"
    assert 0 <= share <= 1
    assert verdict.task == "questions"


def test_a_foreign_checkpoint_brings_its_vocabulary(run, checkpoint, tmp_path):
    chosen = {"scores": ("unlabelled",)}
    expected = run(**chosen)
    convert(source=checkpoint, to="hf", output=str(tmp_path / "hf"))
    gin.clear_config()
    found = run(**chosen, initial_checkpoint_path=str(tmp_path / "hf"))
    assert found == expected
    assert gin.get_bindings("vocabulary") == {}  # it is the model's alone
    assert str(tmp_path / "hf") in (tmp_path / "out" / "mapping.gin").read_text()


def test_what_match_refuses(run):
    with pytest.raises(UserError, match="judges any of the tasks: add 'ranks'"):
        run(tasks=["uses"], scores=["length_rule"])
    with pytest.raises(UserError, match="TASKS="):
        run(tasks=[])
    with pytest.raises(UserError, match="Did you mean 'ranks'"):
        run(scores=["rank"])
    with pytest.raises(UserError, match="Did you mean 'denoising'"):
        run(objectives=["denoissing"])
    with pytest.raises(UserError, match="CORPUS=sentences.txt"):
        run(objectives=["none", "lm"], pairs=None)
    with pytest.raises(UserError, match="match.shots is -1; it must be a whole number"):
        run(shots=-1)
    with pytest.raises(UserError, match="classifier_groups"):
        run(scores=["classifier"])
    with pytest.raises(UserError, match="Did you mean 'Filling'"):
        run(scores=["classifier"], classifier_groups={"uses": "filling"})
    with pytest.raises(UserError, match="no Filling task left"):
        run(scores=["classifier"], classifier_groups={"uses": "Filling", "questions": "Mapping"})


def test_a_task_is_judged_by_a_classifier_that_has_not_seen_it():
    groups = {"a": "Filling", "b": "Filling", "c": "Filling", "d": "Mapping", "e": "Mapping"}
    assert match_lib._folds(["c", "a", "e", "x"], groups) == {"c": 0, "a": 1, "e": 0}


def test_records_come_from_a_process_with_tensorflow():
    gin.bind_parameter("vocabulary.name", "demo")
    train, held_out = record_sets.read(
        [Wanted("demo_ObjectUse", "train", 4, 2), Wanted("demo_ObjectUse", "validation", 7)]
    )
    assert (train.kind, train.wording) == ("triple", Wording("is used for"))
    assert len({record.head for record in train.records}) == 4
    assert all(len(record.tails) == 1 for record in train.records)
    assert len(held_out.records) == 7
    assert not {r.head for r in train.records} & {r.head for r in held_out.records}
    with pytest.raises(UserError, match="Did you mean 'demo_ObjectUse'"):
        record_sets.read([Wanted("demo_ObjectUs", "train", 4)])


@pytest.mark.parametrize("name", ["runs/match.gin", "runs/match_atomic.gin", "runs/demo_match.gin"])
def test_the_gin_files_bind_what_match_takes(name):
    macros = ["TASKS = ['a']", "INITIAL_CHECKPOINT_PATH = 'b'", "OUTPUT_DIR = 'c'"]
    config.load([name], macros)
    assert gin.query_parameter("match.examples_tuning").scoped_configurable_fn().epochs == 3
