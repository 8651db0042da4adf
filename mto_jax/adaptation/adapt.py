# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""From unlabelled sentences to an adapted model: pairs are made, then trained on."""

import math
import pathlib
from collections.abc import Mapping
from typing import Any

import gin
import jax

from mto_jax import checkpoints, checks, remote
from mto_jax.adaptation import make, tasks
from mto_jax.adaptation import pairs as pairs_lib
from mto_jax.adaptation.make import PairConfig
from mto_jax.checkpoints import Checkpoint
from mto_jax.console import wide
from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError, unknown
from mto_jax.files import digest, read_record, write_record
from mto_jax.runs.train import train
from mto_jax.text2text import mapping
from mto_jax.training.performance import use_compilation_cache

NAME = "adaptation"  # of the tasks: adaptation_lm, adaptation_mixed, ...


@gin.configurable
def adapt(
    *,
    model_dir: checks.Place,
    initial_checkpoint_path: checks.Place,
    pairs: PairConfig,
    objective: str | None = None,
    task: str | None = None,
    batch_size: checks.Count = 16,
    epochs: checks.Count = 3,
    train_steps: checks.Count | None = None,
    replay: str | None = None,
    replay_share: float = 0.25,
    pairs_dir: checks.Place | None = None,
) -> dict[str, float]:
    """Make the pairs, then train on them; returns the last metrics.

    All else of the training (optimizer, lengths, evaluation) is what gin binds for `train`; the
    model's sizes are those of the checkpoint.

    Args:
      model_dir: the run directory.
      initial_checkpoint_path: run directory or step folder of the model to adapt, or any other
        checkpoint (`checkpoints.open`); splitter and classifier start from it too.
      pairs: how sentences become pairs.
      objective: one of `objectives.pair_objectives`, or "none": nothing is trained, the base
        checkpoint is the result. None takes that of `task`.
      task: a task of the mapping (`mapping.tasks`), for its objective.
      batch_size: pairs (and replayed examples) of a batch; every example has a row of its own.
      epochs: times that every pair is seen.
      train_steps: steps instead of epochs.
      replay: a pre-training task to mix in against forgetting, such as "c4_span_corruption".
      replay_share: its part of the examples.
      pairs_dir: where the pairs are; None means MODEL_DIR/adaptation. Runs that differ in their
        objective alone may share one.

    Raises:
      UserError: no objective or an unknown one, replay with the objective "none", a MODEL_DIR of
        another adaptation, or what `loader.ensure`, `make.ensure` and `train` find wrong.
    """
    checks.check(adapt, locals())
    objective = _objective(objective, task)
    if objective == "none" and replay is not None:
        raise UserError(
            f"The objective 'none' trains nothing, so there is nothing to mix with {replay!r}: "
            "leave out REPLAY, or choose another OBJECTIVE."
        )
    if objective == "none":
        print(f"objective none: the result is {initial_checkpoint_path} as it is")
        return {}
    tasks.adaptation_pairs({}, replay, replay_share)  # checks the share before any work

    use_compilation_cache()
    base = checkpoints.open(initial_checkpoint_path)
    base.adopt_vocabulary()
    if replay is not None:  # data that fail to prepare do so before the pairs are made
        with gin.config_scope("train"):
            replayed = gin.get_configurable(DatasetConfig)(mixture_or_task_name=replay)
        loader.ensure(replayed)
    folder = remote.local(model_dir)
    path = _pairs(pairs, pathlib.Path(pairs_dir) if pairs_dir else folder / "adaptation", base)
    count = len(tasks.split_pairs(pairs_lib.read(path))["train"])
    share = replay_share if replay else 0.0
    steps = train_steps or math.ceil(epochs * count / (1 - share) / batch_size)
    _check_settings(folder, {"objective": objective, "replay": replay, "replay_share": share}, path)

    with gin.unlock_config():
        for name, value in {
            "adaptation_pairs.files": {NAME: str(path.absolute())},
            "adaptation_pairs.replay": replay,
            "adaptation_pairs.replay_share": replay_share,
            "DatasetConfig.mixture_or_task_name": f"{NAME}_{objective}"
            + ("_replay" if replay else ""),
            "train.model_dir": model_dir,
            "train.initial_checkpoint_path": initial_checkpoint_path,
            "train.batch_size": batch_size,
            "train.train_steps": steps,
            "train.pack": False,
        }.items():
            gin.bind_parameter(name, value)
    print(f"{count} pairs to train on: {steps} steps of {batch_size} examples", flush=True)
    return gin.get_configurable(train)()  # with what is bound now


def _objective(given: str | None, task: str | None) -> str:
    """The objective that is given, else the mapping's for the task.

    Raises:
      UserError: neither is given, or one is unknown.
    """
    if given is not None:
        objective = given.lower()
    elif task is not None:
        objective = mapping.choice_of(task).objective
    else:
        raise UserError(
            "Nothing says which objective to adapt under: pass --gin.OBJECTIVE=..., one of "
            f"{', '.join(mapping.objectives())}, or --gin.TASK=... and the --gin_file of a mapping."
        )
    if objective not in mapping.objectives():
        raise unknown("adaptation objective", objective, mapping.objectives())
    if given is None:
        print(f"objective {objective}, of {task} in the mapping")
    return objective


def _pairs(config: PairConfig, folder: pathlib.Path, base: Checkpoint) -> pathlib.Path:
    """The file of pairs, made by the first process while the others wait; prints the report."""
    if jax.process_index() == 0:
        path, report = make.ensure(config, folder, base)
        wide().print(report.table(f"Sentences of {config.corpus}"))
        print(f"{report.kept} pairs are in {path}, the report in {path.with_name('report.json')}")
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices("adaptation pairs")
    return folder / "pairs.jsonl"


def _check_settings(folder: pathlib.Path, what: Mapping[str, Any], path: pathlib.Path) -> None:
    """MODEL_DIR is new or of this very adaptation: remember it there.

    Raises:
      UserError: it is of another.
    """
    record = folder / "adaptation.json"
    here = {**what, "pairs": digest(path.read_bytes())}
    recorded = read_record(record, unsigned=True) if record.exists() else here
    different = [
        f"{k} is {recorded.get(k)!r} there and {v!r} now"
        for k, v in here.items()
        if recorded.get(k) != v
    ]
    if different:
        raise UserError(
            f"MODEL_DIR {folder} holds another adaptation: {'; '.join(different)}. Choose a new "
            "MODEL_DIR."
        )
    if jax.process_index() == 0:
        folder.mkdir(parents=True, exist_ok=True)
        write_record(record, here)
