# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The step of a run: what decides it, and its abstract arguments."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import optax
from jax.sharding import AbstractMesh, Mesh

from mto_jax.data.batch import Batch
from mto_jax.models.adapters import NONE, Adapters
from mto_jax.models.config import ModelConfig
from mto_jax.models.families import build
from mto_jax.training import state as states
from mto_jax.training import step as steps
from mto_jax.training.optimizers import Optimizer


@dataclasses.dataclass(frozen=True)
class Settings:
    """All that decides the step of a run, its mesh apart; as `mto_jax.runs.train` names it."""

    model: ModelConfig
    batch_size: int
    lengths: Mapping[str, int]  # {"inputs": S, "targets": T}
    optimizer: Optimizer
    train_steps: int
    trainable: str | Sequence[str] = "all"
    adapters: Adapters = NONE
    pack: bool = True  # whether rows hold several examples
    microbatches: int = 1
    z_loss: float = 0.0
    label_smoothing: float = 0.0
    reduce_dtype: str = "float32"
    num_tasks: int = 0  # of a mixture whose tasks have losses of their own; 0: none have


def abstract_state(
    settings: Settings, mesh: Mesh | AbstractMesh
) -> tuple[states.AbstractModel, list[str], optax.GradientTransformation, states.TrainState]:
    """Returns (model, names of what trains, optimizer, state with shardings), all abstract."""
    model, adapters = settings.model, settings.adapters
    spec = states.abstract_model(functools.partial(build, model, adapters=adapters))
    names = states.trainable_names(list(spec.shapes), settings.trainable)
    transformation = settings.optimizer.build(settings.train_steps)
    return spec, names, transformation, states.abstract_state(spec, names, transformation, mesh)


def check_trainable(model: ModelConfig, adapters: Adapters, trainable: str | Sequence[str]) -> None:
    """Raises a UserError for a pattern of `trainable` that matches no parameter of the model."""
    spec = states.abstract_model(functools.partial(build, model, adapters=adapters))
    states.trainable_names(list(spec.shapes), trainable)


@dataclasses.dataclass(frozen=True)
class Program:
    """The step of a run on a mesh, with its abstract arguments."""

    settings: Settings
    mesh: Mesh
    spec: states.AbstractModel
    names: list[str]  # of the parameters that train
    transformation: optax.GradientTransformation
    loss: steps.LossFunction
    target: states.TrainState
    zeros: dict[str, Any]
    batch: Batch
    step: Callable

    @classmethod
    def of(cls, settings: Settings, mesh: Mesh) -> Self:
        """Returns the program of `settings`; compiles nothing."""
        spec, names, transformation, target = abstract_state(settings, mesh)
        loss = steps.t5_loss(
            spec,
            mesh,
            packed=settings.pack,
            z_loss=settings.z_loss,
            label_smoothing=settings.label_smoothing,
            num_tasks=settings.num_tasks,
            reduce_dtype=settings.reduce_dtype,
        )
        batch = steps.abstract_batch(
            settings.batch_size, settings.lengths, mesh, task_ids=settings.num_tasks > 1
        )
        zeros = steps.zero_totals(loss, target, batch)
        rate = settings.optimizer.rate(settings.train_steps)
        step = steps.train_step(loss, transformation, rate, microbatches=settings.microbatches)
        return cls(settings, mesh, spec, names, transformation, loss, target, zeros, batch, step)

    def lower(self) -> Any:
        """Returns the step traced for its arguments; its text is the same for the same program."""
        return steps.lower_step(self.step, self.target, self.zeros, self.batch, self.mesh)

    def compile(self) -> Any:
        """Returns the compiled step; see `memory` for what does not fit."""
        return self.lower().compile()
