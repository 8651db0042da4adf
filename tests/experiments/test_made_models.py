# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Arms of a study: what each is trained with, once; and what a failed command says."""

import json
import os
import pathlib
import threading

import pytest

from mto_jax.errors import UserError
from mto_jax.experiments import made_models
from mto_jax.experiments.made_models import Pretraining

ARMS = {
    "span": {"MIXTURE_OR_TASK_NAME": "lab_span_corruption"},
    "span_then_lm": {
        "MIXTURE_OR_TASK_NAME": "lab_prefix_lm",
        "INITIAL_CHECKPOINT_PATH": "span",
    },
}


@pytest.fixture
def trained(monkeypatch):
    """The bindings of every command, in order; the first attempt at `failing` fails."""
    calls = []

    def make(verb, folder, gin_files, bindings, cores):
        calls.append((verb, gin_files, bindings))
        (folder / "bindings.json").write_text(json.dumps(bindings))

    monkeypatch.setattr(made_models, "make", make)
    return calls


def arms(tmp_path, **changes):
    options = {"gin_file": "runs/lab_pretrain.gin", "arms": ARMS, "folder": str(tmp_path)}
    return Pretraining(**(options | changes))


def test_every_arm_is_trained_once_for_every_seed_with_its_bindings(tmp_path, trained):
    study = arms(tmp_path, seeds=(0, 1))
    assert [f"{arm}-{seed}" for arm, seed in study.missing()] == [
        "span-0", "span-1", "span_then_lm-0", "span_then_lm-1"
    ]  # fmt: skip
    study.make()
    study.make()
    assert study.missing() == []
    assert len(trained) == 4
    start = study.models()["span-1"]
    assert json.loads(pathlib.Path(study.models()["span_then_lm-1"], "bindings.json").read_text())
    assert trained[3] == (
        "train",
        ["runs/lab_pretrain.gin"],
        {
            "MIXTURE_OR_TASK_NAME": "lab_prefix_lm",
            "INITIAL_CHECKPOINT_PATH": start,
            "SEED": 1,
        },
    )


def test_two_train_at_once_and_an_arm_waits_for_the_one_that_it_continues(tmp_path, monkeypatch):
    both, done = threading.Barrier(2, timeout=30), []

    def make(verb, folder, gin_files, bindings, cores):
        both.wait()  # no less than two at a time
        if start := bindings.get("INITIAL_CHECKPOINT_PATH"):
            assert start in done
        done.append(str(folder))

    monkeypatch.setattr(made_models, "make", make)
    study = arms(tmp_path, seeds=(0, 1), at_once=2)
    study.make()
    assert study.missing() == []
    assert len(done) == 4


def test_a_failed_arm_ends_the_study_with_its_error(tmp_path, monkeypatch):
    def make(verb, folder, gin_files, bindings, cores):
        raise UserError(f"no {folder.name[:4]}")

    monkeypatch.setattr(made_models, "make", make)
    with pytest.raises(UserError, match="no span"):
        arms(tmp_path, at_once=2).make()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="cores are shared on Linux alone")
def test_a_command_uses_the_cores_it_is_given(tmp_path):
    core = min(os.sched_getaffinity(0))
    with pytest.raises(UserError, match="failed"):
        made_models.make("train", tmp_path, ["nowhere.gin"], {}, cores=[core + 4096])
    assert "Invalid argument" in (tmp_path / "train.log").read_text()


def test_changed_bindings_make_another_model_and_hidden_arms_are_no_models(tmp_path):
    first, hidden = arms(tmp_path), arms(tmp_path, hidden=["span"])
    longer = arms(tmp_path, arms={**ARMS, "span": {**ARMS["span"], "TRAIN_STEPS": 9}})
    assert list(hidden.models()) == ["span_then_lm-0"]
    assert not set(first.models().values()) & set(longer.models().values())


def test_an_unfinished_run_is_still_missing(tmp_path):
    study = arms(tmp_path)
    pathlib.Path(study.models()["span-0"]).mkdir()
    assert ("span", 0) in study.missing()


def test_an_arm_that_does_not_exist_cannot_be_continued(tmp_path):
    wrong = {"lm": {"INITIAL_CHECKPOINT_PATH": "spam"}}
    with pytest.raises(UserError, match="'lm' could continue.*'spam'"):
        arms(tmp_path, arms=wrong).models()


def test_a_failed_command_names_its_log(tmp_path):
    with pytest.raises(UserError, match=r"mto train --gin_file=nowhere.gin.*train.log"):
        made_models.make("train", tmp_path, ["nowhere.gin"], {"TRAIN_STEPS": 3})
    assert "nowhere.gin" in (tmp_path / "train.log").read_text()
