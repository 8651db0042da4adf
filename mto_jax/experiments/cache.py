# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Stages that many cells share: computed by one process, once, and kept."""

import pathlib
import time
from collections.abc import Callable

from mto_jax.experiments.leases import Claims
from mto_jax.files import write_atomically


def once(
    folder: str | pathlib.Path,
    name: str,
    make: Callable[[pathlib.Path], None],
) -> pathlib.Path:
    """The folder FOLDER/NAME as `make(FOLDER/NAME)` has filled it, by this process or another, now or before.

    Waits while another process makes it. What was interrupted is made again in the same folder, so `make` may
    go on where it stopped.

    Args:
      folder: of all such stages.
      name: of this one; holds all that decides its content, as a digest for example.
      make: fills the folder, which exists when it is called.
    """
    folder = pathlib.Path(folder)
    path, finished = folder / name, folder / f"{name}.done"
    if finished.exists():
        return path
    with Claims(folder / "claims") as claims:
        while not finished.exists():
            if not claims.take(name):
                time.sleep(2.0)
            elif not finished.exists():
                path.mkdir(parents=True, exist_ok=True)
                make(path)
                write_atomically(finished, "")
    return path
