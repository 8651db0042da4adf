# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Data prepared in forks of one process that has imported TensorFlow, which takes seconds."""

import multiprocessing
import os
import pathlib
import tempfile


def in_a_fork(request: pathlib.Path) -> tuple[int, str]:
    """Do what `mto_jax.data.loader` starts a new process for."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["mto_jax.data.prepare"])
    with tempfile.TemporaryDirectory() as folder:
        stderr = pathlib.Path(folder, "stderr")
        given = (str(request), str(stderr), dict(os.environ), os.getcwd())
        process = context.Process(target=_prepare, args=given)
        process.start()
        process.join()
        return process.exitcode, stderr.read_text()


def _prepare(request: str, stderr: str, environment: dict[str, str], folder: str) -> None:
    from mto_jax.data import prepare

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    os.dup2(2, 1)
    os.dup2(os.open(stderr, os.O_WRONLY | os.O_CREAT), 2)
    prepare.main(request)
