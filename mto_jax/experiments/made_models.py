# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Models that a grid makes for itself: pre-trained by `mto train`, adapted by `mto adapt`.

Each is a run directory, made once by a process of its own, and goes on where it was interrupted.
"""

import concurrent.futures
import dataclasses
import json
import os
import pathlib
import queue
import re
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import gin

from mto_jax import config, files
from mto_jax.errors import UserError, unknown

_PINS = hasattr(os, "sched_setaffinity")  # Linux

# The child holds the lock itself: it may outlive the process that started it.
_LOCKED = """
import json, os, sys
if cores := json.loads(sys.argv[2]):
    os.sched_setaffinity(0, cores)
from mto_jax import cli, files
with files.lock(sys.argv[1]):
    cli.main(sys.argv[3:])
"""


def make(
    verb: str,
    folder: pathlib.Path,
    gin_files: Sequence[str],
    bindings: Mapping[str, Any],
    cores: Sequence[int] = (),
) -> None:
    """Make a run directory by `mto VERB`; resumes where it stopped.

    Args:
      bindings: gin parameters and macros beside MODEL_DIR, as Python values.
      cores: numbers of the processor's cores that it may use; empty: all.

    Raises:
      UserError: the command failed; names the log.
    """
    flags = [f"--gin_file={file}" for file in gin_files]
    bindings = {**bindings, "MODEL_DIR": str(folder)}
    flags += [f"--gin.{name}={value!r}" for name, value in bindings.items()]
    log, lock = folder / f"{verb}.log", folder / ".made.lock"
    with files.lock(lock):
        pass  # the command of a process that was killed has ended
    with log.open("a") as file:
        command = [sys.executable, "-c", _LOCKED, lock, json.dumps(list(cores)), verb, *flags]
        done = subprocess.run(command, stdout=file, stderr=subprocess.STDOUT)
    if done.returncode:
        output = log.read_text().strip().splitlines()
        raise UserError(
            f"`mto {verb} {shlex.join(flags)}` failed: "
            f"{output[-1] if output else 'without a message'} (all of it is in {log})"
        )


@gin.configurable
@dataclasses.dataclass(frozen=True)
class Pretraining:
    """The arms of a study: models that differ in what they are pre-trained with, and by seed.

    Attributes:
      gin_file: of `mto train`, for all arms.
      arms: {name: {gin parameter or macro: value}}; "INITIAL_CHECKPOINT_PATH": NAME continues the
        arm NAME, listed before, of the same seed.
      seeds: of initialisation and of the order of the data; the macro SEED.
      folder: where the run directories are kept, shared by grids.
      hidden: arms that are only continued.
      at_once: how many train at the same time, each on its share of the cores. Small models on a
        CPU gain by it; more than one does not fit on an accelerator.
    """

    gin_file: str
    arms: Mapping[str, Mapping[str, Any]]
    folder: str
    seeds: Sequence[int] = (0,)
    hidden: Sequence[str] = ()
    at_once: int = 1

    def models(self) -> dict[str, str]:
        """Returns the run directory of every model, "ARM-SEED", there or not."""
        shown = [arm for arm in self.arms if arm not in self.hidden]
        return {f"{arm}-{seed}": str(self._path(arm, seed)) for arm in shown for seed in self.seeds}

    def missing(self) -> list[tuple[str, int]]:
        """Returns the arms and seeds whose run is not finished."""
        places = [(arm, seed) for arm in self.arms for seed in self.seeds]
        paths = {place: self._path(*place) for place in places}
        return [p for p, path in paths.items() if not path.with_name(f"{path.name}.done").exists()]

    def make(self) -> None:
        """Train every model that is missing.

        Raises:
          UserError: a training failed; names the log.
        """
        missing = self.missing()
        shares: queue.SimpleQueue[list[int]] = queue.SimpleQueue()
        for i in range(self.at_once):
            all_cores = sorted(os.sched_getaffinity(0)) if self.at_once > 1 and _PINS else []
            shares.put(all_cores[i :: self.at_once])
        started: dict[tuple[str, int], concurrent.futures.Future] = {}

        def train(number: int, arm: str, seed: int) -> None:
            if start := started.get((self.arms[arm].get("INITIAL_CHECKPOINT_PATH", ""), seed)):
                start.result()
            path, cores = self._path(arm, seed), shares.get()
            print(
                f"pre-training {arm}-{seed} ({number} of {len(missing)}), into {path}", flush=True
            )
            bindings = self._bindings(arm, seed)
            try:
                files.Store(path.parent).fill(
                    path.name,
                    lambda folder: make("train", folder, [self.gin_file], bindings, cores),
                )
            finally:
                shares.put(cores)

        # An arm that is continued is listed, and so submitted, before those that wait for it.
        with concurrent.futures.ThreadPoolExecutor(self.at_once) as pool:
            for number, place in enumerate(missing, 1):
                started[place] = pool.submit(train, number, *place)
            done, waiting = concurrent.futures.wait(
                started.values(), return_when=concurrent.futures.FIRST_EXCEPTION
            )
            for future in waiting:
                future.cancel()
            for future in done:
                future.result()

    def _bindings(self, arm: str, seed: int) -> dict[str, Any]:
        bindings = dict(self.arms[arm])
        if start := bindings.get("INITIAL_CHECKPOINT_PATH"):
            if start not in self.arms:
                raise unknown(
                    f"arm that {arm!r} could continue (Pretraining.arms)", start, self.arms
                )
            bindings["INITIAL_CHECKPOINT_PATH"] = str(self._path(start, seed))
        return {**bindings, "SEED": seed}

    def _path(self, arm: str, seed: int) -> pathlib.Path:
        made_from = files.digest([gin_texts(self.gin_file), self._bindings(arm, seed)])[:12]
        return pathlib.Path(self.folder, f"{arm}-{seed}-{made_from}")


def gin_texts(name: str) -> list[str]:
    """Returns the texts of a gin file and those that it includes, as `config.load` finds them.

    Raises:
      UserError: there is no such file.
    """
    places = (pathlib.Path(name), config.gin_directory() / name)
    path = next((place for place in places if place.exists()), None)
    if path is None:
        raise unknown("gin file of the grid's models", name, config.bundled("runs"))
    text = path.read_text()
    included = re.findall(r"""^include\s+['"](.+?)['"]""", text, re.MULTILINE)
    return [text, *(more for file in included for more in gin_texts(file))]
