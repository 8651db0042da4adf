# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The progress of a grid: one live line on a terminal, a line for every cell elsewhere."""

import math
import time
from collections.abc import Sequence
from typing import Protocol

import rich.progress

from mto_jax.console import EVERY, progress_console
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.store import CellStore
from mto_jax.files import Leases
from mto_jax.training.finetune import Loss

_SHOW_EVERY = 0.2  # seconds


class Report(Protocol):
    """Hears of the cells that a process computes."""

    def __call__(self, cell: Cell, step: int, steps: int, loss: Loss) -> None:
        """`cell`, and whatever is computed with it, has done `step` of `steps` training steps."""
        ...

    def finished(self, cell: Cell, outcome: str) -> None:
        """`cell` is done or has failed."""
        ...


class Progress:
    """Shows cells done, failed and running (here and in other processes), the time left, the
    current loss.

    Call it after a training step: `progress(cell, step, steps, loss)`; `loss()` is asked for when
    it is shown.
    """

    def __init__(self, cells: Sequence[Cell], store: CellStore, leases: Leases):
        self._keys = {cell.key for cell in cells}
        axes = cells[0].values
        self._axes = [axis for axis in axes if len({cell.values[axis] for cell in cells}) > 1]
        self._store, self._leases = store, leases
        self._console = progress_console()
        self._bar = rich.progress.Progress(
            rich.progress.BarColumn(20),
            rich.progress.TextColumn(
                "{task.completed:.0f}/{task.total:.0f} cells{task.fields[counts]}"
            ),
            rich.progress.TimeRemainingColumn(),
            rich.progress.TextColumn("left"),
            rich.progress.TextColumn("{task.description}"),
            console=self._console,
            disable=not self._console.is_terminal,
            speed_estimate_period=math.inf,
        )
        self._task = self._bar.add_task("", total=len(cells), counts="")
        self._running: list[Cell] = []
        self._loss = ""  # of the last step
        self._shown = time.monotonic()

    def __enter__(self):
        self._count()
        self._bar.reset(self._task, completed=int(self._bar.tasks[0].completed))  # no speed yet
        self._bar.start()
        return self

    def __exit__(self, *error):
        self._bar.stop()

    def __call__(self, cell: Cell, step: int, steps: int, loss: Loss) -> None:
        """Show that `cell`, and whatever is computed with it, has done `step` of `steps` steps."""
        live = self._console.is_terminal
        show = time.monotonic() - self._shown >= (_SHOW_EVERY if live else EVERY)
        if show or step == steps:
            self._loss = f", loss {loss():.3f}"
        if show:
            self._shown = time.monotonic()
            others = len(self._running) - 1
            more = f" and {others} more" if others > 0 else ""
            text = f"{self._label(cell)}{more}: step {step}/{steps}{self._loss}"
            self._bar.update(self._task, description=text)
            if not live:
                self.say(text)

    def running(self, cells: Sequence[Cell]) -> None:
        """`cells` are being computed by this process."""
        self._running, self._loss = list(cells), ""
        self._count()
        text = self._label(cells[0]) if cells else "waiting for others"
        self._bar.update(self._task, description=text)

    def finished(self, cell: Cell, outcome: str) -> None:
        """`cell` is done or has failed."""
        self._running.remove(cell)
        self._count()
        if self._console.is_terminal:
            return
        task = self._bar.tasks[0]
        seconds = task.time_remaining
        left = "" if seconds is None else f", {seconds / 60:.0f} min left"
        self.say(
            f"{task.completed:.0f}/{task.total:.0f}{task.fields['counts']}{left}: "
            f"{self._label(cell)}: {outcome}{self._loss}"
        )

    def say(self, text: str) -> None:
        """Prints a line of a log."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def _label(self, cell: Cell) -> str:
        """The cell's values on the axes that have several, or its task."""
        values = [cell.values[axis] for axis in self._axes or ["task"]]
        return " ".join("all" if value is None else str(value) for value in values)

    def _count(self) -> None:
        done, failed = (len(self._keys & keys) for keys in self._store.settled())
        here, elsewhere = len(self._running), self._leases.others()
        counts = f", {failed} failed" if failed else ""
        counts += f", {here} running here" if here else ""
        counts += f", {elsewhere} elsewhere" if elsewhere else ""
        self._bar.update(self._task, completed=done, counts=counts)
