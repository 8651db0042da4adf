# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a checkpoint was trained on: task, template, lengths, as its run or adapter records it."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from mto_jax import config
from mto_jax.checkpoints.checkpoint import Checkpoint
from mto_jax.checkpoints.opening import Adapted, Run
from mto_jax.data.dataset import LENGTHS
from mto_jax.text2text.phrases import relation_phrase
from mto_jax.text2text.templates import TEMPLATES, Template
from mto_jax.text2text.tokenising import SoftPrompt


@dataclasses.dataclass(frozen=True)
class Trained:
    """The training data of a checkpoint, as far as it is known.

    Attributes:
      task: name of the SeqIO task, such as "uses_masked_prompting"; None if nothing is known.
      module: module(s) that register it, comma-separated.
      lengths: most tokens of each feature.
      values: all gin values of the run, as `config.recorded` gives them.
    """

    task: str | None = None
    module: str | None = None
    lengths: Mapping[str, int] | None = None
    values: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def data_set(self) -> str | None:
        """The task without its template; None if it has none."""
        template = self.template([*TEMPLATES.values()])
        return f"{self.task}".removesuffix(f"_{template.snake_name}") if template else None

    def template(self, fitting: Sequence[Template]) -> Template | None:
        """Returns which of some templates the task's name ends with; None if none."""
        ends = [t for t in fitting if f"{self.task}".endswith(f"_{t.snake_name}")]
        return max(ends, key=lambda template: len(template.snake_name), default=None)


def trained(checkpoint: Checkpoint) -> Trained:
    """Returns what a checkpoint was trained on.

    A run of `mto train` knows it by its config.gin; a folder of `mto tune` by its description;
    other checkpoints say nothing.
    """
    if isinstance(checkpoint, Adapted):
        description = checkpoint.adapter_description()
        task, template = description.get("task"), TEMPLATES.get(description.get("template", ""))
        return Trained(f"{task}_{template.snake_name}" if task and template else None)
    if not isinstance(checkpoint, Run) or not (checkpoint.run_dir / "config.gin").is_file():
        return Trained()
    values = config.recorded(checkpoint.run_dir / "config.gin")

    def value(parameter: str) -> Any:
        general = values.get(f"DatasetConfig.{parameter}")
        return values.get(f"train/DatasetConfig.{parameter}", general)

    task = value("mixture_or_task_name")
    choice = (values.get("mapping.tasks") or {}).get(task)
    if choice and choice[1] != "AsRegistered":
        task = f"{task}_{TEMPLATES[choice[1]].snake_name}"
    return Trained(task, value("module"), value("task_feature_lengths"), values)


# Configurables that source texts and their tokens depend on.
_SOURCES = (SoftPrompt.__name__, relation_phrase.__name__)


def adopt(checkpoint: Checkpoint) -> Trained:
    """Binds in gin what a checkpoint was trained on, where gin says nothing else, and returns it.

    That is the data set (`DatasetConfig`: task, module, lengths) and what sources depend on.
    """
    known = trained(checkpoint)
    values = {name: v for name, v in known.values.items() if name.rpartition(".")[0] in _SOURCES}
    values["DatasetConfig.mixture_or_task_name"] = known.task
    values["DatasetConfig.module"] = known.module
    values["DatasetConfig.task_feature_lengths"] = known.lengths or LENGTHS
    with gin.unlock_config():
        for name, value in values.items():
            configurable, _, parameter = name.rpartition(".")
            if gin.get_bindings(configurable).get(parameter) is None:
                gin.bind_parameter(name, value)
    return known
