# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A grid from its axes to tables, figures and an HTML report."""

import pathlib
import re
import shutil
from collections.abc import Mapping, Sequence

import gin
import matplotlib.figure
import rich.table

from mto_jax import checks
from mto_jax.console import wide
from mto_jax.errors import UserError, unknown
from mto_jax.experiments import formats
from mto_jax.experiments.engine import Runner, compute
from mto_jax.experiments.figures import IMAGE_FORMATS, Drawing, Figure, encode
from mto_jax.experiments.grid import Cell, Grid
from mto_jax.experiments.html import page
from mto_jax.experiments.notes import notes
from mto_jax.experiments.results import Results
from mto_jax.experiments.store import CellStore
from mto_jax.experiments.tables import Filled, Table, fill
from mto_jax.files import Leases, write_atomically


@gin.configurable("tables")
def run_grid(
    *,
    grid: Grid,
    runner: Runner,
    output_dir: checks.Place,
    tables: Sequence[Table] | None = None,
    figures: Sequence[Drawing] | None = None,
    dry_run: bool = False,
    retry_failed: bool = False,
    lease_duration: checks.Positive = 300.0,
) -> Results:
    """Compute what is missing, then write tables, figures and a page; returns the results.

    Args:
      grid: which cells there are.
      runner: what computes them.
      output_dir: the results folder; one grid's alone.
      tables: what to print; None makes one table, of the tasks.
      figures: what to draw; None makes those that the axes allow.
      dry_run: print cells, time and disk, and do nothing.
      retry_failed: compute failed cells again.
      lease_duration: seconds after which a silent process on another host counts as dead.

    Raises:
      UserError: something asked for does not exist, the folder is another grid's or damaged (all
        before the first cell starts), or cells have failed (after the tables are written).
    """
    checks.check(run_grid, locals(), "tables")
    known = runner.known()
    grid.check(known)
    shown = _default_tables(grid) if tables is None else tables
    drawn = _default_figures(grid) if figures is None else figures
    for spec in (*shown, *drawn):
        spec.check(grid, known)
    _check_names("table", [table.name for table in shown])
    _check_names("figure", [figure.name for figure in drawn])
    plain = grid.cells()
    if runner.missing_models and dry_run:
        print(
            f"{len(plain)} cells; first are trained the models {', '.join(runner.missing_models)}"
        )
        return Results(plain, {})
    runner.make_models()
    runner.check(plain)
    for spec in (*shown, *drawn):
        for cell in Results(plain, {}).where(spec.where):
            metric, metrics = spec.metric or grid.metric, runner.metrics(cell)
            if metric not in metrics:
                raise unknown(f"metric of the task {cell.task!r} called", metric, metrics)
    cells = [cell.with_settings(runner.settings(cell)) for cell in plain]
    store = CellStore(output_dir)
    store.check(grid, cells)
    if dry_run:
        _show_plan(grid, runner, cells, store)
        return Results(cells, {})
    store.create(grid)
    if retry_failed:
        store.forget_errors(cells)
    with Leases(store.folder / "leases", lease_duration) as leases:
        compute(runner, cells, store, leases)
    results = Results(cells, {cell: store.read(cell) for cell in cells if store.done(cell)})
    if grid.choose and results.results:
        results = results.choose(**grid.choose)
        _show_choice(grid, results)
    errors = store.errors(cells)
    filled = [fill(table, grid, results) for table in shown] if results.results else []
    pictures = {f.name: f.draw(grid, results) for f in drawn} if results.results else {}
    _write(store.folder, grid, results, filled, pictures, errors)
    console = wide()
    for table in filled:
        console.print(formats.terminal(table))
    beside = notes(grid, results)
    write_atomically(
        store.folder / "tables" / "notes.md", "\n".join(f"- {t}" for t in beside) + "\n"
    )
    print(*beside, sep="\n")
    print(f"tables/, figures/, cells.csv and index.html are in {store.folder}")
    if errors:
        cell, text = next(iter(errors.items()))
        raise UserError(
            f"{len(errors)} of {len(cells)} cells failed, for example ({cell}): {text}. The traces "
            f"are in {store.folder / 'errors'}; --retry_failed computes these cells again."
        )
    return results


def _write(
    folder: pathlib.Path,
    grid: Grid,
    results: Results,
    filled: Sequence[Filled],
    pictures: Mapping[str, matplotlib.figure.Figure],
    errors: Mapping[Cell, str],
) -> None:
    """Write every table and figure in every format, the cells as CSV, and the page."""
    for name in ("tables", "figures"):
        (folder / name).mkdir(exist_ok=True)
    for table in filled:
        path = folder / "tables" / table.spec.name
        write_atomically(path.with_name(f"{path.name}.md"), formats.markdown(table))
        write_atomically(path.with_name(f"{path.name}.tex"), formats.latex(table))
        write_atomically(path.with_name(f"{path.name}.csv"), formats.comma_separated(table))
    vectors = {}
    for name, picture in pictures.items():
        for suffix in IMAGE_FORMATS:
            content = encode(picture, suffix)
            write_atomically(folder / "figures" / f"{name}.{suffix}", content)
            if suffix == "svg":
                vectors[name] = content
    write_atomically(folder / "cells.csv", formats.all_cells(results))
    write_atomically(folder / "index.html", page(grid, results, filled, vectors, errors))


def _varied(grid: Grid, *but: str) -> list[str]:
    """The axes with several values, but some."""
    return [a for a, values in grid.axes.items() if len(values) > 1 and a not in ("seed", *but)]


def _default_tables(grid: Grid) -> list[Table]:
    rows = _varied(grid, "task") or ["template"]
    return [Table(name="main", rows=rows, columns="task", block=rows[0] if len(rows) > 2 else None)]


def _default_figures(grid: Grid) -> list[Drawing]:
    panels = "model" if len(grid.axes["model"]) > 1 else None
    figures: list[Drawing] = [Figure("bars", "bars", "objective", "template", panels)]
    if len([shots for shots in grid.axes["shots"] if shots is not None]) > 1:
        figures.append(Figure("shots", "curve", "shots", "template", panels))
    if len(grid.axes["task"]) > 1:
        figures.append(Figure("tasks", "heat_map", "template", "task", panels))
    return figures


def _check_names(what: str, names: Sequence[str]) -> None:
    """Files are called after tables and figures: each needs a name of its own."""
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"Two {what}s are called {name!r}: give each a {what.title()}.name.")
        if not re.fullmatch(r"[\w-]+", name):
            raise UserError(
                f"{what.title()}.name = {name!r} names files: use letters, digits, _ and - alone."
            )


def _show_choice(grid: Grid, results: Results) -> None:
    axis, within = grid.choose["axis"], grid.choose["within"]
    table = rich.table.Table(*within, axis, title=f"{axis} chosen by {grid.choose['by']}")
    rows = dict.fromkeys(tuple(c.values[a] for a in (*within, axis)) for c in results.cells)
    for row in rows:
        table.add_row(*map(grid.label, row))
    wide().print(table)


def _show_plan(grid: Grid, runner: Runner, cells: Sequence[Cell], store: CellStore) -> None:
    done, failed = store.settled()
    todo = [cell for cell in cells if cell.key not in done]
    console = wide()
    table = rich.table.Table(*grid.axes, "key", "state", title=f"{grid.name}: {len(cells)} cells")
    for cell in cells:
        state = "done" if cell.key in done else "failed" if cell.key in failed else "to do"
        table.add_row(*map(grid.label, cell.values.values()), cell.key, state)
    console.print(table)
    stages = list(runner.stages(todo)) if todo else []
    table = rich.table.Table("stage", "time", "disk", title=f"to do: {len(todo)} cells")
    for stage in stages:
        table.add_row(stage.name, _time(stage.seconds), _size(stage.disk))
    need = sum(stage.disk for stage in stages)
    table.add_row(
        "in all", _time(sum(stage.seconds for stage in stages)), _size(need), style="bold"
    )
    console.print(table)
    if seconds := store.seconds(cells):
        mean = sum(seconds) / len(seconds)
        left = _time(mean * len(todo))
        print(
            f"the {len(seconds)} cells that are done took {_time(mean)} each; at that rate: {left}"
        )
    folder = next(p for p in (store.folder, *store.folder.resolve().parents) if p.exists())
    print(f"disk: {_size(need)} needed, {_size(shutil.disk_usage(folder).free)} free at {folder}")


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _size(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"
