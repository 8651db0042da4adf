# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What `mto train` tells before any long work: that model, vocabulary, data and checkpoints fit together."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mto_jax.checkpoints import conversion, pretrained
from mto_jax.data import loader
from mto_jax.data.manifest import Prepared
from mto_jax.errors import UserError, unknown
from mto_jax.models.adapters import Adapters
from mto_jax.models.config import RUNTIME_FIELDS, T5Config
from mto_jax.text2text.vocabulary import Vocabulary


def check_vocabulary(model: T5Config, adapters: Adapters, vocabulary: Vocabulary) -> None:
    """Every id of the vocabulary has a row in the embedding, and soft tokens begin right after them."""
    if adapters.prompt_rows and model.vocab_size != vocabulary.padded_size:
        raise UserError(
            f"A soft prompt needs T5Config.vocab_size = {vocabulary.padded_size}, the padded size of the "
            f"vocabulary {vocabulary.path}, where soft tokens begin; it is {model.vocab_size}."
        )
    if model.vocab_size < vocabulary.size:
        raise UserError(
            f"The vocabulary {vocabulary.path} has {vocabulary.size} ids, but T5Config.vocab_size is "
            f"{model.vocab_size}. Set T5Config.vocab_size = {vocabulary.padded_size}, or VOCABULARY to the "
            "one that belongs to the model."
        )


def check_identity(folder: pathlib.Path, identity: Mapping[str, Any]) -> None:
    """MODEL_DIR is new, or of this very model, vocabulary, optimizer and trainable filter.

    Raises:
      UserError: it is of another; names the fields that differ.
    """
    path = folder / "model.json"
    if not path.exists():
        return
    try:
        there = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); remove it if the run is yours.") from error
    if "adapters" in there:
        there["adapters"] = json.loads(json.dumps(Adapters.from_dict(there["adapters"]).as_dict()))
    here = json.loads(json.dumps(identity))
    different = [
        f"{part}.{field} is {there.get(part, {}).get(field)!r} there and {value!r} now"
        for part, fields in here.items()
        for field, value in fields.items()
        if there.get(part, {}).get(field) != value
        and not (part == "model" and field in RUNTIME_FIELDS)
        and (part, field) != ("vocabulary", "name")  # a copy elsewhere is the same vocabulary
    ]
    if different:
        raise UserError(
            f"MODEL_DIR {folder} holds another model: {'; '.join(different)}. Choose a new MODEL_DIR "
            f"(with INITIAL_CHECKPOINT_PATH = '{folder}' to start from its parameters where the "
            "model is the same), or give the configuration of that run."
        )


def check_best_metric(name: str | None, dev_sets: Sequence[Prepared]) -> None:
    """`train.best_metric` is one that the dev sets can have: told before training, as far as it is known."""
    tasks = {task.name: task for prepared in dev_sets for task in prepared.tasks}
    places = {**tasks, **{prepared.name: prepared for prepared in dev_sets}}
    known = [f"dev/{place}/{value}" for place in places for value in ("loss", "accuracy")]
    measured = tuple(f"dev/{task.name}/" for task in tasks.values() if task.metrics)
    if name is not None and name not in known and not name.startswith(measured):
        raise unknown(
            "dev metric (train.best_metric)", name, [*known, *(f"{m}..." for m in measured)]
        )


def check_initial(path: str, model: T5Config, vocabulary: Vocabulary) -> None:
    """INITIAL_CHECKPOINT_PATH is there and fits: told now and not after the data are prepared.

    Who takes over a part by rules (load_checkpoint.assignment_map) may change the vocabulary.
    """
    if not path.startswith(conversion.PREFIX) and not os.path.exists(path):
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH {path} is not there. Give the directory of a run, a step folder of "
            "one, a checkpoint of Hugging Face or T5X, hf://org/name, or None to start from scratch."
        )
    found = pretrained.locate(path)
    there = pretrained.config_of(found)
    rules = conversion.Options().assignment_map
    if not rules:
        pretrained.check_vocabulary(found, there, vocabulary)
    if conversion.is_foreign(found):
        conversion.open_checkpoint(found, like=model).assign(model, rules)
        return
    different = [
        f"{field.name} is {getattr(there, field.name)!r} there and {getattr(model, field.name)!r} here"
        for field in dataclasses.fields(T5Config)
        if getattr(there, field.name) != getattr(model, field.name)
        and field.name not in RUNTIME_FIELDS
    ]
    if different:
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH {path} is of another model: {'; '.join(different)}. Give T5Config "
            "those values (or include the gin file of that model)."
        )


def check_soft_tokens(prepared: Prepared, model: T5Config, adapters: Adapters) -> None:
    """The prompt has a row for each soft token of the tasks (as their first examples have them)."""
    for task in prepared.tasks:
        _, examples = next(loader.eval_batches(task, batch_size=1))
        row = (
            max(int(np.max(examples[0][side])) for side in ("inputs", "targets")) - model.vocab_size
        )
        if row >= adapters.prompt_rows:
            raise UserError(
                f"{task.name} ({task.split}) has the soft token {row}, but the model's prompt has "
                f"{adapters.prompt_rows} rows. Bind train.adapters = @PromptTuning() and PromptTuning.rows = "
                f"{row + 1} (as runs/prompt_tune.gin does), or take a template without a soft prompt."
            )
