# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""`mto plan`: what a user reads, without compiling; tests/planning compiles."""

import os

import pytest

from mto_jax import cli

BASE = ["--gin_file=models/t5_1_1_base.gin", "--gin_file=runs/pretrain.gin"]


@pytest.fixture(autouse=True)
def _environment(monkeypatch):
    for name in cli._ENVIRONMENT["plan"]:  # which `mto plan` sets for its process
        monkeypatch.setenv(name, os.environ.get(name, cli._ENVIRONMENT["plan"][name]))


def test_gpus_have_what_a_formula_gives(capsys):
    cli.main(["plan", *BASE, "--gin_file=hardware/gpu.gin", "--topology=h100:8", "--search"])
    text = capsys.readouterr().out
    assert "8 NVIDIA H100, each 85.9 GB of memory and 989 TFLOP/s" in text
    assert "128 x (512 + 114) = 80,128 tokens" in text
    assert "by formula only, nothing is compiled" in text
    # Base has 247.6 million parameters in float32: 990 MB on a device that holds all of them.
    assert "| 8 x 1 x 1 | ? | 0.992 |" in text
    assert "| 1 x 8 x 1 | ? | 0.126 |" in text


def test_a_t5gemma_is_planned_too(capsys):
    flags = ["--gin_file=models/t5gemma_s_s.gin", "--gin_file=runs/finetune.gin"]
    cli.main(["plan", *flags, "--topology=h100:1"])
    text = capsys.readouterr().out
    assert "8 x (400 + 50) = 3,600 tokens, 0.9299 TFLOP a chip" in text
    assert "| 1 x 1 x 1 | ? | 1.25 |" in text  # 312.5 million parameters in float32


def test_decoding_is_planned_by_the_gin_files_of_infer(capsys):
    flags = ["--gin_file=models/t5_1_1_xxl.gin", "--gin_file=runs/infer.gin", "--search"]
    flags += ["--gin.load_checkpoint.dtype=bfloat16", "--gin.T5Config.dtype=bfloat16"]
    cli.main(["plan", *flags, "--topology=h100:8"])
    text = capsys.readouterr().out
    assert "32 sources of 512 tokens at once, outputs of 64" in text
    assert "reading 3.35e+03 GB/s" in text
    # 11.1 billion parameters of two bytes, on each chip or an eighth of them.
    assert "| 8 x 1 x 1 | ? | 22.3 |" in text
    assert "| 1 x 1 x 8 | ? | 2.79 |" in text


def test_decoding_is_on_one_slice(capsys):
    flags = ["--gin_file=models/t5_1_1_small.gin", "--gin_file=runs/infer.gin"]
    with pytest.raises(SystemExit):
        cli.main(["plan", *flags, "--topology=v5e:2x2", "--slices=2"])
    assert "leave --slices out" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--topology=v5e:2x3"], "no topology 'v5e:2x3'. Did you mean 'v5e:2x4'"),
        ([], "needs a value for topology"),
        (["--topology=h100:8", "--gin.mesh.fsdp=16"], "fsdp=16, tensor=1 does not fit 8 device"),
        (["--topology=h100:8", "--gin.BATCH_SIZE=12"], "BATCH_SIZE = 12 does not divide"),
        (["--topology=v5e:2x2", "--gin.mesh.slices=2"], "mesh.slices is bound"),
        (["--topology=v5e:2x2", "--slices=0"], "plan.slices is 0; it must be"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(flags, message, capsys):
    with pytest.raises(SystemExit) as exit_status:
        cli.main(["plan", *BASE, *flags])
    assert exit_status.value.code == 2
    assert message in capsys.readouterr().err


def test_a_plan_needs_a_training(capsys):
    with pytest.raises(SystemExit):
        cli.main(["plan", "--topology=h100:8"])
    assert "--gin_file=runs/pretrain.gin" in capsys.readouterr().err
