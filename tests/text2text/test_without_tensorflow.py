# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""A process without SeqIO, TensorFlow and transformers registers and reads records."""

import os
import pathlib
import subprocess
import sys

import pytest

# Python imports a module of this name when it starts, in child processes too.
BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "seqio", "tensorflow", "tensorflow_datasets", "tensorflow_text", "transformers"
        }:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocker())
"""
MODULE = """
from mto_jax.text2text.registration import register_file

register_file("kitchen", "facts.tsv", phrase="is used for")
"""


@pytest.fixture
def python(tmp_path):
    """Runs Python in a folder with a user's module and ATOMIC, without these packages."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKER)
    (tmp_path / "my_tasks.py").write_text(MODULE)
    rows = [f"tool {i}\tcutting {i}" for i in range(50)]
    (tmp_path / "facts.tsv").write_text("\n".join(["head\ttail", *rows]) + "\n")
    folder = tmp_path / "atomic2020"
    folder.mkdir()
    for name, head in {
        "train": "PersonX runs",
        "dev": "PersonX eats",
        "test": "PersonX sings",
    }.items():
        (folder / f"{name}.tsv").write_text(f"{head}\txIntent\tto be fit\n")
    root = pathlib.Path(__file__).parents[2]
    environment = {**os.environ, "MTO_DATA_DIR": str(tmp_path)}
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), str(root)])

    def run(*arguments):
        command = [sys.executable, *arguments]
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )

    return run


def test_records_are_read(python):
    done = python(
        "-c",
        """if True:
        from mto_jax.errors import UserError
        from mto_jax.text2text.record_sets import Wanted, read

        kitchen, intent = read(
            [Wanted("kitchen", "train", 4), Wanted("atomic_xIntent", "test", None)], "my_tasks"
        )
        print(kitchen.kind, kitchen.wording.phrase, len(kitchen.records))
        print(intent.records[0].tails, intent.metrics.decides)
        try:
            read([Wanted("sst2", "train", 1)])
        except UserError as error:
            print(error)
        """,
    )
    first, second, third = done.stdout.splitlines()
    assert first == "triple is used for 4"
    assert second == "('to be fit',) rougeL"
    assert "pip install mto-jax" in third
    assert "tensorflow_datasets" in third


def test_verbs_that_need_these_packages_say_so_in_one_sentence(python):
    options = ["--gin_file=runs/demo_pretrain.gin", "--gin.MODEL_DIR=x"]
    done = python("-m", "mto_jax.cli", "prepare", *options)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: This needs seqio")
    assert "pip install mto-jax" in done.stderr
    assert "Traceback" not in done.stderr
