# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Two processes, joined over loopback, that have different folders, data or settings."""

import json
import os
import pathlib
import socket
import subprocess
import sys

from tests import xla

PROGRAM = """
import json, pathlib, sys

import jax

jax.distributed.initialize(f"localhost:{sys.argv[1]}", 2, int(sys.argv[2]))

from mto_jax.data.dataset import DatasetConfig
from mto_jax.errors import UserError
from mto_jax.training import processes
from tests import tiny_run

processes._SECONDS = 0.5
index, folder = jax.process_index(), pathlib.Path(sys.argv[3])
own = folder / f"own{index}"
own.mkdir()
said = []

def attempt(function, *arguments, **options):
    try:
        function(*arguments, **options)
        said.append("")
    except UserError as error:
        said.append(str(error))

attempt(processes.check_shared, folder)
attempt(processes.check_shared, own)
attempt(processes.compare, {"a": 1, "b": [2]}, "Advice.")
attempt(processes.compare, {"a": 1, "b": [index]}, "Advice.")
attempt(tiny_run.run, own, model_dir=str(own / "run"))
tiny_run.write_task(folder / f"other{index}", "reverse", 300 + index)
attempt(tiny_run.run, folder / f"other{index}", model_dir=str(folder / "run"))
attempt(tiny_run.run, folder / f"same{index}", model_dir=str(folder / "run"), train_steps=4 + index)
print(json.dumps(said))
"""


def test_what_differs_between_processes_is_named_before_work(tmp_path: pathlib.Path):
    with socket.create_server(("localhost", 0)) as server:
        port = server.getsockname()[1]
    both = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(port), str(index), str(tmp_path)],
            stdout=subprocess.PIPE,
            env=os.environ | {"XLA_FLAGS": xla.FAST},  # a device each
            text=True,
        )
        for index in range(2)
    ]
    first, second = (json.loads(p.communicate(timeout=240)[0].splitlines()[-1]) for p in both)
    shared, own, same, different, folders, data, steps = first
    assert shared == same == ""
    assert "the folder MODEL_DIR" in own
    assert "the folder MODEL_DIR" in folders
    assert "b must be the same, but that of process 1 is not that of process 0. Adv" in different
    assert "the prepared data of training" in data
    assert "TRAIN_STEPS must be the same" in steps
    assert [bool(text) for text in second] == [bool(text) for text in first]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == []
