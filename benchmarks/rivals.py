# Copyright 2026 The MTO-JAX Authors.
# SPDX-License-Identifier: Apache-2.0
"""Rivals timed in turns: each in a process of its own, round by round, so that a busy machine slows
all alike."""

import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

# A function and its arguments; it returns (what to time: a function that does the work once and
# waits for it, or None; facts: values that JSON can hold).
Builder = tuple[Callable, tuple]
GETTING_READY = 0.75  # share of the limit after which no rival is waited for any more
WARM_UPS = 3
PAUSE = 0.2  # seconds between calls: threads that wait for more work spin for a while


class Spread(NamedTuple):
    """The median and the quartiles of some values."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Any) -> "Spread":
        return cls(*np.quantile(np.asarray(values), (0.5, 0.25, 0.75)).tolist())

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def race(builders: Mapping[str, Builder], *, rounds: int, limit: float) -> dict[str, dict]:
    """Times what every builder makes.

    Args:
      rounds: calls of each that are timed; fewer if the limit comes first.
      limit: seconds for everything. Rivals get ready one after another, as compiling takes all
        cores.

    Returns:
      By name, the facts and "seconds": [of each round], or {"error": why} for a rival that raised,
      died or was not ready in time; the others are timed all the same. A rival without anything to
      time has no "seconds".
    """
    start = time.monotonic()
    # Forks of a process that has done the imports and holds no device. PyTorch brings a cuDNN of
    # its own, which JAX must not take for its: on a GPU a process imports one of the two.
    on_cpu = os.environ.get("JAX_PLATFORMS") == "cpu"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["flax.nnx", "optax", *(["transformers.models.t5.modeling_t5"] if on_cpu else [])]
    )
    running: dict[str, tuple] = {}
    found: dict[str, dict] = {}
    try:
        for name, builder in builders.items():
            pipe, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, *builder), daemon=True)
            process.start()
            theirs.close()  # so that its death is the end of the pipe
            running[name] = process, pipe
            found[name] = _answer(pipe, start + GETTING_READY * limit)
        timed = [name for name in builders if found[name].pop("timed", False)]
        for name in timed:
            found[name]["seconds"] = []
        for number in range(rounds):
            if number and time.monotonic() - start > 0.9 * limit:
                break
            for name in [name for name in timed if "error" not in found[name]]:
                time.sleep(PAUSE)
                running[name][1].send(True)
                answer = _answer(running[name][1], start + limit)
                if "error" in answer:
                    found[name] = answer
                else:
                    found[name]["seconds"].append(answer["seconds"])
    finally:
        for _, pipe in running.values():
            pipe.close()  # which ends a process that waits
        for process, _ in running.values():
            process.join(2)
            process.kill()  # where it hangs
            process.join(10)
    return found


def ratios(ours: Mapping, theirs: Mapping) -> list[float]:
    """How many times as fast as `theirs` `ours` was in each round; both as `race` returns them."""
    return [b / a for a, b in zip(ours["seconds"], theirs["seconds"], strict=False)]


def _answer(pipe: Connection, deadline: float) -> dict:
    """What the process sends; {"error"} if nothing comes by the deadline."""
    wait = max(0.0, deadline - time.monotonic())
    try:
        if pipe.poll(wait):
            return pipe.recv()
    except (EOFError, ConnectionError):
        return {"error": "its process died"}
    return {"error": f"no answer within its time limit ({wait:.0f} s)"}


def _serve(pipe: Connection, function: Callable, arguments: tuple) -> None:
    """The process of a rival: builds it, then does its work whenever it is asked and answers with
    the seconds."""
    try:
        start = time.perf_counter()
        run, facts = function(*arguments)
        for _ in range(WARM_UPS if run else 0):
            run()
        ready = time.perf_counter() - start
        pipe.send({**facts, "ready": ready, "peak_memory": _peak_memory(), "timed": bool(run)})
        while run and pipe.recv():
            start = time.perf_counter()
            run()
            pipe.send({"seconds": time.perf_counter() - start})
    except (EOFError, ConnectionError):  # nobody asks any more
        return
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        pipe.send({"error": reason[:300]})


def _peak_memory() -> int | None:
    """The most bytes of its device that this process has held; None for a CPU."""
    if os.environ.get("JAX_PLATFORMS") == "cpu":
        return None
    if "torch" in sys.modules:
        cuda = sys.modules["torch"].cuda
        return cuda.max_memory_allocated() if cuda.is_available() else None
    import jax

    from mto_jax.training import performance

    return performance.peak_memory(jax.devices()[0])


def use_platform(device: str) -> None:
    """Sets what all rivals inherit: JAX's platform ("cpu", "gpu" or "tpu"), memory taken only as it
    is needed."""
    os.environ["JAX_PLATFORMS"] = {"gpu": "cuda"}.get(device, device)
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
