# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The accelerator kit with tiny shapes on a CPU, without the packages that it must not need."""

import functools
import json
import os
import pathlib
import subprocess
import sys
import time

import accelerator
import parity
from jax._src.cudnn import fused_attention_stablehlo as cudnn

from mto_jax.models import attention
from tests import cudnn_kernel, xla

SCRIPT = pathlib.Path(accelerator.__file__)
NOT_NEEDED = ("tensorflow", "tensorflow_text", "seqio", "grain", "t5", "peft", "tensorboard")


def kit(folder: pathlib.Path, *flags: str) -> subprocess.CompletedProcess:
    """The script's run in `folder`, where importing what is not needed fails."""
    for name in NOT_NEEDED:
        (folder / f"{name}.py").write_text("raise ImportError('must not be needed')\n")
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": xla.FAST,
        "PYTHONPATH": str(folder),
    }
    command = [sys.executable, str(SCRIPT), *flags]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_tiny_run(tmp_path):
    done = kit(tmp_path, "--size=tiny", "--minutes=30")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "accelerator.json").read_text())
    assert report["device"]["platform"] == "cpu"
    assert report["device"]["matmul_flops"] > 0
    assert report["versions"]["jax"]
    parts = report["parts"]
    assert parts.pop("attention") == {"not_run": "cuDNN needs an NVIDIA GPU, this is cpu"}
    for name in ("bfloat16", "packed"):
        facts = parts.pop(name)["rivals"]["MTO-JAX"]
        assert facts["passed"], facts
        assert max(facts["errors"].values()) > 0  # two programs that round differently
    assert list(parts) == ["prompts", "greedy", "5 beams", "scoring", "train tiny"]
    for name, part in parts.items():
        for rival, facts in part["rivals"].items():
            assert len(facts["seconds"]) == 3, (name, rival, facts)
            assert facts["per_second"] > 0
        assert part["rivals"]["PyTorch eager"]["ours_to_theirs"]["median"] > 0
    assert parts["train tiny"]["rivals"]["MTO-JAX"]["mfu"] > 0
    table = done.stdout[done.stdout.index("| parity |") :].splitlines()
    assert "| attention | not run: cuDNN needs an NVIDIA GPU, this is cpu | |" in table
    rows = [line for line in table if line.startswith("|")]
    assert len(rows) == 2 + 3 + 2 + len(parts)
    assert {line.count("|") for line in rows} == {4}


def test_a_part_that_fails_and_one_that_hangs_take_no_other_with_them():
    ours, theirs = accelerator.OURS, "PyTorch eager"
    works = (tuple, ([functools.partial(time.sleep, 0.02), {"flops": 100.0}],))
    parts = {
        "hangs": accelerator.Part(2, {ours: (time.sleep, (600,))}, "tokens", {ours: 1}),
        "fails": accelerator.Part(
            20, {ours: (int, ("a|b",)), theirs: works}, "tokens", {theirs: 1}
        ),
        "works": accelerator.Part(20, {ours: works}, "tokens", {ours: 10}),
        "late": accelerator.Part(0, {ours: works}, "tokens", {ours: 10}),
    }
    found = {name: accelerator.run_part(part, 3, 1000.0) for name, part in parts.items()}
    assert "time limit" in found["hangs"]["rivals"][ours]["error"]
    assert "invalid literal" in found["fails"]["rivals"][ours]["error"]
    assert found["fails"]["rivals"][theirs]["per_second"] > 0
    timed = found["works"]["rivals"][ours]
    assert 0 < timed["per_second"] <= 500
    assert 0 < timed["mfu"] <= 5
    assert found["late"] == {"not_run": "no time was left"}
    device = {"kind": "a card", "count": 1, "matmul_flops": 1e12}
    report = {"device": device, "versions": {}, "without_torch": "no module", "parts": found}
    table = accelerator.markdown(report)
    assert "| hangs:  | failed: no answer within its time limit" in table
    assert "a/b" in table
    assert "| late | not run: no time was left | |" in table


def test_parity_of_attention(monkeypatch):
    """What a GPU would be asked, with the mathematics of its kernel: it passes, and wrong lengths
    do not."""
    cudnn_kernel.install()
    monkeypatch.setattr(cudnn, "check_cudnn_version", lambda: 91200)
    _, facts = parity.attention(B=2, T=24, H=2, D=8)
    assert facts["passed"], facts
    assert {name.split()[0] for name in facts["errors"]} == {"packed", "odd", "source"}
    assert len(facts["errors"]) == 5 + 5 + 4
    monkeypatch.setattr(attention, "_first", lambda x_BxTxHxK, length_B: x_BxTxHxK)
    assert not parity.attention(B=2, T=24, H=2, D=8)[1]["passed"]


def test_rows_go_with_memory():
    assert accelerator.rows_for(64, None) == 64
    assert accelerator.rows_for(64, 80e9) == 64
    assert accelerator.rows_for(64, 18e9) == 16
    assert accelerator.rows_for(16, 1e9) == 1
