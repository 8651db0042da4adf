# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The records of registered data sets, as many as a verb wants; read without TensorFlow."""

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
      UserError: an unknown task (the nearest is named) or split, a SeqIO task that has no records,
        or what the task's reader found wrong.
    """
    registry.register_all(registry.module_names(module))
    return [_read(request) for request in wanted]


def _read(wanted: Wanted) -> RecordSet:
    if wanted.task not in registration.DATA_SETS:
        raise _no_records(wanted.task)
    data = registration.DATA_SETS[wanted.task]
    heads, references = (
        ("shots", "tails_per_head") if wanted.split == "train" else ("heads", "references")
    )
    sample = {heads: wanted.heads, references: wanted.references}
    kept = data.some_records_of(wanted.split, sample)
    return RecordSet(wanted.task, data.kind, data.wording(), tuple(kept), data.metrics)


def _no_records(name: str) -> UserError:
    ours = any(name in data.tasks for data in registration.DATA_SETS.values())
    if "seqio" in sys.modules and not ours:
        seqio = sys.modules["seqio"]
        if name in [*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()]:
            return UserError(
                f"{name!r} is registered with SeqIO alone, so it has no records to apply templates "
                "to: mto train, evaluate and infer take it as it is. To match, tune or table it, "
                "register its data with register_file or register_records."
            )
    return unknown("task (a data set without a template)", name, registration.DATA_SETS)
