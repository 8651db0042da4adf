# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The records of registered data sets, as many as a verb wants; read without TensorFlow.

A SeqIO task that a user's module adds itself is a data set of its examples, as they are.
"""

import dataclasses
import sys
from collections.abc import Sequence

from mto_jax.errors import UserError, unknown
from mto_jax.metrics.by_kind import OF_KIND, TaskMetrics
from mto_jax.text2text import records, registration, registry
from mto_jax.text2text.templates import Wording


@dataclasses.dataclass(frozen=True)
class Wanted:
    """Records to read: of so many heads (None: all), with so many references each.

    Of "train", records have one reference each; of other splits, one record holds all of a head's.
    """

    task: str
    split: str
    heads: int | None
    references: int | None = 3


@dataclasses.dataclass(frozen=True)
class RecordSet:
    """Records of a task, without any template."""

    task: str
    kind: str
    wording: Wording
    records: tuple[records.Record, ...]
    metrics: TaskMetrics = OF_KIND


def read(wanted: Sequence[Wanted], module: str | None = None) -> list[RecordSet]:
    """Returns the record sets that are wanted, in order; drawn with the seeds that gin binds.

    Args:
      module: the user's module(s) that register tasks, comma-separated.

    Raises:
      UserError: an unknown task (the nearest is named) or split, or what the task's reader found
        wrong.
    """
    registry.register_all(registry.module_names(module))
    return [_read(request) for request in wanted]


def _read(wanted: Wanted) -> RecordSet:
    data = data_set(wanted.task)
    heads, references = (
        ("shots", "tails_per_head") if wanted.split == "train" else ("heads", "references")
    )
    sample = {heads: wanted.heads, references: wanted.references}
    kept = data.some_records_of(wanted.split, sample)
    return RecordSet(wanted.task, data.kind, data.wording(), tuple(kept), data.metrics)


def data_set(name: str) -> registration.DataSet:
    """Returns a registered data set, or a SeqIO task of a user's module as one.

    Raises:
      UserError: an unknown task, or a mixture.
    """
    if name in registration.DATA_SETS:
        return registration.DATA_SETS[name]
    ours = name in registry.ADDED or any(name in d.tasks for d in registration.DATA_SETS.values())
    if "seqio" in sys.modules and not ours:
        from mto_jax.text2text import seqio_tasks  # imports TensorFlow

        seqio = sys.modules["seqio"]
        if name in seqio.TaskRegistry.names():
            return seqio_tasks.as_registered(seqio.TaskRegistry.get(name))
        if name in seqio.MixtureRegistry.names():
            raise UserError(f"{name!r} is a mixture of SeqIO. Name its tasks one by one.")
    raise unknown("task (a data set without a template)", name, registration.DATA_SETS)


def held_out_heads(tasks: Sequence[str], module: str | None = None) -> list[str]:
    """Returns the heads of all splits of these tasks but the training split.

    Raises:
      UserError: an unknown task, or what its reader found wrong.
    """
    if tasks:
        registry.register_all(registry.module_names(module))
    return [
        record.head
        for data in map(data_set, tasks)
        for split in data.readers
        if split != "train"
        for record in data.some_records_of(split, {"heads": None, "references": 1})
    ]
