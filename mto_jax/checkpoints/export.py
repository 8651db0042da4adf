# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Models written for others: a folder that Transformers loads, or a run directory of ours.

>>> save_huggingface(parameters, config, "exported", vocabulary=vocabulary())
"""

import contextlib
import dataclasses
import json
import os
import pathlib
import shutil
from collections.abc import Iterator, Mapping
from typing import Any

from mto_jax.checkpoints import huggingface, model_card, parameter_names, tensorstore, tokenizer
from mto_jax.checkpoints.lazy import Tensor, in_memory
from mto_jax.errors import UserError
from mto_jax.files import write_digest, write_json, writing
from mto_jax.models.config import ModelConfig
from mto_jax.text2text.vocabulary import Vocabulary


def save_huggingface(
    parameters: Mapping[str, Any],
    config: ModelConfig,
    folder: str | os.PathLike,
    *,
    vocabulary: Vocabulary | None = None,
    dtype: str = "float32",
    source: str = "",
    step_dir: pathlib.Path | None = None,
    name: str | None = None,
    stated: Mapping[str, Any] | None = None,
) -> None:
    """Write a folder that Transformers loads: weights, configs, tokenizer and model card.

    Args:
      parameters: arrays or lazy tensors by name. One after another is fetched and written.
      folder: is made; must be empty if it exists.
      vocabulary: None leaves the tokenizer out.
      dtype: "float32" or "bfloat16".
      source, step_dir, name, stated: for the model card, see `model_card.text`; the name is that of
        the folder unless another is given.

    Raises:
      UserError: the folder is not empty, or parameters are missing or misshapen.
    """
    folder = _new_folder(folder)
    tensors = {n: v if isinstance(v, Tensor) else in_memory(v) for n, v in parameters.items()}
    parameter_names.check_complete(config, tensors)
    if vocabulary is not None and vocabulary.size > config.vocab_size:
        raise UserError(
            f"The vocabulary {vocabulary.path} has {vocabulary.size} ids, but the model "
            f"{config.vocab_size}: it belongs to another model. Set vocabulary.name (macro "
            "VOCABULARY) to that of the model."
        )
    with _whole(folder) as partial:
        if vocabulary is not None:
            tokenizer.write(partial, vocabulary)
        huggingface.write(partial, config, tensors, dtype)
        card = model_card.text(config, name or folder.name, source, step_dir, stated)
        (partial / "README.md").write_text(card)


def save_run(
    folder: str | os.PathLike,
    config: ModelConfig,
    tensors: Mapping[str, Tensor],
    *,
    vocabulary: Vocabulary | None = None,
    vocabulary_name: str = "",
    origin: str = "",
) -> None:
    """Write a run directory with these parameters as step 0: a model to start from or to evaluate.

    The files are those of `runs.Checkpointer`, written tensor by tensor.

    Args:
      vocabulary: goes into the folder, and its digest into the checkpoint; None leaves it open.
      vocabulary_name: what `vocabulary.name` was, for the record.
      origin: where the parameters come from, for the record.

    Raises:
      UserError: the folder is not empty, or parameters are missing or misshapen.
    """
    folder = _new_folder(folder)
    parameter_names.check_complete(config, tensors)
    identity: dict[str, Any] = {"model": dataclasses.asdict(config)}
    if vocabulary is not None:
        identity["vocabulary"] = {"name": vocabulary_name, "digest": vocabulary.digest}
    shapes = {name: ["float32", *tensor.shape] for name, tensor in tensors.items()}
    record = {
        **identity,
        "origin": origin,
        "step": 0,
        "key": [],
        "data": [],
        "metrics": {},
        "score": None,
        "shapes": {"trainable": shapes, "frozen": {}, "optimizer": {}},
    }
    with _whole(folder) as partial:
        step_dir = partial / "checkpoints" / "0"
        (step_dir / "run").mkdir(parents=True)
        tensorstore.write_orbax(step_dir / "trainable", tensors)
        (step_dir / "run" / "metadata").write_text(json.dumps(record))
        write_digest(step_dir)
        if vocabulary is not None:
            vocabulary.save(partial)
        write_json(partial / "model.json", identity)


@contextlib.contextmanager
def _whole(folder: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder to fill: it becomes `folder` when it is whole, and goes if that fails."""
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        with writing(folder):
            yield partial
            if folder.exists():
                folder.rmdir()
            partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _new_folder(folder: str | os.PathLike) -> pathlib.Path:
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty: name another output folder.")
    return folder
