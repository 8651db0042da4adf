# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks before any long work that model, vocabulary, data and checkpoints fit together."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mto_jax import checkpoints, hub
from mto_jax.checkpoints.checkpoint import Checkpoint
from mto_jax.data import loader
from mto_jax.data.manifest import Prepared
from mto_jax.errors import UserError, unknown
from mto_jax.models.adapters import Adapters
from mto_jax.models.config import RUNTIME_FIELDS, T5Config
from mto_jax.text2text.vocabulary import Vocabulary


def check_vocabulary(model: T5Config, adapters: Adapters, vocabulary: Vocabulary) -> None:
    """Raises a UserError unless each id has a row in the embedding, and soft tokens follow them."""
    if adapters.prompt_rows and model.vocab_size != vocabulary.padded_size:
        raise UserError(
            f"A soft prompt needs T5Config.vocab_size = {vocabulary.padded_size}, the padded size "
            f"of the vocabulary {vocabulary.path}, where soft tokens begin; it is "
            f"{model.vocab_size}."
        )
    if model.vocab_size < vocabulary.size:
        raise UserError(
            f"The vocabulary {vocabulary.path} has {vocabulary.size} ids, but T5Config.vocab_size "
            f"is {model.vocab_size}. Set T5Config.vocab_size = {vocabulary.padded_size}, or "
            "VOCABULARY to the one that belongs to the model."
        )
    if model.eos_id != vocabulary.eos_id:
        raise UserError(
            f"The model ends its outputs with token {model.eos_id} (T5Config.eos_id), but the "
            f"vocabulary {vocabulary.path} ends texts with {vocabulary.eos_id}: trained on them, "
            "the model would not stop. Set T5Config.eos_id to the vocabulary's to teach it that."
        )


def check_identity(folder: pathlib.Path, identity: Mapping[str, Any]) -> None:
    """Check that MODEL_DIR is new, or of this model, vocabulary, optimizer and trainable filter.

    Raises:
      UserError: it is of another; names the fields that differ.
    """
    path = folder / "model.json"
    if not path.exists():
        return
    try:
        recorded = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); remove it if the run is yours.") from error
    if "adapters" in recorded:
        recorded["adapters"] = json.loads(
            json.dumps(Adapters.from_dict(recorded["adapters"]).as_dict())
        )
    # Fields that were added since have their default in older records.
    recorded["model"] = dataclasses.asdict(T5Config.from_dict(recorded.get("model", {})))
    here = json.loads(json.dumps(identity))
    different = [
        f"{part}.{field} is {recorded.get(part, {}).get(field)!r} there and {value!r} now"
        for part, fields in here.items()
        for field, value in fields.items()
        if recorded.get(part, {}).get(field) != value
        and not (part == "model" and field in RUNTIME_FIELDS)
        and (part, field) != ("vocabulary", "name")  # a copy elsewhere is the same vocabulary
    ]
    if different:
        raise UserError(
            f"MODEL_DIR {folder} holds another model: {'; '.join(different)}. Choose a new "
            f"MODEL_DIR (with INITIAL_CHECKPOINT_PATH = '{folder}' to start from its parameters "
            "where the model is the same), or give the configuration of that run."
        )


def check_best_metric(name: str | None, dev_sets: Sequence[Prepared]) -> None:
    """Raises a UserError unless `train.best_metric` can be a metric of the dev sets."""
    tasks = {task.name: task for prepared in dev_sets for task in prepared.tasks}
    places = {**tasks, **{prepared.name: prepared for prepared in dev_sets}}
    known = [f"dev/{place}/{value}" for place in places for value in ("loss", "accuracy")]
    measured = tuple(f"dev/{task.name}/" for task in tasks.values() if task.metrics)
    if name is not None and name not in known and not name.startswith(measured):
        raise unknown(
            "dev metric (train.best_metric)", name, [*known, *(f"{m}..." for m in measured)]
        )


def open_initial(path: str, model: T5Config, vocabulary: Vocabulary) -> Checkpoint:
    """The checkpoint INITIAL_CHECKPOINT_PATH, checked before the data are prepared.

    A start from a part of it by rules (load_checkpoint.assignment_map) may change the vocabulary.

    Raises:
      UserError: it is not there, or is of another model or vocabulary.
    """
    if not path.startswith(hub.PREFIX) and not os.path.exists(path):
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH {path} is not there. Give the directory of a run, a step "
            "folder of one, a checkpoint of Hugging Face or T5X, hf://org/name, or None to start "
            "from scratch."
        )
    checkpoint = checkpoints.open(path)
    if not checkpoint.options.assignment_map:
        checkpoint.check_vocabulary(vocabulary)
    if checkpoint.step_dir is None:
        checkpoint.assign(model)
        return checkpoint
    recorded = checkpoint.config
    different = [
        f"{field.name} is {getattr(recorded, field.name)!r} there and "
        f"{getattr(model, field.name)!r} here"
        for field in dataclasses.fields(T5Config)
        if getattr(recorded, field.name) != getattr(model, field.name)
        and field.name not in RUNTIME_FIELDS
    ]
    if different:
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH {path} is of another model: {'; '.join(different)}. Give "
            "T5Config those values (or include the gin file of that model)."
        )
    return checkpoint


def check_soft_tokens(prepared: Prepared, model: T5Config, adapters: Adapters) -> None:
    """Raises a UserError unless the prompt has a row for each soft token of the first examples."""
    for task in prepared.tasks:
        _, examples = next(loader.eval_batches(task, batch_size=1))
        row = (
            max(int(np.max(examples[0][side])) for side in ("inputs", "targets")) - model.vocab_size
        )
        if row >= adapters.prompt_rows:
            raise UserError(
                f"{task.name} ({task.split}) has the soft token {row}, but the model's prompt has "
                f"{adapters.prompt_rows} rows. Bind train.adapters = @PromptTuning() and "
                f"PromptTuning.rows = {row + 1} (as runs/prompt_tune.gin does), or take a template "
                "without a soft prompt."
            )
