# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""What a grid will cost, before anything is computed: `mto tables --dry_run`."""

import shutil
from collections.abc import Callable, Sequence

import rich.table

from mto_jax.console import size_text, wide
from mto_jax.experiments.base_models import BaseModels, objective
from mto_jax.experiments.data import CellData
from mto_jax.experiments.engine import Runner, Stage
from mto_jax.experiments.grid import Cell, Grid, each
from mto_jax.experiments.recipes import Recipes
from mto_jax.experiments.store import CellStore
from mto_jax.experiments.strategies import UNTRAINED
from mto_jax.models import flops as model_flops
from mto_jax.models.config import ModelConfig
from mto_jax.training.finetune import Tuning
from mto_jax.training.multi_adapter import MultiAdapterTuning
from mto_jax.training.performance import measured_flops


def show(grid: Grid, runner: Runner, cells: Sequence[Cell], store: CellStore) -> None:
    """Prints a line an axis, the work of the cells, and what of it is to do.

    The first two need neither models nor data. What is to do, and its time and disk, is left out
    with the reason where a model is not on this machine: none is fetched for it.

    Raises:
      UserError: models and data are here, and something in the grid does not fit them.
    """
    print(f"{grid.name}: {len(cells)} cells")
    width = max(map(len, grid.axes))
    for axis, values in grid.axes.items():
        print(f"  {axis:<{width}}  {len(values):>3}: {', '.join(map(grid.label, values))}")
    for line in runner.work(cells):
        print(line)
    if missing := runner.missing_models:
        print(
            f"not on this machine: {', '.join(missing)}. So it is not known here which cells are "
            "done, nor what time and disk the others take."
        )
        return
    runner.check(cells)
    cells = [cell.with_settings(runner.settings(cell)) for cell in cells]
    store.check(grid, cells)
    _show_rest(grid, runner, cells, store)


def _show_rest(grid: Grid, runner: Runner, cells: Sequence[Cell], store: CellStore) -> None:
    done, failed = store.settled()
    todo = [cell for cell in cells if cell.key not in done]
    counts = {"done": len(cells) - len(todo), "failed": len(failed & {c.key for c in todo})}
    print(", ".join(f"{count} {state}" for state, count in counts.items() if count) or "none done")
    table = rich.table.Table("stage", "time", "disk", title=f"to do: {len(todo)} cells")
    stages = list(runner.stages(todo)) if todo else []
    for stage in stages:
        table.add_row(stage.name, _time(stage.seconds), size_text(stage.disk))
    need = sum(stage.disk for stage in stages)
    table.add_row(
        "in all", _time(sum(stage.seconds for stage in stages)), size_text(need), style="bold"
    )
    wide().print(table)
    if seconds := store.seconds(cells):
        mean = sum(seconds) / len(seconds)
        left = _time(mean * len(todo))
        print(
            f"the {len(seconds)} cells that are done took {_time(mean)} each; at that rate: {left}"
        )
    folder = next(p for p in (store.folder, *store.folder.resolve().parents) if p.exists())
    free = size_text(shutil.disk_usage(folder).free)
    print(f"disk: {size_text(need)} needed, {free} free at {folder}")


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def work(
    cells: Sequence[Cell], recipes: Recipes, tails: int, test_heads: int | None
) -> Sequence[str]:
    """Trainings, their steps (1 to `tails` references a head) and what is asked, by method."""
    lines = []
    for method in each(cells, "method"):
        same = [cell for cell in cells if cell.method == method]
        line = f"  {len(same)} cells of {method}"
        if method not in UNTRAINED:
            trained = {cell.trained: cell for cell in same}.values()
            least, most = (
                sum(recipes.steps(cell, (cell.shots or 0) * count) for cell in trained)
                for count in (1, tails)
            )
            line += f": {len(trained)} trainings, {least:,} to {most:,} steps in all"
            if whole := sum(cell.shots is None for cell in trained):
                line += f" and those of {whole} on all heads"
        heads = "all heads" if test_heads is None else f"{test_heads} heads"
        lines.append(f"{line}; each answers for {heads} at most")
    adapted = {(c.model, c.objective) for c in cells if c.objective != "none"}
    return lines + ([f"  {len(adapted)} adapted models at most"] if adapted else [])


def stages(
    cells: Sequence[Cell], bases: BaseModels, cell_flops: Callable[[Cell], float]
) -> Sequence[Stage]:
    """The adaptations that are to be made, and the cells by method at the device's speed."""
    rate = measured_flops()
    made = []
    for name, adapted in sorted({(c.model, objective(c)) for c in cells}):
        if adapted != "none" and not bases.adapted_folder(name, adapted).exists():
            size = 4 * model_flops.num_parameters(bases[name].checkpoint.config)
            # Two checkpoints, each with two moments for every parameter.
            made.append(Stage(f"adapt {name}, {adapted} (time not known)", 0.0, 6 * size))
    for method in each(cells, "method"):
        same = [cell for cell in cells if cell.method == method]
        seconds = sum(map(cell_flops, same)) / rate
        made.append(Stage(f"{len(same)} cells, {method}", seconds, 20_000 * len(same)))
    return made


def flops(data: CellData, config: ModelConfig, tuning: Tuning | MultiAdapterTuning | None) -> float:
    """The FLOPs of training and evaluating a cell, both at full lengths."""
    cell, task = data.cell, data.own.task
    if cell.method in ("constant", "recall"):
        return 0.0
    forward = model_flops.train_flops(config, 1, **data.lengths) / 3
    heads = len({record.head for record in task.train})
    count = len(task.train) if cell.shots is None else min(cell.shots, heads) * data.tails
    trained = 3 * tuning.epochs * count if tuning else 0
    return forward * (len(task.held_out) + trained)
