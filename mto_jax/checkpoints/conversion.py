# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Checkpoints of other programs, in and out: Hugging Face and T5X, and our own to convert from.

>>> config, parameters = load("hf://google/flan-t5-small")
>>> save(parameters, config, "exported", vocabulary=vocabulary())
>>> print(inspect("runs/a"))
"""

import os
import pathlib
import shutil
import sys
from collections.abc import Mapping
from typing import Any

import jax

from mto_jax import hub
from mto_jax.checkpoints import huggingface, model_card, native, parameter_names, t5x, tokenizer
from mto_jax.checkpoints.foreign import Checkpoint, File, Options, describe_file, place_all
from mto_jax.checkpoints.lazy import Tensor, in_memory
from mto_jax.errors import UserError
from mto_jax.hub import PREFIX, name_in_hub
from mto_jax.models.config import T5Config
from mto_jax.text2text.vocabulary import Vocabulary

__all__ = [
    "PREFIX",
    "Checkpoint",
    "Options",
    "inspect",
    "is_foreign",
    "load",
    "name_in_hub",
    "open_checkpoint",
    "resolve",
    "save",
]


def is_foreign(path: str | os.PathLike) -> bool:
    """Whether `path` means a checkpoint of another program: hf://..., or what is no run of ours."""
    if os.fspath(path).startswith(PREFIX):
        return True
    folder = pathlib.Path(path).expanduser()
    kinds = (huggingface.is_checkpoint, t5x.is_checkpoint, _is_mesh_tensorflow)
    return not native.is_checkpoint(folder) and any(kind(folder) for kind in kinds)


def _is_mesh_tensorflow(path: pathlib.Path) -> bool:
    return any(path.glob("*.ckpt-*.index"))


def resolve(path: str | os.PathLike, options: Options | None = None) -> pathlib.Path:
    """The local folder or file that `path` means, see `hub.resolve`."""
    return hub.resolve(path, allow_pickle=(options or Options()).allow_pickle)


def open_checkpoint(
    path: str | os.PathLike, *, like: T5Config | None = None, options: Options | None = None
) -> Checkpoint:
    """Find out what a checkpoint is and what it holds, without reading its arrays.

    Args:
      path: folder or file, or hf://org/name[@revision].
      like: a model that tells what T5X files do not (activation, reach of the relative bias).
      options: None means `Options()`, as gin binds it (load_checkpoint); so everywhere here.

    Raises:
      UserError: not a checkpoint of a T5.
    """
    file, config = _read(path, like, options or Options())
    if isinstance(config, UserError):
        raise UserError(f"{file.path} ({file.format}) is not a T5: {config}") from config
    return _account(file, config)


def _account(file: File, config: T5Config) -> Checkpoint:
    """What of the file makes up the model, and what does not."""
    if file.side == "ours":
        expected = parameter_names.shapes(config)
        tensors = {name: t for name, t in file.tensors.items() if name in expected}
        built = parameter_names.Assembly(tensors, {name: [name] for name in tensors}, {})
    else:
        built = parameter_names.assemble(config, file.tensors, file.side)
    used = {name for names in built.used.values() for name in names}
    extra = {name: t for name, t in file.tensors.items() if name not in used}
    return Checkpoint(file, config, built.tensors, built.used, built.faults, extra)


def _read(
    path: str | os.PathLike, like: T5Config | None, options: Options
) -> tuple[File, T5Config | UserError]:
    """The file, and the model in it or the reason why it is none."""
    path = resolve(path, options)
    if native.is_checkpoint(path):
        return native.read(path)
    if huggingface.is_checkpoint(path):
        return huggingface.read(path, allow_pickle=options.allow_pickle)
    if _is_mesh_tensorflow(path):
        raise UserError(
            f"{path} is a checkpoint of Mesh TensorFlow, which this program does not read. The same models "
            "are published for T5X (gs://t5-data/pretrained_models/t5x) and on the Hugging Face hub."
        )
    file = t5x.read(path)
    try:
        return file, t5x.config(file.tensors, like)
    except UserError as error:
        return file, error


def load(
    path: str | os.PathLike,
    *,
    config: T5Config | None = None,
    shardings: Mapping[str, jax.sharding.Sharding] | None = None,
    options: Options | None = None,
) -> tuple[T5Config, dict[str, jax.Array]]:
    """The model of a checkpoint and its parameters in float32, by name, each read straight to its devices.

    What is not taken over as it is (rows added to the vocabulary, rules applied) is told on standard error.

    Args:
      path: see `open_checkpoint`.
      config: the model that the parameters must fit; None takes `Checkpoint.model`.
      shardings: where each parameter lives, such as `Blueprint.shardings(mesh)`; None means whole, on the
        first device.
      options: see `open_checkpoint`. Parameters that a rule leaves out are not in the result.

    Raises:
      UserError: not a T5, or it does not fit `config`: every missing, extra or misshapen tensor is
        listed with what was expected.
    """
    options = options or Options()
    checkpoint = open_checkpoint(path, like=config, options=options)
    target, tensors, report = checkpoint.assign(config, options.assignment_map)
    if jax.process_index() == 0:
        for line in (*checkpoint.file.notes, *report):
            print(f"{path}: {line}", file=sys.stderr)
    return target, place_all(tensors, shardings)


def inspect(path: str | os.PathLike, options: Options | None = None) -> str:
    """What a checkpoint is, for a person: format, family, sizes, types, layers, step, anything odd.

    Raises:
      UserError: no checkpoint that this program knows.
    """
    file, config = _read(path, None, options or Options())
    if isinstance(config, UserError):
        return describe_file(file, str(config))
    return _account(file, config).description()


def save(
    parameters: Mapping[str, Any],
    config: T5Config,
    folder: str | os.PathLike,
    *,
    vocabulary: Vocabulary | None = None,
    dtype: str = "float32",
    source: str = "",
    step_dir: pathlib.Path | None = None,
) -> None:
    """Write a folder that Transformers loads: weights, configs, tokenizer and model card.

    Args:
      parameters: arrays or lazy tensors by name. One after another is fetched and written.
      folder: is made; must be empty if it exists.
      vocabulary: None leaves the tokenizer out.
      dtype: "float32" or "bfloat16".
      source, step_dir: for the model card, see `card.text`.

    Raises:
      UserError: the folder is not empty, or parameters are missing or misshapen.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty: name another output folder.")
    tensors = {n: v if isinstance(v, Tensor) else in_memory(v) for n, v in parameters.items()}
    parameter_names.check_complete(config, tensors)
    if vocabulary is not None and vocabulary.size > config.vocab_size:
        raise UserError(
            f"The vocabulary {vocabulary.path} has {vocabulary.size} ids, but the model {config.vocab_size}: it "
            "belongs to another model. Set vocabulary.name (macro VOCABULARY) to that of the model."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    if vocabulary is not None:
        tokenizer.write(partial, vocabulary)
    huggingface.write(partial, config, tensors, dtype)
    (partial / "README.md").write_text(model_card.text(config, folder.name, source, step_dir))
    if folder.exists():
        folder.rmdir()
    partial.rename(folder)
