# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
# pyright: reportMissingImports=false
"""Grids on Ray: the command leases cells, shows progress and keeps the queue of groups; Ray starts
workers where the resources are, which compute a group at a time and write to the results folder."""

import collections
import contextlib
import dataclasses
import logging
import math
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import gin
import jax

from mto_jax import checks
from mto_jax.errors import UserError, first_line, unknown
from mto_jax.experiments.engine import Runner, until_settled
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.progress import Progress
from mto_jax.experiments.ray_worker import Events, Order, Worker, make_models
from mto_jax.experiments.store import CellStore
from mto_jax.files import Leases, write_atomically

_LOOK = 0.5  # seconds between two looks at what workers report
_SOON = 60.0  # seconds in which a first worker is expected
_STORE = 100_000_000  # bytes of Ray's object store, which holds nothing but the list of cells


@gin.configurable
@dataclasses.dataclass(frozen=True)
class RayWorkers:
    """The processes that Ray is asked for.

    Attributes:
      cpus: of each; JAX has as many devices of a CPU (8 at most).
      gpus: of each; below 1, several workers share a GPU and its memory.
      resources: of each, by Ray's names of others, such as {"TPU": 4}.
      most: of them; None: as many as fit on the nodes.
      retries: how often a group is computed again whose worker died. Its cells are then tried one
        by one, and one with which a worker dies once more has failed.
    """

    cpus: checks.Positive = 1.0
    gpus: checks.NonNegative = 0.0
    resources: Mapping[str, checks.Positive] = dataclasses.field(default_factory=dict)
    most: checks.Count | None = None
    retries: checks.Natural = 3

    def __post_init__(self):
        checks.check_fields(self)

    @property
    def options(self) -> dict[str, Any]:
        """The resources as Ray's options."""
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, "resources": dict(self.resources)}

    def fitting(self, nodes: Sequence[Mapping[str, Any]]) -> int:
        """Returns how many workers the nodes of `ray.nodes()` have room for, `most` at most.

        Raises:
          UserError: none; names what is asked for and what the nodes have.
        """
        wanted = {"CPU": self.cpus, "GPU": self.gpus, **self.resources}
        wanted = {name: count for name, count in wanted.items() if count}
        alive = [node for node in nodes if node["Alive"]]
        have = [{name: node["Resources"].get(name, 0.0) for name in wanted} for node in alive]
        room = sum(min(int(one[name] / count) for name, count in wanted.items()) for one in have)
        if not room:
            listed = "; ".join(
                f"{node['NodeManagerHostname']}: {_counts(one)}"
                for node, one in zip(alive, have, strict=True)
            )
            raise UserError(
                f"No node of Ray has what a worker is to have, {_counts(wanted)} (RayWorkers.cpus, "
                f"RayWorkers.gpus, RayWorkers.resources). The nodes have: {listed or 'none is up'}."
            )
        return min(room, self.most or room)


def _counts(resources: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {count:g}" for name, count in resources.items())


@contextlib.contextmanager
def connected(engine: str) -> Iterator["Pool"]:
    """A context in which grids are computed on Ray; stops a Ray that it has started.

    Args:
      engine: "ray" for a Ray of this machine's, or the cluster that RAY_ADDRESS names;
        "ray://HEAD:PORT" for a cluster. Where `ray.init` was called before, "ray" is that one.

    Raises:
      UserError: another engine, Ray is not installed, it cannot be reached, or no node has the
        resources of a worker.
    """
    if engine != "ray" and not re.fullmatch(r"ray://[^\s/:]+:\d{1,5}", engine):
        raise unknown("engine", engine, ["ray", "ray://HEAD:PORT"])
    try:
        import ray
    except ModuleNotFoundError as error:
        raise UserError(
            f"--engine={engine} needs Ray, and {error.name} is not installed: pip install "
            "'mto-jax[ray]'."
        ) from error
    jax.config.update("jax_platforms", "cpu")  # accelerators are for workers
    workers = RayWorkers()
    order = _order(workers)
    started = engine != "ray" or not ray.is_initialized()
    if started:
        _connect(engine)
    try:
        yield Pool(workers, workers.fitting(ray.nodes()), order)
    finally:
        if started:
            ray.shutdown()


def _connect(engine: str) -> None:
    import ray

    address = engine if engine != "ray" else os.environ.get("RAY_ADDRESS", "local")
    local: dict[str, Any] = {"include_dashboard": False, "object_store_memory": _STORE}
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        if engine != "ray":  # Ray itself tries for minutes
            host, _, port = engine.removeprefix("ray://").rpartition(":")
            socket.create_connection((host, int(port)), timeout=10).close()
        # What workers print stays in Ray's logs: with it would come all that libtpu logs.
        quiet: dict[str, Any] = {"logging_level": logging.WARNING, "log_to_driver": False}
        ray.init(address, **quiet, **(local if address == "local" else {}))
    except Exception as error:  # Ray raises this kind itself
        if address == "local":
            raise UserError(f"Ray does not start on this machine: {first_line(error)}") from error
        raise UserError(
            f"--engine={engine}: no Ray can be reached at {address} ({first_line(error)}). Is its "
            "head node up (`ray start --head`), and the port that of its client server (10001)? A "
            "cluster with token authentication wants RAY_AUTH_MODE=token here too."
        ) from error


def _order(workers: RayWorkers) -> Order:
    try:
        gin.query_parameter("tables.runner")
    except ValueError as error:
        raise UserError(
            "Workers of Ray make the runner of the grid anew: bind tables.runner in gin."
        ) from error
    return Order(gin.config_str(), os.getcwd(), max(1, int(workers.cpus)), workers.gpus)


class Pool:
    """The room that Ray has for workers."""

    def __init__(self, wanted: RayWorkers, room: int, order: Order):
        self._wanted, self._room, self._order = wanted, room, order

    def make_models(self, runner: Runner) -> None:
        """Trains the models of the grid that are to be made, in a task of Ray's.

        Raises:
          UserError: a training failed.
        """
        import ray
        from ray import exceptions

        if missing := runner.missing_models:
            print(f"on a worker of Ray, as far as to be trained: {', '.join(missing)}", flush=True)
            options = {**self._wanted.options, "max_retries": self._wanted.retries}
            try:
                # Its process is not taken for a worker afterwards.
                task: Any = ray.remote(max_calls=1, **options)(make_models)
                _get(task.remote(self._order))
            except exceptions.RayError as error:
                raise UserError(f"The models of the grid were not made: {_words(error)}") from error

    def compute(
        self, runner: Runner, cells: Sequence[Cell], store: CellStore, leases: Leases
    ) -> None:
        """Returns when every cell is done or has failed, as `engine.compute` does.

        Raises:
          UserError: a worker does not start, or sees other folders or settings.
        """
        with Progress(cells, store, leases) as progress:
            workers = _Workers(
                self._wanted, self._room, self._order, cells, store, leases, progress
            )
            try:
                until_settled(workers.work, runner, cells, store, leases, progress)
            finally:
                workers.stop()
            progress.say(workers.summary())


class _Workers:
    """The workers of a grid, and what each of them is at."""

    def __init__(
        self,
        wanted: RayWorkers,
        room: int,
        order: Order,
        cells: Sequence[Cell],
        store: CellStore,
        leases: Leases,
        progress: Progress,
    ):
        import ray

        self._room, self._retries = room, wanted.retries
        self._store, self._leases, self._progress = store, leases, progress
        self._cells = {cell.key: cell for cell in cells}
        self._token = store.folder.resolve() / f".ray-{secrets.token_hex(8)}"
        write_atomically(self._token, "")
        # Where its node is lost it starts anew: what it holds is progress alone.
        lasting = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
        remote: Any = ray.remote
        self._events = remote(Events).options(**lasting).remote()
        self._new = remote(Worker).options(**wanted.options).remote
        self._order, self._all_cells = order, ray.put(list(cells))
        self._starting: dict[Any, Any] = {}  # workers, by the reference of what they will return
        self._free: list[Any] = []
        self._busy: dict[Any, tuple[Any, list[Cell]]] = {}
        self._running: list[Cell] = []
        self._hosts: list[str] = []  # of workers that have started
        self._deaths = collections.Counter[str]()  # by the keys of the cells
        self._in_vain = self._lost = self._settled = 0
        self._patience = time.monotonic() + _SOON

    def work(self, groups: Sequence[Sequence[Cell]]) -> bool:
        """Computes the groups that no other process holds; returns whether there were any."""
        import ray

        queue, before = collections.deque(groups), self._settled
        missing = min(self._room, len(queue)) - len(self._starting) - len(self._free)
        for _ in range(missing):
            self._request()
        while True:
            while queue and self._free:
                self._assign(queue.popleft())
            if not (queue or self._busy):
                return self._settled > before
            ended, _ = ray.wait([*self._starting, *self._busy], timeout=_LOOK)
            self._show_events()
            for reference in ended:
                if reference in self._starting:
                    self._started(reference)
                else:
                    queue.extendleft(self._ended(reference))
            self._say_waiting()

    def _request(self) -> None:
        """Asks Ray for a worker, which it starts as soon as there are the resources."""
        worker = self._new(self._order, self._events)
        self._starting[worker.start.remote(self._all_cells, self._token)] = worker

    def _started(self, reference: Any) -> None:
        from ray import exceptions

        worker = self._starting.pop(reference)
        try:
            self._hosts.append(_get(reference))
            self._free.append(worker)
            self._in_vain = 0
        except exceptions.RayActorError as error:
            self._in_vain += 1
            if self._in_vain > self._retries:
                raise UserError(f"Ray's workers do not start: {_words(error)}") from error
            self._request()

    def _assign(self, group: Sequence[Cell]) -> None:
        """Lets a free worker compute what no other process holds of a group."""
        if cells := [cell for cell in group if self._leases.take(cell.key)]:
            worker = self._free.pop()
            self._busy[worker.settle.remote(cells)] = worker, cells
            self._running += cells
            self._progress.running(self._running)

    def _ended(self, reference: Any) -> list[list[Cell]]:
        """Returns what is to be computed again of what a worker was at."""
        import ray
        from ray import exceptions

        worker, cells = self._busy.pop(reference)
        again = []
        try:
            _get(reference)
            self._free.append(worker)
        except exceptions.RayActorError as error:
            # Ray would restart this worker and hold the group for it, though others are free, and
            # though no node may be left that it fits on.
            ray.kill(worker)
            self._lost += 1
            self._request()
            again = self._after_death(cells, error)
        for cell in cells:
            self._leases.release(cell.key)
        self._running = [cell for cell in self._running if cell not in cells]
        return again

    def _after_death(self, cells: Sequence[Cell], error: Exception) -> list[list[Cell]]:
        cells = [cell for cell in cells if not (self._store.done(cell) or self._store.failed(cell))]
        self._deaths.update(cell.key for cell in cells)
        if all(self._deaths[cell.key] <= self._retries for cell in cells):
            return [cells]
        if len(cells) > 1:
            return [[cell] for cell in cells]
        text = f"the worker died {self._deaths[cells[0].key]} times: {_words(error)}"
        self._store.write_error(cells[0], text, str(error))
        self._finished(cells[0], f"failed: {text}")
        return []

    def _show_events(self) -> None:
        """Shows what workers have reported."""
        import ray

        for key, event in ray.get(self._events.take.remote()):
            if (cell := self._cells[key]) not in self._running:
                continue  # from a worker that counted as dead
            if isinstance(event, str):
                self._finished(cell, event)
            else:
                step, steps, loss = event
                self._progress(cell, step, steps, lambda loss=loss: loss)

    def _finished(self, cell: Cell, outcome: str) -> None:
        self._settled += 1
        self._running.remove(cell)
        self._progress.finished(cell, outcome)

    def _say_waiting(self) -> None:
        if not self._hosts and time.monotonic() > self._patience:
            self._patience = math.inf
            print(
                "waiting for Ray to start a worker: other jobs may have its resources",
                file=sys.stderr,
                flush=True,
            )

    def summary(self) -> str:
        """Returns how many cells were computed, and by how many workers."""
        hosts = f"{len(set(self._hosts))} host{'s' * (len(set(self._hosts)) > 1)}"
        lost = f"; {self._lost} died and were replaced" if self._lost else ""
        return f"{self._settled} cells by {len(self._free)} workers of Ray on {hosts}{lost}"

    def stop(self) -> None:
        """Stops the workers, whatever they are at."""
        import ray

        self._token.unlink(missing_ok=True)
        busy = [worker for worker, _ in self._busy.values()]
        for actor in (*self._starting.values(), *self._free, *busy, self._events):
            ray.kill(actor)


def _get(reference: Any) -> Any:
    """Returns what a call on Ray has returned, or raises what it has raised."""
    import ray
    from ray import exceptions

    try:
        return ray.get(reference)
    except exceptions.RayTaskError as error:
        raise error.cause from error


def _words(error: Exception) -> str:
    """Returns why a worker is dead, as Ray says it."""
    text = " ".join(str(error).split())
    return re.sub(r"^.*?(?=The actor is dead because|The actor died because)", "", text)[:300]
