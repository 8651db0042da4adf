# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checks before any long work that model, vocabulary, data and checkpoints fit together."""

import contextlib
import dataclasses
import json
import os
import pathlib
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gin
import numpy as np

from mto_jax import checkpoints, hub
from mto_jax.checkpoints.checkpoint import Checkpoint, check_start
from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from mto_jax.data.manifest import Prepared
from mto_jax.errors import UserError, unknown
from mto_jax.models.adapters import Adapters
from mto_jax.models.config import (
    RUNTIME_FIELDS,
    ModelConfig,
    T5Config,
    T5GemmaConfig,
    from_record,
    model_config,
)
from mto_jax.text2text import vocabulary as vocabularies
from mto_jax.text2text.tokenising import SoftPrompt
from mto_jax.text2text.vocabulary import Vocabulary


def check_vocabulary(model: ModelConfig, adapters: Adapters, vocabulary: Vocabulary) -> None:
    """Checks that each id has a row in the embedding, and soft tokens follow them.

    Raises:
      UserError: they do not fit; or the decoder begins with no token of this vocabulary, or would
        read soft tokens of the encoder's width, which it does not have.
    """
    kind = type(model).__name__
    soft, encoder, decoder = SoftPrompt().decoder_length, model.of_encoder.d_model, model.d_model
    if adapters.prompt_rows and soft and encoder != decoder:
        raise UserError(
            f"SoftPrompt.decoder_length is {soft}, but a soft prompt is as wide as the encoder, "
            f"{encoder}, and the decoder {decoder}: it cannot read one. Set "
            "SoftPrompt.decoder_length = 0; then the prompt stands in the source alone."
        )
    if adapters.prompt_rows and model.vocab_size != vocabulary.padded_size:
        raise UserError(
            f"A soft prompt needs {kind}.vocab_size = {vocabulary.padded_size}, the padded size "
            f"of the vocabulary {vocabulary.path}, where soft tokens begin; it is "
            f"{model.vocab_size}."
        )
    if model.vocab_size < vocabulary.size:
        raise UserError(
            f"The vocabulary {vocabulary.path} has {vocabulary.size} ids, but {kind}.vocab_size "
            f"is {model.vocab_size}. Set {kind}.vocab_size = {vocabulary.padded_size}, or "
            "VOCABULARY to the one that belongs to the model."
        )
    check_start(model, vocabulary)
    if model.eos_id != vocabulary.eos_id:
        raise UserError(
            f"The model ends its outputs with token {model.eos_id} ({kind}.eos_id), but the "
            f"vocabulary {vocabulary.path} ends texts with {vocabulary.eos_id}: trained on them, "
            f"the model would not stop. Set {kind}.eos_id to the vocabulary's to teach it that."
        )


def check_identity(folder: pathlib.Path, identity: Mapping[str, Any]) -> None:
    """Check that MODEL_DIR is new, or of this model, vocabulary, optimizer and trainable filter.

    Raises:
      UserError: it is of another; names the fields that differ.
    """
    if not (folder / "model.json").exists():
        return
    recorded = _recorded(folder)
    with _reading(folder):
        if "adapters" in recorded:
            recorded["adapters"] = json.loads(
                json.dumps(Adapters.from_dict(recorded["adapters"]).as_dict())
            )
        # Fields that were added since have their default in older records.
        recorded["model"] = dataclasses.asdict(from_record(recorded.get("model", {})))
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


def _recorded(folder: pathlib.Path) -> dict[str, Any]:
    """The identity that a run has on record."""
    path = folder / "model.json"
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is not JSON ({error}); remove it if the run is yours.") from error


@contextlib.contextmanager
def _reading(folder: pathlib.Path) -> Iterator[None]:
    """Names the file in which something is wrong."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{folder / 'model.json'}: {error}") from error


def check_best_metric(name: str | None, dev_sets: Sequence[DatasetConfig]) -> None:
    """Raises a UserError unless `train.best_metric` has the form of a metric of the dev sets.

    What can be said before the dev sets are prepared: the tasks of a mixture are not known yet.
    """
    if name is not None and not (dev_sets and re.fullmatch(r"dev/.+/.+", name)):
        known = [f"dev/{dataset.mixture_or_task_name}/loss" for dataset in dev_sets]
        raise unknown("dev metric (train.best_metric)", name, known)


def check_best_metric_of(name: str | None, dev_sets: Sequence[Prepared]) -> None:
    """Raises a UserError unless `train.best_metric` can be a metric of the prepared dev sets."""
    tasks = {task.name: task for prepared in dev_sets for task in prepared.tasks}
    places = {**tasks, **{prepared.name: prepared for prepared in dev_sets}}
    known = [f"dev/{place}/{value}" for place in places for value in ("loss", "accuracy")]
    measured = tuple(f"dev/{task.name}/" for task in tasks.values() if task.metrics)
    if name is not None and name not in known and not name.startswith(measured):
        raise unknown(
            "dev metric (train.best_metric)", name, [*known, *(f"{m}..." for m in measured)]
        )


def open_initial(path: str) -> Checkpoint:
    """The checkpoint INITIAL_CHECKPOINT_PATH.

    Raises:
      UserError: it is not there.
    """
    if not path.startswith(hub.PREFIX) and not os.path.exists(path):
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH {path} is not there. Give the directory of a run, a step "
            "folder of one, a checkpoint of Hugging Face or T5X, hf://org/name, or None to start "
            "from scratch."
        )
    return checkpoints.open(path)


def model_of(
    model: ModelConfig | None, folder: pathlib.Path, initial: Checkpoint | None
) -> ModelConfig:
    """Returns the model to train.

    It is `model`; else that of the run in MODEL_DIR, or of the checkpoint to start from, with what
    gin binds of its configuration, which `check_identity` and `check_initial` compare; else
    `model_config()`.
    """
    if model is not None:
        return model
    if (folder / "model.json").exists():
        recorded = _recorded(folder)
        with _reading(folder):
            stored = from_record(recorded.get("model", {}))
    elif initial is not None:
        stored = initial.config
    else:
        return model_config()
    other = T5Config if isinstance(stored, T5GemmaConfig) else T5GemmaConfig
    if sizes := sorted(gin.get_bindings(other.__name__).keys() - {*RUNTIME_FIELDS}):
        raise UserError(
            f"The model to train is described by {type(stored).__name__}, but gin binds "
            f"{', '.join(sizes)} of {other.__name__}: leave out the gin file of models/, which "
            "takes the sizes of the checkpoint."
        )
    return dataclasses.replace(stored, **gin.get_bindings(type(stored).__name__))


def vocabulary_of(folder: pathlib.Path, initial: Checkpoint | None) -> Vocabulary:
    """Returns the vocabulary to train with, which becomes that of this process.

    It is what gin binds; else that of the run in MODEL_DIR, or of the checkpoint to start from.
    """
    if gin.get_bindings("vocabulary").get("name") is None:
        if beside := vocabularies.in_folder(folder.absolute()):
            with gin.unlock_config():
                gin.bind_parameter("vocabulary.name", beside)
        elif initial is not None:
            return initial.adopt_vocabulary()
    return vocabularies.vocabulary()


def check_initial(checkpoint: Checkpoint, model: ModelConfig, vocabulary: Vocabulary) -> None:
    """Checks the checkpoint INITIAL_CHECKPOINT_PATH before the data are prepared.

    A start from a part of it by rules (load_checkpoint.assignment_map) may change the vocabulary.

    Raises:
      UserError: it is of another model or vocabulary.
    """
    if not checkpoint.options.assignment_map:
        checkpoint.check_vocabulary(vocabulary)
    if checkpoint.step_dir is None:
        checkpoint.assign(model)
        return
    recorded = checkpoint.config
    different = [
        f"{field.name} is {getattr(recorded, field.name)!r} there and "
        f"{getattr(model, field.name)!r} here"
        for field in dataclasses.fields(model)
        if getattr(recorded, field.name) != getattr(model, field.name)
        and field.name not in RUNTIME_FIELDS
    ]
    if different:
        raise UserError(
            f"INITIAL_CHECKPOINT_PATH {checkpoint.title} is of another model: "
            f"{'; '.join(different)}. Leave out the sizes ({type(model).__name__}, a gin file of "
            "models/), which takes those of the checkpoint."
        )


def check_soft_tokens(prepared: Prepared, model: ModelConfig, adapters: Adapters) -> None:
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
