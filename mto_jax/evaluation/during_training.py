# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Dev sets during training: loss, the tasks' own metrics, sample predictions."""

import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from mto_jax.data import loader
from mto_jax.data.manifest import Prepared
from mto_jax.decoding.generation import Decoding
from mto_jax.evaluation.evaluator import evaluate_dataset
from mto_jax.evaluation.result import Result
from mto_jax.training import performance, sharding
from mto_jax.training import state as states
from mto_jax.training import step as steps

SAMPLES = 8  # predictions of each dev set that TensorBoard shows
Table = list[list[str]]  # the first row is the head


class Evaluator:
    """Dev loss, and the tasks' own metrics on decoded answers, of a set of parameters."""

    def __init__(self, spec, loss, mesh, dev_sets: Sequence[Prepared], batch_size: int, vocabulary):
        self.spec, self.mesh, self.dev_sets = spec, mesh, dev_sets
        self.batch_size, self.vocabulary = batch_size, vocabulary
        longest = [prepared.row_lengths for prepared in dev_sets]  # one shape, one program
        self.lengths = (
            {name: max(row[name] for row in longest) for name in longest[0]} if longest else {}
        )
        self.step = jax.jit(steps.evaluation_step(loss), out_shardings=sharding.replicated(mesh))

    def __call__(self, parameters: states.Parameters) -> tuple[dict[str, float], dict[str, Table]]:
        """Metrics, {"dev/NAME/loss": ..., ...}, and a table of sample predictions for each task.

        A mixture has a loss of its own beside those of its tasks.
        """
        metrics, samples = {}, {}
        for prepared in self.dev_sets:
            total: dict[str, float] = {}
            for task in prepared.tasks:
                sums = self._sums(task, parameters)
                metrics |= means(f"dev/{task.name}", sums)
                result = self._answers(task, parameters)
                if result is not None:
                    values = result.values()
                    metrics |= {f"dev/{task.name}/{name}": value for name, value in values.items()}
                    samples[f"dev/{task.name}/predictions"] = sample_table(result)
                total = {name: total.get(name, 0.0) + value for name, value in sums.items()}
            metrics |= means(f"dev/{prepared.name}", total)
        return metrics, samples

    def _sums(self, task: Prepared, parameters: states.Parameters) -> dict[str, float]:
        total: dict[str, Any] = {}
        for rows, _ in loader.eval_batches(task, batch_size=self.batch_size, lengths=self.lengths):
            sums = self.step(parameters, sharding.place_whole(rows, self.mesh))
            total = jax.tree.map(np.add, total, sums) if total else sums
        return {name: float(value) for name, value in total.items()}

    def _answers(self, task: Prepared, parameters: states.Parameters) -> Result | None:
        if not task.metrics:
            return None
        if jax.process_count() > 1:  # each process decodes its part, with a model of its own
            size = sum(value.nbytes for value in parameters.values())
            limit = performance.memory_limit(jax.local_devices()[0])
            if limit and size > limit // 3:
                _warn_too_large()
                return None
            parameters = multihost_utils.process_allgather(parameters, tiled=True)
            parameters = jax.device_put(parameters, jax.local_devices()[0])
        return evaluate_dataset(
            self.spec.merge(parameters),
            task,
            self.vocabulary,
            Decoding(),
            batch_size=self.batch_size,
        )


@functools.cache
def _warn_too_large() -> None:
    if jax.process_index() == 0:
        print(
            "warning: on several hosts a model that takes more than a third of a device's memory "
            "is not decoded during training: dev sets have a loss alone",
            file=sys.stderr,
        )


def sample_table(result: Result) -> Table:
    """Returns the predictions on the first examples of a dev set, always the same ones."""
    rows = [
        [row["input"], " / ".join(row["references"]), row["raw_prediction"]]
        for row in result.rows[:SAMPLES]
    ]
    return [["input", "references", "prediction"], *rows]


def means(prefix: str, sums: Mapping[str, float]) -> dict[str, float]:
    """Loss and accuracy per target token from the sums of a loss."""
    weight = max(sums["weight"], 1.0)
    return {f"{prefix}/loss": sums["loss"] / weight, f"{prefix}/accuracy": sums["correct"] / weight}
