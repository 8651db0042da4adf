# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The models that the cells of a grid start from: checkpoints as they are, or adapted first."""

import dataclasses
import functools
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from mto_jax import checkpoints
from mto_jax.checkpoints import Checkpoint
from mto_jax.checks import Place
from mto_jax.errors import UserError
from mto_jax.experiments import made_models
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.made_models import Pretraining
from mto_jax.files import Store, digest
from mto_jax.hub import is_here
from mto_jax.models.encoder_decoder import EncoderDecoder
from mto_jax.text2text import mapping
from mto_jax.text2text.vocabulary import Vocabulary

MATCHED = "matched"  # an objective: what the mapping (`mapping.tasks`) has for the cell's task


class Base(NamedTuple):
    """A model of the axis "model", before it is loaded."""

    checkpoint: Checkpoint
    vocabulary: Vocabulary


def objective(cell: Cell) -> str:
    """The objective under which the cell's model is adapted."""
    return mapping.choice_of(cell.task).objective if cell.objective == MATCHED else cell.objective


@dataclasses.dataclass(frozen=True, eq=False)
class BaseModels:
    """The models by name, opened once; the last one that was loaded is kept.

    Attributes:
      models: the checkpoint of each name, or the pre-training that makes them.
      stages_dir: where adapted models are kept.
      adaptation: gin files of `mto adapt`.
    """

    models: Mapping[str, Place] | Pretraining
    stages_dir: Place
    adaptation: Sequence[str]
    _opened: dict[str, Base] = dataclasses.field(default_factory=dict, init=False)
    _loaded: dict[tuple[str, str], EncoderDecoder] = dataclasses.field(
        default_factory=dict, init=False
    )
    _failed: dict[str, UserError] = dataclasses.field(default_factory=dict, init=False)

    @functools.cached_property
    def paths(self) -> Mapping[str, Place]:
        """Where each model is, or will be."""
        return self.models.models() if isinstance(self.models, Pretraining) else self.models

    def missing(self) -> list[str]:
        """The models that `make` would train, or that are not on this machine."""
        if isinstance(self.models, Pretraining):
            return [f"{arm}-{seed} (to be trained)" for arm, seed in self.models.missing()]
        return [f"{name} ({path})" for name, path in self.paths.items() if not is_here(str(path))]

    def make(self) -> None:
        """Pre-train the models that are to be made and are not there.

        Raises:
          UserError: a training failed; names the log.
        """
        if isinstance(self.models, Pretraining):
            self.models.make()

    def __getitem__(self, name: str) -> Base:
        if name not in self._opened:
            checkpoint = checkpoints.open(self.paths[name])
            self._opened[name] = Base(checkpoint, checkpoint.adopt_vocabulary())
        return self._opened[name]

    def start(self, cell: Cell) -> str:
        """The path of the checkpoint that a cell starts from."""
        if (adapted := objective(cell)) != "none":
            return str(self.adapted_folder(cell.model, adapted))
        return str(self.paths[cell.model])

    def load(self, cell: Cell) -> EncoderDecoder:
        """The model that a cell starts from, adapted first where its objective asks for it."""
        key = (cell.model, objective(cell))
        if key not in self._loaded:
            base = self[cell.model]
            checkpoint = base.checkpoint if key[1] == "none" else self._adapted(*key)
            self._loaded.clear()
            self._loaded[key] = checkpoint.model(base.vocabulary)
        return self._loaded[key]

    def adaptation_digest(self) -> str:
        """16 hexadecimal digits of the gin files of the adaptation."""
        return digest([text for name in self.adaptation for text in made_models.gin_texts(name)])[
            :16
        ]

    def adapted_folder(self, name: str, objective: str) -> pathlib.Path:
        """Where the model of that name is kept after adaptation."""
        made_from = digest([self[name].checkpoint.digest, self.adaptation_digest()])[:12]
        return pathlib.Path(self.stages_dir, "adapted", f"{name}-{objective}-{made_from}")

    def _adapted(self, name: str, objective: str) -> Checkpoint:
        """The model after adaptation, made unless it is there.

        An adaptation that failed here before fails at once: cells that share it all say why.
        """
        folder = self.adapted_folder(name, objective)
        if folder.name in self._failed:
            raise self._failed[folder.name]

        def make(path: pathlib.Path) -> None:
            start = {"INITIAL_CHECKPOINT_PATH": self.paths[name], "OBJECTIVE": objective}
            made_models.make("adapt", path, self.adaptation, start)

        try:
            return checkpoints.open(Store(folder.parent).fill(folder.name, make))
        except UserError as error:
            self._failed[folder.name] = error
            raise
