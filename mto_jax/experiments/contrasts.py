# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Contrasts: differences, and differences of differences, written down before a grid is computed.

A contrast is a row of a table (`tables.Table.rows`); its interval covers all that was drawn: tasks,
models of different pre-training seeds, tuning seeds and test examples.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence

import gin
import matplotlib.figure
import numpy as np

from mto_jax.errors import UserError
from mto_jax.experiments.figures import grid_of_panels, reach
from mto_jax.experiments.grid import Cell, Grid, Where, matches
from mto_jax.experiments.results import Results
from mto_jax.metrics.statistics import Comparison, hierarchical_comparison
from mto_jax.pictures import styled

Side = Sequence[Where]  # a mean over the cells at these places


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Contrast:
    """The means of some sides less those of others.

    What masking gains in a model of span corruption over what it gains in a language model:

        format/Contrast.plus = [[{"template": "MaskedPrompting", "model": "span"}],
                                [{"template": "Prompting", "model": "lm"}]]
        format/Contrast.minus = [[{"template": "Prompting", "model": "span"}],
                                 [{"template": "MaskedPrompting", "model": "lm"}]]

    Attributes:
      plus, minus: sides, each a list of places; `Results.contrast` says what is paired.
    """

    plus: Sequence[Side]
    minus: Sequence[Side]

    def check(self, place: str, grid: Grid) -> None:
        """All axes and values exist, and every side has cells.

        Raises:
          UserError: names what is missing; `place` says where.
        """
        if not self.plus or not self.minus:
            raise UserError(f"{place} needs at least one side in plus and one in minus.")
        for name in ("plus", "minus"):
            for i, side in enumerate(getattr(self, name)):
                for where in side:
                    grid.check_where(f"{place}, {name}[{i}]", where)
                if not _chosen(grid.cells(), side):
                    raise UserError(f"{place}: no cell of the grid is in {name}[{i}] = {side!r}.")

    def cells(self, cells: Sequence[Cell]) -> list[Cell]:
        """Returns those of the cells that are on one of its sides."""
        return _chosen(cells, [where for side in (*self.plus, *self.minus) for where in side])

    def compute(self, results: Results, cells: Sequence[Cell], metric: str) -> Comparison | None:
        """Returns the contrast of those of the cells that are done; None if a side has none."""
        plus, minus = ([_chosen(cells, side) for side in s] for s in (self.plus, self.minus))
        return results.contrast(plus, minus, metric)


@dataclasses.dataclass(frozen=True)
class MeanChange:
    """The mean over pairs of sides of the first less the second, or of what that is of the second.

    Each side is of one task; sides of a pair are tested on the same examples.

    Attributes:
      pairs: (side, side).
      relative: divide by the second's mean, which counts as known; pairs in which it is 0 are left
        out. Over pairs of tasks this is the mean ratio of change of arXiv 2408.06663.
    """

    pairs: Sequence[tuple[Side, Side]]
    relative: bool = False

    def check(self, place: str, grid: Grid) -> None:
        """All axes and values exist, else a `UserError`; `place` says where."""
        for where in (where for pair in self.pairs for side in pair for where in side):
            grid.check_where(place, where)

    def cells(self, cells: Sequence[Cell]) -> list[Cell]:
        """Returns those of the cells that are on one of its sides."""
        return _chosen(cells, [where for pair in self.pairs for side in pair for where in side])

    def compute(self, results: Results, cells: Sequence[Cell], metric: str) -> Comparison | None:
        """Returns the mean and its interval over seeds and examples; None if no pair is done."""
        changes = []
        for pair in self.pairs:
            done = ([c for c in _chosen(cells, side) if c in results.results] for side in pair)
            scores = [results.scores(side, metric) for side in done]
            if any(score is None for score in scores):
                continue
            first_SxN, second_SxN = (
                np.nanmean(score, axis=(0, 1)) for score in scores if score is not None
            )
            base = np.nanmean(second_SxN) if self.relative else 1.0
            if base > 0:
                changes.append((first_SxN - second_SxN) / base)
        if not changes:
            return None
        size = max(change.shape[1] for change in changes)
        filled = [
            np.pad(change, ((0, 0), (0, size - change.shape[1])), constant_values=np.nan)
            for change in changes
        ]
        levels = ("pair", "seed", "example")
        return hierarchical_comparison(
            np.stack(filled), levels, nested={"example": "pair"}, fixed=("pair",)
        )


def _chosen(cells: Sequence[Cell], side: Side) -> list[Cell]:
    return [cell for cell in cells if any(matches(cell.values, where) for where in side)]


@gin.configurable
@dataclasses.dataclass(frozen=True)
class ContrastFigure:
    """A contrast at many places: a panel for each value of an axis, a line for each series.

    Attributes:
      name: of its files.
      contrast: what is drawn, with its interval.
      x: {label: place}, from left to right.
      series: {label: place}.
      panels: axis with a panel for each value.
      where: the cells that it is about.
      xlabel, ylabel: of the axes.
      title: None makes one.
      metric: None takes the grid's.
    """

    name: str
    contrast: Contrast
    x: Mapping[str, Where]
    series: Mapping[str, Where]
    panels: str = "shots"
    where: Where = dataclasses.field(default_factory=dict)
    xlabel: str = ""
    ylabel: str = "difference"
    title: str | None = None
    metric: str | None = None

    def check(self, grid: Grid, known: Mapping[str, Collection[str]]) -> None:
        """Everything that the figure asks for exists in the grid.

        Raises:
          UserError: it does not.
        """
        place = f"the figure {self.name!r}"
        self.contrast.check(f"{place}, contrast", grid)
        for name in ("x", "series"):
            for label, where in getattr(self, name).items():
                grid.check_where(f"{place}, {name}[{label!r}]", where)
        grid.check_axis(f"{place}, panels", self.panels)
        grid.check_where(f"{place}, where", self.where)
        grid.check_metric(place, self.metric or grid.metric, known)

    @styled
    def draw(self, grid: Grid, results: Results) -> matplotlib.figure.Figure:
        """The figure; places without a result are left out."""
        metric = self.metric or grid.metric
        shown = self.contrast.cells(results.where(self.where))
        there = {cell.values[self.panels] for cell in shown}
        panels = [value for value in grid.axes[self.panels] if value in there]
        figure, axes = grid_of_panels(len(panels), 3.0, 3.2, sharey=True)
        width = min(0.15, 0.5 / max(1, len(self.series) - 1))
        for panel, axis in zip(panels, axes, strict=True):
            axis.axhline(0, color="0.75", linewidth=1)
            for i, (label, where) in enumerate(self.series.items()):
                drawn = {}
                for j, x in enumerate(self.x.values()):
                    cells = [
                        cell
                        for cell in shown
                        if matches(cell.values, {**where, **x, self.panels: panel})
                    ]
                    if gain := self.contrast.compute(results, cells, metric):
                        drawn[j + (i - (len(self.series) - 1) / 2) * width] = gain
                at, values = list(drawn), [c.difference for c in drawn.values()]
                errors = reach([(c.difference, c.low, c.high) for c in drawn.values()])
                axis.errorbar(
                    at, values, yerr=errors, fmt="o-", color=f"C{i}", markersize=3.5, lw=1,
                    elinewidth=0.8, label=label,
                )  # fmt: skip
            axis.set_xticks(range(len(self.x)), list(self.x))
            axis.set_xlabel(self.xlabel)
            axis.set_title(f"{grid.label(self.panels)}: {grid.label(panel)}")
        axes[0].set_ylabel(f"{self.ylabel}, 95 % interval")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside right upper", fontsize="small")
        figure.suptitle(self.title or f"{grid.label(metric)}: {self.name}")
        return figure
