# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The records of the tasks of a grid: which heads train, which choose, which test."""

import dataclasses
import functools
from collections.abc import Sequence

from mto_jax.errors import UserError
from mto_jax.files import digest
from mto_jax.text2text import few_shot, records
from mto_jax.text2text.record_sets import Wanted, read
from mto_jax.text2text.task import Task


@dataclasses.dataclass(frozen=True, eq=False)
class Data:
    """A task with all training records and the held-out test records; dev records."""

    task: Task
    dev: tuple[records.Record, ...] = ()

    @functools.cached_property
    def digest(self) -> str:
        """16 hexadecimal digits of all records, and of the words that templates give them."""
        content = map(records.to_json, (*self.task.train, *self.task.held_out, *self.dev))
        return digest([list(content), repr(self.task.wording)])[:16]


def read_data(
    names: Sequence[str],
    *,
    dev_heads: int,
    test_heads: int | None,
    test_split: str,
    references: int,
    module: str | None,
) -> dict[str, Data]:
    """The data of tasks, by name.

    Dev records are drawn from the validation split, never of a head that is held out for the test.

    Raises:
      UserError: an unknown task or split, or no dev head is left.
    """
    wanted = [Wanted(name, "train", None) for name in names]
    wanted += [Wanted(name, test_split, test_heads, references) for name in names]
    wanted += [Wanted(name, "validation", None, references) for name in names] * (dev_heads > 0)
    sets = read(wanted, module)
    data = {}
    for i, name in enumerate(names):
        train, test = sets[i], sets[len(names) + i]
        dev: Sequence[records.Record] = ()
        if dev_heads:
            taken = {few_shot.normal(record.head) for record in test.records}
            rest = sets[2 * len(names) + i].records
            free = [record for record in rest if few_shot.normal(record.head) not in taken]
            if not free:
                raise UserError(
                    f"All validation heads of {name} are in the test ({test_split}): none is left "
                    "for dev_heads. Lower test_heads, or set dev_heads = 0, which keeps the last "
                    "parameters."
                )
            dev = few_shot.evaluation_sample(free, {}, heads=dev_heads, references=references)
        data[name] = Data(Task.of(train, test), tuple(dev))
    return data
