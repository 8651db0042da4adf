# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The gin file that does what was advised, for the verb that does it."""

import dataclasses
import pathlib
from typing import Any

from mto_jax.experiments.grid import Cell
from mto_jax.experiments.runner import FewShot
from mto_jax.experiments.strategies import ADAPTER_METHODS, FINE_TUNE
from mto_jax.models.config import RUNTIME_FIELDS
from mto_jax.text2text.templates import TEMPLATES
from mto_jax.training.optimizers import Optimizer


def text(runner: FewShot, cell: Cell, examples: int, folder: pathlib.Path) -> tuple[str, str]:
    """Returns (verb, content of the gin file) of the strategy of a cell.

    Args:
      runner: of the cell.
      cell: with the strategy, the heads to train on (0 for none) and the learning rate.
      examples: of so many heads.
      folder: in which the result of the command gets a folder of its own.
    """
    if cell.method in ADAPTER_METHODS:
        verb, included, values = "tune", "runs/tune.gin", _adapter(runner, cell)
    elif cell.method in FINE_TUNE:
        verb, included, values = "train", "runs/finetune.gin", _training(runner, cell, examples)
    elif cell.method == "frozen":
        verb, included, values = "evaluate", "runs/evaluate.gin", _evaluation(runner, cell)
    else:
        verb, included, values = "tables", "tables/grid.gin", _shown(runner, cell)
    if cell.method != "frozen":
        out = "MODEL_DIR" if verb == "train" else "OUTPUT_DIR"
        values[out] = str(folder / "advised")
    values["MIXTURE_OR_TASK_MODULE"] = runner.module
    values["TASK_FEATURE_LENGTHS"] = dict(runner.task_feature_lengths)
    path = folder / "advice.gin"
    lines = [
        f"# What `mto advise` recommends for {cell.task}: {cell.method}.",
        "#",
        "# Command:",
        f"#   mto {verb} --gin_file={path}",
        "",
        f"include {included!r}",
        "",
        *(f"{name} = {_value(value)}" for name, value in values.items()),
    ]
    return verb, "\n".join(lines) + "\n"


class _Reference(str):
    """What stands in gin as it is, such as @LoRA()."""


def _value(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return value if isinstance(value, _Reference) else repr(value)


def _fields(instance: Any, *but: str) -> dict[str, Any]:
    """{Class.field: value} of a dataclass."""
    name = type(instance).__name__
    return {
        f"{name}.{field.name}": getattr(instance, field.name)
        for field in dataclasses.fields(instance)
        if field.init and field.name not in but
    }


def _task_name(cell: Cell) -> str:
    """The SeqIO task of the cell's data set and template."""
    template = TEMPLATES[cell.template]
    if template.name == "AsRegistered":
        return cell.task
    return f"{cell.task}_{template.snake_name}"


def _heads(runner: FewShot, verb: str) -> dict[str, Any]:
    """The heads that `tune` trains, chooses and tests on, as the advice did."""
    names = ("tails", "dev_heads", "test_heads", "references", "test_split")
    return {f"{verb}.{name}": getattr(runner, name) for name in names}


def _optimizer(optimizer: Optimizer, name: str = "Optimizer") -> dict[str, Any]:
    values = _fields(optimizer)
    values["Optimizer.options"] = dict(optimizer.options)
    return {key.replace("Optimizer", name, 1): value for key, value in values.items()}


def _adapter(runner: FewShot, cell: Cell) -> dict[str, Any]:
    tuning = runner.recipes.adapter_tuning(cell)
    assert tuning.optimizer
    methods = runner.recipes.adapters_of(cell).methods
    return {
        "TASKS": [cell.task],
        "TEMPLATES": [cell.template],
        "ADAPTERS": [_Reference(f"@{type(method).__name__}()") for method in methods],
        **{key: value for method in methods for key, value in _fields(method).items()},
        "INITIAL_CHECKPOINT_PATH": runner.bases.start(cell),
        "LEARNING_RATES": [tuning.optimizer.learning_rate],
        "SEEDS": [cell.seed],
        "tune.shots": cell.shots,
        **_heads(runner, "tune"),
        **_fields(tuning, "optimizer"),
        **_optimizer(tuning.optimizer),
    }


def _training(runner: FewShot, cell: Cell, examples: int) -> dict[str, Any]:
    tuning: Any = runner.recipes.fine_tuning(cell)
    checkpoint = runner.bases[cell.model].checkpoint
    sizes = {
        key: value
        for key, value in _fields(checkpoint.config, "dropout_rate").items()
        if key.rpartition(".")[2] not in RUNTIME_FIELDS
    }
    if checkpoint.config.family != "t5":
        sizes["model_config.family"] = checkpoint.config.family
    trainable = tuning.trainable
    values = {
        "MIXTURE_OR_TASK_NAME": _task_name(cell),
        "INITIAL_CHECKPOINT_PATH": runner.bases.start(cell),
        "VOCABULARY": checkpoint.find_vocabulary()[0],
        "TRAIN_STEPS": tuning.steps(examples),
        "BATCH_SIZE": tuning.batch_size,
        "DROPOUT_RATE": tuning.dropout_rate or 0.0,
        "few_shot.shots": cell.shots,
        "few_shot.tails_per_head": runner.tails,
        "few_shot.seed": cell.seed,
        "train.seed": cell.seed,
        "train.trainable": trainable if isinstance(trainable, str) else [*trainable],
        **_optimizer(tuning.optimizer),
        **sizes,
    }
    if tuning.replay_share:
        assert runner.replay
        values["REPLAY"] = runner.replay.mixture_or_task_name
        values["REPLAY_SHARE"] = tuning.replay_share
    return values


def _evaluation(runner: FewShot, cell: Cell) -> dict[str, Any]:
    return {
        "MODEL_DIR": runner.bases.start(cell),
        "MIXTURE_OR_TASK_NAME": _task_name(cell),
        "SPLIT": runner.test_split,
        "HEADS": runner.test_heads,
        "REFERENCES": runner.references,
    }


def _shown(runner: FewShot, cell: Cell) -> dict[str, Any]:
    return {
        "MODELS": {"base": runner.bases.start(cell)},
        "STAGES_DIR": str(runner.stages_dir),
        "SEEDS": [cell.seed],
        "TEST_HEADS": runner.test_heads,
        "Grid.name": "advised",
        "Grid.metric": runner.tasks.metric([cell.task], ""),
        "Grid.model": ["base"],
        "Grid.template": [cell.template],
        "Grid.task": [cell.task],
        "Grid.shots": [cell.shots],
        "Grid.method": [cell.method],
        "FewShot.references": runner.references,
        "FewShot.test_split": runner.test_split,
    }
