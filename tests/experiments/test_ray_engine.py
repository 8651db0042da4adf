# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Grids on a local Ray: the bytes of this process, deaths, failures, and errors in words."""

import os
import socket
import sys

import gin
import psutil
import pytest

from mto_jax import config
from mto_jax.errors import UserError
from mto_jax.experiments.progress import Progress
from mto_jax.experiments.ray_engine import RayWorkers, connected
from mto_jax.experiments.ray_worker import Order, Worker
from mto_jax.experiments.run import run_grid
from mto_jax.files import read_record
from tests.experiments import fake
from tests.experiments.test_engine import keyed, products

GRID = fake.grid(template=["Mapping", "Prompting"], objective=["none"], seed=[0, 1])  # 12 cells
FEW = fake.grid(template=["Mapping"], objective=["none"], seed=[0, 1])  # 6 cells


@pytest.fixture(scope="module")
def ray():
    ray = pytest.importorskip("ray", reason="make test-ray")
    ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=10**8)
    yield ray
    ray.shutdown()


def run(folder, engine, *, grid=GRID, retry_failed=False, **options):
    """`mto tables` on the fake grid; options are of `RayFake`, or of `RayWorkers` in capitals."""
    gin.clear_config()
    names = {name: f"RayWorkers.{name.lower()}" for name in options if name.isupper()}
    lines = [f"{names.get(k, f'RayFake.{k}')} = {value!r}" for k, value in options.items()]
    text = ["import tests.experiments.ray_fake", "tables.runner = @RayFake()", *lines]
    config.load([], ["\n".join(text)])
    return run_grid(
        grid=grid,
        runner=config.value("tables.runner"),
        output_dir=str(folder),
        tables=[fake.TABLE],
        figures=[fake.FIGURE],
        retry_failed=retry_failed,
        engine=engine,
    )


def ends(log):
    """(key, process) of every cell that was computed."""
    return [line.split()[1:] for line in log.read_text().splitlines() if line.startswith("end")]


def test_an_interrupted_grid_goes_on_and_has_the_bytes_of_one_process(
    ray, tmp_path, monkeypatch, capsys
):
    run(tmp_path / "here", None, log=os.devnull)
    log, folder = tmp_path / "log", tmp_path / "out"
    log.touch()

    def interrupt(self, cell, outcome):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Progress, "finished", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(folder, "ray", log=str(log), missing_models=["tiny"], seconds=0.5, MOST=1)
    (maker,) = [line.split()[2] for line in log.read_text().splitlines() if "made" in line]
    (before, worker), *_ = ends(log)
    assert len({maker, worker, str(os.getpid())}) == 3
    assert [path.name for path in folder.glob(".*")] == []  # the token
    assert list((folder / "leases").iterdir()) == []
    psutil.wait_procs([one for one in psutil.process_iter() if one.pid == int(worker)], 30)
    assert not psutil.pid_exists(int(worker))
    log.write_text("")
    run(folder, "ray", log=str(log), partners=2, together=2)
    assert products(folder) == products(tmp_path / "here")
    keys, processes = zip(*ends(log), strict=True)
    assert before not in keys
    assert len(keys) == len(set(keys)) == 11
    assert len({*processes, str(os.getpid())}) == 3
    assert "11 cells by 2 workers of Ray on 1 host\n" in capsys.readouterr().err


def test_workers_die_and_cells_fail_and_the_others_are_computed(ray, tmp_path, capsys):
    run(tmp_path / "here", None, grid=FEW, log=os.devnull)
    log, folder = tmp_path / "log", tmp_path / "out"
    log.touch()
    options = {"together": 2, "deadly": 0, "bad": ("xIntent",), "log": str(log)}
    with pytest.raises(UserError, match="3 of 6 cells failed"):
        run(folder, "ray", grid=FEW, RETRIES=1, MOST=1, **options)
    # The group twice, then its cells one by one.
    assert log.read_text().count("killed") == 3
    assert "3 died and were replaced" in capsys.readouterr().err
    errors = [record["error"] for record in map(read_record, (folder / "errors").iterdir())]
    assert sorted(errors)[:2] == ["ValueError: bad luck with xIntent"] * 2
    assert sorted(errors)[2].startswith("the worker died 3 times: The actor is dead because")
    assert len(ends(log)) == len(dict(ends(log))) == 3
    assert list((folder / "leases").iterdir()) == []
    run(folder, None, grid=FEW, retry_failed=True, log=str(log))
    assert products(folder) == products(tmp_path / "here")
    assert len(ends(log)) == len(dict(ends(log))) == 6


@pytest.mark.parametrize("engine", ["Ray", "ray://", "ray://host", "http://host:1", "rays"])
def test_another_engine_is_refused(engine):
    with pytest.raises(UserError, match="There is no engine"), connected(engine):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    told = r"needs Ray.*pip install 'mto-jax\[ray\]'"
    with pytest.raises(UserError, match=told), connected("ray"):
        pass


def test_a_cluster_that_is_not_there_is_told_at_once():
    pytest.importorskip("ray", reason="make test-ray")
    gin.bind_parameter("tables.runner", None)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        engine = f"ray://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UserError, match=f"{engine}: no Ray can be reached"), connected(engine):
            pass


def test_as_many_workers_as_fit_on_the_nodes():
    def node(alive=True, **resources):
        return {"Alive": alive, "NodeManagerHostname": "a", "Resources": resources}

    nodes = [node(CPU=5.0), node(CPU=8.0, GPU=2.0), node(alive=False, CPU=100.0, GPU=9.0)]
    assert RayWorkers().fitting(nodes) == 13
    assert RayWorkers(cpus=2).fitting(nodes) == 6
    assert RayWorkers(cpus=2, gpus=0.5).fitting(nodes) == 4
    assert RayWorkers(gpus=1, most=1).fitting(nodes) == 1
    with pytest.raises(UserError, match="CPU 1, TPU 4 .*a: CPU 5, TPU 0; a: CPU 8, TPU 0"):
        RayWorkers(resources={"TPU": 4}).fitting(nodes)


def test_a_worker_that_sees_something_else_says_so(tmp_path):
    cells = keyed(fake.FakeRunner(), GRID)
    worker = Worker(Order("", os.getcwd(), 1, 0.0), None)
    worker.__dict__["_runner"] = fake.FakeRunner(rate=0.2)  # a value kept by cached_property
    with pytest.raises(UserError, match=f"does not see the results folder: {tmp_path}"):
        worker.start(cells, tmp_path / "token")
    (tmp_path / "token").touch()
    with pytest.raises(UserError, match="optimizer.rate is 0.2 there, 0.1 here"):
        worker.start(cells, tmp_path / "token")
    with pytest.raises(UserError, match="has no folder /nowhere"):
        Order("", "/nowhere", 1, 0.0).runner()
