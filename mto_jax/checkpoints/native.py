# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Our own checkpoints as lazy tensors, and writing one from a converted model."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from mto_jax.checkpoints import parameter_names, runs, tensorstore
from mto_jax.checkpoints.foreign import File
from mto_jax.checkpoints.lazy import Tensor
from mto_jax.errors import UserError
from mto_jax.files import write_atomically, write_digest
from mto_jax.models.config import T5Config
from mto_jax.text2text.vocabulary import Vocabulary


def is_checkpoint(path: pathlib.Path) -> bool:
    """Whether `path` is a run directory or a step folder of one."""
    return (path / "run").is_dir() or (path / "checkpoints").is_dir()


def read(path: str | os.PathLike) -> tuple[File, T5Config]:
    """The parameters of the newest good step of a run, or of a step folder.

    Raises:
      UserError: nothing there, or it is damaged.
    """
    step_dir = runs.resolve(path)
    run = runs.description(step_dir)
    tensors = {}
    for item in ("trainable", "frozen"):
        if (step_dir / item).is_dir():
            arrays, zarr3 = tensorstore.orbax_names(step_dir / item)
            for name, stored in arrays.items():
                tensors[name] = tensorstore.array(step_dir / item, stored, zarr3=zarr3)
    file = File(
        path=str(step_dir),
        format="MTO-JAX",
        side="ours",
        tensors=tensors,
        step=run["step"],
        layers="scanned",
    )
    return file, T5Config.from_dict(run["model"])


def write(
    folder: str | os.PathLike,
    config: T5Config,
    tensors: Mapping[str, Tensor],
    *,
    vocabulary: Vocabulary | None = None,
    vocabulary_name: str = "",
    origin: str = "",
) -> None:
    """A run directory with these parameters as step 0, for INITIAL_CHECKPOINT_PATH, evaluate and infer.

    The files are those of `checkpoints.Checkpointer`, written tensor by tensor.

    Args:
      vocabulary: goes into the folder, and its digest into the checkpoint; None leaves it open.
      vocabulary_name: what `vocabulary.name` was, for the record.
      origin: where the parameters come from, for the record.

    Raises:
      UserError: the folder is not empty, or parameters are missing or misshapen.
    """
    folder = pathlib.Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not empty: name another output folder.")
    parameter_names.check_complete(config, tensors)
    identity: dict[str, Any] = {"model": dataclasses.asdict(config)}
    if vocabulary is not None:
        identity["vocabulary"] = {"name": vocabulary_name, "digest": vocabulary.digest}
    shapes = {name: ["float32", *tensor.shape] for name, tensor in tensors.items()}
    run = {
        **identity,
        "origin": origin,
        "step": 0,
        "key": [],
        "data": [],
        "metrics": {},
        "score": None,
        "shapes": {"trainable": shapes, "frozen": {}, "optimizer": {}},
    }
    step_dir = folder / "checkpoints" / "0"
    partial = folder / "checkpoints" / ".partial"
    (partial / "trainable").mkdir(parents=True)
    (partial / "run").mkdir()
    tensorstore.write_orbax(partial / "trainable", tensors)
    (partial / "run" / "metadata").write_text(json.dumps(run))
    write_digest(partial)
    partial.rename(step_dir)
    if vocabulary is not None:
        vocabulary.save(folder)
    write_atomically(folder / "model.json", json.dumps(identity, indent=2) + "\n")
