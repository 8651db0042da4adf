# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A scatter of tasks: does a score, such as Maskability, foretell what a choice gains?"""

import dataclasses
import json
import pathlib
from collections.abc import Collection, Mapping

import gin
import matplotlib.figure
import numpy as np

from mto_jax.errors import UserError, unknown
from mto_jax.experiments.figures import grid_of_panels, reach
from mto_jax.experiments.grid import Grid, Value, Where
from mto_jax.experiments.results import Results
from mto_jax.matching.agreement import spearman
from mto_jax.metrics.statistics import Interval
from mto_jax.pictures import styled


@gin.configurable
@dataclasses.dataclass(frozen=True)
class GainFigure:
    """A point for every task: its score, and what one value of an axis gains over another.

    Attributes:
      name: of its files.
      gain: (axis, value, other value): what the first gains over the other, all else the same.
      scores: {task: score}, or the match.json that `mto match` wrote.
      score: the score to take from match.json.
      where: the cells that it is about.
      title: None makes one.
      metric: None takes the grid's.
    """

    name: str
    gain: tuple[str, Value, Value]
    scores: Mapping[str, float] | str
    score: str = "MI(5)"
    where: Where = dataclasses.field(default_factory=dict)
    title: str | None = None
    metric: str | None = None

    def check(self, grid: Grid, known: Mapping[str, Collection[str]]) -> None:
        """Everything that the figure asks for exists.

        Raises:
          UserError: it does not, or fewer than three tasks of the figure have a score.
        """
        place = f"the figure {self.name!r}"
        if len(self.gain) != 3:
            raise UserError(f"{place}: gain = {self.gain!r}; expected (axis, value, other value).")
        axis, *values = self.gain
        grid.check_baseline(f"{place}, gain", {axis: values})
        grid.check_where(f"{place}, where", self.where)
        grid.check_metric(place, self.metric or grid.metric, known)
        tasks = {cell.task for cell in Results(grid.cells(), {}).where(self.where)}
        scored = tasks & set(self._scores())
        if len(scored) < 3:
            raise UserError(
                f"{place} needs scores of three tasks or more, but of {len(tasks)} tasks "
                f"{len(scored)} have one. It has scores of {', '.join(self._scores()) or 'none'}."
            )

    @styled
    def draw(self, grid: Grid, results: Results) -> matplotlib.figure.Figure:
        """The figure; tasks without a result are left out."""
        axis, value, other = self.gain
        metric = self.metric or grid.metric
        points = {}
        for task, score in self._scores().items():
            selected = results.where({**self.where, axis: value})
            cells = [cell for cell in selected if cell.task == task]
            versus = results.compare(cells, {axis: other}, metric) if cells else None
            if versus:
                points[task] = score, versus
        figure, (panel,) = grid_of_panels(1, 6.0, 4.0)
        panel.axhline(0, color="0.75", linewidth=1)
        for task, (score, versus) in points.items():
            panel.errorbar(
                score.value,
                versus.difference,
                xerr=None if score.low is None else reach([(score.value, score.low, score.high)]),
                yerr=reach([(versus.difference, versus.low, versus.high)]),
                fmt="o",
                color="C0",
                ecolor="0.6",
                elinewidth=0.8,
            )
            panel.annotate(
                grid.label(task),
                (score.value, versus.difference),
                xytext=(5, 4),
                textcoords="offset points",
                fontsize="small",
            )
        xs = np.array([score.value for score, _ in points.values()])
        ys = np.array([versus.difference for _, versus in points.values()])
        panel.set_title(_fit(panel, xs, ys), fontsize="small")
        panel.set_xlabel(self.score)
        panel.set_ylabel(f"gain in {grid.label(metric)}, 95 % interval")
        first, second = grid.label(value), grid.label(other)
        figure.suptitle(self.title or f"What {first} gains over {second}, by {self.score}")
        return figure

    def _scores(self) -> dict[str, Interval]:
        if not isinstance(self.scores, str):
            return {task: Interval(value) for task, value in self.scores.items()}
        path = pathlib.Path(self.scores)
        try:
            verdicts = json.loads(path.read_text())["verdicts"]
        except (OSError, ValueError, KeyError) as error:
            raise UserError(
                f"{path} is no match.json of `mto match` ({type(error).__name__}: {error}); the "
                f"figure {self.name!r} takes its scores from it."
            ) from error
        names = {verdict["score"] for verdict in verdicts}
        if self.score not in names:
            raise unknown(f"score in {path} called", self.score, names)
        return {
            v["task"]: Interval(v["value"], v["low"], v["high"])
            for v in verdicts
            if v["score"] == self.score
        }


def _fit(panel, xs: np.ndarray, ys: np.ndarray) -> str:
    """Draws the least-squares line; says how closely the points follow it."""
    if len(xs) < 3 or np.ptp(xs) == 0 or np.ptp(ys) == 0:
        return f"{len(xs)} tasks: too few different values to correlate"
    slope, offset = np.polyfit(xs, ys, 1)
    ends = np.array([xs.min(), xs.max()])
    panel.plot(ends, slope * ends + offset, "--", color="C1", linewidth=1)
    pearson = np.corrcoef(xs, ys)[0, 1]
    ranked = spearman(xs.tolist(), ys.tolist())
    return f"{len(xs)} tasks: Pearson {pearson:+.2f}, Spearman {ranked:+.2f}"
