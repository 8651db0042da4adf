# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
# pyright: reportMissingImports=false
"""What runs in Ray's processes: workers that compute groups of cells, and what they report."""

import functools
import json
import os
import pathlib
import socket
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from mto_jax import config, cores, environment
from mto_jax.errors import UserError
from mto_jax.experiments.engine import Runner, settle
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.store import CellStore, differences
from mto_jax.training.finetune import Loss

_EVERY = 0.5  # seconds between two reports of a training


class Order(NamedTuple):
    """What a process needs to be as the command's is."""

    configuration: str  # gin statements
    directory: str  # the working directory
    devices: int  # of a CPU, at most
    gpus: float

    def runner(self) -> Runner:
        """Returns the runner `tables.runner`, in a process that has computed nothing yet.

        Raises:
          UserError: the working directory is not there, or the configuration does not fit here.
        """
        if not os.path.isdir(self.directory):
            raise UserError(
                f"The host {socket.gethostname()} has no folder {self.directory}. Start the "
                "command in a folder that all nodes of Ray see under one path."
            )
        os.chdir(self.directory)
        if share := self.gpus % 1:  # JAX would take three quarters of the GPU for each worker
            os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", f"{0.9 * share:.2f}")
        cores.as_devices(self.devices)
        config.load([], [self.configuration])
        environment.environment()
        return config.value("tables.runner")


def make_models(order: Order) -> None:
    """Trains the models of the grid that are to be made: a task of Ray's."""
    order.runner().make_models()


class Worker:
    """Computes groups of cells, one after the other: an actor of Ray's."""

    def __init__(self, order: Order, events: Any):
        self._order, self._report = order, _Report(events)

    @functools.cached_property
    def _runner(self) -> Runner:
        return self._order.runner()

    def start(self, cells: Sequence[Cell], token: pathlib.Path) -> str:
        """Returns the name of the host, when cells can be computed on it.

        Args:
          cells: of the grid, with settings.
          token: a file that the command wrote into the results folder.

        Raises:
          UserError: the folder is another here, or models, data or settings are.
        """
        host = socket.gethostname()
        if not token.exists():
            raise UserError(
                f"The host {host} does not see the results folder: {token.parent} is another "
                "folder there, or none. OUTPUT_DIR has to be on a file system that all nodes of "
                "Ray share."
            )
        self._runner.check(cells)
        for cell in cells:
            settings = self._runner.settings(cell)
            if cell.with_settings(settings).key != cell.key:
                changed = differences(settings, json.loads(cell.settings))
                raise UserError(
                    f"The host {host} would compute other cells: {changed}. All nodes of Ray have "
                    "to see the same models and data, in the same version of MTO-JAX."
                )
        self._store = CellStore(token.parent)
        return host

    def settle(self, group: Sequence[Cell]) -> None:
        """Computes what is open of a group."""
        cells = [cell for cell in group if not (self._store.done(cell) or self._store.failed(cell))]
        if cells:
            settle(self._runner, cells, self._store, self._report)


class Events:
    """What workers have reported since it was taken last: an actor of Ray's."""

    def __init__(self):
        self._events: list[tuple[str, Any]] = []

    def put(self, key: str, event: Any) -> None:
        """Adds what there is to say of the cell `key`."""
        self._events.append((key, event))

    def take(self) -> list[tuple[str, Any]]:
        """Returns (key, event) in order, each once."""
        events, self._events = self._events, []
        return events


class _Report:
    """Sends (step, steps, loss) of trainings and the outcomes of cells to the command."""

    def __init__(self, events: Any):
        self._events, self._sent = events, 0.0

    def __call__(self, cell: Cell, step: int, steps: int, loss: Loss) -> None:
        if time.monotonic() - self._sent > _EVERY or step == steps:
            self._sent = time.monotonic()
            self._events.put.remote(cell.key, (step, steps, float(loss())))

    def finished(self, cell: Cell, outcome: str) -> None:
        import ray

        ray.get(self._events.put.remote(cell.key, outcome))  # before the group is seen to end
