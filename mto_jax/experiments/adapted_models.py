# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Models adapted under an objective, made by `mto adapt` in a process of its own."""

import pathlib
import re
import shlex
import subprocess
import sys
from collections.abc import Sequence

from mto_jax import config
from mto_jax.errors import UserError, unknown

# The child holds the lock itself: it may outlive the process that started it.
_LOCKED = """
import sys
from mto_jax import cli, files
with files.lock(sys.argv[1]):
    cli.main(sys.argv[2:])
"""


def adapt(folder: pathlib.Path, gin_files: Sequence[str], model: str, objective: str) -> None:
    """Adapt `model` under `objective` into the run directory `folder`; resumes where it stopped.

    Raises:
      UserError: the adaptation failed; names the log.
    """
    flags = [f"--gin_file={file}" for file in gin_files]
    macros = {"INITIAL_CHECKPOINT_PATH": model, "OBJECTIVE": objective, "MODEL_DIR": folder}
    flags += [f"--gin.{name}={value}" for name, value in macros.items()]
    log = folder / "adapt.log"
    with log.open("a") as file:
        command = [sys.executable, "-c", _LOCKED, str(folder / ".lock"), "adapt", *flags]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        output = log.read_text().strip().splitlines()
        raise UserError(
            f"`mto adapt {shlex.join(flags)}` failed: "
            f"{output[-1] if output else 'without a message'} (all of it is in {log})"
        )


def gin_texts(name: str) -> list[str]:
    """The texts of a gin file and those that it includes, as `config.load` finds them."""
    places = (pathlib.Path(name), config.gin_directory() / name)
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise unknown("gin file (FewShot.adaptation)", name, config.bundled("runs"))
    text = path.read_text()
    included = re.findall(r"""^include\s+['"](.+?)['"]""", text, re.MULTILINE)
    return [text, *(more for file in included for more in gin_texts(file))]
