# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Commands of `mto` in processes of their own, forked from one that has imported everything."""

import concurrent.futures
import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Sequence

# A command that takes longer hangs, whatever else runs on the machine.
LIMIT = 600.0

_CONTEXT = multiprocessing.get_context("fork")


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a command ended.

    Attributes:
      status: its exit status; minus the signal that ended it; None if it hung and was killed.
      output: what it wrote to standard output and standard error.
      seconds: that it took.
    """

    status: int | None
    output: str
    seconds: float

    @property
    def traced(self) -> bool:
        """Whether it showed a Python traceback, crashed, or hung."""
        crashed = self.status is None or (self.status < 0 and self.status != -signal.SIGKILL)
        return crashed or "Traceback (most recent call last)" in self.output

    @property
    def refused(self) -> bool:
        """Whether it was refused in words."""
        return self.status == 2 and not self.traced and "error: " in self.output


def import_all() -> None:
    """Import the verbs' modules here, so that a fork starts at once. No device is touched."""
    from mto_jax import cli, config

    for verb in set(cli.VERBS) - {"try"}:
        cli._load(verb)
    for name in [*config.configurable_modules(), "mto_jax.data.prepare"]:
        importlib.import_module(name)


class Command:
    """A running `mto VERB ...` in a folder; `with` ends it.

    Args:
      argv: the verb and its flags.
      folder: its working directory.
      before: called in its process first.
      log: the file of its output; by default beside the folder.
    """

    def __init__(
        self,
        argv: Sequence[str],
        folder: pathlib.Path,
        before: Callable[[], None] | None = None,
        log: pathlib.Path | None = None,
    ):
        self._log = log or folder.parent / f"{folder.name}.{time.monotonic_ns()}.log"
        self._start = time.monotonic()
        arguments = (list(argv), str(folder), str(self._log), before)
        self._process = _CONTEXT.Process(target=_main, args=arguments)
        self._process.start()

    def wait(self, seconds: float) -> None:
        """Wait until so many seconds after its start, or until it ends."""
        self._process.join(max(0.0, self._start + seconds - time.monotonic()))

    def kill(self, after: float) -> None:
        """End it and its children with SIGKILL so many seconds after its start."""
        self.wait(after)
        self._kill()

    def _kill(self) -> None:
        if self._process.is_alive():
            with contextlib.suppress(ProcessLookupError):  # it is not yet the head of its group
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.kill()

    def outcome(self) -> Outcome:
        """Wait for its end, `LIMIT` seconds at most."""
        self._process.join(LIMIT)
        hung = self._process.exitcode is None
        if hung:
            self._kill()
            self._process.join()
        seconds = time.monotonic() - self._start
        output = self._log.read_text(errors="replace") if self._log.exists() else ""
        self._log.unlink(missing_ok=True)
        return Outcome(None if hung else self._process.exitcode, output, seconds)


def pool() -> concurrent.futures.ProcessPoolExecutor:
    """Processes, forked from this one, that run commands side by side."""
    return concurrent.futures.ProcessPoolExecutor(2 * (os.cpu_count() or 1), _CONTEXT)


def run(
    argv: Sequence[str],
    folder: pathlib.Path,
    before: Callable[[], None] | None = None,
    log: pathlib.Path | None = None,
) -> Outcome:
    """Run a command to its end."""
    return Command(argv, folder, before, log).outcome()


def _main(argv: list[str], folder: str, log: str, before: Callable[[], None] | None) -> None:
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    sys.stdout, sys.stderr, sys.stdin = os.fdopen(1, "w"), os.fdopen(2, "w"), os.fdopen(0)
    os.chdir(folder)
    sys.path.insert(0, folder)
    if before is not None:
        before()
    from mto_jax import cli

    cli.main(argv)


def call(function: Callable, *arguments) -> None:
    """Call a function in a process of its own, which may compute with JAX."""
    process = _CONTEXT.Process(target=function, args=arguments)
    process.start()
    process.join()
    if process.exitcode:
        raise RuntimeError(f"{function.__name__} ended with status {process.exitcode}")
