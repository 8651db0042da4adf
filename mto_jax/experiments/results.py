# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Results of several cells as one number: means, deviations, intervals, comparisons.

Several cells become one number task by task: a task's number is the mean over its cells, and the
number of several tasks the mean of theirs. What is uncertain about it has two sides, which are kept
apart:

- the *deviation* over seeds: other training heads, another order;
- the *95 % interval*: a bootstrap that draws seeds and, within each task, test examples. Tasks and
  models are those that are there, unless a contrast draws them too. A comparison is the paired
  bootstrap of the same scores.

Of cells that are asked about another task than they were tuned on, a pair of tasks is a task.
"""

import collections
import dataclasses
import functools
import statistics as numbers
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mto_jax.errors import UserError, unknown
from mto_jax.experiments.grid import Cell, Place, Value, Where, matches
from mto_jax.experiments.store import Result
from mto_jax.frames import frame
from mto_jax.metrics import statistics

# What scores are drawn over; examples belong to a task.
LEVELS = ("task", "model", "seed", "example")
NESTED = {"example": "task"}


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

    def to_pandas(self) -> Any:
        """Returns a `pandas.DataFrame`: a row for each cell that is done, its axes and metrics."""
        return frame(cell.values | result["values"] for cell, result in self.results.items())

    def choose(self, axis: str, by: str, within: Sequence[str]) -> "Results":
        """Returns the results of the best setting of each combination of the axes `within` alone.

        Args:
          axis: of the settings.
          by: the metric of which the mean over tasks decides; it must not be of the test heads.
          within: axes; a setting is chosen for each combination of their values.

        Raises:
          UserError: a cell without this metric where there is a choice.
        """
        groups: dict[tuple, dict[Value, list[Cell]]] = collections.defaultdict(dict)
        for cell in self.cells:
            place = tuple(cell.values[a] for a in within)
            groups[place].setdefault(cell.values[axis], []).append(cell)
        kept = []
        for settings in groups.values():
            best = next(iter(settings.values()))
            if len(settings) > 1:
                values = {
                    setting: {c: v for c in cells if (v := self.value(c, by)) is not None}
                    for setting, cells in settings.items()
                }
                means = {s: _over_tasks(v) if v else float("-inf") for s, v in values.items()}
                best = settings[max(means, key=means.__getitem__)]
            kept += best
        chosen = [cell for cell in self.cells if cell in set(kept)]
        return Results(chosen, {c: r for c, r in self.results.items() if c in set(kept)})

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
        if (scores_RxMxSxN := self.scores(list(values), metric)) is not None:
            interval = statistics.hierarchical_interval(
                scores_RxMxSxN, LEVELS, nested=NESTED, fixed=("task", "model")
            )
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
        own, others = self._counterparts(cells, baseline)
        if not own or own == others:
            return None
        return self.contrast([own], [others], metric, fixed=("task", "model"))

    def contrast(
        self,
        plus: Sequence[Sequence[Cell]],
        minus: Sequence[Sequence[Cell]],
        metric: str,
        fixed: Sequence[str] = (),
    ) -> statistics.Comparison | None:
        """The means of some sides less those of others, on paired tasks, models, seeds, examples.

        The first task of a side is paired with the first of the others, and so on, likewise its
        models; a side with one model, or one seed, is paired with all of the others.

        Args:
          plus, minus: the cells of each side.
          fixed: which of `LEVELS` are not drawn.

        Returns:
          None where a side has no cell that is done, or the metric scores no single examples.

        Raises:
          UserError: sides of different numbers of tasks, models, seeds or examples.
        """
        done = [[c for c in cells if c in self.results] for cells in (*plus, *minus)]
        sides = [self.scores(cells, metric) for cells in done]
        known = [side for side in sides if side is not None]
        if len(known) < len(sides):
            return None
        signed = [*known[: len(plus)], *(-side for side in known[len(plus) :])]
        total_RxMxSxN = functools.reduce(_paired, signed)
        return statistics.hierarchical_comparison(total_RxMxSxN, LEVELS, nested=NESTED, fixed=fixed)

    def _counterparts(
        self, cells: Sequence[Cell], baseline: Place | Sequence[Cell]
    ) -> tuple[list[Cell], list[Cell]]:
        """(cells that have counterparts, their counterparts), all of them done."""
        if isinstance(baseline, Mapping):
            places = [self._places.get(tuple((c.values | dict(baseline)).items())) for c in cells]
            pairs = [
                (cell, counterpart)
                for cell, counterpart in zip(cells, places, strict=True)
                if cell in self.results and counterpart and counterpart in self.results
            ]
            return [cell for cell, _ in pairs], [counterpart for _, counterpart in pairs]
        own, counterparts = ([c for c in side if c in self.results] for side in (cells, baseline))
        common = {cell.task for cell in own} & {cell.task for cell in counterparts}
        return [c for c in own if c.task in common], [c for c in counterparts if c.task in common]

    def scores(self, cells: Sequence[Cell], metric: str) -> np.ndarray | None:
        """The scores of single examples by `LEVELS`, averaged over all other axes.

        NaN stands for cells that are missing, and behind the last example of the shorter tasks;
        None is for no cells, or a metric without such scores.
        """
        if not cells or any(metric not in self.results[cell]["scores"] for cell in cells):
            return None
        places = {}
        for level in LEVELS[:-1]:
            present = {_member(cell, level) for cell in cells}
            places[level] = [
                v for v in dict.fromkeys(_member(c, level) for c in self.cells) if v in present
            ]
        scores = {cell: self.results[cell]["scores"][metric] for cell in cells}
        total = np.zeros([*map(len, places.values()), max(map(len, scores.values()))])
        count = np.zeros_like(total)
        for cell, scores_N in scores.items():
            place = tuple(values.index(_member(cell, level)) for level, values in places.items())
            total[place][: len(scores_N)] += scores_N
            count[place][: len(scores_N)] += 1
        return np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)

    def _check_examples(self) -> None:
        first: dict[str, tuple[Cell, tuple]] = {}
        for cell, result in self.results.items():
            sizes = [len(scores) for scores in result["scores"].values()]
            if not sizes:
                continue
            examples = (sizes[0], result["info"].get("examples"))
            other, expected = first.setdefault(cell.asked.task, (cell, examples))
            if examples != expected:
                raise UserError(
                    f"The cells ({cell}) and ({other}) were not tested on the same examples, so "
                    "they cannot be compared. Was the test data changed in between? Use another "
                    "OUTPUT_DIR."
                )


def _member(cell: Cell, level: str) -> Value | tuple[Value, ...]:
    """Where a cell belongs on one of `LEVELS`."""
    return (cell.task, cell.asked.task) if level == "task" else cell.values[level]


def _over_tasks(values: Mapping[Cell, float]) -> float:
    by_task = collections.defaultdict(list)
    for cell, value in values.items():
        by_task[_member(cell, "task")].append(value)
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


def _paired(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The sum of two sides; an axis of a single member goes with every member of the other.

    Raises:
      UserError: they have different numbers of members.
    """
    for level, sizes in zip(LEVELS, zip(a.shape, b.shape, strict=True), strict=True):
        if sizes[0] != sizes[1] and (level == "example" or 1 not in sizes):
            raise UserError(
                f"A contrast pairs the {level}s of its sides, but one has {sizes[0]} and another "
                f"{sizes[1]}. Give each side as many."
            )
    return a + b
