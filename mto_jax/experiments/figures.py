# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Figures of a grid: bars, curves and heat maps of any axes, with 95 % intervals.

    curves/Figure.name = "shots"
    curves/Figure.kind = "curve"
    curves/Figure.x = "shots"
    curves/Figure.series = "template"

Axes that a figure does not use are averaged over, as in tables.
"""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import gin
import matplotlib.figure
import matplotlib.ticker
import numpy as np

from mto_jax.errors import UserError, unknown
from mto_jax.experiments.grid import Cell, Grid, Value, Where, matches
from mto_jax.experiments.results import Entry, Results
from mto_jax.pictures import styled


@runtime_checkable
class Drawing(Protocol):
    """A figure of a grid, as `Figure` is one."""

    @property
    def name(self) -> str:
        """Of its files."""
        ...

    @property
    def where(self) -> Where:
        """The cells that it is about."""
        ...

    @property
    def metric(self) -> str | None:
        """None takes the grid's."""
        ...

    def check(self, grid: Grid, known: Mapping[str, Collection[str]]) -> None:
        """Raises a `UserError` for what it asks for and the grid does not have."""
        ...

    def draw(self, grid: Grid, results: Results) -> matplotlib.figure.Figure:
        """The figure."""
        ...


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Figure:
    """A figure to be drawn.

    Attributes:
      name: of its files.
      kind: "bars", "curve" (x is an axis of numbers) or "heat_map".
      x: axis of the groups of bars, of the abscissa, or of the columns.
      series: axis of the bars in a group, of the lines, or of the rows; or {label: places}, each
        made of the cells at several places.
      panels: axis with a panel for each value; None draws one panel.
      where: the cells that it is about.
      title: None makes one.
      metric: None takes the grid's.
    """

    name: str
    kind: str
    x: str
    series: str | Mapping[str, Sequence[Where]]
    panels: str | None = None
    where: Where = dataclasses.field(default_factory=dict)
    title: str | None = None
    metric: str | None = None

    def check(self, grid: Grid, known: Mapping[str, Collection[str]]) -> None:
        """Everything that the figure asks for exists in the grid.

        Raises:
          UserError: it does not, or no cell is in the figure.
        """
        place = f"the figure {self.name!r}"
        if self.kind not in _KINDS:
            raise unknown(f"kind of figure ({place}) called", self.kind, _KINDS)
        axes = [self.x, *([self.panels] if self.panels else [])]
        if isinstance(self.series, Mapping):
            for label, wheres in self.series.items():
                for where in wheres:
                    grid.check_where(f"{place}, series {label!r}", where)
        else:
            axes.append(self.series)
        for axis in axes:
            grid.check_axis(place, axis)
        if len(set(axes)) < len(axes):
            raise UserError(f"{place} uses an axis twice.")
        numbers = [v for v in grid.axes[self.x] if isinstance(v, int | float)]
        if self.kind == "curve" and not numbers:
            raise UserError(f"{place} is a curve, and its axis {self.x!r} has no numbers.")
        grid.check_where(f"{place}, where", self.where)
        grid.check_metric(place, self.metric or grid.metric, known)
        if not Results(grid.cells(), {}).where(self.where):
            raise UserError(f"No cell of the grid is in {place}: where = {dict(self.where)!r}.")

    @styled
    def draw(self, grid: Grid, results: Results) -> matplotlib.figure.Figure:
        """The figure."""
        cells = results.where(self.where)
        metric = self.metric or grid.metric
        shown = grid.label(metric)
        panels = _values(grid, cells, self.panels) if self.panels else [None]
        xs, series = _values(grid, cells, self.x), self._series(grid, cells)
        entries = {}
        for panel in panels:
            for x in xs:
                for label, own in series.items():
                    place = {self.x: x, **({self.panels: panel} if self.panels else {})}
                    if present := [cell for cell in own if matches(cell.values, place)]:
                        entries[panel, x, label] = results.entry(present, metric)
        figure, axes = _KINDS[self.kind](self, grid, panels, xs, list(series), entries, shown)
        for panel, axis in zip(panels, axes, strict=True):
            axis.set_title(f"{self.panels}: {grid.label(panel)}" if self.panels else "")
        figure.suptitle(self.title or f"{shown} by {self.x} and {self.series_name}")
        return figure

    @property
    def series_name(self) -> str:
        """The title of the legend."""
        return "setting" if isinstance(self.series, Mapping) else self.series

    def _series(self, grid: Grid, cells: Sequence[Cell]) -> dict[Value, list[Cell]]:
        """The cells of each series."""
        if isinstance(self.series, Mapping):
            return {
                label: [c for c in cells if any(matches(c.values, where) for where in wheres)]
                for label, wheres in self.series.items()
            }
        return {
            value: [cell for cell in cells if cell.values[self.series] == value]
            for value in _values(grid, cells, self.series)
        }


def _values(grid: Grid, cells, axis: str) -> list[Value]:
    present = {cell.values[axis] for cell in cells}
    return [value for value in grid.axes[axis] if value in present]


# (panel value, x value, series value) -> entry; a place without cells is absent.
Entries = Mapping[tuple[Value, Value, Value], Entry]
Panels = tuple[matplotlib.figure.Figure, list[Any]]


def grid_of_panels(count: int, width: float, height: float, **options) -> Panels:
    """A figure with `count` panels of that size in inches, at most four (or 12 inches) abreast."""
    columns = max(1, min(count, 4, int(12 / width)))
    rows = math.ceil(count / columns)
    figure = matplotlib.figure.Figure(
        figsize=(width * columns, height * rows + 0.5), layout="constrained"
    )
    axes = list(figure.subplots(rows, columns, squeeze=False, **options).flat)
    for unused in axes[count:]:
        unused.set_axis_off()
    return figure, axes[:count]


def reach(points: Sequence[tuple[float, float | None, float | None]]) -> np.ndarray:
    """Error bars [2, N] of (value, low, high); rounding can put a bound on the wrong side."""
    value_N, low_N, high_N = np.array(points, float).reshape(-1, 3).T
    return np.nan_to_num(np.maximum(0.0, [value_N - low_N, high_N - value_N]))


def _errors(entries: Sequence[Entry]) -> np.ndarray:
    """Error bars of the intervals, else of the deviations."""
    bars = reach([(e.value or 0.0, e.low, e.high) for e in entries])
    return np.where([e.low is None for e in entries], [e.deviation or 0.0 for e in entries], bars)


def _bars(spec, grid, panels, xs, series, entries: Entries, metric) -> Panels:
    size = max(4.0, 0.9 + 0.22 * len(xs) * (len(series) + 1))
    figure, axes = grid_of_panels(len(panels), size, 3.0, sharey=True)
    width = 0.8 / len(series)
    for panel, axis in zip(panels, axes, strict=True):
        for i, value in enumerate(series):
            points = [
                (j, e)
                for j, x in enumerate(xs)
                if (e := entries.get((panel, x, value))) and e.present
            ]
            axis.bar(
                [j + (i - (len(series) - 1) / 2) * width for j, _ in points],
                [e.value for _, e in points],
                width * 0.92,
                yerr=_errors([e for _, e in points]),
                error_kw={"elinewidth": 0.8, "capsize": 2, "ecolor": "0.25"},
                color=f"C{i}",
                edgecolor="0.25",  # a pale bar, and its field in the legend, has an outline
                linewidth=0.5,
                label=grid.label(value),
            )
        axis.set_xticks(range(len(xs)), map(grid.label, xs), **_slanted(grid, xs, size - 0.9))
        axis.set_xlabel(spec.x)
    _finish(figure, axes, spec, entries, metric)
    return figure, axes


def _curve(spec, grid, panels, xs, series, entries: Entries, metric) -> Panels:
    numbers = [x for x in xs if isinstance(x, int | float)]
    # "All" has no place among the numbers: it is drawn behind the last of them.
    places = {x: x for x in numbers} | {x: max(numbers) * 2 for x in xs if x is None}
    figure, axes = grid_of_panels(len(panels), 4.0 if len(panels) > 1 else 6.0, 3.0, sharey=True)
    for panel, axis in zip(panels, axes, strict=True):
        for i, value in enumerate(series):
            points = [
                (places[x], e)
                for x in places
                if (e := entries.get((panel, x, value))) and e.present
            ]
            points.sort(key=lambda pair: pair[0])
            at, values = [x for x, _ in points], [e.value for _, e in points]
            below, above = _errors([e for _, e in points])
            axis.plot(at, values, "o-", color=f"C{i}", markersize=3.5, label=grid.label(value))
            axis.fill_between(at, values - below, values + above, color=f"C{i}", alpha=0.12, lw=0)
        if min(numbers) > 0:
            axis.set_xscale("log")
        axis.set_xticks(list(places.values()), map(grid.label, places))
        axis.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        axis.set_xlabel(spec.x)
    _finish(figure, axes, spec, entries, metric)
    return figure, axes


def _heat_map(spec, grid, panels, xs, series, entries: Entries, metric) -> Panels:
    labels = max((len(grid.label(value)) for value in series), default=0)
    figure, axes = grid_of_panels(
        len(panels), 1.2 + 0.08 * labels + 0.75 * len(xs), 1.4 + 0.3 * len(series), sharey=True
    )
    tables = {
        panel: np.array(
            [
                [
                    e.value if (e := entries.get((panel, x, value))) and e.present else np.nan
                    for x in xs
                ]
                for value in series
            ]
        )
        for panel in panels
    }
    low, high = (f(list(tables.values())) for f in (np.nanmin, np.nanmax))
    for panel, axis in zip(panels, axes, strict=True):
        values = tables[panel]
        image = axis.imshow(values, cmap="viridis", vmin=low, vmax=high, aspect="auto")
        for (row, column), value in np.ndenumerate(values):
            if np.isfinite(value):
                dark = value - low < 0.6 * (high - low)
                axis.text(
                    column,
                    row,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    fontsize="small",
                    color="white" if dark else "black",
                )
        axis.set_xticks(range(len(xs)), map(grid.label, xs), rotation=30, ha="right")
        axis.set_yticks(range(len(series)), map(grid.label, series))
        axis.tick_params(length=0)
        axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axes, label=metric, shrink=0.8)
    return figure, axes


def _slanted(grid: Grid, values: Sequence[Value], width: float) -> dict[str, Any]:
    """Options of tick labels on an axis of `width` inches, so that none runs into another."""
    long = 0.11 * max(len(grid.label(value)) for value in values) > width / len(values)
    return {"rotation": 25, "ha": "right"} if long else {}


def _finish(figure, axes, spec: Figure, entries: Entries, metric: str) -> None:
    intervals = any(entry.low is not None for entry in entries.values())
    axes[0].set_ylabel(f"{metric}, {'95 % interval' if intervals else 'deviation over seeds'}")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(
        handles, labels, title=spec.series_name, loc="outside right center", fontsize="small"
    )


_KINDS = {"bars": _bars, "curve": _curve, "heat_map": _heat_map}
