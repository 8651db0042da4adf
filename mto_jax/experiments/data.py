# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The data of a grid: which heads of a task train, choose and test, and a cell's examples."""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence

from mto_jax.errors import UserError
from mto_jax.evaluation.in_context import InContext, asking
from mto_jax.evaluation.task_metrics import deciding_value
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.strategies import IN_CONTEXT
from mto_jax.files import digest
from mto_jax.models.adapters import Adapters
from mto_jax.text2text import few_shot, records
from mto_jax.text2text.record_sets import Wanted, read
from mto_jax.text2text.task import Example, Task, candidates, tokenise
from mto_jax.text2text.templates import TEMPLATES, Template
from mto_jax.text2text.tokenising import SoftPrompt
from mto_jax.text2text.vocabulary import Vocabulary


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


@dataclasses.dataclass(frozen=True, eq=False)
class Tasks:
    """The data of tasks by name, each read once; attributes as `FewShot` has them.

    Dev records are drawn from the validation split, never of a head that is held out for the test.
    """

    dev_heads: int
    test_heads: int | None
    test_split: str
    references: int
    module: str | None
    _read: dict[str, Data] = dataclasses.field(default_factory=dict, init=False)

    def __getitem__(self, name: str) -> Data:
        self.read([name])
        return self._read[name]

    def read(self, names: Sequence[str]) -> None:
        """Read the tasks that were not read before, together.

        Raises:
          UserError: an unknown task or split, or no dev head is left.
        """
        if not (names := [name for name in names if name not in self._read]):
            return
        test = [Wanted(n, self.test_split, self.test_heads, self.references) for n in names]
        wanted = [*(Wanted(name, "train", None) for name in names), *test]
        if self.dev_heads:
            wanted += [Wanted(name, "validation", None, self.references) for name in names]
        sets = read(wanted, self.module)
        for i, name in enumerate(names):
            train, test, *rest = sets[i :: len(names)]
            dev = self._dev(name, test.records, rest[0].records) if rest else ()
            self._read[name] = Data(Task.of(train, test), tuple(dev))

    def _dev(
        self, name: str, test: Sequence[records.Record], validation: Sequence[records.Record]
    ) -> Sequence[records.Record]:
        taken = {few_shot.normal(record.head) for record in test}
        free = [record for record in validation if few_shot.normal(record.head) not in taken]
        if not free:
            raise UserError(
                f"All validation heads of {name} are in the test ({self.test_split}): none is left "
                "for dev_heads. Lower test_heads, or set dev_heads = 0, which keeps the last "
                "parameters."
            )
        return few_shot.evaluation_sample(
            free, {}, heads=self.dev_heads, references=self.references
        )

    def metric(self, names: Sequence[str], otherwise: str) -> str:
        """The metric that decides about these tasks.

        Args:
          otherwise: what follows in words from there being several.

        Raises:
          UserError: there are several.
        """
        tasks = {name: self[name].task for name in names}
        metrics = {name: deciding_value(t, candidates(t)[0]) for name, t in tasks.items()}
        if len({*metrics.values()}) > 1:
            raise UserError(f"The tasks are judged by different metrics ({metrics}){otherwise}")
        return metrics[names[0]]


def tested(cell: Cell) -> Cell:
    """The place whose task and template are tested; the cell's own where an objective is."""
    return cell if cell.measure == "loss" else cell.asked


@dataclasses.dataclass(frozen=True, eq=False)
class CellData:
    """The examples of a cell.

    Attributes:
      cell: whose they are.
      own: the records of its task.
      tested: those of the task that it is tested on.
      vocabulary: of its model.
      lengths: most tokens of inputs and targets.
      adapters: what trains on the frozen model, with rows for all soft tokens.
      soft: the layout of these rows.
      tails: most references of a training head.
    """

    cell: Cell
    own: Data
    tested: Data
    vocabulary: Vocabulary
    lengths: Mapping[str, int]
    adapters: Adapters
    soft: SoftPrompt
    tails: int

    @property
    def template(self) -> Template:
        """The template of its training."""
        return TEMPLATES[self.cell.template]

    @property
    def tested_template(self) -> Template:
        """The template of its test."""
        return TEMPLATES[tested(self.cell).template]

    def training(self) -> list[Example]:
        """The examples of the heads that `few_shot` draws for the cell's seed, as everywhere."""
        return self._examples(self._drawn(self.tails))

    def dev(self) -> list[Example]:
        """The examples of the dev heads."""
        return self._examples(self.own.dev)

    def asking(self, form: InContext) -> Callable[[Sequence[int]], list[int]] | None:
        """The function that puts solved examples, one of each head, before a question; None for
        methods that show none."""
        if self.cell.method not in IN_CONTEXT:
            return None
        shown, late = self._drawn(tails=1), self.cell.method == "in_context_late"
        return asking(self.template, shown, self.own.task.wording, self.vocabulary, form, late=late)

    def _drawn(self, tails: int) -> list[records.Record]:
        cell, train = self.cell, self.own.task.train
        return few_shot.few_shot(train, {}, shots=cell.shots, tails_per_head=tails, seed=cell.seed)

    def _examples(self, chosen: Sequence[records.Record]) -> list[Example]:
        return tokenise(
            self.template, chosen, self.own.task, self.vocabulary, self.lengths, soft=self.soft
        )
