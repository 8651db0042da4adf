# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Computing cells: each once, failures apart, several processes, processes that are killed."""

import collections
import os
import pathlib
import random
import socket
import subprocess
import sys
import time

import pytest

from mto_jax.errors import UserError
from mto_jax.experiments.engine import compute
from mto_jax.experiments.grid import Cell
from mto_jax.experiments.store import CellStore
from mto_jax.files import Leases
from tests.experiments import fake

GRID = fake.grid(template=["Mapping", "Prompting"], objective=["none"])  # 18 cells


def keyed(runner, grid=GRID):
    return [cell.with_settings(runner.settings(cell)) for cell in grid.cells()]


@pytest.fixture
def started(tmp_path):
    """Runs `compute` in a folder; gives the keys of the cells that were started, in order."""
    store = CellStore(tmp_path / "out")
    store.create(GRID)

    def run(runner, cells=None):
        runner.log = str(tmp_path / "log")
        pathlib.Path(runner.log).write_text("")
        with Leases(store.folder / "leases") as leases:
            compute(runner, cells or keyed(runner), store, leases, poll=0.01)
        assert list((store.folder / "leases").iterdir()) == []
        return [line.split()[1] for line in open(runner.log) if line.startswith("start")]

    run.store = store
    return run


@pytest.mark.parametrize("together", [1, 4])
def test_every_cell_is_computed_once_and_again_never(started, together):
    runner = fake.FakeRunner(together=together)
    cells = keyed(runner)
    assert sorted(started(runner)) == sorted(cell.key for cell in cells)
    assert started(runner) == []
    for cell in cells:
        assert started.store.read(cell) == fake.result(cell)
    # The grid grows: only what is new is computed.
    grown = keyed(
        runner, fake.grid(template=["Mapping", "Prompting"], objective=["none"], seed=[0, 5])
    )
    new = [cell for cell in grown if cell.seed == 5]
    assert started(runner, grown) == [cell.key for cell in new]


@pytest.mark.parametrize("together", [1, 5])
def test_a_failure_is_kept_and_stops_nothing(started, together):
    runner = fake.FakeRunner(together=together, bad=("xIntent",))
    cells = keyed(runner)
    started(runner)
    failed = {cell for cell in cells if cell.task == "xIntent"}
    assert set(started.store.errors(cells)) == failed
    assert set(started.store.errors(cells).values()) == {"ValueError: bad luck with xIntent"}
    assert all(started.store.done(cell) for cell in cells if cell not in failed)
    path = started.store.folder / "errors" / f"{next(iter(failed)).key}.json"
    assert "bad luck" in path.read_text()
    assert "in run" in path.read_text()  # the trace
    runner.bad = ()
    assert started(runner) == []
    started.store.forget_errors(cells)
    assert sorted(started(runner)) == sorted(cell.key for cell in failed)
    assert started.store.errors(cells) == {}


def test_a_result_of_the_wrong_form_is_a_failure(started):
    class Wrong(fake.FakeRunner):
        def run(self, group, progress):
            for cell, result in super().run(group, progress):
                yield cell, {} if cell.seed == 1 else result

    runner = Wrong(together=3)
    started(runner)
    errors = started.store.errors(keyed(runner))
    assert {cell.seed for cell in errors} == {1}
    assert len(errors) == 6


def test_an_interrupt_gives_the_leases_back(started):
    class Interrupted(fake.FakeRunner):
        def run(self, group, progress):
            yield from super().run(group[:1], progress)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        started(Interrupted(together=6))
    runner = fake.FakeRunner(together=6)
    assert list((started.store.folder / "leases").iterdir()) == []
    assert len(started(runner)) == 17


def test_what_another_process_holds_is_waited_for(started, capsys):
    runner = fake.FakeRunner()
    cells = keyed(runner)
    theirs = cells[3]
    with Leases(started.store.folder / "leases") as others:
        assert others.take(theirs.key)

        class Other(fake.FakeRunner):
            """Finishes the other process's cell some time after everything else is done."""

            waited = 0

            def groups(self, todo):
                self.waited += todo == [theirs]
                if self.waited == 3:
                    started.store.write(theirs, fake.result(theirs), 1.0)
                    others.release(theirs.key)
                return super().groups(todo)

        assert theirs.key not in started(Other())
    holder = f"process {os.getpid()} on host {socket.gethostname()}"
    line = f"waiting for {holder}, which works in {started.store.folder}\n"
    assert capsys.readouterr().err.count(line) == 1
    assert started.store.read(theirs) == fake.result(theirs)


def launch(folder, log, seconds, together=1, partners=1):
    options = map(str, (folder, log, seconds, together, partners))
    return subprocess.Popen(
        [sys.executable, "-m", "tests.experiments.fake", *options],
        cwd=pathlib.Path(fake.__file__).parents[2],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors


def products(folder):
    """The bytes of everything that is made of the cells."""
    names = [
        "index.html",
        "cells.csv",
        *(f"tables/main.{suffix}" for suffix in ("md", "tex", "csv")),
    ]
    names += [f"figures/{path.name}" for path in sorted((folder / "figures").iterdir())]
    return {name: (folder / name).read_bytes() for name in names}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed") / "out"
    fake.run(folder, tables=[fake.TABLE], figures=[fake.FIGURE])
    return products(folder)


def test_a_grid_killed_three_times_ends_with_the_same_bytes(tmp_path, undisturbed):
    folder, log, together = tmp_path / "out", tmp_path / "log", 3
    log.touch()
    rng = random.Random(0)
    for _ in range(3):
        process = launch(folder, log, 0.02, together)
        before = len(log.read_text().splitlines())
        while len(log.read_text().splitlines()) == before and process.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.random() * 0.4)
        process.kill()
        process.communicate()
    finish(launch(folder, log, 0.0, together))
    assert products(folder) == undisturbed
    # Only what a process was at when it was killed is computed once more.
    starts = collections.Counter(line.split()[1] for line in log.read_text().splitlines())
    assert sum(count > 2 for count in starts.values()) <= 3 * together


def test_two_processes_on_one_folder_share_the_work(tmp_path, undisturbed):
    folder, log = tmp_path / "out", tmp_path / "log"
    processes = [launch(folder, log, 0.01, partners=2) for _ in range(2)]
    for process in processes:
        finish(process)
    assert products(folder) == undisturbed
    lines = [line.split() for line in log.read_text().splitlines()]
    ends = [(key, pid) for what, key, pid in lines if what == "end"]
    assert len(ends) == len({key for key, _ in ends}) == 72
    assert len({pid for _, pid in ends}) == 2


def test_a_user_error_reads_as_one(started):
    class Sorry(fake.FakeRunner):
        def run(self, group, progress):
            raise UserError("The loss became NaN.")

    runner = Sorry()
    (cell, *_) = cells = keyed(runner)
    started(runner, cells[:1])
    assert isinstance(cell, Cell)
    assert started.store.errors([cell]) == {cell: "UserError: The loss became NaN."}
