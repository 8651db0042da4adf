# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Computes the open cells of a grid, beside other processes that do the same."""

import contextlib
import time
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mto_jax.errors import message
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.progress import Progress, Report
from mto_jax.experiments.store import CellStore, Result
from mto_jax.files import Leases
from mto_jax.training.finetune import Loss

# Called after a training step: a cell of those that train, the step, all steps, the loss's getter.
OnStep = Callable[[Cell, int, int, Loss], None]


class Stage(NamedTuple):
    """A part of the work that a grid needs, as `--dry_run` shows it."""

    name: str
    seconds: float  # estimated
    disk: int  # bytes, estimated


class Runner(Protocol):
    """Computes cells. A result depends on its cell alone, not on the cells computed with it."""

    def known(self) -> Mapping[str, Collection[str]]:
        """The names that exist, by axis ("template", ...) and for "metric".

        Those of an axis left out are checked by `check`.
        """
        ...

    @property
    def missing_models(self) -> Sequence[str]:
        """The models of the grid that are not on this machine: to be trained or fetched."""
        ...

    def make_models(self) -> None:
        """Train those that are to be; raises a `UserError` for one that fails."""
        ...

    def check(self, cells: Sequence[Cell]) -> None:
        """Raises a `UserError` for what would go wrong later: called before any cell starts."""
        ...

    def metrics(self, cell: Cell) -> Collection[str]:
        """The metrics that the result of a cell will have."""
        ...

    def settings(self, cell: Cell) -> Mapping[str, Any]:
        """All that decides the result of a cell beside its place on the axes, as JSON.

        Optimizer, epochs, lengths, digests of model and data: under others it is another cell.
        """
        ...

    def groups(self, cells: Sequence[Cell]) -> Sequence[Sequence[Cell]]:
        """The cells in the order of computation, cut into those that one call of `run` computes.

        A group is leased as a whole, so cells that are not trained together belong to groups of
        their own: put those that share a compiled program or a loaded model one after the other.
        Called again whenever other processes have taken cells, so it should be quick.
        """
        ...

    def run(self, group: Sequence[Cell], progress: OnStep) -> Iterable[tuple[Cell, Result]]:
        """Computes a group, or what is left of one, and yields each cell as it finishes.

        A result is {"scores": {metric: a number per test example}, "values": {metric: number},
        "info": {...}}, as JSON. Scores have the value as their mean. info["examples"], if given,
        names the test examples: cells of a task that differ in it are not compared.
        """
        ...

    def work(self, cells: Sequence[Cell]) -> Sequence[str]:
        """Lines that say what there is to compute; asked before models and data are read."""
        ...

    def stages(self, cells: Sequence[Cell]) -> Sequence[Stage]:
        """The work that the cells need: shared stages and the cells themselves."""
        ...


def compute(
    runner: Runner, cells: Sequence[Cell], store: CellStore, leases: Leases, *, poll: float = 2.0
) -> None:
    """Returns when every cell is done or has failed, by this process or another.

    A cell that fails is recorded and does not stop the rest; when one of a group fails, those that
    are left are computed one by one.

    Args:
      runner: computes them.
      cells: with settings.
      store: where results go; failed cells are in it from before until they are forgotten.
      leases: open.
      poll: seconds between looks at other processes when nothing is left for this one.
    """
    with Progress(cells, store, leases) as progress:

        def work(groups: Sequence[Sequence[Cell]]) -> bool:
            advanced = False
            for group in groups:
                with _leased(leases, store, group) as cells_here:
                    if cells_here:
                        advanced = True
                        progress.running(cells_here)
                        settle(runner, cells_here, store, progress)
            return advanced

        until_settled(work, runner, cells, store, leases, progress, poll=poll)


def until_settled(
    work: Callable[[Sequence[Sequence[Cell]]], bool],
    runner: Runner,
    cells: Sequence[Cell],
    store: CellStore,
    leases: Leases,
    progress: Progress,
    *,
    poll: float = 2.0,
) -> None:
    """Calls `work` on the groups of open cells until every cell is done or has failed.

    Where it returns False, it has computed nothing, as others hold all leases: they are waited for.
    """
    while todo := _open(store, cells):
        if not work(runner.groups(todo)):
            progress.running([])
            for cell in todo:
                leases.say_waiting(cell.key)
            time.sleep(poll)
    progress.running([])


def _open(store: CellStore, cells: Sequence[Cell]) -> list[Cell]:
    done, failed = store.settled()
    return [cell for cell in cells if cell.key not in done | failed]


@contextlib.contextmanager
def _leased(leases: Leases, store: CellStore, group: Sequence[Cell]) -> Iterator[list[Cell]]:
    """The cells of a group that are this process's to compute."""
    taken: list[Cell] = []
    try:
        for cell in group:
            if leases.take(cell.key):
                taken.append(cell)
        yield [cell for cell in taken if not (store.done(cell) or store.failed(cell))]
    finally:
        for cell in taken:
            leases.release(cell.key)


def settle(runner: Runner, group: Sequence[Cell], store: CellStore, report: Report) -> None:
    """Computes a group and keeps what its cells give: results, or the error of each that failed."""
    left = list(group)
    start = time.monotonic()
    try:
        for cell, result in runner.run(group, report):
            store.write(cell, result, time.monotonic() - start)
            left.remove(cell)
            report.finished(cell, f"{time.monotonic() - start:.1f} s")
            start = time.monotonic()
        if left:
            raise RuntimeError(f"The runner gave no result for {left[0]}.")
    except Exception as error:
        if not left:  # every cell has its result: this is no cell's error
            raise
        if len(group) == 1:
            text = f"{type(error).__name__}: {message(error)}"
            store.write_error(group[0], text, traceback.format_exc())
            report.finished(group[0], f"failed: {text}")
        else:
            for cell in left:
                settle(runner, [cell], store, report)
