# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A table of a grid: any axes as rows and columns, the best in bold, marks against a baseline.

    main/Table.name = "main"
    main/Table.rows = ["objective", "template"]
    main/Table.columns = "task"

How it is written down (Markdown, LaTeX, CSV, HTML) is the matter of formats.py.
"""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import gin

from mto_jax.errors import UserError, unknown
from mto_jax.experiments.contrasts import Contrast, MeanChange
from mto_jax.experiments.grid import Cell, Grid, Place, Where, listed, matches
from mto_jax.experiments.results import Entry, Results

AVERAGE = "average"
SETTING = "setting"  # stands for the axis of rows that have labels

Coordinates = tuple[Any, ...]  # on the row axes, or the column axes


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Table:
    """A table to be shown.

    Attributes:
      name: of its files.
      rows: an axis or several, with a row for each combination that the grid has; or {label:
        places}, rows made of the cells at several places, such as each task under what it is
        matched with; or {label: `Contrast`}.
      columns: an axis or several.
      where: the cells that it is about; axes that it leaves out, and that are neither rows nor
        columns, are averaged over.
      title: None makes one.
      metric: None takes the grid's.
      baseline: None takes the grid's; of rows with labels it may be one of these, with which the
        others are compared task by task.
      counterparts: of rows with labels, {label: label of the row that it is compared with}, in
        place of one baseline for all.
      block: a row axis; the best of each column is sought, and lines are drawn, within its values.
      lowest: the lowest value is the best.
      average: whether there is a column with the average of each row.
      differences: show what each entry gains over the baseline, not its value.
      intervals: whether Markdown and LaTeX show intervals (CSV and HTML always do).
      published: numbers to show beside ours: a list of rows of which the first names axes and ends
        in "value". They name all row and column axes; "average" on the column axes means that
        column.
    """

    name: str
    rows: str | Sequence[str] | Mapping[str, Sequence[Where] | Contrast | MeanChange]
    columns: str | Sequence[str] = "task"
    where: Where = dataclasses.field(default_factory=dict)
    title: str | None = None
    metric: str | None = None
    baseline: Place | str | None = None
    counterparts: Mapping[str, str] = dataclasses.field(default_factory=dict)
    block: str | None = None
    lowest: bool = False
    average: bool = True
    differences: bool = False
    intervals: bool = True
    published: Sequence[Sequence[Any]] = ()

    @property
    def row_axes(self) -> tuple[str, ...]:
        return (SETTING,) if isinstance(self.rows, Mapping) else _names(self.rows)

    @property
    def column_axes(self) -> tuple[str, ...]:
        return _names(self.columns)

    @property
    def row_counterparts(self) -> Mapping[str, str]:
        """{label: label of the row that it is compared with}; empty where places are compared."""
        if isinstance(self.baseline, str):
            return dict.fromkeys(self.rows, self.baseline)
        return self.counterparts

    def contrast(self, row: Coordinates) -> Contrast | MeanChange | None:
        """The contrast that a row shows, if it shows one."""
        given = self.rows.get(row[0]) if isinstance(self.rows, Mapping) else None
        return given if isinstance(given, Contrast | MeanChange) else None

    def check(self, grid: Grid, known: Mapping[str, Collection[str]]) -> None:
        """Everything that the table asks for exists in the grid.

        Raises:
          UserError: it does not, or no cell is in the table.
        """
        place = f"the table {self.name!r}"
        self._check_axes(place, grid)
        grid.check_where(f"{place}, where", self.where)
        labels = self.rows if isinstance(self.rows, Mapping) else ()
        if isinstance(self.baseline, str):
            baselines = [self.baseline]
        else:
            baselines = []
            grid.check_baseline(f"{place}, baseline", self.baseline or {})
        for label in (*baselines, *self.counterparts, *self.counterparts.values()):
            if label not in labels:
                raise unknown(f"row ({place}, baseline or counterparts) called", label, labels)
        grid.check_metric(place, self.metric or grid.metric, known)
        if self.differences and not (self.baseline or self.counterparts or grid.baseline):
            raise UserError(
                f"{place} shows differences: to what? Bind its baseline, or Grid.baseline."
            )
        if self.published:
            self._check_published(place, grid)
        filled = fill(self, grid, Results(grid.cells(), {}))
        if not filled.entries:
            raise UserError(f"No cell of the grid is in {place}: where = {dict(self.where)!r}.")
        if isinstance(self.rows, Mapping) and len(filled.rows) < len(self.rows):
            lost = next(label for label in self.rows if (label,) not in filled.rows)
            raise UserError(f"No cell of the grid is in the row {lost!r} of {place}.")
        if self.published and not filled.published:
            raise UserError(f"None of the published numbers belongs to an entry of {place}.")

    def _check_axes(self, place: str, grid: Grid) -> None:
        axes = (*self.row_axes, *self.column_axes)
        if not self.row_axes or not self.column_axes:
            raise UserError(f"{place} needs at least one axis as rows and one as columns.")
        for axis in axes:
            if axis != SETTING:
                grid.check_axis(place, axis)
            if axes.count(axis) > 1:
                raise UserError(f"{place} has the axis {axis!r} twice.")
        if isinstance(self.rows, Mapping):
            for label, row in self.rows.items():
                if isinstance(row, Contrast | MeanChange):
                    row.check(f"{place}, row {label!r}", grid)
                    continue
                for where in row:
                    grid.check_where(f"{place}, row {label!r}", where)
        if self.block is not None and self.block not in self.row_axes:
            raise unknown(f"row axis ({place}, block) called", self.block, self.row_axes)

    def _check_published(self, place: str, grid: Grid) -> None:
        axes = self.published[0][:-1]
        for axis in axes:
            if axis != SETTING:
                grid.check_axis(f"{place}, published", axis)
        needed = {*self.row_axes, *self.column_axes}
        if self.published[0][-1] != "value" or not needed <= set(axes):
            raise UserError(
                f"{place}: the first row of its published numbers is {self.published[0]!r}; "
                f"expected names of axes, {', '.join(sorted(needed))} among them, and "
                '"value" at the end.'
            )
        for row in self.published[1:]:
            if len(row) != len(axes) + 1 or not isinstance(row[-1], int | float):
                raise UserError(f"{place}: the published row {row!r} does not fit its head.")


def _names(axes: str | Sequence[str]) -> tuple[str, ...]:
    return (axes,) if isinstance(axes, str) else tuple(axes)


@dataclasses.dataclass(frozen=True)
class Filled:
    """A table with its numbers.

    Attributes:
      title, metric: as the table or the grid has them.
      rows, columns: their coordinates, in the order of the grid; the average is the column
        (AVERAGE,).
      entries: by row and column, where the grid has cells.
      best: the (row, column) of the best entries.
      published: by row and column.
      baseline: what the marks compare with.
    """

    spec: Table
    grid: Grid
    title: str
    metric: str
    rows: list[Coordinates]
    columns: list[Coordinates]
    entries: dict[tuple[Coordinates, Coordinates], Entry]
    best: set[tuple[Coordinates, Coordinates]]
    published: dict[tuple[Coordinates, Coordinates], float]
    baseline: Any  # a place, or the label of a row

    def blocks(self) -> list[list[Coordinates]]:
        """The rows, cut where the block axis changes; one block if there is no such axis."""
        return _blocks(self.spec, self.rows)


def fill(spec: Table, grid: Grid, results: Results) -> Filled:
    """The table with what the results say."""
    metric = spec.metric or grid.metric
    baseline: Any = grid.baseline if spec.baseline is None else spec.baseline
    counterparts = spec.row_counterparts
    cells: dict[tuple[Coordinates, Coordinates], list[Cell]] = {}
    for cell in results.where(spec.where):
        for row in _rows(spec, cell):
            cells.setdefault((row, _at(cell, spec.column_axes)), []).append(cell)
    if isinstance(spec.rows, Mapping):
        rows = [(label,) for label in spec.rows if any(row == (label,) for row, _ in cells)]
    else:
        rows = _ordered(grid, spec.row_axes, {row for row, _ in cells})
    columns = _ordered(grid, spec.column_axes, {column for _, column in cells})
    if spec.average and len(columns) > 1:
        for row in rows:
            # Averages over unlike columns would not compare.
            if all((row, column) in cells for column in columns):
                cells[row, (AVERAGE,)] = [c for column in columns for c in cells[row, column]]
        columns = [*columns, (AVERAGE,)]
    entries = {}
    for (row, column), group in cells.items():
        against = cells.get(((counterparts.get(row[0]),), column)) if counterparts else baseline
        contrast = spec.contrast(row)
        entries[row, column] = (
            _contrast(contrast, results, group, metric)
            if contrast
            else results.entry(group, metric, against)
        )
    return Filled(
        spec,
        grid,
        spec.title or _title(spec, grid, metric),
        metric,
        rows,
        columns,
        entries,
        _best(spec, rows, columns, entries),
        _published(spec, entries),
        baseline,
    )


def _rows(spec: Table, cell: Cell) -> list[Coordinates]:
    """The rows that a cell belongs to."""
    if not isinstance(spec.rows, Mapping):
        return [_at(cell, spec.row_axes)]
    return [
        (label,)
        for label, row in spec.rows.items()
        if (
            row.cells([cell])
            if isinstance(row, Contrast | MeanChange)
            else any(matches(cell.values, where) for where in row)
        )
    ]


def _contrast(
    contrast: Contrast | MeanChange, results: Results, cells: Sequence[Cell], metric: str
) -> Entry:
    done = sum(cell in results.results for cell in cells)
    versus = contrast.compute(results, cells, metric)
    if versus is None:
        return Entry(None, None, None, None, done, len(cells))
    return Entry(versus.difference, None, versus.low, versus.high, done, len(cells), versus)


def _at(cell: Cell, axes: Sequence[str]) -> Coordinates:
    return tuple(cell.values[axis] for axis in axes)


def _ordered(grid: Grid, axes: Sequence[str], places: Collection[Coordinates]) -> list[Coordinates]:
    """Coordinates in the order that the grid gives the values of each axis."""
    return sorted(
        places,
        key=lambda place: [grid.axes[axis].index(v) for axis, v in zip(axes, place, strict=True)],
    )


def _title(spec: Table, grid: Grid, metric: str) -> str:
    *first, last = [*spec.row_axes, *spec.column_axes]
    fixed = ", ".join(
        f"{axis} {' or '.join(map(grid.label, listed(values)))}"
        for axis, values in spec.where.items()
    )
    title = f"{grid.label(metric)} by {', '.join(first)} and {last}"
    return title + (f" ({fixed})" if fixed else "")


def _best(spec, rows, columns, entries) -> set[tuple[Coordinates, Coordinates]]:
    """The best complete entries of every column and block, as far as three decimals tell."""
    best = set()
    for block in _blocks(spec, rows):
        for column in columns:
            values = {
                (row, column): round(number, 3)
                for row in block
                if not spec.contrast(row)
                and (entry := entries.get((row, column)))
                and entry.complete
                and (number := _ranked(spec, entry)) is not None
            }
            if len(values) > 1:
                top = (min if spec.lowest else max)(values.values())
                best |= {place for place, value in values.items() if value == top}
    return best


def _ranked(spec: Table, entry: Entry) -> float | None:
    if not spec.differences:
        return entry.value
    return entry.versus.difference if entry.versus else None


def _blocks(spec: Table, rows: Sequence[Coordinates]) -> list[list[Coordinates]]:
    if spec.block is None:
        return [list(rows)]
    i = spec.row_axes.index(spec.block)
    return [[row for row in rows if row[i] == v] for v in dict.fromkeys(row[i] for row in rows)]


def _published(spec: Table, entries) -> dict[tuple[Coordinates, Coordinates], float]:
    published = {}
    for row in spec.published[1:]:
        place = dict(zip(spec.published[0][:-1], row, strict=False))
        averaged = all(place.get(axis) == AVERAGE for axis in spec.column_axes)
        columns = (AVERAGE,) if averaged else tuple(place.get(axis) for axis in spec.column_axes)
        entry = tuple(place.get(axis) for axis in spec.row_axes), columns
        # What is neither row nor column has to be what the table is about.
        others = {a: v for a, v in place.items() if a not in (*spec.row_axes, *spec.column_axes)}
        if entry in entries and all(
            spec.where.get(axis) == value for axis, value in others.items()
        ):
            published[entry] = float(row[-1])
    return published
