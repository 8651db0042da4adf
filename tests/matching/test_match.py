# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""`mto match` from checkpoint to mapping, on the demo's relations and a tiny random model."""

import json

import gin
import pytest

from mto_jax import config
from mto_jax.adaptation import classifier
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


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("match") / "model"
    classifier.save(model(), folder, VOCABULARY)
    return str(folder)


@pytest.fixture
def run(checkpoint, tmp_path, monkeypatch):
    """Runs `match` on records that need no process of their own."""
    known = {task.name: task for task in (USES, QUESTIONS)}

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
    gin.bind_parameter("vocabulary.name", "demo")

    def call(function=match_lib.match, **changes):
        options = {
            "tasks": list(known),
            "initial_checkpoint_path": checkpoint,
            "output_dir": str(tmp_path / "out"),
            "task_feature_lengths": LENGTHS,
            "scores": ("expert", "length_rule", "unlabelled", "ranks", "probe"),
            "examples": (0, 2),
            "examples_tuning": TUNING,
            "shots": 2,
            "probe_tuning": TUNING,
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
        "unlabelled",
        *ranks,
        "probe",
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

    # Another start computes nothing anew.
    gin.bind_parameter("vocabulary.name", "demo")
    monkeypatch.setattr(match_lib, "probe", None)
    monkeypatch.setattr(match_lib.teacher_forcing, "sentences", None)
    again = run(scores=("length_rule", "unlabelled", "ranks", "probe"))
    assert again == [verdict for verdict in verdicts if verdict.score != "expert"]


def test_scores_are_computed_anew_when_what_they_depend_on_changes(run, tmp_path, monkeypatch):
    text = tmp_path / "text.txt"
    text.write_text("a cup is used for drinking\n")
    chosen = {"scores": ("unlabelled",), "sentences_file": str(text), "tasks": ["uses"]}
    first = run(**chosen)
    text.write_text("a saw is used for cutting wood\n")
    assert run(**chosen) != first
    probes = []
    monkeypatch.setattr(match_lib, "probe", lambda *a, **b: probes.append(a[4]) or first[0])
    for rate in (0.1, 0.2, 0.2):
        gin.bind_parameter("Optimizer.learning_rate", rate)
        run(scores=("probe",), tasks=["uses"], probe_tuning=None)
    assert [tuning.optimizer.learning_rate for tuning in probes] == [0.1, 0.2]


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
