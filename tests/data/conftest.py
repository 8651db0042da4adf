# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Toy tasks, prepared once for all tests of this folder."""

import os
import pathlib

import gin
import pytest

from mto_jax.data.dataset import DatasetConfig
from mto_jax.text2text import vocabulary  # noqa: F401  (gin learns its name)

LENGTHS = {"inputs": 48, "targets": 24}


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory):
    """Where the toy tasks are prepared, and the one raw file that one of them reads."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "lines.txt").write_text("the cat sat\non a mat\n")
    return folder


@pytest.fixture
def config(toy_folder, monkeypatch):
    """Makes the configuration of a toy task; subprocesses find the tasks as well."""
    here = str(pathlib.Path(__file__).parent)
    monkeypatch.syspath_prepend(here)
    monkeypatch.setenv("PYTHONPATH", here, prepend=os.pathsep)
    monkeypatch.setenv("TOY_LINES", str(toy_folder / "lines.txt"))
    gin.bind_parameter("vocabulary.name", "demo")

    def make(name="toy_one", **changes):
        fields = {"module": "toy_tasks", "prepared_dir": str(toy_folder), **changes}
        fields.setdefault("task_feature_lengths", LENGTHS)
        return DatasetConfig(name, **fields)

    return make


@pytest.fixture
def prepared(config):
    """Prepares a toy task in this process (which imports TensorFlow)."""

    def make(name="toy_one", **changes):
        from mto_jax.data import prepare

        return prepare.prepare(config(name, **changes))

    return make
