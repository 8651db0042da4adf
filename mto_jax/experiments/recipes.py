# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What the cells of a grid train, and how."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from mto_jax.checkpoints import peft
from mto_jax.data.dataset import DatasetConfig
from mto_jax.experiments.adapters import for_template
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.strategies import ADAPTER_METHODS, FINE_TUNE, STRATEGIES
from mto_jax.models.adapters import NONE, Adapters, Method, PromptTuning
from mto_jax.models.adapters.prompt_init import PromptInit
from mto_jax.text2text.templates import TEMPLATES
from mto_jax.training.finetune import Tuning
from mto_jax.training.multi_adapter import MultiAdapterTuning


@dataclasses.dataclass(frozen=True)
class Recipes:
    """The trainings of cells; attributes as `FewShot` has them, with gin's optimizers."""

    tuning: Tuning
    prompt_tuning: MultiAdapterTuning
    prompt_length: int
    prompt_encoder: str
    adapters: Mapping[str, Adapters | Method | Sequence[Method]]
    init: PromptInit
    trainable: Mapping[str, str | Sequence[str]]
    replay: DatasetConfig | None

    def adapters_of(self, cell: Cell) -> Adapters:
        """What the cell trains on the frozen model, with the length of one prompt."""
        if cell.method == "adapter_tune":
            return Adapters.of(self.adapters[cell.values["adapter"]])
        if cell.method == "prompt_tune":
            return Adapters.of(PromptTuning(self.prompt_length, self.prompt_encoder))
        return STRATEGIES[cell.method].adapters if cell.method in STRATEGIES else NONE

    def with_all_rows(self, cell: Cell) -> Adapters:
        """What the cell trains, with rows for all soft tokens of its template."""
        return for_template(self.adapters_of(cell), TEMPLATES[cell.template])

    def of(self, cell: Cell) -> Tuning | MultiAdapterTuning | None:
        """How the cell trains; None where nothing does."""
        if cell.method in FINE_TUNE:
            return self.fine_tuning(cell)
        return self.adapter_tuning(cell) if cell.method in ADAPTER_METHODS else None

    def fine_tuning(self, cell: Cell) -> Tuning:
        """The fine-tuning of a cell, as its axes or its strategy say."""
        tuning = _at_rate(self.tuning, cell.values.get("learning_rate"))
        if strategy := STRATEGIES.get(cell.method):
            return dataclasses.replace(
                tuning, trainable=strategy.trainable, replay_share=strategy.replay
            )
        if part := cell.values.get("trainable"):
            tuning = dataclasses.replace(tuning, trainable=self.trainable[part])
        if share := cell.values.get("replay"):
            tuning = dataclasses.replace(tuning, replay_share=share)
        return tuning

    def adapter_tuning(self, cell: Cell) -> MultiAdapterTuning:
        """The training of the cell's adapter."""
        return _at_rate(self.prompt_tuning, cell.values.get("learning_rate"))

    def shared(self, cell: Cell) -> Any:
        """The tuning of the cell's method, without a rate that is its place on an axis: cells that
        differ in it train together."""
        tuning = self.tuning if cell.method in FINE_TUNE else self.prompt_tuning
        return tuning if cell.values.get("learning_rate") is None else _at_rate(tuning, 0.0)

    def settings(self, cell: Cell) -> dict[str, Any]:
        """What decides the training of a cell beside its place on the axes, as JSON."""
        settings: dict[str, Any] = {"tuning": repr(self.shared(cell))}
        if cell.method in ADAPTER_METHODS:
            settings["adapters"] = repr(self.with_all_rows(cell))
            if self.init.kind != "uniform":
                settings["init"] = self.init.identity(peft.prompt_rows)
            return settings
        tuning = self.fine_tuning(cell)
        if tuning.trainable != self.tuning.trainable:
            settings["trainable"] = tuning.trainable
        if tuning.replay_share:
            settings["replay"] = repr(self.replay)
            if cell.method in STRATEGIES:
                settings["replay share"] = tuning.replay_share
        return settings

    def steps(self, cell: Cell, examples: int) -> int:
        """The steps of a training on so many examples; 0 where nothing trains."""
        tuning = self.of(cell)
        return tuning.steps(examples) if tuning else 0

    def rows(self, cell: Cell, examples: int) -> int:
        """The rows of all these steps."""
        tuning = self.of(cell)
        return tuning.steps(examples) * tuning.batch_size if tuning else 0


def _at_rate(tuning: Any, rate: float | None) -> Any:
    if rate is None:
        return tuning
    optimizer = dataclasses.replace(tuning.optimizer, learning_rate=rate)
    return dataclasses.replace(tuning, optimizer=optimizer)
