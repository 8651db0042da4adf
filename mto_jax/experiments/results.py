# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Results of several cells as one number: means, deviations, intervals, comparisons.

Several cells become one number task by task: a task's number is the mean over its cells, and the
number of several tasks the mean of theirs. What is uncertain about it has two sides, which are kept
apart:

- the *deviation* over seeds: other training heads, another order;
- the *95 % interval* over test examples: a bootstrap in which an example's score is its mean over
  the cells of its task. The comparison with a baseline is the paired bootstrap of the same scores.
"""

import collections
import dataclasses
import statistics as numbers
from collections.abc import Mapping, Sequence

import numpy as np

from mto_jax.errors import UserError, unknown
from mto_jax.experiments.grid import Cell, Place, Value, Where, matches
from mto_jax.experiments.store import Result
from mto_jax.metrics import statistics


@dataclasses.dataclass(frozen=True)
class Entry:
    """The summary of some cells.

    Attributes:
      value: None if no cell is done.
      deviation: over seeds (that of a sample); None for fewer than two complete seeds.
      low, high: bounds of the 95 % interval; None if the metric does not score single examples.
      present, asked: cells that are done, and those that there should be.
      versus: the comparison with the baseline; None for the baseline itself, or without a
        counterpart.
    """

    value: float | None
    deviation: float | None
    low: float | None
    high: float | None
    present: int
    asked: int
    versus: statistics.Comparison | None = None

    @property
    def complete(self) -> bool:
        return self.present == self.asked


class Results:
    """The cells of a grid with the results of those that are done.

    Raises:
      UserError: cells of a task that were not tested on the same examples.
    """

    def __init__(self, cells: Sequence[Cell], results: Mapping[Cell, Result]):
        self.cells, self.results = cells, results
        self._places = {tuple(cell.values.items()): cell for cell in cells}
        self._check_examples()

    def where(self, where: Where) -> list[Cell]:
        """The cells at a place, or at several."""
        return [cell for cell in self.cells if matches(cell.values, where)]

    def value(self, cell: Cell, metric: str) -> float | None:
        """A cell's metric; None if the cell is not done.

        Raises:
          UserError: the task has no such metric.
        """
        if cell not in self.results:
            return None
        values = self.results[cell]["values"]
        if metric not in values:
            raise unknown(f"metric of the task {cell.task!r} called", metric, values)
        return values[metric]

    def entry(
        self, cells: Sequence[Cell], metric: str, baseline: Place | Sequence[Cell] | None = None
    ) -> Entry:
        """The summary of `cells`, compared with their counterparts (see `compare`)."""
        values = {c: v for c in cells if (v := self.value(c, metric)) is not None}
        if not values:
            return Entry(None, None, None, None, 0, len(cells))
        low = high = None
        if known := self._examples(list(values), metric):
            interval = statistics.bootstrap(stratified(known))["value"]
            low, high = interval.low, interval.high
        return Entry(
            _over_tasks(values),
            _deviation(cells, values),
            low,
            high,
            len(values),
            len(cells),
            None if not baseline else self.compare(cells, baseline, metric),
        )

    def compare(
        self, cells: Sequence[Cell], baseline: Place | Sequence[Cell], metric: str
    ) -> statistics.Comparison | None:
        """The cells less their counterparts, as far as both are done.

        Args:
          baseline: where each cell has its counterpart: the cell that differs from it by this place
            alone; or all counterparts, compared task by task.

        Returns:
          None if there is no counterpart, or if all cells are their own counterparts.
        """
        sides = self._counterparts(cells, baseline)
        if not sides[0] or sides[0] == sides[1]:
            return None
        own, counterparts = (self._examples(side, metric) for side in sides)
        if own is None or counterparts is None:
            return None
        counterparts = {
            task: counterparts[task] for task in own
        }  # the same examples in the same order
        return statistics.compare(stratified(own), stratified(counterparts))["value"]

    def _counterparts(
        self, cells: Sequence[Cell], baseline: Place | Sequence[Cell]
    ) -> tuple[list[Cell], list[Cell]]:
        """(cells that have counterparts, their counterparts), all of them done."""
        if isinstance(baseline, Mapping):
            places = [self._places.get(tuple((c.values | dict(baseline)).items())) for c in cells]
            pairs = [
                (cell, counterpart)
                for cell, counterpart in zip(cells, places, strict=True)
                if cell in self.results and counterpart in self.results
            ]
            return [cell for cell, _ in pairs], [counterpart for _, counterpart in pairs]
        own, counterparts = ([c for c in side if c in self.results] for side in (cells, baseline))
        common = {cell.task for cell in own} & {cell.task for cell in counterparts}
        return [c for c in own if c.task in common], [c for c in counterparts if c.task in common]

    def _examples(self, cells: Sequence[Cell], metric: str) -> dict[str, np.ndarray] | None:
        """By task each example's mean score [N] over cells; None if there are no such scores."""
        by_task = collections.defaultdict(list)
        for cell in cells:
            if metric not in self.results[cell]["scores"]:
                return None
            by_task[cell.task].append(self.results[cell]["scores"][metric])
        return {task: np.mean(scores, axis=0) for task, scores in by_task.items()}

    def _check_examples(self) -> None:
        first: dict[str, tuple[Cell, tuple]] = {}
        for cell, result in self.results.items():
            sizes = [len(scores) for scores in result["scores"].values()]
            if not sizes:
                continue
            examples = (sizes[0], result["info"].get("examples"))
            other, expected = first.setdefault(cell.task, (cell, examples))
            if examples != expected:
                raise UserError(
                    f"The cells ({cell}) and ({other}) were not tested on the same examples, so "
                    "they cannot be compared. Was the test data changed in between? Use another "
                    "OUTPUT_DIR."
                )


def _over_tasks(values: Mapping[Cell, float]) -> float:
    by_task = collections.defaultdict(list)
    for cell, value in values.items():
        by_task[cell.task].append(value)
    return numbers.fmean(map(numbers.fmean, by_task.values()))


def _deviation(cells: Sequence[Cell], values: Mapping[Cell, float]) -> float | None:
    """Over the seeds that have all their cells."""
    by_seed: dict[Value, list[Cell]] = collections.defaultdict(list)
    for cell in cells:
        by_seed[cell.seed].append(cell)
    means = [
        _over_tasks({cell: values[cell] for cell in same_seed})
        for same_seed in by_seed.values()
        if all(cell in values for cell in same_seed)
    ]
    return numbers.stdev(means) if len(means) > 1 else None


def stratified(scores: Mapping[str, np.ndarray]) -> statistics.Statistics:
    """The metric "value": the mean over tasks of a task's mean over its examples.

    All examples are drawn from one pot; a task's sum is divided by how often it was drawn, so tasks
    of unlike sizes count the same in every resample, as they do in the value.
    """
    sizes = [len(scores_N) for scores_N in scores.values()]
    task_N = np.repeat(np.arange(len(sizes)), sizes)
    member_NxK = np.eye(len(sizes))[task_N]
    scores_Nx1 = np.concatenate(list(scores.values()))[:, None]

    def finish(sums: np.ndarray, num_examples: int) -> dict[str, np.ndarray]:
        del num_examples
        totals, counts = np.split(sums, 2, axis=-1)
        drawn = counts > 0  # a task of very few examples may miss a resample
        means = np.divide(totals, counts, out=np.zeros_like(totals), where=drawn)
        return {"value": means.sum(axis=-1) / drawn.sum(axis=-1)}

    return statistics.Statistics(np.hstack([member_NxK * scores_Nx1, member_NxK]), finish)
