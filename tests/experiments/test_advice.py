# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""`mto advise` from checkpoint to advice, on a few records and a tiny random model."""

import json
import re

import gin
import pytest

from mto_jax import config
from mto_jax.adaptation import classifier
from mto_jax.errors import UserError
from mto_jax.experiments import adapters, data, runner
from mto_jax.experiments.advice import advise
from mto_jax.experiments.strategies import STRATEGIES
from mto_jax.text2text.record_sets import RecordSet
from mto_jax.text2text.records import Triple
from mto_jax.text2text.templates import Wording
from mto_jax.training.finetune import Tuning
from mto_jax.training.multi_adapter import MultiAdapterTuning
from mto_jax.training.optimizers import Optimizer
from tests.matching.common import VOCABULARY, model

LENGTHS = {"inputs": 32, "targets": 16}
WORDS = "saw cup pen bed car dog key hat map bus box fan jar lid mop net oar pan rug sun"


def records(task: str, split: str) -> tuple[Triple, ...]:
    """12 heads to train on, 4 and 4 held out; the tail depends on the first letter."""
    part = {"train": slice(0, 12), "validation": slice(12, 16), "test": slice(16, 20)}[split]
    tails = (
        {True: "work", False: "home"} if task != "foreign" else dict.fromkeys((True, False), "鋸")
    )
    return tuple(Triple(task, task, f"a {w}", (tails[w < "k"],)) for w in WORDS.split()[part])


@pytest.fixture
def call(tmp_path, monkeypatch):
    """Runs `advise` in `out`."""

    def read(wanted, module):
        wording = Wording("is used for")
        return [RecordSet(w.task, "triple", wording, records(w.task, w.split)) for w in wanted]

    monkeypatch.setattr(data, "read", read)
    gin.bind_parameter("vocabulary.name", "demo")
    classifier.save(model(), tmp_path / "model", VOCABULARY)

    def call(**changes):
        options = {
            "task": "uses",
            "template": "Prompting",
            "strategies": ["frozen", "lora", "biases_and_norms", "full"],
            "rates": {"lora": [1e-2], "full": [1e-3, 1e-2]},
            "initial_checkpoint_path": str(tmp_path / "model"),
            "output_dir": str(tmp_path / "out"),
            "task_feature_lengths": LENGTHS,
            "seeds": [0],
            "dev_heads": 4,
            "tuning": Tuning(epochs=2, batch_size=4, optimizer=Optimizer("adamw", 1.0)),
            "prompt_tuning": MultiAdapterTuning(2, 4, Optimizer("adamw", 1.0), evaluations=1),
        }
        return advise(**(options | changes))

    return call


def test_advice_is_measured_written_and_not_computed_twice(call, tmp_path, monkeypatch):
    tuned = []
    tune = runner.FewShot._tune
    monkeypatch.setattr(
        runner.FewShot, "_tune", lambda *given: tuned.append(given[2].cell) or tune(*given)
    )
    summary = call(keep=["other"], most_forgotten=0.99)
    assert summary["heads"] == summary["shots"] == 12
    rows = summary["strategies"]
    shots = {name: [point["shots"] for point in row["measured"]] for name, row in rows.items()}
    assert shots["frozen"] == [0]
    # Three that train: two go on after the second rung.
    assert sorted(map(len, (shots["lora"], shots["biases_and_norms"], shots["full"]))) == [2, 3, 3]
    assert {cell.shots for cell in tuned if cell.method == "full"} <= {3, 10, 12}
    rates = {cell.values["learning_rate"] for cell in tuned if cell.method == "full"}
    assert rates == {1e-3, 1e-2}
    at_last = [c for c in tuned if c.shots == 12]
    assert len({(c.method, c.values["learning_rate"]) for c in at_last}) == len(at_last) <= 2
    assert rows["frozen"]["stored_bytes"] == 0 < rows["lora"]["stored_bytes"]
    assert rows["lora"]["forgotten"] == 0

    out = tmp_path / "out"
    assert json.loads((out / "advice.json").read_text()) == json.loads(json.dumps(summary))
    page = (out / "advice.md").read_text()
    assert summary["recommended"] in page.split("**")[1]
    assert summary["command"] in page
    assert (out / "figures" / "curves.png").exists()
    assert "uses" in (out / "tables" / "scores.md").read_text()
    count = len(tuned)
    monkeypatch.setattr(adapters, "tune_adapters", lambda *a, **b: pytest.fail("trained again"))
    assert call(keep=["other"], most_forgotten=0.99)["recommended"] == summary["recommended"]
    assert len(tuned) == count


# Replay mixes in rows that TensorFlow has to prepare first: tests of training do that.
@pytest.mark.parametrize("name", [name for name in STRATEGIES if name != "full_replay"])
def test_the_gin_file_is_one_that_its_verb_reads(call, tmp_path, name):
    summary = call(strategies=[name], rates=None, probe_shots=3)
    verb, _, file = re.fullmatch(r"mto (\w+) (--gin_file=)(.*)", summary["command"]).groups()
    assert verb == {"frozen": "evaluate", "in_context_late": "tables"}.get(
        name, "tune" if STRATEGIES[name].adapters.methods else "train"
    )
    gin.clear_config()
    config.load([file])
    assert gin.query_parameter("%TASK_FEATURE_LENGTHS") == LENGTHS
    if verb == "tune":
        assert gin.query_parameter("%LEARNING_RATES") == [
            summary["strategies"][name]["learning_rate"]
        ]
    if verb == "train":
        assert gin.query_parameter("%TRAIN_STEPS") == 2 * 3
        assert gin.query_parameter("T5Config.d_model") == model().config.d_model


def test_shots_beyond_the_data_are_extrapolated_and_said_to_be(call, tmp_path):
    summary = call(shots=1000)
    row = summary["strategies"]["full"]
    assert row["in the end"]["extrapolated"]
    assert "xtrapolated" in (tmp_path / "out" / "advice.md").read_text()
    assert row["minutes"] > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"memory_gb": 1e-6}, r"No strategy fits. The least memory: frozen, .* GB"),
        (
            {"strategies": ["full", "lora"], "device": "v5e", "minutes": 1e-9},
            r"the least time: \w+, .* minutes",
        ),
        ({"strategies": ["fall"]}, "full"),
        ({"device": "v5"}, "v5e"),
        ({"template": "PrePT"}, "has a soft prompt"),
        ({"strategies": ["full_replay"]}, "advise.replay"),
        ({"task": "foreign"}, "another vocabulary"),
        ({"keep": ["foreign"]}, "another vocabulary"),
    ],
)
def test_what_cannot_be_advised_on_is_refused_before_any_training(
    call, tmp_path, monkeypatch, changes, message
):
    monkeypatch.setattr(runner.FewShot, "run", lambda *a: pytest.fail("computed"))
    with pytest.raises(UserError, match=message):
        call(**changes)
    assert not (tmp_path / "out" / "cells").exists()
