# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A run in a bucket: killed on two machines, finished on a third, used on a fourth."""

import json
import os
import pathlib
import subprocess
import sys
import time

import gin
import numpy as np
import pytest

from mto_jax import checkpoints, remote
from mto_jax.checkpoints import runs
from mto_jax.commands.convert import convert
from mto_jax.commands.evaluate import evaluate
from mto_jax.commands.infer import infer
from mto_jax.data import loader
from mto_jax.data.dataset import DatasetConfig
from tests import object_store, tiny_run, xla

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = """
import json, pathlib, sys, time
from mto_jax import remote
from mto_jax.training import loop
from tests import tiny_run


def wait_to_be_killed(received, step):
    if step == int(sys.argv[3]):
        time.sleep(600)
    return asked(received, step)

remote.SECONDS = 0.3
asked, loop.stop_requested = loop.stop_requested, wait_to_be_killed
tiny_run.run(pathlib.Path(sys.argv[1]), **json.loads(sys.argv[2]))
"""
STEPS, PERIOD = 32, 4


@pytest.fixture
def environment():
    with object_store.serving() as environment:
        yield environment


def start(
    data: pathlib.Path, model_dir: str, machine: pathlib.Path, killed_at: int = 0
) -> subprocess.Popen:
    options = {"model_dir": model_dir, "train_steps": STEPS, "checkpoint_period": PERIOD, "keep": 2}
    settings = {"MTO_CACHE_DIR": str(machine), "XLA_FLAGS": xla.FAST, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(data), json.dumps(options), str(killed_at)],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def steps(store) -> set[int]:
    found = (path.split("/") for path in store.find("bucket/run/checkpoints"))
    return {int(parts[3]) for parts in found if parts[-1] == "digest.json"}


def arrays(step_dir: pathlib.Path) -> dict[str, np.ndarray]:
    found = checkpoints.open(step_dir).parameters()
    return {name: np.asarray(value) for name, value in found.items()}


@pytest.mark.filterwarnings("ignore:Sharding info not provided")
def test_killed_twice_and_resumed_elsewhere_is_bit_for_bit_a_run_on_a_disk(
    environment, tmp_path, monkeypatch, capsys
):
    store, data = object_store.bucket("bucket"), tmp_path / "data"
    local = start(data, str(tmp_path / "run"), tmp_path / "other")
    said, _ = local.communicate()
    assert local.returncode == 0, said

    for machine, step in (("a", 11), ("b", 21)):
        process = start(data, "s3://bucket/run", tmp_path / machine, step)
        while max(steps(store), default=0) < step - PERIOD:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.1)
        process.kill()
        said, _ = process.communicate()
        assert ("resuming from s3://bucket/run/checkpoints/" in said) == (machine == "b"), said
    finished = start(data, "s3://bucket/run", tmp_path / "c")
    said, _ = finished.communicate()
    assert finished.returncode == 0, said
    assert "checkpoints in s3://bucket/run/checkpoints" in said
    assert steps(store) == {STEPS - PERIOD, STEPS}

    object_store.move_to(tmp_path / "d")
    monkeypatch.setenv("MTO_CACHE_DIR", str(tmp_path / "d"))
    there = remote.local("s3://bucket/run")
    for read in (runs.description, arrays):
        ours, theirs = (read(runs.resolve(p)) for p in (there, tmp_path / "run"))
        assert ours.keys() == theirs.keys()
        for name in ours.keys() - {"window"}:  # seconds
            np.testing.assert_array_equal(ours[name], theirs[name])
    lines = [json.loads(line) for line in (there / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, *range(2, STEPS + 1, 2)]

    # Other verbs, which read the run there and write beside it and elsewhere.
    dev = tiny_run.write_task(data, "dev", 10)
    monkeypatch.setattr(loader, "ensure_all", lambda configs: [dev])
    gin.bind_parameter("vocabulary.name", "demo")
    (results,) = evaluate(
        model_dir="s3://bucket/run", datasets=[DatasetConfig("dev", tiny_run.LENGTHS)]
    ).values()
    assert results[0].task == "dev"
    convert(source="s3://bucket/run", to="hf", output="s3://bucket/exported")
    questions = remote.local("s3://bucket/questions.txt")
    questions.write_text("a\nb\n")
    answers = {}
    for model in ("s3://bucket/run", "s3://bucket/exported"):
        infer(
            model_dir=model,
            input_file="s3://bucket/questions.txt",
            output_file=f"{model}-answers.jsonl",
        )
        remote.publish()
        rows = store.cat_file(f"{model}-answers.jsonl").decode().splitlines()
        answers[model] = [json.loads(row)["raw_prediction"] for row in rows]
    assert len(answers["s3://bucket/run"]) == 2
    assert answers["s3://bucket/run"] == answers["s3://bucket/exported"]
    names = {path.removeprefix("bucket/") for path in store.find("bucket")}
    assert {f"run/evaluation/{STEPS}/metrics.json", "exported/config.json"} <= names
    assert f"are in s3://bucket/run/evaluation/{STEPS}" in capsys.readouterr().out
