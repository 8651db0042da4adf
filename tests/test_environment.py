# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Environment variables of gin files, and the gin files of hardware."""

import os
import pathlib
import subprocess
import sys

import gin
import pytest

from mto_jax import config, environment, errors
from mto_jax.models.config import T5Config

HARDWARE = config.bundled("hardware")


def test_the_shell_wins_and_its_flags_come_last(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--b=2")
    monkeypatch.setenv("NCCL_DEBUG", "WARN")
    monkeypatch.delenv("JAX_TRACEBACK_FILTERING", raising=False)
    environment.environment(
        {"XLA_FLAGS": "--a=1", "NCCL_DEBUG": "INFO", "JAX_TRACEBACK_FILTERING": "off"}
    )
    assert os.environ["XLA_FLAGS"] == "--a=1 --b=2"
    assert os.environ["NCCL_DEBUG"] == "WARN"
    assert os.environ["JAX_TRACEBACK_FILTERING"] == "off"


@pytest.mark.parametrize("name", ["PATH", "LD_PRELOAD", "PYTHONPATH"])
def test_other_variables_are_refused(name, monkeypatch):
    before = os.environ.get(name)
    with pytest.raises(errors.UserError, match=f"holds '{name}'; its names begin with JAX_"):
        environment.environment({name: "x"})
    assert os.environ.get(name) == before


def test_values_are_texts():
    with pytest.raises(errors.UserError, match=r"environment\.variables is .* a text"):
        environment.environment({"XLA_FLAGS": 1})


@pytest.mark.parametrize("name", HARDWARE)
def test_hardware_is_read_after_the_files_of_a_run(name):
    assert "hardware/gpu.gin" in HARDWARE
    assert "hardware/tpu.gin" in HARDWARE
    flags = ["MODEL_DIR = 'a'", "MIXTURE_OR_TASK_NAME = 'b'"]
    config.load(["models/t5_1_1_base.gin", "runs/pretrain.gin", name], flags)
    model = T5Config()
    assert (model.dtype, model.remat, model.d_model) == ("bfloat16", "minimal", 768)
    assert model.attention == ("cudnn" if "gpu" in name else "xla")


def test_jax_starts_with_what_gin_has(tmp_path):
    """XLA ends a process that gives it a flag that it does not know: those of gpu.gin it knows."""
    program = (
        "from mto_jax import cli; import mto_jax.commands.prepare as verb\n"
        "verb.prepare = lambda: print(__import__('jax').device_count())\n"
        "cli.run('prepare', ['--gin_file=own.gin'])"
    )
    environ = {n: v for n, v in os.environ.items() if not n.startswith(environment.PREFIXES)}
    environ["PYTHONPATH"] = str(pathlib.Path(__file__).parents[1])

    def start(flags: str) -> subprocess.CompletedProcess:
        (tmp_path / "own.gin").write_text(f"environment.variables = {{'XLA_FLAGS': '{flags}'}}")
        command = [sys.executable, "-c", program]
        return subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)

    config.load(["hardware/gpu.gin"])
    flags = gin.query_parameter("environment.variables")["XLA_FLAGS"]
    assert int(start(flags).stdout.splitlines()[-1]) >= 1
    assert "Unknown flag in XLA_FLAGS: --xla_no_such" in start(f"{flags} --xla_no_such=1").stderr
