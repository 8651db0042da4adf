# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A grid from its axes to tables, figures and an HTML report."""

import contextlib
import pathlib
import re
from collections.abc import Callable, Mapping, Sequence

import gin
import matplotlib.figure

from mto_jax import checks, remote
from mto_jax.console import folding_table, wide
from mto_jax.errors import UserError, unknown
from mto_jax.experiments import formats, plan, ray_engine
from mto_jax.experiments.engine import Runner, compute
from mto_jax.experiments.figures import Drawing, Figure
from mto_jax.experiments.grid import Cell, Grid
from mto_jax.experiments.html import page
from mto_jax.experiments.notes import notes
from mto_jax.experiments.results import Results
from mto_jax.experiments.store import CellStore
from mto_jax.experiments.tables import Filled, Table, fill
from mto_jax.files import Leases, write_atomically
from mto_jax.pictures import IMAGE_FORMATS, encode

SECONDS = "seconds"  # the metric; of cells that are trained together, the first has all


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
    engine: str | None = None,
) -> Results:
    """Compute what is missing, then write tables, figures and a page; returns the results.

    Args:
      grid: which cells there are.
      runner: what computes them.
      output_dir: the results folder; one grid's alone.
      tables: what to print; None makes one table, of the tasks.
      figures: what to draw; None makes those that the axes allow.
      dry_run: print axes, cells, work and, as far as models and data are here, time and disk; and
        do nothing.
      retry_failed: compute failed cells again.
      lease_duration: seconds after which a silent process on another host counts as dead.
      engine: "ray" or "ray://HEAD:PORT" for workers of Ray (`RayWorkers`), which compute what gin
        has bound to `tables.runner`; None for this process.

    Raises:
      UserError: something asked for does not exist, the folder is another grid's or damaged (all
        before the first cell starts), or cells have failed (after the tables are written).
    """
    checks.check(run_grid, locals(), "tables")
    known = runner.known()
    grid.check(known)
    shown = default_tables(grid) if tables is None else tables
    drawn = default_figures(grid) if figures is None else figures
    for spec in (*shown, *drawn):
        spec.check(grid, known)
    _check_names("table", [table.name for table in shown])
    _check_names("figure", [figure.name for figure in drawn])
    plain = grid.cells()
    if dry_run:
        plan.show(grid, runner, plain, CellStore(output_dir))
        return Results(plain, {})
    with ray_engine.connected(engine) if engine else contextlib.nullcontext() as pool:
        pool.make_models(runner) if pool else runner.make_models()
        runner.check(plain)
        _check_metrics(grid, runner, plain, (*shown, *drawn))
        cells = [cell.with_settings(runner.settings(cell)) for cell in plain]
        store = CellStore(remote.local(output_dir))
        store.check(grid, cells)
        how = pool.compute if pool else compute
        results = computed(grid, runner, cells, store, retry_failed, lease_duration, how)
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
    print(f"tables/, figures/, cells.csv and index.html are in {remote.name_of(store.folder)}")
    if errors:
        cell, text = next(iter(errors.items()))
        raise UserError(
            f"{len(errors)} of {len(cells)} cells failed, for example ({cell}): {text}. The traces "
            f"are in {store.folder / 'errors'}; --retry_failed computes these cells again."
        )
    return results


def computed(
    grid: Grid,
    runner: Runner,
    cells: Sequence[Cell],
    store: CellStore,
    retry_failed: bool = False,
    lease_duration: float = 300.0,
    compute: Callable[[Runner, Sequence[Cell], CellStore, Leases], None] = compute,
) -> Results:
    """Compute those of the cells, which have settings, that are not in the store; returns all.

    A result has the metric `SECONDS`, what the cell took, beside its own.
    """
    store.create(grid)
    if retry_failed:
        store.forget_errors(cells)
    with (
        remote.alone(store.folder),
        Leases(store.folder / "leases", lease_duration) as leases,
    ):
        compute(runner, cells, store, leases)
    done = [cell for cell in cells if store.done(cell)]
    results = {}
    for cell, seconds in zip(done, store.seconds(done), strict=True):
        result = store.read(cell)
        results[cell] = {**result, "values": {**result["values"], SECONDS: seconds}}
    return Results(cells, results)


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


def _check_metrics(
    grid: Grid, runner: Runner, cells: Sequence[Cell], specs: Sequence[Table | Drawing]
) -> None:
    for spec in specs:
        for cell in Results(cells, {}).where(spec.where):
            metric, metrics = spec.metric or grid.metric, [*runner.metrics(cell), SECONDS]
            if metric not in metrics:
                raise unknown(f"metric of the task {cell.task!r} called", metric, metrics)


def _varied(grid: Grid, *but: str) -> list[str]:
    """The axes with several values, but some."""
    return [a for a, values in grid.axes.items() if len(values) > 1 and a not in ("seed", *but)]


def default_tables(grid: Grid) -> list[Table]:
    """Returns the tables of a grid that names none."""
    rows = _varied(grid, "task") or ["template"]
    return [Table(name="main", rows=rows, columns="task", block=rows[0] if len(rows) > 2 else None)]


def default_figures(grid: Grid) -> list[Drawing]:
    """Returns the figures of a grid that names none."""
    panels = "model" if len(grid.axes["model"]) > 1 else None
    x = next((axis for axis in ("objective", "task") if len(grid.axes[axis]) > 1), "method")
    figures: list[Drawing] = [Figure("bars", "bars", x, "template", panels)]
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
    table = folding_table([*within, axis], f"{axis} chosen by {grid.choose['by']}")
    rows = dict.fromkeys(tuple(c.values[a] for a in (*within, axis)) for c in results.cells)
    for row in rows:
        table.add_row(*map(grid.label, row))
    wide().print(table)
