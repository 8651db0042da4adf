# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""The processes of a run on several hosts: they come together, share work, and notice a death."""

import atexit
import ctypes
import itertools
import os
import pickle
import re
import shlex
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

from mto_jax.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

SECONDS = 60.0  # without a sign of life, after which a process counts as dead
_BEAT = 3.0
_KEY = "mto/alive/"
_FAILED = "failed: "
_ending = threading.Event()
_gathers = itertools.count()


def join(address: str, count: int | None, index: int | None) -> None:
    """Joins the processes that `jax.distributed` brings together.

    When one of them dies or ends with an error, the others end with a sentence: every process says
    every few seconds that it is there, and looks for the others.

    Args:
      address: HOST:PORT of the first process, or "auto".
      count: of processes; None where the environment says it.
      index: of this one.

    Raises:
      UserError: they do not come together.
    """
    import jax

    try:
        jax.distributed.initialize(None if address == "auto" else address, count, index)
    except (RuntimeError, ValueError) as error:
        raise UserError(
            f"The processes of --coordinator_address={address} did not come together: {error}"
        ) from error
    # When the first process is gone, JAX's client aborts in a thread of C++, at once.
    ctypes.CDLL(None).signal(signal.SIGABRT, _aborted)
    atexit.register(_ending.set)  # before JAX's own, which was registered earlier
    threading.Thread(target=_watch, daemon=True).start()


@ctypes.CFUNCTYPE(None, ctypes.c_int)
def _aborted(number: int) -> None:
    del number
    _end("Process 0 has ended or cannot be reached")


def _watch() -> None:
    seen: dict[str, tuple[str, float]] = {}
    beats = 0
    while not _ending.wait(_BEAT):
        beats += 1
        try:
            _say(str(beats))
            said = dict(_client().key_value_dir_get(_KEY))
        except RuntimeError as error:
            if _ending.is_set():
                return
            _end(f"Process 0 cannot be reached ({str(error).splitlines()[0]})")
        for number in map(str, range(count())):
            text = said.get(f"{_KEY}{number}", "")
            before, since = seen.get(number, (None, 0.0))
            if text != before:
                seen[number] = text, time.monotonic()
            elif text.startswith(_FAILED) and time.monotonic() - since > 5 * _BEAT:
                _end(f"Process {number} {text}")
            elif not text.startswith(_FAILED) and time.monotonic() - since > SECONDS:
                _end(f"Process {number} has shown no sign of life for {SECONDS:.0f} s")


def ended_by(error: BaseException) -> None:
    """Ends this process so that the others hear of the error that ends it.

    Returns where there are no others, and of an exit that is no error. What a collective raises
    that lost somebody is printed; then the word of who that was is waited for.
    """
    stopped = isinstance(error, SystemExit) and error.code != 2
    if count() == 1 or stopped or isinstance(error, KeyboardInterrupt):
        return
    cause = error
    if isinstance(error, SystemExit):
        cause = error.__context__ or error
    else:
        traceback.print_exception(error)
        if re.search(r"Gloo|NCCL|Connection (closed|reset)|UNAVAILABLE", str(error)):
            time.sleep(SECONDS + 5 * _BEAT)
    _ending.set()
    try:
        _say(f"{_FAILED}{str(cause)[:500]}")
        # Without the first process the others hear nothing: it waits for them.
        end = time.monotonic() + (8 * _BEAT if index() == 0 else 0)
        while time.monotonic() < end:
            said = dict(_client().key_value_dir_get(_KEY)).values()
            if all(text.startswith(_FAILED) for text in said):
                break
            time.sleep(_BEAT / 10)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(2)


def _client() -> Any:
    return _state().client  # its store of keys has no public name


def _say(text: str) -> None:
    _client().key_value_set(f"{_KEY}{index()}", text, allow_overwrite=True)


def _end(reason: str) -> NoReturn:
    """Ends this process, which would wait for others for ever."""
    command = shlex.join([os.path.basename(sys.argv[0]), *sys.argv[1:]])
    print(
        f"error: {reason}. So this process ({index()}) stops too. Start all of them again, each "
        f"with its command: a training goes on from its newest checkpoint. Here: {command}",
        file=sys.stderr,
        flush=True,
    )
    os._exit(3)


def count() -> int:
    """Returns the number of processes; 1 where none was joined, without starting JAX."""
    return _state().num_processes or 1 if "jax" in sys.modules else 1


def index() -> int:
    """Returns the number of this process, 0 where none was joined, without starting JAX."""
    return _state().process_id or 0 if "jax" in sys.modules else 0


def _state() -> Any:
    from jax._src import distributed

    return distributed.global_state


def over(
    items: Sequence[Item], work: Callable[[Sequence[Item], int], Sequence[Result]]
) -> list[Result]:
    """Returns a result for each item; each process works on a part of them.

    Args:
      items: the same on all processes.
      work: gets items that follow each other and the number of the first, and returns as many
        results, which pickle takes.
    """
    first, last = (len(items) * (index() + i) // count() for i in range(2))
    return [result for part in gather(list(work(items[first:last], first))) for result in part]


def gather(value: Any) -> list[Any]:
    """Returns what the processes pass, in their order."""
    if count() == 1:
        return [value]
    import numpy as np  # `mto --help` does without
    from jax.experimental import multihost_utils

    # A collective does not wait long for one that has more to do; this does.
    _client().wait_at_barrier(f"mto/gather/{next(_gathers)}", 10**9)
    content = np.frombuffer(pickle.dumps(value), np.uint8)
    sizes_P = np.asarray(multihost_utils.process_allgather(np.int32(content.size)))
    padded = np.zeros(sizes_P.max(), np.uint8)
    padded[: content.size] = content
    contents_PxN = np.asarray(multihost_utils.process_allgather(padded))
    return [pickle.loads(row[:size]) for row, size in zip(contents_PxN, sizes_P, strict=True)]


def of_first(value: Any) -> Any:
    """Returns what the first process passes."""
    return gather(value if index() == 0 else None)[0]
