# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""From what `mto match` decides to the commands that act on it."""

import gin
import pytest

from mto_jax import config
from mto_jax.adaptation import classifier
from mto_jax.commands.match import next_stages
from mto_jax.errors import UserError
from mto_jax.matching.decide import Decision
from mto_jax.matching.matching import Matching
from mto_jax.matching.verdict import MASK_FILLING, Verdict
from mto_jax.text2text.mapping import Choice
from tests.matching.common import VOCABULARY, model

FILES = {"adapt": "runs/adapt.gin", "train": "runs/finetune.gin", "evaluate": "runs/evaluate.gin"}


@pytest.fixture
def matching(tmp_path):
    by = Verdict("demo_xIntent", "probe", 0.1, 0.05, 0.2, 0.0, MASK_FILLING)
    decisions = {
        "demo_xIntent": Decision(Choice("mixed", "Mapping"), by),
        "demo_xAttr": Decision(Choice("none", "MaskedPrompting"), by),
    }
    classifier.save(model(), tmp_path / "base", VOCABULARY)
    matching = Matching("a model", [by], decisions)
    matching.write(tmp_path)
    return matching


def macros(tmp_path, **changes):
    return {
        "INITIAL_CHECKPOINT_PATH": str(tmp_path / "base"),
        "CORPUS": "demo",
        "SHOTS": 3,
        "MIXTURE_OR_TASK_MODULE": None,
        **changes,
    }


def test_commands_lead_from_each_task_to_a_tuned_model(matching, tmp_path):
    stages = next_stages(matching, tmp_path, FILES, macros(tmp_path))
    assert [(stage.verb, stage.macros.get("MODEL_DIR")) for stage in stages] == [
        ("adapt", str(tmp_path / "demo_xIntent/adapted")),
        ("train", str(tmp_path / "demo_xIntent/tuned")),
        ("evaluate", str(tmp_path / "demo_xIntent/tuned")),
        ("train", str(tmp_path / "demo_xAttr/tuned")),
        ("evaluate", str(tmp_path / "demo_xAttr/tuned")),
    ]
    starts = [stage.macros.get("INITIAL_CHECKPOINT_PATH") for stage in stages]
    base, adapted = str(tmp_path / "base"), str(tmp_path / "demo_xIntent/adapted")
    assert starts == [base, adapted, None, base, None]
    # 9 facts, two batches of 8, five epochs
    assert stages[1].macros["TRAIN_STEPS"] == 10
    assert stages[0].command.startswith("mto adapt --gin_file=runs/adapt.gin --gin_file=")
    assert "--gin.CORPUS=demo --gin.TASK=demo_xIntent" in stages[0].command


def test_every_command_is_complete(matching, tmp_path):
    """Its gin files and macros leave nothing REQUIRED."""
    for stage in next_stages(matching, tmp_path, FILES, macros(tmp_path)):
        gin.clear_config()
        config.load(stage.files, [f"{name} = {value!r}" for name, value in stage.macros.items()])


def test_without_shots_nothing_is_tuned(matching, tmp_path):
    stages = next_stages(matching, tmp_path, FILES, macros(tmp_path, SHOTS=0))
    assert [stage.verb for stage in stages] == ["adapt", "evaluate", "evaluate"]
    assert stages[2].macros["MODEL_DIR"] == str(tmp_path / "base")


def test_without_raw_text_nothing_is_adapted_which_is_said(matching, tmp_path, capsys):
    stages = next_stages(matching, tmp_path, FILES, macros(tmp_path, CORPUS=None))
    assert [stage.verb for stage in stages] == ["train", "evaluate"] * 2
    assert stages[0].macros["INITIAL_CHECKPOINT_PATH"] == str(tmp_path / "base")
    said = capsys.readouterr().out
    assert "demo_xIntent: an adaptation under " in said
    assert "without a CORPUS" in said
    assert "demo_xAttr" not in said  # which wants none


def test_what_is_bound_decides_whether_there_are_stages(matching, tmp_path):
    assert next_stages(matching, tmp_path) == []
    with pytest.raises(UserError, match="the gin file of 'train' is missing"):
        next_stages(matching, tmp_path, {"adapt": "runs/adapt.gin"}, macros(tmp_path))
