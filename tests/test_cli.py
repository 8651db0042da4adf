# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The console script: help, unknown verbs and flags, errors without a trace."""

import subprocess
import sys

import pytest

from mto_jax import cli


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_help_names_every_verb(argv, capsys):
    cli.main(argv)
    text = capsys.readouterr().out
    assert all(verb in text for verb in cli.VERBS)


def test_help_and_the_package_import_no_library_that_computes():
    program = "import sys, mto_jax; from mto_jax import cli; cli.main([]); print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout
    modules = set(output.splitlines()[-1].split())
    assert "mto_jax.config" in modules
    assert not modules & {"numpy", "scipy", "jax", "tensorflow", "torch", "transformers", "rich"}


@pytest.mark.parametrize("verb", cli.VERBS)
def test_help_of_a_verb_lists_flags_and_parameters(verb, capsys):
    with pytest.raises(SystemExit) as exit_status:
        cli.main([verb, "--help"])
    text = capsys.readouterr().out
    assert exit_status.value.code == 0
    assert "--gin_file" in text
    assert f"{cli._MODULES.get(verb, verb)}." in text


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["trian"], "'train'"),
        (["train", "--gin_fil=a.gin"], "--gin_file"),
        (["train", "--gin_file=runs/pretrian.gin"], "'runs/pretrain.gin'"),
        (["train", "--gin_file=runs/pretrain.gin"], "--gin.MODEL_DIR=..."),
        (["train", "--process_count=2"], "--coordinator_address"),
        (["infer", "--gin.MODEL_DIR=runs/a"], "a value for model_dir"),
        (["infer", "--gin.MODEL_DIR=runs/a"], "--gin_file=runs/infer.gin"),
        (["tables"], "tables/demo.gin"),
        (
            ["tables", "--gin_file=tables/grid.gin", "--gin.OUTPUT_DIR=a", "--gin.MODELS={}"],
            "Grid.metric has no value",
        ),
    ],
)
def test_a_mistake_ends_with_one_paragraph_and_status_2(argv, message, capsys):
    with pytest.raises(SystemExit) as exit_status:
        cli.main(argv)
    error = capsys.readouterr().err
    assert exit_status.value.code == 2
    assert message in error
    assert "Traceback" not in error
